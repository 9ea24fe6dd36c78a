//! Experiments over HTTP: made, joined, held out, told of, read, stopped.

use serde_json::{Value, json};

use crate::books::{ADMIN, Shop};
use crate::client::{Answer, JSON, send};
use crate::outcomes::shop;

fn experiment() -> Value {
    json!({"id": "tone", "organisation": "acme", "unit": "user", "window_days": 0, "arms": [
        {"name": "plain", "weight": 400},
        {"name": "warm", "weight": 400, "model": "tiny", "prompt_version": "v2", "settings": {"max_tokens": 3}},
        {"name": "none", "weight": 200, "held_out": true}]})
}

async fn ask(shop: &Shop, key: &str, user: &str, metadata: Value) -> Answer {
    let body = json!({
        "model": "tiny", "prompt": [5, 6, 7, 8], "max_tokens": 2, "temperature": 0, "ignore_eos": true, "user": user,
        "metadata": metadata
    });
    shop.ask(key, "POST", "/v1/completions", &body).await
}

async fn assigned(shop: &Shop, key: &str, user: &str) -> Value {
    let answer = shop.ask(key, "POST", "/v1/experiments/tone/assignments", &json!({"unit": user})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Users by their arms: plain, warm, none.
async fn users(shop: &Shop, key: &str, most: usize) -> [Vec<String>; 3] {
    let mut found = [const { Vec::new() }; 3];
    for n in 0..most {
        let user = format!("user {n}");
        let arm = assigned(shop, key, &user).await["arm"].as_str().unwrap().to_owned();
        found[["plain", "warm", "none"].iter().position(|name| *name == arm).unwrap()].push(user);
    }
    found
}

async fn results(shop: &Shop, key: &str) -> Value {
    let answer = shop.ask(key, "GET", "/v1/experiments/tone", &Value::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn a_unit_gets_its_arm_and_what_it_used_and_brought_about_is_counted_there() {
    let (shop, key) = shop().await;
    shop.admin("PUT", "/experiments", experiment()).await;
    let [plain, warm, none] = users(&shop, &key, 40).await;
    assert!(plain.len() > 1 && warm.len() > 1 && none.len() > 1, "{plain:?} {warm:?} {none:?}");

    let joined = json!({"experiment": "tone", "task": "triage"});
    let first = ask(&shop, &key, &plain[0], joined.clone()).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let (note, tokens) = (&first.json()["tokenworks"]["experiment"], &first.json()["usage"]["completion_tokens"]);
    assert_eq!(note, &json!({"id": "tone", "arm": "plain", "propensity": 0.4, "counted": true}));
    assert_eq!(tokens, 2);
    // The arm's settings and prompt version, whatever the request says.
    let second = ask(&shop, &key, &warm[0], joined.clone()).await;
    assert_eq!((second.status, &second.json()["usage"]["completion_tokens"]), (200, &json!(3)), "{}", second.text());
    let told = shop.ask(&key, "GET", "/v1/tfp?group_by=prompt_version", &Value::Null).await.json();
    assert_eq!((&told["data"][1]["prompt_version"], &told["data"][1]["requests"]), (&json!("v2"), &json!(1)), "{told}");
    let wrong = ask(&shop, &key, &warm[0], json!({"experiment": "tone", "prompt_version": "v1"})).await;
    assert_eq!((wrong.status, wrong.error().param.as_deref()), (400, Some("metadata.prompt_version")));
    // Held out: no answer, and that is said.
    let refused = ask(&shop, &key, &none[0], joined.clone()).await;
    assert_eq!((refused.status, refused.error().code.as_deref()), (403, Some("held_out")), "{}", refused.text());
    let held_out = assigned(&shop, &key, &none[0]).await;
    assert_eq!((&held_out["held_out"], &held_out["propensity"]), (&json!(true), &json!(0.2)));
    let asked = assigned(&shop, &key, &warm[0]).await;
    assert_eq!((&asked["prompt_version"], &asked["settings"]), (&json!("v2"), &json!({"max_tokens": 3})));

    let outcome = |id: &str, place: Value| {
        let mut body = json!({"id": id, "kind": "sale", "value": "2.50", "currency": "USD", "valuation": "measured",
            "accepted": true});
        place.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    for (id, place) in [
        ("o1", json!({"request": first.json()["id"]})),
        ("o2", json!({"experiment": "tone", "unit": none[0]})),
        ("o2", json!({"experiment": "tone", "unit": none[0]})),
    ] {
        let told = shop.ask(&key, "POST", "/v1/outcomes", &outcome(id, place)).await;
        assert_eq!((told.status, &told.json()["status"]), (200, &json!("counted")), "{}", told.text());
    }
    let shown = results(&shop, &key).await;
    let arms = shown["arms"].as_array().unwrap();
    for (arm, users, requests, tokens, value) in
        [(0, &plain, 1, 6, "2.50"), (1, &warm, 1, 7, "0.00"), (2, &none, 0, 0, "2.50")]
    {
        let arm = &arms[arm];
        assert_eq!((&arm["units"], &arm["compared_units"]), (&json!(users.len()), &json!(users.len())), "{arm}");
        assert_eq!((&arm["requests"], &arm["tokens"]["total"]), (&json!(requests), &json!(tokens)), "{arm}");
        assert_eq!(arm["value"], value, "{arm}");
    }
    assert!((arms[0]["metric"].as_f64().unwrap() - 2.5 / 6.0).abs() < 1e-12, "{shown}");
    assert_eq!((&arms[2]["metric"], shown["comparisons"].as_array().unwrap().len()), (&Value::Null, 1));
    let comparison = &shown["comparisons"][0];
    assert_eq!((&comparison["arm"], &comparison["decided"]), (&json!("warm"), &json!(false)));
    assert!(comparison["reason"].as_str().unwrap().contains("of the 100 units it needs"), "{comparison}");
    assert_eq!(shown["sample_ratio"]["units"], json!([plain.len(), warm.len(), none.len()]));
    assert_eq!(shown["sample_ratio"]["mismatch"], false);
    let treated = (plain.len() + warm.len()) as f64;
    let expected = (2.5 / treated - 2.5 / none.len() as f64) / (13.0 / treated) * 1e6;
    let incremental = shown["incremental"]["tfp"]["estimate"].as_f64().unwrap();
    assert!((incremental - expected).abs() < 1e-6, "{incremental} {expected}");
    assert_eq!((&shown["maturity"]["waiting"], &shown["allocation"]["kind"]), (&json!(0), &json!("fixed")));
    let listed = shop.ask(&key, "GET", "/v1/experiments", &Value::Null).await.json();
    assert_eq!(listed["data"][0]["id"], "tone");
    assert!(shop.admin("GET", "/verify", Value::Null).await["entries"].as_u64().unwrap() > 10);
}

#[tokio::test]
async fn an_arm_s_length_is_left_out_where_one_token_is_asked_for() {
    let (shop, key) = shop().await;
    shop.admin("PUT", "/experiments", experiment()).await;
    let [_, warm, _] = users(&shop, &key, 40).await;
    let metadata = json!({"experiment": "tone"});
    let mut body = json!({"model": "tiny", "prompt": [5, 6, 7, 8], "user": warm[0], "metadata": metadata});
    let answer = shop.ask(&key, "POST", "/v1/next-token", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["tokenworks"]["experiment"]["arm"], "warm", "{answer}");
    assert_eq!(answer["usage"]["completion_tokens"], 1);
    body["max_tokens"] = json!(2);
    let refused = shop.ask(&key, "POST", "/v1/next-token", &body).await;
    assert_eq!((refused.status, refused.error().param.as_deref()), (400, Some("max_tokens")), "said by the caller");
}

#[tokio::test]
async fn streams_and_kept_answers_say_the_arm_and_a_replay_counts_once() {
    let (shop, key) = shop().await;
    shop.admin("PUT", "/experiments", experiment()).await;
    let [plain, ..] = users(&shop, &key, 12).await;
    let body = json!({
        "model": "tiny", "prompt": [5, 6, 7, 8], "max_tokens": 2, "ignore_eos": true, "user": plain[0], "stream": true,
        "metadata": {"experiment": "tone"}
    });
    let bearer = format!("Authorization: Bearer {key}");
    let headers = [JSON, &bearer, "Idempotency-Key: once"];
    for _ in 0..2 {
        let answer = send(shop.address, "POST", "/v1/completions", &headers, body.to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(
            answer.text().contains(r#""tokenworks":{"experiment":{"id":"tone","arm":"plain""#),
            "{}",
            answer.text()
        );
    }
    let shown = results(&shop, &key).await;
    assert_eq!(
        (&shown["arms"][0]["requests"], &shown["arms"][0]["tokens"]["total"]),
        (&json!(1), &json!(6)),
        "{shown}"
    );
}

#[tokio::test]
async fn weights_change_and_arms_stay_until_the_winner_is_for_all() {
    let (shop, key) = shop().await;
    shop.admin("PUT", "/experiments", experiment()).await;
    let before = users(&shop, &key, 20).await;
    let mut changed = experiment();
    changed["arms"][0]["weight"] = json!(50);
    changed["arms"][1]["weight"] = json!(750);
    assert_eq!(shop.admin("PUT", "/experiments", changed.clone()).await["version"], 2);
    assert_eq!(users(&shop, &key, 20).await, before);
    users(&shop, &key, 60).await;
    let shown = results(&shop, &key).await;
    assert_eq!((&shown["version"], &shown["weighted_by_chance"]), (&json!(2), &json!(true)));
    assert_eq!(shown["sample_ratio"]["mismatch"], false, "each stretch by its own weights: {shown}");

    changed["arms"][1]["model"] = json!("other");
    let refused = shop.ask(ADMIN, "PUT", "/admin/v1/experiments", &changed).await;
    assert_eq!((refused.status, refused.error().param.as_deref()), (400, Some("arms")));
    let stopped = shop.ask(ADMIN, "POST", "/admin/v1/experiments/tone/stop", &json!({"winner": "cold"})).await;
    assert_eq!((stopped.status, stopped.error().param.as_deref()), (400, Some("winner")));
    let stopped = shop.admin("POST", "/experiments/tone/stop", json!({"winner": "warm"})).await;
    assert_eq!((&stopped["record"]["state"], &stopped["record"]["winner"]), (&json!("stopped"), &json!("warm")));
    assert!(stopped["record"]["stopped"].is_string() && stopped["record"]["started"].is_string(), "{stopped}");
    for user in [&before[0][0], &before[2][0]] {
        let answer = ask(&shop, &key, user, json!({"experiment": "tone"})).await;
        let expected = json!({"id": "tone", "arm": "warm", "counted": false, "reason": "stopped"});
        assert_eq!((answer.status, &answer.json()["tokenworks"]["experiment"]), (200, &expected), "{}", answer.text());
        assert_eq!(answer.json()["usage"]["completion_tokens"], 3);
    }
    assert_eq!(results(&shop, &key).await["arms"][1]["requests"], 0, "not counted any more");
    let audit = shop.admin("GET", "/audit?order=desc&limit=1", Value::Null).await;
    assert_eq!(audit["data"][0]["record"], "experiment tone");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let (shop, key) = shop().await;
    shop.admin("PUT", "/experiments", experiment()).await;
    let named = json!({"experiment": "tone"});
    for (user, metadata, field) in [
        (json!("ann"), json!({"experiment": "none"}), "metadata.experiment"),
        (json!("ann"), json!({"experiment": 5}), "metadata.experiment"),
        (Value::Null, named.clone(), "user"),
        (json!(""), named.clone(), "user"),
        (json!("a\u{7}"), named.clone(), "user"),
        (json!(5), named, "user"),
    ] {
        let body = json!({"model": "tiny", "prompt": [5], "max_tokens": 1, "user": user, "metadata": metadata});
        let refused = shop.ask(&key, "POST", "/v1/completions", &body).await;
        assert_eq!(
            (refused.status, refused.error().param.as_deref()),
            (400, Some(field)),
            "{body}: {}",
            refused.text()
        );
    }
    for (body, field) in [(json!({}), "unit"), (json!({"unit": 5}), "unit"), (json!({"unit": "a", "arm": 1}), "arm")] {
        let refused = shop.ask(&key, "POST", "/v1/experiments/tone/assignments", &body).await;
        assert_eq!((refused.status, refused.error().param.as_deref()), (400, Some(field)), "{}", refused.text());
    }
    let outcome = |place: Value| {
        let mut body = json!({"id": "o", "kind": "sale", "value": "1", "currency": "USD", "valuation": "measured",
            "accepted": true});
        place.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    for (place, field) in [
        (json!({"experiment": "tone"}), "unit"),
        (json!({"unit": "ann"}), "experiment"),
        (json!({"experiment": "tone", "unit": "ann"}), "unit"),
        (json!({"experiment": "none", "unit": "ann"}), "experiment"),
        (json!({"experiment": "tone", "unit": "ann", "request": "cmpl-1"}), "requests"),
        (json!({"experiment": "tone", "unit": "ann", "rule": "last"}), "episode"),
    ] {
        let refused = shop.ask(&key, "POST", "/v1/outcomes", &outcome(place.clone())).await;
        assert_eq!(
            (refused.status, refused.error().param.as_deref()),
            (400, Some(field)),
            "{place}: {}",
            refused.text()
        );
    }
    for (change, field) in [
        (json!({"arms": []}), "arms"),
        (
            json!({"arms": [{"name": "a", "weight": 500}, {"name": "b", "weight": 500, "model": "gpt-9"}]}),
            "arms[1].model",
        ),
        (json!({"metric": "clicks"}), "metric"),
    ] {
        let mut body = experiment();
        body["id"] = json!("new");
        change.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        let refused = shop.ask(ADMIN, "PUT", "/admin/v1/experiments", &body).await;
        assert_eq!((refused.status, refused.error().param.as_deref()), (400, Some(field)), "{}", refused.text());
    }
    for (asker, method, path, status) in [
        (key.as_str(), "PUT", "/admin/v1/experiments", 403),
        (key.as_str(), "GET", "/v1/experiments/none", 404),
        (ADMIN, "POST", "/admin/v1/experiments/none/stop", 404),
        (ADMIN, "POST", "/v1/experiments/tone/assignments", 400),
    ] {
        let body = if path.ends_with("assignments") { json!({"unit": "ann"}) } else { experiment() };
        let body = if path.ends_with("stop") { json!({}) } else { body };
        let answer = shop.ask(asker, method, path, if method == "GET" { &Value::Null } else { &body }).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
}
