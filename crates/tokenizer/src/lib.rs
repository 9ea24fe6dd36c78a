//! Text to token ids and back, chat templates, and decoding a stream safely.
//!
//! Everything is read from the model file's own metadata, or from the tokenizer.json of its folder. Input is any text;
//! nothing in it can cause a panic or time that grows with the square of its length.
#![forbid(unsafe_code)]

mod bpe;
mod chat;
mod clock;
mod error;
mod json;
mod merges;
mod pipeline;
mod pretokenizer;
mod special;
mod spm;
mod stream;
mod template;
mod text_index;
mod tokenizer;
mod unicode;
mod vocabulary;

pub use chat::ChatMessage;
pub use error::{TemplateError, TokenizerError};
pub use json::{GgufTokenizer, TokenizerFiles};
pub use merges::{MergeOrder, MergeStep, MergedWord};
pub use stream::StreamDecoder;
pub use template::{ChatTemplate, TemplateInput, TemplateRenderer};
pub use tokenizer::Tokenizer;
