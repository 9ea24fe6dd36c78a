//! Activation columns, quantized to 8 bits in blocks of 32 once and used by every matrix that reads them.

mod source;

pub use source::Source;

use crate::elementwise::lanes::dispatch;
use crate::panel::BLOCK;
use crate::pool::SharedSlice;
use crate::{Isa, ThreadPool};
use source::Fill;
pub(crate) use source::{Gates, Out};

/// Columns that are gathered as one piece of work.
const GATHERED_TOGETHER: usize = 32;
/// Columns after the last that may be read, of any content: products of whole tiles leave those that nobody asked for.
pub(crate) const SPARE_COLUMNS: usize = 3;

/// Columns of activations, `[columns][cols]`: as floats, and as 8-bit blocks of 32 with scale and sums.
///
/// Block scale `d` = max |x| / 127 and code `q` = round-half-even(x / d); `x` is near `d * q`. Each column is quantized
/// on its own, so its codes never depend on its neighbours.
#[derive(Default)]
pub struct Activations {
    columns: usize,
    cols: usize,
    values: Vec<f32>,
    codes: Vec<i8>,
    blocks: Vec<BlockScale>,
}

/// What belongs to one block of 32 codes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(crate) struct BlockScale {
    /// Scale.
    pub(crate) d: f32,
    /// `d` times the sum of the codes.
    pub(crate) scaled_sum: f32,
    /// Sums of the first and the last 16 codes.
    pub(crate) half_sums: [i32; 2],
}

impl BlockScale {
    /// Of a block that holds what is no number or not finite, kept visible: whatever is made of it becomes NaN.
    pub(crate) const NOT_A_NUMBER: Self = Self { d: f32::NAN, scaled_sum: f32::NAN, half_sums: [0; 2] };

    #[inline(always)]
    pub(crate) fn new(d: f32, half_sums: [i32; 2]) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "at most 32 * 127: exact")]
        let sum = (half_sums[0] + half_sums[1]) as f32;
        Self { d, scaled_sum: d * sum, half_sums }
    }
}

impl Activations {
    /// No columns.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Values in a column.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Takes `columns` columns of `cols` values each from `x`, for quantized and float matrices. When `cols` is no
    /// multiple of 32 only float matrices can use them.
    ///
    /// # Panics
    /// When `x` has another length.
    pub fn quantize(&mut self, pool: &ThreadPool, x: &[f32], columns: usize, cols: usize) {
        self.quantize_with(Isa::best(), pool, x, columns, cols);
    }

    pub(crate) fn quantize_with(&mut self, isa: Isa, pool: &ThreadPool, x: &[f32], columns: usize, cols: usize) {
        self.fill_with(isa, pool, Source::Values(x), (columns, cols), true);
    }

    /// Makes `columns` columns of `cols` values from `source`, in one pass. With `floats` float matrices can use them
    /// too; without, their values are never written. When `cols` is no multiple of 32 only float matrices can.
    ///
    /// # Panics
    /// When a length does not fit.
    pub fn fill(&mut self, pool: &ThreadPool, source: Source<'_>, (columns, cols): (usize, usize), floats: bool) {
        self.fill_with(Isa::best(), pool, source, (columns, cols), floats);
    }

    pub(crate) fn fill_with(
        &mut self,
        isa: Isa,
        pool: &ThreadPool,
        source: Source<'_>,
        (columns, cols): (usize, usize),
        floats: bool,
    ) {
        source.check(columns, cols);
        let out = self.resized((columns, cols), floats);
        // Work on few values is not worth waking anybody.
        let split = if columns * cols < source.parallel_min() { 1 } else { pool.threads() * 2 };
        let together = columns.div_ceil(split).max(1);
        let source = source.shared();
        pool.for_each_index(columns.div_ceil(together), |i| {
            let columns = i * together..columns.min((i + 1) * together);
            dispatch(isa, Fill { source: &source, out: &out, columns });
        });
    }

    /// Room for `columns` columns of `cols` values, all of which are still to be written; `floats` as in [`Activations::fill`].
    pub(crate) fn resized(&mut self, (columns, cols): (usize, usize), floats: bool) -> Out<'_> {
        (self.columns, self.cols) = (columns, cols);
        let blocks = if cols.is_multiple_of(BLOCK) { cols / BLOCK } else { 0 };
        self.values.resize(if floats { columns * cols } else { 0 }, 0.0);
        self.codes.resize((columns + SPARE_COLUMNS) * blocks * BLOCK, 0);
        self.blocks.resize((columns + SPARE_COLUMNS) * blocks, BlockScale::default());
        Out {
            cols,
            blocks,
            floats,
            values: SharedSlice::new(&mut self.values),
            codes: SharedSlice::new(&mut self.codes),
            scales: SharedSlice::new(&mut self.blocks),
        }
    }

    /// Makes these the columns `of` of `x`, in this order; a column may come several times. For the experts of a mixture,
    /// whose tokens then stand together ([`matmul_grouped`](crate::matmul_grouped)). With `floats` float matrices can use them
    /// too.
    ///
    /// # Panics
    /// When `x` lacks a column, or its floats where they are asked for.
    pub fn gather(&mut self, pool: &ThreadPool, x: &Self, of: &[u32], floats: bool) {
        let out = self.resized((of.len(), x.cols), floats);
        let (values, blocks) = (if floats { x.cols } else { 0 }, out.blocks);
        let codes = blocks * BLOCK;
        pool.for_each_index(of.len().div_ceil(GATHERED_TOGETHER), |part| {
            let first = part * GATHERED_TOGETHER;
            for (place, &column) in (first..of.len().min(first + GATHERED_TOGETHER)).zip(&of[first..]) {
                let column = column as usize;
                assert!(column < x.columns, "column {column} of {}", x.columns);
                let column_of = |length: usize| column * length..(column + 1) * length;
                // SAFETY: each place is one part's, and all are inside.
                unsafe {
                    out.values.slice_mut(place * values, values).copy_from_slice(&x.values[column_of(values)]);
                    out.codes.slice_mut(place * codes, codes).copy_from_slice(&x.codes[column_of(codes)]);
                    out.scales.slice_mut(place * blocks, blocks).copy_from_slice(&x.blocks[column_of(blocks)]);
                }
            }
        });
    }

    /// Float values of a column, if they were asked for.
    ///
    /// # Panics
    /// When they were not.
    pub(crate) fn values(&self, column: usize) -> &[f32] {
        &self.values[column * self.cols..][..self.cols]
    }

    pub(crate) fn codes(&self, column: usize) -> &[i8] {
        &self.codes[column * self.cols..][..self.cols]
    }

    /// The codes of a column and all behind it, the spare ones too.
    pub(crate) fn codes_from(&self, column: usize) -> &[i8] {
        &self.codes[column * self.cols..]
    }

    /// The blocks of a column and all behind it, the spare ones too.
    pub(crate) fn blocks_from(&self, column: usize) -> &[BlockScale] {
        &self.blocks[column * (self.cols / BLOCK)..]
    }

    pub(crate) fn blocks(&self, column: usize) -> &[BlockScale] {
        let blocks = self.cols / BLOCK;
        &self.blocks[column * blocks..][..blocks]
    }
}

#[cfg(test)]
mod tests;
