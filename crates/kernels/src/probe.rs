//! What this machine does at best: the limits that a measured speed is a share of.

use std::hint::black_box;
use std::time::Instant;

use crate::pool::SharedSlice;
use crate::{Isa, ThreadPool};

/// Large enough to be in no cache.
const BANDWIDTH_BYTES: usize = 256 << 20;
/// Rounds of one repetition of [`integer_peak`]: some 10 milliseconds.
const ROUNDS: u64 = 1 << 19;

/// Bytes that all threads together read from memory in a second; the best of the repetitions.
#[must_use]
pub fn memory_bandwidth(pool: &ThreadPool, repetitions: usize) -> f64 {
    let mut words = vec![1_u64; BANDWIDTH_BYTES / 8];
    let share = words.len().div_ceil(pool.threads());
    let words = SharedSlice::new(&mut words);
    best(repetitions, || {
        pool.run(&|thread| {
            let start = (thread * share).min(words.len());
            // SAFETY: each thread index runs once, and the parts of different threads do not overlap.
            let part = unsafe { words.slice_mut(start, share.min(words.len() - start)) };
            black_box(part.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)));
        });
        BANDWIDTH_BYTES as u64
    })
}

/// Integer operations that all threads together do in a second with what the kernels of `isa` multiply codes with,
/// everything in registers; the best of the repetitions. A multiplication and its addition are two operations. An
/// instruction set that the processor lacks is replaced by the best.
#[must_use]
pub fn integer_peak(isa: Isa, pool: &ThreadPool, repetitions: usize) -> f64 {
    let isa = if Isa::available().contains(&isa) { isa } else { Isa::best() };
    best(repetitions, || {
        pool.run(&|_| {
            black_box(operations(isa, ROUNDS));
        });
        pool.threads() as u64 * operations(isa, 0).max(1) * ROUNDS
    })
}

/// The most of what `work` says it did, in a second.
fn best(repetitions: usize, work: impl Fn() -> u64) -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..repetitions.max(1) {
        let start = Instant::now();
        let done = work();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let speed = done as f64 / start.elapsed().as_secs_f64().max(1e-9);
        best = best.max(speed);
    }
    best
}

/// Does `rounds` rounds of the instruction set's dot products; gives the operations of one round. A new instruction
/// set gets its loop here: independent sums, enough of them to hide the latency of its dot product.
fn operations(isa: Isa, rounds: u64) -> u64 {
    match isa {
        Isa::Scalar => scalar(rounds),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `integer_peak` passes on only what the processor has.
        Isa::Avx2 => unsafe { x86::maddubs(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Vnni => unsafe { x86::dpbusd(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { x86::dpbusd_wide(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Amx => unsafe { crate::avx512::amx_peak(rounds) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => scalar(rounds),
    }
}

/// What the compiler makes of the plain loop.
fn scalar(rounds: u64) -> u64 {
    let (mut weights, mut codes) = ([3_u8; 32], [-5_i8; 32]);
    let mut sum = 0_i32;
    for _ in 0..rounds {
        (weights, codes) = black_box((weights, codes));
        let dot: i32 = weights.iter().zip(codes).map(|(w, x)| i32::from(*w) * i32::from(x)).sum();
        sum = sum.wrapping_add(dot);
    }
    black_box(sum);
    2 * 32
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// The same vector, of which the compiler knows no more than that it is in a register; no instruction.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn opaque(mut v: __m256i) -> __m256i {
        // SAFETY: the template is a comment; it reads and writes nothing.
        unsafe { asm!("/* {0} */", inout(ymm_reg) v, options(nomem, nostack, preserves_flags)) };
        v
    }

    /// As the AVX2 kernels do for 4-bit codes and four columns: eight `maddubs` added in i16, then one `madd`.
    #[target_feature(enable = "avx2")]
    pub(super) fn maddubs(rounds: u64) -> u64 {
        const COLUMNS: usize = 4;
        const PRODUCTS: usize = 8;
        let ones = _mm256_set1_epi16(1);
        let (mut weights, mut codes) = (_mm256_set1_epi8(3), _mm256_set1_epi8(-5));
        let mut sums = [_mm256_setzero_si256(); COLUMNS];
        for _ in 0..rounds {
            for sum in &mut sums {
                let mut dot = _mm256_setzero_si256();
                for _ in 0..PRODUCTS {
                    (weights, codes) = (opaque(weights), opaque(codes));
                    dot = _mm256_add_epi16(dot, _mm256_maddubs_epi16(weights, codes));
                }
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(dot, ones));
            }
        }
        black_box(sums);
        (COLUMNS * PRODUCTS * 32 * 2) as u64
    }

    /// Twelve sums of `dpbusd`, of vectors of so many bytes: more than its latency times what starts in a cycle.
    macro_rules! dpbusd {
        ($name:ident, $features:literal, $bytes:literal, $splat:expr, $zero:ident, $product:ident) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name(rounds: u64) -> u64 {
                const SUMS: usize = 12;
                const PRODUCTS: usize = 3;
                let (weights, codes) = ($splat(3), $splat(-5));
                let mut sums = [$zero(); SUMS];
                for _ in 0..rounds {
                    for _ in 0..PRODUCTS {
                        for sum in &mut sums {
                            *sum = $product(*sum, weights, codes);
                        }
                    }
                }
                black_box(sums);
                (SUMS * PRODUCTS * $bytes * 2) as u64
            }
        };
    }

    dpbusd!(
        dpbusd,
        "avx2,avx512vnni,avx512vl",
        32,
        |v: i8| opaque(_mm256_set1_epi8(v)),
        _mm256_setzero_si256,
        _mm256_dpbusd_epi32
    );
    dpbusd!(
        dpbusd_wide,
        "avx2,avx512f,avx512vnni",
        64,
        |v: i8| _mm512_broadcast_i64x4(opaque(_mm256_set1_epi8(v))),
        _mm512_setzero_si512,
        _mm512_dpbusd_epi32
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_a_speed() {
        let pool = ThreadPool::new(2).unwrap();
        for isa in Isa::available() {
            assert!(operations(*isa, 3) >= 64, "{isa:?}");
            let peak = integer_peak(*isa, &pool, 1);
            assert!(peak.is_finite() && peak > 0.0, "{isa:?}: {peak}");
        }
        assert!(memory_bandwidth(&pool, 1) > 0.0);
    }
}
