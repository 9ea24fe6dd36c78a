//! Thirty-two rows of two pairs of panels, or sixteen of one, times many columns, by VNNI's dot products.
//!
//! The codes are unpacked once for all columns. Those of a block of two pairs take half of the registers: what is loaded of a
//! column then serves two products, and the loads no longer take as long as these. The sums stand in the first-level cache.

use std::arch::x86_64::*;
use std::ops::Range;

use super::ROWS;
use super::pair::{self, Pair};
use super::pair_dot::broadcast;
use super::place::{Place, store};
use super::side::{self, SIDE_COLUMNS, Side, SideVector};
use super::unpacked::{self, Unpacked};
use crate::activations::Activations;
use crate::panel::{BLOCK, Quantized, with_quantized};

/// From so many columns on pairs are unpacked once for all of them.
pub(crate) const UNPACK_COLUMNS_MIN: usize = 17;

/// Writes the products of the rows of a pair, and of the next if there is one, with `columns` of `x` to their places. `place` is
/// that of the first pair's.
///
/// # Safety
/// Needs AVX-512 F, BW, VL, DQ and VNNI. The panels are of one quantized type and fit `x`, and nobody else writes to the same
/// places. `side` is of columns of `x` that hold `columns`, which begin a multiple of 16 after its first, and made for the
/// panels' codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) unsafe fn products(
    (first, second): (&Pair, Option<&Pair>),
    x: &Activations,
    side: Side<'_>,
    columns: Range<usize>,
    place: &Place<'_>,
) {
    let blocks = x.cols() / BLOCK;
    unpacked::with_scratch(|[one, other]| {
        // SAFETY: passed on from the caller.
        unsafe {
            with_quantized!(first.weight_type(), T => {
                one.fill::<T, false>(first, blocks, 2);
                if let Some(second) = second {
                    other.fill::<T, false>(second, blocks, 2);
                    all_tiles::<T, 2>([one, other], x, side, columns, place);
                } else {
                    all_tiles::<T, 1>([one], x, side, columns, place);
                }
            });
        }
    });
}

/// # Safety
/// As in [`products`]; the pairs are unpacked.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn all_tiles<T: Quantized, const PAIRS: usize>(
    pairs: [&Unpacked; PAIRS],
    x: &Activations,
    side: Side<'_>,
    columns: Range<usize>,
    place: &Place<'_>,
) {
    let mut sums = [[_mm512_setzero_ps(); PAIRS]; SIDE_COLUMNS];
    for first in columns.clone().step_by(SIDE_COLUMNS) {
        let tile = first..columns.end.min(first + SIDE_COLUMNS);
        let sums = &mut sums[..tile.len()];
        sums.fill([_mm512_setzero_ps(); PAIRS]);
        let codes_at = x.codes_from(first).as_ptr();
        // SAFETY: passed on from the caller.
        unsafe {
            for (b, side) in side.tile::<T>(first).enumerate() {
                block::<T, PAIRS>((pairs, b), side, codes_at.add(b * BLOCK), x.cols(), sums);
            }
            for (column, sums) in tile.zip(sums) {
                for (pair, sum) in sums.iter().enumerate() {
                    store(&place.below(pair * ROWS), column, *sum);
                }
            }
        }
    }
}

/// Adds what block `b` of the pairs gives with some columns, of which `codes` is the first's, `stride` bytes before the next.
///
/// # Safety
/// As in [`products`]; there are as many columns as `sums`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn block<T: Quantized, const PAIRS: usize>(
    (pairs, b): ([&Unpacked; PAIRS], usize),
    side: &[SideVector],
    codes: *const i8,
    stride: usize,
    sums: &mut [[__m512; PAIRS]],
) {
    let mut weights = [[_mm512_setzero_si512(); 8]; PAIRS];
    let mut scales = [[_mm512_setzero_ps(); 4]; PAIRS];
    for p in 0..PAIRS {
        // SAFETY: the caller's promise.
        scales[p] = unsafe { pairs[p].scales::<T>(b) };
        for (weights, from) in weights[p].iter_mut().zip(pairs[p].codes(b)) {
            // SAFETY: 64 aligned bytes.
            *weights = unsafe { _mm512_load_si512(from.as_ptr().cast()) };
        }
    }
    for (c, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promise; a tile has at most `SIDE_COLUMNS` columns.
        unsafe {
            let codes = codes.add(c * stride);
            let (start, scale) = (side::starts::<T>(side, c), side::scale::<T>(side, c));
            let mut dots = [start; PAIRS];
            for g in 0..4 {
                let (low, up) = (broadcast(codes.add(4 * g)), broadcast(codes.add(16 + 4 * g)));
                for p in 0..PAIRS {
                    dots[p][0] = _mm512_dpbusd_epi32(dots[p][0], weights[p][g], low);
                    dots[p][1] = _mm512_dpbusd_epi32(dots[p][1], weights[p][4 + g], up);
                }
            }
            for p in 0..PAIRS {
                if !T::LAYOUT.scales.halves() {
                    dots[p][0] = _mm512_add_epi32(dots[p][0], dots[p][1]);
                }
                sums[p] = pair::add_block::<T>(sums[p], &scales[p], dots[p], &scale);
            }
        }
    }
}
