//! Activation columns, quantized to 8 bits in blocks of 32 once and used by every matrix that reads them.

use crate::panel::BLOCK;
use crate::{Isa, ThreadPool, avx2, scalar};

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

    /// Takes `columns` columns of `cols` values each from `x`. When `cols` is no multiple of 32 only float matrices
    /// can use them.
    ///
    /// # Panics
    /// When `x` has another length.
    pub fn quantize(&mut self, pool: &ThreadPool, x: &[f32], columns: usize, cols: usize) {
        self.quantize_with(Isa::best(), pool, x, columns, cols);
    }

    pub(crate) fn quantize_with(&mut self, isa: Isa, pool: &ThreadPool, x: &[f32], columns: usize, cols: usize) {
        assert_eq!(x.len(), columns * cols, "activations of {columns} columns x {cols}");
        (self.columns, self.cols) = (columns, cols);
        self.values.clear();
        self.values.extend_from_slice(x);
        let blocks = cols / BLOCK;
        self.codes.resize(columns * blocks * BLOCK, 0);
        self.blocks.resize(columns * blocks, BlockScale::default());
        if !cols.is_multiple_of(BLOCK) || blocks == 0 {
            return;
        }
        // A tile of columns is one piece of work; a single column is not worth waking anybody.
        let tile = columns.div_ceil(pool.threads() * 2).max(4);
        let codes = crate::pool::SharedSlice::new(&mut self.codes);
        pool.for_each_chunk(&mut self.blocks, tile * blocks, |i, scales| {
            let first = i * tile * blocks;
            // SAFETY: each chunk of scales comes once, and its codes are those of the same blocks only.
            let codes = unsafe { codes.slice_mut(first * BLOCK, scales.len() * BLOCK) };
            quantize_blocks(isa, &x[first * BLOCK..][..codes.len()], codes, scales);
        });
    }

    pub(crate) fn values(&self, column: usize) -> &[f32] {
        &self.values[column * self.cols..][..self.cols]
    }

    pub(crate) fn codes(&self, column: usize) -> &[i8] {
        &self.codes[column * self.cols..][..self.cols]
    }

    pub(crate) fn blocks(&self, column: usize) -> &[BlockScale] {
        let blocks = self.cols / BLOCK;
        &self.blocks[column * blocks..][..blocks]
    }
}

fn quantize_blocks(isa: Isa, x: &[f32], codes: &mut [i8], scales: &mut [BlockScale]) {
    match isa {
        Isa::Scalar => scalar::quantize_blocks(x, codes, scales),
        Isa::Avx2 | Isa::Vnni | Isa::Avx512 | Isa::Amx => avx2::quantize_blocks(x, codes, scales),
    }
}
