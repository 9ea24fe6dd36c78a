//! The distribution functions that intervals need, from `statrs`, with arguments kept where they are defined.

use statrs::function::{beta, erf};

/// Largest probability that quantiles are taken at, away from the infinity at 1.
const MOST: f64 = 1.0 - 1e-15;

/// The standard normal distribution function.
pub(crate) fn normal_cdf(x: f64) -> f64 {
    0.5 * erf::erfc(-x / std::f64::consts::SQRT_2)
}

/// The standard normal quantile of `probability`, which is clamped away from 0 and 1.
pub(crate) fn normal_quantile(probability: f64) -> f64 {
    -std::f64::consts::SQRT_2 * erf::erfc_inv(2.0 * probability.clamp(1.0 - MOST, MOST))
}

/// The two-sided critical value of Student's t: `P(|t| <= value) = level`, at `degrees` of freedom (at least 1, not
/// necessarily whole). From the quantile of the beta distribution: `d / (d + t^2)` is Beta(d/2, 1/2).
pub(crate) fn student_t(level: f64, degrees: f64) -> f64 {
    let degrees = degrees.max(1.0);
    // The beta quantile loses digits where it is nearly 1; there the normal one, corrected to order 1/d^2
    // (Cornish and Fisher; Abramowitz and Stegun 26.7.5), is exact to some 1e-9.
    if degrees > 1e3 {
        let z = normal_quantile(0.5 + level / 2.0);
        let first = (z.powi(3) + z) / 4.0;
        let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
        return z + first / degrees + second / (degrees * degrees);
    }
    let y = beta::inv_beta_reg(degrees / 2.0, 0.5, (1.0 - level).clamp(1.0 - MOST, MOST));
    (degrees * (1.0 - y) / y).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Abramowitz and Stegun, tables 26.1 and 26.5.
    #[test]
    fn normal_agrees_with_tables() {
        for (p, z) in [(0.5, 0.0), (0.9, 1.281_551_566), (0.975, 1.959_963_985), (0.995, 2.575_829_304)] {
            assert!((normal_quantile(p) - z).abs() < 1e-8, "{p}");
            assert!((normal_cdf(z) - p).abs() < 1e-9, "{p}");
            assert!((normal_cdf(-z) - (1.0 - p)).abs() < 1e-9, "{p}");
        }
        assert!(normal_quantile(1.0).is_finite() && normal_quantile(0.0).is_finite());
    }

    /// NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2 (three decimals).
    #[test]
    fn student_t_agrees_with_tables() {
        let table = [
            (1.0, 0.95, 12.706),
            (2.0, 0.95, 4.303),
            (3.0, 0.99, 5.841),
            (9.0, 0.95, 2.262),
            (9.0, 0.90, 1.833),
            (29.0, 0.95, 2.045),
            (30.0, 0.99, 2.750),
            (100.0, 0.95, 1.984),
            (1e9, 0.95, 1.960),
        ];
        for (degrees, level, value) in table {
            let found = student_t(level, degrees);
            assert!((found - value).abs() < 6e-4, "{degrees} {level}: {found}");
        }
        assert!((student_t(0.95, 999.9) - student_t(0.95, 1000.1)).abs() < 1e-5, "both ways meet");
    }
}
