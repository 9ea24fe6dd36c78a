//! Experiments: arms (model, prompt version, settings) compared by a metric that is a mean or a ratio of sums per unit (user or
//! episode), safely at any time.
//!
//! - [`assign`]: which arm a unit gets, for good, and with which propensity.
//! - [`compare`]: difference and relative lift against the control with a confidence sequence: one may look after every
//!   unit and stop whenever one likes, and the risk of a false alarm stays below alpha.
//! - [`sample_ratio`]: whether units came to arms as the weights say, under the same continuous looks.
//! - [`allocate`]: Thompson's weights for the next units, with a floor for each arm.
//! - [`incremental`]: what the treated were worth beyond units held out at random, per token.
//!
//! Units must be independent and each counted once, with all its value and tokens so far mature; requests of one user
//! are one unit. Units that see several arms over time, or arms that change each other's outcomes, are outside of this.

mod assignment;
mod incremental;
mod sample_ratio;
mod sequence;
mod thompson;

use serde::Serialize;

use crate::invalid::{self, Invalid};
use crate::ratio::Moments;

pub use assignment::{Assignment, MAX_ID_BYTES, assign};
pub use incremental::{Incremental, MINIMUM_HELD_OUT, incremental};
pub use sample_ratio::{SampleRatio, Stretch, sample_ratio};
pub use sequence::{Change, Comparison, Looking, compare};
pub use thompson::{Allocation, Goal, allocate};

/// Most arms of an experiment.
pub const MAX_ARMS: usize = 32;
/// Units that each arm needs before anything is said of it: the confidence sequence is asymptotic, and means of fewer skewed
/// values are not yet near enough to normal. [`crate::simulation`] looks from here on.
pub const MINIMUM_UNITS: u64 = 100;

/// One arm and what its units have shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arm {
    /// Its name.
    pub name: String,
    /// A ratio metric: (value, tokens) per unit. A mean: (outcome, 1) per unit. Where weights change over time, each unit
    /// by [`Moments::push_weighted`].
    pub moments: Moments,
}

/// Refuses fewer than 2 or more than [`MAX_ARMS`] arms.
fn check_arms(field: &str, arms: usize) -> Result<(), Invalid> {
    if (2..=MAX_ARMS).contains(&arms) {
        return Ok(());
    }
    Err(Invalid::new(field, format!("{arms} arms"), format!("give 2 to {MAX_ARMS}")))
}

/// `weights` as shares of their sum.
fn shares(field: &str, weights: &[f64]) -> Result<Vec<f64>, Invalid> {
    check_arms(field, weights.len())?;
    // The name of a field is made only when it is needed: this runs for every unit.
    if let Some(arm) = weights.iter().position(|weight| invalid::not_negative("", *weight).is_err()) {
        invalid::not_negative(&format!("{field}[{arm}]"), weights[arm])?;
    }
    let sum = weights.iter().sum();
    if invalid::positive(field, sum).is_err() {
        return Err(Invalid::new(field, "no arm has any", "give at least one arm a weight above 0"));
    }
    Ok(weights.iter().map(|weight| weight / sum).collect())
}

#[cfg(test)]
mod tests;
