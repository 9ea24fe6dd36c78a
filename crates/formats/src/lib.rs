//! Model files: every bound and limit is checked here, once.
//!
//! What leaves this crate is consistent: names are unique, counts are real, and every tensor lies inside its file. Memory
//! taken while a header is read is bounded by the size of the file, whatever the file claims.
//!
//! [`adapter::Adapter`] does the same for LoRA adapters. Whatever a model is stored in, [`gguf::Gguf`] gives it out: metadata and tensors under GGUF's names.
#![forbid(unsafe_code)]

pub mod adapter;
mod data_file;
mod error;
pub mod gguf;
mod huggingface;
pub mod safetensors;
mod shard_name;

pub use error::FormatError;
pub use shard_name::ShardName;
