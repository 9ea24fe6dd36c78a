//! Forward passes of the supported architectures over a paged KV cache.
//!
//! A position's logits are the same, bit for bit, however they are computed: alone, in a batch, in chunks of a prompt,
//! after shared blocks, on one thread or several.
#![forbid(unsafe_code)]

mod batch;
mod config;
mod error;
mod gemma3;
mod kv_cache;
mod llama;
mod model;
mod step;
mod weights;

pub use batch::{BLOCK_TOKENS, Batch, BlockId, Column};
pub use config::ModelConfig;
pub use error::{ForwardError, LoadError};
pub use kv_cache::{KvCache, KvCacheError, KvType};
pub use kernels::Reservation;
pub use model::Model;
pub use step::Workspace;
pub use weights::weight_type;
