//! Sixteen rows of a pair of panels times a few columns, by VNNI's dot products.

use std::arch::x86_64::*;

use super::pair::{self, ColumnScale, Pair, Q4_0, Q4_1, Q4K, Q5_0, Q6K, Q8_0};
use crate::WeightType;
use crate::activations::BlockScale;
use crate::avx2::Columns;
use crate::panel::BLOCK;

/// Products of a pair's sixteen rows with `N` columns.
///
/// # Safety
/// Needs AVX-512 F, BW, VL, DQ and VNNI. The panels have `cols` columns, of a quantized type; `x` holds columns of that
/// length.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) unsafe fn pair_dot<const N: usize>(pair: &Pair, cols: usize, x: &Columns<N>) -> [__m512; N] {
    let blocks = cols / BLOCK;
    // SAFETY: passed on from the caller.
    unsafe {
        match pair.weight_type() {
            WeightType::Q4_0 => dot::<Q4_0, N>(pair, blocks, x),
            WeightType::Q4_1 => dot::<Q4_1, N>(pair, blocks, x),
            WeightType::Q5_0 => dot::<Q5_0, N>(pair, blocks, x),
            WeightType::Q4K => dot::<Q4K, N>(pair, blocks, x),
            WeightType::Q6K => dot::<Q6K, N>(pair, blocks, x),
            _ => dot::<Q8_0, N>(pair, blocks, x),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn dot<const T: u8, const N: usize>(pair: &Pair, blocks: usize, x: &Columns<N>) -> [__m512; N] {
    let mut acc = [_mm512_setzero_ps(); N];
    for b in 0..blocks {
        pair.prefetch_next(b);
        // SAFETY: block `b` is inside the panels and the columns (`pair_dot`).
        unsafe {
            let mut codes = pair.codes::<T, false>(b);
            if T == Q8_0 {
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
                if T != Q6K {
                    dots[0] = _mm512_add_epi32(dots[0], dots[1]);
                }
                *acc = pair::add_block::<T>(*acc, &scales, dots, &column::<T>(a));
            }
        }
    }
    acc
}

/// Where the dots begin: at what the offsets of the codes take away.
#[inline]
#[target_feature(enable = "avx512f")]
fn start<const T: u8>(a: &BlockScale) -> [__m512i; 2] {
    let offset = match T {
        Q4_0 => 8,
        Q5_0 => 16,
        Q6K => 32,
        Q8_0 => 128,
        _ => return [_mm512_setzero_si512(); 2],
    };
    let [low, up] = a.half_sums;
    if T == Q6K {
        [_mm512_set1_epi32(-offset * low), _mm512_set1_epi32(-offset * up)]
    } else {
        [_mm512_set1_epi32(-offset * (low + up)), _mm512_setzero_si512()]
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn column<const T: u8>(a: &BlockScale) -> ColumnScale {
    let sum = if T == Q4K {
        _mm512_cvtepi32_ps(_mm512_set1_epi32(a.half_sums[0] + a.half_sums[1]))
    } else {
        _mm512_setzero_ps()
    };
    ColumnScale { d: _mm512_set1_ps(a.d), scaled_sum: _mm512_set1_ps(a.scaled_sum), sum }
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
