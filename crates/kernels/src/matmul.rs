//! Products of weight matrices with activation columns.

use std::ops::Range;

use crate::avx512::{self, Pair, Place, Side, Sides, TILE_COLUMNS_MIN, UNPACK_COLUMNS_MIN};
use crate::panel::LANES;
use crate::pool::SharedSlice;
use crate::{Activations, Isa, Matrix, ThreadPool, avx2, scalar};

/// Columns that share one unpacked block.
const COLUMN_TILE: usize = 4;
/// Panels and columns of one piece of work: panels of this many rows stay in the second-level cache while all the
/// piece's columns pass.
const PANELS_PER_ITEM: usize = 8;
const COLUMNS_PER_ITEM: usize = 128;
/// Columns of a piece are a multiple of these: as many as any kernel multiplies together.
const COLUMNS_TOGETHER: usize = 16;
/// With so few columns a piece takes a microsecond or two, and smaller ones end more evenly.
const FEW_COLUMNS: usize = 4;
const FEW_PANELS_PER_ITEM: usize = 4;
/// The same for products by tiles.
const TILE_PANELS_PER_ITEM: usize = 4;
const TILE_COLUMNS_PER_ITEM: usize = 512;

/// `out[c][r]` = row `r` of the matrix times column `c` of `x`, for each matrix and its `out` (`[columns][rows]`), all
/// in one parallel region. An output depends on its row and column only, bit for bit.
///
/// # Panics
/// When a matrix does not fit `x` or an `out` has the wrong length.
pub fn matmul(pool: &ThreadPool, products: &mut [(&Matrix, &mut [f32])], x: &Activations) {
    matmul_with(Isa::best(), pool, products, x);
}

/// [`matmul`] with a chosen instruction set, for comparisons. One that the processor lacks is replaced by the best.
pub fn matmul_with(isa: Isa, pool: &ThreadPool, products: &mut [(&Matrix, &mut [f32])], x: &Activations) {
    let all = 0..x.columns();
    let groups = products.iter_mut().map(|(matrix, out)| (*matrix, all.clone(), &mut **out));
    run(isa, pool, groups, x);
}

/// A matrix, the columns of the activations that it multiplies, and where the products go: `[columns][rows]`.
pub type GroupedProduct<'a> = (&'a Matrix, Range<usize>, &'a mut [f32]);

/// Each matrix times its own columns of `x`, all in one parallel region: the experts of a mixture, whose tokens stand
/// together ([`Activations::gather`]). An output is what [`matmul`] gives for its row and column, bit for bit.
///
/// # Panics
/// When a matrix does not fit `x`, columns are not all inside, or an `out` has the wrong length.
pub fn matmul_grouped(pool: &ThreadPool, products: &mut [GroupedProduct<'_>], x: &Activations) {
    matmul_grouped_with(Isa::best(), pool, products, x);
}

/// [`matmul_grouped`] with a chosen instruction set, for comparisons.
pub fn matmul_grouped_with(isa: Isa, pool: &ThreadPool, products: &mut [GroupedProduct<'_>], x: &Activations) {
    let groups = products.iter_mut().map(|(matrix, columns, out)| (*matrix, columns.clone(), &mut **out));
    run(isa, pool, groups, x);
}

fn run<'a>(isa: Isa, pool: &ThreadPool, products: impl Iterator<Item = GroupedProduct<'a>>, x: &Activations) {
    let isa = if Isa::available().contains(&isa) { isa } else { Isa::best() };
    let mut tasks: Vec<Task<'a>> = Vec::with_capacity(products.size_hint().0);
    let mut sides = Sides::default();
    let mut items = 0;
    for (matrix, columns, out) in products {
        assert_eq!(matrix.cols(), x.cols(), "{matrix:?} does not fit the activations");
        assert!(columns.start <= columns.end && columns.end <= x.columns(), "columns {columns:?} of {}", x.columns());
        assert_eq!(out.len(), matrix.rows() * columns.len(), "length of the products of {matrix:?}");
        let shape = ItemShape::of(isa, columns.len(), !matrix.weight_type().is_float());
        let codes = matrix.layout().codes;
        let column_items = columns.len().div_ceil(shape.columns);
        let first_item = items;
        items += matrix.panel_count().div_ceil(shape.panels) * column_items;
        let side = shape.side.then(|| sides.of(&columns, &codes));
        tasks.push(Task { matrix, columns, out: SharedSlice::new(out), shape, column_items, side, first_item });
    }
    sides.fill(pool, x);
    pool.for_each_index(items, |item| {
        let at = tasks.partition_point(|t| t.first_item <= item) - 1;
        tasks[at].item(isa, x, &sides, item);
    });
}

/// How much of a product one piece of work is.
struct ItemShape {
    panels: usize,
    columns: usize,
    /// Enough columns to unpack weights once for all of them.
    side: bool,
}

impl ItemShape {
    fn of(isa: Isa, columns: usize, quantized: bool) -> Self {
        let side = match isa {
            Isa::Amx => quantized && columns >= TILE_COLUMNS_MIN,
            Isa::Avx512 => quantized && columns >= UNPACK_COLUMNS_MIN,
            _ => false,
        };
        if side && isa == Isa::Amx {
            Self { panels: TILE_PANELS_PER_ITEM, columns: TILE_COLUMNS_PER_ITEM, side }
        } else {
            let panels = if columns <= FEW_COLUMNS { FEW_PANELS_PER_ITEM } else { PANELS_PER_ITEM };
            // In as many pieces as need be, of about one size: each unpacks its weights anew.
            let pieces = columns.div_ceil(COLUMNS_PER_ITEM).max(1);
            let columns = columns.div_ceil(pieces).next_multiple_of(COLUMNS_TOGETHER).max(COLUMNS_TOGETHER);
            Self { panels, columns, side }
        }
    }
}

/// One product of a call.
struct Task<'a> {
    matrix: &'a Matrix,
    /// Of the activations.
    columns: Range<usize>,
    /// `[columns][rows]`.
    out: SharedSlice<'a, f32>,
    shape: ItemShape,
    column_items: usize,
    /// Which of the call's.
    side: Option<usize>,
    first_item: usize,
}

impl Task<'_> {
    /// A piece of the call's work that is one of this product's.
    fn item(&self, isa: Isa, x: &Activations, sides: &Sides, item: usize) {
        let local = item - self.first_item;
        let (panel, column) = (local / self.column_items * self.shape.panels, local % self.column_items);
        let panels = panel..self.matrix.panel_count().min(panel + self.shape.panels);
        let column = self.columns.start + column * self.shape.columns;
        let columns = column..self.columns.end.min(column + self.shape.columns);
        self.run(isa, x, self.side.map(|side| sides.get(side)), panels, columns);
    }

    /// Some panels and columns.
    fn run(&self, isa: Isa, x: &Activations, side: Option<Side<'_>>, panels: Range<usize>, columns: Range<usize>) {
        #[cfg(target_arch = "x86_64")]
        if matches!(isa, Isa::Avx512 | Isa::Amx) {
            for panel in panels.step_by(2) {
                self.pair(isa, x, side, panel, columns.clone());
            }
            return;
        }
        let mut column = columns.start;
        while column < columns.end {
            let n = COLUMN_TILE.min(columns.end - column);
            let ahead = column == columns.start;
            for panel in panels.clone() {
                match n {
                    1 => self.tile::<1>(isa, x, panel, (column, ahead)),
                    2 => self.tile::<2>(isa, x, panel, (column, ahead)),
                    3 => self.tile::<3>(isa, x, panel, (column, ahead)),
                    _ => self.tile::<COLUMN_TILE>(isa, x, panel, (column, ahead)),
                }
            }
            column += n;
        }
    }

    /// The products of two panels, `first` and the next (if there is one).
    #[cfg(target_arch = "x86_64")]
    fn pair(&self, isa: Isa, x: &Activations, side: Option<Side<'_>>, first: usize, columns: Range<usize>) {
        let second = (first + 1).min(self.matrix.panel_count() - 1);
        let pair = Pair::new(self.matrix.panel(first), self.matrix.panel(second), self.matrix.layout());
        let place =
            Place { out: &self.out, row: first * LANES, rows: self.matrix.rows(), first_column: self.columns.start };
        // SAFETY: `run` checked that the processor has what `isa` names and that the matrix fits `x`; each (panel, column)
        // pair belongs to one item; a side is there for quantized types only.
        unsafe {
            match side {
                _ if self.matrix.weight_type().is_float() => avx512::pair_float_products(&pair, x, columns, &place),
                Some(side) if isa == Isa::Amx => avx512::amx_products(&pair, x, side, columns, &place),
                side => avx512::pair_products(&pair, x, side, columns, &place),
            }
        }
    }

    /// `N` columns from `column` on; with `ahead` the next panel is asked of the memory meanwhile.
    fn tile<const N: usize>(&self, isa: Isa, x: &Activations, panel: usize, (column, ahead): (usize, bool)) {
        let lanes = panel_dot::<N>(isa, self.matrix, panel, x, (column, ahead));
        let row = panel * LANES;
        let rows = LANES.min(self.matrix.rows() - row);
        for (c, lanes) in lanes.iter().enumerate() {
            // SAFETY: each (panel, column) pair belongs to one item, so the parts do not overlap.
            let out = unsafe { self.out.slice_mut((column - self.columns.start + c) * self.matrix.rows() + row, rows) };
            out.copy_from_slice(&lanes[..rows]);
        }
    }
}

fn panel_dot<const N: usize>(
    isa: Isa,
    w: &Matrix,
    panel: usize,
    x: &Activations,
    (first, ahead): (usize, bool),
) -> [[f32; LANES]; N] {
    let (layout, panel) = (w.layout(), w.panel(panel));
    #[cfg(target_arch = "x86_64")]
    if isa != Isa::Scalar {
        let mut columns = avx2::Columns::<N>::new(x, first, layout.ty.is_float());
        if ahead {
            columns = columns.asking_ahead(panel.len());
        }
        // SAFETY: `run` checked that the processor has `isa` and that panel and columns have the same length.
        return unsafe { avx2::panel_dot(isa != Isa::Avx2, layout, panel, w.cols(), &columns) };
    }
    let _ = (isa, ahead);
    let mut out = [[0.0; LANES]; N];
    if layout.ty.is_float() {
        scalar::panel_dot_float(layout.ty, panel, x, first, &mut out);
    } else {
        scalar::panel_dot(layout, panel, x, first, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::{MatrixBuilder, WeightMemory, WeightType};

    const TYPES: [WeightType; 16] = [
        WeightType::F32,
        WeightType::F16,
        WeightType::BF16,
        WeightType::Q4_0,
        WeightType::Q4_1,
        WeightType::Q5_0,
        WeightType::Q5_1,
        WeightType::Q8_0,
        WeightType::Q2K,
        WeightType::Q3K,
        WeightType::Q4K,
        WeightType::Q5K,
        WeightType::Q6K,
        WeightType::IQ4NL,
        WeightType::IQ4XS,
        WeightType::MXFP4,
    ];

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            // SplitMix64.
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }

        fn byte(&mut self) -> u8 {
            self.next().to_le_bytes()[0]
        }

        fn float(&mut self) -> f32 {
            f32::from(i16::from_le_bytes([self.byte(), self.byte()])) / 8192.0
        }
    }

    /// Random GGUF bytes whose scales are ordinary numbers. `extreme`: all codes and scales at their ends.
    fn gguf_rows(ty: WeightType, rows: usize, cols: usize, random: &mut Random, extreme: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..rows * cols / ty.block_len() {
            let mut code = || match random.byte() {
                byte if !extreme => byte,
                0..32 => 0,
                32..64 => 0x80,
                _ => 0xFF,
            };
            let mut block: Vec<u8> = (0..ty.block_bytes()).map(|_| code()).collect();
            let mut half = || f16::from_f32(random.float()).to_le_bytes();
            let (scale, min) = (half(), half());
            match ty {
                WeightType::F32 => block.copy_from_slice(&random.float().to_le_bytes()),
                WeightType::F16 => block.copy_from_slice(&scale),
                WeightType::BF16 => block.copy_from_slice(&half::bf16::from_f32(random.float()).to_le_bytes()),
                WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K => {
                    block[..4].copy_from_slice(&[scale, min].concat());
                }
                WeightType::Q2K => block[80..].copy_from_slice(&[scale, min].concat()),
                WeightType::Q3K => block[108..].copy_from_slice(&scale),
                WeightType::Q6K => block[208..].copy_from_slice(&scale),
                // Powers of two near 1, or with the smallest, which are subnormal, and large ones.
                WeightType::MXFP4 if extreme => block[0] = [0, 1, 2, 126, 150][usize::from(random.byte() % 5)],
                WeightType::MXFP4 => block[0] = 120 + random.byte() % 10,
                _ => block[..2].copy_from_slice(&scale),
            }
            bytes.extend(block);
        }
        bytes
    }

    fn matrix(ty: WeightType, rows: usize, cols: usize, bytes: &[u8]) -> Matrix {
        let mut builder = MatrixBuilder::new(&mut WeightMemory::new(0), ty, rows, cols).unwrap();
        // In uneven portions, as a loader may do.
        let (pool, split) = (ThreadPool::new(2).unwrap(), rows / 3 * ty.row_bytes(cols));
        builder.push_rows(&pool, &bytes[..split]).unwrap();
        builder.push_rows(&pool, &bytes[split..]).unwrap();
        builder.finish().unwrap()
    }

    fn product(isa: Isa, pool: &ThreadPool, w: &Matrix, x: &[f32], columns: usize) -> Vec<u32> {
        let mut activations = Activations::new();
        activations.quantize_with(isa, pool, x, columns, w.cols());
        let mut out = vec![0.0; columns * w.rows()];
        matmul_with(isa, pool, &mut [(w, &mut out)], &activations);
        out.into_iter().map(f32::to_bits).collect()
    }

    /// All instruction sets, thread counts and ways to split the columns give the scalar reference's bits.
    fn check(ty: WeightType, rows: usize, blocks: usize, columns: usize, seed: u64) {
        let mut random = Random(seed);
        let cols = if ty.is_float() { blocks * 32 - 5 } else { blocks * ty.block_len() };
        let extreme = seed.is_multiple_of(4);
        let w = matrix(ty, rows, cols, &gguf_rows(ty, rows, cols, &mut random, extreme));
        let x: Vec<f32> = (0..columns * cols)
            .map(|_| match random.float() {
                x if !extreme => x,
                x => 127.0f32.copysign(x),
            })
            .collect();
        let pools = [ThreadPool::new(1).unwrap(), ThreadPool::new(2).unwrap()];
        let expected = product(Isa::Scalar, &pools[0], &w, &x, columns);
        for &isa in Isa::available() {
            for pool in &pools {
                assert_eq!(product(isa, pool, &w, &x, columns), expected, "{ty:?} {isa:?} {} threads", pool.threads());
            }
            for c in 0..columns {
                let alone = product(isa, &pools[0], &w, &x[c * cols..(c + 1) * cols], 1);
                assert_eq!(alone, expected[c * rows..(c + 1) * rows], "{ty:?} {isa:?} column {c} alone");
            }
        }
    }

    #[test]
    fn every_type_and_instruction_set_gives_the_same_bits() {
        for ty in TYPES {
            for (seed, (rows, blocks, columns)) in
                [(8, 1, 1), (8, 2, 5), (13, 3, 7), (80, 2, 4), (65, 1, 9), (16, 2, 14), (9, 1, 27), (3, 2, 66)]
                    .into_iter()
                    .enumerate()
            {
                check(ty, rows, blocks, columns, seed as u64);
            }
        }
    }

    /// Against exact arithmetic on the dequantized rows: the only loss is the rounding of the activations, at most half
    /// a step of `max / 127` in each of the row's weights.
    #[test]
    fn products_are_those_of_the_dequantized_weights() {
        for ty in TYPES {
            let mut random = Random(99);
            let (rows, cols, columns) = (19, 512, 3);
            let w = matrix(ty, rows, cols, &gguf_rows(ty, rows, cols, &mut random, false));
            let x: Vec<f32> = (0..columns * cols).map(|_| random.float()).collect();
            let out = product(Isa::best(), &ThreadPool::new(2).unwrap(), &w, &x, columns);
            let mut row = vec![0.0; cols];
            for r in 0..rows {
                w.row_into(r, &mut row);
                for c in 0..columns {
                    let x = &x[c * cols..(c + 1) * cols];
                    let exact: f64 = row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                    let weight_sum: f64 = row.iter().map(|w| f64::from(w.abs())).sum();
                    let bound = if ty.is_float() { 1e-5 } else { 4.0 / 127.0 / 2.0 + 1e-5 } * weight_sum;
                    let got = f64::from(f32::from_bits(out[c * rows + r]));
                    assert!((got - exact).abs() <= bound, "{ty:?} row {r} column {c}: {got} against {exact}");
                }
            }
        }
    }

    /// Experts with none, one, few and many tokens, which stand in any order and come several times.
    #[test]
    fn grouped_products_are_those_of_each_column_alone() {
        let (rows, cols, tokens) = (19, 256, 9);
        let pools = [ThreadPool::new(1).unwrap(), ThreadPool::new(2).unwrap()];
        for ty in TYPES {
            let mut random = Random(7);
            let experts: Vec<Matrix> =
                (0..5).map(|_| matrix(ty, rows, cols, &gguf_rows(ty, rows, cols, &mut random, false))).collect();
            let x: Vec<f32> = (0..tokens * cols).map(|_| random.float()).collect();
            let counts = [0, 1, 21, 3, 35, 14];
            let of: Vec<u32> = (0..74).map(|i| i * 4 % 9).collect();
            for &isa in Isa::available() {
                for pool in &pools {
                    let (mut all, mut sorted) = (Activations::new(), Activations::new());
                    all.quantize_with(isa, pool, &x, tokens, cols);
                    sorted.gather(pool, &all, &of);
                    let mut outs: Vec<Vec<f32>> = counts.iter().map(|count| vec![0.0; count * rows]).collect();
                    let mut start = 0;
                    let products = experts.iter().zip(&mut outs).map(|(expert, out)| {
                        let columns = start..start + out.len() / rows;
                        start = columns.end;
                        (expert, columns, out.as_mut_slice())
                    });
                    matmul_grouped_with(isa, pool, &mut products.collect::<Vec<_>>(), &sorted);
                    let mut of = of.iter().map(|&token| token as usize * cols);
                    for (expert, out) in experts.iter().zip(&outs) {
                        for out in out.chunks(rows) {
                            let at = of.next().unwrap();
                            let alone = product(Isa::Scalar, pool, expert, &x[at..at + cols], 1);
                            let out: Vec<u32> = out.iter().map(|v| v.to_bits()).collect();
                            assert_eq!(out, alone, "{ty:?} {isa:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_nan_activation_stays_visible() {
        let mut random = Random(5);
        let w = matrix(WeightType::Q4_1, 8, 64, &gguf_rows(WeightType::Q4_1, 8, 64, &mut random, false));
        let mut x = vec![1.0; 128];
        x[70] = f32::NAN;
        for &isa in Isa::available() {
            let out = product(isa, &ThreadPool::new(1).unwrap(), &w, &x, 2);
            assert!(out[..8].iter().all(|v| f32::from_bits(*v).is_finite()));
            assert!(out[8..].iter().all(|v| f32::from_bits(*v).is_nan()));
        }
    }

    #[test]
    fn wrong_shapes_and_row_counts_are_refused() {
        assert!(MatrixBuilder::new(&mut WeightMemory::new(0), WeightType::Q4_1, 4, 33).is_err());
        assert!(MatrixBuilder::new(&mut WeightMemory::new(0), WeightType::Q4K, 4, 128).is_err());
        assert!(MatrixBuilder::new(&mut WeightMemory::new(0), WeightType::F32, 0, 8).is_err());
        assert!(MatrixBuilder::new(&mut WeightMemory::new(0), WeightType::F32, usize::MAX / 4, 1024).is_err());
        let mut builder = MatrixBuilder::new(&mut WeightMemory::new(0), WeightType::Q8_0, 2, 32).unwrap();
        let pool = ThreadPool::new(1).unwrap();
        assert!(builder.push_rows(&pool, &[0; 33]).is_err());
        assert!(builder.push_rows(&pool, &[0; 34 * 3]).is_err());
        builder.push_rows(&pool, &[0; 34]).unwrap();
        assert_eq!(builder.finish().err(), Some(crate::MatrixError::Rows { expected: 2, received: 1 }));
    }

    #[test]
    fn rows_that_hold_no_numbers_are_told() {
        let pool = ThreadPool::new(2).unwrap();
        for ty in TYPES.into_iter().filter(|ty| *ty != WeightType::MXFP4) {
            let (rows, cols) = (21, 2 * ty.block_len());
            let good = gguf_rows(ty, rows, cols, &mut Random(3), false);
            let (half, float) = ([0x00, 0xfc], [0x00, 0x00, 0xc0, 0x7f]);
            let (at, broken): (usize, &[u8]) = match ty {
                WeightType::F32 => (0, &float),
                WeightType::BF16 => (0, &float[2..]),
                WeightType::Q2K => (82, &half),
                WeightType::Q3K => (108, &half),
                WeightType::Q6K => (208, &half),
                _ => (0, &half),
            };
            let mut bytes = good;
            for row in [20, 13] {
                let start = row * ty.row_bytes(cols) + ty.block_bytes() + at;
                bytes[start..start + broken.len()].copy_from_slice(broken);
            }
            let mut builder = MatrixBuilder::new(&mut WeightMemory::new(0), ty, rows, cols).unwrap();
            let error = builder.push_rows(&pool, &bytes).unwrap_err();
            assert_eq!(error, crate::MatrixError::NotFinite { row: 13 }, "{ty:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn random_shapes_give_the_same_bits(
            ty in 0..TYPES.len(), rows in 1usize..40, blocks in 1usize..4, columns in 1usize..36, seed in any::<u64>()
        ) {
            check(TYPES[ty], rows, blocks, columns, seed);
        }
    }
}
