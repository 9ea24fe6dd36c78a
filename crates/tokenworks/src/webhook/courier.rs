//! The thread: which alert is tried when, and what is recorded.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use economics::books::{Books, Delivery, Raised};
use ledger::StoreError;
use rand::TryRngCore;
use rand::rngs::OsRng;

use super::message;
use super::post::{Answer, Post};
use crate::books::now_ms;

/// Alerts in memory; more wait in the ledger.
const MAX_WAITING: usize = 1_000;
/// Documents read at a time.
const PAGE: u32 = 200;
/// How long the books may take to have on the disk what was raised.
const FLUSH_LIMIT: Duration = Duration::from_secs(10);

/// How long what takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// From the first failure to the second attempt; doubles with each further one.
    pub(super) first: Duration,
    /// The longest pause.
    pub(super) longest: Duration,
    /// Age at which an alert is given up.
    pub(super) give_up: Duration,
    /// How long an alert is left to the server that raised it before another one steps in.
    pub(super) others: Duration,
    /// How often the ledger is looked into when nobody rings.
    pub(super) look: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(5),
            longest: Duration::from_secs(6 * 3600),
            give_up: Duration::from_secs(3 * 86_400),
            others: Duration::from_secs(600),
            look: Duration::from_secs(60),
        }
    }
}

impl Times {
    /// The pause after so many attempts, with jitter of half of it in both directions.
    pub(super) fn pause(&self, attempts: u32) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
        let pause = doubled.min(self.longest);
        // Without random numbers there is no jitter.
        let share = OsRng.try_next_u32().unwrap_or(u32::MAX / 2);
        (pause / 2).saturating_add(pause.mul_f64(f64::from(share) / f64::from(u32::MAX)))
    }
}

/// An alert that is not done.
struct Waiting {
    raised: Raised,
    attempts: u32,
    due: Instant,
    /// Done, and still to be recorded.
    done: Option<Delivery>,
}

pub(super) struct Courier {
    /// Not held while an answer is waited for, so that the books can close.
    books: Weak<Books>,
    post: Arc<Post>,
    times: Times,
    woken: Receiver<()>,
    stop: Arc<AtomicBool>,
    waiting: HashMap<String, Waiting>,
    /// Everything up to this entry was looked at.
    seen: u64,
}

impl Courier {
    pub(super) fn new(
        books: Weak<Books>,
        post: Arc<Post>,
        times: Times,
        (woken, stop): (Receiver<()>, Arc<AtomicBool>),
    ) -> Self {
        Self { books, post, times, woken, stop, waiting: HashMap::new(), seen: 0 }
    }

    /// Until it is stopped or the books are closed.
    pub(super) fn run(mut self) {
        while !self.stop.load(Ordering::SeqCst) {
            let Some(books) = self.books.upgrade() else { return };
            if let Err(error) = self.look(&books) {
                tracing::error!("new budget alerts cannot be read now: {error}");
            }
            drop(books);
            if let Some(key) = self.next_due() {
                self.serve(&key);
                continue;
            }
            let next = self.waiting.values().map(|waiting| waiting.due).min();
            let pause = next.map_or(self.times.look, |due| due.saturating_duration_since(Instant::now()));
            if self.woken.recv_timeout(pause.min(self.times.look)) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Takes in what the ledger has, as far as there is room.
    fn look(&mut self, books: &Books) -> Result<(), StoreError> {
        if !books.ledger().is_shared() {
            // Who rang knows of an alert that may be on its way to the disk. When that takes longer, the next look is early
            // enough.
            let _ = books.ledger().flush(FLUSH_LIMIT);
        }
        while self.waiting.len() < MAX_WAITING {
            let (page, reached) = books.alerts_after(self.seen, PAGE)?;
            for raised in page {
                if raised.delivery != Delivery::Pending {
                    self.waiting.remove(&raised.key);
                    continue;
                }
                let pause = if raised.writer == books.writer() { Duration::ZERO } else { self.times.others };
                let waiting = Waiting { attempts: 0, due: Instant::now() + pause, done: None, raised };
                self.waiting.insert(waiting.raised.key.clone(), waiting);
            }
            if reached == self.seen {
                break;
            }
            self.seen = reached;
        }
        Ok(())
    }

    /// Of those that are due the one tried least, so that a receiver that fails for old ones does not hold up new ones.
    fn next_due(&self) -> Option<String> {
        let now = Instant::now();
        let due = self.waiting.values().filter(|waiting| waiting.due <= now);
        due.min_by_key(|waiting| (waiting.attempts, waiting.due)).map(|waiting| waiting.raised.key.clone())
    }

    /// Tries one, if nobody has done it, and records the end.
    fn serve(&mut self, key: &str) {
        let Some(mut waiting) = self.waiting.remove(key) else { return };
        let Some(books) = self.books.upgrade() else { return };
        match books.is_pending(&waiting.raised) {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => {
                tracing::error!("whether a budget alert was delivered cannot be read now: {error}");
                return self.again(waiting, self.times.first);
            }
        }
        let currency = books.currency().code.clone();
        drop(books);
        if waiting.done.is_none() {
            match self.attempt(&mut waiting, &currency) {
                Ok(delivery) => waiting.done = Some(delivery),
                Err(pause) => return self.again(waiting, pause),
            }
        }
        let Some(books) = self.books.upgrade() else { return };
        if let Some(delivery) = &waiting.done
            && let Err(error) = books.end_alert(&waiting.raised, delivery.clone(), now_ms())
        {
            tracing::error!("the delivery of a budget alert could not be recorded, which is tried again: {error}");
            self.again(waiting, self.times.first);
        }
    }

    fn again(&mut self, mut waiting: Waiting, pause: Duration) {
        waiting.due = Instant::now() + pause;
        self.waiting.insert(waiting.raised.key.clone(), waiting);
    }

    /// Sends it. An error is the pause before the next attempt.
    fn attempt(&self, waiting: &mut Waiting, currency: &str) -> Result<Delivery, Duration> {
        if waiting.attempts == 0 && self.left(&waiting.raised).is_zero() {
            return Ok(self.give_up(waiting, "it is too old".to_owned()));
        }
        let (id, body) = message(&waiting.raised, currency);
        let answer = self.post.send(&id, &body, now_ms());
        waiting.attempts = waiting.attempts.saturating_add(1);
        let (key, host, attempts) = (&waiting.raised.key, self.post.host(), waiting.attempts);
        let (reason, asked) = match answer {
            Answer::Taken(status) => {
                tracing::info!("the budget alert {key} was taken by {host} ({status})");
                return Ok(Delivery::Delivered { at: now_ms(), attempts });
            }
            Answer::Gone => return Ok(self.give_up(waiting, "it answered 410: no more events are wanted".to_owned())),
            Answer::Failed(reason, asked) => (reason, asked.unwrap_or_default()),
        };
        let left = self.left(&waiting.raised);
        if left.is_zero() {
            return Ok(self.give_up(waiting, reason));
        }
        // The last attempt is at the end of the time.
        let pause = self.times.pause(attempts).max(asked).min(left);
        tracing::warn!("the budget alert {key} was not taken by {host}: {reason}; again in {} s", pause.as_secs());
        Err(pause)
    }

    /// How long an alert may still be tried.
    fn left(&self, raised: &Raised) -> Duration {
        let age_ms = u64::try_from(now_ms().saturating_sub(raised.at)).unwrap_or(0);
        self.times.give_up.saturating_sub(Duration::from_millis(age_ms))
    }

    fn give_up(&self, waiting: &Waiting, reason: String) -> Delivery {
        let (key, attempts, host) = (&waiting.raised.key, waiting.attempts, self.post.host());
        tracing::error!("the budget alert {key} is given up after {attempts} attempts at {host}: {reason}");
        Delivery::GivenUp { at: now_ms(), attempts, reason }
    }
}
