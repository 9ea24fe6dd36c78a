//! Speed of the panel kernels by type, instruction set and number of columns.
//!
//! Random weights in as many matrices of 1536 x 576 (SmolLM2-135M's widest; 1024 x 1024 for the types in super-blocks)
//! as make 64 MiB, so that one column reads memory, not cache. Prints G multiply-adds/s (counted as two operations)
//! and GB/s of weights; the median of 7 passes. Caveat: activations are quantized outside the clock. The first line says
//! what a parallel region with nothing to do takes: waking the threads and waiting for the last of them.
//! `cargo bench -p kernels --bench matmul [-- [THREADS] [TYPE...]]`, a type for example as Q4_1
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::Instant;

use kernels::{Activations, Isa, Matrix, MatrixBuilder, ThreadPool, WeightMemory, WeightType, matmul_with};

const WEIGHT_BYTES: usize = 64 << 20;
const REGIONS: u32 = 100_000;

fn random_matrix(
    pool: &ThreadPool,
    memory: &mut WeightMemory,
    (ty, rows, cols): (WeightType, usize, usize),
    state: &mut u64,
) -> Option<Matrix> {
    let mut bytes: Vec<u8> = Vec::with_capacity(rows * ty.row_bytes(cols));
    while bytes.len() < rows * ty.row_bytes(cols) {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // 0x2C: the exponent of small halves, whatever a byte is used for.
        bytes.extend_from_slice(&[(*state >> 33).to_le_bytes()[0], 0x2C]);
    }
    let mut builder = MatrixBuilder::new(memory, ty, rows, cols).ok()?;
    builder.push_rows(pool, &bytes).ok()?;
    builder.finish().ok()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(2);
    let pool = ThreadPool::new(threads)?;
    let start = Instant::now();
    (0..REGIONS).for_each(|_| pool.run(&|_| {}));
    let region = start.elapsed().as_secs_f64() * 1e6 / f64::from(REGIONS);
    println!("{threads} threads; median of 7; Gop/s (GB/s of weights); an empty parallel region takes {region:.2} us");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| a.starts_with(['Q', 'F', 'I', 'M'])).collect();
    for ty in WeightType::ALL.into_iter().filter(|ty| wanted.is_empty() || wanted.contains(&format!("{ty:?}"))) {
        let (rows, cols) = if ty.block_len() == 256 { (1024, 1024) } else { (1536, 576) };
        let count = WEIGHT_BYTES / (rows * ty.row_bytes(cols));
        let (mut memory, mut state) = (WeightMemory::new(0), 1);
        let matrices: Vec<Matrix> =
            (0..count).filter_map(|_| random_matrix(&pool, &mut memory, (ty, rows, cols), &mut state)).collect();
        for &isa in Isa::available().iter().filter(|&&isa| isa != Isa::Scalar) {
            let mut line = format!("{ty:?} {:<22}", isa.name());
            for columns in [1, 2, 4, 8, 16, 24, 32, 64] {
                let x: Vec<f32> = (0..columns * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
                let mut activations = Activations::new();
                activations.quantize(&pool, &x, columns, cols);
                let mut out = vec![0.0; rows * columns];
                let used = if columns > 8 { &matrices[..count / 4] } else { &matrices[..] };
                let mut seconds: Vec<f64> = (0..7)
                    .map(|_| {
                        let start = Instant::now();
                        for matrix in used {
                            matmul_with(isa, &pool, &mut [(matrix, &mut out)], &activations);
                        }
                        start.elapsed().as_secs_f64() / used.len() as f64
                    })
                    .collect();
                seconds.sort_by(f64::total_cmp);
                let ops = 2.0 * (rows * cols * columns) as f64 / seconds[3] / 1e9;
                let bandwidth = matrices[0].byte_len() as f64 / seconds[3] / 1e9;
                line += &format!("  {columns:>2}: {ops:>4.0} ({bandwidth:>4.1})");
            }
            println!("{line}");
        }
    }
    Ok(())
}
