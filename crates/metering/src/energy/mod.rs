//! Where joules come from.
//!
//! A [`Sampler`] is asked once a second and says what the interval since then took: [`Energy`], in whole microjoules, split
//! into what the plant draws when it does nothing and what is above that, and labelled with its [`EnergySource`]. Counters
//! are read where there are any that can be read: the processors' (Linux powercap, that is RAPL) or, with the feature
//! `nvml`, those of NVIDIA devices. Else the interval is estimated from the plant's utilisation between its idle and its
//! full power. A counter that cannot be read never counts as zero: its interval is estimated and says so, and the sampler
//! says why.
//!
//! **Boundary.** Counters tell what processor packages and memory (or the devices) draw, estimates what the power figures
//! cover. Where counters are read, the idle power given must be that of the same parts: the split rests on it.
//!
//! Feature `nvml`, untried: it was never run on a machine with such a device. It loads the driver's library when asked to.

mod cap;
#[cfg(feature = "nvml")]
mod nvml;
mod power;
mod powercap;
mod sampler;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use cap::{MIN_PERMILLE, PowerCap};
pub use power::{PowerError, PowerRange};
pub use powercap::POWERCAP_ROOT;
pub use sampler::Sampler;

/// Where a figure in joules comes from; stands wherever one is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnergySource {
    /// Counters of the processors, by way of powercap.
    Counter {
        /// Whose counters are added up, e.g. `package-0`, `package-0/dram`.
        domains: Vec<String>,
    },
    /// Counters of NVIDIA devices, by way of NVML.
    Nvml,
    /// Utilisation between idle and full power.
    Estimated,
}

impl EnergySource {
    /// The label value.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Counter { .. } => "counter",
            Self::Nvml => "nvml",
            Self::Estimated => "estimated",
        }
    }
}

/// For people: `counter (package-0, package-0/dram)`.
impl fmt::Display for EnergySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter { domains } => write!(f, "{} ({})", self.as_str(), domains.join(", ")),
            Self::Nvml | Self::Estimated => f.write_str(self.as_str()),
        }
    }
}

/// What an interval took. `total_uj` is always `idle_uj + active_uj`, and all of it has the one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Energy {
    /// All of it, in microjoules.
    pub total_uj: u64,
    /// What the plant draws when it does nothing: idle power times the interval, as far as the total goes.
    pub idle_uj: u64,
    /// What is above that.
    pub active_uj: u64,
    /// Length of the interval.
    pub interval_ns: u64,
    /// For how much of it the plant computed.
    pub busy_ns: u64,
    /// Where the figures come from.
    pub source: EnergySource,
}

/// Counters of energy, read one interval after the other.
trait Counter: Send {
    fn source(&self) -> EnergySource;

    /// Microjoules since the last call, which was `interval_ns` ago.
    ///
    /// # Errors
    /// Why they cannot be told for this interval: one of a bounded number of texts. The next one is not affected unless the
    /// cause lasts.
    fn advance(&mut self, interval_ns: u64) -> Result<u64, String>;
}
