//! What can be wrong with a tokenizer's metadata or a chat template.

use std::io;
use std::path::PathBuf;

use formats::FormatError;
use serde::{Deserialize, Serialize};

/// Why a tokenizer cannot be made from a model file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A metadata value is of the wrong type.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A key that every such file must have is not there.
    #[error("the file has no metadata key \"{key}\", which its tokenizer needs")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A kind of tokenizer that is not known.
    #[error("tokenizer model \"{name}\" is not supported (\"gpt2\", \"llama\", \"bert\" and \"t5\" are)")]
    UnknownModel {
        /// What the file says.
        name: String,
    },
    /// A way of cutting text into words that is not known.
    #[error("pre-tokenizer \"{name}\" is not supported (supported: {supported})")]
    UnknownPreTokenizer {
        /// What the file says.
        name: String,
        /// Those that are.
        supported: String,
    },
    /// Metadata that contradicts itself.
    #[error("metadata key \"{key}\" is invalid: {reason}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A file of a model's folder that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A JSON file that is not what it should be, or contradicts itself.
    #[error("{file}: {field}: {reason}")]
    Json {
        /// Its name, such as `tokenizer.json`.
        file: &'static str,
        /// Where in it.
        field: String,
        /// What is wrong.
        reason: String,
    },
}

/// The start of a text from a file as it may be shown: control characters escaped.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// Why a chat template cannot be compiled or rendered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Its source is not a template.
    #[error("the chat template cannot be compiled: {message}")]
    Compile {
        /// What and where.
        message: String,
    },
    /// It refused these messages (`raise_exception`).
    #[error("the chat template refuses these messages: {message}")]
    Raised {
        /// Its own words.
        message: String,
    },
    /// It failed.
    #[error("the chat template failed: {message}")]
    Render {
        /// What and where.
        message: String,
    },
    /// It did not come to an end, wrote without end, or needed too much memory.
    #[error("the chat template was stopped: {message}")]
    Exhausted {
        /// Which limit it met.
        message: String,
    },
    /// Not its fault: what renders it does not work.
    #[error("the chat template cannot be rendered: {message}")]
    Unavailable {
        /// What does not work.
        message: String,
    },
}
