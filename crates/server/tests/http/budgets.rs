//! What is used of budgets, over HTTP.

use serde_json::{Value, json};

use crate::books::{ADMIN, Shop};

/// A customer that spent, with budgets of its own, of its project and of its key; another one with a budget too. Gives the
/// key that asks models, and one that manages the first customer.
async fn spent(shop: &Shop) -> (String, String) {
    let key = shop.customer().await;
    let budget = |amount: &str| json!({"budget": {"amount": amount, "alert_percent": [10, 40, 90]}});
    for (id, credit) in [("acme", "0"), ("other", "5")] {
        let organisation = json!({"id": id, "name": id, "plan": "basic", "credit": credit, "bounds": budget("0.001")});
        shop.admin("PUT", "/organisations", organisation).await;
    }
    let daily = json!({"budget": {"amount": "0.0004", "period": "day", "soft": true}});
    let project = json!({"id": "web", "organisation": "acme", "name": "Web", "bounds": daily});
    shop.admin("PUT", "/projects", project).await;
    shop.admin("POST", "/payments", json!({"organisation": "acme", "amount": "1", "reference": "first"})).await;
    let boss = json!({"id": "boss", "project": "web", "name": "ops", "scopes": ["manage"]});
    let boss = shop.admin("POST", "/keys", boss).await["key"].as_str().unwrap().to_owned();
    (key, boss)
}

#[tokio::test]
async fn what_is_spent_of_a_budget_is_what_was_charged() {
    let shop = Shop::open(true).await;
    let (key, boss) = spent(&shop).await;
    let mut charged = 0.0;
    for _ in 0..2 {
        let answer = shop.complete(&key, 7).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        charged += answer.json()["usage"]["charged"]["amount"].as_str().unwrap().parse::<f64>().unwrap();
    }
    let list = shop.admin("GET", "/organisations/acme/budgets", Value::Null).await;
    assert_eq!(
        (&list["object"], &list["currency"], &list["next_after"]),
        (&json!("list"), &json!("USD"), &Value::Null)
    );
    let rows = list["data"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{list}");
    let whole = json!({
        "level": "organisation", "id": "acme", "organisation": "acme", "amount": "0.001", "period": "month",
        "soft": false, "alert_percent": [10, 40, 90], "window": rows[0]["window"], "spent": "0.0005", "held": "0.00",
        "left": "0.0005", "raised": [10, 40]
    });
    assert_eq!(rows[0], whole);
    assert!((rows[0]["spent"].as_str().unwrap().parse::<f64>().unwrap() - charged).abs() < 1e-12);
    assert_eq!(rows[0]["window"], shop.admin("GET", "/alerts", Value::Null).await["data"][0]["window"]);
    assert_eq!(
        (&rows[1]["level"], &rows[1]["spent"], &rows[1]["left"], &rows[1]["soft"]),
        (&json!("project"), &json!("0.0005"), &json!("-0.0001"), &json!(true))
    );

    // A managing key sees the same of its own, and nothing of others.
    let own = shop.ask(&boss, "GET", "/admin/v1/organisations/acme/budgets", &Value::Null).await;
    assert_eq!((own.status, own.json()), (200, list.clone()));
    assert_eq!(shop.ask(&boss, "GET", "/admin/v1/budgets", &Value::Null).await.json(), list);
    assert_eq!(shop.ask(&boss, "GET", "/admin/v1/organisations/other/budgets", &Value::Null).await.status, 404);
    assert_eq!(shop.ask(&key, "GET", "/admin/v1/budgets", &Value::Null).await.status, 403);
    assert_eq!(shop.ask(&key, "GET", "/admin/v1/organisations/acme/budgets", &Value::Null).await.status, 403);
}

#[tokio::test]
async fn budgets_come_by_pages() {
    let shop = Shop::open(true).await;
    spent(&shop).await;
    let (mut found, mut next) = (Vec::new(), "/budgets?limit=1".to_owned());
    loop {
        let page = shop.admin("GET", &next, Value::Null).await;
        found.extend(page["data"].as_array().unwrap().clone());
        match page["next_after"].as_str() {
            Some(after) => next = format!("/budgets?limit=1&after={after}"),
            None => break,
        }
    }
    assert_eq!(json!(found), shop.admin("GET", "/budgets", Value::Null).await["data"]);
    let ids: Vec<&Value> = found.iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, ["acme", "other", "web"]);
    for (bad, field) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("after=web", "after"),
        ("after=plan/basic", "after"),
        ("page=2", "page"),
    ] {
        for path in ["/admin/v1/budgets", "/admin/v1/organisations/acme/budgets"] {
            let answer = shop.ask(ADMIN, "GET", &format!("{path}?{bad}"), &Value::Null).await;
            assert_eq!((answer.status, answer.error().param.as_deref()), (400, Some(field)), "{bad}");
        }
    }
}
