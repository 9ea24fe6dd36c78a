//! The plant as it is watched.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::books::{ADMIN, Shop};
use crate::client::{get, read_until, request, send};

const BEARER: &str = "Authorization: Bearer tw-admin";

/// Opens the stream.
async fn watch(shop: &Shop, header: &str) -> TcpStream {
    let mut stream = TcpStream::connect(shop.address).await.unwrap();
    stream.write_all(&request("localhost", "GET", "/admin/v1/live", &[header], b"")).await.unwrap();
    stream
}

/// The documents among what came of a stream.
fn documents(text: &str) -> Vec<Value> {
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|json| serde_json::from_str(json).unwrap())
        .collect()
}

#[tokio::test]
async fn the_snapshot_tells_what_was_done() {
    let shop = Shop::open(true).await;
    let snapshot = async || shop.admin("GET", "/live/snapshot", Value::Null).await;
    let before = snapshot().await;
    assert_eq!((&before["ttft"]["count"], &before["deliver"]["ok"]), (&json!(0), &json!(0)));
    let rate = &before["sample"]["output_tokens_per_second"];
    assert!(rate.is_null() || *rate == 0.0, "{rate}");
    for _ in 0..3 {
        assert_eq!(shop.complete(ADMIN, 5).await.status, 200);
    }
    // Whoever begins to watch gets a new one, however young the last is.
    let mut stream = watch(&shop, BEARER).await;
    let mut text = String::new();
    while documents(&text).is_empty() {
        text.push_str(&read_until(&mut stream, "\n\n").await);
    }
    let now = documents(&text).remove(0);
    assert_eq!((&now["deliver"]["ok"], &now["deliver"]["failed"]), (&json!(3), &json!(0)));
    assert_eq!((&now["ttft"]["count"], &now["itl"]["count"], &now["e2e"]["count"]), (&json!(3), &json!(12), &json!(3)));
    let counted = |name: &str, station: &str, expected: f64| {
        let count = now[station][name].as_f64().unwrap() * now["rate_seconds"].as_f64().unwrap();
        assert!((count - expected).abs() < 1e-6, "{name}: {count}");
    };
    counted("output_tokens_per_second", "sample", 15.0);
    counted("input_tokens_per_second", "context", 12.0);
    counted("requests_per_second", "tokenize", 3.0);
    assert_eq!((&now["decode"]["running"], &now["lines"][0]["model"]), (&json!(0), &json!("tiny")));
    assert_eq!((&now["plant"]["currency"], &now["plant"]["revenue_per_hour"]), (&json!("USD"), &json!("0.00")));
    let [p50, p99] = ["p50_seconds", "p99_seconds"].map(|name| now["e2e"][name].as_f64().unwrap());
    assert!(0.0 < p50 && p50 <= p99, "{now}");
    // The very document again, by its id.
    let path = format!("/live/snapshot?id={}", now["id"].as_str().unwrap());
    assert_eq!(shop.admin("GET", &path, Value::Null).await, now);
    assert_eq!(shop.ask(ADMIN, "GET", "/admin/v1/live/snapshot?id=snap-0", &Value::Null).await.status, 404);
}

#[tokio::test]
async fn all_who_watch_see_the_same() {
    let shop = Shop::open(true).await;
    let [mut first, mut second] = [watch(&shop, BEARER).await, watch(&shop, BEARER).await];
    let (first, second) = tokio::join!(read_twice(&mut first), read_twice(&mut second));
    let ids =
        |documents: &[Value]| documents.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let shared = ids(&first).iter().filter(|id| ids(&second).contains(id)).count();
    assert!(shared >= 1, "{:?} {:?}", ids(&first), ids(&second));
    let same = first.iter().filter(|one| second.contains(one)).count();
    assert_eq!(shared, same, "one id, one document");
}

async fn read_twice(stream: &mut TcpStream) -> Vec<Value> {
    let mut text = String::new();
    while documents(&text).len() < 2 {
        text.push_str(&read_until(stream, "\n\n").await);
    }
    documents(&text)
}

#[tokio::test]
async fn the_stream_ends_with_the_key() {
    let shop = Shop::open(true).await;
    let made =
        shop.admin("POST", "/keys", json!({"id": "eye", "project": "house", "name": "eye", "scopes": ["plant"]})).await;
    let bearer = format!("Authorization: Bearer {}", made["key"].as_str().unwrap());
    let mut stream = watch(&shop, &bearer).await;
    read_until(&mut stream, "data: ").await;
    shop.admin("DELETE", "/keys/eye", Value::Null).await;
    let rest = read_until(&mut stream, "event: end").await;
    assert!(documents(&rest).len() <= 1, "at most what was under way: {rest}");
}

#[tokio::test]
async fn only_so_many_watch() {
    let shop = Shop::open(true).await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        let mut stream = watch(&shop, BEARER).await;
        read_until(&mut stream, "HTTP/1.1 200").await;
        streams.push(stream);
    }
    let full = shop.ask(ADMIN, "GET", "/admin/v1/live", &Value::Null).await;
    assert_eq!((full.status, full.error().code.as_deref()), (503, Some("overloaded")));
    streams.truncate(1);
    // A place is free once the server has found that its reader is gone: at the latest when the next snapshots are written.
    for _ in 0..60 {
        let mut stream = watch(&shop, BEARER).await;
        if read_until(&mut stream, "HTTP/1.1 ").await.contains("HTTP/1.1 200") {
            return;
        }
        read_until(&mut streams[0], "data: ").await;
    }
    panic!("no place became free");
}

#[tokio::test]
async fn the_console_is_a_page_for_everybody_and_holds_nothing() {
    let shop = Shop::open(true).await;
    let page = get(shop.address, "/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    let policy = page.header("content-security-policy").unwrap();
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let text = page.text();
    let script = text.split("src=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(script.starts_with("/assets/"), "{script}");
    let packed = send(shop.address, "GET", &script, &["Accept-Encoding: gzip, br"], b"").await;
    assert_eq!((packed.status, packed.header("content-encoding")), (200, Some("gzip")));
    assert_eq!(packed.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let plain = get(shop.address, &script).await;
    assert!(plain.header("content-encoding").is_none() && plain.body.len() > packed.body.len());
    let tag = format!("If-None-Match: {}", packed.header("etag").unwrap());
    let again = send(shop.address, "GET", &script, &["Accept-Encoding: gzip", &tag], b"").await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(send(shop.address, "GET", &script, &[&tag], b"").await.status, 200, "the plain form is another one");
    for path in ["/index.html", "/assets/", "/assets/none.js", "/plant", "/console", "/assets/../index.html"] {
        assert_eq!(shop.ask(ADMIN, "GET", path, &Value::Null).await.status, 404, "{path}");
        assert_eq!(get(shop.address, path).await.status, 401, "{path}");
    }
    assert_eq!(send(shop.address, "POST", "/", &[], b"").await.status, 405);
}
