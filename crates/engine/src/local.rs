//! The engine on its own thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use inference::{Counters, Engine, EngineLimits, Gauges, Request, RequestFailure, StepTerm, SubmitError, Work};

use crate::calibration::named;
use crate::config::{EngineConfig, StartError, check_draft, check_request};
use crate::inbox::Inbox;
use crate::output::panic_message;
use crate::runner::Runner;
use crate::stats::{self, Stats};
use crate::step::{Clock, Core, Shared};
use crate::work::WorkLog;

/// How long the thread rests when all its work waits for more allowance.
const STARVED_PAUSE: Duration = Duration::from_millis(1);
/// While the thread rests for a duty limit, so often it looks for requests that were cancelled and for a changed limit.
const REST_PAUSE: Duration = Duration::from_millis(10);

/// An engine in this process: one thread that owns the runner and steps as long as there is work.
///
/// Dropping it fails what is still in work with [`RequestFailure::Shutdown`] and joins the thread.
pub struct LocalEngine {
    inbox: Arc<Inbox>,
    stats: Arc<Stats>,
    work: Arc<WorkLog>,
    clock: MonotonicClock,
    limits: EngineLimits,
    /// The model's own; the limits' is what fits the KV pool too.
    context_len: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LocalEngine {
    /// Starts the engine's thread.
    ///
    /// # Errors
    /// A setting out of range, or no thread to be had.
    pub fn start(runner: Box<dyn Runner>, config: EngineConfig) -> Result<Self, StartError> {
        Self::start_with_draft(runner, None, config)
    }

    /// The same with a draft model that guesses ahead, if [`EngineConfig::speculation`] is on. It runs on the engine's
    /// thread; what it guesses never changes what is made.
    ///
    /// # Errors
    /// Also when the draft's vocabulary is of another size.
    pub fn start_with_draft(
        runner: Box<dyn Runner>,
        draft: Option<Box<dyn Runner>>,
        config: EngineConfig,
    ) -> Result<Self, StartError> {
        let shape = runner.shape();
        let limits = config.limits(shape)?;
        if let Some(draft) = &draft {
            check_draft(shape, draft.shape())?;
        }
        let inbox = Arc::new(Inbox::new(config.max_waiting));
        let stats = Arc::new(Stats::default());
        let name = config.thread_name.clone();
        let work = Arc::new(WorkLog::default());
        let shared = Shared { stats: Arc::clone(&stats), inbox: Arc::clone(&inbox), work: Arc::clone(&work) };
        let clock = MonotonicClock(config.duty.epoch());
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let core = Core::new(runner, draft, &config, limits, shared.clone(), Box::new(clock));
            run(core, &shared.inbox, clock);
        })?;
        Ok(Self { inbox, stats, work, clock, limits, context_len: shape.context_len, thread: Mutex::new(Some(thread)) })
    }

    /// Refuses new requests, lets those accepted go on until `deadline`, then fails what is left with
    /// [`RequestFailure::Shutdown`]. Returns when the thread has ended, at the latest one step after the deadline.
    pub fn shutdown(&self, deadline: Instant) {
        self.inbox.end(deadline);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        // A sink may hold the last handle of the engine: its own thread cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the engine's thread panicked");
        }
    }
}

impl Drop for LocalEngine {
    fn drop(&mut self) {
        self.shutdown(Instant::now());
    }
}

impl Engine for LocalEngine {
    fn submit(&self, request: Request) -> Result<(), SubmitError> {
        check_request(&request, &self.limits, self.context_len)?;
        self.inbox.submit(request)?;
        stats::add(&self.stats.requests, 1);
        Ok(())
    }

    fn limits(&self) -> EngineLimits {
        self.limits
    }

    fn gauges(&self) -> Gauges {
        self.stats.gauges(self.inbox.waiting())
    }

    fn counters(&self) -> Counters {
        self.stats.counters()
    }

    fn take_work(&self) -> Work {
        self.work.take(self.clock.now_ns())
    }

    fn step_terms(&self) -> Vec<StepTerm> {
        named(&self.stats.terms())
    }

    fn close(&self) {
        self.inbox.close();
    }
}

/// Nanoseconds since the duty limit's epoch, which engines that share one have in common.
#[derive(Clone, Copy)]
struct MonotonicClock(Instant);

impl MonotonicClock {
    /// An instant before it counts as the epoch.
    fn ns_of(self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.0).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Clock for MonotonicClock {
    fn now_ns(&self) -> u64 {
        self.ns_of(Instant::now())
    }
}

/// The thread: take what is new, step, until the end is asked for.
fn run(mut core: Core, inbox: &Inbox, clock: MonotonicClock) {
    loop {
        let patience = match (core.is_idle(), core.is_starved()) {
            (true, _) => Some(Duration::MAX),
            (false, true) => Some(STARVED_PAUSE),
            (false, false) => None,
        };
        let delivery = inbox.take(patience);
        for request in delivery.requests {
            let received = clock.ns_of(request.received);
            core.submit(request, received);
        }
        if delivery.deadline.is_some_and(|deadline| core.is_idle() || Instant::now() >= deadline) {
            core.fail_all(&RequestFailure::Shutdown);
            core.settle();
            return;
        }
        let rest = Duration::from_nanos(core.rest_ns());
        if !rest.is_zero() {
            core.drop_cancelled();
            core.settle();
            inbox.rest(rest.min(REST_PAUSE));
            continue;
        }
        // A fault of the engine itself must not leave readers waiting for ever, nor end the service.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| core.step())) {
            let message = format!("the engine failed: {}", panic_message(panic.as_ref()));
            tracing::error!("{message}");
            core.reset(&RequestFailure::Internal(message));
        }
        core.settle();
    }
}
