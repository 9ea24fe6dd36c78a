//! A loaded model: weights in memory, ready for forward passes.

use std::collections::HashSet;
use std::sync::Arc;

use formats::gguf::Gguf;
use kernels::{KvStore, KvType, StateStore, ThreadPool};

use crate::adapter::Adapter;
use crate::architecture::{Architecture, Forward};
use crate::batch::{BLOCK_TOKENS, Batch};
use crate::config::ModelConfig;
use crate::kv_cache::{KvCache, KvCacheError};
use crate::weights::Loader;
use crate::{ForwardError, LoadError, Workspace};

/// A loaded model.
pub struct Model {
    config: ModelConfig,
    pass: Box<dyn Forward>,
    weight_bytes: usize,
    pool: Arc<ThreadPool>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("config", &self.config).finish_non_exhaustive()
    }
}

impl ModelConfig {
    /// Reads the sizes of a model of any known architecture; no weights are read.
    ///
    /// # Errors
    /// What is wrong with the file's metadata, naming the key, or for a folder the field of its `config.json`.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, LoadError> {
        (Architecture::of(gguf)?.config)(gguf).map_err(|error| error.in_words_of(gguf))
    }

    /// Bytes of one KV block, all layers; `None` when memory could not hold it. A state is F32, whatever the type.
    #[must_use]
    pub fn kv_block_bytes(&self, kv_type: KvType) -> Option<usize> {
        match self.state_space {
            Some(sizes) => StateStore::slot_bytes(sizes.shape(), self.layers),
            None => KvStore::block_bytes(kv_type, self.layers, self.kv_heads, self.head_dim),
        }
    }

    /// Positions of a sequence that one block of the cache stands for. A state stands for all there may be.
    #[must_use]
    pub fn block_tokens(&self) -> usize {
        if self.state_space.is_some() { self.context_len } else { BLOCK_TOKENS }
    }

    /// Blocks of the cache for `tokens` positions of a sequence.
    #[must_use]
    pub fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.block_tokens())
    }
}

impl Model {
    /// Takes all weights into memory; the file is not used afterwards. Forward passes run on `pool`.
    ///
    /// # Errors
    /// What is wrong with the file, naming the key or tensor.
    pub fn load(gguf: &Gguf, pool: &Arc<ThreadPool>) -> Result<Self, LoadError> {
        let architecture = Architecture::of(gguf)?;
        let config = (architecture.config)(gguf)?;
        if KvType::ALL.iter().any(|&kv_type| config.kv_block_bytes(kv_type).is_none()) {
            return Err(LoadError::InvalidKey {
                key: format!("{}.block_count", config.architecture),
                expected: "such that a KV block fits memory".to_owned(),
                actual: config.layers.to_string(),
            });
        }
        let mut loader = Loader::new(gguf, &config, pool);
        let pass = (architecture.load)(&config, &mut loader)?;
        let weight_bytes = loader.finish()?;
        Ok(Self { config, pass, weight_bytes, pool: Arc::clone(pool) })
    }

    /// Takes an adapter's weights into memory, for batches of this model; its files are not used afterwards.
    ///
    /// # Errors
    /// What does not fit this model, naming the tensor.
    pub fn load_adapter(&self, adapter: &formats::adapter::Adapter) -> Result<Adapter, LoadError> {
        Adapter::load(&self.config, adapter, &self.pool)
    }

    /// Sizes and constants.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Waits until no other model computes on the same threads, and keeps them from it for a while.
    pub fn reserve(&self) -> kernels::Reservation {
        self.pool.reserve()
    }

    /// Bytes of weights in memory.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    /// Bytes of one KV block, all layers.
    #[must_use]
    pub fn kv_block_bytes(&self, kv_type: KvType) -> usize {
        // It fits the address space: `load` checked.
        self.config.kv_block_bytes(kv_type).unwrap_or(usize::MAX)
    }

    /// A KV cache of `blocks` blocks for this model.
    ///
    /// # Errors
    /// No blocks, or no memory.
    pub fn new_kv_cache(&self, kv_type: KvType, blocks: usize) -> Result<KvCache, KvCacheError> {
        KvCache::new(&self.config, kv_type, blocks)
    }

    /// Runs a batch: writes its columns' keys and values to `cache` and the wanted columns' logits to `logits`,
    /// `[batch.logits_of.len()][vocab_size]`.
    ///
    /// # Errors
    /// What is wrong with the batch; nothing was computed then.
    pub fn forward(
        &self,
        workspace: &mut Workspace,
        cache: &mut KvCache,
        batch: &Batch<'_>,
        logits: &mut [f32],
    ) -> Result<(), ForwardError> {
        self.check(cache, batch, logits.len())?;
        if batch.columns.is_empty() {
            return Ok(());
        }
        let place = (&*self.pool, &self.config);
        self.pass.forward(&mut workspace.step(place, self.pass.frequencies(), cache, batch), logits);
        Ok(())
    }

    fn check(&self, cache: &KvCache, batch: &Batch<'_>, logits_len: usize) -> Result<(), ForwardError> {
        if !cache.fits(&self.config) {
            return Err(ForwardError::Cache);
        }
        let adapters = batch.adapters.len();
        let misfit = batch.adapters.iter().position(|adapter| adapter.is_some_and(|own| !own.fits(&self.config)));
        let wrong_number = adapters > 0 && adapters != batch.tables.len();
        if let Some(sequence) = misfit.or(wrong_number.then_some(adapters)) {
            return Err(ForwardError::Adapter { sequence });
        }
        let mut previous = None;
        for index in 0..batch.columns.len() {
            self.check_column(cache, batch, index, previous)?;
            previous = Some(index);
        }
        if self.config.state_space.is_some() {
            check_states(batch)?;
        }
        let mut last = None;
        for &column in batch.logits_of {
            if column as usize >= batch.columns.len() || last.is_some_and(|last| column <= last) {
                return Err(ForwardError::LogitsOf { column });
            }
            last = Some(column);
        }
        let expected = batch.logits_of.len() * self.config.vocab_size;
        if logits_len == expected { Ok(()) } else { Err(ForwardError::LogitsLen { expected, actual: logits_len }) }
    }

    fn check_column(
        &self,
        cache: &KvCache,
        batch: &Batch<'_>,
        index: usize,
        previous: Option<usize>,
    ) -> Result<(), ForwardError> {
        let column = batch.columns[index];
        let (vocab_size, context_len) = (self.config.vocab_size, self.config.context_len);
        if column.token as usize >= vocab_size {
            return Err(ForwardError::Token { column: index, token: column.token, vocab_size });
        }
        if column.position as usize >= context_len {
            return Err(ForwardError::Position { column: index, position: column.position, context_len });
        }
        let Some(table) = batch.tables.get(column.sequence as usize) else {
            return Err(ForwardError::Sequence {
                column: index,
                sequence: column.sequence,
                tables: batch.tables.len(),
            });
        };
        let last_block = column.position as usize / self.config.block_tokens();
        if last_block >= table.len() {
            return Err(ForwardError::Table { column: index, position: column.position, blocks: table.len() });
        }
        let neighbour = previous.map(|p| batch.columns[p]).filter(|p| p.sequence == column.sequence);
        // The neighbour's blocks were checked with it; the first column of a sequence checks all before it.
        let first_block = neighbour.map_or(0, |p| p.position as usize / self.config.block_tokens());
        if let Some(previous) = neighbour
            && previous.position.checked_add(1) != Some(column.position)
        {
            let (position, previous) = (column.position, previous.position);
            return Err(ForwardError::Order { column: index, position, previous });
        }
        match table[first_block..=last_block].iter().find(|&&block| block as usize >= cache.blocks()) {
            Some(&block) => Err(ForwardError::Block { block, blocks: cache.blocks() }),
            None => Ok(()),
        }
    }
}

/// Columns of a sequence stand together, and no two sequences change one state.
fn check_states(batch: &Batch<'_>) -> Result<(), ForwardError> {
    let (mut changed, mut previous) = (HashSet::new(), None);
    for (index, column) in batch.columns.iter().enumerate() {
        if previous.replace(column.sequence) == Some(column.sequence) {
            continue;
        }
        let block = batch.tables[column.sequence as usize][0];
        if !changed.insert(block) {
            return Err(ForwardError::State { column: index, block });
        }
    }
    Ok(())
}

/// The square root of a size.
pub(crate) fn sqrt(n: usize) -> f32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "sizes are small; the root is rounded"
    )]
    let root = (n as f64).sqrt() as f32;
    root
}
