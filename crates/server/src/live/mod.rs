//! The plant as it is watched: once a second one snapshot for all who watch, and none while nobody does.

pub(crate) mod document;
mod sample;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval};

use self::sample::Sample;
use crate::app::App;
use crate::error::ApiError;

/// How often a snapshot is made.
pub(crate) const EVERY: Duration = Duration::from_secs(1);
/// What rates are taken over.
const RATES: Duration = Duration::from_secs(5);
/// What percentiles and money are taken over.
const WINDOW: Duration = Duration::from_secs(300);
/// Snapshots that are given again by their ids.
const KEPT: usize = 60;
/// Most who watch at one time.
const MAX_VIEWERS: usize = 64;

/// A snapshot, written out once.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) id: String,
    /// The document.
    pub(crate) json: Bytes,
    /// The same as a frame of a stream.
    pub(crate) frame: Bytes,
}

/// A place among those who watch.
pub(crate) struct Viewer {
    pub(crate) snapshots: watch::Receiver<Option<Written>>,
    _place: OwnedSemaphorePermit,
}

/// What is known of the last minutes, and the snapshots made of it.
pub(crate) struct Live {
    places: Arc<Semaphore>,
    newest: watch::Sender<Option<Written>>,
    past: Mutex<Past>,
}

#[derive(Default)]
struct Past {
    samples: VecDeque<Sample>,
    written: VecDeque<Written>,
    /// Whether a task makes snapshots.
    runs: bool,
}

impl Default for Live {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_VIEWERS)), newest: watch::Sender::new(None), past: Mutex::default() }
    }
}

impl Live {
    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The snapshot of an id, as long as it is kept.
    pub(crate) fn kept(&self, id: &str) -> Option<Written> {
        self.past().written.iter().find(|written| written.id == id).cloned()
    }
}

/// Begins to watch; the first snapshot comes at once.
///
/// # Errors
/// As many watch as may.
pub(crate) fn watch(app: &Arc<App>) -> Result<Viewer, ApiError> {
    let place = Arc::clone(&app.live.places).try_acquire_owned().map_err(|_full| {
        ApiError::unavailable(format!("{MAX_VIEWERS} watch the plant already; try again"), "overloaded")
    })?;
    let mut past = app.live.past();
    let snapshots = app.live.newest.subscribe();
    if !std::mem::replace(&mut past.runs, true) {
        // Nothing of an earlier time is taken for news.
        app.live.newest.send_replace(None);
        tokio::spawn(run(Arc::clone(app)));
    }
    drop(past);
    Ok(Viewer { snapshots, _place: place })
}

/// Makes snapshots until nobody watches any more.
async fn run(app: Arc<App>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        {
            // Under the lock, so that nobody begins to watch a task that ends.
            let mut past = app.live.past();
            if app.live.newest.receiver_count() == 0 {
                past.runs = false;
                return;
            }
        }
        match newest(&app, Duration::ZERO).await {
            Ok(written) => drop(app.live.newest.send_replace(Some(written))),
            Err(error) => tracing::warn!(message = error.message(), "no snapshot of the plant could be made"),
        }
    }
}

/// The newest snapshot, if it is younger than `fresh`; else a new one.
pub(crate) async fn newest(app: &Arc<App>, fresh: Duration) -> Result<Written, ApiError> {
    let app = Arc::clone(app);
    let made = tokio::task::spawn_blocking(move || {
        let past = app.live.past();
        let young = past.samples.back().is_some_and(|last| last.at.elapsed() < fresh);
        if let Some(written) = past.written.back().filter(|_| young) {
            return Ok(written.clone());
        }
        drop(past);
        // May wait for the books.
        let sample = Sample::take(&app);
        app.live.past().go_on(sample)
    });
    made.await.map_err(|error| ApiError::internal(format!("no snapshot could be made: {error}")))?
}

impl Past {
    /// Takes a sample in and writes its snapshot.
    fn go_on(&mut self, sample: Sample) -> Result<Written, ApiError> {
        let since = |from: &Sample| sample.at.saturating_duration_since(from.at);
        while self.samples.front().is_some_and(|first| since(first) > WINDOW) {
            self.samples.pop_front();
        }
        let earlier = self.samples.front().unwrap_or(&sample);
        let recent = self.samples.iter().find(|known| since(known) <= RATES).unwrap_or(&sample);
        let snapshot = sample.snapshot(recent, earlier);
        let json = serde_json::to_string(&snapshot).map_err(|error| ApiError::internal(error.to_string()))?;
        let frame = Bytes::from(format!("id: {}\ndata: {json}\n\n", snapshot.id));
        let written = Written { id: snapshot.id, json: Bytes::from(json), frame };
        self.samples.push_back(sample);
        if self.written.len() >= KEPT {
            self.written.pop_front();
        }
        self.written.push_back(written.clone());
        Ok(written)
    }
}
