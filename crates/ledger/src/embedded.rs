//! Decisions in memory, storage behind: one mutex makes the order, one thread writes it in groups.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::book::{Book, Decision};
use crate::error::{NotDurable, OpenError, Refusal, Refused, StoreError};
use crate::group::Group;
use crate::ledger::Options;
use crate::mark::Mark;
use crate::receipt::{Fate, Receipt};
use crate::store::{self, Head, Sql, StoreHistory};
use crate::tally::Summary;
use crate::types::{Batch, Command, Outcome};

/// Batches of one transaction.
const GROUP_MAX: usize = 4_096;

/// How long the writer waits before it tries a failed transaction again.
const RETRY: Duration = Duration::from_millis(200);

/// What submitters and the writer share.
pub(crate) struct Desk {
    state: Mutex<State>,
    wake: Condvar,
    queue_bytes: usize,
    /// What was found wrong with the store while it was in use.
    fault: OnceLock<StoreError>,
}

pub(crate) struct State {
    pub(crate) book: Book,
    history: Box<dyn Sql>,
    queue: VecDeque<Job>,
    queued_bytes: usize,
    /// Someone waits for the disk.
    urgent: bool,
    /// Why the last transaction failed.
    trouble: Option<String>,
    closed: bool,
}

struct Job {
    decision: Decision,
    fate: Arc<Fate>,
    bytes: usize,
}

impl Desk {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing comes to the disk now.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// The store is wrong: no new work, and nothing of it is shown. What is open can still be settled.
    pub(crate) fn close_to_all(&self, fault: StoreError) {
        let _ = self.fault.set(fault);
    }

    /// Nothing was found wrong so far.
    pub(crate) fn sound(&self) -> Result<(), StoreError> {
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// Decides a batch and queues what it changes, in one step.
    pub(crate) fn submit(&self, batch: &Batch) -> Result<Receipt, Refused> {
        let bytes = batch_bytes(batch);
        let mut state = self.lock();
        self.check_room(&state, batch, bytes).map_err(|refusal| Refused { index: 0, refusal })?;
        let State { book, history, .. } = &mut *state;
        let mut decision = book.apply(batch, &mut StoreHistory(history.as_mut()))?;
        let outcomes: Vec<Outcome> = std::mem::take(&mut decision.outcomes);
        // Holds need not be awaited, so they may wait for company. A batch without any change is a question whether
        // what came before it is on the disk.
        let urgent = !decision.entries.is_empty() || decision.holds.is_empty();
        let fate = Fate::open();
        let wake = state.queue.is_empty() || (urgent && !state.urgent);
        state.urgent |= urgent;
        state.queued_bytes = state.queued_bytes.saturating_add(bytes);
        state.queue.push_back(Job { decision, fate: Arc::clone(&fate), bytes });
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(Receipt { outcomes, fate })
    }

    /// New work stops while the store fails or half of the queue is full, so that what is open can still be settled.
    fn check_room(&self, state: &State, batch: &Batch, bytes: usize) -> Result<(), Refusal> {
        let unavailable = |reason: &str| Err(Refusal::Unavailable { reason: reason.to_owned() });
        let opens = |command: &Command| {
            !matches!(
                command,
                Command::Settle { .. } | Command::Void { .. } | Command::Expire { .. } | Command::Expect { .. }
            )
        };
        let new_work = batch.commands.iter().any(opens);
        if state.closed {
            return unavailable("it is closed");
        }
        if new_work && let Err(fault) = self.sound() {
            return unavailable(&fault.to_string());
        }
        if let Some(trouble) = state.trouble.as_ref().filter(|_| new_work) {
            return unavailable(trouble);
        }
        let room = if new_work { self.queue_bytes / 2 } else { self.queue_bytes };
        if state.queued_bytes.saturating_add(bytes) > room { unavailable("the store is behind") } else { Ok(()) }
    }
}

/// About what a batch takes in memory until it is written.
fn batch_bytes(batch: &Batch) -> usize {
    let bytes = |command: &Command| match command {
        Command::Post { legs, detail, .. } | Command::Settle { legs, detail, .. } => {
            legs.len().saturating_mul(80).saturating_add(detail.len())
        }
        Command::Hold { reserves, detail, .. } => reserves.len().saturating_mul(80).saturating_add(detail.len()),
        Command::Extend { reserves, .. } => reserves.len().saturating_mul(80),
        Command::Put { body, .. } => body.len(),
        _ => 0,
    };
    batch.commands.iter().fold(256, |sum, command| sum.saturating_add(bytes(command)).saturating_add(256))
}

/// The one who writes. [`Writer::run`] is its thread; the simulation takes its steps by hand.
pub(crate) struct Writer {
    pub(crate) desk: Arc<Desk>,
    sql: Box<dyn Sql>,
    id: u32,
    head: Head,
    summary: Option<Arc<dyn Summary>>,
    linger: Duration,
    group: Group,
    fates: Vec<Arc<Fate>>,
    mark: Mark,
    /// The last try to write the mark went well: what goes on failing is told of once.
    marked: bool,
}

impl Writer {
    /// Checks and loads the store behind `sql`; `history` is a second connection to it, `mark` lies beside it.
    pub(crate) fn open(
        mut sql: Box<dyn Sql>,
        history: Box<dyn Sql>,
        mark: Mark,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let book = store::load(sql.as_mut(), options.writer)?;
        store::check_tail(sql.as_mut(), book.seq)?;
        let heads = store::heads(sql.as_mut())?;
        let head = heads.into_iter().find(|(id, _)| *id == options.writer).map(|(_, head)| head).unwrap_or_default();
        let state = State {
            book,
            history,
            queue: VecDeque::new(),
            queued_bytes: 0,
            urgent: false,
            trouble: None,
            closed: false,
        };
        let desk = Desk {
            state: Mutex::new(state),
            wake: Condvar::new(),
            queue_bytes: options.queue_bytes,
            fault: OnceLock::new(),
        };
        let mut writer = Self {
            desk: Arc::new(desk),
            sql,
            id: options.writer,
            head,
            summary: options.summary.clone(),
            linger: options.linger,
            group: Group::default(),
            fates: Vec::new(),
            mark,
            marked: true,
        };
        writer.note();
        Ok(writer)
    }

    /// Notes in the mark what is on the disk. An older mark tells of less, but of nothing wrong, so work goes on without.
    fn note(&mut self) {
        let written = self.mark.set(self.id, &self.head);
        if let (Err(error), true) = (&written, self.marked) {
            tracing::warn!("the mark of the ledger's last entry could not be written: {error}");
        }
        self.marked = written.is_ok();
    }

    fn run(mut self) {
        while self.wait() {
            self.gather();
            while let Err(error) = self.commit() {
                self.report(&error);
                if !self.pause() {
                    let queued = std::mem::take(&mut self.desk.lock().queue);
                    self.fates.extend(queued.into_iter().map(|job| job.fate));
                    let lost = Err(NotDurable::Lost(error.to_string()));
                    self.fates.drain(..).for_each(|fate| fate.end(lost.clone()));
                    return;
                }
            }
        }
    }

    /// Waits for work; `false`: closed, and all is written.
    fn wait(&self) -> bool {
        let idle = |state: &mut State| state.queue.is_empty() && !state.closed;
        let state = self.desk.wake.wait_while(self.desk.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let calm = |state: &mut State| !state.urgent && !state.closed;
        let waited = self.desk.wake.wait_timeout_while(state, self.linger, calm);
        !waited.unwrap_or_else(PoisonError::into_inner).0.queue.is_empty()
    }

    /// Takes what is queued into the group.
    pub(crate) fn gather(&mut self) {
        let mut jobs = Vec::new();
        {
            let mut state = self.desk.lock();
            let count = state.queue.len().min(GROUP_MAX);
            jobs.extend(state.queue.drain(..count));
            let taken = jobs.iter().fold(0_usize, |sum, job| sum.saturating_add(job.bytes));
            state.queued_bytes = state.queued_bytes.saturating_sub(taken);
            state.urgent = !state.queue.is_empty();
        }
        self.group = Group::default();
        self.head.turn = self.head.turn.saturating_add(1);
        for Job { decision, fate, .. } in jobs {
            self.group.add(decision, &mut self.head, self.summary.as_deref());
            self.fates.push(fate);
        }
    }

    /// Writes the group and tells those who wait. After an error the group is still there, to be tried again.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        if !self.group.is_empty() {
            let written = self.sql.run("BEGIN IMMEDIATE").and_then(|()| {
                self.group.write(self.sql.as_mut(), self.id, &self.head)?;
                self.sql.run("COMMIT")
            });
            if let Err(error) = written {
                // Fails when the store has rolled back by itself.
                let _ = self.sql.run("ROLLBACK");
                return Err(error);
            }
            self.note();
        }
        let mut state = self.desk.lock();
        state.trouble = None;
        for entry in self.group.entries() {
            if let Some(id) = &entry.id {
                state.book.recent.remove(id);
            }
        }
        drop(state);
        self.fates.drain(..).for_each(|fate| fate.end(Ok(())));
        Ok(())
    }

    /// After a failed commit: no new work.
    pub(crate) fn report(&self, error: &StoreError) {
        if self.desk.lock().trouble.replace(error.to_string()).is_none() {
            tracing::error!("the ledger takes no new work: {error}; what is under way is kept and tried again");
        }
    }

    /// Waits before the next try. `false`: the ledger closes, so this was the last one.
    fn pause(&self) -> bool {
        let state = self.desk.lock();
        let open = |state: &mut State| !state.closed;
        let waited = self.desk.wake.wait_timeout_while(state, RETRY, open).unwrap_or_else(PoisonError::into_inner);
        !waited.0.closed
    }
}

/// The writer's thread; dropping it closes the ledger after all decided batches are written.
pub(crate) struct Thread {
    desk: Arc<Desk>,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    pub(crate) fn start(writer: Writer) -> Result<Self, StoreError> {
        let desk = Arc::clone(&writer.desk);
        let spawned = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run());
        let handle = spawned.map_err(|error| StoreError::Failed(format!("no thread for the ledger: {error}")))?;
        Ok(Self { desk, handle: Some(handle) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.desk.lock().closed = true;
        self.desk.wake.notify_all();
        // A callback may hold the last handle: the writer can't wait for itself.
        if let Some(handle) = self.handle.take().filter(|handle| handle.thread().id() != std::thread::current().id()) {
            let _ = handle.join();
        }
    }
}
