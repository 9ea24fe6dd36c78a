//! The arithmetic of one work item: the query rows of a tile against the blocks of one KV head.

use std::ops::Range;

use super::kv_store::{KvBlock, VALUE_DIMS, ValueDims};
use super::softmax::RowState;
use super::{AttentionInput, AttentionShape, KV_BLOCK_TOKENS, SPAN_BLOCKS, SPAN_TOKENS};
use crate::Isa;
#[cfg(target_arch = "x86_64")]
use crate::elementwise::lanes::avx2;
use crate::elementwise::lanes::{Kernel, Lanes, Scalar, dispatch};
use crate::pool::SharedSlice;

/// Neighbouring query columns of one sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// Index of the first column.
    pub(super) first: usize,
    /// Number of columns.
    pub(super) columns: usize,
    /// Position of the first column; the others follow.
    pub(super) position: usize,
    /// Which block table.
    pub(super) sequence: usize,
}

impl Tile {
    pub(super) fn last_position(&self) -> usize {
        self.position + self.columns - 1
    }

    /// Spans that any of the columns sees.
    pub(super) fn spans(&self, shape: &AttentionShape) -> Range<usize> {
        shape.first_visible(self.position) / SPAN_TOKENS..self.last_position() / SPAN_TOKENS + 1
    }

    fn rows(&self, shape: &AttentionShape) -> usize {
        self.columns * shape.group()
    }

    /// Floats of the running state of all rows: accumulators, then largest score and sum of each row.
    pub(super) fn state_len(&self, shape: &AttentionShape) -> usize {
        self.rows(shape) * (padded(shape) + 2)
    }
}

/// The head dimension in whole groups of value dimensions.
fn padded(shape: &AttentionShape) -> usize {
    shape.head_dim.next_multiple_of(VALUE_DIMS)
}

/// Working memory of one thread.
#[derive(Debug, Default)]
pub(super) struct TileScratch {
    queries: Vec<f32>,
    span: Vec<f32>,
    total: Vec<f32>,
}

/// A tile and a KV head: all spans, or one.
pub(super) struct TileWork<'a> {
    pub(super) input: &'a AttentionInput<'a>,
    pub(super) tile: Tile,
    pub(super) kv_head: usize,
    pub(super) scratch: &'a mut TileScratch,
    /// One span only, its state to be left here; else all spans, the result written to `out`.
    pub(super) partial: Option<(usize, &'a mut [f32])>,
    pub(super) out: &'a SharedSlice<'a, f32>,
}

impl TileWork<'_> {
    pub(super) fn run(self, isa: Isa) {
        let Self { input, tile, kv_head, scratch, partial, out } = self;
        let shape = &input.shape;
        gather_queries(input, &tile, kv_head, &mut scratch.queries);
        let rows = Rows { isa, input, tile, kv_head, queries: &scratch.queries };
        if let Some((span, state)) = partial {
            rows.visit_span(span, &mut State::reset(state, tile.rows(shape)));
            return;
        }
        let len = tile.state_len(shape);
        scratch.span.resize(len.max(scratch.span.len()), 0.0);
        scratch.total.resize(len.max(scratch.total.len()), 0.0);
        let spans = tile.spans(shape);
        let mut total = State::reset(&mut scratch.total[..len], tile.rows(shape));
        rows.visit_span(spans.start, &mut total);
        for span in spans.skip(1) {
            let mut state = State::reset(&mut scratch.span[..len], tile.rows(shape));
            rows.visit_span(span, &mut state);
            dispatch(isa, MergeSpan { shape, tile: &tile, span, total: &mut total, state: &scratch.span[..len] });
        }
        dispatch(isa, WriteOutput { shape, tile: &tile, kv_head, total: &total, out });
    }
}

/// Joins the spans of a tile that were computed side by side, in order.
pub(super) struct Merge<'a, I> {
    pub(super) shape: &'a AttentionShape,
    pub(super) tile: Tile,
    pub(super) kv_head: usize,
    pub(super) scratch: &'a mut TileScratch,
    /// Span numbers, ascending, with the states of their rows.
    pub(super) spans: I,
    pub(super) out: &'a SharedSlice<'a, f32>,
}

impl<'a, I: Iterator<Item = (usize, &'a [f32])>> Merge<'a, I> {
    pub(super) fn run(self, isa: Isa) {
        let Self { shape, tile, kv_head, scratch, spans, out } = self;
        let len = tile.state_len(shape);
        scratch.total.resize(len.max(scratch.total.len()), 0.0);
        let mut total = State::reset(&mut scratch.total[..len], tile.rows(shape));
        for (span, state) in spans {
            dispatch(isa, MergeSpan { shape, tile: &tile, span, total: &mut total, state });
        }
        dispatch(isa, WriteOutput { shape, tile: &tile, kv_head, total: &total, out });
    }
}

/// Running state of a tile's rows.
struct State<'a> {
    /// `[rows][padded head_dim]`.
    acc: &'a mut [f32],
    /// `[rows]` of largest score and sum.
    rows: &'a mut [[f32; 2]],
}

impl<'a> State<'a> {
    fn reset(memory: &'a mut [f32], rows: usize) -> Self {
        let at = memory.len() - 2 * rows;
        let (acc, rows) = memory.split_at_mut(at);
        acc.fill(0.0);
        let rows = rows.as_chunks_mut().0;
        rows.fill([RowState::EMPTY.max, RowState::EMPTY.sum]);
        Self { acc, rows }
    }
}

/// Copies the tile's query rows of one KV head, scaled: row = column * group + head within the group.
fn gather_queries(input: &AttentionInput<'_>, tile: &Tile, kv_head: usize, to: &mut Vec<f32>) {
    let shape = &input.shape;
    let (width, group_width) = (shape.heads * shape.head_dim, shape.group() * shape.head_dim);
    to.clear();
    for column in tile.first..tile.first + tile.columns {
        let group = &input.queries[column * width + kv_head * group_width..][..group_width];
        to.extend(group.iter().map(|q| q * shape.scale));
    }
}

/// The query rows of a tile, ready to meet keys.
struct Rows<'a> {
    isa: Isa,
    input: &'a AttentionInput<'a>,
    tile: Tile,
    kv_head: usize,
    /// `[rows][head_dim]`.
    queries: &'a [f32],
}

impl Rows<'_> {
    /// Takes the blocks of one span in, in order.
    fn visit_span(&self, span: usize, state: &mut State<'_>) {
        let (shape, tile) = (&self.input.shape, &self.tile);
        let table = self.input.tables[tile.sequence];
        assert!(tile.last_position() / KV_BLOCK_TOKENS < table.len(), "blocks up to position {}", tile.last_position());
        let first = (shape.first_visible(tile.position) / KV_BLOCK_TOKENS).max(span * SPAN_BLOCKS);
        let end = (tile.last_position() / KV_BLOCK_TOKENS + 1).min((span + 1) * SPAN_BLOCKS);
        for (index, &block) in table.iter().enumerate().take(end).skip(first) {
            let block = self.input.store.block(self.input.layer, block as usize, self.kv_head);
            self.visit_block(index * KV_BLOCK_TOKENS, &block, state);
        }
    }

    /// Takes one block in, whose first token has position `base`.
    fn visit_block(&self, base: usize, block: &KvBlock<'_>, state: &mut State<'_>) {
        let (shape, tile) = (&self.input.shape, &self.tile);
        // Columns that see the whole block; they share its conversion to floats.
        let full_start = (base + KV_BLOCK_TOKENS - 1).saturating_sub(tile.position).min(tile.columns);
        let full_end =
            shape.window.map_or(tile.columns, |w| (base + w).saturating_sub(tile.position).min(tile.columns));
        let full = full_start..full_end.max(full_start);
        self.visit_columns(full.clone(), block, &(0..KV_BLOCK_TOKENS), state);
        for column in (0..full.start).chain(full.end..tile.columns) {
            let position = tile.position + column;
            let start = shape.first_visible(position).saturating_sub(base);
            let end = (position + 1).saturating_sub(base).min(KV_BLOCK_TOKENS);
            if start < end {
                self.visit_columns(column..column + 1, block, &(start..end), state);
            }
        }
    }

    /// Takes the `visible` slots of a block in for all rows of `columns`, several rows at a time.
    fn visit_columns(&self, columns: Range<usize>, block: &KvBlock<'_>, visible: &Range<usize>, state: &mut State<'_>) {
        let shape = &self.input.shape;
        let (mut row, end) = (columns.start * shape.group(), columns.end * shape.group());
        while row < end {
            let rows = end - row;
            let work =
                RowsOfBlock { shape, queries: &self.queries[row * shape.head_dim..], first: row, block, visible };
            row += work.run(self.isa, rows, state);
        }
    }
}

/// Some query rows against one block.
struct RowsOfBlock<'a> {
    shape: &'a AttentionShape,
    /// `[rows][head_dim]`, from row `first` on.
    queries: &'a [f32],
    first: usize,
    block: &'a KvBlock<'a>,
    visible: &'a Range<usize>,
}

impl RowsOfBlock<'_> {
    /// Takes up to `rows` rows, as many as the registers hold at a time; gives back how many.
    fn run(&self, isa: Isa, rows: usize, state: &mut State<'_>) -> usize {
        #[cfg(target_arch = "x86_64")]
        if isa != Isa::Scalar
            && let Some(lanes) = avx2::Avx2::detect()
        {
            return match rows {
                1 => avx2::run(lanes, VisitRows::<1> { work: self, state }),
                2 => avx2::run(lanes, VisitRows::<2> { work: self, state }),
                3 => avx2::run(lanes, VisitRows::<3> { work: self, state }),
                4 | 5 => avx2::run(lanes, VisitRows::<4> { work: self, state }),
                _ => avx2::run(lanes, VisitRows::<6> { work: self, state }),
            };
        }
        let _ = (isa, rows);
        VisitRows::<1> { work: self, state }.run(Scalar)
    }
}

/// `R` rows against one block.
struct VisitRows<'a, 'b, const R: usize> {
    work: &'a RowsOfBlock<'a>,
    state: &'a mut State<'b>,
}

impl<const R: usize> Kernel for VisitRows<'_, '_, R> {
    /// `R`.
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> usize {
        let RowsOfBlock { shape, queries: all_queries, first, block, visible } = *self.work;
        let mut queries: [&[f32]; R] = [&[]; R];
        for (query, values) in queries.iter_mut().zip(all_queries.chunks_exact(shape.head_dim)) {
            *query = values;
        }
        let mut weights = [[0.0; KV_BLOCK_TOKENS]; R];
        if R <= 2 {
            scores::<L, R, 4>(lanes, &queries, block.keys, 0, &mut weights);
        } else {
            scores::<L, R, 2>(lanes, &queries, block.keys, 0, &mut weights);
            scores::<L, R, 2>(lanes, &queries, block.keys, 2, &mut weights);
        }
        let mut factors = [0.0; R];
        let rows = &mut self.state.rows[first..first + R];
        for ((weights, factor), row) in weights.iter_mut().zip(&mut factors).zip(rows) {
            let mut running = RowState { max: row[0], sum: row[1] };
            *factor = running.absorb(lanes, weights, visible);
            *row = [running.max, running.sum];
        }
        let width = padded(shape);
        let acc = &mut self.state.acc[first * width..(first + R) * width];
        accumulate(lanes, &weights, &factors, (block.values, visible), acc);
        R
    }
}

/// Products of `R` queries with the keys of `N` groups of eight tokens, from group `from` on. Each is one chain of
/// fused multiply-adds over the head dimension.
#[inline(always)]
fn scores<L: Lanes, const R: usize, const N: usize>(
    lanes: L,
    queries: &[&[f32]; R],
    keys: &[[[u16; 8]; 4]],
    from: usize,
    out: &mut [[f32; KV_BLOCK_TOKENS]; R],
) {
    let queries = queries.map(|q| &q[..keys.len()]);
    let zero = lanes.splat(0.0);
    let mut sums = [[zero; N]; R];
    for (d, key) in keys.iter().enumerate() {
        let mut k = [zero; N];
        for (i, k) in k.iter_mut().enumerate() {
            *k = lanes.load_f16(&key[from + i]);
        }
        for (sums, query) in sums.iter_mut().zip(&queries) {
            let q = lanes.splat(query[d]);
            for (sum, k) in sums.iter_mut().zip(k) {
                *sum = lanes.mul_add(q, k, *sum);
            }
        }
    }
    for (sums, out) in sums.iter().zip(out) {
        for (sum, out) in sums.iter().zip(&mut out.as_chunks_mut::<8>().0[from..]) {
            lanes.store(*sum, out);
        }
    }
}

/// `acc = acc * factor + weights x values` for `R` rows, one chain of fused multiply-adds over the visible tokens.
#[inline(always)]
fn accumulate<L: Lanes, const R: usize>(
    lanes: L,
    weights: &[[f32; KV_BLOCK_TOKENS]; R],
    factors: &[f32; R],
    (values, visible): (&[ValueDims], &Range<usize>),
    acc: &mut [f32],
) {
    let width = values.len() * VALUE_DIMS;
    let (start, end) = (visible.start, visible.end.min(KV_BLOCK_TOKENS));
    for (dims, values) in values.iter().enumerate() {
        let mut sums = [[lanes.splat(0.0); 2]; R];
        for (r, (sums, factor)) in sums.iter_mut().zip(factors).enumerate() {
            let factor = lanes.splat(*factor);
            let from = acc[r * width + dims * VALUE_DIMS..].as_chunks::<8>().0;
            sums[0] = lanes.mul(lanes.load(&from[0]), factor);
            sums[1] = lanes.mul(lanes.load(&from[1]), factor);
        }
        for t in start..end {
            let v = [lanes.load_f16(&values[t][0]), lanes.load_f16(&values[t][1])];
            for (sums, weights) in sums.iter_mut().zip(weights) {
                let w = lanes.splat(weights[t]);
                sums[0] = lanes.mul_add(w, v[0], sums[0]);
                sums[1] = lanes.mul_add(w, v[1], sums[1]);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let to = acc[r * width + dims * VALUE_DIMS..].as_chunks_mut::<8>().0;
            lanes.store(sums[0], &mut to[0]);
            lanes.store(sums[1], &mut to[1]);
        }
    }
}

/// Joins span `span` of a tile to the total, for those columns that see it. The first span a column sees is copied,
/// so that the result does not depend on the other columns of the tile.
struct MergeSpan<'a, 'b> {
    shape: &'a AttentionShape,
    tile: &'a Tile,
    span: usize,
    total: &'a mut State<'b>,
    state: &'a [f32],
}

impl Kernel for MergeSpan<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { shape, tile, span, total, state } = self;
        let (group, width) = (shape.group(), padded(shape));
        let (acc, rows) = state.split_at(state.len() - 2 * tile.rows(shape));
        let rows = rows.as_chunks::<2>().0;
        for row in 0..tile.rows(shape) {
            let position = tile.position + row / group;
            let first = shape.first_visible(position) / SPAN_TOKENS;
            let (to, from) = (&mut total.acc[row * width..(row + 1) * width], &acc[row * width..(row + 1) * width]);
            if span == first {
                to.copy_from_slice(from);
                total.rows[row] = rows[row];
            } else if (first..=position / SPAN_TOKENS).contains(&span) {
                let mut joined = RowState { max: total.rows[row][0], sum: total.rows[row][1] };
                let factors = joined.merge(lanes, RowState { max: rows[row][0], sum: rows[row][1] });
                total.rows[row] = [joined.max, joined.sum];
                let (before, later) = (lanes.splat(factors.0), lanes.splat(factors.1));
                for (to, from) in to.as_chunks_mut::<8>().0.iter_mut().zip(from.as_chunks::<8>().0) {
                    let sum = lanes.mul_add(lanes.load(to), before, lanes.mul(lanes.load(from), later));
                    lanes.store(sum, to);
                }
            }
        }
    }
}

/// Divides by the sums and writes the tile's rows of one KV head.
struct WriteOutput<'a, 'b> {
    shape: &'a AttentionShape,
    tile: &'a Tile,
    kv_head: usize,
    total: &'a State<'b>,
    out: &'a SharedSlice<'a, f32>,
}

impl Kernel for WriteOutput<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { shape, tile, kv_head, total, out } = self;
        let (group, dim, width) = (shape.group(), shape.head_dim, padded(shape));
        for row in 0..tile.rows(shape) {
            let (column, head) = (tile.first + row / group, kv_head * group + row % group);
            // SAFETY: each (tile, KV head) is written once, and its (column, head) pairs belong to it alone.
            let to = unsafe { out.slice_mut((column * shape.heads + head) * dim, dim) };
            let from = &total.acc[row * width..][..dim];
            let inverse = 1.0 / total.rows[row][1];
            let scale = lanes.splat(inverse);
            let (to, to_tail) = to.as_chunks_mut::<8>();
            let (from, from_tail) = from.as_chunks::<8>();
            for (to, from) in to.iter_mut().zip(from) {
                lanes.store(lanes.mul(lanes.load(from), scale), to);
            }
            for (to, from) in to_tail.iter_mut().zip(from_tail) {
                *to = from * inverse;
            }
        }
    }
}
