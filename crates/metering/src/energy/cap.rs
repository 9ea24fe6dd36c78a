//! From a power cap in watts to the share of time in which the plant may compute.

use super::power::watts;
use super::{Energy, EnergySource, PowerError, PowerRange};

/// The least share, in thousandths: with less, the rest after a step would be minutes.
pub const MIN_PERMILLE: u32 = 50;
/// One in parts per million, in which the controller counts.
const WHOLE_PPM: u32 = 1_000_000;
const PPM_PER_PERMILLE: u32 = WHOLE_PPM / 1000;
/// The controller's integral time: by so much constant power is off, if slopes are as given, after this it is made good by
/// 63 %. Slow, since counters and steps jitter; stable as long as the true slope is below 16 times the given one.
const INTEGRAL_NS: i128 = 8_000_000_000;
/// An interval counts as this long at most.
const LONGEST_NS: u64 = 1_000_000_000;

/// Keeps the plant's mean power below a cap by a duty limit: the share of time, in thousandths, in which it may compute.
///
/// It starts with `(cap - idle) / (full - idle)`, which is all there is to know where power is estimated. Where it is
/// measured, an integral controller corrects that with each interval: the figures given need not be exact, only the counters.
/// It is bounded on both sides, and does not go up while the plant has too little work to be held back: else it would find no
/// limit left when work comes.
#[derive(Clone, Debug)]
pub struct PowerCap {
    cap_mw: u64,
    power: PowerRange,
    duty_ppm: u32,
}

impl PowerCap {
    /// A cap of `cap_mw` on a plant of this power. With counters both must be meant for the parts that the counters cover.
    ///
    /// # Errors
    /// At or below idle power, or so little above that less than [`MIN_PERMILLE`] of the time would be left.
    pub fn new(cap_mw: u64, power: PowerRange) -> Result<Self, PowerError> {
        let (cap, idle, span_mw) = (watts(cap_mw), watts(power.idle_mw()), power.span_mw());
        if cap_mw <= power.idle_mw() {
            return Err(PowerError(format!(
                "power_cap_watts: {cap} is not above the idle power of {idle} W: nothing could run; raise it, or lower \
                 idle_watts if the plant draws less"
            )));
        }
        let least_mw = power.idle_mw() + (span_mw * u64::from(MIN_PERMILLE)).div_ceil(1000);
        if cap_mw < least_mw {
            let least = watts(least_mw);
            return Err(PowerError(format!(
                "power_cap_watts: {cap} leaves less than {} % of the time to compute; give at least {least}",
                MIN_PERMILLE / 10
            )));
        }
        Ok(Self { cap_mw, power, duty_ppm: expected_ppm(cap_mw, power) })
    }

    /// The cap in milliwatts.
    #[must_use]
    pub fn cap_mw(&self) -> u64 {
        self.cap_mw
    }

    /// In how many thousandths of the time the plant may compute; 1000: always.
    #[must_use]
    pub fn permille(&self) -> u32 {
        self.duty_ppm / PPM_PER_PERMILLE
    }

    /// Takes what the last interval took, and gives the new [`permille`](Self::permille). To be called for each interval.
    pub fn correct(&mut self, energy: &Energy) -> u32 {
        match energy.source {
            EnergySource::Estimated => self.duty_ppm = expected_ppm(self.cap_mw, self.power),
            EnergySource::Counter { .. } | EnergySource::Nvml => self.integrate(energy),
        }
        self.permille()
    }

    fn integrate(&mut self, energy: &Energy) {
        let interval_ns = i128::from(energy.interval_ns.max(1));
        // Microjoules by nanoseconds are kilowatts.
        let error_mw = i128::from(self.cap_mw) - i128::from(energy.total_uj) * 1_000_000 / interval_ns;
        // Steps are coarse, so a fifth less than the limit still counts as held back.
        let busy_ppm = i128::from(energy.busy_ns) * i128::from(WHOLE_PPM) / interval_ns;
        let held_back = busy_ppm * 5 >= i128::from(self.duty_ppm) * 4;
        if error_mw > 0 && !held_back {
            return;
        }
        let span_mw = i128::from(self.power.span_mw().max(1));
        let time_ns = i128::from(energy.interval_ns.min(LONGEST_NS));
        let change_ppm = error_mw * i128::from(WHOLE_PPM) * time_ns / (span_mw * INTEGRAL_NS);
        let duty_ppm = i128::from(self.duty_ppm) + change_ppm;
        let bounded = duty_ppm.clamp(i128::from(MIN_PERMILLE * PPM_PER_PERMILLE), i128::from(WHOLE_PPM));
        self.duty_ppm = u32::try_from(bounded).unwrap_or(WHOLE_PPM);
    }
}

/// The share of time that takes so much power by the figures given, rounded down.
fn expected_ppm(cap_mw: u64, power: PowerRange) -> u32 {
    let above_mw = u128::from(cap_mw.saturating_sub(power.idle_mw()));
    let span_mw = u128::from(power.span_mw());
    let ppm = (above_mw * u128::from(WHOLE_PPM)).checked_div(span_mw).unwrap_or(u128::from(WHOLE_PPM));
    u32::try_from(ppm).unwrap_or(WHOLE_PPM).min(WHOLE_PPM)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn cap(cap_watts: u64) -> Result<PowerCap, PowerError> {
        PowerCap::new(cap_watts * 1000, PowerRange::new(55_000, 255_000).unwrap())
    }

    /// A machine whose true power is not what the settings say.
    struct Machine {
        idle_mw: u64,
        /// Milliwatts added by computing all the time.
        slope_mw: u64,
    }

    impl Machine {
        /// A second with work for `demand` thousandths of it; gives the power in milliwatts.
        fn second(&self, cap: &mut PowerCap, demand: u64) -> u64 {
            let busy_permille = u64::from(cap.permille()).min(demand);
            let total_mw = self.idle_mw + self.slope_mw * busy_permille / 1000;
            let (idle_uj, total_uj) = (self.idle_mw * 1000, total_mw * 1000);
            let energy = Energy {
                total_uj,
                idle_uj,
                active_uj: total_uj - idle_uj,
                interval_ns: SECOND_NS,
                busy_ns: busy_permille * 1_000_000,
                source: EnergySource::Counter { domains: vec!["package-0".to_owned()] },
            };
            cap.correct(&energy);
            total_mw
        }

        fn seconds(&self, count: u32, cap: &mut PowerCap, demand: u64) {
            for _ in 0..count {
                self.second(cap, demand);
            }
        }
    }

    #[test]
    fn caps_that_leave_nothing_are_refused_by_name() {
        let error = cap(40).unwrap_err().to_string();
        assert!(error.starts_with(
            "power_cap_watts: 40 is not above the idle power of 55 W: nothing could run; raise it, or lower idle_watts"
        ));
        assert!(cap(55).is_err());
        let error = cap(60).unwrap_err().to_string();
        assert_eq!(error, "power_cap_watts: 60 leaves less than 5 % of the time to compute; give at least 65");
        assert_eq!(cap(65).unwrap().permille(), MIN_PERMILLE);
    }

    #[test]
    fn by_estimates_the_share_is_that_of_the_power_above_idle() {
        for (watts, permille) in [(105, 250), (155, 500), (254, 995), (255, 1000), (9000, 1000)] {
            let mut cap = cap(watts).unwrap();
            assert_eq!(cap.permille(), permille, "{watts} W");
            let estimated = Energy {
                total_uj: 0,
                idle_uj: 0,
                active_uj: 0,
                interval_ns: SECOND_NS,
                busy_ns: SECOND_NS,
                source: EnergySource::Estimated,
            };
            assert_eq!(cap.correct(&estimated), permille, "estimates correct nothing");
        }
        let flat = PowerRange::new(50_000, 50_000).unwrap();
        assert_eq!(PowerCap::new(50_001, flat).unwrap().permille(), 1000, "computing adds nothing");
    }

    #[test]
    fn measured_power_comes_to_the_cap_whatever_the_figures_say() {
        for (idle_mw, slope_mw) in [(55_000, 200_000), (30_000, 150_000), (70_000, 300_000), (55_000, 1_000_000)] {
            let mut cap = cap(155).unwrap();
            let machine = Machine { idle_mw, slope_mw };
            machine.seconds(120, &mut cap, 1000);
            for _ in 0..60 {
                let mw = machine.second(&mut cap, 1000);
                assert!(mw.abs_diff(155_000) <= 2_000, "{mw} mW of a machine of {idle_mw} + {slope_mw}");
            }
        }
    }

    #[test]
    fn hours_without_work_do_not_wind_it_up() {
        let mut cap = cap(155).unwrap();
        let machine = Machine { idle_mw: 55_000, slope_mw: 200_000 };
        for demand in [0, 20, 300] {
            machine.seconds(7200, &mut cap, demand);
            let mw = machine.second(&mut cap, 1000);
            assert!(mw <= 156_000, "{mw} mW in the first second of load after a demand of {demand}");
        }
    }

    #[test]
    fn it_stays_within_its_bounds_and_comes_back() {
        let mut cap = cap(155).unwrap();
        let hot = Machine { idle_mw: 400_000, slope_mw: 200_000 };
        hot.seconds(3600, &mut cap, 1000);
        assert_eq!(cap.permille(), MIN_PERMILLE, "others use the machine");
        let cold = Machine { idle_mw: 10_000, slope_mw: 50_000 };
        cold.seconds(60, &mut cap, 1000);
        assert_eq!(cap.permille(), 1000);
        for (interval_ns, permille) in [(0, 1000), (1, MIN_PERMILLE), (u64::MAX, MIN_PERMILLE)] {
            let total_uj = u64::MAX;
            let source = EnergySource::Nvml;
            let endless = Energy { total_uj, idle_uj: 0, active_uj: total_uj, interval_ns, busy_ns: 0, source };
            assert_eq!(cap.correct(&endless), permille, "no overflow, no division by zero");
        }
    }
}
