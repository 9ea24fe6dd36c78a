//! Products on every instruction set against the scalar reference and exact arithmetic.

use half::f16;
use proptest::prelude::*;

use super::*;
use crate::{Curve, MatrixBuilder, Source, WeightMemory, WeightType};

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
    for ty in WeightType::ALL {
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
    for ty in WeightType::ALL {
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
    for ty in WeightType::ALL {
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
                sorted.gather(pool, &all, &of, ty.is_float());
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

/// A feed-forward's middle in one pass against its products and what is made of them, whole blocks of rows or not, with
/// columns for one, few and many, floats or not, and matrices of two types.
#[test]
fn gated_products_are_those_of_the_steps_one_by_one() {
    let pools = [ThreadPool::new(1).unwrap(), ThreadPool::new(2).unwrap()];
    let mut random = Random(11);
    let cols = 256;
    for (n, &gate_type) in WeightType::ALL.iter().enumerate() {
        let up_type = WeightType::ALL[(n * 5 + 3) % WeightType::ALL.len()];
        for (rows, curve) in [(96, Curve::Silu), (75, Curve::Gelu)] {
            let mut one = |ty| matrix(ty, rows, cols, &gguf_rows(ty, rows, cols, &mut random, false));
            let experts: Vec<[Matrix; 2]> = (0..4).map(|_| [one(gate_type), one(up_type)]).collect();
            let columns = [0..1, 1..20, 20..26, 26..61];
            let x: Vec<f32> = (0..61 * cols).map(|_| random.float()).collect();
            for (&isa, pool) in Isa::available().iter().zip(pools.iter().cycle()) {
                let mut input = Activations::new();
                input.quantize_with(isa, pool, &x, 61, cols);
                let (mut gate, mut up) = (vec![0.0; 61 * rows], vec![0.0; 61 * rows]);
                for ([of_gate, of_up], columns) in experts.iter().zip(&columns) {
                    let at = columns.start * rows..columns.end * rows;
                    let mut products =
                        [(of_gate, columns.clone(), &mut gate[at.clone()]), (of_up, columns.clone(), &mut up[at])];
                    matmul_grouped_with(Isa::Scalar, pool, &mut products, &input);
                }
                for floats in [false, true] {
                    let (mut expected, mut got) = (Activations::new(), Activations::new());
                    let source = Source::Gated { curve, gate: &gate, up: &up };
                    expected.fill_with(Isa::Scalar, pool, source, (61, rows), floats);
                    let products =
                        experts.iter().zip(&columns).map(|([gate, up], columns)| (gate, up, columns.clone()));
                    // What an earlier call left is of no effect.
                    got.quantize(pool, &x[..3 * cols], 3, cols);
                    matmul_gated_with(isa, pool, &products.collect::<Vec<_>>(), &input, curve, (&mut got, floats));
                    assert_eq!((got.columns(), got.cols()), (61, rows));
                    for column in 0..61 {
                        let what = format!("{gate_type:?} {up_type:?} {isa:?} column {column} of {rows}");
                        if rows % 32 == 0 {
                            assert_eq!(got.codes(column), expected.codes(column), "{what}");
                            assert_eq!(got.blocks(column), expected.blocks(column), "{what}");
                        }
                        if floats {
                            let bits =
                                |x: &Activations| x.values(column).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                            assert_eq!(bits(&got), bits(&expected), "{what}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn gated_products_of_shapes_that_do_not_fit_are_refused() {
    let pool = ThreadPool::new(1).unwrap();
    let mut random = Random(12);
    let ty = WeightType::Q8_0;
    let mut one = |rows| matrix(ty, rows, 32, &gguf_rows(ty, rows, 32, &mut random, false));
    let (tall, small) = (one(64), one(32));
    let mut x = Activations::new();
    x.quantize(&pool, &[1.0; 32 * 4], 4, 32);
    for products in
        [vec![(&tall, &small, 0..4)], vec![(&tall, &tall, 0..3)], vec![(&tall, &tall, 0..3), (&tall, &tall, 2..4)]]
    {
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            matmul_gated(&pool, &products, &x, Curve::Silu, (&mut Activations::new(), false));
        }));
        assert!(refused.is_err(), "{products:?}");
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
    for ty in WeightType::ALL.into_iter().filter(|ty| *ty != WeightType::MXFP4) {
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
        ty in 0..WeightType::ALL.len(), rows in 1usize..40, blocks in 1usize..4, columns in 1usize..36, seed in any::<u64>()
    ) {
        check(WeightType::ALL[ty], rows, blocks, columns, seed);
    }
}
