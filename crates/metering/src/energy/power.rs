//! Power between idle and full, and energy from it, in integers.

/// Most power that a setting may give, in milliwatts: ten megawatts. More is a slip of the unit.
const MAX_MW: u64 = 10_000_000_000;
/// Milliwatts times nanoseconds are picojoules.
const PJ_PER_UJ: u128 = 1_000_000;

/// A figure of power that cannot be; the message names the field and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PowerError(pub(super) String);

/// What the plant draws when it does nothing, and when it computes all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerRange {
    idle_mw: u64,
    full_mw: u64,
}

impl PowerRange {
    /// In milliwatts.
    ///
    /// # Errors
    /// Full power of 0, below idle power, or of more than ten megawatts.
    pub fn new(idle_mw: u64, full_mw: u64) -> Result<Self, PowerError> {
        let (idle, full) = (watts(idle_mw), watts(full_mw));
        if full_mw == 0 || full_mw > MAX_MW {
            let most = watts(MAX_MW);
            return Err(PowerError(format!(
                "full_watts: {full} W is no power of a plant; give more than 0, at most {most}"
            )));
        }
        if full_mw < idle_mw {
            let message = format!("full_watts: {full} W is below idle_watts ({idle} W); one of them is wrong");
            return Err(PowerError(message));
        }
        Ok(Self { idle_mw, full_mw })
    }

    /// Idle power in milliwatts.
    #[must_use]
    pub fn idle_mw(self) -> u64 {
        self.idle_mw
    }

    /// Full power in milliwatts.
    #[must_use]
    pub fn full_mw(self) -> u64 {
        self.full_mw
    }

    /// What computing adds, in milliwatts.
    pub(super) fn span_mw(self) -> u64 {
        self.full_mw.saturating_sub(self.idle_mw)
    }
}

/// Milliwatts as watts, to be shown.
pub(super) fn watts(mw: u64) -> f64 {
    mw as f64 / 1000.0
}

/// Power times time. What is less than a microjoule is carried to the next interval, so that sums of any length are right
/// to one microjoule.
#[derive(Clone, Debug)]
pub(super) struct Estimator {
    power: PowerRange,
    idle_pj: u128,
    active_pj: u128,
}

impl Estimator {
    pub(super) fn new(power: PowerRange) -> Self {
        Self { power, idle_pj: 0, active_pj: 0 }
    }

    /// Microjoules at idle power.
    pub(super) fn idle_uj(&mut self, interval_ns: u64) -> u64 {
        whole_uj(&mut self.idle_pj, self.power.idle_mw, interval_ns)
    }

    /// Microjoules above idle power.
    pub(super) fn active_uj(&mut self, busy_ns: u64) -> u64 {
        whole_uj(&mut self.active_pj, self.power.span_mw(), busy_ns)
    }
}

fn whole_uj(carried_pj: &mut u128, mw: u64, ns: u64) -> u64 {
    let pj = *carried_pj + u128::from(mw) * u128::from(ns);
    *carried_pj = pj % PJ_PER_UJ;
    u64::try_from(pj / PJ_PER_UJ).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_cannot_be_are_refused_by_name() {
        let error = |idle, full| PowerRange::new(idle, full).unwrap_err().to_string();
        assert_eq!(error(55_000, 40_500), "full_watts: 40.5 W is below idle_watts (55 W); one of them is wrong");
        assert!(error(0, 0).starts_with("full_watts: 0 W"));
        assert!(error(0, u64::MAX).starts_with("full_watts: "));
        assert!(PowerRange::new(0, 1).is_ok() && PowerRange::new(5, 5).is_ok());
    }

    #[test]
    fn sums_are_exact_to_a_microjoule() {
        let mut estimator = Estimator::new(PowerRange::new(33_333, 77_778).unwrap());
        let (mut idle_uj, mut active_uj, mut interval_ns, mut busy_ns) = (0, 0, 0, 0);
        for i in 0..10_000_u64 {
            // From far below a microjoule to a second.
            let interval = i * i * i % 1_000_000_007 % (i + 2);
            let busy = interval * (i % 11) / 10;
            idle_uj += estimator.idle_uj(interval);
            active_uj += estimator.active_uj(busy);
            interval_ns += interval;
            busy_ns += busy;
            assert_eq!(idle_uj, 33_333 * interval_ns / 1_000_000);
            assert_eq!(active_uj, 44_445 * busy_ns / 1_000_000);
        }
    }

    #[test]
    fn nothing_overflows() {
        let mut estimator = Estimator::new(PowerRange::new(MAX_MW, MAX_MW).unwrap());
        assert_eq!(estimator.idle_uj(u64::MAX), u64::MAX);
        assert_eq!(estimator.active_uj(u64::MAX), 0);
    }
}
