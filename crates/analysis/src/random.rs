//! Seeded chance: the same seed gives the same draws on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// 2^-53: the step between the numbers that [`unit`] gives.
const STEP: f64 = 1.0 / (1_u64 << 53) as f64;

/// The upper 53 bits of `bits` as a number in `0 <= x < 1`, each equally likely.
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * STEP
}

/// A seeded source.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// The source of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform, `0 <= x < 1`.
    pub(crate) fn uniform(&mut self) -> f64 {
        unit(self.0.next_u64())
    }

    /// Uniform, `0 <= x < count`; the bias is below `count / 2^32`.
    pub(crate) fn below(&mut self, count: u32) -> usize {
        let index = (u64::from(self.0.next_u32()) * u64::from(count)) >> 32;
        usize::try_from(index).unwrap_or(0)
    }

    /// Standard normal, by the polar method (Marsaglia and Bray 1964).
    pub(crate) fn normal(&mut self) -> f64 {
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                return x * (-2.0 * square.ln() / square).sqrt();
            }
        }
    }

    /// Log-normal of mean 1, whose logarithm has the standard deviation `sigma`.
    pub(crate) fn log_normal(&mut self, sigma: f64) -> f64 {
        (sigma * self.normal() - sigma * sigma / 2.0).exp()
    }

    /// True with `probability`.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }
}
