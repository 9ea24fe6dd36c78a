//! Where requests wait for the engine's thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use inference::{Request, SubmitError};

#[derive(Default)]
struct State {
    queue: VecDeque<Request>,
    /// Requests that wait in the scheduler.
    held: usize,
    closed: bool,
    /// When requests still in work are given up and the thread ends.
    deadline: Option<Instant>,
}

/// A bounded queue. The bound covers the requests in the queue and those that wait in the scheduler.
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
    max_waiting: usize,
}

/// What the engine's thread finds.
pub(crate) struct Delivery {
    pub(crate) requests: VecDeque<Request>,
    /// When to give up; `None` = not asked for.
    pub(crate) deadline: Option<Instant>,
}

impl Inbox {
    pub(crate) fn new(max_waiting: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), max_waiting }
    }

    /// No change of the state can panic half way, so a poisoned lock holds a good state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn submit(&self, request: Request) -> Result<(), SubmitError> {
        let mut state = self.lock();
        if state.closed {
            return Err(SubmitError::Closed);
        }
        let waiting = state.queue.len() + state.held;
        if waiting >= self.max_waiting {
            return Err(SubmitError::QueueFull { waiting });
        }
        state.queue.push_back(request);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    pub(crate) fn waiting(&self) -> usize {
        let state = self.lock();
        state.queue.len() + state.held
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// Refuses new requests and asks the thread to end once its work is done, at `deadline` at the latest.
    pub(crate) fn end(&self, deadline: Instant) {
        let mut state = self.lock();
        state.closed = true;
        state.deadline = Some(state.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        drop(state);
        self.changed.notify_one();
    }

    /// Takes all new requests. With some patience, sleeps that long at most until there is one or the end was asked for.
    pub(crate) fn take(&self, patience: Option<Duration>) -> Delivery {
        let mut state = self.lock();
        if let Some(patience) = patience {
            let nothing = |state: &mut State| state.queue.is_empty() && state.deadline.is_none();
            let waited = self.changed.wait_timeout_while(state, patience, nothing);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.held += state.queue.len();
        Delivery { requests: std::mem::take(&mut state.queue), deadline: state.deadline }
    }

    /// Sleeps so long at most; less when there is a new request, when an end is asked for, and when that has come.
    pub(crate) fn rest(&self, patience: Duration) {
        let state = self.lock();
        let deadline = state.deadline;
        let until_end = deadline.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        let nothing = |state: &mut State| state.queue.is_empty() && state.deadline == deadline;
        drop(self.changed.wait_timeout_while(state, patience.min(until_end), nothing));
    }

    /// Notes how many requests wait in the scheduler.
    pub(crate) fn hold(&self, held: usize) {
        self.lock().held = held;
    }
}
