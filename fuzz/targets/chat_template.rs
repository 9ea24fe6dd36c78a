//! Chat templates.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz_targets::only_own_panics(), |input: &[u8]| {
    let _ = fuzz_targets::run("chat_template", input);
});
