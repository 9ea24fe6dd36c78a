//! The thread of the books: whatever asks the ledger for something that may take long.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use economics::books::{Books, Extension};
use ledger::EntryId;
use metering::Journal;

use super::open::Open;
use super::settling::{Decided, Settling};
use super::{Waits, now_ms};
use crate::LineError;

/// Between the first tries of what the ledger does not take yet; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause of extensions: a reader waits for them.
const EXTENSION_PAUSE: Duration = Duration::from_millis(320);
/// The longest pause of anything else.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often holds whose time is over are ended.
const SWEEP: Duration = Duration::from_secs(3_600);

/// Each open request has at most one extension, one settlement or release and one withdrawal under way: the queue is
/// bounded by the holds.
pub(super) enum Job {
    Extend(Arc<Open>),
    Settle(Box<Settling>),
    /// Nothing of it was delivered.
    Undo(Arc<Open>),
    /// A hold that may have been taken, though the ledger did not say so.
    Doubt(EntryId, Arc<()>),
    /// End soon.
    Close,
}

/// What is tried until the ledger takes it.
enum Task {
    Settle(Box<Settling>, Instant),
    Undo(Arc<Open>),
    /// A charge to be given back once it is on the disk.
    GiveBack(Decided),
    Doubt(EntryId, Arc<()>),
}

struct Again {
    task: Task,
    at: Instant,
    pause: Duration,
}

impl Again {
    /// When there is something to do: to try it, or to tell its reader.
    fn due(&self) -> Instant {
        match &self.task {
            Task::Settle(settling, deadline) if settling.reader.is_some() => self.at.min(*deadline),
            _ => self.at,
        }
    }
}

struct Extending {
    open: Arc<Open>,
    deadline: Instant,
    at: Instant,
    pause: Duration,
    /// Tokens that were left at the last attempt, and since when there are as many.
    left: (u64, Instant),
}

impl Extending {
    /// Gives whether it is to be tried again. `held`: how long it may stand still while others hold the money.
    fn attempt(&mut self, now: Instant, held: Duration) -> bool {
        let left = self.open.allowance().left();
        if left != self.left.0 {
            self.left = (left, now);
        }
        let starved = now.saturating_duration_since(self.left.1) >= held;
        let extension = self.open.extend();
        let late = self.deadline <= now;
        match extension {
            Extension::Granted(_) | Extension::Spent => return false,
            Extension::Ended => {
                tracing::error!("{} ends early because another server took it for gone", self.open.id());
                return false;
            }
            Extension::Held if late || starved => {
                self.open.close(true);
                return false;
            }
            Extension::Unavailable(reason) if late => {
                tracing::error!("{} ends early because the books take no extension: {reason}", self.open.id());
                self.open.close(false);
            }
            Extension::Held | Extension::Unavailable(_) => {}
        }
        self.at = now + self.pause;
        self.pause = (self.pause * 2).min(EXTENSION_PAUSE);
        !late
    }
}

/// The thread's state.
pub(super) struct Worker {
    books: Arc<Books>,
    journal: Arc<Journal>,
    jobs: Receiver<Job>,
    waits: Waits,
    /// Settlements on their way to the disk, each with the end of its reader's wait; in order.
    decided: VecDeque<(Instant, Decided)>,
    extending: Vec<Extending>,
    /// At most two for each hold: its settlement, and behind it its withdrawal.
    again: Vec<Again>,
    sweep_at: Instant,
    /// When the thread ends, whatever is left.
    close_at: Option<Instant>,
    /// Nobody can send any more.
    gone: bool,
}

impl Worker {
    pub(super) fn new(books: Arc<Books>, journal: Arc<Journal>, jobs: Receiver<Job>, waits: Waits) -> Self {
        Self {
            books,
            journal,
            jobs,
            waits,
            decided: VecDeque::new(),
            extending: Vec::new(),
            again: Vec::new(),
            sweep_at: Instant::now(),
            close_at: None,
            gone: false,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            if let Some(job) = self.next_job() {
                self.take(job);
            }
            let now = Instant::now();
            let held = self.waits.held;
            self.extending.retain_mut(|extending| extending.at > now || extending.attempt(now, held));
            self.retry(now);
            self.hurry(now);
            if self.sweep_at <= now {
                self.sweep(now);
            }
            let idle = self.decided.is_empty() && self.extending.is_empty() && self.again.is_empty();
            if (self.gone && idle) || self.close_at.is_some_and(|at| at <= now) {
                return self.part();
            }
        }
    }

    /// Waits for a job, or until something is due.
    fn next_job(&mut self) -> Option<Job> {
        let decided = self.decided.front().map(|(deadline, _)| *deadline);
        let tries = self.again.iter().map(Again::due).chain(self.extending.iter().map(|extending| extending.at));
        let due = tries.chain(decided).chain(self.close_at).chain([self.sweep_at]).min();
        let wait = due.map_or(SWEEP, |due| due.saturating_duration_since(Instant::now()));
        if self.gone {
            // What comes to the disk wakes nobody.
            std::thread::sleep(wait.min(FIRST_PAUSE));
            return None;
        }
        match self.jobs.recv_timeout(wait) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.gone = true;
                None
            }
        }
    }

    fn take(&mut self, job: Job) {
        let now = Instant::now();
        let task = match job {
            Job::Extend(open) => {
                let deadline = now + self.waits.extension;
                let left = (open.allowance().left(), now);
                self.extending.push(Extending { open, deadline, at: now, pause: FIRST_PAUSE, left });
                return;
            }
            Job::Close => {
                self.close_at = Some(now + self.waits.settlement);
                return;
            }
            Job::Settle(settling) if settling.due.is_some() => Task::Settle(settling, now + self.waits.settlement),
            Job::Settle(mut settling) => {
                settling.tell(Ok(None));
                Task::Undo(settling.open)
            }
            Job::Undo(open) => Task::Undo(open),
            Job::Doubt(id, count) => Task::Doubt(id, count),
        };
        // Where others wait already it waits behind them.
        let left = if self.again.is_empty() { self.attempt(task) } else { Some(task) };
        if let Some(task) = left {
            self.again.push(Again { task, at: now + FIRST_PAUSE, pause: 2 * FIRST_PAUSE });
        }
    }

    /// Tries what is due, until something is refused: others come first then, since each try may take long.
    fn retry(&mut self, now: Instant) {
        let mut refused = false;
        for again in std::mem::take(&mut self.again) {
            if refused || again.at > now {
                self.again.push(again);
            } else if let Some(task) = self.attempt(again.task) {
                let pause = (again.pause * 2).min(LONGEST_PAUSE);
                self.again.push(Again { task, at: now + again.pause, pause });
                refused = true;
            }
        }
    }

    /// Gives back what is to be tried again.
    fn attempt(&mut self, task: Task) -> Option<Task> {
        match task {
            Task::Settle(settling, deadline) => self.settle(settling, deadline),
            Task::Undo(open) => match open.undo() {
                Err(error) if error.is_temporary() => Some(Task::Undo(open)),
                result => {
                    if let Err(error) = result {
                        tracing::error!("{} should cost nothing, but could not be undone: {error}", open.id());
                    }
                    open.end_page();
                    None
                }
            },
            Task::GiveBack(decided) if decided.is_unowed() => self.attempt(Task::Undo(Arc::clone(decided.open()))),
            Task::GiveBack(decided) => Some(Task::GiveBack(decided)),
            Task::Doubt(id, count) => match self.books.undo(id, now_ms()) {
                Err(error) if error.is_temporary() => Some(Task::Doubt(id, count)),
                // What cannot be undone runs out by itself.
                _ => None,
            },
        }
    }

    /// Posts the actual.
    fn settle(&mut self, mut settling: Box<Settling>, deadline: Instant) -> Option<Task> {
        let (used, end) = settling.due?;
        match settling.open.settle(&used, end, settling.service) {
            Ok(settled) => {
                self.decided.push_back((deadline, settling.decided(settled)));
                None
            }
            Err(error) if error.is_temporary() => {
                tracing::warn!("the ledger does not take the settlement of {} yet: {error}", settling.open.id());
                Some(Task::Settle(settling, deadline))
            }
            Err(error) => {
                tracing::error!("{} could not be settled and costs nothing: {error}", settling.open.id());
                settling.tell(Err(LineError::internal("the books could not take the settlement")));
                self.attempt(Task::Undo(settling.open))
            }
        }
    }

    /// Ends the waits of readers that are over.
    fn hurry(&mut self, now: Instant) {
        let over = |entry: &mut (Instant, Decided)| entry.0 <= now || entry.1.is_over();
        while let Some((_, decided)) = self.decided.pop_front_if(over) {
            if decided.hurry() {
                self.again.push(Again { task: Task::GiveBack(decided), at: now + FIRST_PAUSE, pause: 2 * FIRST_PAUSE });
            }
        }
        for again in &mut self.again {
            let Task::Settle(settling, deadline) = &mut again.task else { continue };
            if *deadline <= now && !settling.hurry() {
                again.task = Task::Undo(Arc::clone(&settling.open));
            }
        }
    }

    /// Ends holds whose time is over: those of requests that run here stay.
    fn sweep(&mut self, now: Instant) {
        self.sweep_at = now + SWEEP;
        match self.books.expire(|id| self.journal.is_open(&id.0), now_ms()) {
            Ok(0) => {}
            Ok(ended) => tracing::warn!("{ended} holds had run out and were ended: their requests are gone"),
            Err(error) => tracing::warn!("holds that have run out could not be looked for: {error}"),
        }
    }

    /// The last readers are told; what is left stays in the journal.
    fn part(mut self) {
        for again in &mut self.again {
            if let Task::Settle(settling, _) = &mut again.task {
                settling.hurry();
            }
        }
        for (_, decided) in &self.decided {
            decided.hurry();
        }
    }
}
