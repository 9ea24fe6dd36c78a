//! What is fuzzed: functions of bytes that make of them what the program makes of files, and panic where it would break a
//! promise. The programs in `fuzz/` run them under libFuzzer, the test of this crate runs them over `fuzz/corpus`.
#![forbid(unsafe_code)]

mod chat_template;
mod files;
mod gguf;
mod lora;
mod models;
mod mutate;
mod panics;
mod random;
mod safetensors;
mod texts;
mod tokenizer_json;

pub use mutate::mutate;
pub use panics::only_own_panics;

/// Bytes to whether all went well up to the end: a text came back, a model ran. Either is fine but for panics.
pub type Target = fn(&[u8]) -> bool;

/// All targets by name: of the program in `fuzz/targets`, and of the folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 5] = [
    ("gguf", gguf::target),
    ("safetensors", safetensors::target),
    ("tokenizer_json", tokenizer_json::target),
    ("chat_template", chat_template::target),
    ("lora", lora::target),
];

/// Runs the target of this name; false if there is none.
#[must_use]
pub fn run(name: &str, input: &[u8]) -> bool {
    let target = TARGETS.iter().find(|(own, _)| *own == name).map(|(_, target)| target);
    target.is_some_and(|target| target(input))
}
