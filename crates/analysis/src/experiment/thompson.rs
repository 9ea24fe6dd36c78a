//! Thompson allocation: each arm gets the next units as often as it is likely to be the best (Thompson, Biometrika 25, 1933).

use serde::Serialize;

use super::{MINIMUM_UNITS, check_arms};
use crate::distribution;
use crate::invalid::Invalid;
use crate::ratio::Moments;

/// Points of equal probability at which an arm's posterior is taken; the error is below 1 / POINTS.
const POINTS: u32 = 1000;

/// What makes an arm the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The highest metric, e.g. value per token.
    Highest,
    /// The lowest, e.g. tokens per accepted unit of work.
    Lowest,
}

/// One arm's share of the next units.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Allocation {
    /// Probability that it is the best; none while an arm has too few units to say.
    pub best: Option<f64>,
    /// Its weight: `floor + (1 - arms x floor) x best`; all alike while nothing can be said. They add up to 1.
    pub weight: f64,
}

/// Weights for the next units. An arm's posterior is taken as normal around its metric with its standard error; all arms get
/// alike until each has [`MINIMUM_UNITS`] and shows some spread. The floor keeps every arm known, and propensities away
/// from 0, without which a comparison weighted by them would have no end of variance.
///
/// # Errors
/// Names a floor that cannot be, or too few or many arms.
pub fn allocate(arms: &[Moments], goal: Goal, floor: f64) -> Result<Vec<Allocation>, Invalid> {
    check_arms("arms", arms.len())?;
    let count = arms.len() as f64;
    if !(floor > 0.0 && floor * count <= 1.0) {
        let fix = format!("give a share above 0 and at most 1 / {count}");
        return Err(Invalid::new("floor", format!("{floor} for each of {count} arms cannot be"), fix));
    }
    let sign = if goal == Goal::Highest { 1.0 } else { -1.0 };
    let posteriors: Option<Vec<(f64, f64)>> = arms
        .iter()
        .map(|arm| {
            let error = arm.standard_error().filter(|error| *error > 0.0 && arm.clusters() >= MINIMUM_UNITS)?;
            Some((sign * arm.ratio()?, error))
        })
        .collect();
    let Some(posteriors) = posteriors else {
        return Ok(vec![Allocation { best: None, weight: 1.0 / count }; arms.len()]);
    };
    let best = best(&posteriors);
    Ok(best.into_iter().map(|p| Allocation { best: Some(p), weight: floor + (1.0 - count * floor) * p }).collect())
}

/// For each (mean, standard deviation), the probability that its draw is the highest: the mean, over its own distribution, of
/// the probability that all others are lower.
fn best(posteriors: &[(f64, f64)]) -> Vec<f64> {
    let quantiles: Vec<f64> =
        (0..POINTS).map(|point| distribution::normal_quantile((f64::from(point) + 0.5) / f64::from(POINTS))).collect();
    let wins = |arm: usize, quantile: f64| {
        let drawn = posteriors[arm].0 + posteriors[arm].1 * quantile;
        let others = posteriors.iter().enumerate().filter(|(other, _)| *other != arm);
        others.map(|(_, (mean, deviation))| distribution::normal_cdf((drawn - mean) / deviation)).product::<f64>()
    };
    let raw: Vec<f64> =
        (0..posteriors.len()).map(|arm| quantiles.iter().map(|quantile| wins(arm, *quantile)).sum()).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|wins| wins / sum).collect()
}
