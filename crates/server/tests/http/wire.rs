//! HTTP itself: heads, lengths, encodings, and bodies that are held back.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{JSON, get, raw, read_until, request, send};
use crate::plant::Plant;

const COMPLETIONS: &str = "/v1/completions";

fn body() -> Vec<u8> {
    json!({"model": "scripted", "prompt": "Hi"}).to_string().into_bytes()
}

/// A head with the length of a body that is not sent.
fn head(length: usize, headers: &[&str]) -> String {
    format!(
        "POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{}\r\n\r\n",
        headers.join("\r\n")
    )
}

#[tokio::test]
async fn encoded_bodies_are_refused_by_the_name_of_the_header() {
    let plant = Plant::hello().await;
    for encoding in ["gzip", "br", "identity, gzip"] {
        let header = format!("Content-Encoding: {encoding}");
        let answer = send(plant.address, "POST", COMPLETIONS, &[JSON, &header], &body()).await;
        assert_eq!((answer.status, answer.error().code.as_deref()), (415, Some("unsupported_media_type")));
        assert!(answer.error().message.contains(&header), "{}", answer.text());
    }
    let answer = send(plant.address, "POST", COMPLETIONS, &[JSON, "Content-Encoding: Identity"], &body()).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn refusals_by_the_head_do_not_wait_for_the_body() {
    let plant = Plant::hello().await;
    for (length, headers, status) in [
        (50 << 20, vec![JSON], "413"),
        (1 << 20, vec![JSON, "Content-Encoding: gzip"], "415"),
        (1 << 20, vec!["Content-Type: text/plain"], "415"),
        (1 << 20, vec![JSON, "Origin: http://evil.example"], "403"),
    ] {
        let mut stream = TcpStream::connect(plant.address).await.unwrap();
        stream.write_all(head(length, &headers).as_bytes()).await.unwrap();
        let told = read_until(&mut stream, "}}").await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{headers:?}: {told}");
    }
}

#[tokio::test]
async fn a_refused_body_that_comes_all_the_same_leaves_the_connection_in_use() {
    let plant = Plant::hello().await;
    let mut stream = TcpStream::connect(plant.address).await.unwrap();
    let large = vec![b' '; 20 << 20];
    stream.write_all(head(large.len(), &[JSON]).as_bytes()).await.unwrap();
    stream.write_all(&large).await.unwrap();
    assert!(read_until(&mut stream, "}}").await.starts_with("HTTP/1.1 413 "));
    stream.write_all(&request("localhost", "POST", COMPLETIONS, &[JSON], &body())).await.unwrap();
    read_until(&mut stream, "Hello world").await;
}

#[tokio::test]
async fn expect_is_answered_before_the_body() {
    let plant = Plant::hello().await;
    let expect = "Expect: 100-continue";
    let mut stream = TcpStream::connect(plant.address).await.unwrap();
    stream.write_all(head(body().len(), &[JSON, expect]).as_bytes()).await.unwrap();
    let told = read_until(&mut stream, "\r\n\r\n").await;
    assert!(told.starts_with("HTTP/1.1 100 "), "{told}");
    stream.write_all(&body()).await.unwrap();
    read_until(&mut stream, "Hello world").await;
    for refused in [head(50 << 20, &[JSON, expect]), head(5, &["Content-Type: text/plain", expect])] {
        let answer = raw(plant.address, refused.as_bytes()).await;
        assert!(matches!(answer.status, 413 | 415), "{}", answer.text());
    }
}

#[tokio::test]
async fn faults_of_http_itself() {
    let plant = Plant::hello().await;
    let cookie = format!("Cookie: {}", "x".repeat(40 << 10));
    let answer = send(plant.address, "GET", "/v1/models", &[&cookie], b"").await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (431, Some("headers_too_large")));
    let answer = send(plant.address, "GET", &format!("/v1/models/{}", "x".repeat(40 << 10)), &[], b"").await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (431, Some("headers_too_large")));
    // What the library does not read, it answers itself.
    assert_eq!(send(plant.address, "GET", "/v1/models", &["A: b"; 120], b"").await.status, 431);
    assert_eq!(raw(plant.address, b"no HTTP at all\r\n\r\n").await.status, 400);
    for path in ["/v1/models/%ff", "/v1/models/", "/v1/completions/"] {
        let answer = get(plant.address, path).await;
        assert_eq!((answer.status, answer.error().code.as_deref()), (404, Some("not_found")), "{path}");
    }
    let answer = send(plant.address, "HEAD", "/v1/models", &[], b"").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    for (method, path) in [("DELETE", "/v1/models"), ("PUT", COMPLETIONS), ("PATCH", "/health")] {
        let answer = send(plant.address, method, path, &[], b"").await;
        assert_eq!((answer.status, answer.error().code.as_deref()), (405, Some("method_not_allowed")), "{path}");
    }
    assert_eq!(get(plant.address, "/v1/models").await.status, 200);
}
