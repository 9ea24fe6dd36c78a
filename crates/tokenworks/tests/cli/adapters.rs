//! LoRA adapters beside their base in one server: chosen per request, loaded and unloaded by command.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::{TinyAdapter, TinyModel};

use crate::serving::Serving;
use crate::support::Sandbox;

/// A model with the adapter `first` (a folder) in its configuration, and the files of `second` and of one that fits no model.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let tiny = TinyModel { context_len: 8192, ..TinyModel::llama() };
    tiny.write(sandbox.path("a.gguf")).unwrap();
    std::fs::create_dir(sandbox.path("first")).unwrap();
    TinyAdapter::new(4, 1).write_folder(&tiny, sandbox.path("first")).unwrap();
    TinyAdapter::new(8, 2).writer(&tiny).unwrap().write(sandbox.path("second.gguf")).unwrap();
    let wider = TinyModel { feed_forward: 64, ..tiny };
    TinyAdapter::new(4, 3).writer(&wider).unwrap().write(sandbox.path("wider.gguf")).unwrap();
    sandbox.write(
        "tokenworks.toml",
        "[engine]\nmemory = \"20MiB\"\nkv_memory = \"16MiB\"\n[models.a]\nsource = \"a.gguf\"\naliases = [\"bee\"]\nload = \"start\"\n\
         adapters.first = \"first\"\n",
    );
    sandbox
}

fn complete(serving: &Serving, model: &str, max_tokens: u32) -> String {
    let body = json!({
        "model": model, "prompt": "once upon a time there was a long prompt", "max_tokens": max_tokens,
        "temperature": 0, "ignore_eos": true, "stream": max_tokens > 100
    });
    serving.request("POST /v1/completions", &body.to_string())
}

/// The answer's text.
fn text(serving: &Serving, model: &str) -> String {
    let answer = complete(serving, model, 24);
    assert!(answer.starts_with("HTTP/1.1 200"), "{model}: {answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let body: Value = serde_json::from_str(&body[body.find('{').unwrap()..=body.rfind('}').unwrap()]).unwrap();
    assert_eq!(body["model"], model);
    body["choices"][0]["text"].as_str().unwrap().to_owned()
}

fn adapters(sandbox: &Sandbox) -> Value {
    sandbox.run(&["models", "adapter", "list", "a", "--json"]).json()
}

/// What the running server says of the model.
fn shown(sandbox: &Sandbox) -> Value {
    let rows = sandbox.run(&["models", "--json"]).json();
    rows.as_array().unwrap().iter().find(|row| row["name"] == "a").unwrap()["served"].clone()
}

fn weight_bytes(sandbox: &Sandbox) -> u64 {
    shown(sandbox)["weight_bytes"].as_u64().unwrap()
}

#[test]
fn two_adapters_and_the_base_are_served_at_once() {
    let sandbox = sandbox();
    let serving = Serving::start(&sandbox, &[]);
    let before = weight_bytes(&sandbox);
    assert!(
        sandbox.run(&["models", "adapter", "load", "a", "second", "second.gguf"]).good().contains("second: loaded")
    );
    assert!(weight_bytes(&sandbox) > before, "its weights count");
    let listed = serving.request("GET /v1/models", "");
    for name in ["\"a:first\"", "\"a:second\"", "\"bee:second\"", "\"parent\":\"a\""] {
        assert!(listed.contains(name), "{name} in {listed}");
    }
    let names = ["a", "a:first", "a:second"];
    let alone = names.map(|name| text(&serving, name));
    assert!(alone[0] != alone[1] && alone[1] != alone[2] && alone[0] != alone[2], "{alone:?}");
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..9)
            .map(|i| {
                (
                    i,
                    scope.spawn({
                        let serving = &serving;
                        move || text(serving, names[i % 3])
                    }),
                )
            })
            .collect();
        for (i, answer) in asked {
            assert_eq!(answer.join().unwrap(), alone[i % 3], "{}", names[i % 3]);
        }
    });
    let metrics = serving.request("GET /metrics", "");
    assert!(metrics.contains("tokenworks_output_tokens_total{model=\"a:first\",kind=\"visible\"}"), "{metrics}");
    for (model, words) in
        [("a:none", "it has: first, second"), ("bee:none", "the model `a`"), ("none:first", "not served here")]
    {
        let unknown = complete(&serving, model, 2);
        assert!(unknown.starts_with("HTTP/1.1 404") && unknown.contains(words), "{model}: {unknown}");
    }
}

#[test]
fn adapters_that_cannot_be_are_refused_and_the_others_go_on() {
    let sandbox = sandbox();
    // All weights may take 4 MiB beside the caches.
    let large = TinyAdapter::new(1024, 4).writer(&TinyModel::llama()).unwrap();
    large.write(sandbox.path("large.gguf")).unwrap();
    std::fs::write(sandbox.path("secret.txt"), "hunter2 is a password\n").unwrap();
    let serving = Serving::start(&sandbox, &[]);
    for (name, path, words) in [
        ("large", "large.gguf", "a:large does not fit into memory"),
        ("wider", "wider.gguf", "ffn_gate.weight.lora_b"),
        ("model", "a.gguf", "general.type"),
        ("gone", "gone.gguf", "cannot find the adapter"),
        ("../x", "second.gguf", "no name for an adapter"),
        ("first", "second.gguf", "is there already"),
        ("other", "secret.txt", "not a GGUF file"),
    ] {
        let refused = sandbox.run(&["models", "adapter", "load", "a", name, path]);
        assert!(refused.stderr.contains(words), "{name}: {refused:?}");
        assert!(!refused.stderr.contains("hunt"), "what is in a file that is no adapter is not told: {refused:?}");
    }
    let as_model = sandbox.run(&["run", "Hi", "--raw", "-m", "./second.gguf"]).bad(2);
    assert!(as_model.contains("is an adapter, no model") && as_model.contains("--adapter"), "{as_model}");
    assert_eq!(adapters(&sandbox).as_array().unwrap().len(), 1);
    assert!(sandbox.run(&["models", "adapter", "unload", "a", "none"]).stderr.contains("it has: first"));
    text(&serving, "a:first");
    // It comes back with its model.
    sandbox.run(&["models", "unload", "a"]).good();
    assert_eq!(adapters(&sandbox)[0]["state"], "unloaded");
    text(&serving, "a:first");
    assert_eq!(adapters(&sandbox)[0]["state"], "loaded");
}

#[test]
fn unloading_lets_answers_under_way_end() {
    let sandbox = sandbox();
    let serving = Serving::start(&sandbox, &[]);
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| complete(&serving, "a:first", 4000));
        for _ in 0..400 {
            if shown(&sandbox)["running"] == 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let unload = scope.spawn(|| sandbox.run(&["models", "adapter", "unload", "a", "first"]).good());
        let mut refused = complete(&serving, "a:first", 2);
        for _ in 0..200 {
            if refused.starts_with("HTTP/1.1 404") {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            refused = complete(&serving, "a:first", 2);
        }
        assert!(refused.starts_with("HTTP/1.1 404") && refused.contains("it has none"), "{refused}");
        text(&serving, "a");
        let stream = stream.join().unwrap();
        assert!(stream.contains("\"finish_reason\":\"length\"") && stream.contains("[DONE]"), "it went on to its end");
        unload.join().unwrap();
    });
    assert_eq!(adapters(&sandbox), json!([]));
}

#[test]
fn run_and_chat_take_an_adapter_by_name_or_path() {
    let sandbox = sandbox();
    let arguments = ["run", "hello", "--raw", "-m", "a", "--temperature", "0", "--max-tokens", "12", "--json"];
    let run = |more: &[&str]| sandbox.run(&[&arguments[..], more].concat()).json();
    let (base, first, second) = (run(&[]), run(&["--adapter", "first"]), run(&["--adapter", "./second.gguf"]));
    assert!(base["text"] != first["text"] && first["text"] != second["text"], "{base} {first} {second}");
    assert_eq!((&first["model"], &second["model"]), (&json!("a:first"), &json!("a:second")));
    assert_eq!((&first["usage"]["model"], &first["usage"]["base"]), (&json!("a:first"), &json!("a")));
    assert_eq!(run(&["--adapter", "first"])["text"], first["text"]);
    let fails = |adapter: &str| sandbox.run(&[&arguments[..], &["--adapter", adapter]].concat());
    assert!(fails("none").bad(2).contains("a has no adapter \"none\", and there is no such file or folder"));
    assert!(fails("wider.gguf").bad(1).contains("ffn_gate.weight.lora_b"));
    let talk = |more: &[&str]| {
        let arguments = [&["chat", "a", "--temperature", "0", "--max-tokens", "12"], more].concat();
        sandbox.run_with_input(&arguments, "hello\n").good()
    };
    assert_ne!(talk(&[]), talk(&["--adapter", "first"]));
}

#[test]
fn a_broken_adapter_of_the_configuration_is_told_before_and_at_the_start() {
    let sandbox = sandbox();
    std::fs::remove_file(sandbox.path("first/adapter_model.safetensors")).unwrap();
    let checked = sandbox.run(&["config", "check"]).bad(2);
    assert!(
        checked.contains("models.a.adapters.first") && checked.contains("has no adapter_model.safetensors"),
        "{checked}"
    );
    let served = sandbox.run(&["serve", "--port", "0"]).bad(1);
    assert!(served.contains("as the adapter a:first"), "{served}");
}
