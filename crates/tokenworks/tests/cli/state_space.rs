//! A state-space model served beside another: one state for each sequence that runs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::TinyModel;

use crate::serving::Serving;
use crate::support::Sandbox;

/// Bytes of a state: three layers of 128 channels, each with three inputs of the convolution and sixteen values, in F32.
const STATE_KIB: f64 = 3.0 * 128.0 * 19.0 * 4.0 / 1024.0;

/// A llama, and a mamba with memory for two states.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    TinyModel::llama().write(sandbox.path("tiny.gguf")).unwrap();
    TinyModel { context_len: 1 << 20, ..TinyModel::mamba() }.write(sandbox.path("mamba.gguf")).unwrap();
    configure(&sandbox, "60KiB", "");
    sandbox
}

fn configure(sandbox: &Sandbox, memory: &str, more: &str) {
    let tiny = "[models.tiny]\nsource = \"tiny.gguf\"\n";
    let mamba = format!("[models.mamba]\nsource = \"mamba.gguf\"\nkv_memory = \"{memory}\"\n{more}");
    sandbox.write("tokenworks.toml", format!("{tiny}{mamba}"));
}

fn chat(serving: &Serving, model: &str, question: &str, more: Value) -> String {
    let mut body = json!({
        "model": model, "messages": [{ "role": "user", "content": question }], "max_tokens": 24, "temperature": 0.0,
        "ignore_eos": true,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serving.request("POST /v1/chat/completions", &body.to_string())
}

/// The text of an answer, and what it used.
fn answer(serving: &Serving, model: &str, question: &str) -> (String, Value) {
    let answer = chat(serving, model, question, json!({}));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    (body["choices"][0]["message"]["content"].as_str().unwrap().to_owned(), body["usage"].clone())
}

fn states_in_use(serving: &Serving) -> u64 {
    let metrics = serving.request("GET /metrics", "");
    let line = metrics.lines().find(|line| line.starts_with("tokenworks_kv_blocks_used{model=\"mamba\"}")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn eventually(what: &str, check: impl Fn() -> bool) {
    let seen = (0..400).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        check()
    });
    assert!(seen, "never: {what}");
}

#[cfg(unix)]
#[test]
fn more_chats_than_states_beside_another_model() {
    let sandbox = sandbox();
    let serving = Serving::start(&sandbox, &["tiny", "mamba", "--log-format", "json"]);
    let shown = format!("{:.1} KiB = states of 2 sequences", 2.0 * STATE_KIB);
    for part in ["model mamba (mamba, context 1,048,576 tokens)", &shown] {
        assert!(serving.banner.contains(part), "{part} in {}", serving.banner);
    }
    // Six chats over two states, and two of the other model: each gets what it gets alone.
    let questions: Vec<String> = (0..6).map(|i| format!("question {i}: {}", "why so long ".repeat(10 * i))).collect();
    let ask = |i: usize| match questions.get(i) {
        Some(question) => answer(&serving, "mamba", question),
        None => answer(&serving, "tiny", "and you?"),
    };
    let together: Vec<(String, Value)> = std::thread::scope(|scope| {
        let chats: Vec<_> = (0..8).map(|i| scope.spawn(move || ask(i))).collect();
        chats.into_iter().map(|chat| chat.join().unwrap()).collect()
    });
    for (i, (text, usage)) in together.iter().enumerate() {
        let (alone, _) = ask(i);
        assert_eq!(*text, alone, "chat {i}");
        assert_eq!(usage["completion_tokens"], 24, "{usage}");
    }
    let streamed = chat(&serving, "mamba", &questions[3], json!({ "stream": true }));
    let text: String = streamed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert!(streamed.contains("data: [DONE]") && text == together[3].0, "{streamed}");
    let two = chat(&serving, "mamba", "twice", json!({ "n": 2, "temperature": 1.0, "seed": 4 }));
    assert!(two.starts_with("HTTP/1.1 200") && two.contains("\"index\":1"), "{two}");
    let three = chat(&serving, "mamba", "thrice", json!({ "n": 3 }));
    assert!(three.starts_with("HTTP/1.1 400") && three.contains("from 1 to 2"), "{three}");
    eventually("no state in use", || states_in_use(&serving) == 0);

    let (code, log) = serving.terminate();
    assert_eq!(code, Some(0), "{log}");
    let records = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let records: Vec<Value> =
        records.filter(|record| record["target"] == "usage" && record["model"] == "mamba").collect();
    assert_eq!(records.len(), 2 * 6 + 2, "{log}");
    for record in records {
        let number = |field: &str| record[field].as_u64().unwrap();
        let candidates = (number("output_tokens") + number("reasoning_tokens")) / 24;
        // Each token is computed once, but the last of a candidate never: nothing is found again, guessed or done twice.
        assert_eq!(number("prefill_columns"), number("input_uncached_tokens"), "{record}");
        assert_eq!(number("decode_columns"), 23 * candidates, "{record}");
        for none in ["input_cached_tokens", "draft_accepted_tokens", "draft_rejected_tokens", "preemptions"] {
            assert_eq!(number(none), 0, "{none} in {record}");
        }
        // One state for each candidate, held no longer than the request was there.
        let held = number("kv_block_ns");
        assert!(held > 0 && held <= candidates * number("e2e_ns"), "{record}");
    }
}

#[test]
fn a_reader_that_leaves_frees_the_state() {
    let sandbox = sandbox();
    configure(&sandbox, "29KiB", "");
    let serving = Serving::start(&sandbox, &["mamba"]);
    assert!(serving.banner.contains("states of 1 sequence\n"), "{}", serving.banner);
    let body = json!({
        "model": "mamba", "prompt": "on and on", "max_tokens": 500_000, "ignore_eos": true, "stream": true
    });
    let address = serving.banner.split("http://").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let mut reader = TcpStream::connect(&address).unwrap();
    let (body, head) = (body.to_string(), "POST /v1/completions HTTP/1.1\r\nContent-Type: application/json");
    write!(reader, "{head}\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    reader.read_exact(&mut [0; 200]).unwrap();
    eventually("the state in use", || states_in_use(&serving) == 1);
    drop(reader);
    eventually("no state in use", || states_in_use(&serving) == 0);
    assert_eq!(answer(&serving, "mamba", "next?").1["completion_tokens"], 24);
}

#[test]
fn what_a_state_does_not_go_with_is_refused() {
    let sandbox = sandbox();
    configure(&sandbox, "28KiB", "");
    let small = sandbox.run(&["serve", "mamba", "--port", "0"]).bad(2);
    assert!(small.contains("each sequence needs 28.5 KiB for its state"), "{small}");
    configure(&sandbox, "60KiB", "draft_model = \"tiny.gguf\"\n");
    for refused in [sandbox.run(&["config", "check"]).bad(2), sandbox.run(&["serve", "mamba", "--port", "0"]).bad(2)] {
        assert!(refused.contains("keeps a state") && refused.contains("remove draft_model"), "{refused}");
    }
    let draft = "[models.tiny]\nsource = \"tiny.gguf\"\ndraft_model = \"mamba.gguf\"\n";
    sandbox.write("tokenworks.toml", draft);
    let refused = sandbox.run(&["serve", "tiny", "--port", "0"]).bad(2);
    assert!(refused.contains("models.tiny.draft_model") && refused.contains("keeps a state"), "{refused}");
}
