//! tokenizer.json and the files beside it.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz_targets::only_own_panics(), |input: &[u8]| {
    let _ = fuzz_targets::run("tokenizer_json", input);
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    fuzz_targets::mutate(data, size, max_size, seed)
        .unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(data, size, max_size))
});
