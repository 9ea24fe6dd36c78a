//! Where the products of a pair's rows go.

use std::arch::x86_64::*;

use super::ROWS;
use crate::pool::SharedSlice;

/// Where a product goes: `[column][rows]`, of the pair's rows those that are.
pub(crate) struct Place<'a> {
    pub(crate) out: &'a SharedSlice<'a, f32>,
    pub(crate) row: usize,
    pub(crate) rows: usize,
    /// The column of the activations whose products come first.
    pub(crate) first_column: usize,
}

impl Place<'_> {
    /// That of rows which stand so many further below.
    pub(super) fn below(&self, rows: usize) -> Self {
        Self { row: self.row + rows, ..*self }
    }
}

/// Writes the products of one column.
///
/// # Safety
/// Nobody else writes to this place.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn store(place: &Place<'_>, column: usize, products: __m512) {
    let rows = ROWS.min(place.rows - place.row);
    // SAFETY: the caller's promise; as many floats are written as the slice has.
    unsafe {
        let out = place.out.slice_mut((column - place.first_column) * place.rows + place.row, rows);
        _mm512_mask_storeu_ps(out.as_mut_ptr(), 0xFFFF_u16 >> (ROWS - rows), products);
    }
}
