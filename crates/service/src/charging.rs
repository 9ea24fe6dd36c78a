//! The money side of requests: admitted before they run, granted tokens bit by bit, noted in the journal before a chunk
//! leaves, settled at their end.

mod id;
mod open;
mod settling;
mod worker;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use economics::Quantities;
use economics::books::cost_detail::Traffic;
use economics::books::costs::Finished;
use economics::books::detail::Context;
use economics::books::{Admission, AdmitError, Books, Service};
use economics::limits::Standings;
use inference::{Allowance, Engine};
use ledger::EntryId;
use metering::intervals::Holder;
use metering::{Family, Journal, Objectives, UsageRecord};
use tokio::sync::mpsc::UnboundedSender;

use crate::account::{Made, Parcel};
use crate::costing::{Costing, LineNumber, Reading};
use crate::{LineError, TrafficCount};
use open::Open;
use settling::{Reader, Settling, end_of, quantities};
use worker::{Job, Worker};

pub use id::entry_id;

/// Most holds that are looked for at a time, since nobody knows whether they were taken; others run out by themselves.
const MAX_DOUBTS: usize = 10_000;

/// How long requests wait for the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// How long a running request waits for more tokens while other requests hold the money, or the store is slow. Less
    /// than the engine's patience, so that it ends with the right reason.
    pub extension: Duration,
    /// How long one that makes no token waits while others hold the money: these may stand still as well, each waiting for
    /// the others, and it keeps its place in the engine meanwhile.
    pub held: Duration,
    /// How long the end of an answer waits for its settlement to be on the disk; then the journal vouches for it.
    pub settlement: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self { extension: Duration::from_secs(28), held: Duration::from_secs(1), settlement: Duration::from_secs(10) }
    }
}

/// The books of a plant, and the thread that extends and settles, so that neither the engine nor a reader waits for the
/// ledger.
pub struct Charging {
    books: Arc<Books>,
    journal: Arc<Journal>,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Shared by all holds that are looked for.
    doubts: Arc<()>,
    /// Keeps what requests cost the plant, if that is kept.
    costing: Option<Arc<Costing>>,
    objectives: Objectives,
}

impl Charging {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(books: Arc<Books>, journal: Journal) -> io::Result<Self> {
        Self::with(books, journal, Waits::default())
    }

    /// Starts the thread, with other waits.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn with(books: Arc<Books>, journal: Journal, waits: Waits) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let journal = Arc::new(journal);
        let worker = Worker::new(Arc::clone(&books), Arc::clone(&journal), queue, waits);
        let thread = std::thread::Builder::new().name("books".to_owned()).spawn(move || worker.run())?;
        let (doubts, objectives) = (Arc::new(()), Objectives::default());
        Ok(Self { books, journal, jobs: Some(jobs), thread: Some(thread), doubts, costing: None, objectives })
    }

    /// The same, with what requests cost the plant kept too.
    #[must_use]
    pub fn costed(self, costing: Costing) -> Self {
        // A part of it cannot be taken out of what has a `Drop`.
        let mut charging = self;
        charging.costing = Some(Arc::new(costing));
        charging
    }

    /// The same, with it noted of each request whether it met these.
    #[must_use]
    pub fn held_to(self, objectives: Objectives) -> Self {
        let mut charging = self;
        charging.objectives = objectives;
        charging
    }

    /// What the plant has used and cost since its start, if costs are kept.
    #[must_use]
    pub fn reading(&self) -> Option<Reading> {
        self.costing.as_ref().map(|costing| costing.reading())
    }

    /// The same by source, model and so on, as metrics; none where costs are not kept.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        self.costing.as_ref().map(|costing| costing.families()).unwrap_or_default()
    }

    /// Counts the work of a line's engine, if costs are kept.
    pub(crate) fn register(&self, engine: &Arc<dyn Engine>) -> Option<Arc<LineNumber>> {
        self.costing.as_ref().map(|costing| Arc::new(costing.register(Arc::clone(engine))))
    }

    /// The books themselves.
    #[must_use]
    pub fn books(&self) -> &Arc<Books> {
        &self.books
    }

    /// Requests that are admitted and not settled yet.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.journal.open_pages()
    }

    /// Why no new request can be taken now; `None` when all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let ledger = self.books.ledger();
        let fault = || ledger.sound().err().map(|fault| fault.to_string());
        self.journal.trouble().or_else(fault).or_else(|| ledger.trouble())
    }

    /// Takes the hold of a request and opens its page. `streamed`: chunks leave before the end.
    pub(crate) fn admit(
        &self,
        admission: Admission<'_>,
        streamed: bool,
        traffic: Option<TrafficCount>,
    ) -> Result<Arc<Bill>, LineError> {
        let jobs = self.jobs.clone().ok_or(LineError::Closed)?;
        let ticket = self.books.admit(admission).map_err(|error| {
            if matches!(error, AdmitError::Unavailable(_)) {
                self.doubt(admission.id);
            }
            LineError::Payment(error)
        })?;
        let (start, granted, standings) = (ticket.page(), ticket.allowance(), ticket.standings());
        let costed = self.costing.as_ref().map(|costing| Costed {
            costing: Arc::clone(costing),
            id: admission.id,
            context: ticket.context().clone(),
            holder: OnceLock::new(),
            traffic,
        });
        let bill = Bill {
            open: Arc::new(Open::new(ticket, streamed, admission.max_output)),
            standings,
            low: granted / 2,
            granted,
            input_tokens: admission.input,
            jobs,
            handed: AtomicBool::new(false),
            costed,
            objectives: self.objectives,
        };
        // If this fails the bill's end releases the hold.
        let page = self.journal.begin(admission.id.0, &start).map_err(|error| books_closed(&error))?;
        bill.open.set_page(page);
        Ok(Arc::new(bill))
    }

    /// A store that other processes share may have taken the hold all the same.
    fn doubt(&self, id: EntryId) {
        if Arc::strong_count(&self.doubts) <= MAX_DOUBTS
            && !self.journal.is_open(&id.0)
            && let Some(jobs) = &self.jobs
        {
            let _ = jobs.send(Job::Doubt(id, Arc::clone(&self.doubts)));
        }
    }
}

impl Drop for Charging {
    /// Waits for what is under way, though not for ever: the next start settles what the journal still has.
    fn drop(&mut self) {
        if let Some(jobs) = self.jobs.take() {
            let _ = jobs.send(Job::Close);
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the books panicked");
        }
        let open = self.journal.open_pages();
        if open > 0 {
            tracing::warn!("{open} answers are not settled yet: the journal has them, and the next start charges them");
        }
    }
}

/// What one request may cost, costs so far, and has cost. None of its methods waits for the ledger.
pub(crate) struct Bill {
    open: Arc<Open>,
    /// How the rate limits stood at admission.
    standings: Standings,
    /// More is asked for when no more than this is left.
    low: u64,
    /// Granted at admission.
    granted: u64,
    input_tokens: u64,
    jobs: Sender<Job>,
    /// The thread has it to settle.
    handed: AtomicBool,
    /// What tells its cost, if costs are kept.
    costed: Option<Costed>,
    objectives: Objectives,
}

/// A request whose cost is kept.
struct Costed {
    costing: Arc<Costing>,
    id: EntryId,
    context: Context,
    /// By which its engine knows it.
    holder: OnceLock<Holder>,
    traffic: Option<TrafficCount>,
}

impl Bill {
    /// An engine is about to take it.
    pub(crate) fn held_by(&self, holder: Holder) {
        if let Some(costed) = &self.costed {
            // It goes to one engine, once.
            let _ = costed.holder.set(holder);
        }
    }

    pub(crate) fn allowance(&self) -> Allowance {
        self.open.allowance().clone()
    }

    pub(crate) fn standings(&self) -> Standings {
        self.standings
    }

    /// The first tokens of all candidates come together, and not before all are granted.
    pub(crate) fn begin(&self, candidates: u32) {
        if self.granted < u64::from(candidates) {
            self.ask();
        }
    }

    /// A token was made: asks for more in time.
    pub(crate) fn token_made(&self) {
        if self.open.allowance().left() <= self.low {
            self.ask();
        }
    }

    fn ask(&self) {
        if !self.open.asked() {
            // The thread is there as long as lines are; without it the engine's patience ends the request.
            let _ = self.jobs.send(Job::Extend(Arc::clone(&self.open)));
        }
    }

    /// Whether the allowance ended because the money did, and not because the books could not be asked.
    pub(crate) fn is_spent(&self) -> bool {
        self.open.is_spent()
    }

    /// Notes what a piece that is about to leave stands for. `cached`: prompt tokens from the prefix cache.
    pub(crate) fn note(&self, made: Made, cached: u64) -> Result<(), LineError> {
        if !self.open.is_streamed() {
            // It is settled before it leaves.
            return Ok(());
        }
        self.open.note(&Quantities {
            in_uncached: self.input_tokens.saturating_sub(cached),
            in_cached: cached,
            out_visible: made.visible,
            out_reasoning: made.reasoning,
        })
    }

    /// Nothing of it was delivered and nothing will be, by the server's own decision: it costs nothing.
    pub(crate) fn withdraw(&self) {
        self.open.shut(LineError::internal("the request was withdrawn"));
        if self.handed.load(Ordering::Acquire) {
            // It may be charged already; behind its settlement.
            let _ = self.jobs.send(Job::Undo(Arc::clone(&self.open)));
        }
    }

    /// Settles what was used; the reader's last parcel follows once it is on the disk.
    pub(crate) fn settle(
        &self,
        record: Box<UsageRecord>,
        failure: Option<LineError>,
        sender: Option<UnboundedSender<Parcel>>,
    ) {
        self.handed.store(true, Ordering::Release);
        if let Some((costed, holder)) = self.costed.as_ref().and_then(|costed| Some((costed, *costed.holder.get()?))) {
            let Costed { costing, id, context, traffic, .. } = costed;
            let (context, quantities) = (context.clone(), quantities(&record));
            let finished = Finished { holder, id: *id, context, quantities, traffic: Traffic::default() };
            costing.finished(finished, traffic.clone());
        }
        let due = self.open.due(quantities(&record), end_of(&record), failure.as_ref());
        let service = match self.objectives.met(&record) {
            None => Service::Unstated,
            Some(true) if failure.is_none() => Service::Met,
            Some(_) => Service::Missed,
        };
        let reader = Some(Reader { sender, record, failure });
        let settling = Box::new(Settling { open: Arc::clone(&self.open), due, service, reader });
        if let Err(unsent) = self.jobs.send(Job::Settle(settling))
            && let Job::Settle(mut settling) = unsent.0
        {
            // The thread has ended: the hold is settled from the journal at the next start.
            settling.tell(Err(LineError::Closed));
        }
    }
}

impl Drop for Bill {
    /// A request that never ran: its hold is released, its page closed.
    fn drop(&mut self) {
        if !self.handed.load(Ordering::Acquire) {
            let _ = self.jobs.send(Job::Undo(Arc::clone(&self.open)));
        }
    }
}

/// No change of what these locks hold can panic half way, so a poisoned one holds a good state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The journal takes nothing: a full or failing disk.
fn books_closed(error: &io::Error) -> LineError {
    LineError::Payment(AdmitError::Unavailable(format!("their journal cannot be written: {error}")))
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
