//! The engine on its thread, seen from outside: queue, readers, idleness, end.
#![cfg(test)]

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use engine::{
    DutyLimit, EngineConfig, LocalEngine, Runner, RunnerError, RunnerShape, SimulatedConfig, SimulatedRunner,
};
use inference::{CancelToken, Engine, Event, FinishReason, Request, RequestFailure, RequestId, SubmitError, TokenId};
use model::{Batch, BlockId};

/// Longest wait for something that must come.
const LIMIT: Duration = Duration::from_secs(60);

fn ask(prompt: Vec<TokenId>, max_tokens: u32) -> (Request, Receiver<Event>) {
    let (sender, receiver) = channel();
    let events = Box::new(move |event| drop(sender.send(event)));
    let request = Request::plain(RequestId(u64::from(max_tokens)), prompt, max_tokens, events);
    let request = Request { ignore_eos: false, ..request };
    (request, receiver)
}

/// All events of a request up to its last.
fn read(receiver: &Receiver<Event>) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = receiver.recv_timeout(LIMIT).expect("the request must come to an end");
        let last = matches!(event, Event::Done(_) | Event::Failed(..));
        events.push(event);
        if last {
            return events;
        }
    }
}

fn tokens(events: &[Event]) -> Vec<TokenId> {
    events.iter().filter_map(|event| if let Event::Token { id, .. } = event { Some(*id) } else { None }).collect()
}

fn simulated() -> SimulatedRunner {
    SimulatedRunner::new(SimulatedConfig::default())
}

/// Lets one pass through for each message sent to it.
struct Gated {
    inner: SimulatedRunner,
    gate: Mutex<Receiver<()>>,
}

impl Runner for Gated {
    fn shape(&self) -> RunnerShape {
        self.inner.shape()
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut [f32]) -> Result<(), RunnerError> {
        // Once the test is over, nothing holds the passes up any more.
        let _ = self.gate.lock().unwrap().recv();
        self.inner.forward(batch, logits)
    }

    fn copy_block(&mut self, from: BlockId, to: BlockId, tokens: usize) {
        self.inner.copy_block(from, to, tokens);
    }
}

#[test]
fn many_threads_get_the_answers_of_one() {
    let alone = LocalEngine::start(Box::new(simulated()), EngineConfig::default()).unwrap();
    let prompt = |i: u32| -> Vec<TokenId> { (0..i * 7 % 90 + 1).map(|at| (at * at + i) % 256).collect() };
    let expected: Vec<_> = (0..40)
        .map(|i| {
            let (request, events) = ask(prompt(i), i % 30 + 1);
            alone.submit(request).unwrap();
            tokens(&read(&events))
        })
        .collect();
    let small = SimulatedConfig { kv_blocks: 40, ..SimulatedConfig::default() };
    let engine = LocalEngine::start(Box::new(SimulatedRunner::new(small)), EngineConfig::default()).unwrap();
    let found: Vec<_> = std::thread::scope(|scope| {
        let one = |i: u32| {
            let engine = &engine;
            scope.spawn(move || {
                let (request, events) = ask(prompt(i), i % 30 + 1);
                engine.submit(request).unwrap();
                tokens(&read(&events))
            })
        };
        let handles: Vec<_> = (0..40).map(one).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert_eq!(found, expected);
    let gauges = engine.gauges();
    assert_eq!((gauges.running, gauges.waiting, gauges.kv_blocks_used), (0, 0, 0));
    assert_eq!(engine.counters().requests, 40);
}

#[test]
fn the_queue_is_bounded() {
    let (open, gate) = channel();
    let runner = Gated { inner: simulated(), gate: Mutex::new(gate) };
    let config = EngineConfig { max_waiting: 3, max_running: 1, max_candidates: 1, ..EngineConfig::default() };
    let engine = LocalEngine::start(Box::new(runner), config).unwrap();
    // Dropped before the engine, so that a failed assertion does not leave the engine's thread waiting.
    let open = open;
    let (first, first_events) = ask(vec![1], 5);
    engine.submit(first).unwrap();
    open.send(()).unwrap();
    assert!(matches!(first_events.recv_timeout(LIMIT), Ok(Event::Prefilled { cached: 0 })), "the first one runs");
    assert!(matches!(first_events.recv_timeout(LIMIT), Ok(Event::Token { .. })), "and makes tokens");
    let mut accepted = Vec::new();
    let refused = loop {
        let (request, events) = ask(vec![2], 1);
        match engine.submit(request) {
            Ok(()) => accepted.push(events),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, SubmitError::QueueFull { waiting: 3 });
    assert_eq!(accepted.len(), 3);
    assert_eq!(engine.gauges().waiting, 3);
    drop(open);
    for events in &accepted {
        assert!(matches!(read(events).last(), Some(Event::Done(_))));
    }
    let (again, events) = ask(vec![2], 1);
    engine.submit(again).unwrap();
    read(&events);
}

#[test]
fn a_reader_that_does_not_read_holds_nobody_up() {
    let engine = LocalEngine::start(Box::new(simulated()), EngineConfig::default()).unwrap();
    let (lazy, lazy_events) = ask(vec![1; 40], 300);
    engine.submit(lazy).unwrap();
    let (quick, quick_events) = ask(vec![2; 40], 400);
    engine.submit(quick).unwrap();
    assert_eq!(tokens(&read(&quick_events)).len(), 400);
    assert_eq!(tokens(&read(&lazy_events)).len(), 300, "everything gathered meanwhile");
}

#[test]
fn a_reader_that_went_away_harms_nobody() {
    let engine = LocalEngine::start(Box::new(simulated()), EngineConfig::default()).unwrap();
    let (gone, events) = ask(vec![1; 40], 300);
    drop(events);
    engine.submit(gone).unwrap();
    let (other, events) = ask(vec![2; 40], 30);
    engine.submit(other).unwrap();
    assert_eq!(tokens(&read(&events)).len(), 30);
}

#[test]
fn cancelling_takes_effect_at_the_next_step() {
    let (open, gate) = channel();
    let runner = Gated { inner: simulated(), gate: Mutex::new(gate) };
    let engine = LocalEngine::start(Box::new(runner), EngineConfig::default()).unwrap();
    let open = open;
    let (request, events) = ask(vec![1; 10], 1000);
    let cancel = request.cancel.clone();
    engine.submit(request).unwrap();
    for step in 0..3 {
        open.send(()).unwrap();
        if step == 0 {
            assert!(matches!(events.recv_timeout(LIMIT), Ok(Event::Prefilled { .. })));
        }
        assert!(matches!(events.recv_timeout(LIMIT), Ok(Event::Token { .. })));
    }
    cancel.cancel();
    open.send(()).unwrap();
    let rest = read(&events);
    assert!(tokens(&rest).len() <= 1, "the step under way may end");
    assert!(rest.contains(&Event::Finished { candidate: 0, reason: FinishReason::Cancelled, dropped: 0 }));
    assert_eq!(engine.gauges().kv_blocks_used, 0);
}

#[test]
fn bad_requests_are_refused_by_name() {
    let engine = LocalEngine::start(Box::new(simulated()), EngineConfig::default()).unwrap();
    type Change = fn(&mut Request);
    let bad: [(&str, Change); 11] = [
        ("prompt", |request| request.prompt.clear()),
        ("prompt", |request| request.prompt = vec![256]),
        ("max_tokens", |request| request.max_tokens = 2048),
        ("candidates", |request| request.candidates = 0),
        ("candidates", |request| request.candidates = 17),
        ("controls", |request| request.candidates = 2),
        ("temperature", |request| request.sampling.temperature = f32::NAN),
        ("top_p", |request| request.sampling.top_p = 1.5),
        ("min_p", |request| request.sampling.min_p = -0.1),
        ("repetition_penalty", |request| request.sampling.repetition_penalty = 0.0),
        ("logit_bias", |request| request.sampling.logit_bias = vec![(256, 1.0)]),
    ];
    struct Idle;
    impl inference::Control for Idle {
        fn commit(&mut self, _: TokenId) -> inference::Verdict {
            inference::Verdict::Continue
        }
    }
    for (name, change) in bad {
        let (mut request, events) = ask(vec![1], 10);
        request.controls = vec![Box::new(Idle)];
        change(&mut request);
        match engine.submit(request) {
            Err(SubmitError::Invalid(message)) => assert!(message.contains(name), "{message} should name {name}"),
            other => panic!("{name}: {other:?}"),
        }
        assert!(events.recv().is_err(), "no event");
    }
    assert_eq!(engine.counters().requests, 0);
}

#[test]
fn bad_settings_are_refused_by_name() {
    let start = |config| match LocalEngine::start(Box::new(simulated()), config) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("started"),
    };
    assert!(start(EngineConfig { max_waiting: 0, ..EngineConfig::default() }).contains("max_waiting"));
    assert!(start(EngineConfig { kv_blocks: 513, ..EngineConfig::default() }).contains("kv_blocks"));
}

#[test]
fn close_refuses_new_requests_and_lets_old_ones_end() {
    let (open, gate) = channel();
    let runner = Gated { inner: simulated(), gate: Mutex::new(gate) };
    let engine = LocalEngine::start(Box::new(runner), EngineConfig::default()).unwrap();
    let open = open;
    let (request, events) = ask(vec![1; 10], 20);
    engine.submit(request).unwrap();
    engine.close();
    let (late, _late_events) = ask(vec![1; 10], 20);
    assert_eq!(engine.submit(late), Err(SubmitError::Closed));
    drop(open);
    engine.shutdown(Instant::now() + LIMIT);
    let events: Vec<Event> = events.iter().collect();
    assert_eq!(tokens(&events).len(), 20);
    assert!(matches!(events.last(), Some(Event::Done(_))));
}

#[test]
fn shutdown_fails_what_is_left_at_its_deadline() {
    let slow = SimulatedConfig { step_cost: Duration::from_millis(5), ..SimulatedConfig::default() };
    let config = EngineConfig { max_running: 1, max_candidates: 1, ..EngineConfig::default() };
    let engine = LocalEngine::start(Box::new(SimulatedRunner::new(slow)), config).unwrap();
    let (running, running_events) = ask(vec![1; 10], 2000);
    let (waiting, waiting_events) = ask(vec![1; 10], 2000);
    engine.submit(running).unwrap();
    engine.submit(waiting).unwrap();
    assert!(running_events.recv_timeout(LIMIT).is_ok());
    engine.shutdown(Instant::now());
    for events in [running_events, waiting_events] {
        assert!(matches!(events.iter().last(), Some(Event::Failed(RequestFailure::Shutdown, _))));
    }
    assert_eq!(engine.gauges().kv_blocks_used, 0);
}

/// An engine that rests for a minute after the step that has just made the first token of its request.
fn resting() -> (LocalEngine, DutyLimit, CancelToken, Receiver<Event>) {
    let slow = SimulatedConfig { step_cost: Duration::from_millis(100), ..SimulatedConfig::default() };
    let config = EngineConfig { duty: DutyLimit::new(1), ..EngineConfig::default() };
    let duty = config.duty.clone();
    let engine = LocalEngine::start(Box::new(SimulatedRunner::new(slow)), config).unwrap();
    let (request, events) = ask(vec![1; 10], 2000);
    let cancel = request.cancel.clone();
    engine.submit(request).unwrap();
    assert!(matches!(events.recv_timeout(LIMIT), Ok(Event::Prefilled { .. })));
    assert!(matches!(events.recv_timeout(LIMIT), Ok(Event::Token { .. })));
    (engine, duty, cancel, events)
}

#[test]
fn an_engine_that_rests_takes_requests_and_cancellations() {
    let start = Instant::now();
    let (engine, duty, first_cancel, first_events) = resting();
    let (second, second_events) = ask(vec![2; 10], 2);
    let cancel = second.cancel.clone();
    engine.submit(second).unwrap();
    for (cancel, events) in [(first_cancel, first_events), (cancel, second_events)] {
        cancel.cancel();
        let events = read(&events);
        assert!(events.contains(&Event::Finished { candidate: 0, reason: FinishReason::Cancelled, dropped: 0 }));
    }
    assert_eq!(engine.gauges().kv_blocks_used, 0);
    let (third, third_events) = ask(vec![3; 10], 3);
    engine.submit(third).unwrap();
    assert!(third_events.recv_timeout(Duration::from_millis(50)).is_err(), "the rest is not over");
    duty.set(DutyLimit::NO_LIMIT);
    assert_eq!(tokens(&read(&third_events)).len(), 3, "a limit that is lifted ends the rest");
    assert!(start.elapsed() < LIMIT, "the rest was not waited for");
}

#[test]
fn an_engine_that_rests_ends_at_once() {
    let start = Instant::now();
    let (engine, _, _, events) = resting();
    engine.shutdown(Instant::now());
    assert!(matches!(events.iter().last(), Some(Event::Failed(RequestFailure::Shutdown, _))));
    let (engine, _, _, events) = resting();
    engine.shutdown(Instant::now() + Duration::from_millis(100));
    assert!(matches!(events.iter().last(), Some(Event::Failed(RequestFailure::Shutdown, _))));
    assert!(start.elapsed() < LIMIT, "neither rest was waited for");
}

#[test]
fn dropping_the_engine_ends_its_requests() {
    let slow = SimulatedConfig { step_cost: Duration::from_millis(5), ..SimulatedConfig::default() };
    let engine = LocalEngine::start(Box::new(SimulatedRunner::new(slow)), EngineConfig::default()).unwrap();
    let (request, events) = ask(vec![1; 10], 2000);
    engine.submit(request).unwrap();
    drop(engine);
    assert!(matches!(events.iter().last(), Some(Event::Failed(RequestFailure::Shutdown, _))));
}

#[test]
fn a_sink_may_hold_the_last_handle_of_the_engine() {
    let engine = Arc::new(LocalEngine::start(Box::new(simulated()), EngineConfig::default()).unwrap());
    let (mut request, _) = ask(vec![1; 10], 5);
    let (sender, receiver) = channel();
    let held = Arc::clone(&engine);
    request.events = Box::new(move |event| {
        let _engine = &held;
        drop(sender.send(event));
    });
    engine.submit(request).unwrap();
    drop(engine);
    assert!(matches!(receiver.iter().last(), Some(Event::Done(_))), "the engine ends on its own thread");
}

/// Tells on which thread it runs.
struct Named(SimulatedRunner, std::sync::mpsc::Sender<(Option<String>, ThreadId)>);

impl Runner for Named {
    fn shape(&self) -> RunnerShape {
        self.0.shape()
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut [f32]) -> Result<(), RunnerError> {
        let thread = std::thread::current();
        drop(self.1.send((thread.name().map(str::to_owned), thread.id())));
        self.0.forward(batch, logits)
    }

    fn copy_block(&mut self, from: BlockId, to: BlockId, tokens: usize) {
        self.0.copy_block(from, to, tokens);
    }
}

#[test]
fn the_engine_runs_on_its_named_thread() {
    let (sender, threads) = channel();
    let config = EngineConfig { thread_name: "line-7".to_owned(), ..EngineConfig::default() };
    let engine = LocalEngine::start(Box::new(Named(simulated(), sender)), config).unwrap();
    let (request, events) = ask(vec![1; 10], 3);
    engine.submit(request).unwrap();
    read(&events);
    let (name, id) = threads.recv().unwrap();
    assert_eq!(name.as_deref(), Some("line-7"));
    assert_ne!(id, std::thread::current().id());
}

/// Processor time of the whole process, in clock ticks of 10 ms.
#[cfg(target_os = "linux")]
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_engine_uses_no_processor_time() {
    let engine = LocalEngine::start(Box::new(simulated()), EngineConfig::default()).unwrap();
    let (request, events) = ask(vec![1; 10], 3);
    engine.submit(request).unwrap();
    read(&events);
    let steps = engine.counters().steps;
    let before = processor_ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert!(processor_ticks() - before <= 5, "a thread that spins would use 50 ticks");
    assert_eq!(engine.counters().steps, steps);
}
