//! Start, limits, drain and end.

use std::sync::Arc;
use std::time::Duration;

use inference::FinishReason;
use metering::Meter;
use serde_json::{Value, json};
use server::{Server, ServerConfig, ServerError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{JSON, get, post, read_until, request};
use crate::plant::{Plant, Script, ScriptedLine, done, eventually, finished, hello, text};

const CHAT: &str = "/v1/chat/completions";

fn chat(stream: bool) -> Value {
    json!({"model": "scripted", "messages": [{"role": "user", "content": "Hi"}], "stream": stream})
}

async fn open(plant: &Plant, body: &Value) -> TcpStream {
    let before = plant.line.submitted.lock().unwrap().len();
    let mut stream = TcpStream::connect(plant.address).await.unwrap();
    let bytes = request("localhost", "POST", CHAT, &[JSON], body.to_string().as_bytes());
    stream.write_all(&bytes).await.unwrap();
    eventually("submitted", || plant.line.submitted.lock().unwrap().len() > before).await;
    stream
}

#[tokio::test]
async fn a_port_in_use_and_names_without_an_address() {
    let plant = Plant::hello().await;
    let bind = async |config: ServerConfig| {
        Server::bind(&config, server::Plant::new(vec![], Arc::new(Meter::new()))).await.err().unwrap()
    };
    let error = bind(ServerConfig { port: plant.address.port(), ..ServerConfig::default() }).await;
    assert!(matches!(error, ServerError::PortInUse { .. }), "{error}");
    assert!(error.to_string().contains(&plant.address.port().to_string()), "{error}");
    let error = bind(ServerConfig { host: "no such name".into(), ..ServerConfig::default() }).await;
    assert!(error.to_string().contains("no such name"), "{error}");
    let error = bind(ServerConfig { host: "0.0.0.0".into(), port: 0, ..ServerConfig::default() }).await;
    assert!(matches!(error, ServerError::Config(_)), "{error}");
}

#[tokio::test]
async fn nothing_under_way_ends_at_once() {
    let mut plant =
        Plant::start(ScriptedLine::new(hello), |c| c.limits.drain_timeout = Duration::from_secs(3600)).await;
    assert_eq!(post(plant.address, CHAT, &chat(false)).await.status, 200);
    // An idle connection holds nothing up.
    let _idle = TcpStream::connect(plant.address).await.unwrap();
    plant.signal();
    plant.ended().await;
    assert!(TcpStream::connect(plant.address).await.is_err(), "the port is free");
}

#[tokio::test]
async fn requests_under_way_end_well_and_new_ones_hear_503() {
    let mut plant = Plant::start(ScriptedLine::new(|_| Script::Hang(vec![text(0, "first")])), |config| {
        config.limits.drain_timeout = Duration::from_secs(3600);
    })
    .await;
    let mut streamed = open(&plant, &chat(true)).await;
    let mut whole = open(&plant, &chat(false)).await;
    read_until(&mut streamed, "first").await;
    plant.signal();
    let address = plant.address;
    let mut status = get(address, "/ready").await.status;
    for _ in 0..1000 {
        if status == 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        status = get(address, "/ready").await.status;
    }
    assert_eq!(status, 503);
    assert_eq!(get(address, "/health").await.status, 200);
    let answer = post(address, CHAT, &chat(true)).await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (503, Some("shutting_down")));
    assert!(answer.header("retry-after").is_some());
    for i in 0..2 {
        plant.line.feed(i, vec![text(0, " last"), finished(0, FinishReason::Stop), done()]);
    }
    let rest = read_until(&mut streamed, "[DONE]").await;
    assert!(rest.contains(" last"), "{rest}");
    read_until(&mut whole, "first last").await;
    plant.ended().await;
    assert_eq!(plant.line.submitted.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_off() {
    let mut plant = Plant::start(ScriptedLine::new(|_| Script::Hang(vec![])), |config| {
        config.limits.drain_timeout = Duration::from_millis(100);
    })
    .await;
    let mut streamed = open(&plant, &chat(true)).await;
    let _whole = open(&plant, &chat(false)).await;
    plant.signal();
    let told = read_until(&mut streamed, "shutting_down").await;
    assert!(told.contains("data: {\"error\""), "{told}");
    plant.ended().await;
    eventually("cancelled", || plant.line.cancelled() == 2).await;
}

#[tokio::test]
async fn requests_and_connections_too_many() {
    let plant = Plant::start(ScriptedLine::new(|_| Script::Hang(vec![])), |config| {
        config.limits.max_requests = 2;
        // Half of them for one peer.
        config.limits.max_connections = 8;
    })
    .await;
    let first = open(&plant, &chat(true)).await;
    let _second = open(&plant, &chat(false)).await;
    let answer = post(plant.address, CHAT, &chat(false)).await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (503, Some("overloaded")));
    assert_eq!(get(plant.address, "/health").await.status, 200, "probes need no room");
    let mut idle = vec![];
    for _ in 0..2 {
        idle.push(TcpStream::connect(plant.address).await.unwrap());
    }
    // The answer comes without a request.
    let mut extra = TcpStream::connect(plant.address).await.unwrap();
    let told = read_until(&mut extra, "overloaded\"}}").await;
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("Retry-After"), "{told}");
    drop(first);
    drop(idle);
    eventually("cancelled", || plant.line.cancelled() == 1).await;
    let _third = open(&plant, &chat(true)).await;
}

#[tokio::test]
async fn connections_without_a_request_make_room_when_many_are_open() {
    let plant = Plant::start(ScriptedLine::new(|_| Script::Hang(vec![])), |config| {
        config.limits.max_connections = 8;
        config.limits.header_timeout = Duration::from_secs(3600);
    })
    .await;
    let mut working = open(&plant, &chat(true)).await;
    let mut half_open = vec![];
    for _ in 0..3 {
        let mut stream = TcpStream::connect(plant.address).await.unwrap();
        stream.write_all(b"GET /health HT").await.unwrap();
        half_open.push(stream);
    }
    let mut extra = TcpStream::connect(plant.address).await.unwrap();
    read_until(&mut extra, "overloaded").await;
    // Those that hold places without a request are closed, until the peer holds half of its share.
    let mut status = get(plant.address, "/health").await.status;
    for _ in 0..400 {
        if status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        status = get(plant.address, "/health").await.status;
    }
    assert_eq!(status, 200);
    plant.line.feed(0, vec![text(0, "still here")]);
    read_until(&mut working, "still here").await;
}

#[tokio::test]
async fn a_head_or_a_body_that_does_not_come() {
    let plant = Plant::start(ScriptedLine::new(hello), |config| {
        config.limits.header_timeout = Duration::from_millis(200);
        config.limits.body_timeout = Duration::from_millis(200);
    })
    .await;
    let mut slow = TcpStream::connect(plant.address).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    let mut idle = TcpStream::connect(plant.address).await.unwrap();
    for stream in [&mut slow, &mut idle] {
        let mut rest = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(stream, &mut rest);
        let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("still open");
    }
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 100\r\n\r\n{{");
    let mut stalled = TcpStream::connect(plant.address).await.unwrap();
    stalled.write_all(head.as_bytes()).await.unwrap();
    let told = read_until(&mut stalled, "request_timeout").await;
    assert!(told.starts_with("HTTP/1.1 408"), "{told}");
}

#[tokio::test]
async fn one_connection_carries_several_requests() {
    let plant = Plant::hello().await;
    let mut stream = TcpStream::connect(plant.address).await.unwrap();
    let body = chat(false).to_string();
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: {}\r\n\r\n", body.len());
    for _ in 0..3 {
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        read_until(&mut stream, "system_fingerprint").await;
    }
    let wrong = body.replace("scripted", "unknown1");
    stream.write_all(format!("{head}{wrong}").as_bytes()).await.unwrap();
    read_until(&mut stream, "model_not_found").await;
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    read_until(&mut stream, "system_fingerprint").await;
}
