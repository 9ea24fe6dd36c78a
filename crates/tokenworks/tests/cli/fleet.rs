//! Several models under one memory: loaded when asked for, unloaded for others, by command and when idle.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::TinyModel;

use crate::serving::Serving;
use crate::support::Sandbox;

/// Two models, `a` and `b` (also `bee`), with KV caches of which the memory has room for one.
fn sandbox(load: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    for file in ["a.gguf", "b.gguf"] {
        let mut model = TinyModel::llama();
        model.context_len = 8192;
        model.write(sandbox.path(file)).unwrap();
    }
    let model = |name: &str, more: &str| format!("[models.{name}]\nsource = \"{name}.gguf\"\n{load}{more}");
    let engine = "[engine]\nmemory = \"48MiB\"\nkv_memory = \"32MiB\"\n";
    let (a, b) = (model("a", ""), model("b", "aliases = [\"bee\"]\n"));
    sandbox.write("tokenworks.toml", format!("{engine}{a}{b}"));
    sandbox
}

const ON_DEMAND: &str = "load = \"demand\"\n";

fn complete(serving: &Serving, model: &str, max_tokens: u32) -> String {
    let body = json!({
        "model": model, "prompt": "a", "max_tokens": max_tokens, "ignore_eos": true, "stream": max_tokens > 100
    });
    serving.request("POST /v1/completions", &body.to_string())
}

/// A model that was just asked may count as in use for a moment: then another is asked for again.
fn served(serving: &Serving, model: &str) {
    let good = |answer: &str| answer.starts_with("HTTP/1.1 200");
    let mut answer = complete(serving, model, 2);
    for _ in 0..200 {
        if good(&answer) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        answer = complete(serving, model, 2);
    }
    assert!(good(&answer), "{model}: {answer}");
}

/// What the running server says of a model.
pub(crate) fn shown(sandbox: &Sandbox, model: &str) -> Value {
    let rows = sandbox.run(&["models", "--json"]).json();
    rows.as_array().unwrap().iter().find(|row| row["name"] == model).unwrap()["served"].clone()
}

fn states(sandbox: &Sandbox) -> [String; 2] {
    ["a", "b"].map(|model| shown(sandbox, model)["state"].as_str().unwrap().to_owned())
}

/// Waits until something is so of a model.
pub(crate) fn eventually(sandbox: &Sandbox, model: &str, check: impl Fn(&Value) -> bool) {
    let mut last = shown(sandbox, model);
    for _ in 0..400 {
        if check(&last) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        last = shown(sandbox, model);
    }
    assert!(check(&last), "never: {last}");
}

#[test]
fn models_are_loaded_on_demand_and_leave_for_each_other() {
    let sandbox = sandbox(ON_DEMAND);
    let serving = Serving::start(&sandbox, &[]);
    assert!(serving.banner.contains("loaded when asked for: a, b"), "{}", serving.banner);
    let listed = serving.request("GET /v1/models", "");
    assert!(listed.contains("\"a\"") && listed.contains("\"bee\"") && listed.contains("8192"), "{listed}");
    assert!(serving.request("GET /ready", "").starts_with("HTTP/1.1 200"));
    assert_eq!(states(&sandbox), ["unloaded", "unloaded"]);

    served(&serving, "a");
    assert_eq!(states(&sandbox), ["loaded", "unloaded"]);
    let a = shown(&sandbox, "a");
    assert_eq!((&a["kv_bytes"], a["weight_bytes"].as_u64() > Some(0)), (&json!(32 << 20), true), "{a}");
    served(&serving, "bee");
    assert_eq!(states(&sandbox), ["unloaded", "loaded"]);
    assert_eq!(shown(&sandbox, "a")["kv_bytes"], 0);
    // What the unloaded one has done is still counted.
    let metrics = serving.request("GET /metrics", "");
    assert!(metrics.contains("tokenworks_output_tokens_total{model=\"a\",kind=\"visible\"} 2"), "{metrics}");

    // A pinned one stays, and the arithmetic says so.
    assert!(sandbox.run(&["models", "pin", "bee"]).good().contains("b: loaded"));
    let refused = complete(&serving, "a", 2);
    assert!(refused.starts_with("HTTP/1.1 503") && refused.to_lowercase().contains("retry-after"), "{refused}");
    let by_command = sandbox.run(&["models", "load", "a"]).bad(1);
    for part in ["a does not fit into memory", "32.0 MiB of KV cache", "48.0 MiB", "(pinned)"] {
        assert!(refused.contains(part) && by_command.contains(part), "{part} in {refused}\n{by_command}");
    }
    assert_eq!(states(&sandbox), ["unloaded", "loaded"]);
    assert!(!sandbox.run(&["models", "unpin", "b"]).good().contains("pinned"));
    served(&serving, "a");
    assert_eq!(states(&sandbox), ["loaded", "unloaded"]);

    assert_eq!(sandbox.run(&["models", "unload", "a"]).good(), "a: unloaded\n");
    assert!(sandbox.run(&["models", "load", "b"]).good().starts_with("b: loaded, 3"));
    assert_eq!(states(&sandbox), ["unloaded", "loaded"]);
    let table = sandbox.run(&["models"]);
    assert!(table.stdout.contains("SERVER") && table.stderr.contains("of 48.0 MiB"), "{table:?}");
    assert!(sandbox.run(&["models", "load", "none"]).bad(2).contains("`none` is not served here"));
}

#[test]
fn first_requests_that_come_together_load_a_model_once() {
    let sandbox = sandbox(ON_DEMAND);
    let serving = Serving::start(&sandbox, &["--log-format", "json"]);
    std::thread::scope(|scope| {
        let requests: Vec<_> = (0..6).map(|_| scope.spawn(|| complete(&serving, "a", 2))).collect();
        for request in requests {
            let answer = request.join().unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    });
    #[cfg(unix)]
    {
        let (code, log) = serving.terminate();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let loads = lines.filter(|line| line["message"] == "loaded" && line["model"] == "a").count();
        assert_eq!((code, loads), (Some(0), 1), "{log}");
    }
}

#[test]
fn unloading_lets_an_answer_under_way_end() {
    let sandbox = sandbox(ON_DEMAND);
    let serving = Serving::start(&sandbox, &[]);
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| complete(&serving, "a", 6000));
        eventually(&sandbox, "a", |shown| shown["running"] == 1);
        assert_eq!(sandbox.run(&["models", "unload", "a"]).good(), "a: unloaded\n");
        let answer = stream.join().unwrap();
        assert!(answer.contains("\"finish_reason\":\"length\"") && answer.contains("data: [DONE]"), "cut off");
    });
    // The next one loads it again.
    served(&serving, "a");
}

#[test]
fn models_that_do_not_fit_together_are_refused_before_any_is_loaded() {
    let sandbox = sandbox("");
    let error = sandbox.run(&["serve", "a", "b", "--port", "0"]).bad(2);
    for part in
        ["b does not fit into memory", "32.0 MiB of KV cache", "may take 48.0 MiB", "a ", "engine.memory higher"]
    {
        assert!(error.contains(part), "{part} in {error}");
    }
    // By arithmetic each gets its part.
    sandbox.write("tokenworks.toml", "[engine]\nmemory = \"48MiB\"\n");
    let serving = Serving::start(&sandbox, &["a.gguf", "b.gguf"]);
    let kv = ["a", "b"].map(|model| shown(&sandbox, model)["kv_bytes"].as_u64().unwrap());
    assert!(kv.iter().all(|kv| *kv >= 1 << 20) && kv.iter().sum::<u64>() <= 48 << 20, "{kv:?}");
    drop(serving);
}

#[test]
fn an_idle_model_is_unloaded_and_comes_back() {
    let sandbox = sandbox("");
    let configuration = std::fs::read_to_string(sandbox.path("tokenworks.toml")).unwrap();
    let idle = configuration.replace("[engine]\n", "[engine]\nunload_idle_seconds = 0.3\n");
    sandbox.write("tokenworks.toml", &idle);
    let serving = Serving::start(&sandbox, &["a"]);
    eventually(&sandbox, "a", |shown| shown["state"] == "unloaded");
    assert!(serving.request("GET /ready", "").starts_with("HTTP/1.1 200"), "it comes back when it is asked for");
    served(&serving, "a");
    drop(serving);
    sandbox.write("tokenworks.toml", idle.replace("[models.a]\n", "[models.a]\npinned = true\n"));
    let _serving = Serving::start(&sandbox, &["a"]);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(shown(&sandbox, "a")["state"], "loaded");
}

#[test]
fn the_context_is_the_same_before_a_model_is_loaded_and_after() {
    let sandbox = sandbox(ON_DEMAND);
    // A cache of less than the context of 8192 tokens.
    let file = std::fs::read_to_string(sandbox.path("tokenworks.toml")).unwrap();
    sandbox.write("tokenworks.toml", file.replace("kv_memory = \"32MiB\"", "kv_memory = \"1MiB\""));
    let serving = Serving::start(&sandbox, &[]);
    let told = |serving: &Serving| {
        let answer = serving.request("GET /v1/models/a", "");
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        body["max_model_len"].as_u64().unwrap()
    };
    let before = told(&serving);
    assert!(before < 8192, "{before}");
    served(&serving, "a");
    assert_eq!(told(&serving), before);
    sandbox.run(&["models", "unload", "a"]).good();
    assert_eq!(told(&serving), before);
}

#[test]
fn a_broken_model_fails_alone() {
    let sandbox = sandbox(ON_DEMAND);
    let whole = std::fs::read(sandbox.path("a.gguf")).unwrap();
    sandbox.write("a.gguf", &whole[..whole.len() / 2]);
    let serving = Serving::start(&sandbox, &[]);
    let answer = complete(&serving, "a", 2);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("model_failed"), "{answer}");
    assert!(!answer.contains("a.gguf"), "files are the operator's: {answer}");
    let a = shown(&sandbox, "a");
    assert_eq!((&a["state"], a["reason"].as_str().unwrap().contains("a.gguf")), (&json!("failed"), true), "{a}");
    served(&serving, "b");
    // Mended, it is loaded by command at once.
    sandbox.write("a.gguf", &whole);
    sandbox.run(&["models", "unload", "b"]).good();
    assert!(sandbox.run(&["models", "load", "a"]).good().starts_with("a: loaded"));
    served(&serving, "a");
}

#[test]
fn commands_on_models_need_a_server() {
    let sandbox = sandbox(ON_DEMAND);
    let error = sandbox.run(&["models", "load", "a"]).bad(1);
    assert!(error.contains("no server runs here") && error.contains("--data-dir"), "{error}");
    let rows = sandbox.run(&["models", "--json"]).json();
    assert!(rows.as_array().unwrap().iter().all(|row| row.get("served").is_none()), "{rows}");
}
