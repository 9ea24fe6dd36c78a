//! The arithmetic of one work item: the query rows of a tile against the blocks of one KV head.

use std::ops::Range;

use super::kv_store::{KeyDim, KvBlock, VALUE_DIMS, ValueDims};
use super::softmax::{RowState, absorb};
use super::{AttentionInput, AttentionShape, KV_BLOCK_TOKENS, SPAN_BLOCKS, SPAN_TOKENS};
use crate::Isa;
use crate::elementwise::lanes::{Kernel, LANES, Lanes, dispatch};
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

/// Copies the tile's query rows of one KV head, scaled: `[head_dim][rows]`, row = column * group + head within the group.
fn gather_queries(input: &AttentionInput<'_>, tile: &Tile, kv_head: usize, to: &mut Vec<f32>) {
    let shape = &input.shape;
    let (dim, group, rows) = (shape.head_dim, shape.group(), tile.rows(shape));
    to.resize(to.len().max(dim * rows), 0.0);
    for row in 0..rows {
        let head = (tile.first + row / group) * shape.heads + kv_head * group + row % group;
        for (to, q) in to[row..].iter_mut().step_by(rows).zip(&input.queries[head * dim..][..dim]) {
            *to = q * shape.scale;
        }
    }
}

/// The query rows of a tile, ready to meet keys.
struct Rows<'a> {
    isa: Isa,
    input: &'a AttentionInput<'a>,
    tile: Tile,
    kv_head: usize,
    /// `[head_dim][rows]`.
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
        let at = |index: usize| self.input.store.block(self.input.layer, table[index] as usize, self.kv_head);
        for index in first..end {
            let (block, next) = (at(index), at((index + 1).min(tile.last_position() / KV_BLOCK_TOKENS)));
            let base = index * KV_BLOCK_TOKENS;
            VisitBlock { shape, tile, queries: self.queries, base, block, next }.run(self.isa, state);
        }
    }
}

/// A block that meets the rows of a tile.
struct VisitBlock<'a> {
    shape: &'a AttentionShape,
    tile: &'a Tile,
    /// `[head_dim][rows]`.
    queries: &'a [f32],
    /// Position of the block's first token.
    base: usize,
    block: KvBlock<'a>,
    /// The one after it, to be asked of memory meanwhile.
    next: KvBlock<'a>,
}

impl VisitBlock<'_> {
    /// Takes the block in for all rows that see some of it, as many at a time as the registers hold.
    fn run(&self, isa: Isa, state: &mut State<'_>) {
        let many = !matches!(isa, Isa::Scalar | Isa::Avx2 | Isa::Vnni);
        let mut rows = self.rows();
        while !rows.is_empty() {
            rows.start += match rows.len() {
                12.. if many => self.visit_rows::<12>(isa, rows.start, state),
                8.. if many => self.visit_rows::<8>(isa, rows.start, state),
                6.. => self.visit_rows::<6>(isa, rows.start, state),
                4.. => self.visit_rows::<4>(isa, rows.start, state),
                3 => self.visit_rows::<3>(isa, rows.start, state),
                2 => self.visit_rows::<2>(isa, rows.start, state),
                _ => self.visit_rows::<1>(isa, rows.start, state),
            };
        }
    }

    fn visit_rows<const R: usize>(&self, isa: Isa, first: usize, state: &mut State<'_>) -> usize {
        dispatch(isa, VisitRows::<R> { visit: self, first, state });
        R
    }

    /// Whether all of these rows see the whole block.
    fn is_whole(&self, rows: Range<usize>) -> bool {
        let (first, last) = (self.visible(rows.start), self.visible(rows.end - 1));
        last.start == 0 && first.end == KV_BLOCK_TOKENS
    }

    /// The slots that a row sees.
    fn visible(&self, row: usize) -> Range<usize> {
        let position = self.tile.position + row / self.shape.group();
        let start = self.shape.first_visible(position).saturating_sub(self.base);
        start.min(KV_BLOCK_TOKENS)..(position + 1).saturating_sub(self.base).min(KV_BLOCK_TOKENS)
    }

    /// Rows of the columns that see some of the block.
    fn rows(&self) -> Range<usize> {
        let (tile, group) = (self.tile, self.shape.group());
        let start = self.base.saturating_sub(tile.position).min(tile.columns);
        let after =
            |window: usize| (self.base + KV_BLOCK_TOKENS - 1).saturating_add(window).saturating_sub(tile.position);
        start * group..self.shape.window.map_or(tile.columns, |window| after(window).min(tile.columns)) * group
    }
}

/// `R` rows of a tile, from row `first` on, that meet a block.
struct VisitRows<'a, 'b, const R: usize> {
    visit: &'a VisitBlock<'a>,
    first: usize,
    state: &'a mut State<'b>,
}

impl<const R: usize> Kernel for VisitRows<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { visit, first, state } = self;
        let KvBlock { keys, values } = visit.block;
        let queries = (visit.queries, visit.tile.rows(visit.shape), first);
        let mut weights = [[0.0; KV_BLOCK_TOKENS]; R];
        if R * 2 <= L::HELD {
            scores::<L, R, 2>(lanes, queries, (keys, 0, visit.next), &mut weights);
        } else {
            scores::<L, R, 1>(lanes, queries, (keys, 0, visit.next), &mut weights);
            scores::<L, R, 1>(lanes, queries, (keys, 1, visit.next), &mut weights);
        }
        let mut visible = [const { 0..KV_BLOCK_TOKENS }; R];
        if !visit.is_whole(first..first + R) {
            for (r, visible) in visible.iter_mut().enumerate() {
                *visible = visit.visible(first + r);
            }
        }
        let factors = absorb(lanes, &mut state.rows[first..first + R], &mut weights, &visible);
        let taken = Taken { weights: &weights, factors: &factors, visible: &visible };
        let groups = values.len();
        let acc = &mut state.acc.as_chunks_mut().0[first * groups..(first + R) * groups];
        let mut at = 0;
        if visible.iter().any(|v| *v != visible[0]) {
            while at < groups {
                at += accumulate::<L, R, 1, true>(lanes, &taken, values, at, acc);
            }
        }
        // As many groups of dimensions side by side as the registers hold; then the rest one by one.
        while R * 8 <= L::HELD && at + 8 <= groups {
            at += accumulate::<L, R, 8, false>(lanes, &taken, values, at, acc);
        }
        while R * 4 <= L::HELD && at + 4 <= groups {
            at += accumulate::<L, R, 4, false>(lanes, &taken, values, at, acc);
        }
        while R * 2 <= L::HELD && at + 2 <= groups {
            at += accumulate::<L, R, 2, false>(lanes, &taken, values, at, acc);
        }
        while at < groups {
            at += accumulate::<L, R, 1, false>(lanes, &taken, values, at, acc);
        }
    }
}

/// Products of `R` queries with the keys of `N` groups of sixteen tokens, from group `from` on. Each is one chain of
/// fused multiply-adds over the head dimension. Queries stand as `[head_dim][stride]`, theirs from `first` on.
#[inline(always)]
fn scores<L: Lanes, const R: usize, const N: usize>(
    lanes: L,
    (queries, stride, first): (&[f32], usize, usize),
    (keys, from, next): (&[KeyDim], usize, KvBlock<'_>),
    out: &mut [[f32; KV_BLOCK_TOKENS]; R],
) {
    let mut sums = [[lanes.splat(0.0); N]; R];
    // A block has as many lines of values as of keys, give or take some.
    let next = next.keys.iter().zip(next.values.as_flattened().as_chunks().0);
    for ((query, key), (next_key, next_values)) in queries.chunks_exact(stride).zip(keys).zip(next) {
        lanes.prefetch(next_key);
        lanes.prefetch(next_values);
        let Some(query) = query[first..].first_chunk::<R>() else { return };
        let mut k = [lanes.splat(0.0); N];
        for (i, k) in k.iter_mut().enumerate() {
            *k = lanes.load_f16(&key[from + i]);
        }
        for (sums, q) in sums.iter_mut().zip(query) {
            let q = lanes.splat(*q);
            for (sum, k) in sums.iter_mut().zip(k) {
                *sum = lanes.mul_add(q, k, *sum);
            }
        }
    }
    for (sums, out) in sums.iter().zip(out) {
        for (sum, out) in sums.iter().zip(&mut out.as_chunks_mut().0[from..]) {
            lanes.store(*sum, out);
        }
    }
}

/// What softmax made of the scores of `R` rows.
struct Taken<'a, const R: usize> {
    weights: &'a [[f32; KV_BLOCK_TOKENS]; R],
    factors: &'a [f32; LANES],
    visible: &'a [Range<usize>; R],
}

/// `acc = acc * factor + weights x values` for `R` rows and `N` groups of dimensions from `at` on: each sum is one chain
/// of fused multiply-adds over the tokens that its row sees. Gives back `N`. Without `UNEQUAL` all rows see the same.
#[inline(always)]
fn accumulate<L: Lanes, const R: usize, const N: usize, const UNEQUAL: bool>(
    lanes: L,
    taken: &Taken<'_, R>,
    values: &[ValueDims],
    at: usize,
    acc: &mut [[f32; LANES]],
) -> usize {
    let groups = values.len();
    let Some(values) = values[at..].first_chunk::<N>() else { return N };
    let mut sums = [[lanes.splat(0.0); N]; R];
    for (r, sums) in sums.iter_mut().enumerate() {
        let factor = lanes.splat(taken.factors[r]);
        for (sum, acc) in sums.iter_mut().zip(&acc[r * groups + at..]) {
            *sum = lanes.mul(lanes.load(acc), factor);
        }
    }
    let mut slots = taken.visible[0].clone();
    if UNEQUAL {
        for visible in taken.visible {
            slots = slots.start.min(visible.start)..slots.end.max(visible.end);
        }
    }
    for t in slots.start..slots.end.min(KV_BLOCK_TOKENS) {
        let mut v = [lanes.splat(0.0); N];
        for (v, values) in v.iter_mut().zip(values) {
            *v = lanes.load_f16(&values[t]);
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            if !UNEQUAL || taken.visible[r].contains(&t) {
                let w = lanes.splat(taken.weights[r][t]);
                for (sum, v) in sums.iter_mut().zip(v) {
                    *sum = lanes.mul_add(w, v, *sum);
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (sum, acc) in sums.iter().zip(&mut acc[r * groups + at..]) {
            lanes.store(*sum, acc);
        }
    }
    N
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
                for (to, from) in to.as_chunks_mut().0.iter_mut().zip(from.as_chunks().0) {
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
            let (to, to_tail) = to.as_chunks_mut::<LANES>();
            let (from, from_tail) = from.as_chunks::<LANES>();
            for (to, from) in to.iter_mut().zip(from) {
                lanes.store(lanes.mul(lanes.load(from), scale), to);
            }
            for (to, from) in to_tail.iter_mut().zip(from_tail) {
                *to = from * inverse;
            }
        }
    }
}
