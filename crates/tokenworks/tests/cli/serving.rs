//! `serve`, from its first line to its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;
use test_support::TinyModel;

use crate::support::Sandbox;
use crate::tiny_model::sandbox;

/// A running server; ended when dropped.
pub(crate) struct Serving {
    child: Child,
    output: BufReader<ChildStdout>,
    pub(crate) banner: String,
    address: String,
}

impl Serving {
    pub(crate) fn start(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        Self::start_by(&mut sandbox.command(&[&["serve", "--port", "0"], arguments].concat()))
    }

    /// By a command of `serve`.
    pub(crate) fn start_by(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut banner = String::new();
        while !banner.contains("Ctrl-C stops.") {
            assert!(output.read_line(&mut banner).unwrap() > 0, "the server ended: {banner}");
        }
        let address = banner.split("http://").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        Self { child, output, banner, address }
    }

    pub(crate) fn request(&self, head: &str, body: &str) -> String {
        self.request_with(head, "", body)
    }

    /// `headers`: further ones, each with its line end.
    pub(crate) fn request_with(&self, head: &str, headers: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{head} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    #[cfg(unix)]
    pub(crate) fn terminate(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("/bin/kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status.code(), log)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.output.read_to_string(&mut String::new());
    }
}

#[test]
fn the_banner_tells_what_is_served_and_its_curl_line_works() {
    let sandbox = sandbox();
    let serving = Serving::start(&sandbox, &["tiny.gguf", "--kv-memory", "1MiB"]);
    let kv = "KV cache   1.0 MiB of f16 = ";
    for part in ["/v1", "model tiny (llama, context 512 tokens)", "weights", kv, "/metrics"] {
        assert!(serving.banner.contains(part), "{part} in {}", serving.banner);
    }
    let curl = serving.banner.lines().find(|l| l.trim_start().starts_with("curl ")).unwrap();
    let (head, body) = curl.trim_end_matches('\'').split_once("-d '").unwrap();
    let route = head.split_whitespace().find_map(|w| w.strip_prefix(&format!("http://{}", serving.address))).unwrap();
    let answer = serving.request(&format!("POST {route}"), body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("text/event-stream") && answer.contains("data: [DONE]"), "{answer}");
}

#[test]
fn several_models_are_served_side_by_side() {
    let sandbox = sandbox();
    TinyModel::gemma3().write(sandbox.path("other.gguf")).unwrap();
    sandbox.write(
        "tokenworks.toml",
        "[engine]\nkv_memory = \"8MiB\"\n[models.tiny]\nsource = \"tiny.gguf\"\naliases = [\"small\"]\n",
    );
    let serving = Serving::start(&sandbox, &["tiny", "other.gguf"]);
    let answer = serving.request("GET /v1/models", "");
    assert!(answer.contains("\"tiny\"") && answer.contains("\"other\""), "{answer}");
    for (model, status) in [("tiny", "200"), ("small", "200"), ("other", "200"), ("nobody", "404")] {
        let body = format!("{{\"model\":\"{model}\",\"prompt\":\"a\",\"max_tokens\":2}}");
        let answer = serving.request("POST /v1/completions", &body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{model}: {answer}");
    }
}

#[test]
fn names_that_collide_are_refused() {
    let sandbox = sandbox();
    assert!(sandbox.run(&["serve", "tiny.gguf", "./tiny.gguf"]).bad(2).contains("both be called tiny"));
    assert!(sandbox.run(&["serve", "tiny.gguf", "tiny.gguf"]).bad(2).contains("tiny is given twice"));
    TinyModel::gemma3().write(sandbox.path("other.gguf")).unwrap();
    sandbox.write("tokenworks.toml", "[models.tiny]\nsource = \"tiny.gguf\"\naliases = [\"other\"]\n");
    let error = sandbox.run(&["serve", "tiny", "other.gguf", "--port", "0"]).bad(2);
    assert!(error.contains("two models answer to the name other"), "{error}");
}

#[test]
fn a_port_in_use_names_the_fix() {
    let sandbox = sandbox();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let error = sandbox.run(&["serve", "tiny.gguf", "--port", &port]).bad(1);
    assert!(error.contains(&format!("port {port} is in use")) && error.contains("--port"), "{error}");
}

#[test]
fn another_address_needs_keys() {
    let sandbox = sandbox();
    let error = sandbox.run(&["serve", "tiny.gguf", "--host", "0.0.0.0", "--port", "0"]).bad(2);
    assert!(error.contains("server.keys"), "{error}");
}

#[test]
fn a_data_folder_that_is_none_names_the_fix() {
    let sandbox = sandbox();
    sandbox.write("file", "no folder");
    let entry = format!("data_dir = \"file\"\n[[server.keys]]\nname = \"a\"\nhash = \"{}\"\n", "0".repeat(64));
    sandbox.write("tokenworks.toml", entry);
    let error = sandbox.run(&["serve", "tiny.gguf", "--port", "0"]).bad(1);
    assert!(error.contains("key-secret") && error.contains("data_dir"), "{error}");
}

#[test]
fn memory_that_cannot_be_is_refused_with_the_arithmetic() {
    let sandbox = sandbox();
    for (size, what, arithmetic) in [
        ("1KiB", "too small", "512 tokens needs"),
        ("900TiB", "does not fit into memory", "900.0 TiB of KV cache; all models together may take"),
    ] {
        let error = sandbox.run(&["serve", "tiny.gguf", "--port", "0", "--kv-memory", size]).bad(2);
        assert!(error.contains(what) && error.contains(arithmetic), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn sigterm_drains_and_ends_with_0() {
    let sandbox = sandbox();
    let serving = Serving::start(&sandbox, &["tiny.gguf", "--log-format", "json"]);
    let answer = serving.request("POST /v1/completions", r#"{"model":"tiny","prompt":"a","max_tokens":2}"#);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (code, log) = serving.terminate();
    assert_eq!(code, Some(0), "{log}");
    // Every line of the log is JSON, and the usage record is one of them.
    let lines: Vec<Value> = log.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.iter().any(|l| l["target"] == "usage" && l["output_tokens"] == 2), "{log}");
}

#[test]
fn the_books_are_one_servers_own() {
    let sandbox = sandbox();
    let serving = Serving::start(&sandbox, &["tiny.gguf"]);
    let answer = serving.request("POST /v1/completions", r#"{"model":"tiny","prompt":"a","max_tokens":2}"#);
    assert!(answer.contains(r#""charged":{"amount":"0.00","currency":"USD""#), "{answer}");
    let error = sandbox.run(&["serve", "tiny.gguf", "--port", "0"]).bad(1);
    assert!(error.contains("in use by") && error.contains("--data-dir"), "{error}");
    let other = Serving::start(&sandbox, &["tiny.gguf", "--data-dir", "other"]);
    drop((serving, other));
    // The first one's books are there for the next.
    drop(Serving::start(&sandbox, &["tiny.gguf"]));
}

#[test]
fn the_first_admin_key_comes_from_the_link_of_the_banner() {
    let sandbox = sandbox();
    let link = |serving: &Serving| {
        let word = serving.banner.split_whitespace().find(|word| word.contains("/admin/claim/"));
        word.map(|word| word.split_once("/admin").map(|(_, rest)| format!("/admin{rest}")).unwrap())
    };
    let first = Serving::start(&sandbox, &["tiny.gguf"]);
    let unused = link(&first).unwrap();
    drop(first);
    let serving = Serving::start(&sandbox, &["tiny.gguf"]);
    let answer = serving.request(&format!("POST {unused}"), "");
    assert!(answer.starts_with("HTTP/1.1 404"), "a link of another start: {answer}");
    let link_now = link(&serving).unwrap();
    let answer = serving.request(&format!("POST {link_now}"), "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let made: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert!(serving.request(&format!("POST {link_now}"), "").starts_with("HTTP/1.1 410"));
    assert!(serving.request("GET /admin/v1/keys", "").starts_with("HTTP/1.1 403"));
    drop(serving);
    // The key is there for good, so there is no link any more.
    let serving = Serving::start(&sandbox, &["tiny.gguf"]);
    assert_eq!(link(&serving), None, "{}", serving.banner);
    let bearer = format!("Authorization: Bearer {}\r\n", made["key"].as_str().unwrap());
    let answer = serving.request_with("GET /admin/v1/keys", &bearer, "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""id":"admin""#), "{answer}");
}

#[test]
fn a_context_shortened_by_a_setting() {
    let sandbox = sandbox();
    sandbox.write("tokenworks.toml", "[engine]\ncontext_len = 64\n");
    let serving = Serving::start(&sandbox, &["tiny.gguf"]);
    assert!(serving.banner.contains("context 64 tokens"), "{}", serving.banner);
    drop(serving);
    sandbox.write("tokenworks.toml", "[engine]\ncontext_len = 1024\n");
    let error = sandbox.run(&["serve", "tiny.gguf", "--port", "0"]).bad(2);
    assert!(error.contains("engine.context_len is 1024") && error.contains("at most 512"), "{error}");
}

#[test]
fn a_context_that_is_cut_is_told_alike() {
    let sandbox = crate::tiny_model::sandbox();
    let configure = |memory: &str| {
        let text = format!("[models.tiny]\nsource = \"tiny.gguf\"\nkv_memory = \"{memory}\"\n");
        sandbox.write("tokenworks.toml", text);
        let report = sandbox.run(&["config", "check", "--json"]).json();
        report["models"].as_array().unwrap().iter().find(|model| model["name"] == "tiny").unwrap().clone()
    };
    let whole = configure("1MiB");
    assert_eq!((&whole["context_len"], &whole["context_cut"]), (&512.into(), &serde_json::Value::Null));
    let of_token = whole["kv_bytes"].as_u64().unwrap() / whole["kv_tokens"].as_u64().unwrap();
    let cut = configure(&format!("{}KiB", of_token * 320 / 1024));
    assert_eq!(cut["context_len"], 320, "{cut}");
    let told = cut["context_cut"].as_str().unwrap();
    assert!(told.starts_with("cut from 512 to 320 tokens") && told.contains("models.tiny.kv_memory"), "{told}");
    assert!(sandbox.run(&["config", "check"]).good().contains(told));
    let serving = Serving::start(&sandbox, &["tiny"]);
    for part in ["context 320 tokens", told] {
        assert!(serving.banner.contains(part), "{part} in {}", serving.banner);
    }
}
