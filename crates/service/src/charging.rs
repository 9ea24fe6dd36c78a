//! The money side of requests: admitted before they run, granted tokens bit by bit, noted in the journal before a chunk
//! leaves, settled at their end.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use economics::Quantities;
use economics::books::{Admission, Books, End, Extension, Ticket};
use economics::limits::Standings;
use inference::Allowance;
use metering::{Journal, Outcome, Page, UsageRecord};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::UnboundedSender;

use crate::account::{Made, Parcel};
use crate::{Charge, LineError};

/// How long an extension is tried again while what is left is held by others; the engine's patience ends sooner or later
/// than that only if it is busy.
const EXTENSION_WAIT: Duration = Duration::from_millis(1500);
/// How often.
const EXTENSION_PAUSE: Duration = Duration::from_millis(20);
/// How long the end of a reply waits for its settlement to be on the disk.
const SETTLEMENT_WAIT: Duration = Duration::from_secs(10);

/// The books of a plant, and the thread that extends and settles, so that neither the engine nor a reader waits.
pub struct Charging {
    books: Arc<Books>,
    journal: Journal,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// At most one extension and one settlement of each open request are under way: the queue is bounded by the holds.
enum Job {
    Extend(Arc<Bill>),
    Settle(Box<Settling>),
}

impl Charging {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(books: Arc<Books>, journal: Journal) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new().name("books".to_owned()).spawn(move || run(&queue))?;
        Ok(Self { books, journal, jobs: Some(jobs), thread: Some(thread) })
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

    /// Takes the hold of a request and opens its page. `streamed`: chunks leave before the end.
    pub(crate) fn admit(&self, admission: Admission<'_>, streamed: bool) -> Result<Arc<Bill>, LineError> {
        let jobs = self.jobs.clone().ok_or(LineError::Closed)?;
        let ticket = self.books.admit(admission).map_err(LineError::Payment)?;
        let page = self.journal.begin(admission.id.0, &ticket.page()).map_err(|error| books_failed(&error))?;
        let granted = ticket.allowance();
        let all = granted >= admission.max_output;
        let allowance = Allowance::new(granted);
        if all {
            allowance.close();
        }
        Ok(Arc::new(Bill {
            low: granted / 2,
            covered: AtomicBool::new(all),
            standings: ticket.standings(),
            state: Mutex::new(State { ticket, granted, page: Some(page), due: false }),
            allowance,
            input_tokens: admission.input,
            streamed,
            jobs,
        }))
    }
}

impl Drop for Charging {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the books panicked");
        }
    }
}

/// What one request may cost, costs so far, and has cost.
pub(crate) struct Bill {
    state: Mutex<State>,
    /// How the rate limits stood at admission.
    standings: Standings,
    allowance: Allowance,
    /// More is asked for when no more than this is left.
    low: u64,
    /// Nothing is to be asked for: it was, or all is granted.
    covered: AtomicBool,
    input_tokens: u64,
    streamed: bool,
    jobs: Sender<Job>,
}

struct State {
    ticket: Ticket,
    /// Answer tokens that were ever granted.
    granted: u64,
    /// Gone once settled.
    page: Option<Page>,
    /// Something is to be charged: until it is, the page stays open for the next start.
    due: bool,
}

impl Drop for State {
    /// A request that never ran: its hold is released, its page closed.
    fn drop(&mut self) {
        let Some(page) = self.page.take().filter(|_| !self.due) else { return };
        if let Err(error) = self.ticket.void(now_ms()) {
            tracing::error!("a hold could not be released: {error}");
        }
        page.end();
    }
}

impl Bill {
    /// No change of the state can panic half way, so a poisoned lock holds a good state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    pub(crate) fn standings(&self) -> Standings {
        self.standings
    }

    /// A token was made: asks for more in time.
    pub(crate) fn token_made(self: &Arc<Self>) {
        if self.allowance.left() <= self.low && !self.covered.swap(true, Ordering::AcqRel) {
            // The thread is there as long as lines are; without it the engine's patience ends the request.
            let _ = self.jobs.send(Job::Extend(Arc::clone(self)));
        }
    }

    /// Gives whether the extension is decided; otherwise it is to be tried again.
    fn extend(&self) -> bool {
        let mut state = self.lock();
        match state.ticket.extend(now_ms()) {
            Extension::Granted(granted) => {
                self.allowance.grant(granted.saturating_sub(state.granted));
                state.granted = granted;
                self.covered.store(false, Ordering::Release);
                true
            }
            Extension::Held => false,
            Extension::Spent => {
                self.allowance.close();
                true
            }
            Extension::Unavailable(reason) => {
                tracing::error!("a request ends early because the books take no extension: {reason}");
                self.allowance.close();
                true
            }
        }
    }

    /// Notes what a chunk that is about to leave stands for. `cached`: prompt tokens from the prefix cache.
    pub(crate) fn note(&self, made: Made, cached: u64) -> Result<(), LineError> {
        if !self.streamed {
            // It is settled before it leaves.
            return Ok(());
        }
        let quantities = Quantities {
            in_uncached: self.input_tokens.saturating_sub(cached),
            in_cached: cached,
            out_visible: made.visible,
            out_reasoning: made.reasoning,
        };
        let mut state = self.lock();
        state.due = true;
        let progress = state.ticket.progress(&quantities);
        let Some(page) = &state.page else { return Ok(()) };
        page.progress(&progress).map_err(|error| books_failed(&error))
    }

    /// Settles what was used; the reader's last parcel follows once it is on the disk.
    pub(crate) fn settle(
        self: Arc<Self>,
        record: Box<UsageRecord>,
        failure: Option<LineError>,
        reader: Option<UnboundedSender<Parcel>>,
    ) {
        let jobs = self.jobs.clone();
        let settling = Box::new(Settling { bill: self, record, failure, reader });
        if let Err(unsent) = jobs.send(Job::Settle(settling))
            && let Job::Settle(settling) = unsent.0
        {
            // The thread has ended: the hold is settled from the journal at the next start.
            settling.end(Err(LineError::Closed));
        }
    }

    fn end_page(&self) {
        let page = self.lock().page.take();
        if let Some(page) = page {
            page.end();
        }
    }
}

/// A request that has ended and whose reader waits for the settlement.
struct Settling {
    bill: Arc<Bill>,
    record: Box<UsageRecord>,
    failure: Option<LineError>,
    reader: Option<UnboundedSender<Parcel>>,
}

impl Settling {
    /// Sends the last parcel.
    fn end(self, charge: Result<Option<Charge>, LineError>) {
        let Self { record, failure, reader, .. } = self;
        let (charge, failure) = match charge {
            Ok(charge) => (charge, failure),
            Err(error) => (None, failure.or(Some(error))),
        };
        // A reader that has gone needs nothing.
        if let Some(reader) = reader {
            let _ = reader.send(Parcel::Ended(failure, record, charge));
        }
    }
}

/// Taken by whoever comes first: the writer that made the settlement durable, or the end of the wait.
type Waiting = Arc<Mutex<Option<(Box<Settling>, Option<Charge>)>>>;

/// The thread. It ends when nobody can send any more.
fn run(queue: &Receiver<Job>) {
    let mut waiting: VecDeque<(Instant, Waiting)> = VecDeque::new();
    let mut extending: Vec<(Instant, Arc<Bill>)> = Vec::new();
    loop {
        let next = waiting.front().map(|(deadline, _)| deadline.saturating_duration_since(Instant::now()));
        let pause = (!extending.is_empty()).then_some(EXTENSION_PAUSE);
        let job = match next.into_iter().chain(pause).min() {
            None => queue.recv().map_err(|_gone| RecvTimeoutError::Disconnected),
            Some(wait) => queue.recv_timeout(wait),
        };
        match job {
            Ok(Job::Extend(bill)) => extending.push((Instant::now() + EXTENSION_WAIT, bill)),
            Ok(Job::Settle(settling)) => {
                if let Some(entry) = settle(settling) {
                    waiting.push_back((Instant::now() + SETTLEMENT_WAIT, entry));
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        extending.retain(|(deadline, bill)| {
            let open = !bill.extend();
            if open && *deadline <= now {
                bill.allowance.close();
            }
            open && *deadline > now
        });
        while let Some((_, entry)) = waiting.pop_front_if(|(deadline, entry)| *deadline <= now || is_over(entry)) {
            if let Some((settling, _)) = entry.lock().unwrap_or_else(PoisonError::into_inner).take() {
                tracing::error!(request_id = settling.record.request_id, "the settlement is not on the disk yet");
                settling.end(Err(LineError::internal("the books could not be written in time")));
            }
        }
    }
}

fn is_over(entry: &Waiting) -> bool {
    entry.lock().unwrap_or_else(PoisonError::into_inner).is_none()
}

/// Posts the actual. Gives what waits for the disk.
fn settle(settling: Box<Settling>) -> Option<Waiting> {
    let (quantities, end) = (quantities(&settling.record), end_of(&settling.record));
    // The plant's own failure before anything was made costs nothing.
    if quantities == Quantities::default() || (end == End::Failed && settling.record.completion_tokens() == 0) {
        if let Err(error) = settling.bill.lock().ticket.void(now_ms()) {
            tracing::error!(request_id = settling.record.request_id, "a hold could not be released: {error}");
        }
        settling.bill.end_page();
        settling.end(Ok(None));
        return None;
    }
    let settled = {
        let mut state = settling.bill.lock();
        state.due = true;
        state.ticket.settle(&quantities, end, now_ms())
    };
    let settlement = match settled {
        Ok(settlement) => settlement,
        Err(error) => {
            tracing::error!(request_id = settling.record.request_id, "a request could not be settled: {error}");
            settling.end(Err(LineError::internal("the books could not take the settlement")));
            return None;
        }
    };
    let bill = Arc::clone(&settling.bill);
    let waiting: Waiting = Arc::new(Mutex::new(Some((settling, Some(settlement.charge)))));
    let written = Arc::clone(&waiting);
    settlement.receipt.on_durable(Box::new(move |durable| match durable {
        Ok(()) => finish(&written, &bill),
        // The page stays open: the next start settles it.
        Err(error) => tracing::error!("a settlement was lost: {error}"),
    }));
    Some(waiting)
}

/// The settlement is on the disk.
fn finish(waiting: &Waiting, bill: &Bill) {
    bill.end_page();
    let settling = waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((settling, charge)) = settling {
        settling.end(Ok(charge));
    }
}

fn quantities(record: &UsageRecord) -> Quantities {
    Quantities {
        in_uncached: record.input_uncached_tokens,
        in_cached: record.input_cached_tokens,
        out_visible: record.output_tokens,
        out_reasoning: record.reasoning_tokens.unwrap_or(0),
    }
}

fn end_of(record: &UsageRecord) -> End {
    use metering::FinishReason;
    let any = |reason| record.finish_reasons.contains(&reason);
    match record.outcome {
        Outcome::Cancelled => End::Cancelled,
        Outcome::Failed => End::Failed,
        Outcome::Ok if any(FinishReason::Budget) => End::Budget,
        Outcome::Ok if any(FinishReason::Length) => End::Length,
        Outcome::Ok => End::Stop,
    }
}

fn books_failed(error: &io::Error) -> LineError {
    LineError::internal(format!("the journal of the books could not be written: {error}"))
}

/// The ledger's id of a request: its own when the text ends with one (32 hexadecimal digits, then `-n` for the n-th prompt
/// of several), else a hash of the text.
#[must_use]
pub fn entry_id(text: &str) -> [u8; 16] {
    let (head, number) = match text.rsplit_once('-') {
        Some((head, number)) if number.len() < 10 => (head, number.parse::<u128>().ok()),
        _ => (text, None),
    };
    let own = |text: &str| {
        let digits = text.get(text.len().checked_sub(32)?..)?;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u128::from_str_radix(digits, 16).ok())?
    };
    let id = match number {
        Some(number) => own(head).map(|id| id.wrapping_add(number)),
        None => own(text),
    };
    id.map_or_else(|| hashed(text), u128::to_be_bytes)
}

fn hashed(text: &str) -> [u8; 16] {
    let digest = Sha256::digest(text.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    id
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_ids_of_their_own() {
        let base = "chatcmpl-0193570b1d2c4f00aabbccddeeff0011";
        let id = entry_id(base);
        assert_eq!(id[..4], [0x01, 0x93, 0x57, 0x0b]);
        assert_eq!(entry_id(&format!("{base}-0")), id);
        let third = entry_id(&format!("{base}-2"));
        assert_eq!((id[15], third[15], id[..15] == third[..15]), (0x11, 0x13, true));
        for other in ["run", "", "chatcmpl-0193", "cmpl-é-1", &"g".repeat(40)] {
            assert_ne!(entry_id(other), id);
            assert_eq!(entry_id(other), hashed(other), "{other}");
        }
    }
}
