//! Outcomes and feedback over HTTP, and the TFP that they make.

use economics::rollup::BUCKETS;
use serde_json::{Value, json};

use crate::books::{ADMIN, Shop};
use crate::client::Answer;

/// A shop with a customer who has money, and its key.
pub(crate) async fn shop() -> (Shop, String) {
    let shop = Shop::open(true).await;
    // The customer's own key has a limit of requests.
    shop.customer().await;
    shop.admin("POST", "/payments", json!({"organisation": "acme", "amount": "5", "reference": "p"})).await;
    let free = json!({"id": "k2", "project": "web", "name": "free", "scopes": ["inference", "usage"]});
    let made = shop.admin("POST", "/keys", free).await;
    let key = made["key"].as_str().unwrap().to_owned();
    (shop, key)
}

/// The id of an answer of four prompt tokens and so many more.
async fn answered(shop: &Shop, key: &str, max_tokens: u32, metadata: Value) -> String {
    let body = json!({
        "model": "tiny", "prompt": [5, 6, 7, 8], "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true,
        "metadata": metadata
    });
    let answer = shop.ask(key, "POST", "/v1/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn outcome(id: &str, request: &str) -> Value {
    json!({
        "id": id, "kind": "ticket_resolved", "requests": [request], "value": "2.50", "currency": "USD",
        "valuation": "measured", "accepted": true
    })
}

async fn tell(shop: &Shop, key: &str, body: &Value) -> Answer {
    shop.ask(key, "POST", "/v1/outcomes", body).await
}

async fn get(shop: &Shop, key: &str, path: &str) -> Value {
    let answer = shop.ask(key, "GET", path, &Value::Null).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

#[tokio::test]
async fn outcomes_make_tfp_by_prompt_version() {
    let (shop, key) = shop().await;
    let mut ids = Vec::new();
    for n in 0..6 {
        let version = if n % 2 == 0 { "v1" } else { "v2" };
        let metadata = json!({"task": "triage", "prompt_version": version, "episode": format!("e{n}"), "other": 7});
        ids.push(answered(&shop, &key, 4 + n, metadata).await);
    }
    for (n, id) in ids.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
        let told = tell(&shop, &key, &outcome(&format!("o{n}"), id)).await.json();
        assert_eq!((&told["status"], &told["value"]), (&json!("counted"), &json!("2.50")), "{told}");
    }
    let saved = json!({
        "id": "saved", "kind": "ticket_resolved", "episode": "e1", "rule": "last", "minutes_saved": 15,
        "rate_per_hour": "60", "currency": "USD", "valuation": "estimated", "accepted": false
    });
    assert_eq!(tell(&shop, &key, &saved).await.json()["value"], "15.00");
    let proxy = json!({"id": "clicks", "kind": "click", "requests": [{"id": ids[3], "weight": 400}, {"id": ids[5],
        "weight": 600}], "value": 100, "currency": "USD", "valuation": "proxy", "accepted": true});
    assert_eq!(tell(&shop, &key, &proxy).await.status, 200);

    let tfp = get(&shop, &key, "/v1/tfp?group_by=prompt_version,task&denominator=output").await;
    assert_eq!((&tfp["denominator"], tfp["data"].as_array().unwrap().len()), (&json!("output"), 2), "{tfp}");
    let (first, second) = (&tfp["data"][0], &tfp["data"][1]);
    assert_eq!((&first["prompt_version"], &first["task"]), (&json!("v1"), &json!("triage")));
    let tokens = &first["tokens"];
    assert_eq!((&tokens["input"], &tokens["output"], &tokens["total"]), (&json!(12), &json!(18), &json!(30)));
    assert_eq!(tokens["computed"].as_i64().unwrap(), 30 - tokens["cached_input"].as_i64().unwrap());
    assert_eq!(first["value"]["measured"], "7.50");
    let per_million = first["tfp"]["per_million"].as_f64().unwrap();
    assert!((per_million - 7.5 / 18.0 * 1e6).abs() < 1e-6, "{first}");
    assert!(first["tfp"]["groups"].as_u64().unwrap() <= BUCKETS as u64);
    assert_eq!(
        (&first["coverage"], &first["adoption_rate"], &first["accepted_outcomes"]),
        (&json!(1.0), &json!(1.0), &json!(3.0))
    );
    assert_eq!(first["matured"], 0.0);
    let price: f64 = first["price"].as_str().unwrap().parse().unwrap();
    let per_price = first["value_per_price"].as_f64().unwrap();
    assert!(price > 0.0 && (per_price * price - 7.5).abs() < 1e-9, "{first}");
    assert_eq!((&second["value"]["total"], &second["proxy"]), (&json!("15.00"), &json!("100.00")), "never added up");
    assert_eq!((&second["outcomes"], &second["accepted_outcomes"]), (&json!(2.0), &json!(1.0)));
    let all = get(&shop, ADMIN, "/admin/v1/tfp").await;
    assert_eq!((all["data"].as_array().unwrap().len(), &all["data"][0]["requests"]), (1, &json!(6)));
    let only = shop
        .admin("POST", "/keys", json!({"id": "k3", "project": "web", "name": "asks", "scopes": ["inference"]}))
        .await;
    let refused = shop.ask(only["key"].as_str().unwrap(), "GET", "/v1/tfp", &Value::Null).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn the_same_outcome_counts_once_and_a_late_request_is_matched() {
    let (shop, key) = shop().await;
    let id = answered(&shop, &key, 4, json!({})).await;
    let body = outcome("o", &id);
    let first = tell(&shop, &key, &body).await.json();
    let again = tell(&shop, &key, &body).await.json();
    assert_eq!((&again["entry"], &again["replayed"]), (&first["entry"], &json!(true)));
    let mut other = body.clone();
    other["value"] = json!("3");
    let refused = tell(&shop, &key, &other).await;
    assert_eq!((refused.status, refused.error().param.as_deref()), (409, Some("id")));
    other["revision"] = json!(2);
    assert_eq!(tell(&shop, &key, &other).await.status, 200);
    let tfp = get(&shop, &key, "/v1/tfp").await;
    assert_eq!((&tfp["data"][0]["value"]["total"], &tfp["data"][0]["outcomes"]), (&json!("3.00"), &json!(1.0)));

    let early = tell(&shop, &key, &outcome("early", "chatcmpl-00112233445566778899aabbccddeeff")).await.json();
    assert_eq!(early["status"], "aside");
    let aside = get(&shop, &key, "/v1/outcomes?status=aside").await;
    assert_eq!((&aside["data"][0]["id"], aside["data"].as_array().unwrap().len()), (&json!("early"), 1));
    let page = get(&shop, &key, "/v1/outcomes?limit=1").await;
    assert_eq!((&page["data"][0]["revision"], &page["has_more"]), (&json!(1), &json!(true)));
    let next = get(&shop, &key, &format!("/v1/outcomes?after={}", page["data"][0]["entry"])).await;
    assert_eq!((&next["data"][0]["revision"], &next["data"][0]["replaces"]), (&json!(2), &first["entry"]));
    assert_eq!(next["has_more"], false);

    let liked = json!({"request": id, "boolean": true, "number": 0.5, "comment": "gut 好"});
    let answer = shop.ask(&key, "POST", "/v1/feedback", &liked).await;
    assert_eq!((answer.status, &answer.json()["kind"]), (200, &json!("feedback")));
    let told = get(&shop, ADMIN, "/v1/outcomes?limit=100").await;
    let last = told["data"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["comment"], &last["number"], &last["project"]), (&json!("gut 好"), &json!("0.5"), &json!("web")));
}

#[tokio::test]
async fn wrong_outcomes_are_refused_by_the_name_of_the_field() {
    let (shop, key) = shop().await;
    let id = answered(&shop, &key, 1, json!({})).await;
    let year_3000 = 32_503_680_000_i64;
    for (field, change) in [
        ("id", json!({"id": null})),
        ("kind", json!({"kind": "feedback"})),
        ("value", json!({"value": "-1"})),
        ("value", json!({"value": "much"})),
        ("value", json!({"value": true})),
        ("currency", json!({"currency": null})),
        ("currency", json!({"currency": "EUR"})),
        ("minutes_saved", json!({"minutes_saved": 5})),
        ("rate_per_hour", json!({"value": null, "minutes_saved": 5})),
        ("minutes_saved", json!({"value": null, "rate_per_hour": "5"})),
        ("minutes_saved", json!({"value": null, "rate_per_hour": "5", "minutes_saved": -1})),
        ("valuation", json!({"valuation": "guessed"})),
        ("accepted", json!({"accepted": null})),
        ("occurred_at", json!({"occurred_at": year_3000})),
        ("occurred_at", json!({"occurred_at": "today"})),
        ("maturity_days", json!({"maturity_days": 400})),
        ("revision", json!({"revision": 0})),
        ("requests", json!({"requests": null})),
        ("requests", json!({"requests": []})),
        ("requests", json!({"requests": [{"id": id, "weight": 999}]})),
        ("requests[0].weight", json!({"requests": [{"id": id}]})),
        ("requests[0].weight", json!({"requests": [{"id": id, "weight": 0}]})),
        ("requests[1]", json!({"requests": [{"id": id, "weight": 1}, 5]})),
        ("requests", json!({"episode": "e"})),
        ("episode", json!({"rule": "last"})),
        ("episode", json!({"requests": null, "episode": "nobody's"})),
        ("rule", json!({"requests": null, "episode": "e", "rule": "middle"})),
        ("comment", json!({"comment": "x".repeat(5000)})),
        ("colour", json!({"colour": "red"})),
    ] {
        let mut body = outcome("o", &id);
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let refused = tell(&shop, &key, &body).await;
        assert_eq!(
            (refused.status, refused.error().param.as_deref()),
            (400, Some(field)),
            "{change}: {}",
            refused.text()
        );
    }
    let empty = shop.ask(&key, "POST", "/v1/feedback", &json!({"request": id})).await;
    assert_eq!((empty.status, empty.error().param.as_deref()), (400, Some("boolean")));
    for (path, param) in [
        ("/v1/outcomes?limit=0", "limit"),
        ("/v1/outcomes?status=lost", "status"),
        ("/v1/tfp?group_by=weekday", "group_by"),
        ("/v1/tfp?denominator=words", "denominator"),
        ("/v1/tfp?start_time=5&end_time=4", "start_time"),
    ] {
        let refused = shop.ask(&key, "GET", path, &Value::Null).await;
        assert_eq!((refused.status, refused.error().param.as_deref()), (400, Some(param)), "{path}");
    }
    assert_eq!(get(&shop, &key, "/v1/outcomes").await["data"], json!([]));
}
