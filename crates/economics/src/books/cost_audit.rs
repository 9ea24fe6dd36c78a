//! Whether costs add up: every interval's cost is idle or in progress, every request's cost comes out of what is in progress,
//! and at the end all that the plant cost is idle, in progress or attributed.

use ledger::{Entry, StoreError, StoreSpec};
use serde::Serialize;

use super::cost_detail::{CostLine, PlantInterval, RequestCost};
use super::detail::entry_kind;
use crate::Nano;

/// What was found right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CostReport {
    /// Intervals.
    pub intervals: u64,
    /// Requests with a cost.
    pub requests: u64,
    /// What the plant cost.
    pub plant: Nano,
    /// What nobody used.
    pub idle: Nano,
    /// What requests cost.
    pub attributed: Nano,
    /// What requests under way cost so far.
    pub in_progress: Nano,
    /// The same in microjoules at the site's meter.
    pub plant_uj: i64,
    /// What nobody used.
    pub idle_uj: i64,
    /// What requests used.
    pub attributed_uj: i64,
    /// What requests under way used so far.
    pub in_progress_uj: i64,
}

/// Why costs do not add up.
#[derive(Debug, thiserror::Error)]
pub enum CostFault {
    /// The entries cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry says another thing than it posts.
    #[error("entry {seq}: {what}")]
    Entry {
        /// Its number.
        seq: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// The whole does not add up.
    #[error("{what}: {plant} in all, {parts} in its parts")]
    Whole {
        /// Money or energy.
        what: &'static str,
        /// What the plant took.
        plant: i64,
        /// Idle, in progress and attributed.
        parts: i64,
    },
}

/// Checks the costs of all entries of a store, each against what it posts, and the whole. A server may have it in use.
///
/// # Errors
/// The first fault.
pub fn verify_costs(store: &StoreSpec) -> Result<CostReport, CostFault> {
    let mut audit = Audit::default();
    ledger::each_entry(store, |entry| audit.entry(entry))?;
    audit.end()
}

#[derive(Default)]
struct Audit {
    report: CostReport,
}

impl Audit {
    fn entry(&mut self, entry: &Entry) -> Result<(), CostFault> {
        let fault = |what| CostFault::Entry { seq: entry.seq, what };
        match entry.kind {
            entry_kind::ACCRUED => {
                let interval = PlantInterval::read(entry).ok_or_else(|| fault("the interval cannot be read"))?;
                self.interval(entry, &interval).map_err(fault)
            }
            entry_kind::COSTED => {
                let cost = RequestCost::read(entry).ok_or_else(|| fault("the request's cost cannot be read"))?;
                self.request(entry, &cost).map_err(fault)
            }
            _ => Ok(()),
        }
    }

    fn interval(&mut self, entry: &Entry, interval: &PlantInterval) -> Result<(), &'static str> {
        let PlantInterval { idle, used, lost, .. } = interval;
        if idle.attributed().saturating_add(used.attributed()) != interval.total() {
            return Err("idle and used cost are not the interval's");
        }
        if interval.to_ms < interval.from_ms {
            return Err("the interval ends before it begins");
        }
        let [idle_nano, lost_nano] = [idle, lost].map(CostLine::attributed);
        let used_nano = used.attributed();
        let report = &mut self.report;
        report.intervals = report.intervals.saturating_add(1);
        report.plant = report.plant.saturating_add(interval.total());
        report.idle = report.idle.saturating_add(idle_nano).saturating_add(lost_nano);
        report.in_progress = report.in_progress.saturating_add(used_nano).saturating_sub(lost_nano);
        let [idle_uj, used_uj, lost_uj] = [idle, used, lost].map(|line| line.energy_uj.cast_signed());
        report.plant_uj = report.plant_uj.saturating_add(idle_uj).saturating_add(used_uj);
        report.idle_uj = report.idle_uj.saturating_add(idle_uj).saturating_add(lost_uj);
        report.in_progress_uj = report.in_progress_uj.saturating_add(used_uj).saturating_sub(lost_uj);
        posted(entry, interval.total().0, idle_uj.saturating_add(used_uj))
    }

    fn request(&mut self, entry: &Entry, cost: &RequestCost) -> Result<(), &'static str> {
        let (sum, report) = (cost.sum(), &mut self.report);
        report.requests = report.requests.saturating_add(1);
        report.plant = report.plant.saturating_add(cost.per_token);
        report.attributed = report.attributed.saturating_add(cost.attributed());
        report.in_progress = report.in_progress.saturating_sub(sum.attributed());
        let uj = sum.energy_uj.cast_signed();
        report.attributed_uj = report.attributed_uj.saturating_add(uj);
        report.in_progress_uj = report.in_progress_uj.saturating_sub(uj);
        let legs = [cost.attributed().0, uj];
        let found = |wanted: i64| wanted == 0 || entry.legs.iter().any(|leg| leg.amount == wanted);
        if legs.into_iter().all(found) { Ok(()) } else { Err("the request's lines are not what was posted") }
    }

    fn end(self) -> Result<CostReport, CostFault> {
        let report = self.report;
        let sum = |a: i64, b: i64, c: i64| a.saturating_add(b).saturating_add(c);
        let money = sum(report.idle.0, report.attributed.0, report.in_progress.0);
        let energy = sum(report.idle_uj, report.attributed_uj, report.in_progress_uj);
        for (what, plant, parts) in
            [("cost in nano-units", report.plant.0, money), ("energy in microjoules", report.plant_uj, energy)]
        {
            if plant != parts {
                return Err(CostFault::Whole { what, plant, parts });
            }
        }
        Ok(report)
    }
}

/// What leaves the accounts of the sources, and the energy that leaves its account.
fn posted(entry: &Entry, nano: i64, uj: i64) -> Result<(), &'static str> {
    let sources = crate::plant::Source::ALL.len();
    let Some((legs, rest)) = entry.legs.split_at_checked(sources) else {
        // What a crash left is moved, no source is asked.
        return if nano == 0 && uj == 0 { Ok(()) } else { Err("the interval posts too few legs") };
    };
    let cost = legs.iter().fold(0_i64, |sum, leg| sum.saturating_sub(leg.amount));
    let energy = rest.first().map_or(0, |leg| leg.amount.saturating_neg());
    if cost == nano && energy == uj { Ok(()) } else { Err("the interval's cost is not what was posted") }
}
