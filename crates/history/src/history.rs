//! Who writes the file and who reads it.

use sidefile::OpenError;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Rollup;
use crate::store::{Reader, Writer};

/// What a row is of, where nothing else is said.
const MINUTE: Duration = Duration::from_secs(60);

/// Why the history cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the history in {path} cannot be used: {reason}; move the file away or make it writable, and start the server again (it is no part of the books)"
)]
pub struct HistoryError {
    path: String,
    reason: String,
}

/// The minutes of a plant.
pub struct History {
    path: PathBuf,
    length: Duration,
    /// Or why there are none.
    file: Result<(Mutex<Writer>, Mutex<Reader>), String>,
    /// Why the last minutes could not be written.
    trouble: Mutex<Option<String>>,
}

impl History {
    /// Opens the file at `path`, or makes it. Where that fails the plant works all the same: the log says so, and so does who
    /// reads.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let opened = Writer::open(path).and_then(|writer| Ok((Mutex::new(writer), Mutex::new(Reader::open(path)?))));
        let file = opened.map_err(|error: OpenError| error.to_string());
        let history = Self { path: path.to_owned(), length: MINUTE, file, trouble: Mutex::default() };
        if let Err(error) = history.file() {
            tracing::error!("{error}; until then no history of the plant is kept");
        }
        history
    }

    /// The same, with rows of another length.
    #[must_use]
    pub fn with_length(self, length: Duration) -> Self {
        Self { length, ..self }
    }

    /// What a row is of.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Why the file cannot be used; `Ok`: it can.
    ///
    /// # Errors
    /// It cannot.
    pub fn usable(&self) -> Result<(), HistoryError> {
        self.file().map(drop)
    }

    /// Keeps all of these or none; what is older than 90 days at `now_ms` goes.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn keep(&self, rollups: &[Rollup], now_ms: i64) -> Result<(), HistoryError> {
        let (writer, _) = self.file()?;
        let kept = lock(writer).keep(rollups, now_ms).map_err(|error| error.to_string());
        *lock(&self.trouble) = kept.as_ref().err().cloned();
        kept.map_err(|reason| self.error(reason))
    }

    /// Why the last minutes are not in the file; `None`: all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// What happened from `from_ms` on, in `count` steps of `step_ms` milliseconds; `None`: no server ran then. What began
    /// within a step belongs to it.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn steps(&self, from_ms: i64, step_ms: i64, count: usize) -> Result<Vec<Option<Rollup>>, HistoryError> {
        let (_, reader) = self.file()?;
        let mut steps: Vec<Option<Rollup>> = vec![None; count];
        let to_ms = from_ms.saturating_add(step_ms.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX)));
        let read = lock(reader).read((from_ms, to_ms), |rollup| {
            let place = rollup.start_ms.saturating_sub(from_ms).checked_div(step_ms);
            let step = place.and_then(|place| steps.get_mut(usize::try_from(place).ok()?));
            match step {
                Some(Some(step)) => step.add(&rollup),
                Some(empty) => *empty = Some(rollup),
                None => {}
            }
        });
        read.map_err(|error| self.error(error.to_string()))?;
        Ok(steps)
    }

    /// When the earliest minute that is kept began, in milliseconds since the epoch.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn oldest_ms(&self) -> Result<Option<i64>, HistoryError> {
        let (_, reader) = self.file()?;
        let oldest_ms = lock(reader).oldest_ms();
        oldest_ms.map_err(|error| self.error(error.to_string()))
    }

    fn file(&self) -> Result<&(Mutex<Writer>, Mutex<Reader>), HistoryError> {
        self.file.as_ref().map_err(|reason| self.error(reason.clone()))
    }

    fn error(&self, reason: String) -> HistoryError {
        HistoryError { path: self.path.display().to_string(), reason }
    }
}

/// No change of what these locks hold can panic half way, so a poisoned one holds a good state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
