//! WordPiece and Unigram vocabularies of GGUF files, as llama.cpp's converters write them.

use std::collections::HashMap;

use formats::gguf::{Array, Gguf, Value};
use tokenizers::normalizers::{BertNormalizer, Precompiled, Prepend, Sequence};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::{Pipeline, unigram, word_piece};
use crate::TokenizerError;
use crate::vocabulary::{CONTINUES, TokenKind, Vocabulary};

const TOKENS_KEY: &str = "tokenizer.ggml.tokens";
const SCORES_KEY: &str = "tokenizer.ggml.scores";
const UNKNOWN_KEY: &str = "tokenizer.ggml.unknown_token_id";
const MERGE_SPACES_KEY: &str = "tokenizer.ggml.remove_extra_whitespaces";
const CHARSMAP_KEY: &str = "tokenizer.ggml.precompiled_charsmap";

/// Longer words are unknown to BERT.
const BERT_WORD_CHARS_MAX: usize = 100;

impl Pipeline {
    /// BERT's: words found by the longest parts from the left. The file writes `▁` in front of what starts a word.
    pub(crate) fn word_piece(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let unknown = unknown(gguf, vocabulary)?.ok_or(TokenizerError::Missing { key: UNKNOWN_KEY })?;
        let mut ids = HashMap::with_capacity(vocabulary.len());
        for (text, kind, id) in vocabulary.iter() {
            let text = match (text.strip_prefix('▁'), kind) {
                (_, TokenKind::Control | TokenKind::Unknown) => text.to_owned(),
                (Some(start), _) => start.to_owned(),
                (None, _) => format!("{CONTINUES}{text}"),
            };
            ids.insert(text, id);
        }
        // Its own text, whatever its kind.
        let unknown_text = vocabulary.text(unknown).unwrap_or_default();
        ids.insert(unknown_text.to_owned(), unknown);
        let flag = |key: &str, default: bool| gguf.get_bool(key).map(|flag| flag.unwrap_or(default));
        let lowercase = flag("tokenizer.ggml.normalizer.lowercase", true)?;
        let strip_accents = flag("tokenizer.ggml.normalizer.strip_accents", lowercase)?;
        let model = word_piece(ids, unknown_text, BERT_WORD_CHARS_MAX).map_err(|error| invalid(TOKENS_KEY, error))?;
        Ok(Self {
            normalizer: Some(BertNormalizer::new(true, true, Some(strip_accents), lowercase).into()),
            pre_tokenizer: Some(PreTokenizerWrapper::BertPreTokenizer(BertPreTokenizer)),
            pre_tokenizer_inside: None,
            model: ModelWrapper::WordPiece(model),
            unknown: Some(unknown),
        })
    }

    /// SentencePiece's Unigram, as T5 has it: of all ways to cut a word into tokens the one with the best sum of scores.
    pub(crate) fn unigram(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Self, TokenizerError> {
        let scores = gguf.get_f32_array(SCORES_KEY)?.ok_or(TokenizerError::Missing { key: SCORES_KEY })?;
        if scores.len() != vocabulary.len() {
            let reason = format!("it has {} entries for {} tokens", scores.len(), vocabulary.len());
            return Err(TokenizerError::Invalid { key: SCORES_KEY, reason });
        }
        if let Some(position) = scores.iter().position(|score| !score.is_finite()) {
            return Err(invalid(SCORES_KEY, format!("the score of token {position} is not a finite number")));
        }
        if let Some((_, _, id)) = vocabulary.iter().find(|(text, _, _)| text.is_empty()) {
            return Err(invalid(TOKENS_KEY, format!("token {id} is empty")));
        }
        let unknown = unknown(gguf, vocabulary)?.ok_or(TokenizerError::Missing { key: UNKNOWN_KEY })?;
        let pieces = vocabulary.iter().zip(scores).map(|((text, _, _), &score)| (text.to_owned(), f64::from(score)));
        let bytes = vocabulary.iter().any(|(_, kind, _)| kind == TokenKind::Byte);
        let model = unigram(vocabulary, pieces, Some(unknown), bytes).map_err(|error| invalid(TOKENS_KEY, error))?;
        let flag = |key: &str| gguf.get_bool(key).map(|flag| flag.unwrap_or(true));
        let space_in_front = flag("tokenizer.ggml.add_space_prefix")?;
        let merge_spaces = flag(MERGE_SPACES_KEY)?;
        let mut normalizers: Vec<NormalizerWrapper> = Vec::from_iter(charsmap(gguf)?.map(NormalizerWrapper::from));
        let pre_tokenizer: PreTokenizerWrapper = if merge_spaces {
            let spaces = Split::new(SplitPattern::Regex(" +".to_owned()), SplitDelimiterBehavior::Removed, false);
            let spaces = spaces.map_err(|error| invalid(MERGE_SPACES_KEY, error))?;
            // Each word has one space in front then, the first as well.
            let words = Metaspace::new('▁', PrependScheme::Always, true);
            PreTokenizers::new(vec![PreTokenizerWrapper::Split(spaces), PreTokenizerWrapper::Metaspace(words)]).into()
        } else {
            if space_in_front {
                normalizers.push(Prepend::new(" ".to_owned()).into());
            }
            PreTokenizerWrapper::Metaspace(Metaspace::new('▁', PrependScheme::Never, true))
        };
        Ok(Self {
            normalizer: Some(Sequence::new(normalizers).into()),
            pre_tokenizer: Some(pre_tokenizer),
            pre_tokenizer_inside: None,
            model: ModelWrapper::Unigram(model),
            unknown: Some(unknown),
        })
    }
}

fn invalid(key: &'static str, reason: impl ToString) -> TokenizerError {
    TokenizerError::Invalid { key, reason: reason.to_string() }
}

/// The unknown token: the one that the file names, or the first of that kind.
fn unknown(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Option<u32>, TokenizerError> {
    match gguf.get_u32(UNKNOWN_KEY)? {
        Some(id) if id as usize >= vocabulary.len() => {
            Err(invalid(UNKNOWN_KEY, format!("{id} is not an id of the {} tokens", vocabulary.len())))
        }
        Some(id) => Ok(Some(id)),
        None => Ok(vocabulary.specials().find(|(_, _, kind)| *kind == TokenKind::Unknown).map(|(id, _, _)| id)),
    }
}

/// SentencePiece's table of replacements.
fn charsmap(gguf: &Gguf) -> Result<Option<Precompiled>, TokenizerError> {
    let bytes: Vec<u8> = match gguf.get(CHARSMAP_KEY) {
        None => return Ok(None),
        Some(Value::Array(Array::U8(bytes))) => bytes.clone(),
        Some(Value::Array(Array::I8(bytes))) => bytes.iter().map(|byte| byte.cast_unsigned()).collect(),
        Some(_) => return Err(invalid(CHARSMAP_KEY, "it is not an array of bytes")),
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    check_charsmap(&bytes).map_err(|reason| invalid(CHARSMAP_KEY, reason))?;
    Precompiled::from(&bytes).map(Some).map_err(|error| invalid(CHARSMAP_KEY, error))
}

/// Longest replacement in a table; SentencePiece's own has 33 bytes.
const REPLACEMENT_BYTES_MAX: usize = 255;

/// Whether the sizes in a table of replacements are true: a trie of that many bytes in units of four, then texts, each of which
/// ends with a zero. Gives the bytes of the longest, at least 1.
///
/// # Errors
/// What is wrong.
pub(crate) fn check_charsmap(bytes: &[u8]) -> Result<u64, String> {
    let Some((size, rest)) = bytes.split_first_chunk::<4>() else {
        return Err(format!("it has {} bytes, too few for a size", bytes.len()));
    };
    let size = u32::from_le_bytes(*size);
    if size == 0 || size % 4 != 0 || size as usize > rest.len() {
        return Err(format!("its trie cannot have {size} bytes: {} follow", rest.len()));
    }
    let texts = rest.get(size as usize..).unwrap_or_default();
    let longest = texts.split(|&byte| byte == 0).map(<[u8]>::len).max().unwrap_or(0);
    if longest > REPLACEMENT_BYTES_MAX {
        return Err(format!("a replacement of {longest} bytes is longer than {REPLACEMENT_BYTES_MAX}"));
    }
    Ok(longest.max(1) as u64)
}
