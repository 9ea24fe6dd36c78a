//! What the plant cost, interval by interval, and what of it each request cost: posted so that at every moment all that the
//! plant cost is idle, in progress, or attributed to requests.

use std::collections::HashMap;

use ledger::{AccountId, AccountKind, Batch, Command, EntryId, Leg};
use metering::energy::{Energy, EnergySource};
use metering::intervals::{Holder, PURPOSES, Taker, Usage};

use super::accounts::{self, unit};
use super::cost_detail::{CostLine, Costs, ESTIMATED, PlantInterval, RequestCost, Traffic};
use super::detail::{Context, entry_kind};
use super::{Books, BooksError, DURABLE_WAIT, id_of};
use crate::plant::{self, Accrual, HolderShare, IdleShare, Plant, Rates, Sharing, Source, largest_remainder};
use crate::{Nano, Quantities};

/// Commands of one batch.
const BATCH: usize = 500;

/// The accounts that plant cost moves between. Those of what is in progress are this server's alone.
#[derive(Clone, Copy, Debug)]
struct Accounts {
    /// What the plant cost, by source, below zero.
    sources: [AccountId; Source::ALL.len()],
    energy: AccountId,
    idle: [AccountId; 2],
    in_progress: [AccountId; 2],
    attributed: [AccountId; 2],
}

/// Money and energy of one posting, in the order of the accounts.
type Amounts = [i64; 2];

/// A request that has ended, to be told what it cost.
#[derive(Clone, Debug)]
pub struct Finished {
    /// By which the engines know it.
    pub holder: Holder,
    /// By which the books know it.
    pub id: EntryId,
    /// Who asked for what.
    pub context: Context,
    /// All its tokens.
    pub quantities: Quantities,
    /// What went over the network for it.
    pub traffic: Traffic,
}

/// An interval to close.
#[derive(Clone, Debug)]
pub struct Interval {
    /// When it began, in milliseconds since the epoch.
    pub from_ms: i64,
    /// When it ended.
    pub to_ms: i64,
    /// Its energy and its length.
    pub energy: Energy,
    /// Who used it.
    pub usage: Usage,
    /// Requests that had ended before the engines were asked for the interval's work.
    pub finished: Vec<Finished>,
}

/// Keeps what requests under way have cost so far. One for each server.
pub struct Accountant {
    accounts: Accounts,
    writer: u32,
    /// Tells the entries of this start from others: entries that the ledger had then, and how many intervals there were since.
    run: (u64, u64),
    /// The plant as its sheet has it, and the sheet's version.
    plant: Plant,
    sheet: u64,
    /// The last ones that were in force.
    rates: Rates,
    accrual: Accrual,
    in_progress: HashMap<Holder, [CostLine; PURPOSES]>,
    /// Of steps under way, by line.
    under_way: HashMap<u64, CostLine>,
}

impl Accountant {
    /// Opens the accounts. What a server that crashed had in progress is idle cost from now on: nobody can say any more
    /// whose it was.
    ///
    /// # Errors
    /// The ledger does not take it.
    pub fn open(books: &Books, (plant, sheet): (Plant, u64), now_ms: i64) -> Result<Self, BooksError> {
        let accounts = Accounts::open(books, now_ms)?;
        let accountant = Self {
            accounts,
            writer: books.writer,
            run: (books.ledger.last_seq()?, 0),
            rates: plant.rates(now_ms)?,
            accrual: Accrual::default(),
            plant,
            sheet,
            in_progress: HashMap::new(),
            under_way: HashMap::new(),
        };
        accountant.write_off(books, now_ms)?;
        Ok(accountant)
    }

    /// The plant that costs are reckoned for.
    #[must_use]
    pub fn plant(&self) -> &Plant {
        &self.plant
    }

    /// When the rates may be others, in milliseconds since the epoch: an interval should end there.
    #[must_use]
    pub fn next_change_ms(&self) -> i64 {
        self.rates.next_change_ms
    }

    /// What the server before this one left in progress.
    fn write_off(&self, books: &Books, now_ms: i64) -> Result<(), BooksError> {
        let mut left: Amounts = [0; 2];
        for (left, account) in left.iter_mut().zip(self.accounts.in_progress) {
            *left = books.ledger.balance(account)?.map_or(0, |balance| balance.posted);
        }
        if left == [0; 2] {
            return Ok(());
        }
        let legs = [moved(self.accounts.in_progress, left.map(i64::saturating_neg)), moved(self.accounts.idle, left)];
        let [nano, uj] = left;
        let lost = CostLine { energy_uj: uj.try_into().unwrap_or(0), standing: Nano(nano), ..CostLine::default() };
        let (sheet, example) = (self.sheet, self.plant.sheet().is_example());
        let detail = PlantInterval { from_ms: now_ms, to_ms: now_ms, sheet, example, lost, ..PlantInterval::default() };
        let id = id_of(&["written off", &self.writer.to_string(), &self.run.0.to_string()]);
        let post = Command::Post { id, kind: entry_kind::ACCRUED, legs: legs.concat(), detail: detail.pack() };
        let receipt = books.ledger.submit(&Batch { at_ms: now_ms, commands: vec![post] })?;
        Ok(receipt.wait_durable(DURABLE_WAIT)?)
    }

    /// What an interval cost, as commands of the ledger; in order, and each batch once. Nothing of it may be left out, since
    /// this has moved on.
    pub fn close(&mut self, interval: Interval) -> Vec<Batch> {
        let at_ms = interval.to_ms;
        let mut commands = vec![self.accrue(&interval)];
        commands.extend(interval.finished.into_iter().filter_map(|finished| self.attribute(finished, at_ms)));
        let batches = commands.chunks(BATCH).map(|commands| Batch { at_ms, commands: commands.to_vec() });
        batches.collect()
    }

    /// The rates at an instant; for one beyond the calendar those known last.
    pub fn rates(&mut self, at_ms: i64) -> Rates {
        if let Ok(rates) = self.plant.rates(at_ms) {
            self.rates = rates;
        }
        self.rates
    }

    fn accrue(&mut self, interval: &Interval) -> Command {
        let lost = self.resolve(&interval.usage);
        let Energy { idle_uj, active_uj, interval_ns: length_ns, .. } = interval.energy;
        let rates = self.rates(interval.from_ms);
        let amounts = self.accrual.close(&rates, &plant::Interval { length_ns, idle_uj, active_uj });
        let busy: Vec<u64> = interval.usage.busy.iter().map(|(_, ns)| *ns).collect();
        let shares = Sharing::of(&amounts, length_ns, &busy);
        let mut used = CostLine::default();
        for ((taker, ns), share) in interval.usage.busy.iter().zip(&shares.holders) {
            let line = CostLine::of(share, *ns);
            used.add(&line);
            let kept = match taker {
                Taker::Request(holder, purpose) => self.in_progress.entry(*holder).or_default().get_mut(*purpose),
                Taker::UnderWay(line) => Some(self.under_way.entry(*line).or_default()),
            };
            if let Some(kept) = kept {
                kept.add(&line);
            }
        }
        let detail = PlantInterval {
            from_ms: interval.from_ms,
            to_ms: interval.to_ms,
            length_ns,
            busy_ns: interval.usage.busy_ns(),
            sheet: self.sheet,
            example: self.plant.sheet().is_example(),
            energy_source: source_code(&interval.energy.source),
            sources: Source::ALL.map(|source| amounts.of(source)),
            idle: CostLine::idle(&shares.idle, length_ns.saturating_sub(interval.usage.busy_ns())),
            used,
            lost,
        };
        let legs = self.accounts.accrued(&detail);
        let (run, number) = self.run;
        self.run.1 = number.saturating_add(1);
        let id = id_of(&["accrued", &self.writer.to_string(), &run.to_string(), &number.to_string()]);
        Command::Post { id, kind: entry_kind::ACCRUED, legs, detail: detail.pack() }
    }

    /// Hands what was held for steps under way to those they turned out to work for. Gives what was held for nobody.
    fn resolve(&mut self, usage: &Usage) -> CostLine {
        let mut lost = CostLine::default();
        for ended in &usage.ended {
            let Some(held) = self.under_way.remove(&ended.line) else { continue };
            let weights: Vec<u64> = ended.takers.iter().map(|(_, _, ns)| *ns).collect();
            if weights.is_empty() {
                lost.add(&held);
            }
            for ((holder, purpose, _), part) in ended.takers.iter().zip(held.split(&weights)) {
                if let Some(line) = self.in_progress.entry(*holder).or_default().get_mut(*purpose) {
                    line.add(&part);
                }
            }
        }
        lost
    }

    /// `None`: no engine worked for it.
    fn attribute(&mut self, finished: Finished, at_ms: i64) -> Option<Command> {
        let Finished { holder, id, context, quantities, traffic } = finished;
        let lines = self.in_progress.remove(&holder)?;
        let rates = self.rates(at_ms);
        let (per_token, network) = (rates.fixed(quantities.total()), rates.network(traffic.total()));
        let costs = Costs { lines, per_token, network };
        let cost = RequestCost { context, request: id.0, quantities, traffic, costs };
        let (legs, detail) = (self.accounts.costed(&cost), cost.pack());
        Some(Command::Post { id: cost_id(id), kind: entry_kind::COSTED, legs, detail })
    }
}

/// The id of the entry that says what a request cost.
#[must_use]
pub fn cost_id(request: EntryId) -> EntryId {
    let mut id = request;
    id.0[15] ^= 0xC5;
    id
}

fn moved(accounts: [AccountId; 2], amounts: Amounts) -> Vec<Leg> {
    accounts.into_iter().zip(amounts).map(|(account, amount)| Leg { account, amount }).collect()
}

fn joules(uj: u64) -> i64 {
    i64::try_from(uj).unwrap_or(i64::MAX)
}

/// The words for sources of energy ([`EnergySource::as_str`]), by the codes in which intervals keep them
/// ([`PlantInterval::energy_source`]).
pub const ENERGY_SOURCE_WORDS: [&str; 3] = ["estimated", "counter", "nvml"];

/// How a source of energy is kept.
fn source_code(source: &EnergySource) -> u8 {
    match source {
        EnergySource::Estimated => ESTIMATED,
        EnergySource::Counter { .. } => 1,
        EnergySource::Nvml => 2,
    }
}

impl CostLine {
    fn of(share: &HolderShare, machine_ns: u64) -> Self {
        let HolderShare { marginal, standing, energy_uj, co2_ug } = *share;
        Self { machine_ns, energy_uj, co2_ug, marginal, standing }
    }

    fn idle(share: &IdleShare, machine_ns: u64) -> Self {
        let IdleShare { standing, energy_uj, co2_ug } = *share;
        Self { machine_ns, energy_uj, co2_ug, marginal: Nano::ZERO, standing }
    }

    fn amounts(&self) -> Amounts {
        [self.attributed().0, joules(self.energy_uj)]
    }

    /// Parts by `weights` that add up to it.
    fn split(&self, weights: &[u64]) -> Vec<Self> {
        let whole = |nano: Nano| u64::try_from(nano.0).unwrap_or(0);
        let nano = |part: u64| Nano(i64::try_from(part).unwrap_or(i64::MAX));
        let split = |total| largest_remainder(total, weights).into_iter();
        let money = split(whole(self.marginal)).zip(split(whole(self.standing)));
        let quantities = split(self.machine_ns).zip(split(self.energy_uj)).zip(split(self.co2_ug));
        let line = |((marginal, standing), ((machine_ns, energy_uj), co2_ug))| Self {
            machine_ns,
            energy_uj,
            co2_ug,
            marginal: nano(marginal),
            standing: nano(standing),
        };
        money.zip(quantities).map(line).collect()
    }
}

impl Accounts {
    fn open(books: &Books, now_ms: i64) -> Result<Self, BooksError> {
        let spec = |name: &str, kind, unit| accounts::spec(format!("plant/cost/{name}"), kind, unit, None);
        let sources = Source::ALL.map(|source| spec(source.as_str(), AccountKind::Contra, unit::MONEY));
        let sources = accounts::open(&books.ledger, sources, now_ms)?;
        let [energy] = accounts::open(&books.ledger, [spec("energy", AccountKind::Contra, unit::ENERGY)], now_ms)?;
        let pair = |name: &str, kind| {
            let specs = [spec(name, kind, unit::MONEY), spec(&format!("{name}-energy"), kind, unit::ENERGY)];
            accounts::open(&books.ledger, specs, now_ms)
        };
        Ok(Self {
            sources,
            energy,
            idle: pair("idle", AccountKind::Idle)?,
            in_progress: pair(&format!("in-progress/{}", books.writer), AccountKind::Cost)?,
            attributed: pair("attributed", AccountKind::Cost)?,
        })
    }

    /// What the plant cost goes to what is idle and what is in progress; of the latter what was for nobody goes back.
    fn accrued(&self, interval: &PlantInterval) -> Vec<Leg> {
        let PlantInterval { sources, idle, used, lost, .. } = interval;
        let cost = self.sources.into_iter().zip(*sources);
        let mut legs: Vec<Leg> = cost.map(|(account, nano)| Leg { account, amount: nano.0.saturating_neg() }).collect();
        let total = joules(idle.energy_uj.saturating_add(used.energy_uj));
        legs.push(Leg { account: self.energy, amount: total.saturating_neg() });
        let sum = |a: Amounts, b: Amounts| [a[0].saturating_add(b[0]), a[1].saturating_add(b[1])];
        legs.extend(moved(self.idle, sum(idle.amounts(), lost.amounts())));
        legs.extend(moved(self.in_progress, sum(used.amounts(), lost.amounts().map(i64::saturating_neg))));
        legs
    }

    fn costed(&self, cost: &RequestCost) -> Vec<Leg> {
        let Costs { per_token, network, .. } = cost.costs;
        let sum = cost.costs.sum().amounts();
        let mut legs = moved(self.in_progress, sum.map(i64::saturating_neg));
        legs.extend(moved(self.attributed, [cost.costs.attributed().0, sum[1]]));
        for (own, nano) in [(Source::Fixed, per_token), (Source::Network, network)] {
            let account = Source::ALL.iter().zip(self.sources).find(|(source, _)| **source == own);
            let account = account.filter(|_| nano != Nano::ZERO);
            legs.extend(account.map(|(_, account)| Leg { account, amount: nano.0.saturating_neg() }));
        }
        legs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_energy_sources_stand_at_their_codes() {
        let sources = [EnergySource::Estimated, EnergySource::Counter { domains: Vec::new() }, EnergySource::Nvml];
        assert_eq!(sources.each_ref().map(|source| usize::from(source_code(source))), [0, 1, 2]);
        assert_eq!(sources.map(|source| source.as_str().to_owned()), ENERGY_SOURCE_WORDS);
    }
}
