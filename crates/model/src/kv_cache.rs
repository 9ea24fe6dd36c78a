//! Keys and values of past positions, in blocks of 32 tokens.

use kernels::{KV_BLOCK_TOKENS, KvStore};

use crate::batch::{BLOCK_TOKENS, BlockId};
use crate::config::ModelConfig;

pub use kernels::{KvStoreError as KvCacheError, KvType};

const _: () = assert!(BLOCK_TOKENS == KV_BLOCK_TOKENS);

/// Keys and values of all layers. Pages of blocks that were never written are not backed by memory.
pub struct KvCache {
    pub(crate) store: KvStore,
}

impl KvCache {
    pub(crate) fn new(config: &ModelConfig, kv_type: KvType, blocks: usize) -> Result<Self, KvCacheError> {
        Ok(Self { store: KvStore::new(kv_type, config.layers, config.kv_heads, config.head_dim, blocks)? })
    }

    /// How keys and values are kept.
    #[must_use]
    pub fn kv_type(&self) -> KvType {
        self.store.kv_type()
    }

    /// Blocks of [`BLOCK_TOKENS`] tokens.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.store.blocks()
    }

    /// Copies the first `tokens` tokens of block `from` to block `to`, in all layers. What `to` holds beyond them is
    /// unspecified.
    ///
    /// # Panics
    /// When a block is outside the cache or `tokens` above [`BLOCK_TOKENS`].
    pub fn copy_block(&mut self, from: BlockId, to: BlockId, tokens: usize) {
        assert!(tokens <= BLOCK_TOKENS, "{tokens} tokens in a block of {BLOCK_TOKENS}");
        if tokens > 0 && from != to {
            // The whole block: its tokens are interleaved, and slots beyond a position are never read.
            self.store.copy_block(from as usize, to as usize);
        }
    }

    pub(crate) fn fits(&self, config: &ModelConfig) -> bool {
        (self.store.layers(), self.store.kv_heads(), self.store.head_dim())
            == (config.layers, config.kv_heads, config.head_dim)
    }
}

impl std::fmt::Debug for KvCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KvCache({} blocks of {})", self.blocks(), self.kv_type().name())
    }
}
