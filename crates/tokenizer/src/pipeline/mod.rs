//! Encoding by the parts of the crate `tokenizers`: a normalizer, a pre-tokenizer and a model, as `tokenizer.json` names them,
//! or as a GGUF file's WordPiece or Unigram vocabulary needs them.
//!
//! Only these parts are taken. Special tokens are found before, and start and end tokens added after, by this crate: so what
//! holds for the other algorithms (no special token out of text, no panic) holds for these.

mod gguf;

pub(crate) use gguf::check_charsmap;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{
    Model, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
};

use crate::vocabulary::{CONTINUES, TokenKind, Vocabulary};

/// Texts are encoded in parts of at most this size, since the parts keep some twenty bytes for each byte of a text. Tokens do
/// not cross the border of two.
const PART_BYTES_MAX: usize = 1 << 24;

/// So often a text is halved where the parts fail, before its rest becomes one unknown token.
const FAILURES_MAX: u32 = 64;

/// Characters of a word that a WordPiece model may look up: it tries each part of a word.
pub(crate) const WORD_CHARS_MAX: usize = 256;

/// A way of encoding text in which special tokens have been found already.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) normalizer: Option<NormalizerWrapper>,
    pub(crate) pre_tokenizer: Option<PreTokenizerWrapper>,
    /// In place of `pre_tokenizer` for what does not stand at the start of the whole text, where that makes a difference.
    pub(crate) pre_tokenizer_inside: Option<PreTokenizerWrapper>,
    pub(crate) model: ModelWrapper,
    /// For what the model cannot encode.
    pub(crate) unknown: Option<u32>,
}

impl Pipeline {
    /// The kind of model.
    pub(crate) fn name(&self) -> &'static str {
        match self.model {
            ModelWrapper::BPE(_) => "bpe",
            ModelWrapper::WordPiece(_) => "word_piece",
            ModelWrapper::WordLevel(_) => "word_level",
            ModelWrapper::Unigram(_) => "unigram",
        }
    }

    /// Appends the ids of a text. `at_start`: nothing of the whole text stands before it.
    pub(crate) fn encode(&self, vocabulary: &Vocabulary, text: &str, at_start: bool, ids: &mut Vec<u32>) {
        let mut failures_left = FAILURES_MAX;
        let mut rest = text;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(rest.floor_char_boundary(PART_BYTES_MAX));
            let at_start = at_start && rest.len() == text.len();
            self.encode_part(vocabulary, part, at_start, &mut failures_left, ids);
            rest = after;
        }
    }

    /// Where the parts fail, which no text should make them do, both halves are encoded by themselves; what cannot be halved
    /// becomes the unknown token.
    fn encode_part(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        at_start: bool,
        failures_left: &mut u32,
        ids: &mut Vec<u32>,
    ) {
        // The parts are others' code, and a file may set them up in any way: a panic of theirs must not get further. They
        // change nothing but caches, which are whole or not written.
        let tried = catch_unwind(AssertUnwindSafe(|| self.try_encode(vocabulary, text, at_start)));
        if let Ok(Ok(part)) = tried {
            ids.extend(part);
            return;
        }
        *failures_left = failures_left.saturating_sub(1);
        let (left, right) = text.split_at(text.floor_char_boundary(text.len() / 2));
        if left.is_empty() || *failures_left == 0 {
            ids.extend(self.unknown);
            return;
        }
        self.encode_part(vocabulary, left, at_start, failures_left, ids);
        self.encode_part(vocabulary, right, false, failures_left, ids);
    }

    fn try_encode(&self, vocabulary: &Vocabulary, text: &str, at_start: bool) -> tokenizers::Result<Vec<u32>> {
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = &self.normalizer {
            normalizer.normalize(&mut normalized)?;
        }
        let mut words = PreTokenizedString::from(normalized);
        let inside = self.pre_tokenizer_inside.as_ref().filter(|_| !at_start);
        if let Some(pre_tokenizer) = inside.or(self.pre_tokenizer.as_ref()) {
            pre_tokenizer.pre_tokenize(&mut words)?;
        }
        let mut ids = Vec::with_capacity(text.len() / 3 + 1);
        for (word, _, _) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            for token in self.model.tokenize(word)? {
                let part = word.get(token.offsets.0..token.offsets.1).unwrap_or_default();
                if may_arise(vocabulary, token.id, part) {
                    ids.push(token.id);
                } else {
                    self.push_chars(vocabulary, part, &mut ids)?;
                }
            }
        }
        Ok(ids)
    }

    /// The text of a token that must not arise, character by character.
    fn push_chars(&self, vocabulary: &Vocabulary, text: &str, ids: &mut Vec<u32>) -> tokenizers::Result<()> {
        for char in text.chars() {
            let mut buffer = [0; 4];
            let char = char.encode_utf8(&mut buffer);
            for token in self.model.tokenize(char)? {
                if may_arise(vocabulary, token.id, char) {
                    ids.push(token.id);
                } else {
                    ids.extend(self.unknown);
                }
            }
        }
        Ok(())
    }
}

/// Whether a model may give this token for a part of a text: a control token never, and an unknown or byte token not for its
/// own written form.
fn may_arise(vocabulary: &Vocabulary, id: u32, text: &str) -> bool {
    match vocabulary.kind(id) {
        None | Some(TokenKind::Control) => false,
        Some(TokenKind::Unknown | TokenKind::Byte) => vocabulary.text(id) != Some(text),
        Some(TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused) => true,
    }
}

/// A WordPiece model; `unknown` is one of the texts.
pub(crate) fn word_piece(
    ids: impl IntoIterator<Item = (String, u32)>,
    unknown: &str,
    word_chars_max: usize,
) -> tokenizers::Result<WordPiece> {
    WordPiece::builder()
        .vocab(ids.into_iter().collect::<tokenizers::models::bpe::Vocab>())
        .unk_token(unknown.to_owned())
        .continuing_subword_prefix(CONTINUES.to_owned())
        .max_input_chars_per_word(word_chars_max)
        .build()
}

/// A Unigram model: text and score of each token in the order of ids. Control tokens get texts that no part of a text is equal
/// to as long as spaces are written as `▁`, so that the best path never goes through one.
pub(crate) fn unigram(
    vocabulary: &Vocabulary,
    pieces: impl Iterator<Item = (String, f64)>,
    unknown: Option<u32>,
    bytes: bool,
) -> tokenizers::Result<Unigram> {
    let pieces = pieces.zip(0..).map(|((text, score), id)| match vocabulary.kind(id) {
        Some(TokenKind::Control) => (format!(" {text}"), score),
        _ => (text, score),
    });
    Unigram::from(pieces.collect(), unknown.map(|id| id as usize), bytes)
}
