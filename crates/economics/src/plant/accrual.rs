//! What each closed interval cost, exactly over any run of intervals.

use serde::{Deserialize, Serialize};

use super::rates::{ATTO_PER_NANO, magnitude};
use super::{BySource, Rates, Source};
use crate::Nano;

const NS_PER_S: u64 = 1_000_000_000;
const UJ_PER_KWH: u64 = 3_600_000_000_000;
const THOUSANDTHS: u64 = 1_000;

/// A closed interval of time in which rates were constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Its length in nanoseconds.
    pub length_ns: u64,
    /// Microjoules that the equipment would have drawn when idle, losses of the site (PUE) not included.
    pub idle_uj: u64,
    /// Microjoules above those.
    pub active_uj: u64,
}

/// Energy at the site's meter (equipment × PUE), and what it put into the air.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Microjoules.
    pub energy_uj: u64,
    /// Micrograms of CO2 equivalent.
    pub co2_ug: u64,
}

/// What an interval cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Standing cost; that of [`Source::Power`] is idle power.
    standing: BySource<Nano>,
    /// Cost of energy above idle power.
    pub active_power: Nano,
    /// Energy that the plant draws when idle.
    pub idle: Footprint,
    /// Energy above it.
    pub active: Footprint,
}

impl Amounts {
    /// Cost of one source, idle and active power together.
    #[must_use]
    pub fn of(&self, source: Source) -> Nano {
        let active = if source == Source::Power { self.active_power } else { Nano::ZERO };
        self.standing.get(source).saturating_add(active)
    }

    /// All standing cost, idle power included.
    #[must_use]
    pub fn standing(&self) -> Nano {
        Source::ALL.iter().fold(Nano::ZERO, |sum, source| sum.saturating_add(self.standing.get(*source)))
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> Nano {
        self.standing().saturating_add(self.active_power)
    }
}

/// What is left of exact amounts below a whole nano-unit, microjoule or microgram, in the smallest parts that occur. Their
/// size never changes, so what is left under one sheet or tariff counts on under the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct EnergyCarry {
    cost: u64,
    energy: u64,
    co2: u64,
}

/// Accrues cost interval by interval. Over any run of intervals the sum of each source is the exact amount by [`Rates`],
/// rounded down to a whole nano-unit (microjoule, microgram): what is left below one is carried on. Keep it for as
/// long as sums are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accrual {
    standing: BySource<u64>,
    idle: EnergyCarry,
    active: EnergyCarry,
}

impl Accrual {
    /// What `interval` cost under `rates`. Amounts beyond 64 bits, which a checked sheet does not reach within two years,
    /// become the largest.
    pub fn close(&mut self, rates: &Rates, interval: &Interval) -> Amounts {
        let mut amounts = Amounts::default();
        for source in Source::ALL {
            let exact = rates.atto_per_second(source).saturating_mul(u128::from(interval.length_ns));
            let nano = whole(self.standing.get_mut(source), exact, ATTO_PER_NANO * NS_PER_S);
            *amounts.standing.get_mut(source) = to_nano(nano);
        }
        let (idle_cost, idle) = self.idle.close(rates, interval.idle_uj);
        let (active_power, active) = self.active.close(rates, interval.active_uj);
        *amounts.standing.get_mut(Source::Power) = idle_cost;
        Amounts { active_power, idle, active, ..amounts }
    }
}

impl EnergyCarry {
    /// Cost and footprint of `device_uj` microjoules of the equipment.
    fn close(&mut self, rates: &Rates, device_uj: u64) -> (Nano, Footprint) {
        let facility = u128::from(device_uj) * u128::from(rates.pue.thousandths());
        let cost = whole(&mut self.cost, facility * magnitude(rates.per_kwh), THOUSANDTHS * UJ_PER_KWH);
        let energy = whole(&mut self.energy, facility, THOUSANDTHS);
        // Thousandths of a gram for a kWh are a thousand micrograms each, which undoes the thousandths of the PUE.
        let co2 = whole(&mut self.co2, facility * u128::from(rates.carbon_g_per_kwh.thousandths()), UJ_PER_KWH);
        (to_nano(cost), Footprint { energy_uj: saturating(energy), co2_ug: saturating(co2) })
    }
}

/// The wholes in `exact` and what was carried, in parts of which `unit` make a whole; the rest is carried on.
fn whole(carry: &mut u64, exact: u128, unit: u64) -> u128 {
    let sum = exact.saturating_add(u128::from(*carry));
    *carry = saturating(sum % u128::from(unit));
    sum / u128::from(unit)
}

fn saturating(n: u128) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn to_nano(n: u128) -> Nano {
    Nano::saturating(i128::try_from(n).unwrap_or(i128::MAX))
}

#[cfg(test)]
mod tests;
