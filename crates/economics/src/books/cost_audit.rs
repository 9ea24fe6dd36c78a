//! Whether costs add up: every interval's cost is idle or in progress, every request's cost comes out of what is in progress,
//! each posted to the last unit. So all that the plant cost is idle, in progress or attributed.

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
    /// Requests were told more cost than was in progress.
    #[error("requests cost more than was in progress: {in_progress} of {what} is left of it")]
    Overdrawn {
        /// Money or energy.
        what: &'static str,
        /// What is left.
        in_progress: i64,
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
        let moved = [idle_nano.saturating_add(lost_nano).0, idle_uj.saturating_add(lost_uj)];
        let progress = [used_nano.saturating_sub(lost_nano).0, used_uj.saturating_sub(lost_uj)];
        // What a crash left is moved only, no source is asked.
        let written_off = [progress, moved].concat();
        let sources = interval.sources.iter().map(|nano| nano.0.saturating_neg());
        let energy = idle_uj.saturating_add(used_uj).saturating_neg();
        let accrued: Vec<i64> = sources.chain([energy]).chain(moved).chain(progress).collect();
        let is_right = posts(entry, &accrued) || (interval.length_ns == 0 && posts(entry, &written_off));
        if is_right { Ok(()) } else { Err("the interval's cost is not what was posted") }
    }

    fn request(&mut self, entry: &Entry, cost: &RequestCost) -> Result<(), &'static str> {
        let (sum, report) = (cost.costs.sum(), &mut self.report);
        let (nano, attributed, uj) = (sum.attributed(), cost.costs.attributed(), sum.energy_uj.cast_signed());
        report.requests = report.requests.saturating_add(1);
        report.plant = report.plant.saturating_add(cost.costs.per_token).saturating_add(cost.costs.network);
        report.attributed = report.attributed.saturating_add(attributed);
        report.in_progress = report.in_progress.saturating_sub(nano);
        report.attributed_uj = report.attributed_uj.saturating_add(uj);
        report.in_progress_uj = report.in_progress_uj.saturating_sub(uj);
        let mut expected = vec![nano.0.saturating_neg(), uj.saturating_neg(), attributed.0, uj];
        let own = [cost.costs.per_token, cost.costs.network].into_iter().filter(|nano| *nano != Nano::ZERO);
        expected.extend(own.map(|nano| nano.0.saturating_neg()));
        if posts(entry, &expected) { Ok(()) } else { Err("the request's lines are not what was posted") }
    }

    fn end(self) -> Result<CostReport, CostFault> {
        let report = self.report;
        for (what, in_progress) in
            [("cost in nano-units", report.in_progress.0), ("energy in microjoules", report.in_progress_uj)]
        {
            if in_progress < 0 {
                return Err(CostFault::Overdrawn { what, in_progress });
            }
        }
        Ok(report)
    }
}

/// Whether an entry's legs are of these amounts, in this order. That they sum to zero is the ledger's own rule, so the whole
/// adds up when every entry is right.
fn posts(entry: &Entry, amounts: &[i64]) -> bool {
    entry.legs.iter().map(|leg| leg.amount).eq(amounts.iter().copied())
}
