//! `Idempotency-Key`: a request that is sent again under its key gets the first answer; it ran once and is charged once.
//!
//! A key is claimed in memory by the one request that is at work on it, then written as begun before the work starts. At
//! the end the answer is kept, or a note of why there is none; a request that never ran frees its key. A key that is begun
//! and claimed by nobody belongs to a request that was interrupted.

mod replay;
mod store;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::ledger::{EntryId, StoreError};
use axum::http::{HeaderMap, HeaderName};
use economics::Nano;
use economics::books::{Books, Cost, unit};
use economics::directory::HOUSE;
use service::entry_id;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::app::unix_ms;
use crate::auth::Caller;
use crate::error::ApiError;
use store::{Caps, FORGET_AT_ONCE, Row, State, Store};

pub(crate) use replay::Replay;
pub(crate) use store::OpenError;

/// The header by which a client names a request that it may send again.
pub(crate) const KEY: &str = "Idempotency-Key";
/// The header of an answer that was given before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

pub(crate) const MAX_KEY_BYTES: usize = 255;
/// The largest answer that is kept, in bytes.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Bytes of all answers that are in memory to be kept or to be given again.
const MAX_BYTES_IN_MEMORY: usize = 256 << 20;
/// How long a request waits for the file. What it wanted may be done all the same: a key may count as interrupted then,
/// but never as free.
const FILE_LIMIT: Duration = Duration::from_secs(10);
/// When a client whose request is still under way should ask again.
const RETRY_AFTER_S: u32 = 2;
/// How often old answers are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// A SHA-256 hash.
pub(crate) type Digest = [u8; 32];

/// The key of a request; `None` without the header.
///
/// # Errors
/// 400 when it is no key.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bytes = value.as_bytes();
    let shaped = (1..=MAX_KEY_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    match value.to_str() {
        Ok(text) if shaped && values.next().is_none() => Ok(Some(text)),
        _ => {
            let message = format!(
                "the header `{KEY}` must be given once, as 1 to {MAX_KEY_BYTES} visible ASCII characters without spaces; \
                 send a new UUID for each request, and the same one to try that request again"
            );
            Err(ApiError::field(KEY, message))
        }
    }
}

/// A request with a key.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Hash of caller, route and key.
    name: Digest,
    /// Hash of the body.
    body: Digest,
    /// Whose key it is.
    caller: String,
}

impl Asked {
    pub(crate) fn new(key: &str, route: &str, caller: &Caller, body: Digest) -> Self {
        let caller = owner(caller);
        let mut name = Sha256::new();
        for part in [&caller, route, key] {
            name.update((part.len() as u64).to_be_bytes());
            name.update(part);
        }
        Self { name: name.finalize().into(), body, caller }
    }
}

/// Whom a key belongs to: the caller's API key, or the house. With the organisation, so that an id that is given again to
/// another customer shows nothing.
fn owner(caller: &Caller) -> String {
    match (&caller.identity, &caller.key) {
        (Some(identity), _) => match &identity.key {
            Some(key) => format!("{}/{key}", identity.organisation.id),
            None => identity.organisation.id.clone(),
        },
        (None, Some(key)) => format!("key:{key}"),
        (None, None) => HOUSE.to_owned(),
    }
}

/// What a request with a key finds.
pub(crate) enum Found {
    /// Nobody had this key: the request may run.
    Fresh(Claim),
    /// The answer of the first request.
    Kept(Replay),
}

/// The answers kept under their keys.
pub(crate) struct Answers {
    store: Arc<tokio::sync::Mutex<Store>>,
    /// Name and body of what is under way.
    claims: Mutex<HashMap<Digest, Digest>>,
    memory: Arc<Semaphore>,
    /// They know what an interrupted request cost.
    books: Option<Arc<Books>>,
}

impl Answers {
    /// Opens the file; without a path: in memory.
    ///
    /// # Errors
    /// The file cannot be used; a damaged one is set aside instead.
    pub(crate) async fn open(path: Option<PathBuf>, books: Option<Arc<Books>>) -> Result<Arc<Self>, OpenError> {
        let opened = spawn_blocking(move || Store::open(path, Caps::default())).await;
        let store = opened.map_err(|failed| OpenError::File(failed.into()))??;
        let answers = Arc::new(Self {
            store: Arc::new(tokio::sync::Mutex::new(store)),
            claims: Mutex::default(),
            memory: Arc::new(Semaphore::new(MAX_BYTES_IN_MEMORY)),
            books,
        });
        let weak = Arc::downgrade(&answers);
        tokio::spawn(async move {
            while let Some(answers) = weak.upgrade() {
                answers.forget_old().await;
                drop(answers);
                sleep(FORGET_EVERY).await;
            }
        });
        Ok(answers)
    }

    /// Works with the file, off the asynchronous threads, one at a time.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ApiError> {
        let unavailable = || {
            let message =
                "the answers kept by Idempotency-Key cannot be reached; try again, or send the request without it";
            ApiError::unavailable(message, "idempotency_unavailable")
        };
        let store = Arc::clone(&self.store);
        let done = timeout(FILE_LIMIT, async {
            let mut store = store.lock_owned().await;
            let done = spawn_blocking(move || {
                work(&mut store).inspect_err(|error| {
                    tracing::error!(%error, "the file of kept answers failed");
                    if let Err(error) = store.mend(error) {
                        tracing::error!(%error, "the file of kept answers could not be begun anew");
                    }
                })
            });
            done.await
        });
        match done.await {
            Ok(Ok(Ok(result))) => Ok(result),
            Err(_elapsed) => {
                tracing::error!("the file of kept answers takes too long");
                Err(unavailable())
            }
            // Logged above, or by the panic itself.
            Ok(Ok(Err(_)) | Err(_)) => Err(unavailable()),
        }
    }

    async fn forget_old(&self) {
        while self.with(|store| store.forget_old(unix_ms())).await.is_ok_and(|count| count == FORGET_AT_ONCE) {}
    }

    async fn find(&self, asked: &Asked) -> Result<Option<Row>, ApiError> {
        let name = asked.name;
        self.with(move |store| store.find(&name, unix_ms())).await
    }

    /// Looks the key up, and claims it when it is new.
    ///
    /// # Errors
    /// 409 when the request is under way or has no answer that can be given again, or the key was used for another one.
    pub(crate) async fn ask(self: &Arc<Self>, asked: Asked) -> Result<Found, ApiError> {
        if let Some(row) = self.find(&asked).await?.filter(|row| !matches!(row.state, State::Begun { .. })) {
            return self.again(&asked, row).await;
        }
        let claim = self.claim(asked)?;
        // Only now nobody else can be at work on it.
        match self.find(&claim.asked).await? {
            None => Ok(Found::Fresh(claim)),
            Some(row) => self.again(&claim.asked, row).await,
        }
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<Digest, Digest>> {
        // No change of the map can panic half way.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(self: &Arc<Self>, asked: Asked) -> Result<Claim, ApiError> {
        match self.claims().entry(asked.name) {
            Entry::Occupied(other) if *other.get() != asked.body => return Err(conflict()),
            Entry::Occupied(_) => {
                let message = format!("the first request with this {KEY} is still under way; ask again for its answer");
                return Err(ApiError::idempotency(message, "idempotency_in_flight").with_retry_after(RETRY_AFTER_S));
            }
            Entry::Vacant(free) => free.insert(asked.body),
        };
        Ok(Claim { answers: Arc::clone(self), asked })
    }

    /// What a request is answered whose key is known and not under way.
    async fn again(&self, asked: &Asked, row: Row) -> Result<Found, ApiError> {
        if row.body != asked.body {
            return Err(conflict());
        }
        let answer = row.answer;
        let (code, what) = match row.state {
            State::Kept { size, streamed } => match self.replay(asked.name, size, streamed).await? {
                Some(replay) => return Ok(Found::Kept(replay)),
                None => not_kept(),
            },
            State::Dropped => not_kept(),
            State::TooLarge => {
                ("idempotency_not_kept", "ended well and was charged, but was too large to be kept".into())
            }
            State::Failed(why) => (
                "idempotency_failed",
                format!("failed under way ({why}), and what was delivered until then was charged"),
            ),
            State::Begun { generations } => {
                let cost = self.cost(&answer, generations).await;
                ("idempotency_interrupted", format!("was interrupted before its answer could be kept{cost}"))
            }
        };
        let message = format!(
            "the first request with this {KEY} (answer {answer}) {what}; it does not run again under this key: send a new key"
        );
        Err(ApiError::idempotency(message, code))
    }

    /// What an interrupted request has cost, as the end of a sentence; nothing is said without books.
    async fn cost(&self, answer: &str, generations: Option<u32>) -> String {
        let Some(books) = self.books.clone() else { return String::new() };
        let (currency, answer) = (books.currency().code.clone(), answer.to_owned());
        let read = spawn_blocking(move || generations.map(|count| cost_of(&books, &answer, count)).transpose());
        match timeout(FILE_LIMIT, read).await {
            Ok(Ok(Ok(Some(cost)))) => told(cost, &currency),
            Ok(Ok(Ok(None)) | Err(_)) | Err(_) => told_unknown(),
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, "the cost of an interrupted request cannot be read");
                told_unknown()
            }
        }
    }

    async fn replay(&self, name: Digest, size: i64, streamed: bool) -> Result<Option<Replay>, ApiError> {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let held = Arc::clone(&self.memory)
            .try_acquire_many_owned(size)
            .map_err(|_full| ApiError::unavailable("too many kept answers are being sent; try again", "overloaded"))?;
        let bytes = self.with(move |store| store.bytes(&name)).await?;
        Ok(bytes.map(|bytes| Replay { bytes, streamed, held }))
    }
}

/// What the generations of an answer have cost together.
fn cost_of(books: &Books, answer: &str, generations: u32) -> Result<Cost, StoreError> {
    (0..generations).try_fold(Cost::default(), |sum, number| {
        let cost = books.cost(EntryId(entry_id(&format!("{answer}-{number}"))))?;
        let pool_units = sum.pool_units.saturating_add(cost.pool_units);
        Ok(Cost { amount: sum.amount.saturating_add(cost.amount), pool_units })
    })
}

fn told(cost: Cost, currency: &str) -> String {
    let Cost { amount, pool_units } = cost;
    match (amount, pool_units) {
        (Nano::ZERO, 0) => ", and nothing has been charged for it".to_owned(),
        (_, 0) => format!(", and {amount} {currency} has been charged for it"),
        _ => format!(
            ", and {amount} {currency} and {} tokens of the pool have been charged for it",
            unit::text(unit::POOL, pool_units)
        ),
    }
}

fn told_unknown() -> String {
    "; whether anything was charged for it is not known now".to_owned()
}

fn conflict() -> ApiError {
    let message = format!("this {KEY} was used for a request with another body; send a new key for a new request");
    ApiError::idempotency(message, "idempotency_conflict")
}

fn not_kept() -> (&'static str, String) {
    ("idempotency_not_kept", "ended well and was charged, but its answer is no longer kept".to_owned())
}

/// The right to work on a key; without a [`Recording`] it leaves no trace.
pub(crate) struct Claim {
    answers: Arc<Answers>,
    asked: Asked,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.answers.claims().remove(&self.asked.name);
    }
}

impl Claim {
    /// Writes the key as begun, before anything runs: the id of the answer that is to come, and of how many generations.
    ///
    /// # Errors
    /// 503 when the file cannot be written or has no room for another key; nothing may run then.
    pub(crate) async fn begin(self, answer: &str, generations: u32) -> Result<Recording, ApiError> {
        let (asked, answer) = (self.asked.clone(), answer.to_owned());
        if !self.answers.with(move |store| store.begin(&asked, (&answer, generations), unix_ms())).await? {
            let message = format!(
                "as many keys as can be known for 24 hours are in use; send this request without {KEY}, or later"
            );
            return Err(ApiError::unavailable(message, "idempotency_full"));
        }
        Ok(Recording { claim: self, bytes: Vec::new(), held: None, whole: true })
    }
}

/// An answer that is being made and is to be kept. One that is dropped without its end counts as interrupted.
pub(crate) struct Recording {
    claim: Claim,
    bytes: Vec<u8>,
    held: Option<OwnedSemaphorePermit>,
    whole: bool,
}

impl Recording {
    /// More of the answer, as the client gets it.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        let fits = self.whole && self.bytes.len() + bytes.len() <= MAX_ANSWER_BYTES;
        let share = u32::try_from(bytes.len()).ok().filter(|_| fits);
        let memory = Arc::clone(&self.claim.answers.memory);
        match share.and_then(|share| memory.try_acquire_many_owned(share).ok()) {
            Some(more) => {
                match &mut self.held {
                    Some(held) => held.merge(more),
                    None => self.held = Some(more),
                }
                self.bytes.extend_from_slice(bytes);
            }
            None => {
                self.whole = false;
                self.bytes = Vec::new();
                self.held = None;
            }
        }
    }

    /// Whether there is still an answer to be kept.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The answer came to a good end. What goes wrong here is the keeping's own matter: the client gets its answer.
    pub(crate) async fn keep(self, streamed: bool) {
        let Self { claim, bytes, held, whole } = self;
        let name = claim.asked.name;
        let kept = claim.answers.with(move |store| {
            let _held = held;
            if whole { store.keep(&name, streamed, &bytes) } else { store.too_large(&name) }
        });
        logged(kept.await);
    }

    /// The request failed. `charged`: something may have been charged, so it must not run again under this key.
    pub(crate) async fn fail(self, error: &ApiError, charged: bool) {
        let (name, note) = (self.claim.asked.name, error.message().to_owned());
        let noted =
            self.claim.answers.with(move |store| if charged { store.fail(&name, &note) } else { store.free(&name) });
        logged(noted.await);
    }
}

fn logged(result: Result<(), ApiError>) {
    if let Err(error) = result {
        tracing::error!(
            reason = error.message(),
            "the end of a request with an Idempotency-Key was not written; it counts as interrupted"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_interrupted_request_cost_is_told() {
        for (nano, pool_units, part) in [
            (0, 0, "nothing has been charged"),
            (350_000, 0, "0.00035 USD has been charged"),
            (0, 2_500, "0.00 USD and 2.5 tokens of the pool have been charged"),
        ] {
            let text = told(Cost { amount: Nano(nano), pool_units }, "USD");
            assert!(text.contains(part), "{text}");
        }
        assert!(told_unknown().contains("not known"));
    }
}
