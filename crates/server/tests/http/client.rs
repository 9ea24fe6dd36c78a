//! A client that writes what it is told, right or wrong.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// `param` of an error body whose form is checked on the way.
    pub(crate) fn error(&self) -> Error {
        let body = self.json();
        let error = &body["error"];
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        assert_eq!(error.as_object().unwrap().len(), 4, "{body}");
        assert!(error["type"].is_string(), "{body}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        Error {
            message: error["message"].as_str().unwrap().to_owned(),
            param: error["param"].as_str().map(str::to_owned),
            code: error["code"].as_str().map(str::to_owned),
        }
    }

    /// The frames of a stream, the text after `data: ` of each.
    pub(crate) fn frames(&self) -> Vec<String> {
        let mut buffer = self.text().to_owned();
        let frames = std::iter::from_fn(|| protocol::sse::next_data(&mut buffer)).collect();
        assert_eq!(buffer, "", "a frame without an end");
        frames
    }
}

#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) message: String,
    pub(crate) param: Option<String>,
    pub(crate) code: Option<String>,
}

/// Writes bytes as they are and reads the answer until the server closes.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    exchange(stream, bytes).await
}

pub(crate) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, bytes: &[u8]) -> Answer {
    let all = async {
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        // A TLS server may close without a farewell.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    parse(&timeout(PATIENCE, all).await.expect("no answer"))
}

/// One request with a loopback Host, then the connection is closed. `headers` are whole lines.
pub(crate) async fn send(address: SocketAddr, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
    raw(address, &request(&format!("127.0.0.1:{}", address.port()), method, path, headers, body)).await
}

pub(crate) fn request(host: &str, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

pub(crate) const JSON: &str = "Content-Type: application/json";

pub(crate) async fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    send(address, "POST", path, &[JSON], body.to_string().as_bytes()).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, "GET", path, &[], b"").await
}

/// Reads some bytes of an answer without waiting for its end.
pub(crate) async fn read_until(stream: &mut TcpStream, part: &str) -> String {
    let mut seen = Vec::new();
    let all = async {
        while !String::from_utf8_lossy(&seen).contains(part) {
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "closed before {part:?}: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..n]);
        }
    };
    timeout(PATIENCE, all).await.expect("nothing came");
    String::from_utf8_lossy(&seen).into_owned()
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("no head in {:?}", String::from_utf8_lossy(bytes));
    });
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: bytes[end + 4..].to_vec() };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = dechunk(&answer.body);
    }
    answer
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|w| w == b"\r\n").expect("a chunk breaks off");
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        bytes = &bytes[end + 2..];
        if len == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[..len]);
        bytes = &bytes[len + 2..];
    }
}
