//! Rows of sums by hour or day, which usage and costs share.

use ledger::{StoreError, Tally};
use serde::Serialize;

use super::keys::{Key, Parts, collect};
use super::{DAY_MS, Tallies};

/// Sums of an hour or a day, told apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row<S> {
    /// Start of the hour or day, UTC, in milliseconds.
    pub from_ms: i64,
    /// The organisation.
    pub organisation: String,
    /// The project; empty in days.
    pub project: String,
    /// The key; empty in days.
    pub key: String,
    /// The model.
    pub model: String,
    /// The tag.
    pub tag: String,
    /// The sums.
    pub sums: S,
}

/// The rows of days under `kind` that begin within `from_ms..to_ms`, in order. Only what is on the disk.
pub(super) fn days<S>(
    ledger: &dyn Tallies,
    kind: u8,
    (from_ms, to_ms): (i64, i64),
    read: fn(&Tally) -> S,
) -> Result<Vec<Row<S>>, StoreError> {
    let key = |ms: i64| Key::new(kind).number(ceil(ms, DAY_MS)).0;
    collect(ledger, &key(from_ms), &key(to_ms), |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let from_ms = parts.number()?.saturating_mul(DAY_MS);
        let (organisation, model, tag) = (parts.text()?, parts.text()?, parts.text()?);
        let (project, key) = (String::new(), String::new());
        Some(Row { from_ms, organisation, project, key, model, tag, sums: read(tally) })
    })
}

/// One day after the other from `from_ms` on, each with its end; the last one ends at `to_ms`.
pub(crate) fn days_within(from_ms: i64, to_ms: i64) -> impl Iterator<Item = (i64, i64)> {
    let day = move |from_ms: i64| (from_ms < to_ms).then(|| (from_ms, from_ms.saturating_add(DAY_MS).min(to_ms)));
    std::iter::successors(day(from_ms), move |(_, next)| day(*next))
}

/// The first multiple's number at or after `ms`.
pub(super) fn ceil(ms: i64, step: i64) -> i64 {
    ms.div_euclid(step).saturating_add(i64::from(ms.rem_euclid(step) != 0))
}
