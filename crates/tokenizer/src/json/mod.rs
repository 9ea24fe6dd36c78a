//! Tokenizers of model folders: `tokenizer.json` and the files beside it.

mod config;
mod file;
mod gguf;
mod growth;

use std::fs::File;
use std::io::Read;
use std::panic::catch_unwind;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab as BpeVocab};
use tokenizers::{ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use self::config::ConfigFile;
use self::file::{Model, ModelKind, TokenizerFile, Vocab};
use crate::error::shown;
use crate::pipeline::{Pipeline, WORD_CHARS_MAX, check_charsmap, unigram, word_piece};
use crate::tokenizer::Algorithm;
use crate::vocabulary::{CONTINUES, Spelling, TokenKind, Vocabulary};
use crate::{Tokenizer, TokenizerError};

pub use self::gguf::GgufTokenizer;

const FILE: &str = "tokenizer.json";

/// Largest `tokenizer.json` that is read; Gemma's, with 262,144 tokens, has 33 MB.
const TOKENIZER_BYTES_MAX: u64 = 256 << 20;

/// Largest file beside it that is read.
const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// The contents of the files of a model folder that tell its tokenizer.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenizerFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`: start and end tokens, whether they are added, the chat template.
    pub tokenizer_config: Option<&'a [u8]>,
    /// `generation_config.json`: the tokens that end an answer.
    pub generation_config: Option<&'a [u8]>,
    /// `chat_template.jinja`, which goes before the template in `tokenizer_config.json`.
    pub chat_template: Option<&'a str>,
}

impl Tokenizer {
    /// Reads the tokenizer from the files of a model folder; all but `tokenizer.json` may be missing.
    ///
    /// # Errors
    /// As [`Tokenizer::from_json`]; [`TokenizerError::Read`] for a file that cannot be read, is no regular file or is too
    /// large.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        with_files(folder.as_ref(), Self::from_json)
    }

    /// Makes the tokenizer from the contents of a model folder's files. Ordinary text is encoded by the parts of the crate
    /// `tokenizers` that the file names; special tokens are found as in GGUF files, and on the text as it is, not on the
    /// normalized one.
    ///
    /// # Errors
    /// [`TokenizerError::Json`] with the field when one is missing or wrong, contradicts another, or asks for what is not
    /// supported.
    pub fn from_json(files: &TokenizerFiles<'_>) -> Result<Self, TokenizerError> {
        let file: TokenizerFile = parse(FILE, files.tokenizer)?;
        if let Some(version) = file.version.as_deref().filter(|version| *version != "1.0") {
            return Err(fault("version", format!("\"{}\" is not supported (1.0 is)", shown(version))));
        }
        let kind = file.model.kind()?;
        let vocabulary = file.vocabulary(spelling(&file, kind)?)?;
        let config = ConfigFile::of(files)?;
        let settings = config.settings(files.generation_config, &vocabulary, file.post_processor.as_ref())?;
        let chat_template = files.chat_template.map(str::to_owned).or_else(|| config.chat_template());
        let pipeline = pipeline(file, kind, &vocabulary)?;
        Ok(Self::new(vocabulary, Algorithm::Pipeline(Box::new(pipeline)), settings, chat_template))
    }
}

/// Reads the files of a model folder that tell its tokenizer.
fn with_files<T>(
    folder: &Path,
    work: impl FnOnce(&TokenizerFiles<'_>) -> Result<T, TokenizerError>,
) -> Result<T, TokenizerError> {
    let tokenizer = read(&folder.join(FILE), TOKENIZER_BYTES_MAX)?;
    let optional = |name: &str| {
        let path = folder.join(name);
        if path.exists() { read(&path, CONFIG_BYTES_MAX).map(Some) } else { Ok(None) }
    };
    let tokenizer_config = optional(config::FILE)?;
    let generation_config = optional(config::GENERATION_FILE)?;
    let chat_template = optional(config::TEMPLATE_FILE)?.map(String::from_utf8).transpose();
    let chat_template = chat_template.map_err(|error| TokenizerError::Json {
        file: config::TEMPLATE_FILE,
        field: format!("byte {}", error.utf8_error().valid_up_to()),
        reason: "it is not UTF-8".to_owned(),
    })?;
    work(&TokenizerFiles {
        tokenizer: &tokenizer,
        tokenizer_config: tokenizer_config.as_deref(),
        generation_config: generation_config.as_deref(),
        chat_template: chat_template.as_deref(),
    })
}

/// A fault of `tokenizer.json`.
fn fault(field: impl Into<String>, reason: impl Into<String>) -> TokenizerError {
    TokenizerError::Json { file: FILE, field: field.into(), reason: reason.into() }
}

/// A regular file of at most that many bytes.
fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, TokenizerError> {
    let failed = |source| TokenizerError::Read { path: path.to_owned(), source };
    // Asked before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("it is no regular file")));
    }
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(failed(std::io::Error::other(format!("it is larger than {} MiB", bytes_max >> 20))));
    }
    Ok(bytes)
}

/// The contents of a JSON file; errors tell the field.
fn parse<T: DeserializeOwned>(file: &'static str, bytes: &[u8]) -> Result<T, TokenizerError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| TokenizerError::Json {
        file,
        field: shown(&error.path().to_string()),
        reason: error.inner().to_string(),
    })?;
    json.end().map_err(|error| TokenizerError::Json { file, field: ".".to_owned(), reason: error.to_string() })?;
    Ok(parsed)
}

/// A part of the crate `tokenizers`; `None` for null.
fn part<T: DeserializeOwned>(field: &str, value: Option<Value>) -> Result<Option<T>, TokenizerError> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    // It is others' code that reads them, and some of it panics at what it does not expect.
    match catch_unwind(|| serde_json::from_value(value)) {
        Ok(Ok(part)) => Ok(Some(part)),
        Ok(Err(error)) => Err(fault(field, error.to_string())),
        Err(_) => Err(fault(field, "it cannot be read")),
    }
}

/// The objects of a normalizer, pre-tokenizer or decoder: itself, or what it is a sequence of, in the field `list`.
fn objects<'a>(value: &'a Value, list: &str) -> Vec<&'a Value> {
    match value.get(list).and_then(Value::as_array) {
        Some(items) => items.iter().flat_map(|item| objects(item, list)).collect(),
        None => vec![value],
    }
}

fn type_of(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// How tokens stand for bytes: as the decoder says, or the pre-tokenizer or model where there is none.
fn spelling(file: &TokenizerFile, kind: ModelKind) -> Result<Spelling, TokenizerError> {
    let of_model = if kind == ModelKind::WordPiece { Spelling::WordPiece } else { Spelling::SentencePiece };
    let Some(decoder) = file.decoder.as_ref().filter(|decoder| !decoder.is_null()) else {
        let words = file.pre_tokenizer.iter().flat_map(|value| objects(value, "pretokenizers"));
        return Ok(if words.map(type_of).any(|name| name == "ByteLevel") { Spelling::ByteLevel } else { of_model });
    };
    let mut spelling = of_model;
    for object in objects(decoder, "decoders") {
        let field = |name: &str| object.get(name).and_then(Value::as_str);
        let pattern = object.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
        match type_of(object) {
            "ByteLevel" => spelling = Spelling::ByteLevel,
            "WordPiece" if field("prefix") == Some(CONTINUES) => spelling = Spelling::WordPiece,
            "Metaspace" if field("replacement") == Some("▁") => spelling = Spelling::SentencePiece,
            "Replace" if pattern == Some("▁") && field("content") == Some(" ") => spelling = Spelling::SentencePiece,
            // Bytes are put together, and a space in front is kept, whatever the file says.
            "ByteFallback" | "Fuse" | "Strip" => {}
            other => {
                let reason = format!("\"{}\" with its settings is not supported", shown(other));
                return Err(fault("decoder", reason));
            }
        }
    }
    Ok(spelling)
}

fn pipeline(file: TokenizerFile, kind: ModelKind, vocabulary: &Vocabulary) -> Result<Pipeline, TokenizerError> {
    let table_growth = check_charsmaps(file.normalizer.as_ref())?;
    growth::check(file.normalizer.as_ref(), file.pre_tokenizer.as_ref(), table_growth)?;
    let normalizer = part::<NormalizerWrapper>("normalizer", file.normalizer)?;
    let mut inside = file.pre_tokenizer.clone();
    let pre_tokenizer_inside = if inside.as_mut().is_some_and(prepend_never) {
        part::<PreTokenizerWrapper>("pre_tokenizer", inside)?
    } else {
        None
    };
    let pre_tokenizer = part::<PreTokenizerWrapper>("pre_tokenizer", file.pre_tokenizer)?;
    let unknown = vocabulary.specials().find(|(_, _, kind)| *kind == TokenKind::Unknown).map(|(id, _, _)| id);
    let model = match kind {
        ModelKind::Bpe => ModelWrapper::BPE(bpe(file.model, vocabulary)?),
        ModelKind::WordPiece => {
            let Vocab::Ids(ids) = file.model.vocab else {
                return Err(fault("model.vocab", "it is a list, not an object"));
            };
            if file.model.continuing_subword_prefix.as_deref().is_some_and(|prefix| prefix != CONTINUES) {
                return Err(fault("model.continuing_subword_prefix", format!("only \"{CONTINUES}\" is supported")));
            }
            let word_chars_max = file.model.max_input_chars_per_word.unwrap_or(100);
            let word_chars_max = usize::try_from(word_chars_max).unwrap_or(usize::MAX);
            if word_chars_max > WORD_CHARS_MAX {
                let reason = format!("{word_chars_max} is more than {WORD_CHARS_MAX}");
                return Err(fault("model.max_input_chars_per_word", reason));
            }
            let (Some(text), Some(id)) = (file.model.unk_token, unknown) else {
                return Err(fault("model.unk_token", "it is missing"));
            };
            // An added token may be the only one of that text.
            let model = word_piece(ids.into_iter().chain([(text.clone(), id)]), &text, word_chars_max);
            ModelWrapper::WordPiece(model.map_err(|error| fault("model", error.to_string()))?)
        }
        ModelKind::Unigram => {
            let Vocab::Scores(pieces) = file.model.vocab else { return Err(fault("model.vocab", "it has no scores")) };
            if let Some(empty) = pieces.iter().position(|(text, _)| text.is_empty()) {
                return Err(fault(format!("model.vocab[{empty}]"), "the token is empty"));
            }
            if unknown.is_none() {
                return Err(fault("model.unk_id", "it is missing"));
            }
            let bytes = file.model.byte_fallback.unwrap_or_default();
            let model = unigram(vocabulary, pieces.into_iter(), unknown, bytes);
            ModelWrapper::Unigram(model.map_err(|error| fault("model", error.to_string()))?)
        }
    };
    Ok(Pipeline { normalizer, pre_tokenizer, pre_tokenizer_inside, model, unknown })
}

/// A byte-pair model without the merges to control tokens. All its merges are of tokens: the crate relies on that.
fn bpe(model: Model, vocabulary: &Vocabulary) -> Result<BPE, TokenizerError> {
    let Vocab::Ids(ids) = model.vocab else { return Err(fault("model.vocab", "it is a list, not an object")) };
    for (field, value) in [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(text) = value.as_deref().filter(|text| !text.is_empty()) {
            return Err(fault(field, format!("\"{}\" is not supported with BPE", shown(text))));
        }
    }
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err(fault("model.dropout", "encoding by chance is not supported"));
    }
    let ids: BpeVocab = ids.into_iter().collect();
    let mut merges = Vec::with_capacity(model.merges.len());
    for (number, merge) in model.merges.iter().enumerate() {
        if merge.is_version() {
            continue;
        }
        let refuse = |reason: &str| fault(format!("model.merges[{number}]"), reason);
        let (left, right) = merge.parts().ok_or_else(|| refuse("it is not two parts with a space between"))?;
        let merged = ids.get(&format!("{left}{right}"));
        let (Some(_), Some(_), Some(&merged)) = (ids.get(left), ids.get(right), merged) else {
            return Err(refuse("it has a part that is not in the vocabulary"));
        };
        if vocabulary.kind(merged) != Some(TokenKind::Control) {
            merges.push((left.to_owned(), right.to_owned()));
        }
    }
    // A text that only an added token has is none of the model's: what is unknown is left out then.
    let unknown = model.unk_token.filter(|text| ids.contains_key(text));
    let mut builder = BPE::builder()
        .vocab_and_merges(ids, merges)
        .byte_fallback(model.byte_fallback.unwrap_or_default())
        .fuse_unk(model.fuse_unk.unwrap_or_default())
        .ignore_merges(model.ignore_merges.unwrap_or_default());
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown);
    }
    builder.build().map_err(|error| fault("model", error.to_string()))
}

/// Checks the sizes in tables of replacements: the crate takes memory for as much as they say. Gives the bytes of the longest
/// replacement.
fn check_charsmaps(normalizer: Option<&Value>) -> Result<u64, TokenizerError> {
    let mut longest = 1;
    for object in normalizer.into_iter().flat_map(|value| objects(value, "normalizers")) {
        let Some(table) = object.get("precompiled_charsmap").and_then(Value::as_str) else { continue };
        let field = "normalizer.precompiled_charsmap";
        let table = STANDARD.decode(table).map_err(|error| fault(field, error.to_string()))?;
        longest = longest.max(check_charsmap(&table).map_err(|reason| fault(field, reason))?);
    }
    Ok(longest)
}

/// Makes what puts a space in front of the first word of a text put none, and tells whether there was such.
fn prepend_never(pre_tokenizer: &mut Value) -> bool {
    match pre_tokenizer {
        Value::Object(fields) => fields.iter_mut().fold(false, |changed, (name, value)| {
            if name == "prepend_scheme" && value.as_str() == Some("first") {
                *value = Value::from("never");
                return true;
            }
            prepend_never(value) | changed
        }),
        Value::Array(items) => items.iter_mut().fold(false, |changed, item| prepend_never(item) | changed),
        _ => false,
    }
}
