//! What requests cost, by hour and by day, and what the plant cost, by hour.

use std::collections::BTreeMap;

use ledger::{Add, StoreError, Tally};
use serde::Serialize;

use super::keys::{COST_DAYS, COSTS, Key, PLANT, Parts, SHEETS, collect};
use super::row::{Row, ceil, days};
use super::{DAY_MS, HOUR_MS, Tallies};
use crate::books::cost_detail::{CostLine, Costs, ESTIMATED, PlantInterval, RequestCost, Traffic};
use crate::books::detail::Context;
use crate::plant::Source;
use crate::{Meter, Nano, Quantities};

/// Sums of what requests cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CostSums {
    /// Requests.
    pub requests: i64,
    /// All tokens.
    pub quantities: Quantities,
    /// What went over the network for them.
    pub traffic: Traffic,
    /// What they cost.
    #[serde(flatten)]
    pub costs: Costs,
}

const COLUMNS: usize = 29;

impl CostSums {
    /// Of one request.
    pub(super) fn of(cost: &RequestCost) -> Self {
        Self { requests: 1, quantities: cost.quantities, traffic: cost.traffic, costs: cost.costs }
    }

    pub(super) fn columns(&self) -> [i64; COLUMNS] {
        let mut columns = [0; COLUMNS];
        let tokens = Meter::ALL.map(|meter| whole(self.quantities.get(meter)));
        let lines = self.costs.lines.iter().flat_map(line_columns);
        let [received, sent] = [self.traffic.received, self.traffic.sent].map(whole);
        let rest = [self.costs.per_token.0, received, sent, self.costs.network.0];
        let all = [self.requests].into_iter().chain(tokens).chain(lines).chain(rest);
        for (column, value) in columns.iter_mut().zip(all) {
            *column = value;
        }
        columns
    }

    fn read(tally: &Tally) -> Self {
        let mut columns = Columns(tally, 0);
        let requests = columns.next();
        let mut quantities = Quantities::default();
        for meter in Meter::ALL {
            *quantities.get_mut(meter) = columns.natural();
        }
        let mut lines = [CostLine::default(); 4];
        for line in &mut lines {
            *line = columns.line();
        }
        let per_token = Nano(columns.next());
        let traffic = Traffic { received: columns.natural(), sent: columns.natural() };
        Self { requests, quantities, traffic, costs: Costs { lines, per_token, network: Nano(columns.next()) } }
    }

    /// Adds `other` to it.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.quantities.add(&other.quantities);
        self.traffic.add(other.traffic);
        self.costs.add(&other.costs);
    }
}

/// Sums of what the plant cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlantSums {
    /// Intervals.
    pub intervals: i64,
    /// Their lengths.
    pub length_ns: u64,
    /// Machine time used.
    pub busy_ns: u64,
    /// Time whose energy was estimated.
    pub estimated_ns: u64,
    /// Cost by source, as [`Source::ALL`].
    pub sources: [Nano; Source::ALL.len()],
    /// What nobody used.
    pub idle: CostLine,
    /// What was used, by requests or by steps that came to nothing.
    pub used: CostLine,
    /// The part of it that was for nobody in the end.
    pub lost: CostLine,
}

impl PlantSums {
    /// All of its cost.
    #[must_use]
    pub fn total(&self) -> Nano {
        self.sources.iter().fold(Nano::ZERO, |sum, nano| sum.saturating_add(*nano))
    }

    /// All that is no request's.
    #[must_use]
    pub fn idle_cost(&self) -> Nano {
        self.idle.attributed().saturating_add(self.lost.attributed())
    }

    /// Microjoules at the site's meter.
    #[must_use]
    pub fn energy_uj(&self) -> u64 {
        self.idle.energy_uj.saturating_add(self.used.energy_uj)
    }

    /// Of one interval.
    pub(super) fn of(interval: &PlantInterval) -> Self {
        let estimated = interval.energy_source == ESTIMATED;
        Self {
            intervals: 1,
            length_ns: interval.length_ns,
            busy_ns: interval.busy_ns,
            estimated_ns: if estimated { interval.length_ns } else { 0 },
            sources: interval.sources,
            idle: interval.idle,
            used: interval.used,
            lost: interval.lost,
        }
    }

    pub(super) fn columns(&self) -> Vec<i64> {
        let mut columns = vec![self.intervals, whole(self.length_ns), whole(self.busy_ns), whole(self.estimated_ns)];
        columns.extend(self.sources.iter().map(|nano| nano.0));
        columns.extend([&self.idle, &self.used, &self.lost].into_iter().flat_map(line_columns));
        columns
    }

    fn read(tally: &Tally) -> Self {
        let mut columns = Columns(tally, 0);
        let (intervals, length_ns) = (columns.next(), columns.natural());
        let (busy_ns, estimated_ns) = (columns.natural(), columns.natural());
        let sources = Source::ALL.map(|_| Nano(columns.next()));
        let (idle, used, lost) = (columns.line(), columns.line(), columns.line());
        Self { intervals, length_ns, busy_ns, estimated_ns, sources, idle, used, lost }
    }

    /// Adds `other` to it.
    pub fn add(&mut self, other: &Self) {
        self.intervals = self.intervals.saturating_add(other.intervals);
        self.length_ns = self.length_ns.saturating_add(other.length_ns);
        self.busy_ns = self.busy_ns.saturating_add(other.busy_ns);
        self.estimated_ns = self.estimated_ns.saturating_add(other.estimated_ns);
        for (nano, more) in self.sources.iter_mut().zip(other.sources) {
            *nano = nano.saturating_add(more);
        }
        self.idle.add(&other.idle);
        self.used.add(&other.used);
        self.lost.add(&other.lost);
    }
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn line_columns(line: &CostLine) -> [i64; 5] {
    [whole(line.machine_ns), whole(line.energy_uj), whole(line.co2_ug), line.marginal.0, line.standing.0]
}

/// The columns of a tally, one after the other.
struct Columns<'a>(&'a Tally, usize);

impl Columns<'_> {
    fn next(&mut self) -> i64 {
        let sum = self.0.sums.get(self.1).copied().unwrap_or(0);
        self.1 = self.1.saturating_add(1);
        i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
    }

    fn natural(&mut self) -> u64 {
        u64::try_from(self.next()).unwrap_or(0)
    }

    fn line(&mut self) -> CostLine {
        let (machine_ns, energy_uj, co2_ug) = (self.natural(), self.natural(), self.natural());
        CostLine { machine_ns, energy_uj, co2_ug, marginal: Nano(self.next()), standing: Nano(self.next()) }
    }
}

/// Adds a request's cost to its hour and its day.
pub(super) fn tally_request(cost: &RequestCost, at_ms: i64, add: &mut Add<'_>) {
    let Context { organisation, project, key, model, tag, .. } = &cost.context;
    let columns = CostSums::of(cost).columns();
    let hour = Key::new(COSTS).number(at_ms.div_euclid(HOUR_MS)).text(organisation).text(project).text(key);
    add(&hour.text(model).text(tag).0, 0, &columns);
    let day = Key::new(COST_DAYS).number(at_ms.div_euclid(DAY_MS));
    add(&day.text(organisation).text(model).text(tag).0, 0, &columns);
}

/// Adds an interval to its hour.
pub(super) fn tally_interval(interval: &PlantInterval, add: &mut Add<'_>) {
    add(&Key::new(PLANT).number(interval.from_ms.div_euclid(HOUR_MS)).0, 0, &PlantSums::of(interval).columns());
    let sheet = Key::new(SHEETS).number(interval.from_ms.div_euclid(DAY_MS)).number(interval.sheet.cast_signed());
    add(&sheet.number(interval.example.into()).0, 0, &[1]);
}

/// What requests cost in an hour or a day.
pub type CostRow = Row<CostSums>;

/// Costs of requests that ended in the hours that begin within `from_ms..to_ms`. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn cost_hours(ledger: &dyn Tallies, from_ms: i64, to_ms: i64) -> Result<Vec<CostRow>, StoreError> {
    let key = |ms: i64| Key::new(COSTS).number(ceil(ms, HOUR_MS)).0;
    collect(ledger, &key(from_ms), &key(to_ms), |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let from_ms = parts.number()?.saturating_mul(HOUR_MS);
        let (organisation, project, key) = (parts.text()?, parts.text()?, parts.text()?);
        let (model, tag) = (parts.text()?, parts.text()?);
        Some(CostRow { from_ms, organisation, project, key, model, tag, sums: CostSums::read(tally) })
    })
}

/// The same for the days that begin within `from_ms..to_ms`.
///
/// # Errors
/// The store's.
pub fn cost_days(ledger: &dyn Tallies, from_ms: i64, to_ms: i64) -> Result<Vec<CostRow>, StoreError> {
    days(ledger, COST_DAYS, (from_ms, to_ms), CostSums::read)
}

/// What the plant cost in the intervals that began in the hours within `from_ms..to_ms`, hour by hour. Only what is on the
/// disk.
///
/// # Errors
/// The store's.
pub fn plant_hours(ledger: &dyn Tallies, from_ms: i64, to_ms: i64) -> Result<BTreeMap<i64, PlantSums>, StoreError> {
    let key = |ms: i64| Key::new(PLANT).number(ceil(ms, HOUR_MS)).0;
    let rows = collect(ledger, &key(from_ms), &key(to_ms), |tally| {
        let hour = Parts(tally.key.get(1..)?).number()?;
        Some((hour.saturating_mul(HOUR_MS), PlantSums::read(tally)))
    })?;
    Ok(rows.into_iter().collect())
}

/// The plant sheets that figures rest on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sheets {
    /// The highest version; none where nothing was accrued. Each server has its own count, so that of several servers it need
    /// not be the newest.
    pub version: Option<u64>,
    /// All of them.
    pub versions: Vec<u64>,
    /// Whether one of them is the example, whose figures are nobody's costs.
    pub example: bool,
}

/// The sheets by which costs accrued in the days that begin within `from_ms..to_ms`. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn sheets(ledger: &dyn Tallies, from_ms: i64, to_ms: i64) -> Result<Sheets, StoreError> {
    let key = |ms: i64| Key::new(SHEETS).number(ceil(ms, DAY_MS)).0;
    let mut found = collect(ledger, &key(from_ms), &key(to_ms), |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let (_, version, example) = (parts.number()?, parts.number()?, parts.number()?);
        Some((version.cast_unsigned(), example != 0))
    })?;
    found.sort_unstable();
    let example = found.iter().any(|(_, example)| *example);
    let mut versions: Vec<u64> = found.into_iter().map(|(version, _)| version).collect();
    versions.dedup();
    Ok(Sheets { version: versions.last().copied(), versions, example })
}
