//! Tokens with log-probabilities, in the shapes of chat and of completions.

use std::collections::BTreeMap;
use std::fmt::Write;

use inference::TokenId;
use protocol::{ChatLogprobs, ChatTokenLogprob, ChatTopLogprob, CompletionLogprobs};
use service::TokenText;

/// A logit or logarithm that JSON can carry: minus infinity (a token that cannot come) becomes -9999, as elsewhere.
pub(super) fn finite(value: f32) -> f32 {
    if value.is_finite() { value } else { -9999.0 }
}

/// A token's text; bytes that are no whole characters are written `\xNN`.
pub(crate) fn token_text(bytes: &[u8], prefix: &str) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold(prefix.to_owned(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        }),
    }
}

fn shown(id: TokenId, bytes: &[u8], prefix: &str, token_ids: bool) -> String {
    if token_ids { format!("token_id:{id}") } else { token_text(bytes, prefix) }
}

/// The shape of chat.
pub(crate) fn chat_logprobs(tokens: Vec<TokenText>, token_ids: bool) -> ChatLogprobs {
    let content = tokens.into_iter().map(|token| ChatTokenLogprob {
        token: shown(token.id, &token.bytes, "", token_ids),
        logprob: finite(token.logprob.unwrap_or(0.0)),
        top_logprobs: token
            .top
            .into_iter()
            .map(|(id, bytes, logprob)| ChatTopLogprob {
                token: shown(id, &bytes, "", token_ids),
                logprob: finite(logprob),
                bytes: Some(bytes),
            })
            .collect(),
        bytes: Some(token.bytes),
    });
    ChatLogprobs { content: content.collect(), refusal: None }
}

/// Counts the characters of one choice's tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offset(usize);

impl Offset {
    /// Where the next token begins; then goes past it. A character in several tokens begins in the first of them.
    fn advance(&mut self, bytes: &[u8]) -> usize {
        let begin = self.0;
        self.0 += bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        begin
    }
}

/// The shape of completions; `offset` is where the tokens begin, and goes past them.
pub(crate) fn completion_logprobs(tokens: Vec<TokenText>, offset: &mut Offset, token_ids: bool) -> CompletionLogprobs {
    let mut into = CompletionLogprobs::default();
    for token in tokens {
        into.text_offset.push(offset.advance(&token.bytes));
        into.tokens.push(shown(token.id, &token.bytes, "bytes:", token_ids));
        into.token_logprobs.push(token.logprob.map(finite));
        into.top_logprobs.push(token.logprob.map(|_| {
            let mut top = BTreeMap::new();
            for (id, bytes, logprob) in token.top {
                // Best first, so the first of two equal texts stays.
                top.entry(shown(id, &bytes, "bytes:", token_ids)).or_insert_with(|| finite(logprob));
            }
            top
        }));
    }
    into
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: TokenId, bytes: &[u8]) -> TokenText {
        TokenText { id, bytes: bytes.to_vec(), logprob: Some(-0.5), top: vec![(id, bytes.to_vec(), -0.5)] }
    }

    #[test]
    fn offsets_count_characters_across_split_ones() {
        let mut offset = Offset::default();
        let pieces = [&b"a"[..], "é".as_bytes(), &[0xE9], &[0xBB, 0x91], b"z"];
        let tokens = (0..).zip(pieces).map(|(id, bytes)| token(id, bytes)).collect();
        let logprobs = completion_logprobs(tokens, &mut offset, false);
        assert_eq!(logprobs.text_offset, [0, 1, 2, 3, 3]);
        assert_eq!(logprobs.tokens, ["a", "é", "bytes:\\xe9", "bytes:\\xbb\\x91", "z"]);
    }

    #[test]
    fn ids_and_infinities() {
        let mut one = token(7, b"x");
        one.logprob = Some(f32::NEG_INFINITY);
        let chat = chat_logprobs(vec![one], true);
        assert_eq!(chat.content[0].token, "token_id:7");
        assert_eq!(chat.content[0].logprob, -9999.0);
        assert_eq!(chat.content[0].bytes.as_deref(), Some(&b"x"[..]));
    }
}
