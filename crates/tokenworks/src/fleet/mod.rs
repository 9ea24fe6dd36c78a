//! The models of a server: in memory or offered, loaded when they are asked for, unloaded by command, when idle, or to make
//! room.
//!
//! Whatever loads or unloads does it in one turn after the other, in a task of its own: it goes on when whoever asked goes
//! away. The work itself is off the runtime's threads. The lock over the slots is held for moments only, never over work.

mod adapters;
mod loading;
pub mod policy;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::DutyLimit;
use engine::LocalEngine;
use inference::Gauges;
use kernels::ThreadPool;
use metering::Meter;
use model::Model;
use service::{Behind, BoxFuture, Charging, Lease, Line, LocalLine, ModelPool, ModelState, ModelStatus, PoolError};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout, timeout_at};
use traces::Traces;

use crate::assembly::{ENGINE_END, Facts};
use crate::catalogue::ModelRef;
use crate::commands::Context;
use crate::config::LoadTime;
use crate::error::Result;
use crate::memory::{self, Need};
use crate::progress::Watch;
use adapters::Adapter;
use policy::Resident;

/// How long a request waits for its model to be loaded.
const LINE_WAIT: Duration = Duration::from_secs(60);
/// How long a command waits for what it asked for; then it is told how far that has come.
const COMMAND_WAIT: Duration = Duration::from_secs(100);
/// A model that could not be loaded is not tried again for requests so soon.
const FAILURE_STANDS: Duration = Duration::from_secs(30);
/// How often is looked for models that nobody uses.
const IDLE_CHECK: Duration = Duration::from_millis(500);

/// What loading takes.
pub struct Works {
    /// Settings, catalogue, environment.
    pub context: Context,
    /// The compute threads that all models share.
    pub threads: Arc<ThreadPool>,
    /// Counts what the models do.
    pub meter: Arc<Meter>,
    /// Charges their requests.
    pub charging: Arc<Charging>,
    /// Holds the plant's power below its cap.
    pub duty: DutyLimit,
    /// Keep the last requests.
    pub traces: Option<Arc<Traces>>,
    /// Whether the terms of models that must be fetched are accepted.
    pub accept_license: bool,
}

/// A model that is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What it is.
    pub model: ModelRef,
    /// When it is loaded.
    pub load: LoadTime,
}

/// The models of a server.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    works: Works,
    offers: Vec<Offer>,
    /// Bytes that all models may take together.
    limit: Option<u64>,
    /// Unix seconds of the start.
    created: u64,
    /// One for each offer.
    slots: Mutex<Vec<Slot>>,
    /// Held while something is loaded or unloaded.
    turn: tokio::sync::Mutex<()>,
    /// Requests that may wait for models.
    waiting: Semaphore,
    closed: AtomicBool,
}

/// What became of an offer.
struct Slot {
    state: ModelState,
    pinned: bool,
    /// Its file was not on this machine when that was last looked for.
    must_fetch: bool,
    /// How far the fetch of its file, or its draft model's, has come.
    fetch: Watch,
    /// Bytes that it has, or that are set aside for it.
    takes: Need,
    context_len: Option<usize>,
    /// When it was last seen in use.
    used: Instant,
    failed: Option<Instant>,
    running: Option<Running>,
    attempt: Option<Attempt>,
    /// Those that belong to it, by name, in memory or not.
    adapters: BTreeMap<String, Adapter>,
}

/// A model in memory.
struct Running {
    line: Arc<LocalLine>,
    engine: Arc<LocalEngine>,
    /// The weights, for which adapters are loaded.
    model: Arc<Model>,
    /// Shared by all uses of the line.
    uses: Arc<()>,
    facts: Facts,
}

type Outcome = Result<(), PoolError>;

/// An attempt to load a model: its outcome, once it has ended.
type Attempt = watch::Receiver<Option<Outcome>>;

impl Running {
    fn leased(&self) -> bool {
        Arc::strong_count(&self.uses) > 1
    }

    fn gauges(&self) -> Gauges {
        self.line.status().gauges
    }

    fn busy(&self) -> bool {
        let gauges = self.gauges();
        self.leased() || gauges.running + gauges.waiting > 0
    }
}

impl Slot {
    fn new(pinned: bool, must_fetch: bool, adapters: BTreeMap<String, Adapter>) -> Self {
        Self {
            adapters,
            state: ModelState::Unloaded,
            pinned,
            must_fetch,
            fetch: Watch::default(),
            takes: Need::default(),
            context_len: None,
            used: Instant::now(),
            failed: None,
            running: None,
            attempt: None,
        }
    }

    /// How long it has had no request; `None` while it has one, or is not loaded.
    fn idle(&self) -> Option<Duration> {
        let running = self.running.as_ref().filter(|_| self.state == ModelState::Loaded)?;
        (!running.busy()).then(|| self.used.elapsed())
    }

    /// The attempt that is under way.
    fn under_way(&self) -> Option<Attempt> {
        // An attempt that broke off has dropped its sender.
        self.attempt.clone().filter(|attempt| attempt.borrow().is_none() && attempt.has_changed().is_ok())
    }
}

impl Fleet {
    /// Offers these models; none is loaded yet.
    #[must_use]
    pub fn new(works: Works, offers: Vec<Offer>) -> Self {
        let settings = &works.context.settings;
        let slot = |offer: &Offer| {
            let own = settings.models.get(&offer.model.name).cloned().unwrap_or_default();
            let adapters = own.adapters.into_iter().map(|(name, path)| (name, Adapter::new(path))).collect();
            Slot::new(own.pinned, works.context.catalogue().must_fetch(&offer.model.source), adapters)
        };
        let slots = offers.iter().map(slot).collect();
        let limit = settings.engine.memory.or_else(memory::available);
        let waiting = Semaphore::new(settings.engine.max_waiting.min(Semaphore::MAX_PERMITS));
        Self(Arc::new(Inner {
            works,
            offers,
            limit,
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            slots: Mutex::new(slots),
            turn: tokio::sync::Mutex::new(()),
            waiting,
            closed: AtomicBool::new(false),
        }))
    }

    /// Loads those that are to be there at the start.
    ///
    /// # Errors
    /// They do not fit together, or one cannot be fetched, loaded or started.
    pub async fn start(&self) -> Result<()> {
        loading::start(&self.0).await
    }

    /// What is shown of those in memory, in the order of the offers.
    #[must_use]
    pub fn facts(&self) -> Vec<Facts> {
        self.0.slots().iter().filter_map(|slot| Some(slot.running.as_ref()?.facts.clone())).collect()
    }

    /// The names of those that are loaded when they are asked for.
    #[must_use]
    pub fn on_demand(&self) -> Vec<String> {
        let offers = self.0.offers.iter().filter(|offer| offer.load == LoadTime::Demand);
        offers.map(|offer| offer.model.name.clone()).collect()
    }

    /// Unloads what nobody uses, if the settings say so, until the pool is closed.
    pub async fn keep_watch(&self) {
        let limit = self.0.works.context.settings.engine.unload_idle;
        while !self.0.closed() {
            sleep(IDLE_CHECK).await;
            for index in self.0.idle_for(limit) {
                loading::unload(&self.0, index, limit).await;
            }
        }
    }

    /// Ends all engines; what is still in work fails.
    pub fn end(&self) {
        let engines: Vec<_> = {
            let slots = self.0.slots();
            slots.iter().filter_map(|slot| Some(Arc::clone(&slot.running.as_ref()?.engine))).collect()
        };
        for engine in engines {
            engine.shutdown(Instant::now() + ENGINE_END);
        }
    }

    /// The attempt to load a model that is under way, or a new one.
    fn attempt(&self, index: usize) -> Result<Attempt, PoolError> {
        if self.0.closed() {
            return Err(PoolError::Closed);
        }
        let mut slots = self.0.slots();
        let slot = slots.get_mut(index).ok_or(PoolError::Closed)?;
        if let Some(attempt) = slot.under_way() {
            return Ok(attempt);
        }
        let (sender, attempt) = watch::channel(None);
        slot.attempt = Some(attempt.clone());
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let outcome = loading::load(&inner, index).await;
            sender.send_replace(Some(outcome));
        });
        Ok(attempt)
    }

    /// Waits for a model to be loaded, with others, for a bounded time; gives its line, or that of an adapter.
    async fn wait_for(&self, index: usize, adapter: Option<&str>) -> Result<Lease, PoolError> {
        let inner = &self.0;
        if let Some(reason) = inner.failed_just_now(index) {
            return Err(PoolError::Failed { model: inner.name(index), reason });
        }
        let Ok(_place) = inner.waiting.try_acquire() else {
            return Err(PoolError::Full { waiting: inner.works.context.settings.engine.max_waiting });
        };
        let deadline = tokio::time::Instant::now() + LINE_WAIT;
        loop {
            // Where it is unloaded again before its turn comes, it is loaded once more.
            if let Some(lease) = inner.lease(index, adapter) {
                return lease;
            }
            let attempt = self.attempt(index)?;
            match timeout_at(deadline, inner.outcome(index, attempt)).await {
                Ok(outcome) => outcome?,
                Err(_) => return Err(PoolError::Loading { model: inner.name(index), behind: inner.before(index) }),
            }
        }
    }
}

impl Inner {
    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on one slot, for a moment.
    fn with<T>(&self, index: usize, work: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        self.slots().get_mut(index).map(work)
    }

    fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn name(&self, index: usize) -> String {
        self.offers.get(index).map_or_else(String::new, |offer| offer.model.name.clone())
    }

    fn aliases(&self, index: usize) -> &[String] {
        let own = self.offers.get(index).and_then(|offer| self.works.context.settings.models.get(&offer.model.name));
        own.map(|own| own.aliases.as_slice()).unwrap_or_default()
    }

    /// The offer that is called so; its own name goes before aliases of others.
    fn index(&self, name: &str) -> Result<usize, PoolError> {
        let own = self.offers.iter().position(|offer| offer.model.name == name);
        let other = || (0..self.offers.len()).find(|&index| self.aliases(index).iter().any(|alias| alias == name));
        own.or_else(other).ok_or_else(|| PoolError::Unknown { name: name.to_owned() })
    }

    /// A use of a model that is loaded, with an adapter or without.
    fn lease(&self, index: usize, adapter: Option<&str>) -> Option<Result<Lease, PoolError>> {
        let lease = self.with(index, |slot| {
            let running = slot.running.as_ref().filter(|_| slot.state == ModelState::Loaded)?;
            slot.used = Instant::now();
            let uses = Arc::clone(&running.uses);
            Some(match adapter {
                None => Ok(Lease::new(Arc::clone(&running.line) as Arc<dyn Line>, uses)),
                Some(name) => self.adapted(index, slot, name).map(|line| Lease::new(line, uses)),
            })
        });
        lease.flatten()
    }

    /// Why a model could not be loaded, if that was a moment ago.
    fn failed_just_now(&self, index: usize) -> Option<String> {
        let reason = self.with(index, |slot| match &slot.state {
            ModelState::Failed { reason } if slot.failed.is_some_and(|at| at.elapsed() < FAILURE_STANDS) => {
                Some(reason.clone())
            }
            _ => None,
        });
        reason.flatten()
    }

    /// What another model waits for: the one that has its turn now.
    fn before(&self, index: usize) -> Option<Behind> {
        let slots = self.slots();
        let has_turn = |slot: &Slot| matches!(slot.state, ModelState::Loading | ModelState::Draining);
        let (other, slot) = slots.iter().enumerate().find(|(other, slot)| *other != index && has_turn(slot))?;
        Some(Behind { model: self.name(other), state: slot.state.clone() })
    }

    /// Waits for the end of an attempt.
    async fn outcome(&self, index: usize, mut attempt: Attempt) -> Outcome {
        let ended = attempt.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        match ended {
            Ok(Some(outcome)) => outcome,
            _ => Err(PoolError::Failed { model: self.name(index), reason: "loading broke off".to_owned() }),
        }
    }

    /// Those that have had no request for `limit`. Those that have one are noted as used on the way.
    fn idle_for(&self, limit: Option<Duration>) -> Vec<usize> {
        let mut slots = self.slots();
        let mut idle = Vec::new();
        for (index, slot) in slots.iter_mut().enumerate() {
            match slot.idle() {
                Some(since) if !slot.pinned && limit.is_some_and(|limit| since >= limit) => idle.push(index),
                Some(_) => {}
                None => slot.used = Instant::now(),
            }
        }
        idle
    }

    /// Those that have a part of the memory, without one.
    fn residents(&self, slots: &[Slot], without: usize) -> Vec<Resident> {
        let others = slots.iter().enumerate().filter(|(index, slot)| *index != without && slot.takes.total() > 0);
        let resident = |(index, slot): (usize, &Slot)| Resident {
            name: self.name(index),
            takes: slot.takes,
            idle: slot.idle(),
            pinned: slot.pinned,
        };
        others.map(resident).collect()
    }

    fn status(&self, index: usize, slot: &Slot) -> ModelStatus {
        let gauges = slot.running.as_ref().map(Running::gauges).unwrap_or_default();
        ModelStatus {
            id: self.name(index),
            aliases: self.aliases(index).to_vec(),
            created: slot.running.as_ref().map_or(self.created, |running| running.line.card().created),
            context_len: slot.context_len,
            state: slot.state.clone(),
            must_fetch: slot.must_fetch,
            fetching: slot.fetch.now().filter(|_| slot.state == ModelState::Loading),
            pinned: slot.pinned,
            weight_bytes: slot.takes.weights,
            kv_bytes: slot.takes.kv,
            running: gauges.running,
            waiting: gauges.waiting,
            idle: slot.idle(),
            adapters: slot.adapters.iter().map(|(name, adapter)| adapter.status(name)).collect(),
        }
    }

    fn status_of(&self, index: usize) -> Result<ModelStatus, PoolError> {
        self.with(index, |slot| self.status(index, slot)).ok_or(PoolError::Closed)
    }
}

impl ModelPool for Fleet {
    fn models(&self) -> Vec<ModelStatus> {
        self.0.slots().iter().enumerate().map(|(index, slot)| self.0.status(index, slot)).collect()
    }

    fn memory(&self) -> Option<u64> {
        self.0.limit
    }

    fn lines(&self) -> Vec<Arc<dyn Line>> {
        let line = |slot: &Slot| Some(Arc::clone(&slot.running.as_ref()?.line) as Arc<dyn Line>);
        self.0.slots().iter().filter_map(line).collect()
    }

    fn line<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Lease, PoolError>> {
        Box::pin(async move {
            let (index, adapter) = self.0.find(name)?;
            match self.0.lease(index, adapter) {
                Some(lease) => lease,
                None => self.wait_for(index, adapter).await,
            }
        })
    }

    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<ModelStatus, PoolError>> {
        Box::pin(async move {
            let index = self.0.index(name)?;
            let attempt = self.attempt(index)?;
            if let Ok(outcome) = timeout(COMMAND_WAIT, self.0.outcome(index, attempt)).await {
                outcome?;
            }
            self.0.status_of(index)
        })
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<ModelStatus, PoolError>> {
        Box::pin(async move {
            let index = self.0.index(name)?;
            let inner = Arc::clone(&self.0);
            // Goes on by itself when it takes longer.
            let task = tokio::spawn(async move { loading::unload(&inner, index, None).await });
            let _ = timeout(COMMAND_WAIT, task).await;
            self.0.status_of(index)
        })
    }

    fn load_adapter<'a>(
        &'a self,
        model: &'a str,
        adapter: &'a str,
        path: &'a Path,
    ) -> BoxFuture<'a, Result<ModelStatus, PoolError>> {
        Box::pin(async move {
            let index = self.0.index(model)?;
            adapters::load(&self.0, index, adapter, path).await?;
            self.0.status_of(index)
        })
    }

    fn unload_adapter<'a>(&'a self, model: &'a str, adapter: &'a str) -> BoxFuture<'a, Result<ModelStatus, PoolError>> {
        Box::pin(async move {
            let index = self.0.index(model)?;
            adapters::unload(&self.0, index, adapter).await?;
            self.0.status_of(index)
        })
    }

    fn pin(&self, name: &str, pinned: bool) -> Result<ModelStatus, PoolError> {
        let index = self.0.index(name)?;
        self.0.with(index, |slot| slot.pinned = pinned);
        self.0.status_of(index)
    }

    fn not_ready(&self) -> Option<String> {
        if let Some(trouble) = self.0.works.charging.trouble() {
            return Some(format!("the books take nothing now: {trouble}"));
        }
        let slots = self.0.slots();
        self.0.offers.iter().zip(slots.iter()).find_map(|(Offer { model, load }, slot)| match &slot.state {
            ModelState::Loaded => {
                let open = slot.running.as_ref().is_some_and(|running| running.line.status().ready);
                (!open).then(|| format!("`{}` takes no requests", model.name))
            }
            state @ (ModelState::Loading | ModelState::Failed { .. }) if *load == LoadTime::Start => {
                Some(format!("`{}` is {}", model.name, state.name()))
            }
            _ => None,
        })
    }

    fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        for line in self.lines() {
            line.close();
        }
    }
}
