//! Sixteen rows of a pair of panels times a few columns, by VNNI's dot products.

use std::arch::x86_64::*;
use std::ops::Range;

use super::amx::{Place, store};
use super::pair::{self, ColumnScale, Pair, Scales};
use super::side::{SIDE_COLUMNS, Side, SideBlock, unsigned_offset};
use super::unpacked::{self, Unpacked};
use crate::activations::{Activations, BlockScale, SPARE_COLUMNS};
use crate::panel::{BLOCK, Quantized, with_quantized};

/// Columns that are multiplied together at most. Their sums take half of the registers; with eight columns the loads of the codes
/// would take as long as the products.
const WIDE_COLUMNS: usize = SIDE_COLUMNS;
/// From nine to so many columns are multiplied as so many, more as [`WIDE_COLUMNS`]: what is computed for nothing costs less than
/// to unpack the weights again for the rest.
const MIDDLE_COLUMNS: usize = WIDE_COLUMNS - 1 - SPARE_COLUMNS;
/// From so many columns on a pair is unpacked once for all of them; fewer are one tile.
pub(crate) const UNPACK_COLUMNS_MIN: usize = 17;
/// From so many columns on the dots of a block are one chain: the columns fill the wait, and a sum is saved.
const ONE_CHAIN_COLUMNS: usize = 4;

/// Writes the products of a pair's rows with `columns` of `x` to their places. With a `side` the pair is unpacked once for
/// all of them.
///
/// # Safety
/// Needs AVX-512 F, BW, VL, DQ and VNNI. The panels are of a quantized type and fit `x`, and nobody else writes to the same
/// places. `side` is of columns of `x` that hold `columns`, which begin a multiple of 16 after its first, and made for the
/// panels' codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) unsafe fn products(
    pair: &Pair,
    x: &Activations,
    side: Option<Side<'_>>,
    columns: Range<usize>,
    place: &Place<'_>,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        with_quantized!(pair.weight_type(), T => match side {
            None => all_columns::<T, _>(&Packed { pair, x }, x, columns, place),
            Some(side) => unpacked::with_scratch(|unpacked| {
                unpacked.fill::<T, false>(pair, x.cols() / BLOCK);
                all_columns::<T, _>(&Ready { unpacked, side }, x, columns, place);
            }),
        });
    }
}

/// Where codes and scales come from.
trait Operands {
    type Columns: Copy;

    /// What there is of a tile of columns.
    fn columns(&self, first: usize) -> Self::Columns;

    /// The codes, without a sign, and the scales of block `b`.
    ///
    /// # Safety
    /// Needs what [`products`] does; block `b` is inside the panels.
    unsafe fn weights<T: Quantized>(&self, b: usize) -> ([__m512i; 8], Scales);

    /// Where the dots of column `c` of the tile begin, and its scale.
    ///
    /// # Safety
    /// Needs what [`products`] does; block `b` and column `first + c` are there.
    unsafe fn column<T: Quantized>(columns: Self::Columns, c: usize, b: usize) -> ([__m512i; 2], ColumnScale);
}

/// As the file has them.
struct Packed<'a> {
    pair: &'a Pair,
    x: &'a Activations,
}

impl Operands for Packed<'_> {
    type Columns = (*const BlockScale, usize);

    fn columns(&self, first: usize) -> Self::Columns {
        (self.x.blocks_from(first).as_ptr(), self.x.cols() / BLOCK)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn weights<T: Quantized>(&self, b: usize) -> ([__m512i; 8], Scales) {
        self.pair.prefetch_next(b);
        // SAFETY: the caller's promise.
        unsafe { (self.pair.unsigned_codes::<T>(b), self.pair.scales::<T>(b)) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn column<T: Quantized>((blocks, stride): Self::Columns, c: usize, b: usize) -> ([__m512i; 2], ColumnScale) {
        // SAFETY: the caller's promise.
        let a = unsafe { &*blocks.add(c * stride + b) };
        (start::<T>(a), column(a))
    }
}

/// Unpacked, and in the order of the columns.
struct Ready<'a> {
    unpacked: &'a Unpacked,
    side: Side<'a>,
}

impl Operands for Ready<'_> {
    type Columns = (*const SideBlock, usize);

    fn columns(&self, first: usize) -> Self::Columns {
        let (blocks, place) = self.side.tile(first);
        (blocks.as_ptr(), place)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn weights<T: Quantized>(&self, b: usize) -> ([__m512i; 8], Scales) {
        let mut codes = [_mm512_setzero_si512(); 8];
        for (codes, from) in codes.iter_mut().zip(self.unpacked.codes(b)) {
            // SAFETY: 64 aligned bytes.
            *codes = unsafe { _mm512_load_si512(from.as_ptr().cast()) };
        }
        // SAFETY: `products` unpacked a pair of this type.
        (codes, unsafe { self.unpacked.scales::<T>(b) })
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    unsafe fn column<T: Quantized>((blocks, place): Self::Columns, c: usize, b: usize) -> ([__m512i; 2], ColumnScale) {
        // SAFETY: the caller's promise; a tile of 8 or 16 columns is inside the 16 that stand together.
        unsafe {
            let side = blocks.add(b);
            let at = |values: *const [f32; SIDE_COLUMNS]| _mm512_set1_ps(*values.cast::<f32>().add(place + c));
            let start = |values: *const [i32; SIDE_COLUMNS]| _mm512_set1_epi32(*values.cast::<i32>().add(place + c));
            let starts = if unsigned_offset(&T::LAYOUT.codes) == 0 {
                [_mm512_setzero_si512(); 2]
            } else if T::LAYOUT.scales.halves() {
                [start(&raw const (*side).half_starts[0]), start(&raw const (*side).half_starts[1])]
            } else {
                [start(&raw const (*side).start), _mm512_setzero_si512()]
            };
            let scale = ColumnScale {
                d: at(&raw const (*side).d),
                scaled_sum: at(&raw const (*side).scaled_sum),
                half_sums: [at(&raw const (*side).half_sums[0]), at(&raw const (*side).half_sums[1])],
            };
            (starts, scale)
        }
    }
}

/// # Safety
/// As in [`products`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn all_columns<T: Quantized, O: Operands>(
    operands: &O,
    x: &Activations,
    columns: Range<usize>,
    place: &Place<'_>,
) {
    let mut first = columns.start;
    while first < columns.end {
        let n = WIDE_COLUMNS.min(columns.end - first);
        let tile = first..first + n;
        // SAFETY: passed on from the caller; there are as many columns more as the widest tiles have too many.
        unsafe {
            match n {
                1 => one_tile::<T, O, 1>(operands, x, tile, place),
                2 => one_tile::<T, O, 2>(operands, x, tile, place),
                3 => one_tile::<T, O, 3>(operands, x, tile, place),
                4 => one_tile::<T, O, 4>(operands, x, tile, place),
                5 => one_tile::<T, O, 5>(operands, x, tile, place),
                6 => one_tile::<T, O, 6>(operands, x, tile, place),
                7 => one_tile::<T, O, 7>(operands, x, tile, place),
                8 => one_tile::<T, O, 8>(operands, x, tile, place),
                ..=MIDDLE_COLUMNS => one_tile::<T, O, MIDDLE_COLUMNS>(operands, x, tile, place),
                _ => one_tile::<T, O, WIDE_COLUMNS>(operands, x, tile, place),
            }
        }
        first += n;
    }
}

/// Some columns, `N` at most: of more columns than those the products are computed and left.
///
/// # Safety
/// As in [`products`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn one_tile<T: Quantized, O: Operands, const N: usize>(
    operands: &O,
    x: &Activations,
    tile: Range<usize>,
    place: &Place<'_>,
) {
    let (codes_at, stride) = (x.codes_from(tile.start).as_ptr(), x.cols());
    let columns = operands.columns(tile.start);
    let mut acc = [_mm512_setzero_ps(); N];
    // SAFETY: block `b` is inside the panels and the columns (`products`); behind those of the tile are others or the spare ones.
    unsafe {
        for b in 0..stride / BLOCK {
            let (codes, scales) = operands.weights::<T>(b);
            for (c, acc) in acc.iter_mut().enumerate() {
                let (mut dots, scale) = O::column::<T>(columns, c, b);
                let codes_at = codes_at.add(c * stride + b * BLOCK);
                // With both halves in one chain or each in one of its own.
                let last = usize::from(T::LAYOUT.scales.halves() || N < ONE_CHAIN_COLUMNS);
                for g in 0..4 {
                    dots[0] = _mm512_dpbusd_epi32(dots[0], codes[g], broadcast(codes_at.add(4 * g)));
                    dots[last] = _mm512_dpbusd_epi32(dots[last], codes[4 + g], broadcast(codes_at.add(16 + 4 * g)));
                }
                if last == 1 && !T::LAYOUT.scales.halves() {
                    dots[0] = _mm512_add_epi32(dots[0], dots[1]);
                }
                *acc = pair::add_block::<T>(*acc, &scales, dots, &scale);
            }
        }
        for (column, acc) in tile.zip(acc) {
            store(place, column, acc);
        }
    }
}

/// Where the dots begin: at what the offsets of the codes take away.
#[inline]
#[target_feature(enable = "avx512f")]
fn start<T: Quantized>(a: &BlockScale) -> [__m512i; 2] {
    let offset = unsigned_offset(&T::LAYOUT.codes);
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
        half_sums: [_mm512_cvtepi32_ps(_mm512_set1_epi32(low)), _mm512_cvtepi32_ps(_mm512_set1_epi32(up))],
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
