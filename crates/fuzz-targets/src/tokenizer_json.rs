//! `tokenizer.json` and the files beside it. The input is these files, and `text` to encode.

use tokenizer::{Tokenizer, TokenizerFiles};

use crate::files::{part, parts};
use crate::texts;

/// Makes the tokenizer; encodes and decodes the text with it.
///
/// # Panics
/// Plain text becomes a special token, or as [`texts::there_and_back`].
pub(crate) fn target(input: &[u8]) -> bool {
    let files = parts(input);
    let of = |name| part(&files, name);
    let made = Tokenizer::from_json(&TokenizerFiles {
        tokenizer: of("tokenizer.json").unwrap_or_default(),
        tokenizer_config: of("tokenizer_config.json"),
        generation_config: of("generation_config.json"),
        chat_template: of("chat_template.jinja").and_then(|bytes| std::str::from_utf8(bytes).ok()),
    });
    let Ok(tokenizer) = made else { return false };
    let own = String::from_utf8_lossy(of("text").unwrap_or_default());
    for text in [&own, texts::ODD] {
        texts::there_and_back(&tokenizer, text);
        assert!(texts::kinds_of_special_tokens(&tokenizer, text) <= 1, "plain text became a control token");
    }
    true
}
