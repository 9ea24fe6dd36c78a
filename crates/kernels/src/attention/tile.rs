//! The arithmetic of one work item: query rows of one tile or of several against the blocks of one KV head.

use std::ops::Range;

use super::element::{KvElement, SCALE_DIMS};
use super::kv_store::{Blocks, KvBlock, KvBlocks, VALUE_DIMS, ValueDims};
use super::merge::{MergeSpan, SpanState, State, WriteOutput};
use super::plan::{Part, Plan};
use super::softmax::absorb;
use super::{AttentionInput, AttentionShape, KV_BLOCK_TOKENS, SPAN_BLOCKS, SPAN_TOKENS};
use crate::Isa;
use crate::elementwise::lanes::{Kernel, LANES, Lanes, dispatch};
use crate::elementwise::softcapped;
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

    /// Spans that each of the columns sees whole.
    pub(super) fn whole_spans(&self, shape: &AttentionShape) -> Range<usize> {
        shape.first_visible(self.last_position()).div_ceil(SPAN_TOKENS)..(self.position + 1) / SPAN_TOKENS
    }

    pub(super) fn rows(&self, shape: &AttentionShape) -> usize {
        self.columns * shape.group()
    }

    /// Floats of the running state of all rows: accumulators, then largest score and sum of each row.
    pub(super) fn state_len(&self, shape: &AttentionShape) -> usize {
        self.rows(shape) * (padded(shape) + 2)
    }
}

/// The head dimension in whole groups of value dimensions.
pub(super) fn padded(shape: &AttentionShape) -> usize {
    shape.head_dim.next_multiple_of(VALUE_DIMS)
}

/// Working memory of one thread.
#[derive(Debug, Default)]
pub(super) struct TileScratch {
    queries: Vec<f32>,
    span: Vec<f32>,
    total: Vec<f32>,
}

/// A part of a plan and a KV head.
pub(super) struct PartWork<'a> {
    pub(super) input: &'a AttentionInput<'a>,
    pub(super) plan: &'a Plan,
    pub(super) part: &'a Part,
    pub(super) kv_head: usize,
    pub(super) scratch: &'a mut TileScratch,
    /// The state of its rows is left here.
    pub(super) state: &'a mut [f32],
}

impl PartWork<'_> {
    pub(super) fn run(self, isa: Isa) {
        let Self { input, plan, part, kv_head, scratch, state } = self;
        let rows = Rows::gather((isa, input), plan.tiles_of(part), kv_head, &mut scratch.queries);
        if let Some(rows) = rows {
            rows.visit_span(part.span, &mut State::reset(state, part.rows));
        }
    }
}

/// A tile and a KV head: all spans, those of the plan's parts from their states.
pub(super) struct TileWork<'a> {
    pub(super) input: &'a AttentionInput<'a>,
    pub(super) plan: &'a Plan,
    /// States of the plan's parts.
    pub(super) states: &'a [f32],
    /// Which tile.
    pub(super) index: usize,
    pub(super) kv_head: usize,
    pub(super) scratch: &'a mut TileScratch,
    pub(super) out: &'a SharedSlice<'a, f32>,
}

impl TileWork<'_> {
    pub(super) fn run(self, isa: Isa) {
        let Self { input, plan, states, index, kv_head, scratch, out } = self;
        let (shape, tile) = (&input.shape, plan.tiles[index]);
        let (len, count) = (tile.state_len(shape), tile.rows(shape));
        scratch.span.resize(len.max(scratch.span.len()), 0.0);
        scratch.total.resize(len.max(scratch.total.len()), 0.0);
        let spans = tile.spans(shape);
        let own = spans.clone().any(|span| plan.place(shape, index, span).is_none());
        let rows = Rows::gather((isa, input), own.then_some(tile).into_iter(), kv_head, &mut scratch.queries);
        let mut total = State::reset(&mut scratch.total[..len], count);
        for span in spans.clone() {
            if let Some((part, row)) = plan.place(shape, index, span) {
                let state = &states[part.states(shape, kv_head)];
                let state = SpanState::part(state, shape, row, count);
                dispatch(isa, MergeSpan { shape, tile: &tile, span, total: &mut total, state });
            } else if let Some(rows) = &rows {
                if span == spans.start {
                    rows.visit_span(span, &mut total);
                    continue;
                }
                let mut state = State::reset(&mut scratch.span[..len], count);
                rows.visit_span(span, &mut state);
                dispatch(isa, MergeSpan { shape, tile: &tile, span, total: &mut total, state: state.done() });
            }
        }
        dispatch(isa, WriteOutput { shape, tile: &tile, kv_head, total: &total, out });
    }
}

/// Query rows that meet keys together.
struct Rows<'a> {
    isa: Isa,
    input: &'a AttentionInput<'a>,
    kv_head: usize,
    /// The tile that the rows belong to, or the first of several.
    tile: Tile,
    /// Rows of several tiles: all see the whole of what they meet, and their tables agree there.
    joined: bool,
    /// Number of rows.
    count: usize,
    /// `[head_dim][count]`.
    queries: &'a [f32],
}

impl<'a> Rows<'a> {
    /// Copies the query rows of one KV head, scaled, tile after tile: `[head_dim][rows]`, in each tile row = column * group
    /// + head within the group. `None` without tiles.
    fn gather(
        (isa, input): (Isa, &'a AttentionInput<'a>),
        mut tiles: impl Iterator<Item = Tile> + Clone,
        kv_head: usize,
        to: &'a mut Vec<f32>,
    ) -> Option<Self> {
        let shape = &input.shape;
        let (dim, group) = (shape.head_dim, shape.group());
        let first = tiles.clone().next()?;
        let count = tiles.clone().map(|tile| tile.rows(shape)).sum();
        to.resize(to.len().max(dim * count), 0.0);
        let columns = tiles.clone().flat_map(|tile| tile.first..tile.first + tile.columns);
        let heads = columns.flat_map(|column| {
            let head = column * shape.heads + kv_head * group;
            head..head + group
        });
        for (row, head) in heads.enumerate() {
            for (to, q) in to[row..].iter_mut().step_by(count).zip(&input.queries[head * dim..][..dim]) {
                *to = q * shape.scale;
            }
        }
        let joined = tiles.nth(1).is_some();
        Some(Self { isa, input, kv_head, tile: first, joined, count, queries: to })
    }

    /// Takes the blocks of one span in, in order.
    fn visit_span(&self, span: usize, state: &mut State<'_>) {
        let (shape, tile) = (&self.input.shape, &self.tile);
        let table = self.input.tables[tile.sequence];
        let last = tile.last_position() / KV_BLOCK_TOKENS;
        assert!(last < table.len(), "blocks up to position {}", tile.last_position());
        let mut blocks = span * SPAN_BLOCKS..(span + 1) * SPAN_BLOCKS;
        if !self.joined {
            let first = shape.first_visible(tile.position) / KV_BLOCK_TOKENS;
            blocks = first.max(blocks.start)..blocks.end.min(last + 1);
        }
        match self.input.store.view() {
            KvBlocks::F16(store) => self.visit(store, (blocks, &table[..=last]), state),
            KvBlocks::Q8_0(store) => self.visit(store, (blocks, &table[..=last]), state),
        }
    }

    /// Takes blocks of a table in.
    fn visit<E: KvElement>(
        &self,
        store: Blocks<'_, E>,
        (blocks, table): (Range<usize>, &[u32]),
        state: &mut State<'_>,
    ) {
        let at = |index: usize| store.block(self.input.layer, table[index] as usize, self.kv_head);
        for index in blocks {
            let (block, next) = (at(index), at((index + 1).min(table.len() - 1)));
            VisitBlock { rows: self, base: index * KV_BLOCK_TOKENS, block, next }.run(self.isa, state);
        }
    }
}

/// A block that meets query rows.
struct VisitBlock<'a, E> {
    rows: &'a Rows<'a>,
    /// Position of the block's first token.
    base: usize,
    block: KvBlock<'a, E>,
    /// The one after it, to be asked of memory meanwhile.
    next: KvBlock<'a, E>,
}

impl<E: KvElement> VisitBlock<'_, E> {
    /// Takes the block in for all rows that see some of it, as many at a time as the registers hold.
    fn run(&self, isa: Isa, state: &mut State<'_>) {
        let many = !matches!(isa, Isa::Scalar | Isa::Avx2 | Isa::Vnni);
        let mut rows = self.seeing();
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
        dispatch(isa, VisitRows::<E, R> { visit: self, first, state });
        R
    }

    /// Whether all of these rows see the whole block.
    fn is_whole(&self, rows: Range<usize>) -> bool {
        if self.rows.joined {
            return true;
        }
        let (first, last) = (self.visible(rows.start), self.visible(rows.end - 1));
        last.start == 0 && first.end == KV_BLOCK_TOKENS
    }

    /// The slots that a row of a single tile sees.
    fn visible(&self, row: usize) -> Range<usize> {
        let shape = &self.rows.input.shape;
        let position = self.rows.tile.position + row / shape.group();
        let start = shape.first_visible(position).saturating_sub(self.base);
        start.min(KV_BLOCK_TOKENS)..(position + 1).saturating_sub(self.base).min(KV_BLOCK_TOKENS)
    }

    /// Rows of the columns that see some of the block.
    fn seeing(&self) -> Range<usize> {
        if self.rows.joined {
            return 0..self.rows.count;
        }
        let (shape, tile) = (&self.rows.input.shape, &self.rows.tile);
        let start = self.base.saturating_sub(tile.position).min(tile.columns);
        let after =
            |window: usize| (self.base + KV_BLOCK_TOKENS - 1).saturating_add(window).saturating_sub(tile.position);
        let end = shape.window.map_or(tile.columns, |window| after(window).min(tile.columns));
        start * shape.group()..end * shape.group()
    }
}

/// `R` rows, from row `first` on, that meet a block.
struct VisitRows<'a, 'b, E, const R: usize> {
    visit: &'a VisitBlock<'a, E>,
    first: usize,
    state: &'a mut State<'b>,
}

impl<E: KvElement, const R: usize> Kernel for VisitRows<'_, '_, E, R> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { visit, first, state } = self;
        let KvBlock { values, scales, .. } = visit.block;
        let queries = (visit.rows.queries, visit.rows.count, first);
        let mut weights = [[0.0; KV_BLOCK_TOKENS]; R];
        if R * 2 <= L::HELD {
            scores::<L, E, R, 2>(lanes, queries, (&visit.block, 0, &visit.next), &mut weights);
        } else {
            scores::<L, E, R, 1>(lanes, queries, (&visit.block, 0, &visit.next), &mut weights);
            scores::<L, E, R, 1>(lanes, queries, (&visit.block, 1, &visit.next), &mut weights);
        }
        if let Some(cap) = visit.rows.input.shape.softcap {
            for scores in weights.as_flattened_mut().as_chunks_mut::<LANES>().0 {
                lanes.store(softcapped(lanes, lanes.load(scores), cap), scores);
            }
        }
        let mut visible = [const { 0..KV_BLOCK_TOKENS }; R];
        if !visit.is_whole(first..first + R) {
            for (r, visible) in visible.iter_mut().enumerate() {
                *visible = visit.visible(first + r);
            }
        }
        let factors = absorb(lanes, &mut state.rows[first..first + R], &mut weights, &visible);
        let (groups, width) = (values.len(), if E::SCALED { SCALE_DIMS / VALUE_DIMS } else { values.len() });
        let acc = &mut state.acc.as_chunks_mut().0[first * groups..(first + R) * groups];
        let unequal = visible.iter().any(|v| *v != visible[0]);
        let (mut at, mut part) = (0, 0);
        while at < groups {
            let end = groups.min(at + width);
            let scaled;
            // Known at compile time: half floats pay nothing for it.
            let weights = if E::SCALED {
                scaled = multiply(lanes, &weights, &scales[part][1]);
                part += 1;
                &scaled
            } else {
                &weights
            };
            let taken = Taken { weights, factors: &factors, visible: &visible };
            while unequal && at < end {
                at += accumulate::<L, E, R, 1, true>(lanes, &taken, values, at, acc);
            }
            // As many groups of dimensions side by side as the registers hold; then the rest one by one.
            while R * 8 <= L::HELD && at + 8 <= end {
                at += accumulate::<L, E, R, 8, false>(lanes, &taken, values, at, acc);
            }
            while R * 4 <= L::HELD && at + 4 <= end {
                at += accumulate::<L, E, R, 4, false>(lanes, &taken, values, at, acc);
            }
            while R * 2 <= L::HELD && at + 2 <= end {
                at += accumulate::<L, E, R, 2, false>(lanes, &taken, values, at, acc);
            }
            while at < end {
                at += accumulate::<L, E, R, 1, false>(lanes, &taken, values, at, acc);
            }
        }
    }
}

/// Multiplies each row's weights of a block's tokens by the tokens' scales.
#[inline(always)]
fn multiply<L: Lanes, const R: usize>(
    lanes: L,
    weights: &[[f32; KV_BLOCK_TOKENS]; R],
    scales: &[f32; KV_BLOCK_TOKENS],
) -> [[f32; KV_BLOCK_TOKENS]; R] {
    let mut out = [[0.0; KV_BLOCK_TOKENS]; R];
    for (weights, out) in weights.iter().zip(&mut out) {
        let to = out.as_chunks_mut().0.iter_mut();
        for ((weights, scales), to) in weights.as_chunks().0.iter().zip(scales.as_chunks().0).zip(to) {
            lanes.store(lanes.mul(lanes.load(weights), lanes.load(scales)), to);
        }
    }
    out
}

/// Products of `R` queries with the keys of `N` groups of sixteen tokens, from group `from` on. Each is one chain of
/// fused multiply-adds over the head dimensions (that share a scale; then these are summed up, times their scales).
/// Queries stand as `[head_dim][stride]`, theirs from `first` on.
#[inline(always)]
fn scores<L: Lanes, E: KvElement, const R: usize, const N: usize>(
    lanes: L,
    (queries, stride, first): (&[f32], usize, usize),
    (block, from, next): (&KvBlock<'_, E>, usize, &KvBlock<'_, E>),
    out: &mut [[f32; KV_BLOCK_TOKENS]; R],
) {
    let dims = if E::SCALED { SCALE_DIMS } else { block.keys.len() };
    // A block has as many lines of values as of keys, give or take some.
    let next = next.keys.chunks(dims).zip(next.values.as_flattened().as_chunks::<2>().0.chunks(dims));
    let parts = queries.chunks(dims * stride).zip(block.keys.chunks(dims)).zip(next);
    for (part, ((queries, keys), (next_keys, next_values))) in parts.enumerate() {
        let mut sums = [[lanes.splat(0.0); N]; R];
        let next = next_keys.iter().zip(next_values);
        for ((query, key), (next_key, next_values)) in queries.chunks_exact(stride).zip(keys).zip(next) {
            lanes.prefetch(next_key);
            lanes.prefetch(next_values);
            let Some(query) = query[first..].first_chunk::<R>() else { return };
            let mut k = [lanes.splat(0.0); N];
            for (i, k) in k.iter_mut().enumerate() {
                *k = E::load(lanes, &key[from + i]);
            }
            for (sums, q) in sums.iter_mut().zip(query) {
                let q = lanes.splat(*q);
                for (sum, k) in sums.iter_mut().zip(k) {
                    *sum = lanes.mul_add(q, k, *sum);
                }
            }
        }
        for (sums, out) in sums.iter().zip(&mut *out) {
            for (i, (sum, out)) in sums.iter().zip(&mut out.as_chunks_mut().0[from..]).enumerate() {
                let mut sum = *sum;
                if E::SCALED {
                    let scales = lanes.load(&block.scales[part][0].as_chunks().0[from + i]);
                    sum = lanes.mul_add(sum, scales, if part == 0 { lanes.splat(0.0) } else { lanes.load(out) });
                }
                lanes.store(sum, out);
            }
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
fn accumulate<L: Lanes, E: KvElement, const R: usize, const N: usize, const UNEQUAL: bool>(
    lanes: L,
    taken: &Taken<'_, R>,
    values: &[ValueDims<E>],
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
            *v = E::load(lanes, &values[t]);
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
