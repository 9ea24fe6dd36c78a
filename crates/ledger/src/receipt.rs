//! Waiting for a batch to be on the disk.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::NotDurable;
use crate::types::Outcome;

/// How often a wait looks whether the store fails.
const SLICE: Duration = Duration::from_millis(100);
/// How long it bears with that: a moment's trouble ends by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// Called once, with the end of the wait.
pub(crate) type Callback = Box<dyn FnOnce(Result<(), NotDurable>) + Send>;

/// A decided batch: what its commands did, and a way to wait for the disk.
#[derive(Debug)]
pub struct Receipt {
    /// One per command, in order.
    pub outcomes: Vec<Outcome>,
    pub(crate) fate: Arc<Fate>,
}

impl Receipt {
    /// Waits until the batch is on the disk, or for `limit`.
    ///
    /// # Errors
    /// [`NotDurable::Timeout`] when `limit` is over: ask again; [`NotDurable::Lost`] when the ledger was closed with a
    /// store that failed.
    pub fn wait_durable(&self, limit: Duration) -> Result<(), NotDurable> {
        let state = self.fate.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |state: &mut State| matches!(state, State::Open(_));
        let waited = self.fate.ended.wait_timeout_while(state, limit, waits).unwrap_or_else(PoisonError::into_inner);
        match &*waited.0 {
            State::Open(_) => Err(NotDurable::Timeout),
            State::Ended(result) => result.clone(),
        }
    }

    /// Waits as [`Receipt::wait_durable`], but not for a store that goes on failing: `trouble` says why it does.
    pub(crate) fn wait_unless_failing(
        &self,
        limit: Duration,
        trouble: impl Fn() -> Option<String>,
    ) -> Result<(), NotDurable> {
        let (mut waited, mut failing) = (Duration::ZERO, Duration::ZERO);
        loop {
            let slice = SLICE.min(limit.saturating_sub(waited));
            match self.wait_durable(slice) {
                Err(NotDurable::Timeout) => waited = waited.saturating_add(slice),
                ended => return ended,
            }
            let trouble = trouble();
            failing = if trouble.is_some() { failing.saturating_add(slice) } else { Duration::ZERO };
            match trouble {
                Some(trouble) if failing >= PATIENCE => return Err(NotDurable::Failing(trouble)),
                _ if waited >= limit => return Err(NotDurable::Timeout),
                _ => {}
            }
        }
    }

    /// Calls back when the batch is on the disk or lost: on the thread that writes (so it must be quick), or at once.
    pub fn on_durable(self, callback: Box<dyn FnOnce(Result<(), NotDurable>) + Send>) {
        let mut state = self.fate.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match &mut *state {
            State::Open(place) => {
                *place = Some(callback);
                return;
            }
            State::Ended(result) => result.clone(),
        };
        drop(state);
        callback(result);
    }
}

/// Shared by the receipt and the writer.
pub(crate) struct Fate {
    state: Mutex<State>,
    ended: Condvar,
}

enum State {
    Open(Option<Callback>),
    Ended(Result<(), NotDurable>),
}

impl Fate {
    pub(crate) fn open() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Open(None)), ended: Condvar::new() })
    }

    pub(crate) fn durable() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Ended(Ok(()))), ended: Condvar::new() })
    }

    pub(crate) fn end(&self, result: Result<(), NotDurable>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, State::Ended(result.clone()));
        drop(state);
        self.ended.notify_all();
        if let State::Open(Some(callback)) = before {
            callback(result);
        }
    }
}

impl fmt::Debug for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fate")
    }
}
