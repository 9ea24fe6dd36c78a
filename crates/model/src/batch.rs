//! What one forward pass computes.

use crate::Adapter;

/// Tokens in one KV block.
pub const BLOCK_TOKENS: usize = 32;

/// Index of a KV block in the pool.
pub type BlockId = u32;

/// One token to run through the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The token's id, below the vocabulary size.
    pub token: u32,
    /// Its position in its sequence, below the context length.
    pub position: u32,
    /// Which entry of [`Batch::tables`] is its sequence's.
    pub sequence: u32,
}

/// Columns of one step. Columns of one sequence stand together, in order of position; the KV of all earlier positions
/// is in the sequence's blocks already or is computed by earlier columns of this batch. Where the cache holds states, the
/// state after exactly these positions stands in the first block; at position 0 a sequence begins with a state of zeros.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    /// The columns.
    pub columns: &'a [Column],
    /// For each sequence its KV blocks in order; position `p` lives in block `table[p / 32]`, slot `p % 32`. Shared
    /// blocks may stand in several tables but are only written when one sequence holds them. Where the cache holds states,
    /// the first block is the sequence's own and the only one.
    pub tables: &'a [&'a [BlockId]],
    /// Indices into `columns` (ascending) of those whose logits are wanted.
    pub logits_of: &'a [u32],
    /// For each sequence its adapter; empty where none has one.
    pub adapters: &'a [Option<&'a Adapter>],
}
