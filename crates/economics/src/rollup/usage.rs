//! Usage by hour, reports by day.

use std::collections::BTreeMap;

use ledger::StoreError;

use super::keys::{DAYS, Key, Parts, USAGE, collect};
use super::row::{Row, ceil, days, days_within};
use super::{HOUR_MS, Sums, Tallies};

/// One row of usage (by hour) or of a report (by day).
pub type UsageRow = Row<Sums>;

/// Hours of one organisation that begin within `from_ms..to_ms`, in order. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn usage(ledger: &dyn Tallies, organisation: &str, from_ms: i64, to_ms: i64) -> Result<Vec<UsageRow>, StoreError> {
    let key = |ms: i64| Key::new(USAGE).text(organisation).number(ceil(ms, HOUR_MS)).0;
    collect(ledger, &key(from_ms), &key(to_ms), |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let organisation = parts.text()?;
        let from_ms = parts.number()?.saturating_mul(HOUR_MS);
        let (project, key, model, tag) = (parts.text()?, parts.text()?, parts.text()?, parts.text()?);
        Some(UsageRow { from_ms, organisation, project, key, model, tag, sums: Sums::read(tally) })
    })
}

/// Days of all organisations that begin within `from_ms..to_ms`, in order. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn report(ledger: &dyn Tallies, from_ms: i64, to_ms: i64) -> Result<Vec<UsageRow>, StoreError> {
    days(ledger, DAYS, (from_ms, to_ms), Sums::read)
}

/// What a report tells apart; what it does not is summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupBy {
    /// By customer.
    pub organisation: bool,
    /// By model.
    pub model: bool,
    /// By the requests' tag.
    pub tag: bool,
    /// By day, UTC.
    pub day: bool,
}

/// Most rows of a report.
pub const MAX_REPORT_ROWS: usize = 100_000;
/// Widest span of a report.
pub const MAX_REPORT_DAYS: i64 = 3_660;

/// Days of all organisations that begin within `from_ms..to_ms`, summed up by what `by` tells apart, in its order: day,
/// organisation, model, tag. What is not told apart is empty, the time the beginning of the report. `None`: more than
/// [`MAX_REPORT_ROWS`]. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn grouped_report(
    ledger: &dyn Tallies,
    (from_ms, to_ms): (i64, i64),
    by: GroupBy,
) -> Result<Option<Vec<UsageRow>>, StoreError> {
    let mut groups = BTreeMap::<_, Sums>::new();
    for (day, next) in days_within(from_ms, to_ms) {
        for row in report(ledger, day, next)? {
            let kept = |told: bool, text: String| if told { text } else { String::new() };
            let from_ms = if by.day { row.from_ms } else { from_ms };
            let group =
                (from_ms, kept(by.organisation, row.organisation), kept(by.model, row.model), kept(by.tag, row.tag));
            groups.entry(group).or_default().add(&row.sums);
        }
        if groups.len() > MAX_REPORT_ROWS {
            return Ok(None);
        }
    }
    let (project, key) = (String::new(), String::new());
    let rows = groups.into_iter().map(|((from_ms, organisation, model, tag), sums)| UsageRow {
        from_ms,
        organisation,
        project: project.clone(),
        key: key.clone(),
        model,
        tag,
        sums,
    });
    Ok(Some(rows.collect()))
}
