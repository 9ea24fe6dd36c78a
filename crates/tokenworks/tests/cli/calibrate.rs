//! Calibration: measured, kept, used by a server under the same conditions only; what a server counts and charges.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::serving::Serving;
use crate::support::Sandbox;
use crate::tiny_model::sandbox;

/// Longest wait for what comes within a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox whose servers know a key of the plant, and the header that shows it.
fn with_key() -> (Sandbox, String) {
    let sandbox = sandbox();
    let made = sandbox.run(&["keys", "new", "ops", "--json"]).json();
    let hash = made["hash"].as_str().unwrap();
    sandbox.write("tokenworks.toml", format!("[[server.keys]]\nname = \"ops\"\nhash = \"{hash}\"\n"));
    (sandbox, format!("Authorization: Bearer {}\r\n", made["key"].as_str().unwrap()))
}

fn body(answer: &str) -> &str {
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1
}

/// The bytes of a body in chunks.
fn dechunked(mut rest: &str) -> usize {
    let mut bytes = 0;
    loop {
        let (length, after) = rest.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return bytes;
        }
        bytes += length;
        rest = &after[length + 2..];
    }
}

fn json_of(answer: &str) -> Value {
    serde_json::from_str(body(answer)).unwrap()
}

/// The cost of a request, once it is known.
fn cost(serving: &Serving, key: &str, id: &str) -> Value {
    let started = Instant::now();
    loop {
        let answer = serving.request_with(&format!("GET /v1/costs/{id}"), key, "");
        if answer.starts_with("HTTP/1.1 200") {
            return json_of(&answer);
        }
        assert!(started.elapsed() < PATIENCE, "{answer}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_calibration_is_kept_and_used_under_the_same_conditions() {
    let (sandbox, key) = with_key();
    let report = sandbox.run(&["calibrate", "tiny.gguf", "--threads", "1", "--rounds", "2", "--json"]).json();
    let classes: Vec<&str> =
        report["classes"].as_array().unwrap().iter().map(|class| class["class"].as_str().unwrap()).collect();
    for class in ["prefill", "decode_alone", "decode_few", "decode_many", "mixed"] {
        assert!(classes.contains(&class), "{report}");
    }
    for class in report["classes"].as_array().unwrap() {
        assert!(class["steps"].as_u64().unwrap() > 0 && class["predicted_ns"].as_u64().unwrap() > 0, "{report}");
    }
    assert!(report["fitted_steps"].as_u64().unwrap() > 50);
    let file = std::path::PathBuf::from(report["file"].as_str().unwrap());
    assert!(file.is_file());
    assert!(report["rule"].as_str().unwrap().contains("add up to the engine's busy time"));

    let started_from = |arguments: &[&str]| {
        let serving = Serving::start(&sandbox, &[&["tiny.gguf", "--kv-memory", "1MiB"], arguments].concat());
        let shown = json_of(&serving.request_with("GET /admin/v1/calibration", &key, ""));
        assert_eq!(shown["data"][0]["classes"].as_array().unwrap().len(), 8);
        assert_eq!(shown["data"][0]["terms"].as_array().unwrap().len(), 12);
        shown["data"][0]["started_from"].as_str().unwrap().to_owned()
    };
    assert_eq!(started_from(&["--threads", "1"]), format!("calibrated {}", report["measured"].as_str().unwrap()));
    let other = started_from(&["--threads", "2"]);
    assert!(other.contains("its number of threads is 1, here it is 2"), "{other}");
    std::fs::write(&file, "{").unwrap();
    let damaged = started_from(&["--threads", "1"]);
    assert!(damaged.contains("it is damaged"), "{damaged}");
    std::fs::remove_file(&file).unwrap();
    assert!(started_from(&[]).starts_with("not calibrated; `tokenworks calibrate"));
}

#[test]
fn bytes_of_bodies_are_counted_and_charged_and_metrics_show_costs() {
    let (sandbox, key) = with_key();
    let serving = Serving::start(&sandbox, &["tiny.gguf", "--kv-memory", "1MiB"]);
    let whole = json!({"model": "tiny", "prompt": "abc", "max_tokens": 4, "ignore_eos": true}).to_string();
    let answer = serving.request_with("POST /v1/completions", &key, &whole);
    let first = cost(&serving, &key, json_of(&answer)["id"].as_str().unwrap());
    assert_eq!(first["bytes"], json!({"received": whole.len(), "sent": body(&answer).len()}));
    let network: f64 = first["network"].as_str().unwrap().parse().unwrap();
    // The example's 0.01 per GB.
    let expected = 0.01e-9 * (whole.len() + body(&answer).len()) as f64;
    assert!((network - expected).abs() <= 1e-9, "{network} {expected}");
    assert_eq!(first["full"], Value::Null, "the day is open");

    let streamed = json!({"model": "tiny", "prompt": "abc", "max_tokens": 9, "ignore_eos": true, "stream": true});
    let streamed = streamed.to_string();
    let answer = serving.request_with("POST /v1/completions", &key, &streamed);
    let id = answer.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap();
    let second = cost(&serving, &key, id);
    assert!(body(&answer).contains("[DONE]"));
    assert_eq!(second["bytes"], json!({"received": streamed.len(), "sent": dechunked(body(&answer))}));

    let metrics = serving.request_with("GET /metrics", &key, "");
    for part in [
        "tokenworks_class_busy_seconds_total{model=\"tiny\",class=\"decode_alone\"} ",
        "tokenworks_plant_cost_total{source=\"network\",currency=\"USD\",sheet=\"example\"} ",
        "tokenworks_cost_attributed_total{model=\"tiny\",currency=\"USD\",sheet=\"example\"} ",
        "tokenworks_plant_joules_total{source=\"estimated\"} ",
        "tokenworks_plant_power_watts ",
    ] {
        assert!(metrics.contains(part), "{part}\n{metrics}");
    }
    // A customer sees what the plant does, not what it costs.
    for args in [
        &["prices", "add", "tiny", "--input", "1 per 1M", "--output", "1 per 1M"][..],
        &["plans", "add", "basic"],
        &["customers", "add", "acme", "--name", "Acme", "--plan", "basic"],
        &["customers", "project", "web", "--customer", "acme"],
    ] {
        sandbox.run(args).good();
    }
    let customer = sandbox.run(&["keys", "add", "web-1", "--project", "web"]).good();
    let seen = serving.request_with("GET /metrics", &format!("Authorization: Bearer {}\r\n", customer.trim()), "");
    assert!(seen.contains("tokenworks_class_busy_seconds_total{"), "{seen}");
    assert!(!seen.contains("tokenworks_plant_") && !seen.contains("tokenworks_cost_"), "{seen}");
    drop(serving);
    assert!(sandbox.run(&["ledger", "verify", "--costs"]).good().contains("The costs are right"));
}
