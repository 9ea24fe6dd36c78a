//! Online softmax: largest score and sum of weights of query rows so far.

use std::ops::Range;

use super::KV_BLOCK_TOKENS;
use crate::elementwise::lanes::{LANES, Lanes};

/// Running state of one query row.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowState {
    /// Largest score.
    pub(super) max: f32,
    /// Sum of the weights `exp(score - max)`.
    pub(super) sum: f32,
}

impl RowState {
    pub(super) const EMPTY: Self = Self { max: f32::NEG_INFINITY, sum: 0.0 };

    /// Joins the state of a later span; gives back the factors for the sums accumulated before and in that span.
    #[inline(always)]
    pub(super) fn merge<L: Lanes>(&mut self, lanes: L, later: Self) -> (f32, f32) {
        let max = if self.max > later.max { self.max } else { later.max };
        let mut factors = [0.0; LANES];
        (factors[0], factors[1]) = (self.max - max, later.max - max);
        lanes.store(lanes.exp(lanes.load(&factors)), &mut factors);
        self.sum = self.sum.mul_add(factors[0], later.sum * factors[1]);
        self.max = max;
        (factors[0], factors[1])
    }
}

/// Takes a block's scores of `R` rows in, turning those that a row sees (some slots at least) into weights and the others into zeros. Gives
/// back the factors for what was accumulated before.
#[inline(always)]
pub(super) fn absorb<L: Lanes, const R: usize>(
    lanes: L,
    rows: &mut [[f32; 2]],
    scores: &mut [[f32; KV_BLOCK_TOKENS]; R],
    visible: &[Range<usize>; R],
) -> [f32; LANES] {
    // The change of the largest score, then its exponential: one vector for all rows.
    let mut factors = [0.0; LANES];
    for ((row, scores), (visible, factor)) in
        rows.iter_mut().zip(scores.iter_mut()).zip(visible.iter().zip(&mut factors))
    {
        if visible.len() < KV_BLOCK_TOKENS {
            // Slots outside were computed from whatever memory holds: they are replaced, never used.
            for (slot, score) in scores.iter_mut().enumerate() {
                *score = if visible.contains(&slot) { *score } else { f32::NEG_INFINITY };
            }
        }
        let halves = scores.as_chunks::<LANES>().0;
        let block_max = lanes.largest(lanes.max(lanes.load(&halves[0]), lanes.load(&halves[1])));
        let max = if row[0] > block_max { row[0] } else { block_max };
        *factor = row[0] - max;
        row[0] = max;
    }
    lanes.store(lanes.exp(lanes.load(&factors)), &mut factors);
    for ((row, scores), factor) in rows.iter_mut().zip(scores).zip(&factors) {
        let shift = lanes.splat(row[0]);
        let halves = scores.as_chunks_mut::<LANES>().0;
        let low = lanes.exp(lanes.sub(lanes.load(&halves[0]), shift));
        let high = lanes.exp(lanes.sub(lanes.load(&halves[1]), shift));
        lanes.store(low, &mut halves[0]);
        lanes.store(high, &mut halves[1]);
        row[1] = row[1].mul_add(*factor, lanes.sum(lanes.add(low, high)));
    }
    factors
}
