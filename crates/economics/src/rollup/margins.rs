//! What requests cost and what was charged for them, summed up by what is asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ledger::{Ledger, StoreError};

use super::row::days_within;
use super::usage::{MAX_REPORT_ROWS, UsageRow, report, usage};
use super::{CostRow, CostSums, DAY_MS, Sums, cost_days, cost_hours, plant_hours};
use crate::Nano;
use crate::money::divide_half_even;
use crate::plant::largest_remainder;

/// How long after its end a day is closed.
const CLOSING_MS: i64 = 120_000;

/// What rows of costs and margins tell apart; what they do not is summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostGroups {
    /// By customer.
    pub organisation: bool,
    /// By the team that a project belongs to now.
    pub team: bool,
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

/// Which costs are asked for.
#[derive(Clone, Copy, Debug)]
pub struct CostAsk<'a> {
    /// The days (UTC) that begin within, in milliseconds.
    pub span_ms: (i64, i64),
    /// What rows tell apart.
    pub by: CostGroups,
    /// The team of each project that has one; nothing else is told by team.
    pub teams: &'a HashMap<String, String>,
    /// Also what was charged in these days.
    pub with_sales: bool,
    /// Says which days are closed.
    pub now_ms: i64,
}

/// What the requests of a group cost, and what was charged for them. What is not told apart is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarginRow {
    /// Start of the hour, the day, or of all of it, in milliseconds.
    pub from_ms: i64,
    /// The organisation.
    pub organisation: String,
    /// The team.
    pub team: String,
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
    /// Full cost: attributed, and its share of the idle cost of its days; `None` while one of them is open.
    pub full: Option<Nano>,
}

/// Time and names by which rows are told apart.
type Place = (i64, [String; 6]);

impl CostGroups {
    /// Whether sums of days, which know no projects and keys, do not tell enough apart.
    fn by_hours(self) -> bool {
        self.hour || self.team || self.project || self.key
    }
}

impl CostAsk<'_> {
    fn place(&self, row_ms: i64, [organisation, project, key, model, tag]: [String; 5]) -> Place {
        let by = self.by;
        let from_ms = match by {
            CostGroups { hour: true, .. } => row_ms,
            CostGroups { day: true, .. } => row_ms - row_ms.rem_euclid(DAY_MS),
            _ => self.span_ms.0,
        };
        let team = if by.team { self.teams.get(&project).cloned().unwrap_or_default() } else { String::new() };
        let kept = |told: bool, text: String| if told { text } else { String::new() };
        let names = [
            kept(by.organisation, organisation),
            team,
            kept(by.project, project),
            kept(by.key, key),
            kept(by.model, model),
            kept(by.tag, tag),
        ];
        (from_ms, names)
    }
}

/// Costs of the requests that ended in the days asked for, summed up by what is told apart, in the order of time, organisation,
/// team, project, key, model, tag; with sales also what was charged in these days. `None`: more than [`MAX_REPORT_ROWS`]. Only
/// what is on the disk. The idle cost of closed days is in the rows' full cost, which so adds up to what these days cost, but for
/// what was in progress at their borders and for the idle cost of days without costed requests, which is in no row.
///
/// # Errors
/// The store's.
pub fn grouped_costs(ledger: &Ledger, ask: &CostAsk<'_>) -> Result<Option<Vec<MarginRow>>, StoreError> {
    let CostAsk { span_ms: (from_ms, to_ms), by, now_ms, .. } = *ask;
    let mut groups = BTreeMap::<Place, Group>::new();
    for (day, next) in days_within(from_ms, to_ms) {
        let costs = if by.by_hours() { cost_hours(ledger, day, next)? } else { cost_days(ledger, day, next)? };
        let idle = idle_shares(ledger, day, &costs, now_ms)?;
        for (row, idle) in costs.into_iter().zip(idle) {
            let CostRow { from_ms: row_ms, organisation, project, key, model, tag, sums } = row;
            let place = ask.place(row_ms, [organisation, project, key, model, tag]);
            groups.entry(place).or_default().cost(&sums, idle);
        }
        let sales = if ask.with_sales { sales(ledger, (day, next), by.by_hours())? } else { Vec::new() };
        for UsageRow { from_ms: row_ms, organisation, project, key, model, tag, sums } in sales {
            let place = ask.place(row_ms, [organisation, project, key, model, tag]);
            let group = groups.entry(place).or_default();
            group.sold.add(&sums);
            // What it cost may not be in the books yet.
            group.open |= !is_closed(day, now_ms);
        }
        if groups.len() > MAX_REPORT_ROWS {
            return Ok(None);
        }
    }
    let row = |(place, Group { cost, sold, idle, open }): (Place, _)| {
        let (from_ms, [organisation, team, project, key, model, tag]) = place;
        let full = (!open).then(|| cost.costs.attributed().saturating_add(idle));
        MarginRow { from_ms, organisation, team, project, key, model, tag, cost, sold, full }
    };
    Ok(Some(groups.into_iter().map(row).collect()))
}

/// What gathers in a row.
#[derive(Default)]
struct Group {
    cost: CostSums,
    sold: Sums,
    idle: Nano,
    /// Part of it is of a day whose idle cost is not known yet.
    open: bool,
}

impl Group {
    fn cost(&mut self, sums: &CostSums, idle: Option<Nano>) {
        self.cost.add(sums);
        self.open |= idle.is_none();
        self.idle = self.idle.saturating_add(idle.unwrap_or_default());
    }
}

/// Whether all that a day (UTC) cost is in the books: intervals are posted up to a minute after they began.
fn is_closed(day_ms: i64, now_ms: i64) -> bool {
    now_ms >= day_ms.saturating_add(DAY_MS).saturating_add(CLOSING_MS)
}

/// What nobody used in a day.
fn idle_of(ledger: &Ledger, day_ms: i64) -> Result<Nano, StoreError> {
    let hours = plant_hours(ledger, day_ms, day_ms.saturating_add(DAY_MS))?;
    Ok(hours.values().fold(Nano::ZERO, |sum, hour| sum.saturating_add(hour.idle_cost())))
}

/// The idle cost of a day, shared over all rows of its requests by what is attributed to them, by largest remainder: together
/// they bear all of it. Without rows nobody bears it. `None` for all while the day is open.
fn idle_shares(ledger: &Ledger, day_ms: i64, rows: &[CostRow], now_ms: i64) -> Result<Vec<Option<Nano>>, StoreError> {
    if rows.is_empty() || !is_closed(day_ms, now_ms) {
        return Ok(vec![None; rows.len()]);
    }
    let whole = |nano: Nano| u64::try_from(nano.0).unwrap_or(0);
    let weights: Vec<u64> = rows.iter().map(|row| whole(row.sums.costs.attributed())).collect();
    let parts = largest_remainder(whole(idle_of(ledger, day_ms)?), &weights);
    Ok(parts.into_iter().map(|part| Some(Nano::saturating(part.into()))).collect())
}

/// Full cost of one request that ended at `at_ms`: what is attributed to it, and its share of the idle cost of that day (UTC)
/// by it, rounded half-even to a nano-unit; `None` while the day is open. Rows of [`grouped_costs`] add up exactly.
///
/// # Errors
/// The store's.
pub fn full_cost(ledger: &Ledger, attributed: Nano, at_ms: i64, now_ms: i64) -> Result<Option<Nano>, StoreError> {
    let day_ms = at_ms - at_ms.rem_euclid(DAY_MS);
    if !is_closed(day_ms, now_ms) {
        return Ok(None);
    }
    let rows = cost_days(ledger, day_ms, day_ms.saturating_add(DAY_MS))?;
    let all = rows.iter().fold(0_i128, |sum, row| sum + i128::from(row.sums.costs.attributed().0));
    let idle = i128::from(idle_of(ledger, day_ms)?.0) * i128::from(attributed.0);
    let share = if all > 0 { Nano::saturating(divide_half_even(idle, all)) } else { Nano::ZERO };
    Ok(Some(attributed.saturating_add(share)))
}

/// What was charged in one day, as a whole or hour by hour.
fn sales(ledger: &Ledger, (day, next): (i64, i64), by_hours: bool) -> Result<Vec<UsageRow>, StoreError> {
    let days = report(ledger, day, next)?;
    if !by_hours {
        return Ok(days);
    }
    let customers: BTreeSet<String> = days.into_iter().map(|row| row.organisation).collect();
    let mut hours = Vec::new();
    for customer in &customers {
        hours.append(&mut usage(ledger, customer, day, next)?);
    }
    Ok(hours)
}
