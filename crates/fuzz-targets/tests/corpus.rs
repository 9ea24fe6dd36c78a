//! Replays the corpora of the fuzz targets: seeds, and inputs that once were findings.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
#![expect(clippy::print_stdout, reason = "a finding ends the process: the last name shown is its")]

use std::path::{Path, PathBuf};

use fuzz_targets::{TARGETS, only_own_panics, run};

/// Files whose names begin so must be taken, not only refused in good order.
const WHOLE: &str = "whole-";
/// Files whose names begin so must be refused. What others come to does not matter.
const REFUSED: &str = "refused-";
/// All corpora together: they are in the repository.
const BYTES_MAX: u64 = 300 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

fn files(target: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(corpus().join(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[track_caller]
fn replay(target: &str) {
    only_own_panics();
    let files = files(target);
    let (mut whole, mut refused) = (0, 0);
    for path in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        println!("{target}/{name}");
        let went_well = run(target, &std::fs::read(path).unwrap());
        if name.starts_with(WHOLE) {
            assert!(went_well, "{target}/{name} was refused");
            whole += 1;
        }
        if name.starts_with(REFUSED) {
            assert!(!went_well, "{target}/{name} was taken");
            refused += 1;
        }
    }
    assert!(whole > 0 && refused > 0, "{target} has {whole} files that get to their end and {refused} that do not");
}

#[test]
fn gguf() {
    replay("gguf");
}

#[test]
fn safetensors() {
    replay("safetensors");
}

#[test]
fn tokenizer_json() {
    replay("tokenizer_json");
}

#[test]
fn chat_template() {
    replay("chat_template");
}

#[test]
fn lora() {
    replay("lora");
}

#[test]
fn every_target_has_a_corpus_and_they_stay_small() {
    let mut folders: Vec<String> =
        std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    folders.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(folders, names);
    let bytes: u64 = names.iter().flat_map(|name| files(name)).map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes");
}
