//! A core with a simulated runner and a clock that moves only when told.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use inference::{Event, Gauges, MachineTime, Purpose, RequestId, TokenId, TokenLogprobs, Usage};

use super::super::*;
use crate::runner::{RunnerError, RunnerShape};
use crate::{SimulatedConfig, SimulatedRunner};

pub(super) const VOCAB: usize = 64;

#[derive(Clone, Default)]
pub(super) struct ManualClock(pub(super) Arc<AtomicU64>);

impl Clock for ManualClock {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Moves the clock with every pass, and fails when told.
pub(super) struct TestRunner {
    inner: Box<dyn Runner>,
    clock: ManualClock,
    watch: Watch,
}

/// What a test sees and sets of a runner.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) fault: Arc<Mutex<Option<&'static str>>>,
    /// The columns of each sequence of each batch.
    pub(super) batches: Arc<Mutex<Vec<Vec<usize>>>>,
    pub(super) price: Arc<Mutex<Price>>,
}

impl Watch {
    fn new() -> Self {
        let price: Price = |_, _| STEP_NS;
        Self { fault: Arc::default(), batches: Arc::default(), price: Arc::new(Mutex::new(price)) }
    }
}

/// How long a batch takes; the number counts them.
pub(super) type Price = fn(&Batch<'_>, usize) -> u64;

pub(super) const STEP_NS: u64 = 1000;

impl Runner for TestRunner {
    fn shape(&self) -> RunnerShape {
        self.inner.shape()
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut [f32]) -> Result<(), RunnerError> {
        let number = self.watch.batches.lock().unwrap().len();
        let ns = (*self.watch.price.lock().unwrap())(batch, number);
        self.clock.0.fetch_add(ns, Ordering::Relaxed);
        match self.watch.fault.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take() {
            Some("panic") => panic!("a test's fault"),
            Some("nan") => logits.fill(f32::NAN),
            Some("first nan") => {
                self.inner.forward(batch, logits)?;
                logits[..VOCAB].fill(f32::NAN);
            }
            Some(message) => return Err(RunnerError(message.to_owned())),
            None => self.inner.forward(batch, logits)?,
        }
        let mut columns = vec![0; batch.tables.len()];
        for column in batch.columns {
            columns[column.sequence as usize] += 1;
        }
        self.watch.batches.lock().unwrap().push(columns);
        Ok(())
    }

    fn copy_block(&mut self, from: BlockId, to: BlockId, tokens: usize) {
        self.inner.copy_block(from, to, tokens);
    }
}

/// What a request got.
#[derive(Clone, Default)]
pub(super) struct Log(pub(super) Arc<Mutex<Vec<Event>>>);

impl Log {
    pub(super) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub(super) fn tokens(&self, of: u32) -> Vec<TokenId> {
        let token = |event: &Event| match event {
            Event::Token { candidate, id, .. } if *candidate == of => Some(*id),
            _ => None,
        };
        self.events().iter().filter_map(token).collect()
    }

    /// Log-probabilities of the tokens made, by candidate and in order.
    pub(super) fn logprobs(&self) -> Vec<(u32, TokenLogprobs)> {
        let token = |event: &Event| match event {
            Event::Token { candidate, logprobs, .. } => logprobs.clone().map(|logprobs| (*candidate, logprobs)),
            _ => None,
        };
        let mut all: Vec<_> = self.events().iter().filter_map(token).collect();
        all.sort_by_key(|(candidate, _)| *candidate);
        all
    }

    pub(super) fn finished(&self) -> Vec<(u32, FinishReason, u32)> {
        let finished = |event: &Event| match event {
            Event::Finished { candidate, reason, dropped } => Some((*candidate, *reason, *dropped)),
            _ => None,
        };
        self.events().iter().filter_map(finished).collect()
    }

    pub(super) fn usage(&self) -> Usage {
        match self.events().last() {
            Some(Event::Done(usage)) => (**usage).clone(),
            other => panic!("not done: {other:?}"),
        }
    }

    pub(super) fn failure(&self) -> RequestFailure {
        match self.events().last() {
            Some(Event::Failed(failure, _)) => failure.clone(),
            other => panic!("not failed: {other:?}"),
        }
    }

    pub(super) fn prompt(&self) -> Vec<TokenLogprobs> {
        let mut all = Vec::new();
        for event in self.events() {
            if let Event::Prompt { start, logprobs } = event {
                assert_eq!(start as usize, all.len() + 1, "in order");
                all.extend(logprobs);
            }
        }
        all
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.events().last(), Some(Event::Done(_) | Event::Failed(..)))
    }
}

pub(super) struct Plant {
    pub(super) core: Core,
    pub(super) clock: ManualClock,
    pub(super) stats: Arc<Stats>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) fault: Arc<Mutex<Option<&'static str>>>,
    pub(super) batches: Arc<Mutex<Vec<Vec<usize>>>>,
    pub(super) price: Arc<Mutex<Price>>,
    /// The draft model, if there is one.
    pub(super) draft: Watch,
    pub(super) next: u64,
}

impl Plant {
    pub(super) fn new(kv_blocks: usize, config: &EngineConfig) -> Self {
        Self::with_pattern(kv_blocks, config, 0)
    }

    /// The model's answers mostly repeat themselves after `pattern` tokens.
    pub(super) fn with_pattern(kv_blocks: usize, config: &EngineConfig, pattern: usize) -> Self {
        let shape = SimulatedConfig { vocab_size: VOCAB, kv_blocks, pattern, ..SimulatedConfig::default() };
        Self::with_runners(Box::new(SimulatedRunner::new(shape)), None, config)
    }

    pub(super) fn with_runners(inner: Box<dyn Runner>, draft: Option<Box<dyn Runner>>, config: &EngineConfig) -> Self {
        let clock = ManualClock::default();
        let (watch, draft_watch) = (Watch::new(), Watch::new());
        let runner = TestRunner { inner, clock: clock.clone(), watch: watch.clone() };
        let draft = draft.map(|inner| -> Box<dyn Runner> {
            Box::new(TestRunner { inner, clock: clock.clone(), watch: draft_watch.clone() })
        });
        let Watch { fault, batches, price } = watch;
        let limits = config.limits(runner.shape()).unwrap();
        let stats = Arc::new(Stats::default());
        let inbox = Arc::new(Inbox::new(config.max_waiting));
        let work = Arc::default();
        let shared = Shared { stats: Arc::clone(&stats), inbox: Arc::clone(&inbox), work };
        let core = Core::new(Box::new(runner), draft, config, limits, shared, Box::new(clock.clone()));
        Self { core, clock, stats, inbox, fault, batches, price, draft: draft_watch, next: 0 }
    }

    pub(super) fn submit(&mut self, prompt: Vec<TokenId>, max_tokens: u32, change: impl FnOnce(&mut Request)) -> Log {
        let log = Log::default();
        let events = Arc::clone(&log.0);
        self.next += 1;
        let events = Box::new(move |event| events.lock().unwrap().push(event));
        let request = Request::plain(RequestId(self.next), prompt, max_tokens, events);
        let mut request = Request { ignore_eos: false, ..request };
        change(&mut request);
        self.core.submit(request, self.clock.now_ns());
        log
    }

    pub(super) fn step(&mut self) {
        self.core.step();
        self.core.scheduler.check();
        self.core.settle();
        self.draft_blocks();
    }

    /// Checks the draft model's blocks, and gives how many are held.
    pub(super) fn draft_blocks(&self) -> usize {
        self.core.draft.as_ref().map_or(0, DraftModel::check)
    }

    pub(super) fn gauges(&self) -> Gauges {
        self.stats.gauges(self.inbox.waiting())
    }

    pub(super) fn drain(&mut self) {
        for _ in 0..10_000 {
            if self.core.is_idle() {
                assert_eq!((self.gauges().kv_blocks_used, self.draft_blocks()), (0, 0));
                assert_eq!((self.gauges().running, self.gauges().waiting), (0, 0));
                return;
            }
            self.step();
        }
        panic!("the work does not come to an end");
    }
}

pub(super) fn plant() -> Plant {
    Plant::new(256, &EngineConfig { seed: Some(1), ..EngineConfig::default() })
}

pub(super) fn prompt(seed: u32, len: u32) -> Vec<TokenId> {
    (0..len).map(|i| (i * i * 7 + i * seed + seed * 31) % 64).collect()
}

/// Requests with their numbers of candidates got the same with guesses as without, for as many columns and those wasted.
pub(super) fn assert_same_answers(plain: &[(Log, u32)], drafted: &[(Log, u32)], seed: u64) {
    for ((plain, candidates), (drafted, _)) in plain.iter().zip(drafted) {
        for candidate in 0..*candidates {
            assert_eq!(plain.tokens(candidate), drafted.tokens(candidate), "{seed}");
        }
        assert_eq!(plain.logprobs(), drafted.logprobs(), "{seed}");
        let ends = |log: &Log| log.finished().into_iter().collect::<HashSet<_>>();
        assert_eq!(ends(plain), ends(drafted), "{seed}");
        let (plain, drafted) = (plain.usage(), drafted.usage());
        let made = |usage: &Usage| (usage.output_tokens, usage.output_dropped_tokens);
        assert_eq!(made(&plain), made(&drafted), "{seed}");
        assert_eq!((plain.draft_accepted_tokens, plain.draft_rejected_tokens), (0, 0), "{seed}");
        assert_eq!(drafted.decode_columns, plain.decode_columns + drafted.draft_rejected_tokens, "{seed}");
    }
}

/// What all requests used is what the plant counted, machine time to the nanosecond.
pub(super) fn assert_adds_up<'a>(logs: impl Iterator<Item = &'a Log>, counters: &inference::Counters) {
    let (mut accepted, mut rejected, mut columns) = (0, 0, 0);
    let mut machine = MachineTime::default();
    for usage in logs.map(Log::usage) {
        machine.add(&usage.machine);
        assert_eq!(usage.machine.get(Purpose::Rejected) > 0, usage.draft_rejected_tokens > 0, "{usage:?}");
        accepted += usage.draft_accepted_tokens;
        rejected += usage.draft_rejected_tokens;
        columns += usage.decode_columns;
    }
    assert_eq!((accepted, rejected), (counters.draft_accepted_tokens, counters.draft_rejected_tokens));
    assert_eq!(columns, counters.decode_columns);
    assert_eq!(machine.total(), counters.busy_ns);
}
