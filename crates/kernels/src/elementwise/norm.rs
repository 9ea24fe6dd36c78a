//! Root-mean-square norms.

use super::lanes::{Kernel, LANES, Lanes, dispatch};
use super::{for_rows, for_rows_of_two};
use crate::{Isa, ThreadPool};

/// `out = norm(x) * weight` for each row of `weight.len()` values.
///
/// # Panics
/// When lengths do not fit.
pub fn rms_norm(pool: &ThreadPool, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "norm of {} values", x.len());
    for_rows(pool, out, weight.len(), |first, out| {
        let x = &x[first * weight.len()..][..out.len()];
        dispatch(Isa::best(), Norm { x, weight, eps, out });
    });
}

/// `x = norm(x) * weight` for each row of `weight.len()` values.
///
/// # Panics
/// When lengths do not fit.
pub fn rms_norm_in_place(pool: &ThreadPool, x: &mut [f32], weight: &[f32], eps: f32) {
    for_rows(pool, x, weight.len(), |_, x| dispatch(Isa::best(), NormInPlace { x, weight, eps }));
}

/// `x += delta`, then `out = norm(x) * weight`, row by row.
///
/// # Panics
/// When lengths do not fit.
pub fn add_rms_norm(pool: &ThreadPool, x: &mut [f32], delta: &[f32], (weight, eps): (&[f32], f32), out: &mut [f32]) {
    assert_eq!(x.len(), delta.len(), "sum of {} values", x.len());
    let width = weight.len();
    for_rows_of_two(pool, (x, out), width, |first, x, out| {
        let delta = &delta[first * width..][..x.len()];
        dispatch(Isa::best(), AddNorm { x, delta, weight, eps, out });
    });
}

/// `x += norm(delta) * weight`, row by row.
///
/// # Panics
/// When lengths do not fit.
pub fn rms_norm_add(pool: &ThreadPool, x: &mut [f32], delta: &[f32], weight: &[f32], eps: f32) {
    assert_eq!(x.len(), delta.len(), "sum of {} values", x.len());
    let width = weight.len();
    for_rows(pool, x, width, |first, x| {
        let delta = &delta[first * width..][..x.len()];
        dispatch(Isa::best(), NormAdd { x, delta, weight, eps });
    });
}

/// `1 / sqrt(mean(x * x) + eps)`. Four chains of vectors take turns, so that they overlap; they are summed as
/// `(0+2) + (1+3)`.
#[inline(always)]
pub(crate) fn inverse_rms<L: Lanes>(lanes: L, x: &[f32], eps: f32) -> f32 {
    let mut sums = [lanes.splat(0.0); 4];
    let (fours, rest) = x.as_chunks::<{ 4 * LANES }>();
    for four in fours {
        for (sum, x) in sums.iter_mut().zip(four.as_chunks().0) {
            let x = lanes.load(x);
            *sum = lanes.mul_add(x, x, *sum);
        }
    }
    for (sum, part) in sums.iter_mut().zip(rest.chunks(LANES)) {
        let mut x = [0.0; LANES];
        x[..part.len()].copy_from_slice(part);
        let x = lanes.load(&x);
        *sum = lanes.mul_add(x, x, *sum);
    }
    let sums = lanes.add(lanes.add(sums[0], sums[2]), lanes.add(sums[1], sums[3]));
    // A width fits f32 exactly below 2^24.
    #[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
    let mean = lanes.sum(sums) / x.len() as f32;
    1.0 / (mean + eps).sqrt()
}

/// `f(x, weight)` over a row in vectors, `g` over its tail: both `(x * factor) * weight (+ base)`.
#[inline(always)]
fn scaled<L: Lanes>(lanes: L, x: &[f32], weight: &[f32], factor: f32, out: &mut [f32]) {
    let factors = lanes.splat(factor);
    let ((x, x_tail), (weight, weight_tail)) = (x.as_chunks::<LANES>(), weight.as_chunks::<LANES>());
    let (out, out_tail) = out.as_chunks_mut::<LANES>();
    for ((x, w), out) in x.iter().zip(weight).zip(out) {
        lanes.store(lanes.mul(lanes.mul(lanes.load(x), factors), lanes.load(w)), out);
    }
    for ((x, w), out) in x_tail.iter().zip(weight_tail).zip(out_tail) {
        *out = x * factor * w;
    }
}

pub(super) struct Norm<'a> {
    pub(super) x: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) eps: f32,
    pub(super) out: &'a mut [f32],
}

impl Kernel for Norm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            scaled(lanes, x, self.weight, inverse_rms(lanes, x, self.eps), out);
        }
    }
}

pub(crate) struct NormInPlace<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
}

impl Kernel for NormInPlace<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for x in self.x.chunks_exact_mut(self.weight.len()) {
            let factor = inverse_rms(lanes, x, self.eps);
            let factors = lanes.splat(factor);
            let ((x, x_tail), (weight, weight_tail)) = (x.as_chunks_mut::<LANES>(), self.weight.as_chunks::<LANES>());
            for (x, w) in x.iter_mut().zip(weight) {
                lanes.store(lanes.mul(lanes.mul(lanes.load(x), factors), lanes.load(w)), x);
            }
            for (x, w) in x_tail.iter_mut().zip(weight_tail) {
                *x = *x * factor * w;
            }
        }
    }
}

pub(super) struct AddNorm<'a> {
    pub(super) x: &'a mut [f32],
    pub(super) delta: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) eps: f32,
    pub(super) out: &'a mut [f32],
}

impl Kernel for AddNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let width = self.weight.len();
        let rows = self.x.chunks_exact_mut(width).zip(self.delta.chunks_exact(width));
        for ((x, delta), out) in rows.zip(self.out.chunks_exact_mut(width)) {
            super::pointwise::add_lanes(lanes, x, delta);
            scaled(lanes, x, self.weight, inverse_rms(lanes, x, self.eps), out);
        }
    }
}

pub(super) struct NormAdd<'a> {
    pub(super) x: &'a mut [f32],
    pub(super) delta: &'a [f32],
    pub(super) weight: &'a [f32],
    pub(super) eps: f32,
}

impl Kernel for NormAdd<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let width = self.weight.len();
        for (x, delta) in self.x.chunks_exact_mut(width).zip(self.delta.chunks_exact(width)) {
            norm_add_row(lanes, x, delta, self.weight, self.eps);
        }
    }
}

/// `x += norm(delta) * weight` for one row.
#[inline(always)]
pub(crate) fn norm_add_row<L: Lanes>(lanes: L, x: &mut [f32], delta: &[f32], weight: &[f32], eps: f32) {
    let factor = inverse_rms(lanes, delta, eps);
    let factors = lanes.splat(factor);
    let ((x, x_tail), (delta, delta_tail)) = (x.as_chunks_mut::<LANES>(), delta.as_chunks::<LANES>());
    let (weight, weight_tail) = weight.as_chunks::<LANES>();
    for ((x, delta), w) in x.iter_mut().zip(delta).zip(weight) {
        let normed = lanes.mul(lanes.load(delta), factors);
        lanes.store(lanes.mul_add(normed, lanes.load(w), lanes.load(x)), x);
    }
    for ((x, delta), w) in x_tail.iter_mut().zip(delta_tail).zip(weight_tail) {
        *x = (delta * factor).mul_add(*w, *x);
    }
}
