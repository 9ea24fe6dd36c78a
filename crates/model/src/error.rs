//! What can be wrong with a model file or a batch.

use formats::FormatError;
use formats::gguf::Gguf;
use kernels::MatrixError;

/// Why a model file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// An architecture that is not supported.
    #[error("architecture \"{found}\" is not supported (supported: {supported})")]
    UnknownArchitecture {
        /// Its name in the file.
        found: String,
        /// What is supported.
        supported: String,
    },
    /// A metadata key is missing.
    #[error("metadata key \"{key}\" is missing")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A metadata value makes no sense or is not supported.
    #[error("metadata key \"{key}\" should be {expected}, but is {actual}")]
    InvalidKey {
        /// The key.
        key: String,
        /// What was expected.
        expected: String,
        /// What is there.
        actual: String,
    },
    /// A tensor is missing.
    #[error("tensor \"{name}\" is missing")]
    MissingTensor {
        /// The tensor.
        name: String,
    },
    /// A tensor whose shape does not fit the metadata.
    #[error("tensor \"{name}\" should have shape {expected:?} (row length first), but has {actual:?}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// The shape that follows from the metadata, row length first.
        expected: Vec<u64>,
        /// Its shape in the file.
        actual: Vec<u64>,
    },
    /// A value of a tensor makes no sense.
    #[error("tensor \"{name}\" should hold {expected}, but holds {actual} at {index}")]
    TensorValue {
        /// The tensor.
        name: String,
        /// What was expected.
        expected: &'static str,
        /// Index of the value.
        index: usize,
        /// What is there.
        actual: f32,
    },
    /// A tensor that this architecture does not use: ignoring it would give wrong answers.
    #[error("tensor \"{name}\" is not supported for architecture \"{architecture}\"")]
    UnsupportedTensor {
        /// The tensor.
        name: String,
        /// The file's architecture.
        architecture: &'static str,
    },
    /// An adapter that belongs to another architecture.
    #[error("the adapter is for architecture \"{found}\", the model is of \"{model}\"")]
    AdapterArchitecture {
        /// The adapter's.
        found: String,
        /// The model's.
        model: &'static str,
    },
    /// An adapter of a matrix that the model does not have, or that cannot be adapted.
    #[error("the adapter changes \"{matrix}\", but {reason}")]
    AdapterMatrix {
        /// The matrix.
        matrix: String,
        /// Why that cannot be.
        reason: String,
    },
    /// A tensor's weights cannot be taken into memory.
    #[error("tensor \"{name}\": {source}")]
    Matrix {
        /// The tensor.
        name: String,
        /// The reason.
        source: MatrixError,
    },
}

impl LoadError {
    /// Names the field of a folder's `config.json` in place of the metadata key that it became.
    pub(crate) fn in_words_of(self, gguf: &Gguf) -> Self {
        let (key, expected, actual) = match &self {
            Self::InvalidKey { key, expected, actual } => (key, expected.clone(), format!("is {actual}")),
            Self::MissingKey { key } => (key, "there".to_owned(), "is missing".to_owned()),
            _ => return self,
        };
        let Some(field) = gguf.config_field(key) else { return self };
        Self::Format(FormatError::Config { file: "config.json", field: field.to_owned(), expected, actual })
    }
}

/// What is wrong with a batch. Nothing was computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// A token outside the vocabulary.
    #[error("column {column}: token {token} is outside the vocabulary of {vocab_size}")]
    Token {
        /// Index of the column.
        column: usize,
        /// The token.
        token: u32,
        /// Vocabulary size.
        vocab_size: usize,
    },
    /// A position outside the context.
    #[error("column {column}: position {position} is outside the context of {context_len}")]
    Position {
        /// Index of the column.
        column: usize,
        /// The position.
        position: u32,
        /// Context length.
        context_len: usize,
    },
    /// A sequence without a block table.
    #[error("column {column}: sequence {sequence} has no block table (there are {tables})")]
    Sequence {
        /// Index of the column.
        column: usize,
        /// The sequence.
        sequence: u32,
        /// Number of tables.
        tables: usize,
    },
    /// Columns of one sequence that are not in order.
    #[error("column {column}: position {position} does not follow {previous} of the same sequence")]
    Order {
        /// Index of the column.
        column: usize,
        /// Its position.
        position: u32,
        /// The position before it.
        previous: u32,
    },
    /// A block table that is too short for its sequence.
    #[error("column {column}: position {position} has no KV block (its table holds {blocks})")]
    Table {
        /// Index of the column.
        column: usize,
        /// Its position.
        position: u32,
        /// Blocks in the table.
        blocks: usize,
    },
    /// A state that columns of two sequences, or of one that do not stand together, would change.
    #[error("column {column}: the state in block {block} is changed by earlier columns too")]
    State {
        /// Index of the column.
        column: usize,
        /// The block.
        block: u32,
    },
    /// A block outside the cache.
    #[error("KV block {block} is outside the cache of {blocks}")]
    Block {
        /// The block.
        block: u32,
        /// Blocks of the cache.
        blocks: usize,
    },
    /// A wanted column that does not exist, or is not in ascending order.
    #[error("logits are wanted of column {column}, which does not exist or is not in ascending order")]
    LogitsOf {
        /// The index given.
        column: u32,
    },
    /// Room for another number of logits.
    #[error("room for {expected} logits is needed, but there is room for {actual}")]
    LogitsLen {
        /// Floats needed.
        expected: usize,
        /// Floats given.
        actual: usize,
    },
    /// A cache made for another model.
    #[error("the KV cache was made for another model")]
    Cache,
    /// An adapter loaded for another model, or adapters of another number of sequences.
    #[error("the adapter of sequence {sequence} was loaded for another model, or its number is wrong")]
    Adapter {
        /// The sequence.
        sequence: usize,
    },
}
