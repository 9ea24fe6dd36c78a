//! Every weight type against PyPI's gguf, whose reader of blocks shares nothing with ours; `scripts/reference-blocks` made
//! `blocks.txt`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

use kernels::{Activations, Isa, Matrix, MatrixBuilder, ThreadPool, WeightMemory, WeightType, matmul_with};

/// More than a panel's eight, and not whole panels.
const ROWS: usize = 19;

/// A matrix whose rows hold the stored blocks, each row begun one block later; and the values of its rows.
struct Stored {
    matrix: Matrix,
    rows: Vec<Vec<f32>>,
}

fn weight_type(name: &str) -> WeightType {
    match name {
        "F32" => WeightType::F32,
        "F16" => WeightType::F16,
        "BF16" => WeightType::BF16,
        "Q4_0" => WeightType::Q4_0,
        "Q4_1" => WeightType::Q4_1,
        "Q5_0" => WeightType::Q5_0,
        "Q5_1" => WeightType::Q5_1,
        "Q8_0" => WeightType::Q8_0,
        "Q2_K" => WeightType::Q2K,
        "Q3_K" => WeightType::Q3K,
        "Q4_K" => WeightType::Q4K,
        "Q5_K" => WeightType::Q5K,
        "Q6_K" => WeightType::Q6K,
        "IQ4_NL" => WeightType::IQ4NL,
        "IQ4_XS" => WeightType::IQ4XS,
        "MXFP4" => WeightType::MXFP4,
        _ => panic!("no such type: {name}"),
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn rotated<T: Clone>(items: &[T], by: usize) -> Vec<T> {
    let (last, first) = items.split_at(by % items.len());
    [first, last].concat()
}

fn stored(pool: &ThreadPool) -> Vec<Stored> {
    let read = |line: &str| {
        let [name, blocks, values] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("not three parts: {line}") };
        let ty = weight_type(name);
        let (blocks, values) = (bytes(blocks), bytes(values));
        let values: Vec<f32> = values.chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().unwrap())).collect();
        assert_eq!(blocks.len(), ty.row_bytes(values.len()), "{ty:?}: the sizes of blocks differ");
        let mut builder = MatrixBuilder::new(&mut WeightMemory::new(0), ty, ROWS, values.len()).unwrap();
        for row in 0..ROWS {
            builder.push_rows(pool, &rotated(&blocks, row * ty.block_bytes())).unwrap();
        }
        let rows = (0..ROWS).map(|row| rotated(&values, row * ty.block_len())).collect();
        Stored { matrix: builder.finish().unwrap(), rows }
    };
    let stored: Vec<Stored> = include_str!("blocks.txt").lines().map(read).collect();
    assert_eq!(stored.len(), 16);
    stored
}

#[test]
fn blocks_hold_the_values_that_another_reader_finds() {
    for Stored { matrix, rows } in stored(&ThreadPool::new(1).unwrap()) {
        let mut row = vec![f32::NAN; matrix.cols()];
        for (r, expected) in rows.iter().enumerate() {
            matrix.row_into(r, &mut row);
            for (k, (value, expected)) in row.iter().zip(expected).enumerate() {
                assert_eq!(value.to_bits(), expected.to_bits(), "{matrix:?} [{r}][{k}]: {value} against {expected}");
            }
        }
    }
}

/// Against exact arithmetic on those values: activations are rounded to at most half a step of `max / 127` of their 32, and
/// sums to floats. Few columns and many, which take different kernels.
#[test]
fn products_on_every_instruction_set_are_those_of_the_values() {
    let pool = ThreadPool::new(2).unwrap();
    for Stored { matrix, rows } in stored(&pool) {
        let cols = matrix.cols();
        for columns in [1, 3, 37] {
            // Uneven, of both signs, and of another size in each block.
            let x: Vec<f32> =
                (0..columns * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) * (1 + i / 32 % 5) as f32 / 64.0).collect();
            let mut activations = Activations::new();
            activations.quantize(&pool, &x, columns, cols);
            for &isa in Isa::available() {
                let mut out = vec![f32::NAN; columns * ROWS];
                matmul_with(isa, &pool, &mut [(&matrix, &mut out)], &activations);
                for (x, out) in x.chunks(cols).zip(out.chunks(ROWS)) {
                    for (r, (row, &got)) in rows.iter().zip(out).enumerate() {
                        let (exact, bound) = exact_and_bound(matrix.weight_type(), row, x);
                        let difference = (f64::from(got) - exact).abs();
                        assert!(difference <= bound, "{matrix:?} {isa:?} row {r}: {got} against {exact} +/- {bound}");
                    }
                }
            }
        }
    }
}

fn exact_and_bound(ty: WeightType, row: &[f32], x: &[f32]) -> (f64, f64) {
    let (mut exact, mut bound) = (0.0, 0.0);
    for (w, x) in row.chunks(32).zip(x.chunks(32)) {
        let most = f64::from(x.iter().fold(0.0_f32, |most, x| most.max(x.abs())));
        let magnitude: f64 = w.iter().map(|w| f64::from(w.abs())).sum();
        exact += w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>();
        bound += magnitude * most * if ty.is_float() { 1e-6 } else { 0.5 / 127.0 + 1e-6 };
    }
    (exact, bound)
}
