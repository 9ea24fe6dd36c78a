//! A draft model beside the model: checked at the start, shown, and without effect on what is answered.

use std::path::Path;

use test_support::TinyModel;

use crate::serving::Serving;
use crate::support::Sandbox;

/// A sandbox with `tiny.gguf`, `small.gguf` of the same tokens, and `other.gguf` in which one token is another.
fn sandbox() -> Sandbox {
    let sandbox = crate::tiny_model::sandbox();
    let small = TinyModel { layers: 1, seed: 9, context_len: 256, ..TinyModel::llama() };
    small.write(sandbox.path("small.gguf")).unwrap();
    let mut other = std::fs::read(sandbox.path("small.gguf")).unwrap();
    let at = other.windows(7).position(|bytes| bytes == b"<think>").unwrap();
    other[at..at + 7].copy_from_slice(b"<thank>");
    sandbox.write("other.gguf", other);
    sandbox.write("text.gguf", "no model");
    std::fs::copy(sandbox.path("tiny.gguf"), sandbox.path("same.gguf")).unwrap();
    std::fs::create_dir(sandbox.path("sub")).unwrap();
    sandbox
}

fn configure(sandbox: &Sandbox, speculation: &str, draft: &str) {
    sandbox.write(
        "tokenworks.toml",
        format!(
            "[engine]\nspeculation = \"{speculation}\"\n[models.tiny]\nsource = \"tiny.gguf\"\nkv_memory = \"1MiB\"\n\
             draft_model = \"{draft}\"\n"
        ),
    );
}

#[test]
fn what_cannot_guess_is_refused_by_name() {
    let sandbox = sandbox();
    for (draft, code, parts) in [
        ("gone.gguf", 1, vec!["there is no file ./gone.gguf"]),
        ("nothing", 2, vec!["unknown model \"nothing\""]),
        ("tiny", 2, vec!["tiny is the model tiny itself", "name a smaller model of the same family"]),
        ("./sub/../tiny.gguf", 2, vec!["tiny.gguf is the model tiny itself"]),
        ("text.gguf", 1, vec!["cannot use the model file ./text.gguf"]),
        (
            "other.gguf",
            2,
            vec![
                "./other.gguf cannot guess for tiny",
                "token 3 is \"<thank>\", the model's is \"<think>\"",
                "same family",
            ],
        ),
    ] {
        configure(&sandbox, "auto", draft);
        for command in [vec!["config", "check"], vec!["serve", "tiny", "--port", "0"]] {
            let error = sandbox.run(&command).bad(code);
            for part in [&["models.tiny.draft_model: "], parts.as_slice()].concat() {
                assert!(error.contains(part), "{command:?} {draft}: {part} in {error}");
            }
        }
    }
}

#[test]
fn it_is_looked_at_before_the_model_is_fetched() {
    let sandbox = sandbox();
    let configure = |draft: &str| {
        let source = "hf:nobody/nothing/far.gguf";
        let text = format!("[models.far]\nsource = \"{source}\"\ndraft_model = \"{draft}\"\n");
        sandbox.write("tokenworks.toml", text);
    };
    for draft in ["gone.gguf", "text.gguf"] {
        configure(draft);
        assert!(sandbox.run(&["config", "check"]).bad(1).contains("models.far.draft_model: "), "{draft}");
    }
    configure("small.gguf");
    let shown = sandbox.run(&["config", "check"]).good();
    assert!(shown.contains("draft model small: its memory is not checked"), "{shown}");
}

#[test]
fn its_memory_is_checked_and_shown() {
    let sandbox = sandbox();
    configure(&sandbox, "auto", "small.gguf");
    let report = sandbox.run(&["config", "check", "--json"]).json();
    let model = report["models"].as_array().unwrap().iter().find(|model| model["name"] == "tiny").unwrap();
    let (name, path) = (&model["draft"]["name"], model["draft"]["path"].as_str().unwrap());
    assert_eq!((name.as_str(), Path::new(path).file_name().unwrap().to_str()), (Some("small"), Some("small.gguf")));
    assert_eq!(model["draft"]["kv_bytes"].as_u64().unwrap() * 2, 1 << 20, "as many tokens, half the layers");
    assert!(sandbox.run(&["config", "check"]).good().contains("KV cache 512.0 KiB"));
    let weights = std::fs::metadata(sandbox.path("small.gguf")).unwrap().len();
    assert_eq!(model["draft"]["weight_bytes"].as_u64(), Some(weights));
    configure(&sandbox, "off", "gone.gguf");
    let report = sandbox.run(&["config", "check", "--json"]).json();
    assert!(report["warnings"].to_string().contains("models.tiny.draft_model is not used"), "{report}");
}

#[test]
fn answers_are_the_same_with_it() {
    let sandbox = sandbox();
    let mut answers = Vec::new();
    for (speculation, draft) in [("off", "small.gguf"), ("auto", "small.gguf"), ("auto", "same.gguf")] {
        configure(&sandbox, speculation, draft);
        let serving = Serving::start(&sandbox, &["tiny"]);
        assert_eq!(serving.banner.contains("  draft      "), speculation == "auto", "{}", serving.banner);
        let ask = |temperature: &str| {
            let body = format!(
                "{{\"model\":\"tiny\",\"prompt\":\"hello the world\",\"max_tokens\":90,\"temperature\":{temperature},\"seed\":3}}"
            );
            let answer = serving.request("POST /v1/completions", &body);
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            let body = answer.split("\r\n\r\n").nth(1).unwrap();
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            body["choices"][0]["text"].as_str().unwrap().to_owned()
        };
        answers.push([ask("0"), ask("0.9")]);
        let metrics = serving.request("GET /metrics", "");
        let idle = metrics.contains("tokenworks_draft_seconds_total{model=\"tiny\"} 0\n");
        assert_eq!(idle, speculation == "off", "{metrics}");
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}
