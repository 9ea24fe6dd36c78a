//! What is done with a tokenizer that could be made.

use tokenizer::{StreamDecoder, Tokenizer};

/// Spaces, digits, letters with and without marks, several scripts, emoji that are made of several, special tokens.
pub(crate) const ODD: &str = "Hello,  w\u{f6}rld's 12345 3.14\r\n\t e\u{301}\u{0} \u{4f60}\u{597d}\u{ff01} \u{627}\u{644}\u{633} \
    \u{1f468}\u{200d}\u{1f469} \u{2581}\u{120} <s></s><unk> <|im_start|>a<|im_end|> [CLS]x[SEP] <0x0A>\u{fffd}";

/// Longest text that is encoded.
const TEXT_BYTES_MAX: usize = 4096;

/// Encodes a text in all ways, and decodes what came of it at once and token by token.
///
/// # Panics
/// An id is none, or both ways of decoding differ.
pub(crate) fn there_and_back(tokenizer: &Tokenizer, text: &str) {
    let text = text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default();
    for (add_special, parse_special) in [(true, true), (false, false)] {
        let ids = tokenizer.encode(text, add_special, parse_special);
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "ids of the vocabulary");
        let whole = tokenizer.decode(&ids);
        let mut stream = StreamDecoder::new();
        let mut streamed = String::new();
        for &id in &ids {
            streamed.push_str(&stream.push(&tokenizer.piece(id).unwrap_or_default()));
        }
        streamed.push_str(&stream.finish());
        assert_eq!(streamed, String::from_utf8_lossy(&whole), "both ways of decoding");
    }
}

/// How many tokens with a meaning of their own plain text became. None must: the unknown token, of which a tokenizer.json has
/// one at most, may come up any number of times and is counted once.
pub(crate) fn kinds_of_special_tokens(tokenizer: &Tokenizer, text: &str) -> usize {
    let text = text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default();
    let mut special = tokenizer.encode(text, false, false);
    special.retain(|&id| tokenizer.is_special(id));
    special.sort_unstable();
    special.dedup();
    special.len()
}
