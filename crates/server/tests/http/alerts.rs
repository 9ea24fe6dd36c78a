//! Budget alerts over HTTP: listed with their delivery; the webhook tried.

use std::sync::Arc;

use economics::books::{Delivery, Notifier};
use serde_json::{Value, json};

use crate::books::{ADMIN, Shop};

struct Receiver;

impl Notifier for Receiver {
    fn raised(&self) {}

    fn test(&self) -> Result<String, String> {
        Err("hooks.example.com answered 500".to_owned())
    }
}

#[tokio::test]
async fn alerts_are_listed_with_their_delivery() {
    let shop = Shop::open(true).await;
    let key = shop.customer().await;
    let budget = json!({"amount": "0.001", "soft": true, "alert_percent": [10, 40]});
    let organisation = json!({"id": "acme", "name": "Acme", "plan": "basic", "bounds": {"budget": budget}});
    shop.admin("PUT", "/organisations", organisation).await;
    let list = shop.admin("GET", "/alerts", Value::Null).await;
    assert_eq!(list, json!({"object": "list", "currency": "USD", "webhook": false, "data": []}));
    // Each costs 4 * 0.00001 + 7 * 0.00003 = 0.00025.
    for _ in 0..2 {
        assert_eq!(shop.complete(&key, 7).await.status, 200);
    }
    let alerts = shop.books.alerts(9).unwrap();
    assert_eq!(alerts.iter().map(|raised| raised.alert.percent).collect::<Vec<_>>(), [40, 10]);
    shop.books.end_alert(&alerts[0], Delivery::Delivered { at: 0, attempts: 2 }, 0).unwrap();
    shop.books.ledger().flush(std::time::Duration::from_secs(60)).unwrap();
    let list = shop.admin("GET", "/alerts?limit=1", Value::Null).await;
    let newest = &list["data"][0];
    assert_eq!((list["data"].as_array().unwrap().len(), &newest["percent"]), (1, &json!(40)));
    assert_eq!(
        (&newest["level"], &newest["id"], &newest["spent"]),
        (&json!("organisation"), &json!("acme"), &json!("0.0005"))
    );
    assert_eq!(newest["delivery"], json!({"state": "delivered", "at": "1970-01-01T00:00:00Z", "attempts": 2}));

    for (bad, field) in [("?limit=0", "limit"), ("?limit=1001", "limit"), ("?limit=x", "limit"), ("?page=1", "page")] {
        let answer = shop.ask(ADMIN, "GET", &format!("/admin/v1/alerts{bad}"), &Value::Null).await;
        assert_eq!((answer.status, answer.error().param.as_deref()), (400, Some(field)), "{bad}");
    }
    assert_eq!(shop.ask(&key, "GET", "/admin/v1/alerts", &Value::Null).await.status, 403);
}

#[tokio::test]
async fn the_webhook_is_tried_and_what_came_back_is_told() {
    let shop = Shop::open(true).await;
    let path = "/admin/v1/webhook/test";
    let answer = shop.ask(ADMIN, "POST", path, &Value::Null).await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (400, Some("no_webhook")));
    shop.books.notify(Arc::new(Receiver));
    let told = shop.admin("POST", "/webhook/test", Value::Null).await;
    assert_eq!(told, json!({"delivered": false, "answer": "hooks.example.com answered 500"}));
}
