//! The real runner: a model, its workspace and its KV cache.

use std::sync::Arc;

use model::{Batch, BlockId, KvCache, KvCacheError, KvType, Model, Reservation, Workspace};

use crate::runner::{Runner, RunnerError, RunnerShape};

/// Runs batches through a [`Model`].
pub struct ModelRunner {
    model: Arc<Model>,
    workspace: Workspace,
    cache: KvCache,
}

impl ModelRunner {
    /// A runner with `kv_blocks` blocks of KV of this type, of [`Model::kv_block_bytes`] bytes each.
    ///
    /// # Errors
    /// When there is no memory for that many blocks.
    pub fn new(model: Arc<Model>, kv_type: KvType, kv_blocks: usize) -> Result<Self, KvCacheError> {
        let cache = model.new_kv_cache(kv_type, kv_blocks)?;
        Ok(Self { model, workspace: Workspace::new(), cache })
    }
}

impl Runner for ModelRunner {
    fn shape(&self) -> RunnerShape {
        let config = self.model.config();
        RunnerShape {
            vocab_size: config.vocab_size,
            context_len: config.context_len,
            kv_blocks: self.cache.blocks(),
            states: config.state_space.is_some(),
        }
    }

    fn reserve(&self) -> Option<Reservation> {
        Some(self.model.reserve())
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut [f32]) -> Result<(), RunnerError> {
        self.model
            .forward(&mut self.workspace, &mut self.cache, batch, logits)
            .map_err(|error| RunnerError(error.to_string()))
    }

    fn copy_block(&mut self, from: BlockId, to: BlockId, tokens: usize) {
        self.cache.copy_block(from, to, tokens);
    }
}
