//! Online softmax: largest score and sum of weights of a query row so far.

use std::ops::Range;

use super::KV_BLOCK_TOKENS;
use crate::elementwise::lanes::Lanes;

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

    /// Takes a block's scores in, turning those in `visible` into weights and the others into zeros. Gives back the
    /// factor for what was accumulated before.
    #[inline(always)]
    pub(super) fn absorb<L: Lanes>(
        &mut self,
        lanes: L,
        scores: &mut [f32; KV_BLOCK_TOKENS],
        visible: &Range<usize>,
    ) -> f32 {
        if visible.len() < KV_BLOCK_TOKENS {
            // Slots outside were computed from whatever memory holds: they are replaced, never used.
            scores[..visible.start].fill(f32::NEG_INFINITY);
            scores[visible.end..].fill(f32::NEG_INFINITY);
        }
        let [a, b, c, d] = scores.as_chunks_mut::<8>().0 else { return 1.0 };
        let (va, vb, vc, vd) = (lanes.load(a), lanes.load(b), lanes.load(c), lanes.load(d));
        let block_max = lanes.largest(lanes.max(lanes.max(va, vb), lanes.max(vc, vd)));
        let max = if self.max > block_max { self.max } else { block_max };
        let shift = lanes.splat(max);
        let (va, vb) = (lanes.exp(lanes.sub(va, shift)), lanes.exp(lanes.sub(vb, shift)));
        let (vc, vd) = (lanes.exp(lanes.sub(vc, shift)), lanes.exp(lanes.sub(vd, shift)));
        lanes.store(va, a);
        lanes.store(vb, b);
        lanes.store(vc, c);
        lanes.store(vd, d);
        let weights = lanes.sum(lanes.add(lanes.add(va, vb), lanes.add(vc, vd)));
        let factor = exp(lanes, self.max - max);
        self.sum = self.sum.mul_add(factor, weights);
        self.max = max;
        factor
    }

    /// Joins the state of a later span; gives back the factors for the sums accumulated before and in that span.
    #[inline(always)]
    pub(super) fn merge<L: Lanes>(&mut self, lanes: L, later: Self) -> (f32, f32) {
        let max = if self.max > later.max { self.max } else { later.max };
        let factors = (exp(lanes, self.max - max), exp(lanes, later.max - max));
        self.sum = self.sum.mul_add(factors.0, later.sum * factors.1);
        self.max = max;
        factors
    }
}

#[inline(always)]
fn exp<L: Lanes>(lanes: L, x: f32) -> f32 {
    let mut out = [0.0; 8];
    lanes.store(lanes.exp(lanes.splat(x)), &mut out);
    out[0]
}
