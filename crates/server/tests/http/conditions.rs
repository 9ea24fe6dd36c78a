//! Changes of records on a condition: `ETag`, `If-Match`, `If-None-Match`.

use serde_json::{Value, json};

use crate::books::{ADMIN, Shop};
use crate::client::{JSON, send};

#[tokio::test]
async fn a_change_of_what_somebody_else_changed_is_refused() {
    let shop = Shop::open(true).await;
    let text = shop.customer().await;
    let put = async |kind: &str, condition: &str, body: &Value| {
        let bearer = format!("Authorization: Bearer {ADMIN}");
        let headers = [JSON, bearer.as_str(), condition];
        let headers = if condition.is_empty() { &headers[..2] } else { &headers };
        send(shop.address, "PUT", &format!("/admin/v1/{kind}"), headers, body.to_string().as_bytes()).await
    };
    let read = shop.ask(ADMIN, "GET", "/admin/v1/organisations/acme", &Value::Null).await;
    assert_eq!((read.status, read.header("etag")), (200, Some("\"1\"")));
    let acme = read.json();
    let changed = put("organisations", "If-Match: \"1\"", &acme).await;
    assert_eq!((changed.status, changed.header("etag"), &changed.json()["version"]), (200, Some("\"2\""), &json!(2)));
    let new = json!({"id": "new", "name": "New", "plan": "basic"});
    for (condition, body, part) in [
        ("If-Match: \"1\"", &acme, "`If-Match: \"1\"` does not hold: organisation `acme` has the ETag \"2\" by now"),
        ("If-Match: W/\"2\"", &acme, "has the ETag \"2\" by now"),
        (
            "If-None-Match: *",
            &acme,
            "`If-None-Match: *` does not hold: organisation `acme` is there, with the ETag \"2\"",
        ),
        ("If-Match: *", &new, "`If-Match: *` does not hold: there is no organisation `new`"),
        ("If-Match: \"1\"", &new, "there is no organisation `new`"),
    ] {
        let answer = put("organisations", condition, body).await;
        let error = answer.error();
        assert_eq!((answer.status, error.code.as_deref()), (412, Some("precondition_failed")), "{condition}");
        assert!(error.message.contains(part), "{condition}: {}", error.message);
        assert_eq!(error.param.as_deref(), condition.split_once(':').map(|(name, _)| name));
    }
    let answer = put("organisations", "If-Match: 2", &acme).await;
    assert_eq!((answer.status, answer.error().param.as_deref()), (400, Some("If-Match")));
    for (condition, body, tag) in [
        ("If-None-Match: *", &new, "\"1\""),
        ("If-Match: *", &acme, "\"3\""),
        ("If-Match: \"9\", \"3\"", &acme, "\"4\""),
        ("", &acme, "\"5\""),
    ] {
        let answer = put("organisations", condition, body).await;
        assert_eq!((answer.status, answer.header("etag")), (200, Some(tag)), "{condition}: {}", answer.text());
    }
    // Of a price the version is the number of its versions.
    let price = shop.ask(ADMIN, "GET", "/admin/v1/prices/standard/tiny", &Value::Null).await;
    assert_eq!(price.header("etag"), Some("\"1\""));
    let mut price = price.json();
    price["from"] = "2020-01-02T00:00:00Z".into();
    assert_eq!(put("prices", "If-Match: \"2\"", &price).await.status, 412);
    let answer = put("prices", "If-Match: \"1\"", &price).await;
    assert_eq!(answer.header("etag"), Some("\"2\""), "{}", answer.text());
    // Keys: changed, rotated, revoked.
    let key = json!({"id": "k1", "project": "web", "name": "web", "scopes": ["inference", "usage"]});
    assert_eq!(shop.ask(ADMIN, "GET", "/admin/v1/keys/k1", &Value::Null).await.header("etag"), Some("\"1\""));
    let answer = put("keys", "If-Match: \"1\"", &key).await;
    assert_eq!(answer.header("etag"), Some("\"2\""), "{}", answer.text());
    assert_eq!(put("keys", "If-Match: \"1\"", &key).await.status, 412);
    let bearer = format!("Authorization: Bearer {ADMIN}");
    for (method, path) in [("POST", "/admin/v1/keys/k1/rotate"), ("DELETE", "/admin/v1/keys/k1")] {
        let body: &[u8] = if method == "POST" { b"{}" } else { b"" };
        let answer = send(shop.address, method, path, &[JSON, &bearer, "If-Match: \"1\""], body).await;
        assert_eq!(answer.status, 412, "{method} {path}: {}", answer.text());
        assert_ne!(shop.complete(&text, 1).await.status, 401, "the key is as it was");
    }
}

#[tokio::test]
async fn of_changes_at_one_time_from_one_state_one_is_made() {
    let shop = Shop::open(true).await;
    shop.customer().await;
    let bearer = format!("Authorization: Bearer {ADMIN}");
    let change = |number: u32| {
        let body = json!({"id": "acme", "name": format!("Acme {number}"), "plan": "basic"}).to_string();
        let (address, bearer) = (shop.address, bearer.clone());
        tokio::spawn(async move {
            let headers = [JSON, &bearer, "If-Match: \"1\""];
            send(address, "PUT", "/admin/v1/organisations", &headers, body.as_bytes()).await.status
        })
    };
    let changes: Vec<_> = (0..8).map(change).collect();
    let mut statuses = Vec::new();
    for change in changes {
        statuses.push(change.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
}
