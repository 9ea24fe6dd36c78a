//! What the engine needs of a model: run columns, copy a block.

use model::{BLOCK_TOKENS, Batch, BlockId, Reservation};

/// Fixed facts of a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunnerShape {
    /// Ids run from 0 to this, exclusive; also the length of a row of logits.
    pub vocab_size: usize,
    /// Most positions of one sequence.
    pub context_len: usize,
    /// KV blocks it has memory for.
    pub kv_blocks: usize,
    /// Whether a block is the state of a whole sequence instead of the KV of [`BLOCK_TOKENS`] positions. A state goes forward
    /// only: no position of it can be taken back, or found again for another sequence.
    pub states: bool,
}

impl RunnerShape {
    /// Positions of a sequence that a block stands for.
    #[must_use]
    pub fn block_tokens(self) -> usize {
        if self.states { self.context_len } else { BLOCK_TOKENS }
    }
}

/// A forward pass that failed. The requests of its batch fail; the runner must stay usable.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RunnerError(pub String);

/// Runs batches over a paged KV cache, or over states. Real and simulated runners implement it.
pub trait Runner: Send {
    /// Fixed facts.
    fn shape(&self) -> RunnerShape;

    /// Waits until it is this runner's turn to compute, where several share the compute threads; the turn lasts as long as
    /// what it gives.
    fn reserve(&self) -> Option<Reservation> {
        None
    }

    /// Computes every column of the batch and writes the logits of those in `batch.logits_of`, in order, as rows of
    /// `vocab_size` into `logits` (`[batch.logits_of.len()][vocab_size]`).
    ///
    /// # Errors
    /// When the pass failed; the KV of the batch's columns is then undefined, all other KV is as before.
    fn forward(&mut self, batch: &Batch<'_>, logits: &mut [f32]) -> Result<(), RunnerError>;

    /// Copies the KV of the first `tokens` slots of block `from` to block `to`; a state as a whole.
    fn copy_block(&mut self, from: BlockId, to: BlockId, tokens: usize);
}
