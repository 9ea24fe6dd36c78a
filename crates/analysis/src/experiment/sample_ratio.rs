//! Sample-ratio check, safe under continuous looks: the sequential multinomial test with a Dirichlet mixture (Lindon and Malek,
//! "Anytime-valid inference for multinomial count data", arXiv:2011.03567).

use serde::Serialize;
use statrs::function::gamma::ln_gamma;
use utoipa::ToSchema;

use super::shares;
use crate::invalid::{self, Invalid};

/// Concentration of the Dirichlet mixture around the weights: it looks first for shares that are off by some 1.6 points of
/// 50 (its standard deviation). Any value is valid; it only decides which departures are seen soonest.
const CONCENTRATION: f64 = 1000.0;

/// Units that came while the weights were the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stretch {
    /// The weights, as in [`super::assign`].
    pub weights: Vec<f64>,
    /// Units that each arm got.
    pub units: Vec<u64>,
}

/// Whether units came to arms as the weights say.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SampleRatio {
    /// Units that each arm got.
    pub units: Vec<u64>,
    /// Units that each arm should have got, on average.
    pub expected: Vec<f64>,
    /// Sequential p-value: at most `p` with probability `p`, at whatever time one looks. The smallest one seen counts.
    pub p_value: f64,
    /// Whether it is at most alpha: something loses or moves units, and the comparison of arms cannot be believed.
    pub mismatch: bool,
}

/// Checks all stretches of an experiment together (their Bayes factors multiply).
///
/// # Errors
/// Names alpha, weights or counts that cannot be.
pub fn sample_ratio(stretches: &[Stretch], alpha: f64) -> Result<SampleRatio, Invalid> {
    invalid::inside_unit("alpha", alpha)?;
    let arms = stretches.first().map_or(0, |stretch| stretch.weights.len());
    super::check_arms("stretches", arms)?;
    let mut found = SampleRatio { units: vec![0; arms], expected: vec![0.0; arms], p_value: 1.0, mismatch: false };
    let mut log_factor = 0.0;
    for (place, stretch) in stretches.iter().enumerate() {
        let inside = |error: Invalid| Invalid { field: format!("stretches[{place}].{}", error.field), ..error };
        let shares = shares("weights", &stretch.weights).map_err(inside)?;
        if shares.len() != arms || stretch.units.len() != arms {
            let problem = format!("{} weights and {} counts", shares.len(), stretch.units.len());
            return Err(inside(Invalid::new("units", problem, format!("give {arms} of each, one per arm"))));
        }
        let total = total(&stretch.units);
        for (arm, (share, units)) in shares.iter().zip(&stretch.units).enumerate() {
            found.units[arm] = found.units[arm].saturating_add(*units);
            found.expected[arm] += share * total;
        }
        log_factor += log_bayes_factor(&shares, &stretch.units);
    }
    found.p_value = (-log_factor).exp().min(1.0);
    found.mismatch = found.p_value <= alpha;
    Ok(found)
}

fn total(units: &[u64]) -> f64 {
    units.iter().map(|units| *units as f64).sum()
}

/// Logarithm of (probability of the counts under the mixture / under the shares), in any one order of the units.
fn log_bayes_factor(shares: &[f64], units: &[u64]) -> f64 {
    let total = total(units);
    let arms = shares.iter().zip(units).filter(|(_, units)| **units > 0).map(|(share, units)| {
        // An arm of weight 0 that got units: no chance explains it.
        if *share <= 0.0 {
            return f64::INFINITY;
        }
        let (prior, units) = (CONCENTRATION * share, *units as f64);
        ln_gamma(prior + units) - ln_gamma(prior) - units * share.ln()
    });
    arms.sum::<f64>() - ln_gamma(CONCENTRATION + total) + ln_gamma(CONCENTRATION)
}
