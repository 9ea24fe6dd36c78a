//! What requests cost and what was charged for them, summed up by what is asked for.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{Ledger, StoreError};

use super::usage::{MAX_REPORT_ROWS, UsageRow, report, usage};
use super::{CostRow, CostSums, DAY_MS, Sums, cost_days, cost_hours};

/// What rows of costs and margins tell apart; what they do not is summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostGroups {
    /// By customer.
    pub organisation: bool,
    /// By the customers' projects.
    pub project: bool,
    /// By key.
    pub key: bool,
    /// By model.
    pub model: bool,
    /// By the requests' tag.
    pub tag: bool,
    /// By hour, UTC.
    pub hour: bool,
    /// By day, UTC.
    pub day: bool,
}

/// What the requests of a group cost, and what was charged for them. What is not told apart is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarginRow {
    /// Start of the hour, the day, or of all of it, in milliseconds.
    pub from_ms: i64,
    /// The organisation.
    pub organisation: String,
    /// The project.
    pub project: String,
    /// The key.
    pub key: String,
    /// The model.
    pub model: String,
    /// The tag.
    pub tag: String,
    /// What it cost.
    pub cost: CostSums,
    /// What was charged.
    pub sold: Sums,
}

/// Time and names by which rows are told apart.
type Place = (i64, [String; 5]);

impl CostGroups {
    /// Whether sums of days, which know no projects and keys, do not tell enough apart.
    fn by_hours(self) -> bool {
        self.hour || self.project || self.key
    }

    fn place(self, start_ms: i64, row_ms: i64, [organisation, project, key, model, tag]: [String; 5]) -> Place {
        let from_ms = match self {
            Self { hour: true, .. } => row_ms,
            Self { day: true, .. } => row_ms - row_ms.rem_euclid(DAY_MS),
            _ => start_ms,
        };
        let kept = |told: bool, text: String| if told { text } else { String::new() };
        let names = [
            kept(self.organisation, organisation),
            kept(self.project, project),
            kept(self.key, key),
            kept(self.model, model),
            kept(self.tag, tag),
        ];
        (from_ms, names)
    }
}

/// Costs of the requests that ended in the days (UTC) that begin within `from_ms..to_ms`, summed up by what `by` tells apart,
/// in the order of time, organisation, project, key, model, tag; `with_sales` also what was charged in these days. `None`:
/// more than [`MAX_REPORT_ROWS`]. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn grouped_costs(
    ledger: &Ledger,
    (from_ms, to_ms): (i64, i64),
    by: CostGroups,
    with_sales: bool,
) -> Result<Option<Vec<MarginRow>>, StoreError> {
    let mut groups = BTreeMap::<Place, (CostSums, Sums)>::new();
    let mut day = from_ms;
    while day < to_ms && groups.len() <= MAX_REPORT_ROWS {
        let next = day.saturating_add(DAY_MS).min(to_ms);
        let costs = if by.by_hours() { cost_hours(ledger, day, next)? } else { cost_days(ledger, day, next)? };
        for CostRow { from_ms: row_ms, organisation, project, key, model, tag, sums } in costs {
            let place = by.place(from_ms, row_ms, [organisation, project, key, model, tag]);
            groups.entry(place).or_default().0.add(&sums);
        }
        let sales = if with_sales { sales(ledger, (day, next), by.by_hours())? } else { Vec::new() };
        for UsageRow { from_ms: row_ms, organisation, project, key, model, tag, sums } in sales {
            let place = by.place(from_ms, row_ms, [organisation, project, key, model, tag]);
            groups.entry(place).or_default().1.add(&sums);
        }
        day = next;
    }
    let row = |(place, (cost, sold)): (Place, _)| {
        let (from_ms, [organisation, project, key, model, tag]) = place;
        MarginRow { from_ms, organisation, project, key, model, tag, cost, sold }
    };
    Ok((groups.len() <= MAX_REPORT_ROWS).then(|| groups.into_iter().map(row).collect()))
}

/// What was charged in one day, as a whole or hour by hour.
fn sales(ledger: &Ledger, (day, next): (i64, i64), by_hours: bool) -> Result<Vec<UsageRow>, StoreError> {
    let days = report(ledger, day, next)?;
    if !by_hours {
        return Ok(days);
    }
    let customers: BTreeSet<String> = days.into_iter().map(|row| row.organisation).collect();
    let hours = customers.iter().map(|customer| usage(ledger, customer, day, next));
    Ok(hours.collect::<Result<Vec<_>, _>>()?.concat())
}
