//! A model folder's tokenizer as the metadata of a GGUF file. Keys and what they hold: llama.cpp's converter
//! (`gguf-py/gguf/vocab.py`, `TextModel.get_vocab_base` in `convert_hf_to_gguf.py`). The pre-tokenizer is found by what it does
//! with texts, as the converter does it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use formats::gguf::{Array, StringArray, Value};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, PreTokenizerWrapper};

use super::file::{ModelKind, TokenizerFile};
use super::{FILE, TokenizerFiles, fault, objects, parse, part, spelling, type_of, with_files};
use crate::bpe::MERGES_KEY;
use crate::error::shown;
use crate::pretokenizer::PreTokenizer;
use crate::tokenizer::{MODEL_KEY, PRE_KEY};
use crate::vocabulary::{Spelling, TOKENS_KEY, TYPES_KEY, TokenKind};
use crate::{Tokenizer, TokenizerError};

/// Keys of ends of an answer beside the end token.
const MORE_ENDS: [&str; 2] = ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// A tokenizer in the words of a GGUF file.
#[derive(Debug)]
pub struct GgufTokenizer {
    /// Its metadata.
    pub keys: BTreeMap<String, Value>,
    /// What it has and GGUF has no key for, as a person reads it.
    pub left_out: Vec<String>,
}

impl GgufTokenizer {
    /// Reads the tokenizer of a model folder whose weights have `rows` rows of tokens. Ids without a token get one that no
    /// text becomes, since readers count the rows by the tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::from_folder`]; [`TokenizerError::Json`] with the field that GGUF has no words for: any kind but
    /// byte-level BPE, other normalizers than NFC, words that no known pre-tokenizer makes.
    pub fn from_folder(folder: impl AsRef<Path>, rows: usize) -> Result<Self, TokenizerError> {
        with_files(folder.as_ref(), |files| Self::from_json(files, rows))
    }

    /// The same from the contents of the files.
    ///
    /// # Errors
    /// As [`GgufTokenizer::from_folder`].
    pub fn from_json(files: &TokenizerFiles<'_>, rows: usize) -> Result<Self, TokenizerError> {
        let tokenizer = Tokenizer::from_json(files)?;
        let file: TokenizerFile = parse(FILE, files.tokenizer)?;
        check_kind(&file)?;
        let mut left_out = Vec::new();
        if normalizes(&file)? {
            left_out.push("the normalizer NFC: text with combining characters may give other tokens".to_owned());
        }
        if let Some(id) = tokenizer.vocabulary().trims().keys().next() {
            let text = shown(tokenizer.text(*id).unwrap_or_default());
            left_out.push(format!("that tokens such as \"{text}\" swallow the spaces beside them"));
        }
        let mut keys = BTreeMap::new();
        let mut set = |key: &str, value: Value| keys.insert(key.to_owned(), value);
        set(MODEL_KEY, Value::String("gpt2".to_owned()));
        set(PRE_KEY, Value::String(pre_tokenizer(&file)?.to_owned()));
        let (texts, types) = tokens(&tokenizer, rows)?;
        set(TOKENS_KEY, Value::Array(Array::String(texts)));
        set(TYPES_KEY, Value::Array(Array::I32(types)));
        set(MERGES_KEY, Value::Array(Array::String(merges(&file)?)));
        let has_row = |id: &u32| (*id as usize) < rows;
        let (prefix, suffix) = tokenizer.around();
        for (side, end, around, token) in
            [("in front of", "bos", prefix, tokenizer.bos()), ("behind", "eos", suffix, tokenizer.eos())]
        {
            let token = token.filter(has_row);
            if let Some(id) = token {
                set(&format!("tokenizer.ggml.{end}_token_id"), Value::U32(id));
            }
            if !around.is_empty() && around != token.as_slice() {
                let reason =
                    format!("GGUF has no key for what it puts {side} a text: only the {end} token can stand there");
                return Err(fault("post_processor", reason));
            }
            set(&format!("tokenizer.ggml.add_{end}_token"), Value::Bool(!around.is_empty()));
        }
        let ends = Vec::from_iter(tokenizer.named_ends().into_iter().filter(has_row));
        for (key, &id) in MORE_ENDS.iter().zip(&ends) {
            set(key, Value::U32(id));
        }
        for &id in ends.iter().skip(MORE_ENDS.len()) {
            left_out.push(format!("that \"{}\" ends an answer", shown(tokenizer.text(id).unwrap_or_default())));
        }
        if let Some(template) = tokenizer.chat_template() {
            set("tokenizer.chat_template", Value::String(template.to_owned()));
        }
        Ok(Self { keys, left_out })
    }
}

/// Refuses all but byte-level BPE.
fn check_kind(file: &TokenizerFile) -> Result<(), TokenizerError> {
    let kind = file.model.kind()?;
    let name = match (kind, spelling(file, kind)?) {
        (ModelKind::Bpe, Spelling::ByteLevel) => return Ok(()),
        (ModelKind::Bpe, _) => "BPE that is not byte-level (SentencePiece)",
        (ModelKind::WordPiece, _) => "WordPiece",
        (ModelKind::Unigram, _) => "Unigram",
    };
    Err(fault("model.type", format!("{name} cannot be written into a GGUF file (byte-level BPE can)")))
}

/// Whether text is brought to NFC; any other normalizer is refused.
fn normalizes(file: &TokenizerFile) -> Result<bool, TokenizerError> {
    let normalizers = file.normalizer.iter().filter(|value| !value.is_null());
    let names: Vec<&str> = normalizers.flat_map(|value| objects(value, "normalizers")).map(type_of).collect();
    match names.iter().find(|name| **name != "NFC") {
        None => Ok(!names.is_empty()),
        Some(name) => Err(fault(
            "normalizer",
            format!("\"{}\" cannot be written into a GGUF file (only NFC is left out)", shown(name)),
        )),
    }
}

/// GGUF's name of what cuts text into words.
fn pre_tokenizer(file: &TokenizerFile) -> Result<&'static str, TokenizerError> {
    const FIELD: &str = "pre_tokenizer";
    let wrapper = part::<PreTokenizerWrapper>(FIELD, file.pre_tokenizer.clone())?;
    let words = |text: &str| {
        let mut words = PreTokenizedString::from(text);
        // It is others' code, which a file may set up in any way.
        let cut = catch_unwind(AssertUnwindSafe(|| match &wrapper {
            Some(wrapper) => wrapper.pre_tokenize(&mut words),
            None => Ok(()),
        }));
        if !matches!(cut, Ok(Ok(()))) {
            return Err(fault(FIELD, "it fails on ordinary text"));
        }
        let splits = words.get_splits(OffsetReferential::Normalized, OffsetType::None);
        Ok(splits.into_iter().map(|(word, _, _)| word.to_owned()).collect())
    };
    let whole_words = file.model.ignore_merges.unwrap_or_default();
    PreTokenizer::name_of(whole_words, words)?.ok_or_else(|| {
        let with = if whole_words { "with" } else { "without" };
        fault(
            FIELD,
            format!("GGUF has no name that is known here for this way to cut words {with} model.ignore_merges"),
        )
    })
}

/// Texts and types of `rows` tokens.
fn tokens(tokenizer: &Tokenizer, rows: usize) -> Result<(StringArray, Vec<i32>), TokenizerError> {
    let mut texts = StringArray::new();
    let mut types = Vec::with_capacity(rows);
    let listed = tokenizer.vocabulary().iter().filter(|(text, _, _)| !text.is_empty());
    let mut listed = listed.map(|(text, kind, id)| (id as usize, text, kind)).peekable();
    for id in 0..rows {
        let pushed = match listed.next_if(|(listed, _, _)| *listed == id) {
            Some((_, text, kind)) => {
                types.push(kind.number());
                texts.push(text)
            }
            None => {
                types.push(TokenKind::Unused.number());
                texts.push(&format!("[PAD{id}]"))
            }
        };
        if !pushed {
            return Err(fault("model.vocab", "its tokens have more than 4 GiB of text"));
        }
    }
    Ok((texts, types))
}

/// Pairs with a space between.
fn merges(file: &TokenizerFile) -> Result<StringArray, TokenizerError> {
    let mut lines = StringArray::new();
    for merge in file.model.merges.iter().filter(|merge| !merge.is_version()) {
        let pushed = merge.parts().is_some_and(|(left, right)| lines.push(&format!("{left} {right}")));
        if !pushed {
            return Err(fault("model.merges", "they cannot be written as lines"));
        }
    }
    Ok(lines)
}
