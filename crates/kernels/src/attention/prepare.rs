//! What stands between projections and attention, in one pass: norms of heads, rotary positions, the write to the cache.

use super::element::{KvElement, Scales, WriteToken};
use super::kv_store::{KvMemory, KvStore};
use super::{AttentionShape, KV_BLOCK_TOKENS, QueryColumn};
use crate::elementwise::lanes::{Kernel, Lanes, dispatch};
use crate::elementwise::{NormInPlace, Rope};
use crate::pool::SharedSlice;
use crate::{Isa, RopeTable, ThreadPool};

/// Values from which on several threads pay.
const PARALLEL_VALUES_MIN: usize = 6144;

/// Queries, keys and values of a step's columns as projections left them: `[columns][heads * head_dim]` and
/// `[columns][kv_heads * head_dim]`.
pub struct Heads<'a> {
    /// Queries, made ready in place.
    pub queries: &'a mut [f32],
    /// Keys, made ready in place.
    pub keys: &'a mut [f32],
    /// Values.
    pub values: &'a [f32],
    /// Norms of each head's query and key, if any: their weights, and what is added to the mean squares.
    pub norms: Option<([&'a [f32]; 2], f32)>,
    /// Angles of the columns.
    pub angles: &'a RopeTable,
}

/// Where a step's columns go.
#[derive(Clone, Copy)]
pub struct KvPlaces<'a> {
    /// Which layer of the store.
    pub layer: usize,
    /// Columns of one sequence stand together, their positions ascending by one.
    pub columns: &'a [QueryColumn],
    /// Block tables, by sequence.
    pub tables: &'a [&'a [u32]],
}

/// Neighbouring columns of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    block: u32,
    first: usize,
    columns: usize,
}

/// Norms heads and turns them by their positions, and writes keys and values to `store`.
pub(super) fn prepare(
    (isa, pool): (Isa, &ThreadPool),
    runs: &mut Vec<Run>,
    store: &mut KvStore,
    places: &KvPlaces<'_>,
    shape: &AttentionShape,
    heads: Heads<'_>,
) {
    let (columns, dim) = (places.columns.len(), shape.head_dim);
    let (width, kv_width) = (shape.heads * dim, shape.kv_heads * dim);
    assert_eq!((shape.kv_heads, dim), (store.kv_heads(), store.head_dim()), "store's shape");
    assert_eq!(heads.queries.len(), columns * width, "queries of {columns} columns");
    assert_eq!((heads.keys.len(), heads.values.len()), (columns * kv_width, columns * kv_width), "keys and values");
    assert!(heads.angles.dims <= dim && heads.angles.table.len() >= 2 * columns * heads.angles.dims, "angles");
    make_runs(places, runs);
    let parallel = columns * (width + 2 * kv_width) >= PARALLEL_VALUES_MIN && all_blocks_differ(runs);
    let blocks = runs.iter().map(|run| store.first_head(places.layer, run.block as usize)).collect::<Vec<_>>();
    let (head_len, head_scales) = (store.head_len(), store.scales_of(0..1).len());
    let all = All {
        work: (isa, pool, parallel),
        shape,
        columns: places.columns,
        runs,
        blocks: &blocks,
        head_len,
        head_scales,
    };
    match store.memory() {
        KvMemory::F16(halves) => all.run(heads, halves, &mut []),
        KvMemory::Q8_0(codes, scales) => all.run(heads, codes, scales),
    }
}

/// All runs of a step's columns.
struct All<'a> {
    /// How, and whether on several threads.
    work: (Isa, &'a ThreadPool, bool),
    shape: &'a AttentionShape,
    columns: &'a [QueryColumn],
    runs: &'a [Run],
    /// Where each run's block begins in the store, counted in KV heads.
    blocks: &'a [usize],
    /// Numbers of a KV head of a block.
    head_len: usize,
    /// Scales of a KV head of a block, if there are scales.
    head_scales: usize,
}

impl All<'_> {
    /// Runs them, writing to the memory of all blocks.
    fn run<E: KvElement>(&self, heads: Heads<'_>, data: &mut [E], scales: &mut [Scales]) {
        let (isa, pool, parallel) = self.work;
        let work = Work {
            shape: self.shape,
            columns: self.columns,
            norms: heads.norms,
            angles: heads.angles,
            queries: SharedSlice::new(heads.queries),
            keys: SharedSlice::new(heads.keys),
            values: heads.values,
        };
        let (data, scales) = (SharedSlice::new(data), SharedSlice::new(scales));
        let (kv_heads, head_len) = (self.shape.kv_heads, self.head_len);
        let one = |i: usize| {
            let (run, first) = (&self.runs[i], self.blocks[i]);
            let scale_count = if E::SCALED { self.head_scales } else { 0 };
            // SAFETY: when several threads run, all blocks differ, and so do their parts of the store.
            let (block, scales) = unsafe {
                (
                    data.slice_mut(first * head_len, kv_heads * head_len),
                    scales.slice_mut(first * scale_count, kv_heads * scale_count),
                )
            };
            dispatch(isa, RunWork { work: &work, run, block, scales });
        };
        if parallel {
            pool.for_each_index(self.runs.len(), one);
        } else {
            (0..self.runs.len()).for_each(one);
        }
    }
}

/// Cuts the columns where the block changes.
fn make_runs(places: &KvPlaces<'_>, runs: &mut Vec<Run>) {
    runs.clear();
    for (first, column) in places.columns.iter().enumerate() {
        let block = places.tables[column.sequence as usize][column.position as usize / KV_BLOCK_TOKENS];
        match runs.last_mut() {
            Some(run) if run.block == block => run.columns += 1,
            _ => runs.push(Run { block, first, columns: 1 }),
        }
    }
}

/// A block that two sequences write is a mistake, but no reason for two threads to write the same memory.
fn all_blocks_differ(runs: &[Run]) -> bool {
    let mut blocks: Vec<u32> = runs.iter().map(|run| run.block).collect();
    blocks.sort_unstable();
    blocks.windows(2).all(|pair| pair[0] != pair[1])
}

struct Work<'a> {
    shape: &'a AttentionShape,
    columns: &'a [QueryColumn],
    norms: Option<([&'a [f32]; 2], f32)>,
    angles: &'a RopeTable,
    queries: SharedSlice<'a, f32>,
    keys: SharedSlice<'a, f32>,
    values: &'a [f32],
}

/// The columns of one run. Each run comes once.
struct RunWork<'a, E> {
    work: &'a Work<'a>,
    run: &'a Run,
    block: &'a mut [E],
    /// Scales of the block's heads, head after head, if there are scales.
    scales: &'a mut [Scales],
}

impl<E: KvElement> Kernel for RunWork<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { work, run, block, scales } = self;
        let head_dim = work.shape.head_dim;
        let (width, kv_width) = (work.shape.heads * head_dim, work.shape.kv_heads * head_dim);
        let row = 2 * work.angles.dims;
        for column in run.first..run.first + run.columns {
            // SAFETY: each column belongs to one run, and the columns' parts do not overlap.
            let (queries, keys) = unsafe {
                (work.queries.slice_mut(column * width, width), work.keys.slice_mut(column * kv_width, kv_width))
            };
            let table = &work.angles.table[column * row..][..row];
            for (i, (x, width)) in [(queries, width), (&mut *keys, kv_width)].into_iter().enumerate() {
                if let Some((weights, eps)) = work.norms {
                    NormInPlace { x, weight: weights[i], eps }.run(lanes);
                }
                Rope { x, width, head_dim, table, angles: work.angles }.run(lanes);
            }
            let slot = work.columns[column].position as usize % KV_BLOCK_TOKENS;
            let values = &work.values[column * kv_width..][..kv_width];
            WriteToken { head_dim, heads: &mut *block, scales: &mut *scales, slot, keys, values }.run(lanes);
        }
    }
}
