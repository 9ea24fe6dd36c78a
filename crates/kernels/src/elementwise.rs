//! Operations on single columns: norms, rotary positions, activations.
//!
//! All work on rows of `[columns][width]`; a row's result depends on that row alone. Small inputs stay on the calling
//! thread: waking others costs more than they bring.

pub(crate) mod lanes;
mod norm;
mod pointwise;
mod rope;

pub(crate) use norm::{NormInPlace, inverse_rms, norm_add_row};
pub(crate) use pointwise::{Activation, Gelu, Silu, add_lanes, softcapped};
pub(crate) use rope::Rope;

pub use norm::{add_rms_norm, rms_norm, rms_norm_add, rms_norm_in_place};
pub use pointwise::{Curve, add, add_to_rows, gelu_mul, scale, silu_mul, softcap};
pub use rope::{RopeFrequencies, RopeOrder, RopeTable, rope};

use crate::ThreadPool;
use crate::pool::SharedSlice;

/// Values below which a loop stays on the calling thread.
const PARALLEL_VALUES_MIN: usize = 16_384;

/// Calls `f(first row, rows)` on pieces of `data` that are whole rows of `width`, on several threads when worth it.
fn for_rows(pool: &ThreadPool, data: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    assert!(width > 0 && data.len().is_multiple_of(width), "{} values in rows of {width}", data.len());
    if data.len() < PARALLEL_VALUES_MIN {
        f(0, data);
        return;
    }
    let rows = piece_rows(pool, data.len() / width);
    pool.for_each_chunk(data, rows * width, |i, piece| f(i * rows, piece));
}

/// Like [`for_rows`] over two slices of the same rows.
fn for_rows_of_two(
    pool: &ThreadPool,
    (a, b): (&mut [f32], &mut [f32]),
    width: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    assert_eq!(a.len(), b.len(), "two slices of the same rows");
    let b = SharedSlice::new(b);
    for_rows(pool, a, width, |first, a| {
        // SAFETY: the pieces of `a` do not overlap, and each takes the piece of `b` with the same bounds.
        f(first, a, unsafe { b.slice_mut(first * width, a.len()) });
    });
}

fn piece_rows(pool: &ThreadPool, rows: usize) -> usize {
    rows.div_ceil(pool.threads() * 4).max(1)
}

#[cfg(test)]
mod tests;
