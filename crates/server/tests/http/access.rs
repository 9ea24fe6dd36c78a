//! Who may call: keys, hosts, origins, content types, TLS.

use std::sync::Arc;

use metering::Meter;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use server::{KeyConfig, Server, ServerConfig, TlsFiles, hash_key};
use tokio::net::TcpStream;

use crate::client::{JSON, exchange, raw, request, send};
use crate::plant::{Plant, ScriptedLine, hello};

const SECRET: &[u8] = b"an installation's secret";
const COMPLETIONS: &str = "/v1/completions";

fn with_keys(config: &mut ServerConfig) {
    config.key_secret = SECRET.to_vec();
    config.keys = vec![
        KeyConfig { name: "low".into(), hash: hash_key(SECRET, "tw-low"), max_priority: 0 },
        KeyConfig { name: "high".into(), hash: hash_key(SECRET, "tw-high").to_uppercase(), max_priority: 3 },
    ];
}

fn body(priority: i32) -> Vec<u8> {
    json!({"model": "scripted", "prompt": "a", "priority": priority}).to_string().into_bytes()
}

#[tokio::test]
async fn keys_are_asked_for_everywhere_but_at_the_probes() {
    let plant = Plant::start(ScriptedLine::new(hello), with_keys).await;
    for (method, path) in [
        ("POST", COMPLETIONS),
        ("POST", "/v1/chat/completions"),
        ("POST", "/tokenize"),
        ("POST", "/detokenize"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/scripted"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/nowhere"),
    ] {
        for header in [
            "X-Nothing: 1",
            "Authorization: Bearer tw-wrong",
            "Authorization: tw-low",
            "Authorization: Basic tw-low",
            "Authorization: Bearer",
            "Authorization: Bearer \u{e9}",
        ] {
            let answer = send(plant.address, method, path, &[JSON, header], b"{}").await;
            assert_eq!(answer.status, 401, "{path} {header}");
            assert_eq!(answer.error().code.as_deref(), Some("invalid_api_key"));
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    for path in ["/health", "/ready"] {
        assert_eq!(send(plant.address, "GET", path, &[], b"").await.status, 200);
    }
    // With a key, any name of the server and any origin will do.
    let request = request("api.example.com", "GET", "/metrics", &["Authorization: bearer tw-low"], b"");
    assert_eq!(raw(plant.address, &request).await.status, 200);
}

#[tokio::test]
async fn the_key_names_the_caller_and_caps_the_priority() {
    let plant = Plant::start(ScriptedLine::new(hello), with_keys).await;
    for (key, asked, given) in [("low", 9, 0), ("low", -4, -4), ("high", 9, 3), ("high", 2, 2)] {
        let header = format!("Authorization: Bearer tw-{key}");
        let answer = send(plant.address, "POST", COMPLETIONS, &[JSON, &header], &body(asked)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sent = plant.line.last();
        assert_eq!((sent.labels.key.as_deref(), sent.priority), (Some(key), given));
    }
}

#[tokio::test]
async fn without_keys_the_host_must_be_this_machine() {
    let plant = Plant::hello().await;
    let port = plant.address.port();
    for host in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "localhost:1", &format!("127.0.0.1:{port}")] {
        let answer = raw(plant.address, &request(host, "GET", "/v1/models", &[], b"")).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "192.168.0.1", "127.0.0.1.evil.example", ""] {
        for path in ["/v1/models", "/metrics", "/nowhere"] {
            let answer = raw(plant.address, &request(host, "GET", path, &[], b"")).await;
            assert_eq!((answer.status, answer.error().code.as_deref()), (403, Some("foreign_host")), "{host}");
        }
    }
    let twice = request("localhost", "GET", "/v1/models", &["Host: evil.example"], b"");
    assert_eq!(raw(plant.address, &twice).await.status, 403);
    let none = b"GET /v1/models HTTP/1.0\r\n\r\n";
    assert_eq!(raw(plant.address, none).await.status, 403);
    let absolute = request("localhost", "GET", "http://evil.example/v1/models", &[], b"");
    assert_eq!(raw(plant.address, &absolute).await.status, 403);
}

#[tokio::test]
async fn without_keys_no_page_of_another_origin_may_call() {
    let plant = Plant::start(ScriptedLine::new(hello), |config| {
        config.cors_origins = vec!["https://app.example.com".into()];
    })
    .await;
    let port = plant.address.port();
    let check = async |origin: &str, status: u16| {
        let header = format!("Origin: {origin}");
        let answer = send(plant.address, "POST", COMPLETIONS, &[JSON, &header], &body(0)).await;
        assert_eq!(answer.status, status, "{origin}: {}", answer.text());
        answer
    };
    check(&format!("http://127.0.0.1:{port}"), 200).await;
    for origin in [
        "null",
        "http://evil.example",
        "https://app.example.com.evil.example",
        &format!("https://127.0.0.1:{port}"),
        &format!("http://127.0.0.1:{}", port ^ 1),
        &format!("http://localhost:{port}"),
    ] {
        let answer = check(origin, 403).await;
        assert_eq!(answer.error().code.as_deref(), Some("foreign_origin"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let answer = check("https://app.example.com", 200).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
}

#[tokio::test]
async fn preflights() {
    let plant = Plant::start(ScriptedLine::new(hello), |config| {
        with_keys(config);
        config.cors_origins = vec!["https://app.example.com".into()];
    })
    .await;
    let ask = async |origin: &str| {
        let origin = format!("Origin: {origin}");
        let headers =
            [origin.as_str(), "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization"];
        send(plant.address, "OPTIONS", COMPLETIONS, &headers, b"").await
    };
    let answer = ask("https://app.example.com").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("authorization"));
    assert_eq!(ask("https://evil.example").await.header("access-control-allow-origin"), None);
    let plain = Plant::hello().await;
    let headers = ["Origin: https://app.example.com", "Access-Control-Request-Method: POST"];
    let answer = send(plain.address, "OPTIONS", COMPLETIONS, &headers, b"").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
}

#[tokio::test]
async fn posts_must_be_json() {
    for plant in [Plant::hello().await, Plant::start(ScriptedLine::new(hello), with_keys).await] {
        for kind in ["X-Nothing: 1", "Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded"] {
            let headers = [kind, "Authorization: Bearer tw-low"];
            let answer = send(plant.address, "POST", COMPLETIONS, &headers, &body(0)).await;
            assert_eq!((answer.status, answer.error().code.as_deref()), (415, Some("unsupported_media_type")));
        }
        let headers = ["Content-Type: Application/JSON; charset=utf-8", "Authorization: Bearer tw-low"];
        assert_eq!(send(plant.address, "POST", COMPLETIONS, &headers, &body(0)).await.status, 200);
    }
}

#[tokio::test]
async fn tls_by_certificate_files() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let files = TlsFiles { certificate: folder.path().join("cert.pem"), private_key: folder.path().join("key.pem") };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.private_key, made.signing_key.serialize_pem()).unwrap();
    let plant = Plant::start(ScriptedLine::new(hello), |config| config.tls = Some(files)).await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert.der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let stream = TcpStream::connect(plant.address).await.unwrap();
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let origin = "Origin: https://localhost";
    let bytes = request("localhost", "POST", COMPLETIONS, &[JSON, origin], &body(0));
    let answer = exchange(stream, &bytes).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["choices"][0]["text"], "Hello world");
}

#[tokio::test]
async fn tls_errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let certificate = write("cert.pem", &made.cert.pem());
    let private_key = write("key.pem", &made.signing_key.serialize_pem());
    let other_key = write("other.pem", &other.signing_key.serialize_pem());
    let garbage = write("garbage.pem", "no PEM at all");
    let missing = folder.path().join("missing.pem");
    for (certificate, private_key, culprit) in [
        (&missing, &private_key, "missing.pem"),
        (&garbage, &private_key, "garbage.pem"),
        (&certificate, &missing, "missing.pem"),
        (&certificate, &garbage, "garbage.pem"),
        (&certificate, &other_key, "other.pem"),
    ] {
        let files = TlsFiles { certificate: certificate.clone(), private_key: private_key.clone() };
        let config = ServerConfig { port: 0, tls: Some(files), ..ServerConfig::default() };
        let error =
            Server::bind(&config, server::Plant::new(vec![], Arc::new(Meter::new()))).await.err().unwrap().to_string();
        assert!(error.contains(culprit), "{error}");
    }
}
