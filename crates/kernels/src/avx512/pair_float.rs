//! Sixteen rows of a pair of float panels times a few columns: one chain of fused multiply-adds over the columns of the
//! matrix for each output, as in `scalar::panel_dot_float`.

use std::arch::x86_64::*;
use std::ops::Range;

use super::pair::Pair;
use super::place::{Place, store};
use crate::WeightType;
use crate::activations::Activations;
use crate::avx2::Columns;

/// Columns that are multiplied together.
const PAIR_COLUMNS: usize = 8;

/// Writes the products of a pair's rows with `columns` of `x` to their places.
///
/// # Safety
/// Needs AVX-512 F, BW, VL and DQ. The panels are of a float type and fit `x`, which has floats, and nobody else writes to
/// the same places.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(crate) unsafe fn products(pair: &Pair, x: &Activations, columns: Range<usize>, place: &Place<'_>) {
    // SAFETY: passed on from the caller.
    unsafe {
        match pair.weight_type() {
            WeightType::F32 => all_columns::<0>(pair, x, columns, place),
            WeightType::F16 => all_columns::<1>(pair, x, columns, place),
            _ => all_columns::<2>(pair, x, columns, place),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn all_columns<const TYPE: u8>(pair: &Pair, x: &Activations, columns: Range<usize>, place: &Place<'_>) {
    for first in columns.clone().step_by(PAIR_COLUMNS) {
        // SAFETY: passed on from the caller.
        unsafe {
            match columns.end - first {
                1 => one_tile::<1, TYPE>(pair, x, first, place),
                2 => one_tile::<2, TYPE>(pair, x, first, place),
                3 => one_tile::<3, TYPE>(pair, x, first, place),
                4 => one_tile::<4, TYPE>(pair, x, first, place),
                5 => one_tile::<5, TYPE>(pair, x, first, place),
                6 => one_tile::<6, TYPE>(pair, x, first, place),
                7 => one_tile::<7, TYPE>(pair, x, first, place),
                _ => one_tile::<PAIR_COLUMNS, TYPE>(pair, x, first, place),
            }
        }
    }
}

/// `N` columns from `first` on. `TYPE`: 0 = F32, 1 = F16, 2 = BF16.
///
/// # Safety
/// As in [`products`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn one_tile<const N: usize, const TYPE: u8>(pair: &Pair, x: &Activations, first: usize, place: &Place<'_>) {
    let columns = Columns::<N>::new(x, first, true);
    let mut acc = [_mm512_setzero_ps(); N];
    // SAFETY: the panels hold eight weights for each value of a column (`products`).
    unsafe {
        for k in 0..x.cols() {
            let w = pair.floats::<TYPE>(k);
            for (acc, values) in acc.iter_mut().zip(columns.values) {
                *acc = _mm512_fmadd_ps(w, _mm512_set1_ps(*values.add(k)), *acc);
            }
        }
        for (c, acc) in acc.into_iter().enumerate() {
            store(place, first + c, acc);
        }
    }
}
