//! Comparison of arms that is valid at any time: the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and
//! Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences" (arXiv:2103.06476, theorem 2.2), which
//! is Robbins' normal mixture with the variance estimated.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Arm, MINIMUM_UNITS, check_arms};
use crate::invalid::{self, Invalid};
use crate::ratio::Interval;

/// Effective units ([`crate::ratio::Estimate::effective_clusters`]) that a metric needs before a lift is given: with fewer its
/// standard error is a third of it and more, and its logarithm is far from normal.
const LIFT_EFFECTIVE_UNITS: f64 = 10.0;

/// How the data are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Looking {
    /// Highest probability that an experiment without any difference ever raises an alarm, e.g. 0.05.
    pub alpha: f64,
    /// Units of both arms at which the interval shall be narrowest; it is valid at any other number too.
    pub planned_units: u64,
    /// Units that each arm needs before an interval is given; at least [`MINIMUM_UNITS`].
    pub minimum_units: u64,
}

impl Looking {
    /// Looks from [`MINIMUM_UNITS`] on.
    #[must_use]
    pub fn new(alpha: f64, planned_units: u64) -> Self {
        Self { alpha, planned_units, minimum_units: MINIMUM_UNITS }
    }

    /// Refuses what cannot be.
    fn check(self) -> Result<(), Invalid> {
        invalid::inside_unit("alpha", self.alpha)?;
        if self.minimum_units < MINIMUM_UNITS {
            let problem = format!("{} is too few", self.minimum_units);
            return Err(Invalid::new("minimum_units", problem, format!("give at least {MINIMUM_UNITS}")));
        }
        if self.planned_units < 2 * self.minimum_units {
            let problem = format!("{} is fewer than two arms need", self.planned_units);
            return Err(Invalid::new("planned_units", problem, format!("give at least {}", 2 * self.minimum_units)));
        }
        Ok(())
    }

    /// Standard errors to both sides after `units`, with `alpha` shared by `comparisons` (Bonferroni):
    /// `sqrt(2 (t r^2 + 1) / (t r^2) ln(sqrt(t r^2 + 1) / alpha))`, with r^2 such that it is narrowest at the planned units.
    fn factor(self, units: u64, comparisons: usize) -> f64 {
        let alpha = self.alpha / comparisons as f64;
        let twice = -2.0 * alpha.ln();
        let mixed = (twice + twice.ln_1p()) / self.planned_units as f64 * units as f64;
        (2.0 * (mixed + 1.0) / mixed * ((mixed + 1.0).sqrt() / alpha).ln()).sqrt()
    }
}

/// How far an arm is from the control.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ArmChange)]
pub struct Change {
    /// Best guess.
    pub estimate: f64,
    /// Where the truth lies, at all times together, with probability 1 - alpha.
    pub interval: Interval,
}

/// One arm against the control.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ArmComparison)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// Its metric; none without a denominator.
    #[schema(required = true)]
    pub metric: Option<f64>,
    /// The control's.
    #[schema(required = true)]
    pub control_metric: Option<f64>,
    /// Arm - control, in the metric's unit; if there is none, `reason` says why.
    #[schema(required = true)]
    pub difference: Option<Change>,
    /// Arm / control - 1; only where both metrics are positive and rest on enough units.
    #[schema(required = true)]
    pub lift: Option<Change>,
    /// Whether the interval of the difference leaves out 0: the arms differ.
    pub decided: bool,
    /// Why there is no difference yet.
    #[schema(required = true)]
    pub reason: Option<String>,
}

/// Every other arm against the first, the control. With several, alpha is shared among them (Bonferroni). An alarm is that
/// `decided` was true at any look: it is not taken back where a later interval holds 0 again.
///
/// # Errors
/// Names what cannot be in `looking`, or too few or many arms.
pub fn compare(arms: &[Arm], looking: Looking) -> Result<Vec<Comparison>, Invalid> {
    looking.check()?;
    check_arms("arms", arms.len())?;
    let Some((control, others)) = arms.split_first() else { return Ok(Vec::new()) };
    Ok(others.iter().map(|arm| one(control, arm, looking, others.len())).collect())
}

/// `arm` against `control`.
fn one(control: &Arm, arm: &Arm, looking: Looking, comparisons: usize) -> Comparison {
    let mut found = Comparison {
        arm: arm.name.clone(),
        metric: arm.moments.ratio(),
        control_metric: control.moments.ratio(),
        difference: None,
        lift: None,
        decided: false,
        reason: None,
    };
    let needed = looking.minimum_units;
    if let Some(small) = [control, arm].into_iter().find(|arm| arm.moments.clusters() < needed) {
        let units = small.moments.clusters();
        found.reason = Some(format!("arm {} has {units} of the {needed} units it needs", small.name));
        return found;
    }
    let errors = (control.moments.standard_error(), arm.moments.standard_error());
    let ((Some(base), Some(metric)), (Some(base_error), Some(error))) = ((found.control_metric, found.metric), errors)
    else {
        found.reason = Some("an arm has no tokens or units to divide by".to_owned());
        return found;
    };
    if base_error <= 0.0 || error <= 0.0 {
        found.reason = Some("all units of an arm have the same metric, which shows no spread".to_owned());
        return found;
    }
    let factor = looking.factor(control.moments.clusters() + arm.moments.clusters(), comparisons);
    let level = 1.0 - looking.alpha;
    let interval = Interval::around(metric - base, factor * error.hypot(base_error), level);
    found.difference = Some(Change { estimate: metric - base, interval });
    found.decided = !interval.contains(0.0);
    let steady = |arm: &Arm| arm.moments.effective_clusters().is_some_and(|units| units >= LIFT_EFFECTIVE_UNITS);
    if base > 0.0 && metric > 0.0 && steady(control) && steady(arm) {
        // The logarithm of the lift is the difference of logarithms (delta method).
        let log = (metric / base).ln();
        let half = factor * (error / metric).hypot(base_error / base);
        let (low, high) = ((log - half).exp_m1(), (log + half).exp_m1());
        found.lift = Some(Change { estimate: metric / base - 1.0, interval: Interval { low, high, level } });
    }
    found
}
