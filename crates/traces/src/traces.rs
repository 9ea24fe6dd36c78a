//! The thread that writes the file, and who reads it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use metering::{Family, Sample};
use sidefile::OpenError;

use crate::store::{Reader, Writer};
use crate::{Filter, Listed, Page, Trace, Whole};

/// Jobs that may wait for the thread; a trace beyond is dropped and counted.
const QUEUE: usize = 256;
/// Traces written in one transaction.
const AT_ONCE: usize = 64;
/// How often what is too old is looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// How long a deletion waits for the thread.
const DELETION_LIMIT: Duration = Duration::from_secs(10);
/// How often it is told that traces are lost.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Why there is no more to be had of a thread that panicked.
const ENDED: &str = "its thread has ended";

/// For how many days the project of this id keeps prompts and answers; `None`: it keeps none.
pub type ContentDays = Arc<dyn Fn(&str) -> Option<u32> + Send + Sync>;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Requests, the newest ones.
    pub keep: u64,
    /// Days, from a request's reception.
    pub keep_days: u32,
}

/// Whose prompts and answers are deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Of the request of this [`number`](crate::Kept::number).
    Request(u64),
    /// Of all requests of the project of this id.
    Project(String),
}

/// Why traces cannot be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TracesError {
    /// The file cannot be used.
    #[error(
        "the traces in {path} cannot be used: {reason}; move the file away or make it writable, and start the server again (it is no part of the books)"
    )]
    Unusable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The thread has too much to do.
    #[error("the traces are being written; try again")]
    Busy,
}

enum Job {
    Keep(Box<Trace>),
    Delete(Deletion, SyncSender<Result<usize, String>>),
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    kept: AtomicU64,
    dropped: AtomicU64,
    /// Why the last traces could not be written, or the file not be swept.
    trouble: Mutex<Option<String>>,
}

/// The last requests of a plant.
pub struct Traces {
    path: PathBuf,
    content_days: ContentDays,
    shared: Arc<Shared>,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// Or why there is none.
    reader: Result<Mutex<Reader>, String>,
    /// That the thread has ended is told once.
    told: Once,
}

impl Traces {
    /// Opens the file at `path`, or makes it, and starts the thread. Where that fails the plant works all the same: the log
    /// says so, and so does who reads.
    #[must_use]
    pub fn start(path: &Path, settings: Settings, content_days: ContentDays) -> Self {
        let shared = Arc::new(Shared::default());
        let opened = open(path, settings, &content_days);
        let started = opened.and_then(|(writer, reader)| {
            let (jobs, queue) = sync_channel(QUEUE);
            let worker = Worker { writer, shared: Arc::clone(&shared), told: None };
            let thread = std::thread::Builder::new().name("traces".to_owned()).spawn(move || worker.run(&queue));
            thread.map(|thread| (jobs, thread, reader)).map_err(OpenError::from)
        });
        let (jobs, thread, reader) = match started {
            Ok((jobs, thread, reader)) => (Some(jobs), Some(thread), Ok(Mutex::new(reader))),
            Err(error) => {
                let reason = error.to_string();
                let error = TracesError::Unusable { path: path.display().to_string(), reason: reason.clone() };
                tracing::error!("{error}; until then no request is traced");
                (None, None, Err(reason))
            }
        };
        Self { path: path.to_owned(), content_days, shared, jobs, thread, reader, told: Once::new() }
    }

    /// Takes the trace of a request that has ended. Never waits: where the thread cannot follow, the trace is dropped and
    /// counted.
    pub fn keep(&self, trace: Trace) {
        let sent = self.jobs.as_ref().map(|jobs| jobs.try_send(Job::Keep(Box::new(trace))));
        if let Some(Err(TrySendError::Disconnected(_))) = sent {
            self.told.call_once(|| {
                tracing::error!("{}; until then no request is traced", self.unusable(ENDED.to_owned()));
            });
        }
        if !matches!(sent, Some(Ok(()))) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// For how many days a project keeps prompts and answers; `None`: it keeps none.
    #[must_use]
    pub fn content_days(&self, project: &str) -> Option<u32> {
        (self.content_days)(project)
    }

    /// The newest requests of a filter. Texts count as gone at once where their project keeps none any more.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn list(&self, filter: &Filter, page: &Page) -> Result<Listed, TracesError> {
        let listed = self.reader()?.list(filter, page);
        let mut listed = listed.map_err(|error| self.unusable(error.to_string()))?;
        for kept in listed.requests.iter_mut().filter(|kept| kept.has_content) {
            kept.has_content = self.content_days(&kept.owner.project).is_some();
        }
        Ok(listed)
    }

    /// All that is kept of the request of this id, without its texts where its project keeps none any more.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn find(&self, id: &str) -> Result<Option<Whole>, TracesError> {
        let mut found = self.reader()?.find(id).map_err(|error| self.unusable(error.to_string()))?;
        if let Some(whole) = &mut found
            && self.content_days(&whole.kept.owner.project).is_none()
        {
            (whole.content, whole.kept.has_content) = (None, false);
        }
        Ok(found)
    }

    /// Deletes prompts and answers, for good: they are overwritten. Gives of how many requests.
    ///
    /// # Errors
    /// The file cannot be used, or the thread has too much to do.
    pub fn delete(&self, what: Deletion) -> Result<usize, TracesError> {
        self.reader.as_ref().map_err(|reason| self.unusable(reason.clone()))?;
        let jobs = self.jobs.as_ref().ok_or_else(|| self.unusable("the server ends".to_owned()))?;
        let (sender, answer) = sync_channel(1);
        match jobs.try_send(Job::Delete(what, sender)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(TracesError::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(self.unusable(ENDED.to_owned())),
        }
        match answer.recv_timeout(DELETION_LIMIT) {
            Ok(deleted) => deleted.map_err(|reason| self.unusable(reason)),
            Err(RecvTimeoutError::Timeout) => Err(TracesError::Busy),
            Err(RecvTimeoutError::Disconnected) => Err(self.unusable(ENDED.to_owned())),
        }
    }

    /// Why requests that ended lately are not in the file: it took none the last time, or the thread has ended. `None`: all is
    /// well, but for those that were dropped because the thread could not follow.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            return Some(ENDED.to_owned());
        }
        lock(&self.shared.trouble).clone()
    }

    /// How many traces were written and how many were lost, as metrics.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let family = |name, help, count: &AtomicU64| {
            let billionths = i128::from(count.load(Ordering::Relaxed)) * 1_000_000_000;
            Family { name, kind: "counter", help, samples: vec![Sample { labels: Vec::new(), billionths }] }
        };
        vec![
            family("tokenworks_traces_kept_total", "Requests whose trace was written.", &self.shared.kept),
            family(
                "tokenworks_traces_dropped_total",
                "Requests whose trace was lost: the queue was full, or the file took nothing.",
                &self.shared.dropped,
            ),
        ]
    }

    fn reader(&self) -> Result<MutexGuard<'_, Reader>, TracesError> {
        self.reader.as_ref().map(lock).map_err(|reason| self.unusable(reason.clone()))
    }

    fn unusable(&self, reason: String) -> TracesError {
        TracesError::Unusable { path: self.path.display().to_string(), reason }
    }
}

impl Drop for Traces {
    /// Writes what waits.
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the traces panicked");
        }
    }
}

fn open(path: &Path, settings: Settings, content_days: &ContentDays) -> Result<(Writer, Reader), OpenError> {
    let writer = Writer::open(path, settings, Arc::clone(content_days))?;
    Ok((writer, Reader::open(path)?))
}

/// The thread's own.
struct Worker {
    writer: Writer,
    shared: Arc<Shared>,
    /// When it was last told that traces are lost.
    told: Option<Instant>,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        self.sweep();
        let mut swept = Instant::now();
        loop {
            match queue.recv_timeout(SWEEP.saturating_sub(swept.elapsed())) {
                Ok(job) => self.work(job, queue),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if swept.elapsed() >= SWEEP {
                self.sweep();
                swept = Instant::now();
            }
        }
    }

    /// A job, and what waits behind it.
    fn work(&mut self, first: Job, queue: &Receiver<Job>) {
        let mut traces = Vec::new();
        let mut deletions = Vec::new();
        for job in std::iter::once(first).chain(queue.try_iter().take(AT_ONCE - 1)) {
            match job {
                Job::Keep(trace) => traces.push(*trace),
                Job::Delete(what, sender) => deletions.push((what, sender)),
            }
        }
        let count = traces.len() as u64;
        // What was made before a deletion was asked for is deleted by it.
        if count > 0 {
            let kept = self.writer.keep(traces, now_ms());
            let counter = if kept.is_ok() { &self.shared.kept } else { &self.shared.dropped };
            counter.fetch_add(count, Ordering::Relaxed);
            self.note(kept);
        }
        for (what, sender) in deletions {
            let deleted = self.writer.delete(&what).map_err(|error| error.to_string());
            // Fails when nobody waits any more.
            let _ = sender.send(deleted);
        }
    }

    fn sweep(&mut self) {
        let swept = self.writer.sweep(now_ms());
        // That it went well says nothing of what was to be written before.
        if swept.is_err() {
            self.note(swept);
        }
    }

    fn note(&mut self, done: rusqlite::Result<()>) {
        let trouble = done.err().map(|error| error.to_string());
        if let Some(trouble) = &trouble
            && self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY)
        {
            tracing::error!("the traces cannot be written: {trouble}; requests go on without them");
            self.told = Some(Instant::now());
        }
        *lock(&self.shared.trouble) = trouble;
    }
}

/// No change of what these locks hold can panic half way, so a poisoned one holds a good state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the epoch.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
