//! The bytes of tokens, as an answer has them and as they are written.

use std::borrow::Cow;

use inference::TokenId;
use tokenizer::Tokenizer;

/// What delivery and stop strings need of a tokenizer.
pub(crate) trait Pieces: Send + Sync {
    /// The bytes that a token adds to an answer; none for special tokens.
    fn answer_bytes(&self, id: TokenId) -> Cow<'_, [u8]>;

    /// The bytes of a token; special tokens in their written form.
    fn written_bytes(&self, id: TokenId) -> Cow<'_, [u8]>;
}

impl Pieces for Tokenizer {
    fn answer_bytes(&self, id: TokenId) -> Cow<'_, [u8]> {
        if self.is_special(id) { Cow::default() } else { self.written_bytes(id) }
    }

    fn written_bytes(&self, id: TokenId) -> Cow<'_, [u8]> {
        // Ids past the vocabulary (rows that pad a model's head) have no text.
        self.piece(id).unwrap_or_default()
    }
}
