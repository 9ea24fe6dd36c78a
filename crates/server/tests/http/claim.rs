//! The link that makes a plant's first admin key.

use serde_json::{Value, json};

use crate::books::Shop;
use crate::client::{Answer, raw, request, send};

/// As a browser asks.
const BROWSER: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

async fn ask(shop: &Shop, method: &str, path: &str, headers: &[&str]) -> Answer {
    send(shop.address, method, path, headers, b"").await
}

fn is_page(answer: &Answer, status: u16, part: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'nonce-") && !policy.contains("script"), "{policy}");
    let text = answer.text();
    assert!(text.contains(part), "{part} in {text}");
    assert!(!text.contains("<script") && !text.contains("http") && !text.contains("src="), "{text}");
}

#[tokio::test]
async fn the_link_makes_one_key_and_ends() {
    let shop = Shop::open(false).await;
    let link = shop.claim.clone().unwrap();
    // Previews and second thoughts use nothing up.
    for method in ["GET", "HEAD", "GET"] {
        assert_eq!(ask(&shop, method, &link, &[]).await.status, 200);
    }
    let page = ask(&shop, "GET", &link, &[BROWSER]).await;
    is_page(&page, 200, "<form method=\"post\">");
    assert!(page.text().contains("创建管理员密钥"));
    assert_eq!(page.header("referrer-policy"), Some("same-origin"), "else the form would have no origin");

    let origin = format!("Origin: http://127.0.0.1:{}", shop.address.port());
    let made = ask(&shop, "POST", &link, &[BROWSER, FORM, &origin]).await;
    is_page(&made, 200, "Authorization: Bearer tw_");
    let key = made.text().split("Bearer ").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let record = shop.ask(&key, "GET", "/admin/v1/keys/admin", &Value::Null).await.json();
    assert_eq!((&record["name"], &record["project"]), (&json!("Admin"), &json!("house")));
    assert_eq!(record["scopes"], json!(["inference", "usage", "manage", "plant"]));
    let audit = shop.ask(&key, "GET", "/admin/v1/audit?order=desc&limit=1", &Value::Null).await.json();
    assert_eq!(
        (&audit["data"][0]["actor"], &audit["data"][0]["record"]),
        (&json!("server/claim"), &json!("key admin"))
    );

    for method in ["GET", "POST"] {
        is_page(&ask(&shop, method, &link, &[BROWSER, FORM]).await, 410, "has an admin key by now");
        let gone = ask(&shop, method, &link, &[]).await;
        assert_eq!((gone.status, gone.error().code.as_deref()), (410, Some("gone")));
    }
    // Callers of this machine without a key are the house as before, and administer nothing.
    assert_eq!(shop.complete("x", 1).await.status, 200);
    assert_eq!(shop.ask("x", "GET", "/admin/v1/keys", &Value::Null).await.status, 403);
    assert_eq!(shop.complete(&key, 1).await.status, 200);
}

#[tokio::test]
async fn programs_get_the_key_as_json() {
    let shop = Shop::open(false).await;
    // The id is taken.
    let books = std::sync::Arc::clone(&shop.books);
    let taken =
        json!({"id": "admin", "project": "house", "name": "x", "prefix": "", "hash": "0".repeat(64), "scopes": []});
    let record = economics::directory::record::Record::parse(economics::directory::record::Kind::Key, taken).unwrap();
    tokio::task::spawn_blocking(move || books.change(record, "test", 0).unwrap()).await.unwrap();
    let answer = ask(&shop, "POST", &shop.claim.clone().unwrap(), &["Accept: */*"]).await;
    let made = answer.json();
    assert_eq!((answer.status, &made["id"]), (200, &json!("admin-2")));
    let key = made["key"].as_str().unwrap();
    assert_eq!(shop.ask(key, "GET", "/admin/v1/plans", &Value::Null).await.status, 200);
}

#[tokio::test]
async fn the_link_ends_when_the_plant_gets_its_administrator_otherwise() {
    let shop = Shop::open(false).await;
    let link = shop.claim.clone().unwrap();
    let hash = "0".repeat(64);
    let key = json!({"id": "ops", "project": "house", "name": "x", "prefix": "", "hash": hash, "scopes": ["plant"]});
    let record = economics::directory::record::Record::parse(economics::directory::record::Kind::Key, key).unwrap();
    let books = std::sync::Arc::clone(&shop.books);
    tokio::task::spawn_blocking(move || books.change(record, "test", 0).unwrap()).await.unwrap();
    for method in ["GET", "POST"] {
        assert_eq!(ask(&shop, method, &link, &[]).await.status, 410);
    }
}

#[tokio::test]
async fn guesses_learn_nothing_and_pages_elsewhere_may_not_try() {
    let shop = Shop::open(false).await;
    let link = shop.claim.clone().unwrap();
    let mut seen = Vec::new();
    for guess in
        ["0".repeat(64), "x".to_owned(), link.trim_start_matches("/admin/claim/")[..63].to_owned(), "%ff".to_owned()]
    {
        for method in ["GET", "POST"] {
            let answer = ask(&shop, method, &format!("/admin/claim/{guess}"), &[FORM]).await;
            seen.push((answer.status, answer.text().to_owned()));
            is_page(&ask(&shop, method, &format!("/admin/claim/{guess}"), &[BROWSER]).await, 404, "no such link");
        }
    }
    seen.dedup();
    assert_eq!((seen.len(), seen[0].0), (1, 404), "{seen:?}");
    for headers in [&["Origin: http://evil.example"][..], &["Origin: null"]] {
        let answer = ask(&shop, "POST", &link, headers).await;
        assert_eq!((answer.status, answer.error().code.as_deref()), (403, Some("foreign_origin")));
    }
    for method in ["GET", "POST"] {
        let answer = raw(shop.address, &request("evil.example", method, &link, &[], b"")).await;
        assert_eq!((answer.status, answer.error().code.as_deref()), (403, Some("foreign_host")));
    }
    // Other routes still take JSON only.
    let answer = send(shop.address, "POST", "/admin/v1/keys", &[FORM], b"{}").await;
    assert_eq!(answer.status, 415);
    assert_eq!(ask(&shop, "POST", &link, &[]).await.status, 200, "and nothing of it used the link up");
}

#[tokio::test]
async fn of_many_who_come_at_once_one_gets_the_key() {
    let shop = Shop::open(false).await;
    let link = shop.claim.clone().unwrap();
    let many = (0..8).map(|_| ask(&shop, "POST", &link, &[]));
    let mut statuses: Vec<u16> =
        futures_util::future::join_all(many).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 410, 410, 410, 410, 410, 410, 410]);
}

#[tokio::test]
async fn configured_keys_need_no_link() {
    let shop = Shop::open(true).await;
    assert_eq!(shop.claim, None);
    let answer = ask(&shop, "POST", "/admin/claim/x", &[]).await;
    assert_eq!(answer.status, 401);
    assert_eq!(shop.ask(crate::books::ADMIN, "GET", "/admin/claim/x", &Value::Null).await.status, 404);
}
