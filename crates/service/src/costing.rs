//! The thread that keeps the plant's costs: once a second it asks the engines for their work and the meter for its joules,
//! and posts what the interval cost and what the requests that ended have cost.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use economics::Nano;
use economics::books::Books;
use economics::books::costs::{Accountant, Finished, Interval};
use economics::plant::{self, Accrual, Amounts, Rates};
use inference::{Engine, Work};
use ledger::{Batch, Refusal, Refused};
use metering::Family;
use metering::energy::{Energy, PowerCap, Sampler};
use metering::intervals::{Intervals, LineWork, PURPOSES, Step, Usage};

use crate::TrafficCount;
use crate::charging::now_ms;
use crate::plant_meter::{PlantFacts, PlantMeter};

/// Length of an interval in which there is work.
const INTERVAL: Duration = Duration::from_secs(1);
/// Intervals without work are posted together, up to this length: they all cost the same.
const REST: Duration = Duration::from_secs(60);

/// How long the cost of a request that has ended waits for its answer to leave; bytes that leave later are not counted.
const LEAVING: Duration = Duration::from_secs(600);

const _: () = assert!(PURPOSES == inference::Purpose::ALL.len());

/// What a plant's costs are reckoned by.
pub struct CostingConfig {
    /// What requests under way have cost so far, and the plant's sheet.
    pub accountant: Accountant,
    /// Where joules come from.
    pub sampler: Sampler,
    /// The clock at which the sampler was made: nanoseconds count from there.
    pub started: Instant,
    /// What holds power below a cap.
    pub cap: Option<Cap>,
}

/// A cap of the plant's power.
pub struct Cap {
    /// What corrects the limit.
    pub cap: PowerCap,
    /// Tells the engines of it: for how many thousandths of the time they may compute.
    pub tell: Box<dyn Fn(u32) + Send>,
}

/// What the plant has used and cost since its start; it only grows. Of each second once that is over, though the ledger gets
/// the cost of idle ones together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Time that is accounted for.
    pub length_ns: u64,
    /// Energy at the meter of the site.
    pub energy_uj: u64,
    /// All cost: standing, energy, and what tokens and traffic bear.
    pub cost: Nano,
}

impl Reading {
    /// Adds an interval, and what is charged to requests that have ended by their tokens and bytes.
    fn add(&mut self, length_ns: u64, amounts: &Amounts, rates: &Rates, finished: &[Finished]) {
        self.length_ns = self.length_ns.saturating_add(length_ns);
        let used_uj = amounts.idle.energy_uj.saturating_add(amounts.active.energy_uj);
        self.energy_uj = self.energy_uj.saturating_add(used_uj);
        // Each is rounded by itself, as the books do.
        let own =
            |one: &Finished| rates.fixed(one.quantities.total()).saturating_add(rates.network(one.traffic.total()));
        self.cost = finished.iter().map(own).fold(self.cost.saturating_add(amounts.total()), Nano::saturating_add);
    }
}

/// Keeps costs until it is dropped.
pub struct Costing {
    shared: Arc<Shared>,
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    lines: Mutex<Lines>,
    /// Ended since the last interval.
    finished: Mutex<Vec<Leaving>>,
    reading: Mutex<Reading>,
    /// What is posted, as metrics.
    plant_meter: Mutex<PlantMeter>,
}

/// A request that has ended, and whose answer may still be on its way out.
struct Leaving {
    finished: Finished,
    traffic: Option<TrafficCount>,
    since: Instant,
}

impl Leaving {
    /// What is known of it once its answer has left, or has had long enough for it.
    fn gone(&mut self) -> bool {
        let gone = self.traffic.as_ref().is_none_or(TrafficCount::has_ended) || self.since.elapsed() > LEAVING;
        self.finished.traffic = self.traffic.as_ref().map(TrafficCount::so_far).unwrap_or_default();
        gone
    }
}

#[derive(Default)]
struct Lines {
    next: u64,
    engines: BTreeMap<u64, Registered>,
}

struct Registered {
    engine: Arc<dyn Engine>,
    retired: bool,
}

/// The number under which a line's work is counted; it is asked for the last time once this is dropped.
pub(crate) struct LineNumber {
    pub(crate) number: u64,
    shared: Arc<Shared>,
}

impl Drop for LineNumber {
    fn drop(&mut self) {
        if let Some(line) = lock(&self.shared.lines).engines.get_mut(&self.number) {
            line.retired = true;
        }
    }
}

impl Costing {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(books: Arc<Books>, config: CostingConfig) -> io::Result<Self> {
        let facts = PlantFacts {
            currency: books.currency().code.clone(),
            is_example: config.accountant.plant().sheet().is_example(),
            cap_mw: config.cap.as_ref().map(|cap| cap.cap.cap_mw()),
        };
        let shared = Arc::new(Shared {
            lines: Mutex::default(),
            finished: Mutex::default(),
            reading: Mutex::default(),
            plant_meter: Mutex::new(PlantMeter::new(facts)),
        });
        let (stop, stopped) = sync_channel(0);
        let mut keeper = Keeper::new(books, Arc::clone(&shared), config);
        let thread = std::thread::Builder::new().name("costs".to_owned()).spawn(move || {
            while stopped.recv_timeout(keeper.pause()) == Err(RecvTimeoutError::Timeout) {
                keeper.tick(false);
            }
            keeper.tick(true);
        })?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Counts the work of an engine from now on.
    pub(crate) fn register(&self, engine: Arc<dyn Engine>) -> LineNumber {
        // From its first answer on it keeps account.
        let _ = engine.take_work();
        let mut lines = lock(&self.shared.lines);
        let number = lines.next;
        lines.next += 1;
        lines.engines.insert(number, Registered { engine, retired: false });
        LineNumber { number, shared: Arc::clone(&self.shared) }
    }

    /// What the plant has used and cost so far.
    pub(crate) fn reading(&self) -> Reading {
        *lock(&self.shared.reading)
    }

    /// What the plant has cost since its start, as metrics.
    pub(crate) fn families(&self) -> Vec<Family> {
        lock(&self.shared.plant_meter).families()
    }

    /// A request has ended: its last work is with its engine.
    pub(crate) fn finished(&self, finished: Finished, traffic: Option<TrafficCount>) {
        lock(&self.shared.finished).push(Leaving { finished, traffic, since: Instant::now() });
    }
}

impl Drop for Costing {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of costs panicked");
        }
    }
}

/// What the thread has.
struct Keeper {
    books: Arc<Books>,
    shared: Arc<Shared>,
    accountant: Accountant,
    sampler: Sampler,
    started: Instant,
    cap: Option<Cap>,
    intervals: Intervals,
    /// Of the readings.
    accrual: Accrual,
    /// The end of the last interval, by the calendar.
    last_ms: i64,
    /// Time without work that is not posted yet.
    rest: Option<Interval>,
    /// What the ledger has not taken yet, in order; no interval is closed before it has.
    unposted: Vec<Batch>,
}

impl Keeper {
    fn new(books: Arc<Books>, shared: Arc<Shared>, config: CostingConfig) -> Self {
        let CostingConfig { accountant, sampler, started, cap } = config;
        Self {
            books,
            shared,
            accountant,
            sampler,
            started,
            cap,
            intervals: Intervals::default(),
            accrual: Accrual::default(),
            last_ms: now_ms(),
            rest: None,
            unposted: Vec::new(),
        }
    }

    /// Until the next interval is to be closed: rates do not change within one.
    fn pause(&self) -> Duration {
        let left_ms = self.accountant.next_change_ms().saturating_sub(now_ms());
        u64::try_from(left_ms).map_or(INTERVAL, |left_ms| Duration::from_millis(left_ms.max(1)).min(INTERVAL))
    }

    fn tick(&mut self, last: bool) {
        if !self.post() {
            return;
        }
        // In this order: all work of what has ended is with its engine.
        let finished = self.finished(last);
        let usage = self.usage();
        let now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let energy = self.sampler.sample(now_ns, usage.busy_ns()).unwrap_or_else(|| nothing(&self.sampler));
        lock(&self.shared.plant_meter).measured(&energy);
        if let Some(Cap { cap, tell }) = &mut self.cap {
            tell(cap.correct(&energy));
        }
        let from_ms = self.last_ms;
        // A calendar that is set back stands still for us until it has caught up.
        self.last_ms = now_ms().max(from_ms);
        self.read(from_ms, &energy, &finished);
        let interval = Interval { from_ms, to_ms: self.last_ms, energy, usage, finished };
        self.take(interval, last);
        if !self.post() && last {
            tracing::error!("the ledger does not take the costs of the last interval: they are lost");
        }
    }

    /// Requests that have ended and whose answers have left; at the last time all that have ended.
    fn finished(&self, last: bool) -> Vec<Finished> {
        let mut leaving = lock(&self.shared.finished);
        let (mut gone, mut still) = (Vec::new(), Vec::new());
        for mut one in leaving.drain(..) {
            if one.gone() || last {
                gone.push(one.finished);
            } else {
                still.push(one);
            }
        }
        *leaving = still;
        gone
    }

    /// Adds an interval to the reading, by the rates that it is posted at.
    fn read(&mut self, from_ms: i64, energy: &Energy, finished: &[Finished]) {
        let rates = self.accountant.rates(from_ms);
        let Energy { idle_uj, active_uj, interval_ns: length_ns, .. } = *energy;
        let amounts = self.accrual.close(&rates, &plant::Interval { length_ns, idle_uj, active_uj });
        lock(&self.shared.reading).add(length_ns, &amounts, &rates, finished);
    }

    /// What the lines did since the last time; of those that have gone it is the last.
    fn usage(&mut self) -> Usage {
        let mut lines = lock(&self.shared.lines);
        let work = lines.engines.iter().map(|(line, known)| line_work(*line, known.engine.take_work())).collect();
        let gone: Vec<u64> = lines.engines.iter().filter(|(_, known)| known.retired).map(|(line, _)| *line).collect();
        // Dropped once the lock is free: an engine may have to end first.
        let ended: Vec<Option<Registered>> = gone.iter().map(|line| lines.engines.remove(line)).collect();
        drop(lines);
        drop(ended);
        let mut usage = self.intervals.close(work);
        usage.ended.extend(gone.into_iter().filter_map(|line| self.intervals.forget(line)));
        usage
    }

    /// Time without work is gathered, up to a minute; work is posted at once, after it.
    fn take(&mut self, interval: Interval, last: bool) {
        let idle = interval.usage == Usage::default() && interval.finished.is_empty();
        let same_rates = self.accountant.next_change_ms() > interval.to_ms;
        let rest = self.rest.take();
        if idle {
            let rest = match rest {
                Some(rest) if joined(&rest.energy, &interval.energy) => {
                    Interval { to_ms: interval.to_ms, energy: sum(&rest.energy, interval.energy), ..rest }
                }
                rest => {
                    self.close(rest);
                    interval
                }
            };
            let long = u128::from(rest.energy.interval_ns) >= REST.as_nanos();
            if long || last || !same_rates {
                self.close(Some(rest))
            } else {
                self.rest = Some(rest)
            }
            return;
        }
        self.close(rest);
        self.close(Some(interval));
    }

    fn close(&mut self, interval: Option<Interval>) {
        if let Some(interval) =
            interval.filter(|interval| interval.energy.interval_ns > 0 || !interval.finished.is_empty())
        {
            self.unposted.extend(self.accountant.close(interval));
        }
    }

    /// Posts what is left to post; gives whether all is posted.
    fn post(&mut self) -> bool {
        while let Some(batch) = self.unposted.first() {
            match self.books.ledger().submit(batch) {
                Err(Refused { refusal: Refusal::Unavailable { reason }, .. }) => {
                    tracing::warn!("the ledger does not take the costs of an interval yet: {reason}");
                    return false;
                }
                // Waiting would not help, and no further interval could be closed.
                Err(refused) => tracing::error!("the ledger refuses the costs of an interval: {refused}"),
                Ok(_) => lock(&self.shared.plant_meter).posted(batch),
            }
            self.unposted.remove(0);
        }
        true
    }
}

/// Whether two intervals can be told as one.
fn joined(first: &Energy, second: &Energy) -> bool {
    first.source == second.source
}

fn sum(first: &Energy, second: Energy) -> Energy {
    Energy {
        total_uj: first.total_uj.saturating_add(second.total_uj),
        idle_uj: first.idle_uj.saturating_add(second.idle_uj),
        active_uj: first.active_uj.saturating_add(second.active_uj),
        interval_ns: first.interval_ns.saturating_add(second.interval_ns),
        busy_ns: first.busy_ns.saturating_add(second.busy_ns),
        source: second.source,
    }
}

/// Of an interval without length.
fn nothing(sampler: &Sampler) -> Energy {
    Energy { total_uj: 0, idle_uj: 0, active_uj: 0, interval_ns: 0, busy_ns: 0, source: sampler.source() }
}

fn line_work(line: u64, work: Work) -> LineWork {
    let shares = |shares: Vec<(inference::RequestId, inference::MachineTime)>| {
        shares.into_iter().map(|(request, time)| (request.0, time.0)).collect()
    };
    let step =
        |step: inference::StepWork| Step { start_ns: step.start_ns, end_ns: step.end_ns, shares: shares(step.shares) };
    LineWork {
        line,
        now_ns: work.now_ns,
        step_since_ns: work.step_since_ns,
        first: work.first.map(step),
        others: shares(work.others),
    }
}

/// No change of what these locks hold can panic half way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use economics::books::cost_detail::Traffic;
    use economics::books::detail::Context;
    use economics::plant::{FixedCost, Plant, PlantSheet};
    use economics::{Currency, Quantities};
    use ledger::EntryId;
    use metering::intervals::Holder;

    use super::*;

    #[test]
    fn the_reading_has_what_tokens_and_traffic_of_ended_requests_cost() {
        let mut sheet = PlantSheet::example(&Currency::of("USD").unwrap());
        let training = FixedCost { name: "training".to_owned(), amount: Nano(3_000_000), ..FixedCost::default() };
        sheet.fixed.push(FixedCost { over_tokens: Some(1_000_000), ..training });
        let rates = Plant::new(sheet).unwrap().rates(now_ms()).unwrap();
        let ended = |sent| Finished {
            holder: Holder { line: 0, request: sent },
            id: EntryId([0; 16]),
            context: Context::default(),
            quantities: Quantities { in_uncached: 4, out_visible: 3, ..Quantities::default() },
            traffic: Traffic { received: 300, sent },
        };
        let second = plant::Interval { length_ns: 1_000_000_000, idle_uj: 8_000_000, active_uj: 10_000_000 };
        let amounts = Accrual::default().close(&rates, &second);
        let mut reading = Reading::default();
        reading.add(second.length_ns, &amounts, &rates, &[]);
        assert_eq!((reading.length_ns, reading.cost), (second.length_ns, amounts.total()));
        reading.add(0, &Amounts::default(), &rates, &[ended(2_000_000), ended(50)]);
        // A cent for 10⁹ bytes: 20,003 and, rounded, 4 (3.5) nano-units; seven tokens each at 3.
        let own = Nano(20_003 + 4 + 2 * 21);
        assert_eq!(reading.cost, amounts.total().saturating_add(own));
    }
}
