//! Which panics are findings.

use std::panic::PanicHookInfo;

/// Makes a panic in this workspace's code end the process, even where it would be caught; those of other crates end it only
/// if nobody catches them. (The tokenizer catches what the crate `tokenizers` does with odd files.)
pub fn only_own_panics() {
    std::panic::set_hook(Box::new(|info| {
        if is_own(info) {
            #[expect(clippy::print_stderr, reason = "the fuzzer's user reads it")]
            {
                eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
            }
            std::process::abort();
        }
    }));
}

/// Code of a registry stands under an absolute path that names it, and that of the standard library under `/rustc`.
fn is_own(info: &PanicHookInfo<'_>) -> bool {
    info.location()
        .is_some_and(|place| !place.file().contains("/registry/src/") && !place.file().starts_with("/rustc/"))
}
