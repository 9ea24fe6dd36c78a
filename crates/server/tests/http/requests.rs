//! The last requests over HTTP: what is told of them, to whom, and what becomes of their texts.

use std::time::Duration;

use serde_json::{Value, json};

use crate::books::{ADMIN, Shop};
use crate::client::Answer;
use crate::outcomes::shop;

const CONTENT: &str = "/admin/v1/requests";

async fn ask(shop: &Shop, key: &str, path: &str) -> Answer {
    shop.ask(key, "GET", &format!("/admin/v1/requests{path}"), &Value::Null).await
}

/// Asks until the requests are written: a moment after their end.
async fn listed(shop: &Shop, key: &str, query: &str, count: usize) -> Value {
    for _ in 0..500 {
        let answer = ask(shop, key, query).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let list = answer.json();
        if list["data"].as_array().unwrap().len() >= count {
            assert_eq!(list["data"].as_array().unwrap().len(), count, "{list}");
            return list;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{query}: never {count}");
}

async fn one(shop: &Shop, key: &str, id: &str) -> Value {
    let answer = ask(shop, key, &format!("/{id}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn completed(shop: &Shop, key: &str, body: Value) -> Value {
    let mut whole = json!({"model": "tiny", "prompt": "hello world", "temperature": 0, "ignore_eos": true});
    whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    let answer = shop.ask(key, "POST", "/v1/completions", &whole).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn sum(list: &Value, field: &str) -> u64 {
    list.as_array().unwrap().iter().map(|entry| entry[field].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn a_trace_agrees_with_the_usage_and_the_books() {
    let (shop, key) = shop().await;
    let answer = completed(&shop, &key, json!({"max_tokens": 9, "n": 2, "user": "Zoë"})).await;
    let list = listed(&shop, ADMIN, "?limit=5", 1).await;
    let row = &list["data"][0];
    // The only prompt of a request has its answer's id.
    let id = row["id"].as_str().unwrap();
    assert!(id.starts_with(answer["id"].as_str().unwrap()), "{row}");
    let who = ["organisation", "project", "key", "key_name", "user", "model", "route", "outcome"];
    assert_eq!(
        who.map(|field| row[field].as_str().unwrap()),
        ["acme", "web", "k2", "free", "Zoë", "tiny", "/v1/completions", "ok"]
    );
    assert_eq!((&row["completion_tokens"], &row["finish_reasons"]), (&json!(18), &json!(["length", "length"])));
    assert_eq!((&row["has_content"], &row["error"], &list["trouble"]), (&json!(false), &Value::Null, &Value::Null));

    let trace = one(&shop, ADMIN, id).await;
    assert_eq!(&trace["request"], row);
    let (usage, timeline) = (&trace["usage"], &trace["timeline"]);
    let times: Vec<u64> = timeline["tokens"].as_array().unwrap().iter().map(|t| t["at_ns"].as_u64().unwrap()).collect();
    assert_eq!(times.len() as u64, usage["output_tokens"].as_u64().unwrap());
    assert!(times.is_sorted() && *times.last().unwrap() <= usage["e2e_ns"].as_u64().unwrap());
    assert_eq!(usage["ttft_ns"].as_u64(), times.first().copied());
    assert_eq!(timeline["prefill"][0]["start_ns"], usage["queue_ns"]);
    assert_eq!(sum(&timeline["prefill"], "length_ns"), usage["prefill_ns"].as_u64().unwrap());
    assert_eq!(sum(&timeline["prefill"], "tokens"), usage["prefill_columns"].as_u64().unwrap());
    assert_eq!(answer["usage"]["prompt_tokens"], row["prompt_tokens"]);

    assert_eq!(trace["charge"]["amount"], answer["usage"]["charged"]["amount"]);
    assert_eq!(sum(&trace["charge"]["lines"], "tokens"), row["prompt_tokens"].as_u64().unwrap() + 18);
    assert_eq!(trace["cost"], format!("/v1/costs/{id}"));
    let entry = &trace["entries"][0];
    assert_eq!((entry["kind"].as_str(), trace["entries"].as_array().unwrap().len()), (Some("charge"), 1));
    let legs = entry["legs"].as_array().unwrap();
    let revenue = legs.iter().find(|leg| leg["account_kind"] == "revenue").unwrap();
    assert_eq!((&revenue["unit"], &revenue["amount"]), (&json!("money"), &trace["charge"]["amount"]));

    let feedback = json!({"request": id, "boolean": true, "comment": "solved it",
        "demonstration": "like this", "id": "f1"});
    assert_eq!(shop.ask(&key, "POST", "/v1/feedback", &feedback).await.status, 200);
    shop.books.ledger().flush(Duration::from_secs(30)).unwrap();
    // What people wrote is for the project's own keys, and for those who administer it.
    shop.admin("PUT", "/projects", json!({"id": "shop", "organisation": "acme", "name": "Shop"})).await;
    let mut others = Vec::new();
    for (id, scopes) in [("s1", json!(["usage"])), ("s2", json!(["usage", "manage"]))] {
        let made = json!({"id": id, "project": "shop", "name": id, "scopes": scopes});
        others.push(shop.admin("POST", "/keys", made).await["key"].as_str().unwrap().to_owned());
    }
    for (reader, reads) in [(ADMIN, true), (&key, true), (&others[0], false), (&others[1], true)] {
        let trace = one(&shop, reader, id).await;
        let told = &trace["outcomes"][0];
        let [comment, demonstration] =
            ["solved it", "like this"].map(|text| if reads { json!(text) } else { json!(null) });
        assert_eq!((&told["kind"], &told["comment"]), (&json!("feedback"), &comment), "{trace}");
        assert_eq!((&told["demonstration"], &trace["outcomes_complete"]), (&demonstration, &json!(true)));
    }
    let metrics = shop.ask(ADMIN, "GET", "/metrics", &Value::Null).await;
    assert!(metrics.text().contains("tokenworks_traces_kept_total 1\n"), "{}", metrics.text());
}

#[tokio::test]
async fn requests_are_filtered_and_paged() {
    let (shop, key) = shop().await;
    for n in 1..=5 {
        completed(&shop, &key, json!({"max_tokens": n, "user": format!("user-{n}")})).await;
    }
    shop.complete(ADMIN, 2).await;
    let all = listed(&shop, ADMIN, "", 6).await;
    assert_eq!((&all["data"][0]["organisation"], &all["has_more"]), (&json!("house"), &json!(false)));
    assert_eq!((&all["newest"], &all["data"][0]["number"]), (&json!(6), &json!(6)));
    let page = listed(&shop, ADMIN, "?organisation=acme&limit=2", 2).await;
    assert_eq!((&page["has_more"], &page["next_before"]), (&json!(true), &json!(4)));
    let next = listed(&shop, ADMIN, "?organisation=acme&limit=2&before=4", 2).await;
    assert_eq!(next["data"][0]["user"], "user-3");
    let news = listed(&shop, ADMIN, "?since=5", 1).await;
    assert_eq!(news["data"][0]["number"], 6);
    listed(&shop, ADMIN, "?text=USER-4&model=tiny&outcome=ok", 1).await;
    for none in ["?text=nobody", "?outcome=failed", "?key=k1", "?start_time=99999999999", "?min_e2e_ms=4000000000"] {
        listed(&shop, ADMIN, none, 0).await;
    }
    for (wrong, param) in [
        ("?outcome=good", "outcome"),
        ("?limit=501", "limit"),
        ("?before=x", "before"),
        ("?min_e2e_ms=-1", "min_e2e_ms"),
        ("?color=red", "color"),
    ] {
        let answer = ask(&shop, ADMIN, wrong).await;
        assert_eq!((answer.status, answer.error().param.as_deref()), (400, Some(param)), "{wrong}");
    }
    assert_eq!(ask(&shop, ADMIN, "/cmpl-unknown").await.status, 404);
}

#[tokio::test]
async fn nobody_sees_what_is_not_theirs() {
    let (shop, key) = shop().await;
    shop.admin("PUT", "/organisations", json!({"id": "other", "name": "Other", "plan": "basic"})).await;
    shop.admin("PUT", "/projects", json!({"id": "theirs", "organisation": "other", "name": "Theirs"})).await;
    let mut keys = Vec::new();
    for (id, scopes) in [("o1", json!(["inference", "manage"])), ("o2", json!(["inference"]))] {
        let key = json!({"id": id, "project": "theirs", "name": id, "scopes": scopes});
        keys.push(shop.admin("POST", "/keys", key).await["key"].as_str().unwrap().to_owned());
    }
    for project in [json!({"id": "web", "organisation": "acme", "name": "Web", "store_content": {"days": 3}})] {
        shop.admin("PUT", "/projects", project).await;
    }
    completed(&shop, &key, json!({"max_tokens": 2})).await;
    completed(&shop, &keys[0], json!({"max_tokens": 3})).await;
    let all = listed(&shop, ADMIN, "", 2).await;
    let ours = all["data"][1]["id"].as_str().unwrap();
    // An organisation sees its own requests, whatever it asks for.
    for (reader, own) in [(&key, "acme"), (&keys[0], "other")] {
        let seen = listed(&shop, reader, "", 1).await;
        assert_eq!((&seen["data"][0]["organisation"], &seen["newest"]), (&json!(own), &seen["data"][0]["number"]));
        let others = if own == "acme" { "other" } else { "acme" };
        let refused = ask(&shop, reader, &format!("?organisation={others}")).await;
        assert_eq!((refused.status, refused.error().param.as_deref()), (403, Some("organisation")));
        listed(&shop, reader, &format!("?project={}", if own == "acme" { "theirs" } else { "web" }), 0).await;
    }
    let mine = one(&shop, &key, ours).await;
    assert_eq!((&mine["entries"], &mine["cost"]), (&Value::Null, &Value::Null), "the plant's own affairs");
    assert_eq!((&mine["may_read_content"], &mine["content"]), (&json!(false), &Value::Null), "a key for usage only");
    assert_eq!((&mine["request"]["has_content"], mine["charge"]["amount"].is_string()), (&json!(true), true));
    assert_eq!(ask(&shop, &keys[0], &format!("/{ours}")).await.status, 404);
    assert_eq!(ask(&shop, &keys[1], "").await.status, 403);
    for (path, status) in [(format!("{CONTENT}/{ours}/content"), 404), ("/admin/v1/projects/web/content".into(), 404)] {
        assert_eq!(shop.ask(&keys[0], "DELETE", &path, &Value::Null).await.status, status, "{path}");
        assert_eq!(shop.ask(&key, "DELETE", &path, &Value::Null).await.status, 403, "{path}");
    }
    assert_ne!(one(&shop, ADMIN, ours).await["content"], Value::Null, "still there");
}

#[tokio::test]
async fn texts_are_kept_where_the_project_says_so_and_deleted_on_demand() {
    let (shop, key) = shop().await;
    let project = |days: Value| json!({"id": "web", "organisation": "acme", "name": "Web", "store_content": days});
    completed(&shop, &key, json!({"max_tokens": 6})).await;
    let first = listed(&shop, ADMIN, "", 1).await["data"][0]["id"].as_str().unwrap().to_owned();
    let trace = one(&shop, ADMIN, &first).await;
    let none = (&json!(true), &Value::Null, &Value::Null);
    assert_eq!((&trace["may_read_content"], &trace["content"], &trace["content_days"]), none, "off by default");

    let wrong = shop.ask(ADMIN, "PUT", "/admin/v1/projects", &project(json!({"days": 0}))).await;
    assert_eq!((wrong.status, wrong.error().param.as_deref()), (400, Some("store_content.days")));
    shop.admin("PUT", "/projects", project(json!({"days": 30}))).await;
    let mut ids = Vec::new();
    for n in [6, 7] {
        let answer = completed(&shop, &key, json!({"max_tokens": n, "n": 2, "stop": ["\u{1}"]})).await;
        let list = listed(&shop, ADMIN, "", ids.len() + 2).await;
        let id = list["data"][0]["id"].as_str().unwrap().to_owned();
        let trace = one(&shop, ADMIN, &id).await;
        assert_eq!((&trace["request"]["has_content"], &trace["content_days"]), (&json!(true), &json!(30)));
        let content = &trace["content"];
        assert!(content["prompt"]["text"].as_str().unwrap().contains("hello world"), "{content}");
        for choice in 0..2 {
            assert_eq!(content["answers"][choice]["text"], answer["choices"][choice]["text"]);
        }
        assert_eq!(content["answers"][0]["cut"], false);
        ids.push(id);
    }
    let delete = async |path: String| {
        let answer = shop.ask(ADMIN, "DELETE", &path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["deleted"].clone()
    };
    assert_eq!(delete(format!("{CONTENT}/{}/content", ids[0])).await, 1);
    assert_eq!(delete(format!("{CONTENT}/{}/content", ids[0])).await, 0);
    assert_eq!(one(&shop, ADMIN, &ids[0]).await["content"], Value::Null);
    assert_ne!(one(&shop, ADMIN, &ids[1]).await["content"], Value::Null);
    // Switched off they are shown no more at once; the next sweep deletes them.
    shop.admin("PUT", "/projects", project(Value::Null)).await;
    let hidden = one(&shop, ADMIN, &ids[1]).await;
    assert_eq!((&hidden["content"], &hidden["request"]["has_content"]), (&Value::Null, &json!(false)));
    shop.admin("PUT", "/projects", project(json!({"days": 1}))).await;
    assert_eq!(delete("/admin/v1/projects/web/content".to_owned()).await, 1);
    assert_eq!(one(&shop, ADMIN, &ids[1]).await["content"], Value::Null);
    let missing = shop.ask(ADMIN, "DELETE", "/admin/v1/projects/nope/content", &Value::Null).await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_costs_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("traces.sqlite"), "no database at all, but something else").unwrap();
    let shop = Shop::open_over(folder, true).await;
    assert_eq!(shop.complete(ADMIN, 3).await.status, 200);
    for path in ["", "/cmpl-1"] {
        let answer = ask(&shop, ADMIN, path).await;
        assert_eq!((answer.status, answer.error().code.as_deref()), (503, Some("traces_closed")));
        let message = answer.error().message;
        assert!(
            message.contains("traces.sqlite cannot be used") && message.contains("move the file away"),
            "{message}"
        );
    }
    let deleted = shop.ask(ADMIN, "DELETE", "/admin/v1/projects/house/content", &Value::Null).await;
    assert_eq!(deleted.status, 503);
    let metrics = shop.ask(ADMIN, "GET", "/metrics", &Value::Null).await;
    assert!(metrics.text().contains("tokenworks_traces_dropped_total 1\n"), "{}", metrics.text());
}

#[tokio::test]
async fn a_server_without_traces_says_so() {
    let plant = crate::plant::Plant::hello().await;
    let answer = crate::client::get(plant.address, "/admin/v1/requests").await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (403, Some("no_traces")));
}
