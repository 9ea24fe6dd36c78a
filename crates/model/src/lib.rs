//! Forward passes of the supported architectures over a paged KV cache, or over states of sequences.
//!
//! A position's logits are the same, bit for bit, however they are computed: alone, in a batch, in chunks of a prompt,
//! after shared blocks, on one thread or several.
#![forbid(unsafe_code)]

mod adapter;
mod architecture;
mod batch;
mod config;
mod decoder;
mod error;
mod gemma2;
mod gemma3;
mod kv_cache;
mod llama;
mod mamba;
mod model;
mod phi3;
mod qwen2;
mod qwen3;
mod rope;
mod step;
mod weights;

pub use adapter::Adapter;
pub use batch::{BLOCK_TOKENS, Batch, BlockId, Column};
pub use config::{Experts, ModelConfig, StateSpace};
pub use error::{ForwardError, LoadError};
pub use kernels::Reservation;
pub use kv_cache::{KvCache, KvCacheError, KvType};
pub use model::Model;
pub use rope::{RopeScaling, Yarn};
pub use step::Workspace;
pub use weights::weight_type;
