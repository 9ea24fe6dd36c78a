//! Exact figures as numbers of JSON: floats, for showing only.

use economics::Nano;

/// In units of the currency.
pub(crate) fn money(amount: Nano) -> f64 {
    amount.0 as f64 / 1e9
}

/// Nanoseconds in seconds; up to 104 days exact.
pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Thousandths in whole ones.
pub(crate) fn thousandths(milli: i64) -> f64 {
    milli as f64 / 1000.0
}

/// Microjoules in kilowatt-hours.
pub(crate) fn kwh(energy_uj: u64) -> f64 {
    energy_uj as f64 / 3.6e12
}

/// A part of all; `None`: of nothing.
pub(crate) fn share(part: f64, all: f64) -> Option<f64> {
    (all > 0.0).then(|| part / all)
}
