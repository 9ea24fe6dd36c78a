//! What sequences leave behind for their next positions: keys and values in blocks of 32 tokens, or, where layers have a
//! state, one block for each sequence, however long.

use kernels::{KV_BLOCK_TOKENS, KvStore, StateStore};

use crate::batch::{BLOCK_TOKENS, BlockId};
use crate::config::ModelConfig;

pub use kernels::{KvStoreError as KvCacheError, KvType};

const _: () = assert!(BLOCK_TOKENS == KV_BLOCK_TOKENS);

/// Keys and values, or states, of all layers. Pages of blocks that were never written are not backed by memory.
pub struct KvCache {
    store: Store,
}

enum Store {
    Kv(KvStore),
    States(StateStore),
}

impl KvCache {
    pub(crate) fn new(config: &ModelConfig, kv_type: KvType, blocks: usize) -> Result<Self, KvCacheError> {
        let store = match config.state_space {
            Some(sizes) => Store::States(StateStore::new(sizes.shape(), config.layers, blocks)?),
            None => Store::Kv(KvStore::new(kv_type, config.layers, config.kv_heads, config.head_dim, blocks)?),
        };
        Ok(Self { store })
    }

    /// Blocks of [`ModelConfig::block_tokens`] tokens.
    #[must_use]
    pub fn blocks(&self) -> usize {
        match &self.store {
            Store::Kv(store) => store.blocks(),
            Store::States(states) => states.slots(),
        }
    }

    /// Copies the first `tokens` tokens of block `from` to block `to`, in all layers; a state as a whole. What `to` holds
    /// beyond them is unspecified.
    ///
    /// # Panics
    /// When a block is outside the cache, or `tokens` above [`BLOCK_TOKENS`] where blocks hold so many.
    pub fn copy_block(&mut self, from: BlockId, to: BlockId, tokens: usize) {
        if tokens == 0 || from == to {
            return;
        }
        match &mut self.store {
            Store::Kv(store) => {
                assert!(tokens <= BLOCK_TOKENS, "{tokens} tokens in a block of {BLOCK_TOKENS}");
                // The whole block: its tokens are interleaved, and slots beyond a position are never read.
                store.copy_block(from as usize, to as usize);
            }
            Store::States(states) => states.copy(from as usize, to as usize),
        }
    }

    pub(crate) fn fits(&self, config: &ModelConfig) -> bool {
        match &self.store {
            Store::Kv(store) => {
                config.state_space.is_none()
                    && (store.layers(), store.kv_heads(), store.head_dim())
                        == (config.layers, config.kv_heads, config.head_dim)
            }
            Store::States(states) => {
                config.state_space.is_some_and(|sizes| sizes.shape() == states.shape())
                    && states.layers() == config.layers
            }
        }
    }

    /// Keys and values.
    ///
    /// # Panics
    /// When it holds states: [`Self::fits`] is asked before a pass.
    pub(crate) fn kv(&mut self) -> &mut KvStore {
        match &mut self.store {
            Store::Kv(store) => store,
            Store::States(_) => unreachable!("attention over a cache of states"),
        }
    }

    /// States.
    ///
    /// # Panics
    /// When it holds keys and values: [`Self::fits`] is asked before a pass.
    pub(crate) fn states(&mut self) -> &mut StateStore {
        match &mut self.store {
            Store::States(states) => states,
            Store::Kv(_) => unreachable!("a scan over a cache of keys and values"),
        }
    }
}

impl std::fmt::Debug for KvCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.store {
            Store::Kv(store) => write!(f, "KvCache({} blocks of {})", self.blocks(), store.kv_type().name()),
            Store::States(_) => write!(f, "KvCache({} states)", self.blocks()),
        }
    }
}
