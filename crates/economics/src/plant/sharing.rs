//! Who bears what an interval cost.

use super::accrual::Amounts;
use super::share::largest_remainder;
use crate::Nano;

/// What one holder of work bears of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HolderShare {
    /// Its part of active power.
    pub marginal: Nano,
    /// Its part of standing cost, idle power included.
    pub standing: Nano,
    /// Microjoules at the site's meter: its part of active energy, and of idle energy while the plant was busy.
    pub energy_uj: u64,
    /// Micrograms of CO2 equivalent of that energy.
    pub co2_ug: u64,
}

/// What no holder bears of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleShare {
    /// Standing cost while nobody was busy; when nobody was in all of the interval, active power too.
    pub standing: Nano,
    /// Microjoules at the site's meter.
    pub energy_uj: u64,
    /// Micrograms of CO2 equivalent of that energy.
    pub co2_ug: u64,
}

/// An interval's cost, energy and carbon, divided without rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// One for each holder, in the order given.
    pub holders: Vec<HolderShare>,
    /// The rest.
    pub idle: IdleShare,
}

impl Sharing {
    /// Shares `amounts` of an interval of `length_ns` nanoseconds over holders that were busy for `busy_ns` each.
    ///
    /// Active power goes wholly to them, by busy time. Of standing cost they bear, by busy time, the part of the interval
    /// that was busy: min(sum of busy, length) / length. When nobody was busy all is idle. Holders and idle together are
    /// `amounts`, to the nano-unit, microjoule and microgram.
    #[must_use]
    pub fn of(amounts: &Amounts, length_ns: u64, busy_ns: &[u64]) -> Self {
        let busy: u128 = busy_ns.iter().map(|busy| u128::from(*busy)).sum();
        let idle_ns = u64::try_from(u128::from(length_ns).saturating_sub(busy)).unwrap_or(0);
        // Idle is one more holder: of standing cost for the time when nobody was busy, of what is active only when nobody
        // ever was.
        let standing_weights: Vec<u64> = busy_ns.iter().copied().chain([if busy == 0 { 1 } else { idle_ns }]).collect();
        let active_weights: Vec<u64> = busy_ns.iter().copied().chain([u64::from(busy == 0)]).collect();
        let split = |standing: u64, active: u64| {
            let standing = largest_remainder(standing, &standing_weights);
            standing.into_iter().zip(largest_remainder(active, &active_weights))
        };
        let money = split(non_negative(amounts.standing()), non_negative(amounts.active_power));
        let energy = split(amounts.idle.energy_uj, amounts.active.energy_uj);
        let co2 = split(amounts.idle.co2_ug, amounts.active.co2_ug);
        let shares = money.zip(energy).zip(co2).map(|(((standing, active), energy), co2)| HolderShare {
            marginal: to_nano(active),
            standing: to_nano(standing),
            energy_uj: energy.0.saturating_add(energy.1),
            co2_ug: co2.0.saturating_add(co2.1),
        });
        let mut holders: Vec<HolderShare> = shares.collect();
        let rest = holders.pop().unwrap_or_default();
        let standing = rest.standing.saturating_add(rest.marginal);
        Self { holders, idle: IdleShare { standing, energy_uj: rest.energy_uj, co2_ug: rest.co2_ug } }
    }
}

/// An amount for [`largest_remainder`]; what accrues is never negative.
fn non_negative(amount: Nano) -> u64 {
    u64::try_from(amount.0).unwrap_or(0)
}

fn to_nano(part: u64) -> Nano {
    Nano::saturating(i128::from(part))
}

#[cfg(test)]
mod tests;
