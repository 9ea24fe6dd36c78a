//! Forward passes of the supported architectures over a paged KV cache.
#![forbid(unsafe_code)]

mod batch;
pub use batch::{BLOCK_TOKENS, Batch, BlockId, Column};
