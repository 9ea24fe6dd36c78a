//! The plant as it is watched: once a second one snapshot for all who watch, and none while nobody does. What is known of the
//! last minutes is kept all the time, where there is a history.

pub(crate) mod document;
pub(crate) mod minutes;
pub(crate) mod sample;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::document::RecentRates;
use self::sample::{Sample, Since};
use crate::app::App;
use crate::error::ApiError;

/// How often a snapshot is made.
pub(crate) const EVERY: Duration = Duration::from_secs(1);
/// What rates are taken over, where there is a sample of that time.
const RATES: Duration = Duration::from_secs(5);
/// What percentiles and money are taken over.
const WINDOW: Duration = Duration::from_secs(300);
/// Least time between two of the rates that are given of the last minutes.
const SPACING_MS: i64 = 900;
/// Snapshots that are given again by their ids.
const KEPT: usize = 60;
/// Most samples that are kept: three for each second of the window, the one of the history, the one of those who watch and one for
/// who asks between.
const MAX_SAMPLES: usize = 900;
/// Most who watch at one time.
const MAX_VIEWERS: usize = 64;
/// How long a snapshot waits for the one that is made; the books may be away.
const MAKING_WAIT: Duration = Duration::from_secs(10);

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
    /// Held by who makes a snapshot: one at a time.
    making: Arc<tokio::sync::Mutex<()>>,
    past: Mutex<Past>,
}

#[derive(Default)]
struct Past {
    samples: VecDeque<Arc<Sample>>,
    /// In the order of time.
    rates: VecDeque<RecentRates>,
    written: VecDeque<Written>,
    /// When the last of them was sampled.
    written_at: Option<Instant>,
    /// Whether a task makes snapshots.
    runs: bool,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_VIEWERS)),
            newest: watch::Sender::new(None),
            making: Arc::default(),
            past: Mutex::default(),
        }
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

    /// Keeps what was read of the plant, whether somebody watches or not.
    fn note(&self, sample: &Arc<Sample>) {
        let mut past = self.past();
        past.keep(Arc::clone(sample));
        past.add_rates(sample, false);
    }

    /// Rates of the last minutes, one a second: those of the snapshot where there is one.
    pub(crate) fn recent(&self) -> Vec<RecentRates> {
        self.past().rates.iter().cloned().collect()
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

/// The newest snapshot, if it is younger than `fresh`; else a new one. Who asks while one is made gets that one.
pub(crate) async fn newest(app: &Arc<App>, fresh: Duration) -> Result<Written, ApiError> {
    let app = Arc::clone(app);
    let Ok(making) = timeout(MAKING_WAIT, Arc::clone(&app.live.making).lock_owned()).await else {
        return Err(ApiError::unavailable(
            "the snapshot before takes long: the books may be away; try again",
            "overloaded",
        ));
    };
    if let Some(written) = app.live.past().young(fresh) {
        return Ok(written);
    }
    let made = tokio::task::spawn_blocking(move || {
        // May wait for the books.
        let sample = Sample::take(&app);
        let written = app.live.past().go_on(sample);
        // Also when nobody waits for it any more, the next one begins once this one has ended.
        drop(making);
        written
    });
    made.await.map_err(|error| ApiError::internal(format!("no snapshot could be made: {error}")))?
}

impl Past {
    /// The newest snapshot, if it is younger than `fresh`.
    fn young(&self, fresh: Duration) -> Option<Written> {
        let is_young = self.written_at.is_some_and(|at| at.elapsed() < fresh);
        self.written.back().filter(|_| is_young).cloned()
    }

    /// Keeps a sample, and no older ones than the window has.
    fn keep(&mut self, sample: Arc<Sample>) {
        while self.samples.len() >= MAX_SAMPLES
            || self.samples.front().is_some_and(|first| sample.since(first) > WINDOW)
        {
            self.samples.pop_front();
        }
        let oldest_ms = self.samples.front().map_or(sample.time_ms, |first| first.time_ms);
        while self.rates.len() >= MAX_SAMPLES || self.rates.front().is_some_and(|first| first.time_ms < oldest_ms) {
            self.rates.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The earliest other sample that is so near.
    fn within(&self, sample: &Arc<Sample>, length: Duration) -> Option<&Arc<Sample>> {
        let found = self.samples.iter().find(|known| sample.since(known) <= length);
        found.filter(|found| !Arc::ptr_eq(found, sample))
    }

    /// Adds the rates up to a sample, of a second in which there are none. Those of a snapshot take the place of others. Of a pause
    /// there are none.
    fn add_rates(&mut self, sample: &Arc<Sample>, is_snapshot: bool) {
        let Some(rates) = self.within(sample, RATES).and_then(|from| sample.rates(from)) else { return };
        // Of a calendar that was set back nothing stays that is still to come.
        while self.rates.back().is_some_and(|last| last.time_ms >= rates.time_ms.saturating_add(SPACING_MS)) {
            self.rates.pop_back();
        }
        let is_near = self.rates.back().is_some_and(|last| rates.time_ms < last.time_ms.saturating_add(SPACING_MS));
        if is_near && is_snapshot {
            self.rates.pop_back();
        }
        if !is_near || is_snapshot {
            self.rates.push_back(rates);
        }
    }

    /// Takes a sample in and writes its snapshot.
    fn go_on(&mut self, sample: Sample) -> Result<Written, ApiError> {
        let sample = Arc::new(sample);
        self.keep(Arc::clone(&sample));
        // Who asks seldom, of a plant without a history, gets the rates since the last time.
        let last = self.samples.iter().rev().nth(1);
        let recent = self.within(&sample, RATES).or(last).unwrap_or(&sample);
        let earlier = self.samples.front().unwrap_or(&sample);
        let sold = self.samples.iter().find(|known| known.sold.is_some()).unwrap_or(&sample);
        let snapshot = sample.snapshot(&Since { recent, earlier, sold });
        self.add_rates(&sample, true);
        let json = serde_json::to_string(&snapshot).map_err(|error| ApiError::internal(error.to_string()))?;
        let frame = Bytes::from(format!("id: {}\ndata: {json}\n\n", snapshot.id));
        let written = Written { id: snapshot.id, json: Bytes::from(json), frame };
        if self.written.len() >= KEPT {
            self.written.pop_front();
        }
        self.written.push_back(written.clone());
        self.written_at = Some(sample.at);
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Plant, ServerConfig};

    /// What snapshots say that are taken at these seconds.
    fn snapshots(past: &mut Past, seconds: impl IntoIterator<Item = u64>) -> Vec<serde_json::Value> {
        let began = Instant::now();
        let at = |second| Sample::at(began, Duration::from_secs(second));
        let written = seconds.into_iter().map(|second| past.go_on(at(second)).unwrap());
        written.map(|written| serde_json::from_slice(&written.json).unwrap()).collect()
    }

    #[test]
    fn who_asks_seldom_gets_rates_too() {
        let found = snapshots(&mut Past::default(), [0, 6, 12, 13, 15, 320]);
        let rates: Vec<f64> = found.iter().map(|one| one["rate_seconds"].as_f64().unwrap()).collect();
        // Since the last time; of several the earliest within five seconds; of long ago none.
        assert_eq!(rates, [0.0, 6.0, 6.0, 1.0, 3.0, 0.0]);
        assert_eq!(found[1]["sample"]["output_tokens_per_second"], 0.0);
        assert_eq!(found[2]["window_seconds"], 12.0);
    }

    #[test]
    fn rates_of_the_last_minutes_are_known_before_somebody_watches() {
        let live = Live::default();
        let began = Instant::now();
        // The first is too old by then; of one second there are two; then come pauses.
        for second in [0.0, 1.0, 1.5, 2.0, 7.0, 30.0, 301.0] {
            live.note(&Arc::new(Sample::at(began, Duration::from_secs_f64(second))));
        }
        let times = || live.recent().iter().map(|rates| rates.time_ms).collect::<Vec<_>>();
        assert_eq!(times(), [1_000, 2_000, 7_000]);
        // A snapshot has its second for itself.
        for second in [301.4, 302.0, 303.0] {
            live.past().go_on(Sample::at(began, Duration::from_secs_f64(second))).unwrap();
            live.note(&Arc::new(Sample::at(began, Duration::from_secs_f64(second + 0.5))));
        }
        assert_eq!(times(), [7_000, 302_000, 303_000]);
        // The calendar is set back by a second.
        let note = |time_ms, after_ms| {
            let mut sample = Sample::at(began, Duration::from_millis(after_ms));
            sample.time_ms = time_ms;
            live.note(&Arc::new(sample));
        };
        note(302_950, 303_600);
        note(301_800, 304_600);
        assert_eq!(times(), [7_000, 302_000]);
        note(302_950, 305_700);
        assert_eq!(times(), [7_000, 302_000, 302_950]);
        let found = live.recent();
        assert!(found.iter().all(|rates| rates.output_tokens_per_second == 0.0 && rates.power_watts.is_none()));
    }

    #[tokio::test]
    async fn many_who_ask_at_once_get_one_snapshot() {
        let app = App::new(&ServerConfig::default(), Plant::new(Vec::new(), Arc::default()), None);
        let ask = async || newest(&app, Duration::MAX).await.unwrap().id;
        let ids = futures_util::future::join_all((0..16).map(|_| ask())).await;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(app.live.past().samples.len(), 1);
        assert_ne!(newest(&app, Duration::ZERO).await.unwrap().id, ids[0]);
    }

    #[test]
    fn samples_have_a_bounded_number() {
        let mut past = Past::default();
        snapshots(&mut past, vec![7; MAX_SAMPLES + 10]);
        assert_eq!((past.samples.len(), past.written.len()), (MAX_SAMPLES, KEPT));
    }
}
