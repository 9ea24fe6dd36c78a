//! Commands that use a model, on a tiny generated one.

use std::process::Stdio;

use serde_json::Value;
use test_support::TinyModel;

use crate::support::{Sandbox, text};

/// A sandbox with `tiny.gguf` in it.
pub(crate) fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    model().write(sandbox.path("tiny.gguf")).unwrap();
    sandbox
}

fn model() -> TinyModel {
    let mut model = TinyModel::llama();
    model.context_len = 512;
    model
}

/// A sandbox whose `base.gguf` has no chat template.
fn base_model() -> Sandbox {
    let sandbox = Sandbox::new();
    let mut model = model();
    model.chat_template = None;
    model.write(sandbox.path("base.gguf")).unwrap();
    sandbox
}

fn bytes(tokens: &Value) -> Vec<u8> {
    let bytes = |t: &Value| t["bytes"].as_array().unwrap().clone();
    tokens.as_array().unwrap().iter().flat_map(bytes).map(|b| u8::try_from(b.as_u64().unwrap()).unwrap()).collect()
}

#[test]
fn tokens_make_up_the_text() {
    let sandbox = sandbox();
    let text = "darkness, brightness 黑暗\n";
    let shown = sandbox.run(&["tokenize", text, "-m", "tiny.gguf", "--json"]).json();
    assert_eq!(bytes(&shown["tokens"]), text.as_bytes());
    assert_eq!(shown["count"], shown["tokens"].as_array().unwrap().len());
    assert_eq!(sandbox.run_with_input(&["tokenize", "-m", "tiny.gguf", "--json"], text).json(), shown);
    // For people: pieces in the first line, ids in the second.
    let plain = sandbox.run(&["tokenize", "ab", "-m", "tiny.gguf"]).good();
    let lines: Vec<&str> = plain.lines().collect();
    assert_eq!(lines[0].replace('|', ""), "ab");
    assert_eq!(lines[1].split(' ').count(), lines[0].split('|').count());
}

#[test]
fn no_text_has_no_tokens() {
    let sandbox = sandbox();
    let ended = sandbox.run(&["tokenize", "", "-m", "tiny.gguf"]);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", "0 tokens\n"));
    assert_eq!(sandbox.run_with_input(&["tokenize", "-m", "tiny.gguf"], "").good(), "");
    let json = sandbox.run(&["tokenize", "", "-m", "tiny.gguf", "--json"]).json();
    assert_eq!((&json["model"], &json["count"], &json["tokens"]), (&"tiny".into(), &0.into(), &Value::Array(vec![])));
}

#[test]
fn special_tokens_are_read_only_when_asked_for() {
    let sandbox = sandbox();
    let special = |more: &[&str]| {
        let arguments = [&["tokenize", "a<|im_end|>", "-m", "tiny.gguf", "--json"], more].concat();
        let shown = sandbox.run(&arguments).json();
        shown["tokens"].as_array().unwrap().iter().filter(|t| t["special"] == true).count()
    };
    assert_eq!(special(&[]), 0);
    assert_eq!(special(&["--parse-special"]), 1);
}

#[test]
fn run_prints_only_the_text() {
    let sandbox = sandbox();
    let arguments = ["run", "hello", "-m", "tiny.gguf", "--temperature", "0", "--max-tokens", "5"];
    let plain = sandbox.run(&arguments).good();
    let json = sandbox.run(&[&arguments[..], &["--json"]].concat()).json();
    assert_eq!(plain.trim_end_matches('\n'), json["text"].as_str().unwrap().trim_end_matches('\n'));
    assert_eq!(json["model"], "tiny");
    assert_eq!(json["usage"]["outcome"], "ok");
    assert!((1..=5).contains(&json["usage"]["output_tokens"].as_u64().unwrap()), "{json}");
    assert!(json["usage"]["input_uncached_tokens"].as_u64().unwrap() > 5, "the template adds tokens: {json}");
}

#[test]
fn run_composes_in_pipes() {
    let sandbox = sandbox();
    let input = |argument: &[&str], input: &str| {
        let arguments = [&["run", "--raw", "-m", "tiny.gguf", "--max-tokens", "1", "--json"], argument].concat();
        sandbox.run_with_input(&arguments, input).json()["usage"]["input_uncached_tokens"].as_u64().unwrap()
    };
    let (alone, both) = (input(&[], "some text\n"), input(&["Sum up:"], "some text\n"));
    assert!(both > alone, "{both} {alone}");
    assert!(sandbox.run(&["run", "-m", "tiny.gguf"]).bad(2).contains("there is no prompt"));
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let sandbox = sandbox();
    let answer = |seed: &str| {
        let arguments = ["run", "hello", "-m", "tiny.gguf", "--temperature", "2", "--max-tokens", "20", "--seed", seed];
        sandbox.run(&arguments).good()
    };
    assert_eq!(answer("1"), answer("1"));
    assert_ne!(answer("1"), answer("2"));
}

#[test]
fn wrong_sampling_names_the_field() {
    let sandbox = sandbox();
    let error = sandbox.run(&["run", "x", "-m", "tiny.gguf", "--temperature", "NaN"]).bad(2);
    assert!(error.contains("temperature"), "{error}");
    let long = "x ".repeat(2000);
    assert!(sandbox.run(&["run", &long, "-m", "tiny.gguf"]).bad(2).contains("shorten the prompt"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = sandbox();
    let mut child = sandbox
        .command(&["run", "hello", "-m", "tiny.gguf", "--temperature", "2", "--max-tokens", "300"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn chat_from_a_pipe() {
    let sandbox = sandbox();
    let arguments = ["chat", "tiny.gguf", "--temperature", "0", "--max-tokens", "4", "--system", "Be brief."];
    let ended = sandbox.run_with_input(&arguments, "hello\n\n/help\nagain\n/reset\nhello\n/exit\nnever\n");
    let usage: Vec<&str> = ended.stderr.lines().filter(|l| l.contains("tokens in")).collect();
    assert_eq!(usage.len(), 3, "{ended:?}");
    assert!(usage[1].contains("cached"), "the talk so far is shared: {usage:?}");
    // After the reset the first question is the first again.
    let tokens_in = |line: &str| line.split(' ').next().unwrap().to_owned();
    assert_eq!(tokens_in(usage[0]), tokens_in(usage[2]));
    assert!(ended.stderr.contains("/reset") && !ended.stderr.contains("never"));
    ended.good();
}

#[test]
fn a_base_model_chats_only_with_a_configured_template() {
    let sandbox = base_model();
    let arguments = ["chat", "base.gguf", "--max-tokens", "2"];
    let error = sandbox.run_with_input(&arguments, "hello\n").bad(2);
    assert!(error.contains("no chat template") && error.contains("chat_template_file"), "{error}");
    // `run` goes on from the text as it is then, and says so beside the answer.
    let arguments = ["run", "hello", "-m", "base.gguf", "--max-tokens", "2", "--temperature", "0"];
    let answer = sandbox.run(&arguments);
    assert_eq!(answer.stderr.matches("no chat template").count(), 1, "{answer:?}");
    let raw = sandbox.run(&[&arguments[..], &["--raw"]].concat());
    assert_eq!((&answer.stdout, raw.stderr.as_str()), (&raw.stdout, ""));
    let json = sandbox.run(&[&arguments[..], &["--json"]].concat());
    assert_eq!(json.stderr, "");
    assert_eq!(json.json()["raw"], true);
    assert!(sandbox.run(&["run", "x", "-m", "base.gguf", "--system", "y"]).bad(2).contains("--system"));
    sandbox.write("t.jinja", "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}");
    sandbox.write("tokenworks.toml", "[models.base]\nsource = \"base.gguf\"\nchat_template_file = \"t.jinja\"\n");
    let ended = sandbox.run_with_input(&["chat", "base", "--max-tokens", "2"], "hello\n");
    assert!(ended.stderr.contains("tokens in"), "{ended:?}");
    ended.good();
}

#[test]
fn perplexity_follows_the_convention() {
    let sandbox = sandbox();
    let file = sandbox.write("text.txt", "The quick brown fox jumps over the lazy dog. ".repeat(40));
    let file = text(&file);
    let report = |more: &[&str]| {
        sandbox.run(&[&["eval", "perplexity", "tiny.gguf", file, "--ctx", "64", "--json"], more].concat()).json()
    };
    let whole = report(&[]);
    let windows = whole["windows"].as_u64().unwrap();
    assert!(windows > 3, "{whole}");
    assert_eq!(whole["tokens_scored"], windows * (64 - 32 - 1));
    let cumulative = whole["cumulative"].as_array().unwrap();
    assert_eq!(cumulative.last(), Some(&whole["perplexity"]));
    // Weights that know nothing foresee nothing: the figure is of the order of the vocabulary.
    let perplexity = whole["perplexity"].as_f64().unwrap();
    assert!(perplexity > 10.0 && perplexity.is_finite(), "{perplexity}");
    let eight_bits = report(&["--kv-type", "q8_0"])["perplexity"].as_f64().unwrap();
    assert!(eight_bits != perplexity && (eight_bits / perplexity - 1.0).abs() < 0.02, "{eight_bits} {perplexity}");
    let first = report(&["--chunks", "2"]);
    assert_eq!((&first["windows"], &first["perplexity"]), (&Value::from(2), &cumulative[1]));
}

#[test]
fn perplexity_refuses_what_cannot_be_scored() {
    let sandbox = sandbox();
    let file = sandbox.write("text.txt", "short");
    for (arguments, part) in [
        (vec![text(&file)], "fewer than one window of 512"),
        (vec![text(&file), "--ctx", "1024"], "has a context of 512"),
        (vec!["none.txt"], "cannot read the text none.txt"),
        (vec!["tiny.gguf"], "UTF-8"),
    ] {
        let error = sandbox.run(&[&["eval", "perplexity", "tiny.gguf"], &arguments[..]].concat()).bad(2);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}

#[test]
fn bench_reports_every_measurement() {
    let sandbox = sandbox();
    let small = ["--decode-tokens", "3", "--repetitions", "1"];
    let lists = ["--prompt", "40,70", "--depth", "0,100", "--sequences", "1,8", "--sequences-depth", "33"];
    let command = [&["bench", "tiny.gguf", "--threads", "2", "--json"], &small[..], &lists[..]].concat();
    let report = sandbox.run(&command).json();
    assert_eq!(report["threads"], 2);
    let rows = report["rows"].as_array().unwrap();
    let works: Vec<[Option<u64>; 3]> =
        rows.iter().map(|row| ["prompt", "sequences", "depth"].map(|key| row[key].as_u64())).collect();
    let decode = |sequences, depth| [None, Some(sequences), Some(depth)];
    let prefill = |prompt| [Some(prompt), None, None];
    assert_eq!(works, [prefill(40), prefill(70), decode(1, 0), decode(1, 100), decode(1, 33), decode(8, 33)]);
    for row in rows {
        assert!(row["tokens_per_second"].as_f64().unwrap() > 0.0, "{report}");
        assert!(row["share_of_limit"].as_f64().unwrap() > 0.0, "{report}");
        let one = row["sequences"] == 1;
        assert_eq!(row["limit"], if one { "memory_bandwidth" } else { "integer_peak" }, "{report}");
    }
    for limit in ["memory_bytes_per_second", "integer_operations_per_second"] {
        assert!(report["machine"][limit].as_f64().unwrap() > 1e6, "{report}");
    }
    assert_eq!((&report["kv_type"], &report["kv_bytes_per_token"]), (&"f16".into(), &256.into()));
    let eight_bits = [&["bench", "tiny.gguf", "--json", "--kv-type", "q8_0", "--prompt", "8"], &small[..]].concat();
    let report = sandbox.run(&eight_bits).json();
    assert_eq!((&report["kv_type"], &report["kv_bytes_per_token"]), (&"q8_0".into(), &160.into()));
    let table = sandbox.run(&[&["bench", "tiny.gguf"], &small[..]].concat()).good();
    assert!(table.contains("decode of 16 together") && table.contains("prefill of 512"), "{table}");
    assert!(!table.contains("after"), "no room for 4,096 tokens: {table}");
    assert!(sandbox.run(&["bench", "tiny.gguf", "--prompt", "513"]).bad(2).contains("context of 512"));
}

#[test]
fn a_damaged_model_is_an_error_everywhere() {
    let sandbox = sandbox();
    let whole = std::fs::read(sandbox.path("tiny.gguf")).unwrap();
    sandbox.write("cut.gguf", &whole[..whole.len() / 2]);
    for command in [
        vec!["run", "x", "-m", "cut.gguf"],
        vec!["chat", "cut.gguf"],
        vec!["serve", "cut.gguf", "--port", "0"],
        vec!["bench", "cut.gguf"],
    ] {
        let error = sandbox.run(&command).bad(1);
        assert!(error.contains("cannot use the model file") && error.contains("cause:"), "{error}");
        assert!(!error.contains("panicked"), "{error}");
    }
}
