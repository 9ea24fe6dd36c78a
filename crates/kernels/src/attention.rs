//! Attention over the paged KV cache.
//!
//! One work item is a tile of query columns of one sequence times one KV head, with all query heads that share it.
//! Keys and values are visited block by block in order, with online softmax, in spans of a fixed number of blocks
//! counted from position 0; the spans' partial results are merged in order. What a query computes, and in which order,
//! therefore depends on its position only. Whether a tile's spans run one after another on one thread, side by side on
//! several, or together with other sequences that share their blocks is free: the arithmetic is the same.

mod element;
mod kv_store;
mod merge;
mod plan;
mod prepare;
mod softmax;
mod tile;
pub(crate) mod zeroed;

use std::sync::{Mutex, PoisonError};

pub use element::KvType;
pub use kv_store::{KV_BLOCK_TOKENS, KvStore, KvStoreError};
pub use prepare::{Heads, KvPlaces};

use crate::pool::SharedSlice;
use crate::{Isa, ThreadPool};
use plan::Plan;
use tile::{PartWork, TileScratch, TileWork};

/// Blocks in a span.
pub(crate) const SPAN_BLOCKS: usize = 4;
const SPAN_TOKENS: usize = SPAN_BLOCKS * KV_BLOCK_TOKENS;

/// Query columns in a tile, at most.
const TILE_COLUMNS_MAX: usize = 16;
/// Floats of one tile's accumulator (query rows x head dimension) that are meant to stay in the first-level cache.
const TILE_FLOATS: usize = 8192;
/// Columns up to which long sequences may be split in spans over the threads; more columns fill the threads anyway.
const SPLIT_COLUMNS_MAX: usize = 16;
/// Floats of states of spans that tiles of several sequences meet together, at most (16 MiB); spans beyond are computed
/// tile by tile.
const STATES_MAX: usize = 1 << 22;
/// Multiply-adds below which waking other threads costs more than it brings (some 10 microseconds of work).
const PARALLEL_WORK_MIN: usize = 200_000;

/// What one attention layer looks like.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Keys a query sees, itself included: the last `window` positions, or all of them.
    pub window: Option<usize>,
    /// Scores are brought within this: `softcap * tanh(score / softcap)`.
    pub softcap: Option<f32>,
}

impl AttentionShape {
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// First position that a query at `position` sees.
    fn first_visible(&self, position: usize) -> usize {
        self.window.map_or(0, |w| (position + 1).saturating_sub(w))
    }
}

/// Where a query column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryColumn {
    /// Position in its sequence.
    pub position: u32,
    /// Which block table is its sequence's.
    pub sequence: u32,
}

/// The input of one attention layer.
#[derive(Clone, Copy)]
pub struct AttentionInput<'a> {
    /// Heads and window.
    pub shape: AttentionShape,
    /// Keys and values; those of the columns themselves are written already.
    pub store: &'a KvStore,
    /// Which layer of the store.
    pub layer: usize,
    /// Columns of one sequence stand together, their positions ascending by one.
    pub columns: &'a [QueryColumn],
    /// Block tables, by sequence; each covers its sequence's highest position here.
    pub tables: &'a [&'a [u32]],
    /// `[columns][heads * head_dim]`.
    pub queries: &'a [f32],
}

/// Attention with its working memory, reused from call to call.
#[derive(Default)]
pub struct Attention {
    plan: Plan,
    states: Vec<f32>,
    scratch: Vec<Mutex<TileScratch>>,
    runs: Vec<prepare::Run>,
}

impl Attention {
    /// No working memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Norms the heads of queries and keys where asked to and turns them by their positions; writes keys and values to
    /// `store`.
    ///
    /// # Panics
    /// When lengths do not fit the shape, or a table is too short or names a block outside the store.
    pub fn prepare(
        &mut self,
        pool: &ThreadPool,
        store: &mut KvStore,
        places: &KvPlaces<'_>,
        shape: &AttentionShape,
        heads: Heads<'_>,
    ) {
        prepare::prepare((Isa::best(), pool), &mut self.runs, store, places, shape, heads);
    }

    /// Computes attention of all columns into `out`, `[columns][heads * head_dim]`.
    ///
    /// # Panics
    /// When lengths do not fit the shape, or a table is too short or names a block outside the store.
    pub fn run(&mut self, pool: &ThreadPool, input: &AttentionInput<'_>, out: &mut [f32]) {
        self.run_with(Isa::best(), pool, input, out);
    }

    pub(crate) fn run_with(&mut self, isa: Isa, pool: &ThreadPool, input: &AttentionInput<'_>, out: &mut [f32]) {
        let shape = &input.shape;
        assert!(shape.kv_heads > 0 && shape.heads.is_multiple_of(shape.kv_heads), "query heads in equal groups");
        assert_eq!((shape.kv_heads, shape.head_dim), (input.store.kv_heads(), input.store.head_dim()), "store's shape");
        let width = shape.heads * shape.head_dim;
        assert_eq!(input.queries.len(), input.columns.len() * width, "queries of {} columns", input.columns.len());
        assert_eq!(out.len(), input.queries.len(), "output of {} columns", input.columns.len());
        while self.scratch.len() < pool.threads() {
            self.scratch.push(Mutex::default());
        }
        self.plan.cut(input);
        let items = self.plan.tiles.len() * shape.kv_heads;
        let parallel = self.plan.work(shape) >= PARALLEL_WORK_MIN;
        let split = parallel && items < 4 * pool.threads() && input.columns.len() <= SPLIT_COLUMNS_MAX;
        if parallel {
            self.plan.share(input);
        }
        if split {
            self.plan.split(shape);
        }
        self.run_parts(isa, pool, input);
        let (plan, states, out) = (&self.plan, &self.states, SharedSlice::new(out));
        let run_tile = |item: usize, scratch: &mut TileScratch| {
            let (index, kv_head) = (item / shape.kv_heads, item % shape.kv_heads);
            TileWork { input, plan, states, index, kv_head, scratch, out: &out }.run(isa);
        };
        if parallel && !split {
            // The last tiles see most: they come first, so that the threads end together.
            each_index(pool, &self.scratch, items, |i, scratch| run_tile(items - 1 - i, scratch));
        } else {
            let mut scratch = self.scratch[0].lock().unwrap_or_else(PoisonError::into_inner);
            (0..items).for_each(|item| run_tile(item, &mut scratch));
        }
    }

    /// Computes the plan's parts, each a work item of its own.
    fn run_parts(&mut self, isa: Isa, pool: &ThreadPool, input: &AttentionInput<'_>) {
        let (plan, shape) = (&self.plan, &input.shape);
        if plan.parts.is_empty() {
            return;
        }
        // Grows only: what an earlier call left is overwritten before it is read.
        if self.states.len() < plan.floats {
            self.states.resize(plan.floats, 0.0);
        }
        let states = SharedSlice::new(&mut self.states);
        each_index(pool, &self.scratch, plan.parts.len() * shape.kv_heads, |i, scratch| {
            let (part, kv_head) = (&plan.parts[i / shape.kv_heads], i % shape.kv_heads);
            let place = part.states(shape, kv_head);
            // SAFETY: the states of parts and their KV heads follow each other without overlap, and each (part, KV head)
            // is visited once.
            let state = unsafe { states.slice_mut(place.start, place.len()) };
            PartWork { input, plan, part, kv_head, scratch, state }.run(isa);
        });
    }
}

/// Calls `f` for each index, spread over the threads, with the scratch memory of the thread.
fn each_index(
    pool: &ThreadPool,
    scratch: &[Mutex<TileScratch>],
    count: usize,
    f: impl Fn(usize, &mut TileScratch) + Sync,
) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    pool.run(&|thread| {
        // Nobody else wants this thread's lock; it only shows the compiler so.
        let mut scratch = scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if i >= count {
                break;
            }
            f(i, &mut scratch);
        }
    });
}

#[cfg(test)]
mod tests;
