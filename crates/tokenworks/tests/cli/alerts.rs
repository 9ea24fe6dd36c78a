//! A budget's alert on its way from a request to the address in the configuration.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::books::{complete, customer};
use crate::serving::Serving;
use crate::tiny_model::sandbox;

#[test]
fn an_alert_reaches_the_configured_address_and_a_wrong_one_is_refused() {
    let sandbox = sandbox();
    customer(&sandbox);
    let budget = r#"bounds.budget={"amount":"0.0001","soft":true,"alert_percent":[50]}"#;
    let key = sandbox.run(&["keys", "add", "web-2", "--project", "web", "--set", budget]).good();
    sandbox.write("tokenworks.toml", "[books]\nwebhook_url = \"http://hooks.example.com/\"\n");
    let error = sandbox.run(&["config", "check", "tokenworks.toml"]).bad(2);
    assert!(error.contains("books.webhook_url") && error.contains("https://"), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    sandbox.write("tokenworks.toml", format!("[books]\nwebhook_url = \"{url}\"\n"));
    let serving = Serving::start(&sandbox, &["tiny.gguf", "--kv-memory", "1MiB"]);
    assert!(complete(&serving, key.trim()).starts_with("HTTP/1.1 200"));
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let lines: Vec<String> =
        reader.by_ref().lines().map(|line| line.unwrap()).take_while(|line| !line.is_empty()).collect();
    let length = lines.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap()];
    reader.read_exact(&mut body).unwrap();
    write!(stream, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
    assert!(lines.iter().any(|line| line.to_lowercase().starts_with("webhook-signature: v1,")), "{lines:?}");
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&event["type"], &event["data"]["id"]), (&json!("budget.threshold"), &json!("web-2")));
    let secrets: Vec<_> = walk(sandbox.folder.path()).filter(|path| path.ends_with("webhook-secret")).collect();
    assert!(std::fs::read_to_string(&secrets[0]).unwrap().starts_with("whsec_"), "{secrets:?}");
}

fn walk(folder: &std::path::Path) -> Box<dyn Iterator<Item = std::path::PathBuf>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    Box::new(entries.flat_map(|path| if path.is_dir() { walk(&path) } else { Box::new(std::iter::once(path)) }))
}
