//! The commands on the two reference models. Set TOKENWORKS_TEST_MODELS to a folder that holds `smollm2-135m.gguf` and
//! `gemma3-270m.gguf`.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/reference");

fn model(name: &str) -> String {
    let folder = std::env::var("TOKENWORKS_TEST_MODELS");
    assert!(folder.is_ok(), "set TOKENWORKS_TEST_MODELS to the folder of the reference models");
    let path = PathBuf::from(folder.unwrap()).join(format!("{name}.gguf"));
    assert!(path.is_file(), "there is no {}", path.display());
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

fn reference(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(format!("{REFERENCE}/{name}.json")).unwrap()).unwrap()
}

/// Standard output of the program, in a home folder of its own.
fn run(arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tokenworks"))
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .current_dir(home.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn quantize_leaves_nothing_when_it_is_stopped() {
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tokenworks"))
        .args(["quantize", &model("smollm2-135m"), "--to", "q6_k", "--allow-requantize", "--out", "out.gguf"])
        .env_clear()
        .env("HOME", home.path())
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let written = || {
        let files = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap());
        files.filter(|entry| entry.file_name().to_string_lossy().starts_with("out.gguf")).collect::<Vec<_>>()
    };
    // Its header and some of its tensors are there: the signal is caught by then.
    while written().iter().all(|entry| entry.metadata().map_or(0, |metadata| metadata.len()) < 4 << 20) {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be stopped");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(written().is_empty(), "{:?}", written());
}

#[test]
fn tokenize_shows_the_pieces_of_the_mission() {
    let shown = run(&["tokenize", "darkness brightness 黑暗", "-m", &model("smollm2-135m")]);
    let mut lines = shown.lines();
    assert_eq!(lines.next().unwrap(), "dark|ness| brightness| <e9>|<bb>|<91>|<e6>|<9a>|<97>");
    assert_eq!(lines.next().unwrap(), "23743 924 19050 30866 136 235 177 244 241");
}

#[test]
fn tokenize_agrees_with_the_reference() {
    for name in ["smollm2-135m", "gemma3-270m"] {
        let reference = reference(name);
        let cases = reference["tokenizer_cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases.iter().take(5) {
            let shown = run(&["tokenize", case["text"].as_str().unwrap(), "-m", &model(name), "--json"]);
            let shown: Value = serde_json::from_str(&shown).unwrap();
            let ids: Vec<&Value> = shown["tokens"].as_array().unwrap().iter().map(|t| &t["id"]).collect();
            assert_eq!(ids, case["ids"].as_array().unwrap().iter().collect::<Vec<_>>(), "{name}: {}", case["text"]);
        }
    }
}

#[test]
fn a_greedy_run_gives_the_reference_answer() {
    for name in ["smollm2-135m", "gemma3-270m"] {
        let reference = reference(name);
        let case = &reference["completions"][0];
        let prompt = case["prompt"].as_str().unwrap();
        let answer = run(&["run", "--raw", prompt, "-m", &model(name), "--temperature", "0", "--max-tokens", "8"]);
        let expected = case["text"].as_str().unwrap();
        let start = answer.trim_end_matches('\n');
        assert!(!start.is_empty() && expected.starts_with(start), "{name}: {answer} is not the start of {expected}");
    }
}

#[test]
fn perplexity_of_the_first_windows() {
    let reference = reference("perplexity");
    let text = format!("{REFERENCE}/jargon.txt");
    for name in ["smollm2-135m", "gemma3-270m"] {
        let report = run(&["eval", "perplexity", &model(name), &text, "--chunks", "2", "--json"]);
        let report: Value = serde_json::from_str(&report).unwrap();
        let expected = reference[name]["cumulative"][1].as_f64().unwrap();
        let perplexity = report["perplexity"].as_f64().unwrap();
        // Engines round differently; over few windows that shows more than over the twenty of the parity report.
        let off = (perplexity / expected - 1.0).abs();
        assert!(off < 0.02, "{name}: {perplexity} is {:.2} % off {expected}", 100.0 * off);
    }
}
