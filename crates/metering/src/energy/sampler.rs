//! One interval after the other: measured where it can be, estimated where not.

use std::collections::BTreeSet;
use std::path::Path;

use super::power::Estimator;
use super::powercap::Powercap;
use super::{Counter, Energy, EnergySource, PowerRange};

/// Most computing time that is carried to later intervals; more is a slip of the caller's.
const MAX_LATE_BUSY_NS: u64 = 600_000_000_000;
/// Most reasons written to the log, each once.
const MAX_LOGGED: usize = 64;

/// Says what each interval took. Time is an argument: nothing here reads a clock. Counters are to be asked at least once in
/// 60 s, better once a second: an interval longer than a counter's wrap-around could take is estimated.
pub struct Sampler {
    counter: Option<Box<dyn Counter>>,
    estimator: Estimator,
    last_ns: u64,
    /// Computing time that was reported and is in no interval yet.
    late_busy_ns: u64,
    reason: Option<String>,
    logged: BTreeSet<String>,
}

impl Sampler {
    /// Estimates. The first interval starts at `now_ns`.
    #[must_use]
    pub fn estimated(power: PowerRange, now_ns: u64) -> Self {
        let estimator = Estimator::new(power);
        Self { counter: None, estimator, last_ns: now_ns, late_busy_ns: 0, reason: None, logged: BTreeSet::new() }
    }

    /// Reads the processors' counters below `root` ([`POWERCAP_ROOT`](super::POWERCAP_ROOT) on Linux). Where none can be
    /// read it estimates, and [`estimate_reason`](Self::estimate_reason) says why.
    #[must_use]
    pub fn powercap(root: &Path, power: PowerRange, now_ns: u64) -> Self {
        Self::with_counter(Powercap::open(root), power, now_ns)
    }

    /// Reads the counters of all NVIDIA devices, or estimates. Untried: never run on a machine with such a device.
    #[cfg(feature = "nvml")]
    #[must_use]
    pub fn nvml(power: PowerRange, now_ns: u64) -> Self {
        Self::with_counter(super::nvml::Devices::open(), power, now_ns)
    }

    fn with_counter<C: Counter + 'static>(counter: Result<C, String>, power: PowerRange, now_ns: u64) -> Self {
        let mut sampler = Self::estimated(power, now_ns);
        match counter {
            Ok(counter) => sampler.counter = Some(Box::new(counter)),
            Err(reason) => sampler.note(reason),
        }
        sampler
    }

    /// The source of intervals where all goes well.
    #[must_use]
    pub fn source(&self) -> EnergySource {
        self.counter.as_ref().map_or(EnergySource::Estimated, |counter| counter.source())
    }

    /// Why the last interval was estimated; `None`: it was measured, or estimates were asked for.
    #[must_use]
    pub fn estimate_reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The interval that ends at `now_ns` (monotonic) and began at the last call. `busy_ns` is for how long the plant computed
    /// as reported since then, all engines together.
    ///
    /// Engines report a step when it ends, so more may come at once than the interval is long: the rest counts in the
    /// intervals after it, and none is lost.
    ///
    /// `None` when the clock stood still or went back: there is no interval, and the next one starts at `now_ns`. Counters are
    /// not read then, so what they count in that time is in the next interval.
    pub fn sample(&mut self, now_ns: u64, busy_ns: u64) -> Option<Energy> {
        let interval_ns = now_ns.saturating_sub(self.last_ns);
        self.last_ns = now_ns;
        let all_busy_ns = self.late_busy_ns.saturating_add(busy_ns);
        let busy_ns = all_busy_ns.min(interval_ns);
        self.late_busy_ns = (all_busy_ns - busy_ns).min(MAX_LATE_BUSY_NS);
        if interval_ns == 0 {
            return None;
        }
        let idle_uj = self.estimator.idle_uj(interval_ns);
        let measured = self.counter.as_mut().map(|counter| (counter.advance(interval_ns), counter.source()));
        let (idle_uj, active_uj, source) = match measured {
            Some((Ok(total_uj), source)) => {
                self.reason = None;
                let idle_uj = idle_uj.min(total_uj);
                (idle_uj, total_uj - idle_uj, source)
            }
            other => {
                if let Some((Err(reason), _)) = other {
                    self.note(reason);
                }
                (idle_uj, self.estimator.active_uj(busy_ns), EnergySource::Estimated)
            }
        };
        let total_uj = idle_uj.saturating_add(active_uj);
        Some(Energy { total_uj, idle_uj, active_uj, interval_ns, busy_ns, source })
    }

    fn note(&mut self, reason: String) {
        if self.logged.len() < MAX_LOGGED && self.logged.insert(reason.clone()) {
            tracing::warn!("energy is estimated: {reason}");
        }
        self.reason = Some(reason);
    }
}
