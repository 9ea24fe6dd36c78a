//! The symmetric bootstrap-t: how large the studentised error is in samples drawn from the sample.

use super::Cluster;
use crate::random::Random;

/// Samples drawn. (SAMPLES + 1) x level is whole for the usual levels, which makes the quantile exact (Davison and Hinkley,
/// Bootstrap Methods and their Application, 5.2.3).
const SAMPLES: usize = 999;

/// The value that the size of the studentised error does not exceed with probability `level`; none where the samples
/// without any spread reach up to it.
pub(super) fn critical(clusters: &[Cluster], ratio: f64, level: f64, seed: u64) -> Option<f64> {
    let count = u32::try_from(clusters.len()).ok()?;
    let residuals: Vec<(f64, f64)> =
        clusters.iter().map(|c| (c.numerator - ratio * c.denominator, c.denominator)).collect();
    let mut random = Random::new(seed);
    let mut errors: Vec<f64> = (0..SAMPLES).map(|_| studentised(&residuals, count, &mut random)).collect();
    errors.sort_unstable_by(f64::total_cmp);
    // Never 0 or beyond the last: `level` is from 0.5 to 0.995.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most SAMPLES, at least 1")]
    let rank = ((SAMPLES + 1) as f64 * level).ceil() as usize;
    errors.get(rank - 1).copied().filter(|critical| critical.is_finite())
}

/// The size of (ratio of a sample - ratio of the data) / standard error in that sample. With the residuals of the data, the
/// difference of ratios is their sum / sum of denominators, which cancels no digits.
fn studentised(residuals: &[(f64, f64)], count: u32, random: &mut Random) -> f64 {
    let [mut sum, mut denominators, mut squares, mut products, mut denominator_squares] = [0.0; 5];
    for _ in 0..count {
        let (residual, denominator) = residuals[random.below(count)];
        sum += residual;
        denominators += denominator;
        squares += residual * residual;
        products += residual * denominator;
        denominator_squares += denominator * denominator;
    }
    let difference = sum / denominators;
    let spread = squares - 2.0 * difference * products + difference * difference * denominator_squares;
    // What rounding leaves of a sample of one cluster only, or of clusters of one ratio.
    if denominators <= 0.0 || spread <= squares * 1e-12 {
        return if sum == 0.0 { 0.0 } else { f64::INFINITY };
    }
    let clusters = f64::from(count);
    sum.abs() / (spread * clusters / (clusters - 1.0)).sqrt()
}
