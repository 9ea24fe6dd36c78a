//! What activation columns add to integer dots, laid out for products with many columns.

use std::ops::Range;

use crate::ThreadPool;
use crate::activations::Activations;
use crate::panel::{BLOCK, Codes};

/// Columns that stand together.
pub(super) const SIDE_COLUMNS: usize = 16;

/// The scales of activation columns: for each 16 columns, block by block.
pub(crate) struct Side {
    columns: Range<usize>,
    offset: i32,
    blocks: usize,
    tiles: Vec<SideBlock>,
}

/// One block of 16 columns.
#[derive(Clone, Copy, Default)]
pub(super) struct SideBlock {
    pub(super) d: [f32; SIDE_COLUMNS],
    /// `d` times the sum of the codes.
    pub(super) scaled_sum: [f32; SIDE_COLUMNS],
    /// The sums of the codes of both halves.
    pub(super) half_sums: [[f32; SIDE_COLUMNS]; 2],
    /// Where dots begin: at what the offset of the weights' codes takes away, of both halves and of each.
    pub(super) start: [i32; SIDE_COLUMNS],
    pub(super) half_starts: [[i32; SIDE_COLUMNS]; 2],
}

/// How much more the codes are than the weights when they multiply without a sign.
pub(super) const fn unsigned_offset(codes: &Codes) -> i32 {
    if codes.signed { 128 } else { codes.offset as i32 }
}

impl Side {
    /// Of these columns of `x`, for weights of these codes.
    pub(crate) fn new(pool: &ThreadPool, x: &Activations, columns: Range<usize>, codes: &Codes) -> Self {
        let (blocks, offset) = (x.cols() / BLOCK, unsigned_offset(codes));
        let mut tiles = vec![SideBlock::default(); columns.len().div_ceil(SIDE_COLUMNS) * blocks];
        pool.for_each_chunk(&mut tiles, blocks.max(1), |tile, side| {
            let first = columns.start + tile * SIDE_COLUMNS;
            for (c, column) in (first..columns.end.min(first + SIDE_COLUMNS)).enumerate() {
                for (side, scale) in side.iter_mut().zip(x.blocks(column)) {
                    #[expect(clippy::cast_precision_loss, reason = "at most 32 * 127: exact")]
                    let [first, last] = scale.half_sums.map(|sum| sum as f32);
                    (side.d[c], side.scaled_sum[c]) = (scale.d, scale.scaled_sum);
                    (side.half_sums[0][c], side.half_sums[1][c]) = (first, last);
                    let [first, last] = scale.half_sums.map(|sum| -offset * sum);
                    (side.start[c], side.half_starts[0][c], side.half_starts[1][c]) = (first + last, first, last);
                }
            }
        });
        Self { columns, offset, blocks, tiles }
    }

    /// Whether it is of these columns, for weights of these codes.
    pub(crate) fn is_of(&self, columns: &Range<usize>, codes: &Codes) -> bool {
        self.columns == *columns && self.offset == unsigned_offset(codes)
    }

    /// The blocks of the 16 columns among which `column` is, and its place among them.
    pub(super) fn tile(&self, column: usize) -> (&[SideBlock], usize) {
        let at = column - self.columns.start;
        let tile = at / SIDE_COLUMNS * self.blocks;
        (&self.tiles[tile..tile + self.blocks], at % SIDE_COLUMNS)
    }
}
