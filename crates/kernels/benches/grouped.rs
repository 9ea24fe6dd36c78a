//! Speed of a mixture's experts: grouped products against one call for each token and expert.
//!
//! 64 experts of 768 x 2048 in Q4_K and Q4_0, 8 of them for each token, chosen at random: the gate's products of one
//! layer of Qwen3-30B-A3B's shape with half its experts. Prints tokens/s of both ways and their ratio; the median of
//! 5 passes. Caveat: activations are quantized and gathered outside the clock, and what follows the products is left out.
//! `cargo bench -p kernels --bench grouped [-- THREADS]`
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::Instant;

use kernels::{
    Activations, GroupedProduct, Matrix, MatrixBuilder, ThreadPool, WeightMemory, WeightType, matmul, matmul_grouped,
};

const EXPERTS: usize = 64;
const USED: usize = 8;
const ROWS: usize = 768;
const COLS: usize = 2048;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn expert(&mut self) -> usize {
        usize::try_from(self.next() % EXPERTS as u64).unwrap_or(0)
    }
}

fn experts(pool: &ThreadPool, ty: WeightType, random: &mut Random) -> Result<Vec<Matrix>, Box<dyn std::error::Error>> {
    let mut memory = WeightMemory::new(0);
    let mut one = || {
        // 0x2C: the exponent of small halves, whatever a byte is used for.
        let bytes: Vec<u8> =
            (0..ROWS * ty.row_bytes(COLS) / 2).flat_map(|_| [random.next().to_le_bytes()[0], 0x2C]).collect();
        let mut builder = MatrixBuilder::new(&mut memory, ty, ROWS, COLS)?;
        builder.push_rows(pool, &bytes)?;
        Ok(builder.finish()?)
    };
    (0..EXPERTS).map(|_| one()).collect()
}

/// Tokens by expert: each token has `USED` different ones.
fn route(tokens: usize, random: &mut Random) -> Vec<Vec<u32>> {
    let mut by_expert = vec![Vec::new(); EXPERTS];
    for token in 0..u32::try_from(tokens).unwrap_or(0) {
        let mut left = USED;
        while left > 0 {
            let tokens = &mut by_expert[random.expert()];
            if tokens.last() != Some(&token) {
                tokens.push(token);
                left -= 1;
            }
        }
    }
    by_expert
}

fn median_seconds(mut pass: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..5)
        .map(|_| {
            let start = Instant::now();
            pass();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[2]
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(2);
    let pool = ThreadPool::new(threads)?;
    let mut random = Random(1);
    println!("{threads} threads; median of 5; tokens/s grouped, one by one, ratio");
    for ty in [WeightType::Q4_0, WeightType::Q4K] {
        let experts = experts(&pool, ty, &mut random)?;
        for tokens in [1, 2, 4, 8, 16, 64, 512] {
            let x: Vec<f32> = (0..tokens * COLS).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
            let (mut all, mut sorted, mut single) = (Activations::new(), Activations::new(), Activations::new());
            all.quantize(&pool, &x, tokens, COLS);
            let by_expert = route(tokens, &mut random);
            sorted.gather(&pool, &all, &by_expert.concat(), false);
            let mut outs: Vec<Vec<f32>> = by_expert.iter().map(|tokens| vec![0.0; tokens.len() * ROWS]).collect();
            let grouped = median_seconds(|| {
                let mut start = 0;
                let mut products: Vec<GroupedProduct<'_>> = Vec::new();
                for ((expert, tokens), out) in experts.iter().zip(&by_expert).zip(&mut outs) {
                    products.push((expert, start..start + tokens.len(), out));
                    start += tokens.len();
                }
                matmul_grouped(&pool, &mut products, &sorted);
            });
            let alone = median_seconds(|| {
                for ((expert, tokens), out) in experts.iter().zip(&by_expert).zip(&mut outs) {
                    for (token, out) in tokens.iter().zip(out.chunks_mut(ROWS)) {
                        single.gather(&pool, &all, &[*token], false);
                        matmul(&pool, &mut [(expert, out)], &single);
                    }
                }
            });
            let (grouped, alone) = (tokens as f64 / grouped, tokens as f64 / alone);
            println!("{ty:?} {tokens:>4} tokens: {grouped:>7.0} {alone:>7.0}  {:.2}", grouped / alone);
        }
    }
    Ok(())
}
