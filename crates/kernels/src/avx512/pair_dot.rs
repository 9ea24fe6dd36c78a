//! Sixteen rows of a pair of panels times a few columns, by VNNI's dot products.

use std::arch::x86_64::*;

use super::pair::{self, ColumnScale, Pair};
use crate::activations::BlockScale;
use crate::avx2::Columns;
use crate::panel::{BLOCK, Quantized, with_quantized};

/// Products of a pair's sixteen rows with `N` columns.
///
/// # Safety
/// Needs AVX-512 F, BW, VL, DQ and VNNI. The panels have `cols` columns, of a quantized type; `x` holds columns of that
/// length.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) unsafe fn pair_dot<const N: usize>(pair: &Pair, cols: usize, x: &Columns<N>) -> [__m512; N] {
    let blocks = cols / BLOCK;
    // SAFETY: passed on from the caller.
    unsafe { with_quantized!(pair.weight_type(), T => dot::<T, N>(pair, blocks, x)) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn dot<T: Quantized, const N: usize>(pair: &Pair, blocks: usize, x: &Columns<N>) -> [__m512; N] {
    let mut acc = [_mm512_setzero_ps(); N];
    for b in 0..blocks {
        pair.prefetch_next(b);
        // SAFETY: block `b` is inside the panels and the columns (`pair_dot`).
        unsafe {
            let mut codes = pair.codes::<T, false>(b);
            if T::LAYOUT.codes.signed {
                // The first factor is unsigned: `w + 128`, and the start takes the excess back.
                for codes in &mut codes {
                    *codes = _mm512_xor_si512(*codes, _mm512_set1_epi8(-128));
                }
            }
            let scales = pair.scales::<T>(b);
            for ((acc, blocks), codes_of) in acc.iter_mut().zip(x.blocks).zip(x.codes) {
                let a = &*blocks.add(b);
                let codes_at = codes_of.add(b * BLOCK);
                let mut dots = start::<T>(a);
                for g in 0..4 {
                    dots[0] = _mm512_dpbusd_epi32(dots[0], codes[g], broadcast(codes_at.add(4 * g)));
                    dots[1] = _mm512_dpbusd_epi32(dots[1], codes[4 + g], broadcast(codes_at.add(16 + 4 * g)));
                }
                if !T::LAYOUT.scales.halves() {
                    dots[0] = _mm512_add_epi32(dots[0], dots[1]);
                }
                *acc = pair::add_block::<T>(*acc, &scales, dots, &column(a));
            }
        }
    }
    acc
}

/// Where the dots begin: at what the offsets of the codes take away.
#[inline]
#[target_feature(enable = "avx512f")]
fn start<T: Quantized>(a: &BlockScale) -> [__m512i; 2] {
    let offset = if T::LAYOUT.codes.signed { 128 } else { i32::from(T::LAYOUT.codes.offset) };
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
        sum: _mm512_cvtepi32_ps(_mm512_set1_epi32(low + up)),
        first_sum: _mm512_cvtepi32_ps(_mm512_set1_epi32(low)),
    }
}

/// Four codes in every lane.
///
/// # Safety
/// Needs AVX-512F; `p` points at 4 readable bytes.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn broadcast(p: *const i8) -> __m512i {
    // SAFETY: the caller's promise; the read may be unaligned.
    _mm512_set1_epi32(unsafe { p.cast::<i32>().read_unaligned() })
}
