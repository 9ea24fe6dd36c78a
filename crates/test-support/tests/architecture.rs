//! Holds the direction of the production line: which crate may depend on which, and where `unsafe` may live.

#![expect(clippy::expect_used, reason = "a test's own helper may fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Every crate and the local crates it may depend on when it runs. Change a line only together with ARCHITECTURE.md.
const ALLOWED: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("formats", &[]),
    ("tokenizer", &["formats"]),
    ("inference", &[]),
    ("kernels", &[]),
    ("model", &["formats", "kernels"]),
    ("engine", &["inference", "model"]),
    ("metering", &[]),
    ("sidefile", &[]),
    // Of inference the timeline, of metering the usage record: plain data.
    ("traces", &["inference", "metering", "sidefile"]),
    ("history", &["metering", "sidefile"]),
    ("ledger", &[]),
    ("economics", &["ledger", "metering"]),
    ("analysis", &[]),
    ("service", &["economics", "inference", "ledger", "metering", "tokenizer", "traces"]),
    ("console", &[]),
    // Of inference and metering the server uses plain data only (sampling parameters, gauges, the usage record).
    (
        "server",
        &[
            "analysis",
            "console",
            "economics",
            "history",
            "inference",
            "ledger",
            "metering",
            "protocol",
            "service",
            "sidefile",
            "traces",
        ],
    ),
    (
        "tokenworks",
        &[
            "analysis",
            "economics",
            "engine",
            "formats",
            "history",
            "inference",
            "kernels",
            "ledger",
            "metering",
            "model",
            "server",
            "service",
            "tokenizer",
            "traces",
        ],
    ),
    ("bench", &["analysis"]),
    ("fuzz-targets", &["formats", "kernels", "model", "tokenizer"]),
    ("test-support", &["formats"]),
];

/// External crates that only the named local crates may use when they run.
const RESERVED: &[(&str, &[&str])] = &[
    ("axum", &["server"]),
    ("tower-http", &["server"]),
    ("rustls", &["server", "tokenworks"]),
    ("clap", &["tokenworks", "bench"]),
    ("minijinja", &["tokenizer"]),
    ("libc", &["kernels"]),
    ("postgres", &["ledger", "test-support"]),
    ("rusqlite", &["history", "ledger", "server", "sidefile", "traces"]),
    ("statrs", &["analysis"]),
];

/// Nothing of these may reach the engine or what it stands on: no async, no HTTP, no JSON but the headers of model files.
const NOT_BELOW_THE_ENGINE: &[&str] = &["tokio", "hyper", "axum", "http", "serde_json", "futures-util"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Normal dependencies of each member, by name (development ones are free).
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let names = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| dependency["name"].as_str().expect("name").to_owned());
            (package["name"].as_str().expect("name").to_owned(), names.collect())
        })
        .collect()
}

#[test]
fn every_crate_stands_where_the_design_puts_it() {
    let found = dependencies();
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ALLOWED.iter().map(|(name, list)| (*name, list.iter().copied().collect())).collect();
    let members: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = allowed.keys().copied().collect();
    assert_eq!(members, listed, "the workspace and the list of this test name different crates");
    for (name, dependencies) in &found {
        for dependency in dependencies.iter().filter(|d| listed.contains(d.as_str())) {
            assert!(allowed[name.as_str()].contains(dependency.as_str()), "{name} may not depend on {dependency}");
        }
    }
}

#[test]
fn external_crates_stay_where_they_belong() {
    let found = dependencies();
    for (external, owners) in RESERVED {
        for (name, dependencies) in &found {
            assert!(
                !dependencies.contains(*external) || owners.contains(&name.as_str()),
                "{name} may not use {external}"
            );
        }
    }
    for name in ["inference", "kernels", "formats", "model", "engine"] {
        for external in NOT_BELOW_THE_ENGINE.iter().filter(|external| (name, **external) != ("formats", "serde_json")) {
            assert!(!found[name].contains(*external), "{name} may not use {external}");
        }
    }
}

#[test]
fn unsafe_code_lives_only_in_kernels() {
    for (name, _) in ALLOWED.iter().filter(|(name, _)| *name != "kernels") {
        let source = root().join("crates").join(name).join("src/lib.rs");
        let text = std::fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        assert!(text.lines().any(|line| line == "#![forbid(unsafe_code)]"), "{name} must forbid unsafe code");
    }
}

#[test]
fn every_source_file_opens_with_its_purpose() {
    let mut folders = vec![root().join("crates")];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&entry).expect("UTF-8");
                assert!(text.starts_with("//! "), "{} does not open with a `//!` line", entry.display());
                seen += 1;
            }
        }
    }
    assert!(seen > ALLOWED.len());
}
