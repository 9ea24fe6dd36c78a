//! Requests that ended under stated objectives, and those that met all of them.

use ledger::{Add, StoreError};
use serde::Serialize;

use super::keys::{GOODPUT, Key, collect};
use super::row::ceil;
use super::{DAY_MS, Tallies, column};
use crate::books::detail::{Service, Settlement};

/// Sums over charged requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Goodput {
    /// Requests for which objectives were stated.
    pub stated: i64,
    /// Those of them that were completed and met all.
    pub met: i64,
    /// Output tokens of these.
    pub output_tokens: i64,
}

/// Adds a request to its day, if objectives were stated for it.
pub(super) fn tally(settled: &Settlement, at_ms: i64, add: &mut Add<'_>) {
    let key = Key::new(GOODPUT).number(at_ms.div_euclid(DAY_MS)).0;
    match settled.service {
        Service::Unstated => {}
        Service::Missed => add(&key, 0, &[1]),
        Service::Met => {
            let tokens = i64::try_from(settled.quantities.output()).unwrap_or(i64::MAX);
            add(&key, 0, &[1, 1, tokens]);
        }
    }
}

/// Of the days that begin within `from_ms..to_ms`. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn goodput(ledger: &dyn Tallies, from_ms: i64, to_ms: i64) -> Result<Goodput, StoreError> {
    let key = |ms: i64| Key::new(GOODPUT).number(ceil(ms, DAY_MS)).0;
    let days = collect(ledger, &key(from_ms), &key(to_ms), |tally| Some([0, 1, 2].map(|at| column(tally, at))))?;
    Ok(days.into_iter().fold(Goodput::default(), |sum, [stated, met, output_tokens]| Goodput {
        stated: sum.stated.saturating_add(stated),
        met: sum.met.saturating_add(met),
        output_tokens: sum.output_tokens.saturating_add(output_tokens),
    }))
}
