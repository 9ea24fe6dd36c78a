//! Outcomes and feedback over HTTP, and the TFP that they make.

use economics::rollup::BUCKETS;
use serde_json::{Value, json};

use crate::books::{ADMIN, Shop};
use crate::client::{Answer, JSON, send};

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

/// Feedback without an id, under a key for retries.
async fn feed_back(shop: &Shop, key: &str, body: &Value) -> Answer {
    let headers = [JSON, &format!("Authorization: Bearer {key}"), "Idempotency-Key: try-1"];
    send(shop.address, "POST", "/v1/feedback", &headers, body.to_string().as_bytes()).await
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
    assert_eq!(aside["data"][0]["waits_for"], json!({"requests": ["00112233445566778899aabbccddeeff"]}));
    let page = get(&shop, &key, "/v1/outcomes?limit=1").await;
    assert_eq!((&page["aside"], &get(&shop, ADMIN, "/v1/outcomes").await["aside"]), (&json!(1), &json!(1)));
    assert_eq!((&page["data"][0]["revision"], &page["has_more"]), (&json!(1), &json!(true)));
    let next = get(&shop, &key, &format!("/v1/outcomes?after={}", page["data"][0]["entry"])).await;
    assert_eq!((&next["data"][0]["revision"], &next["data"][0]["replaces"]), (&json!(2), &first["entry"]));
    assert_eq!(next["has_more"], false);

    let liked = json!({"request": id, "boolean": true, "number": 0.5, "comment": "gut 好"});
    let answer = shop.ask(&key, "POST", "/v1/feedback", &liked).await;
    assert_eq!((answer.status, &answer.json()["kind"]), (200, &json!("feedback")));
    // Without an id, the key of a retry names it.
    let [first, second] = [feed_back(&shop, &key, &liked).await.json(), feed_back(&shop, &key, &liked).await.json()];
    assert_eq!((&first["replayed"], &second["replayed"]), (&json!(false), &json!(true)));
    assert_eq!((&first["id"], &first["entry"]), (&second["id"], &second["entry"]));
    let other = feed_back(&shop, &key, &json!({"request": id, "boolean": false})).await;
    assert_eq!((other.status, other.error().code.as_deref()), (409, Some("outcome_conflict")));
    let told = get(&shop, ADMIN, "/v1/outcomes?limit=100").await;
    let last = told["data"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["comment"], &last["number"], &last["project"]), (&json!("gut 好"), &json!("0.5"), &json!("web")));
}

#[tokio::test]
async fn tfp_by_end_user_team_and_standard_tokens_and_who_comes_back() {
    let (shop, key) = shop().await;
    shop.admin("PUT", "/teams", json!({"id": "red", "organisation": "acme", "name": "Red"})).await;
    shop.admin("PUT", "/projects", json!({"id": "web", "organisation": "acme", "name": "Web", "team": "red"})).await;
    for (user, max_tokens) in [("ann", 4), ("bob", 6), ("eve", 8)] {
        let body = json!({
            "model": "tiny", "prompt": [5, 6, 7, 8], "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true,
            "user": user
        });
        let answer = shop.ask(&key, "POST", "/v1/completions", &body).await.json();
        let told = outcome(user, answer["id"].as_str().unwrap());
        assert_eq!(tell(&shop, &key, &told).await.status, 200);
    }
    let early = json!({"id": "early", "kind": "case", "episode": "e1", "value": 1, "currency": "USD",
        "valuation": "measured", "accepted": true});
    assert_eq!(tell(&shop, &key, &early).await.json()["status"], "aside");

    let users = get(&shop, &key, "/v1/tfp?group_by=customer,end_user,week&top=1").await;
    assert_eq!(users["group_by"], json!(["organisation", "end_user", "week"]), "{users}");
    let (eve, others) = (&users["data"][0], &users["data"][1]);
    assert_eq!(
        (&eve["organisation"], &eve["end_user"], &eve["tokens"]["output"]),
        (&json!("acme"), &json!("eve"), &json!(8))
    );
    assert_eq!((&others["others"], &others["value"]["total"], &users["aside"]), (&json!(2), &json!("5.00"), &json!(1)));
    assert!(eve.get("cost").is_none(), "customers do not see what they cost");

    let standard = get(&shop, ADMIN, "/v1/tfp?group_by=team,month&denominator=standard").await;
    let row = &standard["data"][0];
    assert_eq!(
        (&row["team"], &row["denominator"], &row["tfp"]["denominator"]),
        (&json!("red"), &json!("standard"), &json!("standard"))
    );
    let weights = &standard["standard_tokens"]["weights"][0];
    let [input, cached] = ["input", "cached_input"].map(|kind| weights[kind].as_f64().unwrap());
    let tokens = |kind: &str| row["tokens"][kind].as_f64().unwrap();
    let expected =
        (tokens("input") - tokens("cached_input")) * input + tokens("cached_input") * cached + tokens("output");
    assert!(input > 0.0 && (tokens("standard") - expected).abs() < 0.01, "{standard}");
    assert_eq!((&row["kinds"][0]["kind"], &row["kinds"][0]["accepted"]), (&json!("ticket_resolved"), &json!(3.0)));
    assert_eq!(
        (&row["cost"], &standard["sheet"]["example"]),
        (&json!("0.00"), &json!(false)),
        "this shop keeps no costs"
    );

    let back = get(&shop, &key, "/v1/retention?weeks=2").await;
    let cohort = &back["data"][0];
    assert_eq!(
        (&cohort["units"], &cohort["ages"][0]["share"], back["data"].as_array().unwrap().len()),
        (&json!(3), &json!(1.0), 1)
    );
    assert_eq!(get(&shop, ADMIN, "/admin/v1/retention?of=project").await["data"][0]["units"], 1);

    let statement = get(&shop, ADMIN, "/admin/v1/statement").await;
    assert_eq!((&statement["value"]["value"]["total"], &statement["goodput"]["stated"]), (&json!("7.50"), &json!(0)));
    assert_eq!(
        (&statement["products"]["outcomes"][0]["accepted_milli"], &statement["sheet"]["version"]),
        (&json!(3000), &Value::Null)
    );
    let days = statement["start_time"].as_i64().unwrap();
    let path = format!("/admin/v1/tfp-index?compare_start_time={days}&compare_end_time={}", days + 86_400);
    for (path, param) in [
        (path.as_str(), "compare_start_time"),
        ("/admin/v1/tfp-index?compare_start_time=5", "compare_end_time"),
        ("/admin/v1/tfp-index?compare_start_time=5&compare_end_time=9&inputs=tokens", "inputs"),
    ] {
        let refused = shop.ask(ADMIN, "GET", path, &Value::Null).await;
        assert_eq!(
            (refused.status, refused.error().param.as_deref()),
            (400, Some(param)),
            "{path}: {}",
            refused.text()
        );
    }
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
        ("minutes_saved", json!({"value": null, "rate_per_hour": "9223372036", "minutes_saved": 999_999_999})),
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
        ("/v1/tfp?group_by=day,week", "group_by"),
        ("/v1/tfp?group_by=end_user,task", "group_by"),
        ("/v1/tfp?top=5", "top"),
        ("/v1/tfp?group_by=end_user&top=0", "top"),
        ("/v1/tfp?base=tiny", "base"),
        ("/v1/tfp?denominator=standard&base=nobodys", "base"),
        ("/v1/retention?weeks=0", "weeks"),
        ("/v1/retention?of=model", "of"),
        ("/v1/tfp?start_time=5&end_time=4", "start_time"),
    ] {
        let refused = shop.ask(&key, "GET", path, &Value::Null).await;
        assert_eq!((refused.status, refused.error().param.as_deref()), (400, Some(param)), "{path}");
    }
    assert_eq!(get(&shop, &key, "/v1/outcomes").await["data"], json!([]));
}

/// How much of a prompt was known would tell one customer what another asked.
#[tokio::test]
async fn prompts_of_other_customers_are_not_known() {
    let (shop, key) = shop().await;
    let prompt: Vec<u32> = (0..40).map(|n| 5 + n % 7).collect();
    let body = json!({"model": "tiny", "prompt": prompt, "max_tokens": 1, "temperature": 0, "ignore_eos": true});
    let cached = async |key: &str| {
        let answer = shop.ask(key, "POST", "/v1/completions", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0)
    };
    let [first, again] = [cached(&key).await, cached(&key).await];
    let [other, other_again] = [cached(ADMIN).await, cached(ADMIN).await];
    assert!(again >= 32 && other_again >= 32, "{again} {other_again}");
    assert_eq!((first, other), (0, 0));
}
