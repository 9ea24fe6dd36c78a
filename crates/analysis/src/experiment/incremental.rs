//! Incremental TFP from a random holdout: what the tokens were worth beyond what would have been reached without them.

use serde::Serialize;

use crate::distribution;
use crate::invalid::{self, Invalid};
use crate::ratio::{self, Estimate, Interval, Method, Moments};

/// Units that each side needs before an interval is given.
pub const MINIMUM_HELD_OUT: u64 = 30;

/// What the treated were worth beyond the held out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incremental {
    /// Mean value per treated unit.
    pub treated_value: f64,
    /// Mean value per unit held out.
    pub held_out_value: f64,
    /// Mean tokens per treated unit.
    pub treated_tokens: f64,
    /// (treated value - held-out value) / treated tokens, with its interval; `clusters` are the units of both sides,
    /// `effective_clusters` those of the treated.
    pub tfp: Estimate,
}

/// Incremental TFP. `treated` holds (value, tokens) per unit; of `held_out` only the value counts. The interval is by the delta
/// method over the units of both independent samples, with Student's t at Welch's degrees of freedom.
///
/// # Errors
/// Names a level that cannot be, a side without units, or treated units without tokens.
pub fn incremental(treated: &Moments, held_out: &Moments, level: f64) -> Result<Incremental, Invalid> {
    ratio::check_level(level)?;
    for (field, side) in [("treated", treated), ("held_out", held_out)] {
        if side.clusters() == 0 {
            return Err(Invalid::new(field, "it has no units", "wait until both sides have outcomes"));
        }
    }
    let (treated_value, held_out_value) = (treated.mean().numerator, held_out.mean().numerator);
    let treated_tokens = invalid::positive("tokens of the treated", treated.mean().denominator)?;
    let estimate = (treated_value - held_out_value) / treated_tokens;
    let mut tfp = treated.without_interval(estimate, None);
    tfp.clusters += held_out.clusters();
    if let (Some(one), Some(other)) = (treated.residual_variance(estimate), held_out.residual_variance(0.0)) {
        let error = (one + other).sqrt() / treated_tokens;
        tfp.standard_error = Some(error);
        if treated.clusters().min(held_out.clusters()) < MINIMUM_HELD_OUT {
            tfp.reason = Some("a side has fewer than 30 units, too few for its mean to be near normal");
        } else if one + other > 0.0 {
            let share = |variance: f64, units: u64| variance * variance / (units as f64 - 1.0);
            let degrees = (one + other).powi(2) / (share(one, treated.clusters()) + share(other, held_out.clusters()));
            let critical = distribution::student_t(level, degrees);
            tfp.interval = Some(Interval::around(estimate, critical * error, level));
            tfp.method = Some(Method::LinearisedT);
        } else {
            tfp.reason = Some("all units have the same value, which shows no spread");
        }
    } else {
        tfp.reason = Some("fewer than 2 units on a side show no spread");
    }
    Ok(Incremental { treated_value, held_out_value, treated_tokens, tfp })
}
