//! What can be wrong with a model file: what, where, and what was expected instead.

use std::io;
use std::path::PathBuf;

/// Why a model file is refused or cannot be read. Names taken from the file are shortened and escaped for display.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system failed to read or write.
    #[error("cannot access {what} at byte {offset}: {source}")]
    Io {
        /// What was being read or written.
        what: String,
        /// Where in the file.
        offset: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// The first bytes are not those of a GGUF file. Which they are is not said: the message may go to somebody who may name
    /// a file of the server's machine, and not read it.
    #[error("not a GGUF file: it does not start with \"GGUF\"")]
    Magic,
    /// The file was written for big-endian machines.
    #[error("big-endian GGUF files are not supported (convert the file to little-endian)")]
    BigEndian,
    /// A version of the format that is not read.
    #[error("GGUF version {version} is not supported (versions 2 and 3 are)")]
    Version {
        /// The version found.
        version: u32,
    },
    /// Something reaches past the end of the file.
    #[error(
        "{what} at byte {offset} needs {needed} bytes, but the file ends at byte {file_len}: it is truncated or lies about its sizes"
    )]
    Truncated {
        /// What was being read.
        what: String,
        /// Where it starts.
        offset: u64,
        /// Bytes it needs.
        needed: u64,
        /// Bytes the file has.
        file_len: u64,
    },
    /// A count or length above what this reader accepts.
    #[error("{what} is {actual}, more than the limit of {limit}")]
    Limit {
        /// What was counted.
        what: String,
        /// The number found.
        actual: u64,
        /// The largest accepted.
        limit: u64,
    },
    /// Something that contradicts the format.
    #[error("{what} at byte {offset} is invalid: {reason}")]
    Invalid {
        /// What it is.
        what: String,
        /// Where it is.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The same metadata key or tensor name appears twice.
    #[error("{what} appears twice")]
    Duplicate {
        /// The key or tensor.
        what: String,
    },
    /// A tensor's element type exists but cannot be used here.
    #[error("tensor \"{tensor}\" has type {type_name}, and {type_name} is not supported")]
    UnsupportedType {
        /// The tensor.
        tensor: String,
        /// The type's usual name.
        type_name: &'static str,
    },
    /// A tensor's element type is not known at all.
    #[error("tensor \"{tensor}\" has the unknown type number {id}")]
    UnknownType {
        /// The tensor.
        tensor: String,
        /// The number found.
        id: u32,
    },
    /// A tensor whose shape or place makes no sense.
    #[error("tensor \"{tensor}\" is invalid: {reason}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor's bytes are not there any more.
    #[error(
        "tensor \"{tensor}\": the file ended before its {expected} bytes at byte {offset} were read (truncated or replaced while in use)"
    )]
    TensorTruncated {
        /// The tensor.
        tensor: String,
        /// Where in the file the bytes should be.
        offset: u64,
        /// How many were asked for.
        expected: u64,
    },
    /// Something is wrong with one of several files.
    #[error("{file}: {source}")]
    InFile {
        /// Its name.
        file: String,
        /// What is wrong.
        source: Box<Self>,
    },
    /// A file that is one of several does not belong to the others, or one of them is missing.
    #[error("the model is split, and {shard} {reason}")]
    Shard {
        /// The file's name.
        shard: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder without what a model needs.
    #[error("the folder {} {reason}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// JSON that cannot be read.
    #[error("{file} is no JSON of the form expected: {reason}")]
    Json {
        /// The file's name.
        file: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// A field of a folder's JSON file that is missing, wrong, or asks for what is not supported.
    #[error("{file}: \"{field}\" should be {expected}, but {actual}")]
    Config {
        /// `config.json`, or `adapter_config.json`.
        file: &'static str,
        /// The field, with the objects around it.
        field: String,
        /// What was expected.
        expected: String,
        /// What is there: `is …`, or `is missing`.
        actual: String,
    },
    /// Not a LoRA adapter, or one of a kind that is not supported.
    #[error("the adapter cannot be used: {reason}")]
    Adapter {
        /// What is wrong with it.
        reason: String,
    },
    /// A metadata value is of another type, or out of the range asked for.
    #[error("metadata key \"{key}\" should hold {expected}, but holds {actual}")]
    WrongType {
        /// The key.
        key: String,
        /// What was asked for.
        expected: &'static str,
        /// What is there.
        actual: String,
    },
}

impl FormatError {
    /// Says in which of several files it happened.
    pub(crate) fn in_file(self, file: &str) -> Self {
        Self::InFile { file: shown(file), source: Box::new(self) }
    }
}

/// A name from a file, made fit for a message: escaped and at most 80 characters.
pub(crate) fn shown(name: &str) -> String {
    const MOST: usize = 80;
    let mut text: String = name.chars().take(MOST).flat_map(char::escape_debug).collect();
    if name.chars().nth(MOST).is_some() {
        text.push('…');
    }
    text
}
