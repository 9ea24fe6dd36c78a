//! Folders with safetensors files.
#![no_main]

libfuzzer_sys::fuzz_target!(init: fuzz_targets::only_own_panics(), |input: &[u8]| {
    let _ = fuzz_targets::run("safetensors", input);
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Half of the changes are of bytes.
    let changed = if seed % 2 == 0 { fuzz_targets::mutate_json(&data[..size], seed) } else { None };
    match changed.filter(|changed| changed.len() <= max_size) {
        Some(changed) => {
            data[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        None => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
    }
});
