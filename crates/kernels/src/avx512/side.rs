//! What activation columns add to integer dots, laid out for products with many columns.

use std::ops::Range;

use crate::ThreadPool;
use crate::activations::{Activations, BlockScale};
use crate::panel::{BLOCK, Codes};

/// Columns that stand together.
pub(super) const SIDE_COLUMNS: usize = 16;

/// The scales of activation columns, for the products of one call.
#[derive(Default)]
pub(crate) struct Sides {
    sides: Vec<SidePlace>,
    /// For each 16 columns of a side, block by block; those of all sides one after the other.
    tiles: Vec<SideBlock>,
    blocks: usize,
}

/// Of which columns and codes a side is, and where its tiles begin.
struct SidePlace {
    columns: Range<usize>,
    offset: i32,
    first_tile: usize,
}

/// One of [`Sides`]: for each 16 of some columns, block by block.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    first_column: usize,
    blocks: usize,
    tiles: &'a [SideBlock],
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

impl Sides {
    /// Which one is of these columns, for weights of these codes. Matrices that share their columns stand together.
    pub(crate) fn of(&mut self, columns: &Range<usize>, codes: &Codes) -> usize {
        let offset = unsigned_offset(codes);
        if self.sides.last().is_none_or(|last| last.columns != *columns || last.offset != offset) {
            let first_tile = self.tile_count();
            self.sides.push(SidePlace { columns: columns.clone(), offset, first_tile });
        }
        self.sides.len() - 1
    }

    fn tile_count(&self) -> usize {
        self.sides.last().map_or(0, |last| last.first_tile + last.columns.len().div_ceil(SIDE_COLUMNS))
    }

    /// Fills all of them from `x`, in one parallel region.
    pub(crate) fn fill(&mut self, pool: &ThreadPool, x: &Activations) {
        self.blocks = x.cols() / BLOCK;
        self.tiles.resize(self.tile_count() * self.blocks, SideBlock::default());
        let sides = &self.sides;
        pool.for_each_chunk(&mut self.tiles, self.blocks, |tile, blocks| {
            let side = &sides[sides.partition_point(|side| side.first_tile <= tile) - 1];
            let first = side.columns.start + (tile - side.first_tile) * SIDE_COLUMNS;
            for (c, column) in (first..side.columns.end.min(first + SIDE_COLUMNS)).enumerate() {
                for (block, scale) in blocks.iter_mut().zip(x.blocks(column)) {
                    block.set(c, scale, side.offset);
                }
            }
        });
    }

    /// The one that [`Sides::of`] named.
    pub(crate) fn get(&self, index: usize) -> Side<'_> {
        let SidePlace { columns, first_tile, .. } = &self.sides[index];
        Side { first_column: columns.start, blocks: self.blocks, tiles: &self.tiles[first_tile * self.blocks..] }
    }
}

impl SideBlock {
    /// Sets what column `c` has, for codes that are `offset` more than the weights.
    fn set(&mut self, c: usize, scale: &BlockScale, offset: i32) {
        #[expect(clippy::cast_precision_loss, reason = "at most 32 * 127: exact")]
        let [first, last] = scale.half_sums.map(|sum| sum as f32);
        (self.d[c], self.scaled_sum[c]) = (scale.d, scale.scaled_sum);
        (self.half_sums[0][c], self.half_sums[1][c]) = (first, last);
        let [first, last] = scale.half_sums.map(|sum| -offset * sum);
        (self.start[c], self.half_starts[0][c], self.half_starts[1][c]) = (first + last, first, last);
    }
}

impl<'a> Side<'a> {
    /// The blocks of the 16 columns among which `column` is, and its place among them.
    pub(super) fn tile(self, column: usize) -> (&'a [SideBlock], usize) {
        let at = column - self.first_column;
        let tile = at / SIDE_COLUMNS * self.blocks;
        (&self.tiles[tile..tile + self.blocks], at % SIDE_COLUMNS)
    }
}
