//! A model with its cache, read position by position.

use std::sync::Arc;

use formats::gguf::Gguf;
use kernels::ThreadPool;
use model::{Batch, BlockId, Column, KvCache, KvType, Model, Workspace};

use super::COLUMNS;
use crate::assembly::file_error;
use crate::error::{Error, Result, chain};

/// A model with room for a window.
pub(super) struct Reader {
    model: Model,
    workspace: Workspace,
    cache: KvCache,
    table: Vec<BlockId>,
    logits: Vec<f32>,
}

impl Reader {
    pub(super) fn new(gguf: &Gguf, ctx: usize, pool: &Arc<ThreadPool>) -> Result<Self> {
        let model = Model::load(gguf, pool).map_err(|e| file_error(gguf.path(), &e))?;
        let blocks = model.config().blocks_for(ctx);
        let cache = model
            .new_kv_cache(KvType::F16, blocks)
            .map_err(|e| Error::failure("cannot make the KV cache").because(chain(&e)).hint("give a smaller --ctx"))?;
        let table = (0..).take(blocks).collect();
        let logits = vec![0.0; COLUMNS * model.config().vocab_size];
        Ok(Self { model, workspace: Workspace::new(), cache, table, logits })
    }

    /// Computes the positions `columns` of a window; logits of those in `scored`.
    pub(super) fn forward(
        &mut self,
        window: &[u32],
        columns: std::ops::Range<usize>,
        scored: std::ops::Range<usize>,
    ) -> Result<()> {
        let failed = |e: String| Error::failure("the forward pass failed").because(e);
        let number = |n: usize| u32::try_from(n).map_err(|e| failed(e.to_string()));
        let first = columns.start;
        let column = |position: usize| Ok(Column { token: window[position], position: number(position)?, sequence: 0 });
        let columns = columns.map(column).collect::<Result<Vec<_>>>()?;
        let logits_of = scored.map(|position| number(position - first)).collect::<Result<Vec<_>>>()?;
        let batch = Batch { columns: &columns, tables: &[&self.table], logits_of: &logits_of, adapters: &[] };
        let logits = &mut self.logits[..logits_of.len() * self.model.config().vocab_size];
        self.model.forward(&mut self.workspace, &mut self.cache, &batch, logits).map_err(|e| failed(chain(&e)))
    }

    /// Logits of the scored position `index` of the last forward pass.
    pub(super) fn logits(&self, index: usize) -> &[f32] {
        let vocab = self.model.config().vocab_size;
        &self.logits[index * vocab..][..vocab]
    }
}
