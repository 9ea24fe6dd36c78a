//! The console's sessions, as a person and as an attacker see them.

use serde_json::{Value, json};

use crate::books::{ADMIN, Shop};
use crate::client::{Answer, JSON, send};

/// A browser that keeps a session's cookie.
struct Browser<'a> {
    shop: &'a Shop,
    cookie: String,
}

fn origin(shop: &Shop) -> String {
    format!("Origin: http://127.0.0.1:{}", shop.address.port())
}

/// The cookie that an answer sets, as it is sent back.
fn set_cookie(answer: &Answer) -> String {
    let text = answer.header("set-cookie").expect("a cookie");
    assert!(text.contains("; HttpOnly; SameSite=Strict; "), "{text}");
    text.split(';').next().unwrap().to_owned()
}

async fn sign_in(shop: &Shop, key: &str, more: &[&str]) -> Answer {
    let (bearer, own) = (format!("Authorization: Bearer {key}"), origin(shop));
    let headers = [[JSON, &bearer, &own].as_slice(), more].concat();
    send(shop.address, "POST", "/v1/session", &headers, b"{}").await
}

impl<'a> Browser<'a> {
    async fn signed_in(shop: &'a Shop, key: &str) -> Self {
        let answer = sign_in(shop, key, &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(!answer.text().contains(key), "the page never gets the key back");
        Self { shop, cookie: format!("Cookie: {}", set_cookie(&answer)) }
    }

    /// As the console's own page asks.
    async fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.ask_with(method, path, body, &[&origin(self.shop), "Sec-Fetch-Site: same-origin"]).await
    }

    async fn ask_with(&self, method: &str, path: &str, body: &Value, headers: &[&str]) -> Answer {
        let headers = [[JSON, self.cookie.as_str()].as_slice(), headers].concat();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        send(self.shop.address, method, path, &headers, body.as_bytes()).await
    }
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.error().code.as_deref()), (status, Some(code)), "{}", answer.text());
}

#[tokio::test]
async fn a_key_becomes_a_session_that_may_what_the_key_may() {
    let shop = Shop::open(true).await;
    let key = shop.customer().await;
    let admin = Browser::signed_in(&shop, ADMIN).await;
    let who = admin.ask("GET", "/v1/session", &Value::Null).await;
    assert_eq!(who.header("cache-control"), Some("no-store"));
    let who = who.json();
    assert_eq!((&who["by"], &who["key"], &who["currency"]), (&json!("cookie"), &json!("config/ops"), &json!("USD")));
    assert_eq!(who["scopes"], json!(["inference", "usage", "manage", "plant"]));
    assert_eq!(admin.ask("GET", "/admin/v1/keys", &Value::Null).await.status, 200);
    assert_eq!(admin.ask("PUT", "/admin/v1/plans", &json!({"id": "gold"})).await.status, 200);

    let customer = Browser::signed_in(&shop, &key).await;
    let who = customer.ask("GET", "/v1/session", &Value::Null).await.json();
    assert_eq!((&who["organisation"], &who["can_watch"]), (&json!("acme"), &json!(false)));
    for path in ["/admin/v1/keys", "/admin/v1/live", "/admin/v1/live/snapshot", "/admin/v1/live/recent", "/v1/margins"]
    {
        refused(&customer.ask("GET", path, &Value::Null).await, 403, "not_allowed");
    }
    assert_eq!(customer.ask("GET", "/v1/standing", &Value::Null).await.status, 200);

    // A key that is shown goes before the cookie.
    let bearer = format!("Authorization: Bearer {key}");
    let who = admin.ask_with("GET", "/v1/session", &Value::Null, &[&bearer]).await.json();
    assert_eq!((&who["by"], &who["key"]), (&json!("key"), &json!("k1")));
    assert_eq!(admin.ask_with("GET", "/v1/session", &Value::Null, &["Authorization: Bearer tw_no"]).await.status, 401);
}

#[tokio::test]
async fn pages_elsewhere_cannot_use_a_session() {
    let shop = Shop::open(true).await;
    let admin = Browser::signed_in(&shop, ADMIN).await;
    let (own, port) = (origin(&shop), shop.address.port());
    let neighbour = format!("Origin: http://127.0.0.1:{}", port.wrapping_add(1));
    let named = format!("Origin: http://localhost:{port}");
    let plan = json!({"id": "stolen"});
    for headers in [
        &[][..],
        &["Sec-Fetch-Site: same-origin"],
        &["Origin: https://evil.example"],
        &["Origin: null", "Sec-Fetch-Site: cross-site"],
        &[&neighbour],
        &[&neighbour, "Sec-Fetch-Site: same-site"],
        &[&named],
        &[&own, "Sec-Fetch-Site: cross-site"],
        &[&own, "Sec-Fetch-Site: same-site"],
        &[&own, "Origin: https://evil.example"],
    ] {
        refused(&admin.ask_with("PUT", "/admin/v1/plans", &plan, headers).await, 403, "foreign_origin");
        refused(&admin.ask_with("DELETE", "/admin/v1/keys/k", &Value::Null, headers).await, 403, "foreign_origin");
    }
    for headers in
        [&["Sec-Fetch-Site: same-site"][..], &["Sec-Fetch-Site: cross-site"], &["Origin: https://evil.example"]]
    {
        refused(&admin.ask_with("GET", "/admin/v1/export", &Value::Null, headers).await, 403, "foreign_origin");
    }
    // A form, which needs no permission of the browser's to be sent.
    let form = ["Content-Type: text/plain", admin.cookie.as_str(), "Origin: https://evil.example"];
    assert_eq!(send(shop.address, "POST", "/admin/v1/payments", &form, b"{}").await.status, 403);
    assert_eq!(admin.ask("GET", "/admin/v1/plans/stolen", &Value::Null).await.status, 404);
    // Nor can they sign somebody in.
    let bearer = format!("Authorization: Bearer {ADMIN}");
    for foreign in ["Origin: https://evil.example", &neighbour, "Origin: null"] {
        let answer = send(shop.address, "POST", "/v1/session", &[JSON, &bearer, foreign], b"{}").await;
        refused(&answer, 403, "foreign_origin");
        assert_eq!(answer.header("set-cookie"), None);
    }
}

#[tokio::test]
async fn a_session_ends_with_its_key_and_with_the_sign_out() {
    let shop = Shop::open(true).await;
    let key = shop.customer().await;
    let [rotated, left] = [Browser::signed_in(&shop, &key).await, Browser::signed_in(&shop, &key).await];
    let out = left.ask("DELETE", "/v1/session", &Value::Null).await;
    assert_eq!((out.status, &out.json()["deleted"]), (200, &json!(true)));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(left.ask("GET", "/v1/standing", &Value::Null).await.status, 401);
    assert_eq!(rotated.ask("GET", "/v1/standing", &Value::Null).await.status, 200, "the other one goes on");

    // Programs may use the old text for an hour; whoever signed in with it signs in anew.
    let made = shop.admin("POST", "/keys/k1/rotate", json!({"grace_seconds": 3600})).await;
    assert_eq!(shop.ask(&key, "GET", "/v1/standing", &Value::Null).await.status, 200);
    assert_eq!(rotated.ask("GET", "/v1/standing", &Value::Null).await.status, 401);
    let revoked = Browser::signed_in(&shop, made["key"].as_str().unwrap()).await;
    shop.admin("DELETE", "/keys/k1", Value::Null).await;
    assert_eq!(revoked.ask("GET", "/v1/standing", &Value::Null).await.status, 401);
    assert_eq!(sign_in(&shop, &key, &[]).await.status, 401);
}

#[tokio::test]
async fn a_session_cannot_be_chosen_or_guessed() {
    let shop = Shop::open(true).await;
    let key = shop.customer().await;
    let name = Browser::signed_in(&shop, ADMIN).await.cookie.split('=').next().unwrap().to_owned();
    // What an attacker put into the browser before is not what is signed in.
    let planted = format!("{name}={}", "a".repeat(64));
    let answer = sign_in(&shop, &key, &[&planted]).await;
    assert!(!planted.contains(&set_cookie(&answer)));
    for cookie in [planted, format!("{name}="), format!("{name}=\u{e9}"), format!("{name}=../../x")] {
        let browser = Browser { shop: &shop, cookie };
        assert_eq!(browser.ask("GET", "/v1/session", &Value::Null).await.status, 401);
    }
    // Signing in again takes a new one, and the one before ends.
    let first = Browser::signed_in(&shop, &key).await;
    let again = sign_in(&shop, ADMIN, &[&first.cookie]).await;
    assert_ne!(format!("Cookie: {}", set_cookie(&again)), first.cookie);
    assert_eq!(first.ask("GET", "/v1/session", &Value::Null).await.status, 401);
    for wrong in ["tw_nobodys", "x", ""] {
        assert_eq!(sign_in(&shop, wrong, &[]).await.status, 401);
    }
}

#[tokio::test]
async fn without_keys_nobody_need_sign_in_until_there_is_an_administrator() {
    let shop = Shop::open(false).await;
    let who = send(shop.address, "GET", "/v1/session", &[], b"").await.json();
    assert_eq!(
        (&who["by"], &who["can_watch"], &who["has_administrator"]),
        (&json!("local"), &json!(true), &json!(false))
    );
    assert_eq!(send(shop.address, "GET", "/admin/v1/live/snapshot", &[], b"").await.status, 200);
    assert_eq!(sign_in(&shop, "anything", &[]).await.status, 401, "a word that is no key");

    // The page of the link signs in as well.
    let link = shop.claim.clone().unwrap();
    let html = "Accept: text/html";
    let made = send(shop.address, "POST", &link, &[html, &origin(&shop)], b"").await;
    assert_eq!(made.status, 200);
    assert!(made.text().contains("<a href=\"/\">"), "{}", made.text());
    let admin = Browser { shop: &shop, cookie: format!("Cookie: {}", set_cookie(&made)) };
    let who = admin.ask("GET", "/v1/session", &Value::Null).await.json();
    assert_eq!((&who["by"], &who["key"], &who["can_watch"]), (&json!("cookie"), &json!("admin"), &json!(true)));
    assert_eq!(admin.ask("GET", "/admin/v1/audit", &Value::Null).await.status, 200);
    // From now on the plant is watched by who administers it.
    refused(&send(shop.address, "GET", "/admin/v1/live/snapshot", &[], b"").await, 403, "not_allowed");
    let who = send(shop.address, "GET", "/v1/session", &[], b"").await.json();
    assert_eq!((&who["by"], &who["can_watch"]), (&json!("local"), &json!(false)));
    // A page that reached this machine under another name has no use of the cookie.
    let host = crate::client::request("evil.example", "GET", "/v1/session", &[&admin.cookie], b"");
    refused(&crate::client::raw(shop.address, &host).await, 403, "foreign_host");
    // A session that is over is told of: nobody who signed in goes on as this machine unawares.
    for deleted in [true, false] {
        let out = admin.ask("DELETE", "/v1/session", &Value::Null).await;
        assert_eq!((out.status, &out.json()["deleted"]), (200, &json!(deleted)));
        assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    }
    for (method, path) in [("GET", "/v1/session"), ("GET", "/admin/v1/live"), ("POST", "/v1/completions")] {
        refused(&admin.ask(method, path, &Value::Null).await, 401, "session_ended");
    }
    // Programs are given the key and no cookie.
    let other = Shop::open(false).await;
    let made = send(other.address, "POST", &other.claim.clone().unwrap(), &[], b"").await;
    assert_eq!((made.status, made.header("set-cookie")), (200, None));
}
