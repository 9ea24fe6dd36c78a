//! What a tile's rows came to: in one span, in all so far, and as output.

use super::AttentionShape;
use super::SPAN_TOKENS;
use super::softmax::RowState;
use super::tile::{Tile, padded};
use crate::elementwise::lanes::{Kernel, LANES, Lanes};
use crate::pool::SharedSlice;

/// Running state of query rows.
pub(super) struct State<'a> {
    /// `[rows][padded head_dim]`.
    pub(super) acc: &'a mut [f32],
    /// `[rows]` of largest score and sum.
    pub(super) rows: &'a mut [[f32; 2]],
}

impl<'a> State<'a> {
    pub(super) fn reset(memory: &'a mut [f32], rows: usize) -> Self {
        let at = memory.len() - 2 * rows;
        let (acc, rows) = memory.split_at_mut(at);
        acc.fill(0.0);
        let rows = rows.as_chunks_mut().0;
        rows.fill([RowState::EMPTY.max, RowState::EMPTY.sum]);
        Self { acc, rows }
    }

    /// As it is now.
    pub(super) fn done(&self) -> SpanState<'_> {
        SpanState { acc: self.acc, rows: self.rows }
    }
}

/// State of a tile's rows after one span.
#[derive(Clone, Copy)]
pub(super) struct SpanState<'a> {
    /// `[rows][padded head_dim]`.
    acc: &'a [f32],
    /// `[rows]` of largest score and sum.
    rows: &'a [[f32; 2]],
}

impl<'a> SpanState<'a> {
    /// `rows` rows from row `first` on of a state that covers all of `memory`.
    pub(super) fn part(memory: &'a [f32], shape: &AttentionShape, first: usize, rows: usize) -> Self {
        let width = padded(shape);
        let (acc, all) = memory.split_at(memory.len() / (width + 2) * width);
        Self { acc: &acc[first * width..][..rows * width], rows: &all.as_chunks().0[first..][..rows] }
    }
}

/// Joins span `span` of a tile to the total, for those columns that see it. The first span a column sees is copied,
/// so that the result does not depend on the other columns of the tile.
pub(super) struct MergeSpan<'a, 'b> {
    pub(super) shape: &'a AttentionShape,
    pub(super) tile: &'a Tile,
    pub(super) span: usize,
    pub(super) total: &'a mut State<'b>,
    pub(super) state: SpanState<'a>,
}

impl Kernel for MergeSpan<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { shape, tile, span, total, state } = self;
        let (group, width) = (shape.group(), padded(shape));
        for row in 0..tile.rows(shape) {
            let position = tile.position + row / group;
            let first = shape.first_visible(position) / SPAN_TOKENS;
            let acc = row * width..(row + 1) * width;
            let (to, from) = (&mut total.acc[acc.clone()], &state.acc[acc]);
            if span == first {
                to.copy_from_slice(from);
                total.rows[row] = state.rows[row];
            } else if (first..=position / SPAN_TOKENS).contains(&span) {
                let mut joined = RowState { max: total.rows[row][0], sum: total.rows[row][1] };
                let factors = joined.merge(lanes, RowState { max: state.rows[row][0], sum: state.rows[row][1] });
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
pub(super) struct WriteOutput<'a, 'b> {
    pub(super) shape: &'a AttentionShape,
    pub(super) tile: &'a Tile,
    pub(super) kv_head: usize,
    pub(super) total: &'a State<'b>,
    pub(super) out: &'a SharedSlice<'a, f32>,
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
