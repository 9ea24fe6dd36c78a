//! Sixteen rows of a pair of panels times a few columns, by VNNI's dot products.

use std::arch::x86_64::*;
use std::ops::Range;

use super::pair::{self, ColumnScale, Pair};
use super::place::{Place, store};
use super::side::unsigned_offset;
use crate::activations::{Activations, BlockScale, SPARE_COLUMNS};
use crate::panel::{BLOCK, Quantized, with_quantized};

/// Columns that are multiplied together at most; with eight the loads of the codes would take as long as the products.
const WIDE_COLUMNS: usize = 16;
/// From nine to so many columns are multiplied as so many, more as [`WIDE_COLUMNS`]: what is computed for nothing costs less than
/// to unpack the weights again for the rest.
const MIDDLE_COLUMNS: usize = WIDE_COLUMNS - 1 - SPARE_COLUMNS;
/// From so many columns on the dots of a block are one chain: the columns fill the wait, and a sum is saved.
const ONE_CHAIN_COLUMNS: usize = 4;

/// Writes the products of a pair's rows with `columns` of `x` to their places.
///
/// # Safety
/// Needs AVX-512 F, BW, VL, DQ and VNNI. The panels are of a quantized type and fit `x`, and nobody else writes to the same
/// places.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) unsafe fn products(pair: &Pair, x: &Activations, columns: Range<usize>, place: &Place<'_>) {
    // SAFETY: passed on from the caller.
    unsafe {
        with_quantized!(pair.weight_type(), T => all_columns::<T>(pair, x, columns, place));
    }
}

/// # Safety
/// As in [`products`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn all_columns<T: Quantized>(pair: &Pair, x: &Activations, columns: Range<usize>, place: &Place<'_>) {
    let mut first = columns.start;
    while first < columns.end {
        let n = WIDE_COLUMNS.min(columns.end - first);
        let tile = first..first + n;
        // SAFETY: passed on from the caller; there are as many columns more as the widest tiles have too many.
        unsafe {
            match n {
                1 => one_tile::<T, 1>(pair, x, tile, place),
                2 => one_tile::<T, 2>(pair, x, tile, place),
                3 => one_tile::<T, 3>(pair, x, tile, place),
                4 => one_tile::<T, 4>(pair, x, tile, place),
                5 => one_tile::<T, 5>(pair, x, tile, place),
                6 => one_tile::<T, 6>(pair, x, tile, place),
                7 => one_tile::<T, 7>(pair, x, tile, place),
                8 => one_tile::<T, 8>(pair, x, tile, place),
                ..=MIDDLE_COLUMNS => one_tile::<T, MIDDLE_COLUMNS>(pair, x, tile, place),
                _ => one_tile::<T, WIDE_COLUMNS>(pair, x, tile, place),
            }
        }
        first += n;
    }
}

/// Some columns, `N` at most: of more columns than those the products are computed and left.
///
/// # Safety
/// As in [`products`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn one_tile<T: Quantized, const N: usize>(pair: &Pair, x: &Activations, tile: Range<usize>, place: &Place<'_>) {
    let (codes_at, stride) = (x.codes_from(tile.start).as_ptr(), x.cols());
    let (scales_at, blocks) = (x.blocks_from(tile.start).as_ptr(), stride / BLOCK);
    let mut acc = [_mm512_setzero_ps(); N];
    // SAFETY: block `b` is inside the panels and the columns (`products`); behind those of the tile are others or the spare ones.
    unsafe {
        for b in 0..blocks {
            pair.prefetch::<_MM_HINT_T0>(b, 1);
            let (codes, scales) = (pair.unsigned_codes::<T>(b), pair.scales::<T>(b));
            for (c, acc) in acc.iter_mut().enumerate() {
                let scale = &*scales_at.add(c * blocks + b);
                let codes_at = codes_at.add(c * stride + b * BLOCK);
                let mut dots = start::<T>(scale);
                // With both halves in one chain or each in one of its own.
                let last = usize::from(T::LAYOUT.scales.halves() || N < ONE_CHAIN_COLUMNS);
                for g in 0..4 {
                    dots[0] = _mm512_dpbusd_epi32(dots[0], codes[g], broadcast(codes_at.add(4 * g)));
                    dots[last] = _mm512_dpbusd_epi32(dots[last], codes[4 + g], broadcast(codes_at.add(16 + 4 * g)));
                }
                if last == 1 && !T::LAYOUT.scales.halves() {
                    dots[0] = _mm512_add_epi32(dots[0], dots[1]);
                }
                *acc = pair::add_block::<T>(*acc, &scales, dots, &column(scale));
            }
        }
        for (column, acc) in tile.zip(acc) {
            store(place, column, acc);
        }
    }
}

/// Where the dots begin: at what the offsets of the codes take away.
#[inline]
#[target_feature(enable = "avx512f")]
fn start<T: Quantized>(a: &BlockScale) -> [__m512i; 2] {
    let offset = unsigned_offset(&T::LAYOUT.codes);
    let [low, up] = a.half_sums;
    if T::LAYOUT.scales.halves() {
        [_mm512_set1_epi32(-offset * low), _mm512_set1_epi32(-offset * up)]
    } else {
        [_mm512_set1_epi32(-offset * (low + up)), _mm512_setzero_si512()]
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn column(a: &BlockScale) -> ColumnScale {
    let [low, up] = a.half_sums;
    ColumnScale {
        d: _mm512_set1_ps(a.d),
        scaled_sum: _mm512_set1_ps(a.scaled_sum),
        half_sums: [_mm512_cvtepi32_ps(_mm512_set1_epi32(low)), _mm512_cvtepi32_ps(_mm512_set1_epi32(up))],
    }
}

/// Four codes in every lane.
///
/// # Safety
/// Needs AVX-512F; `p` points at 4 readable bytes.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn broadcast(p: *const i8) -> __m512i {
    // SAFETY: the caller's promise; the read may be unaligned.
    _mm512_set1_epi32(unsafe { p.cast::<i32>().read_unaligned() })
}
