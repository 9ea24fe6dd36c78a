//! What the plant does, minute by minute, for its history: one thread looks once a second and writes each minute.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::history::{History, Rollup};
use economics::Nano;
use tokio::time::timeout;

use super::EVERY;
use super::sample::{Sample, Span, sold};
use crate::app::{App, unix_ms};

/// Minutes that wait for a file that takes nothing; the oldest is lost for a new one.
const MAX_WAITING: usize = 60;
/// How often it is told that minutes cannot be written.
const TOLD_EVERY: Duration = Duration::from_secs(600);
/// How long the end of the server waits for the last part.
const ENDING: Duration = Duration::from_secs(5);

/// The thread. It ends, and writes its last part, when this is dropped.
pub(crate) struct Minutes {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Minutes {
    /// Starts the thread. `None`: no history is kept, or its file cannot be used, which the log knows already.
    pub(crate) fn start(app: &Arc<App>) -> Option<Self> {
        let history = app.history.clone().filter(|history| history.usable().is_ok())?;
        let (stop, stopped) = sync_channel(0);
        let mut keeper = Keeper::new(Arc::clone(app), history);
        let thread = std::thread::Builder::new().name("history".to_owned()).spawn(move || {
            // May wait for the books, which the start of the server must not.
            keeper.begin();
            while stopped.recv_timeout(keeper.pause()) == Err(RecvTimeoutError::Timeout) {
                keeper.look(false);
            }
            keeper.look(true);
        });
        let thread = thread.inspect_err(|error| tracing::error!(%error, "no thread: no history of the plant is kept"));
        Some(Self { stop, thread: thread.ok()? })
    }

    /// Writes the last part and waits for it, though not for books that are away.
    pub(crate) async fn end(self) {
        drop(self.stop);
        let joined = tokio::task::spawn_blocking(move || self.thread.join());
        match timeout(ENDING, joined).await {
            Ok(Ok(Ok(()))) => {}
            Ok(_) => tracing::error!("the thread of the history panicked"),
            Err(_) => tracing::warn!("the last minute of the history is not written: the books do not answer"),
        }
    }
}

/// What the thread has.
struct Keeper {
    app: Arc<App>,
    history: Arc<History>,
    last: Arc<Sample>,
    /// What was sold when it was last known.
    sold: Option<Nano>,
    /// The minute that runs.
    minute: Rollup,
    /// When it is over.
    until_ms: i64,
    unwritten: VecDeque<Rollup>,
    told: Option<Instant>,
}

impl Keeper {
    fn new(app: Arc<App>, history: Arc<History>) -> Self {
        let now_ms = unix_ms();
        Self {
            last: Arc::new(Sample::take_unsold(&app)),
            sold: None,
            minute: Rollup::new(now_ms),
            until_ms: end_of_minute(now_ms, history.length()),
            unwritten: VecDeque::new(),
            told: None,
            app,
            history,
        }
    }

    /// Reads what was sold before, once the books say it: while they are recomputed they say nothing.
    fn begin(&mut self) {
        if self.sold.is_none() {
            self.sold = sold(&self.app);
            self.tell_sold();
        }
    }

    /// Who begins to watch gets revenue since then.
    fn tell_sold(&self) {
        if self.sold.is_some() {
            self.app.live.note(&Arc::new(Sample::take_unsold(&self.app).with_sold(self.sold)));
        }
    }

    /// Until it looks again: at the end of the minute at the latest.
    fn pause(&self) -> Duration {
        let left_ms = u64::try_from(self.until_ms.saturating_sub(unix_ms())).unwrap_or(0);
        Duration::from_millis(left_ms.max(1)).min(EVERY)
    }

    /// Takes in what happened since it last looked. `ends`: the server does.
    fn look(&mut self, ends: bool) {
        self.begin();
        let now = Arc::new(Sample::take_unsold(&self.app));
        self.app.live.note(&now);
        self.minute.add(&Span::new(&self.last, &now).rollup());
        self.last = now;
        let now_ms = unix_ms();
        // A calendar that is set back begins a new minute, too.
        if ends || now_ms >= self.until_ms || now_ms < self.minute.start_ms {
            self.close(now_ms);
        }
    }

    fn close(&mut self, now_ms: i64) {
        let mut minute = std::mem::replace(&mut self.minute, Rollup::new(now_ms));
        self.until_ms = end_of_minute(now_ms, self.history.length());
        if let Some(sold) = sold(&self.app) {
            // What was not known meanwhile is in the next minute of which it is.
            minute.charged_nano = self.sold.map(|before| sold.saturating_sub(before).0);
            self.sold = Some(sold);
            self.tell_sold();
        }
        if self.unwritten.len() >= MAX_WAITING {
            self.unwritten.pop_front();
        }
        self.unwritten.push_back(minute);
        match self.history.keep(self.unwritten.make_contiguous(), now_ms) {
            Ok(()) => {
                self.unwritten.clear();
                self.told = None;
            }
            Err(error) if self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) => {
                tracing::error!("{error}; the last {MAX_WAITING} minutes wait for it, requests go on");
                self.told = Some(Instant::now());
            }
            Err(_) => {}
        }
    }
}

/// When the minute of a time is over, by the calendar.
fn end_of_minute(now_ms: i64, length: Duration) -> i64 {
    let length_ms = i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1);
    now_ms.saturating_sub(now_ms.rem_euclid(length_ms)).saturating_add(length_ms)
}

#[cfg(test)]
mod tests {
    use metering::{Meter, Rejection};

    use super::*;
    use crate::{Plant, ServerConfig};

    #[test]
    fn minutes_end_with_those_of_the_calendar() {
        let minute = Duration::from_secs(60);
        assert_eq!([0, 59_999, 60_000].map(|ms| end_of_minute(ms, minute)), [60_000, 60_000, 120_000]);
    }

    #[test]
    fn minutes_wait_for_their_file_and_not_without_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.sqlite");
        let history = Arc::new(History::open(&path));
        let meter = Arc::new(Meter::new());
        let plant = Plant { history: Some(Arc::clone(&history)), ..Plant::new(Vec::new(), Arc::clone(&meter)) };
        let app = App::new(&ServerConfig::default(), plant, None);
        let mut keeper = Keeper::new(app, Arc::clone(&history));
        let begin_ms = keeper.minute.start_ms - 1;
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("ALTER TABLE minutes RENAME TO away").unwrap();
        for _ in 0..MAX_WAITING + 5 {
            meter.reject("tiny", Rejection::Invalid);
            keeper.look(true);
        }
        assert!(history.trouble().is_some());
        assert_eq!(keeper.unwritten.len(), MAX_WAITING);
        other.execute_batch("ALTER TABLE away RENAME TO minutes").unwrap();
        meter.reject("tiny", Rejection::Invalid);
        keeper.look(true);
        assert_eq!((keeper.unwritten.len(), history.trouble()), (0, None));
        let kept = history.steps(begin_ms, 3_600_000, 1).unwrap().remove(0).unwrap();
        assert_eq!(kept.rejected, MAX_WAITING as u64, "the last that waited, each with its own");
    }
}
