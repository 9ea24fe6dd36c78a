//! What activation columns add to integer dots, laid out for products with many columns.

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;
use std::slice::ChunksExact;

use super::pair::ColumnScale;
use crate::ThreadPool;
use crate::activations::{Activations, BlockScale};
use crate::panel::{BLOCK, Codes, Layout, Quantized, ScaleKind};
use crate::pool::SharedSlice;

/// Columns that stand together.
pub(super) const SIDE_COLUMNS: usize = 16;

/// One number of each of 16 columns; the bits of integers, too.
pub(super) type SideVector = [f32; SIDE_COLUMNS];

/// What products of a type need of a block of 16 columns, in this order: scales; where dots begin (at what the offset of the
/// weights' codes takes away), of the block or of each half; `d` times the sum of the codes, or the sums of both halves.
#[derive(Clone, Copy, Debug, PartialEq)]
struct SideLayout {
    offset: i32,
    starts: usize,
    sums: usize,
}

impl SideLayout {
    const fn of(layout: &Layout) -> Self {
        let offset = unsigned_offset(&layout.codes);
        let starts = if offset == 0 { 0 } else { 1 + layout.scales.halves() as usize };
        let sums = match layout.scales {
            ScaleKind::Min | ScaleKind::SubMin => 1,
            ScaleKind::SubHalvesMin => 2,
            _ => 0,
        };
        Self { offset, starts, sums }
    }

    const fn vectors(&self) -> usize {
        1 + self.starts + self.sums
    }

    /// Sets what column `c` has.
    fn set(&self, block: &mut [SideVector], c: usize, scale: &BlockScale) {
        let [first, last] = scale.half_sums;
        block[0][c] = scale.d;
        let starts = [-self.offset * first, -self.offset * last];
        match self.starts {
            0 => {}
            1 => block[1][c] = f32::from_bits((starts[0] + starts[1]).cast_unsigned()),
            _ => (block[1][c], block[2][c]) = starts.map(|start| f32::from_bits(start.cast_unsigned())).into(),
        }
        let sums = 1 + self.starts;
        match self.sums {
            0 => {}
            1 => block[sums][c] = scale.scaled_sum,
            #[expect(clippy::cast_precision_loss, reason = "at most 16 * 127: exact")]
            _ => (block[sums][c], block[sums + 1][c]) = (first as f32, last as f32),
        }
    }
}

/// How much more the codes are than the weights when they multiply without a sign.
pub(super) const fn unsigned_offset(codes: &Codes) -> i32 {
    if codes.signed { 128 } else { codes.offset as i32 }
}

thread_local! {
    /// Kept from call to call: room for many columns is large.
    static VECTORS: RefCell<Vec<SideVector>> = RefCell::default();
}

/// The scales of activation columns, for the products of one call.
pub(crate) struct Sides {
    sides: Vec<SidePlace>,
    /// For each 16 columns of a side, block by block; those of all sides one after the other.
    vectors: Vec<SideVector>,
    blocks: usize,
}

/// Of which columns a side is and what it holds, and where its tiles begin.
struct SidePlace {
    columns: Range<usize>,
    layout: SideLayout,
    /// Among the tiles of all sides.
    first_tile: usize,
    /// In vectors for each block of a column.
    start: usize,
}

impl SidePlace {
    /// Where the next one's tiles and vectors begin.
    fn end(&self) -> (usize, usize) {
        let tiles = self.columns.len().div_ceil(SIDE_COLUMNS);
        (self.first_tile + tiles, self.start + tiles * self.layout.vectors())
    }
}

/// One of [`Sides`]: for each 16 of some columns, block by block.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    first_column: usize,
    tile_len: usize,
    vectors: &'a [SideVector],
}

impl Sides {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { sides: Vec::new(), vectors: VECTORS.take(), blocks: 0 }
    }

    /// Which one is of these columns, for weights in `layout`. Matrices that share their columns stand together.
    pub(crate) fn of(&mut self, columns: &Range<usize>, layout: &Layout) -> usize {
        let layout = SideLayout::of(layout);
        if self.sides.last().is_none_or(|last| last.columns != *columns || last.layout != layout) {
            let (first_tile, start) = self.sides.last().map_or((0, 0), SidePlace::end);
            self.sides.push(SidePlace { columns: columns.clone(), layout, first_tile, start });
        }
        self.sides.len() - 1
    }

    /// Fills all of them from `x`, in one parallel region.
    pub(crate) fn fill(&mut self, pool: &ThreadPool, x: &Activations) {
        let Some((tiles, end)) = self.sides.last().map(SidePlace::end) else { return };
        self.blocks = x.cols() / BLOCK;
        if self.vectors.len() < end * self.blocks {
            self.vectors.resize(end * self.blocks, [0.0; SIDE_COLUMNS]);
        }
        let (sides, vectors) = (&self.sides, SharedSlice::new(&mut self.vectors));
        pool.for_each_index(tiles, |tile| {
            let side = &sides[sides.partition_point(|side| side.first_tile <= tile) - 1];
            let (tile, width) = (tile - side.first_tile, side.layout.vectors());
            // SAFETY: each tile comes once, and tiles do not overlap.
            let vectors = unsafe { vectors.slice_mut((side.start + tile * width) * self.blocks, width * self.blocks) };
            let first = side.columns.start + tile * SIDE_COLUMNS;
            for (c, column) in (first..side.columns.end.min(first + SIDE_COLUMNS)).enumerate() {
                for (block, scale) in vectors.chunks_exact_mut(width).zip(x.blocks(column)) {
                    side.layout.set(block, c, scale);
                }
            }
        });
    }

    /// The one that [`Sides::of`] named.
    pub(crate) fn get(&self, index: usize) -> Side<'_> {
        let SidePlace { columns, layout, start, .. } = &self.sides[index];
        let tile_len = layout.vectors() * self.blocks;
        Side { first_column: columns.start, tile_len, vectors: &self.vectors[start * self.blocks..] }
    }
}

impl Drop for Sides {
    fn drop(&mut self) {
        VECTORS.set(std::mem::take(&mut self.vectors));
    }
}

impl<'a> Side<'a> {
    /// The blocks of the 16 columns that begin with `column`, for weights of the type that the side is for.
    pub(super) fn tile<T: Quantized>(self, column: usize) -> ChunksExact<'a, SideVector> {
        let tile = (column - self.first_column) / SIDE_COLUMNS * self.tile_len;
        self.vectors[tile..tile + self.tile_len].chunks_exact(const { SideLayout::of(&T::LAYOUT).vectors() })
    }
}

/// Where the dots of column `c` of a block begin, those of its halves or all.
///
/// # Safety
/// Needs AVX-512F; the block has the vectors of the type's layout, and `c` is less than [`SIDE_COLUMNS`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn starts<T: Quantized>(block: &[SideVector], c: usize) -> [__m512i; 2] {
    // SAFETY: the caller's promise.
    let start = |vector| _mm512_set1_epi32(unsafe { number(block, vector, c) }.to_bits().cast_signed());
    let none = _mm512_setzero_si512();
    match const { SideLayout::of(&T::LAYOUT).starts } {
        0 => [none; 2],
        1 => [start(1), none],
        _ => [start(1), start(2)],
    }
}

/// What column `c` of a block adds to dots.
///
/// # Safety
/// As of [`starts`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn scale<T: Quantized>(block: &[SideVector], c: usize) -> ColumnScale {
    let SideLayout { starts, sums, .. } = const { SideLayout::of(&T::LAYOUT) };
    // SAFETY: the caller's promise.
    let at = |vector| _mm512_set1_ps(unsafe { number(block, vector, c) });
    let zero = _mm512_setzero_ps();
    ColumnScale {
        d: at(0),
        scaled_sum: if sums == 1 { at(1 + starts) } else { zero },
        half_sums: if sums == 2 { [at(1 + starts), at(2 + starts)] } else { [zero; 2] },
    }
}

/// # Safety
/// The block has the vector, and `c` is less than [`SIDE_COLUMNS`].
#[inline(always)]
unsafe fn number(block: &[SideVector], vector: usize, c: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe { *block.get_unchecked(vector).get_unchecked(c) }
}
