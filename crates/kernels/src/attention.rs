//! Attention over the paged KV cache.
//!
//! One work item is a tile of query columns of one sequence times one KV head, with all query heads that share it.
//! Keys and values are visited block by block in order, with online softmax, in spans of a fixed number of blocks
//! counted from position 0; the spans' partial results are merged in order. What a query computes, and in which order,
//! therefore depends on its position only. Whether a tile's spans run one after another on one thread or side by
//! side on several is free: the arithmetic is the same.

mod kv_store;
mod prepare;
mod softmax;
mod tile;

use std::sync::{Mutex, PoisonError};

pub use kv_store::{KV_BLOCK_TOKENS, KvStore, KvStoreError};
pub use prepare::{Heads, KvPlaces};

use crate::pool::SharedSlice;
use crate::{Isa, ThreadPool};
use tile::{Merge, Tile, TileScratch, TileWork};

/// Blocks in a span.
pub(crate) const SPAN_BLOCKS: usize = 4;
const SPAN_TOKENS: usize = SPAN_BLOCKS * KV_BLOCK_TOKENS;

/// Query columns in a tile, at most.
const TILE_COLUMNS_MAX: usize = 16;
/// Floats of one tile's accumulator (query rows x head dimension) that are meant to stay in the first-level cache.
const TILE_FLOATS: usize = 8192;
/// Columns up to which long sequences may be split in spans over the threads; more columns fill the threads anyway.
const SPLIT_COLUMNS_MAX: usize = 16;
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
    tiles: Vec<Tile>,
    parts: Vec<Part>,
    partials: Vec<f32>,
    scratch: Vec<Mutex<TileScratch>>,
    runs: Vec<prepare::Run>,
}

/// One span of one tile, when spans run side by side.
#[derive(Clone, Copy, Debug)]
struct Part {
    tile: usize,
    span: usize,
    /// Where its partial results of the first KV head begin, in floats.
    start: usize,
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
        self.make_tiles(input);
        while self.scratch.len() < pool.threads() {
            self.scratch.push(Mutex::default());
        }
        let out = SharedSlice::new(out);
        let items = self.tiles.len() * shape.kv_heads;
        if self.work(input) < PARALLEL_WORK_MIN {
            let scratch = self.scratch[0].get_mut().unwrap_or_else(PoisonError::into_inner);
            for item in 0..items {
                run_tile(isa, input, &self.tiles, item, (scratch, &out));
            }
        } else if items < 4 * pool.threads() && input.columns.len() <= SPLIT_COLUMNS_MAX {
            self.run_parts(isa, pool, input, &out);
        } else {
            let (tiles, scratch) = (&self.tiles, &self.scratch);
            // The last tiles see most: they come first, so that the threads end together.
            each_index(pool, scratch, items, |i, scratch| run_tile(isa, input, tiles, items - 1 - i, (scratch, &out)));
        }
    }

    /// Cuts the columns into tiles: neighbours of one sequence with ascending positions.
    fn make_tiles(&mut self, input: &AttentionInput<'_>) {
        let columns_max = (TILE_FLOATS / (input.shape.group() * input.shape.head_dim)).clamp(1, TILE_COLUMNS_MAX);
        self.tiles.clear();
        for (i, column) in input.columns.iter().enumerate() {
            let position = column.position as usize;
            match self.tiles.last_mut() {
                Some(tile)
                    if tile.columns < columns_max
                        && input.columns[tile.first].sequence == column.sequence
                        && tile.position + tile.columns == position =>
                {
                    tile.columns += 1;
                }
                _ => self.tiles.push(Tile { first: i, columns: 1, position, sequence: column.sequence as usize }),
            }
        }
    }

    /// Multiply-adds of this call, roughly.
    fn work(&self, input: &AttentionInput<'_>) -> usize {
        let shape = &input.shape;
        let per_key = 2 * shape.heads * shape.head_dim;
        let keys = |t: &Tile| (t.last_position() + 1).min(shape.window.map_or(usize::MAX, |w| w + t.columns));
        self.tiles.iter().map(|t| t.columns * keys(t) * per_key).sum()
    }

    /// Runs each span of each tile as its own item, then merges.
    fn run_parts(&mut self, isa: Isa, pool: &ThreadPool, input: &AttentionInput<'_>, out: &SharedSlice<'_, f32>) {
        let shape = &input.shape;
        let mut len = 0;
        self.parts.clear();
        for (tile, t) in self.tiles.iter().enumerate() {
            for span in t.spans(shape) {
                self.parts.push(Part { tile, span, start: len });
                len += shape.kv_heads * t.state_len(shape);
            }
        }
        // Grows only: what an earlier call left is overwritten before it is read.
        if self.partials.len() < len {
            self.partials.resize(len, 0.0);
        }
        let (tiles, parts) = (&self.tiles, &self.parts);
        let partials = SharedSlice::new(&mut self.partials);
        each_index(pool, &self.scratch, parts.len() * shape.kv_heads, |i, scratch| {
            let (part, kv_head) = (&parts[i / shape.kv_heads], i % shape.kv_heads);
            let tile = tiles[part.tile];
            let state_len = tile.state_len(shape);
            // SAFETY: parts follow each other without overlap, `state_len` floats for each KV head, and each (part,
            // KV head) is visited once.
            let partial = unsafe { partials.slice_mut(part.start + kv_head * state_len, state_len) };
            TileWork { input, tile, kv_head, scratch, partial: Some((part.span, partial)), out }.run(isa);
        });
        let scratch = self.scratch[0].get_mut().unwrap_or_else(PoisonError::into_inner);
        for (index, tile) in self.tiles.iter().enumerate() {
            for kv_head in 0..shape.kv_heads {
                let state_len = tile.state_len(shape);
                let parts = self.parts.iter().filter(|p| p.tile == index);
                let spans = parts.map(|p| (p.span, &self.partials[p.start + kv_head * state_len..][..state_len]));
                Merge { shape, tile: *tile, kv_head, scratch, spans, out }.run(isa);
            }
        }
    }
}

/// Runs all spans of work item `item` (a tile and a KV head) and writes its output.
fn run_tile(
    isa: Isa,
    input: &AttentionInput<'_>,
    tiles: &[Tile],
    item: usize,
    (scratch, out): (&mut TileScratch, &SharedSlice<'_, f32>),
) {
    let (tile, kv_head) = (tiles[item / input.shape.kv_heads], item % input.shape.kv_heads);
    TileWork { input, tile, kv_head, scratch, partial: None, out }.run(isa);
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
