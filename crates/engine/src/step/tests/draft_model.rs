//! A draft model beside the model: it guesses where that pays, and what is made stays the same.

use model::{KvType, Model};
use rand_chacha::ChaCha8Rng;
use test_support::TinyModel;

use super::pace::machine;
use super::plant::{Log, Plant, assert_adds_up, assert_same_answers, prompt};
use super::*;
use crate::{LocalEngine, ModelRunner, StartError};

const MS: u64 = 1_000_000;

fn config(speculation: bool) -> EngineConfig {
    EngineConfig { speculation, seed: Some(1), ..EngineConfig::default() }
}

fn simulated(seed: u64, kv_blocks: usize, context_len: usize) -> Box<dyn Runner> {
    let shape = SimulatedConfig { vocab_size: VOCAB, kv_blocks, context_len, seed, ..SimulatedConfig::default() };
    Box::new(SimulatedRunner::new(shape))
}

/// An eighth of what the model costs.
fn small_machine(batch: &Batch<'_>, number: usize) -> u64 {
    machine(batch, number) / 8
}

/// A model whose answers never repeat themselves, and a draft model of this seed (the model's is 0) and size.
fn plant_with(seed: u64, kv_blocks: usize, context_len: usize, config: &EngineConfig) -> Plant {
    let plant = Plant::with_runners(simulated(0, 512, 2048), Some(simulated(seed, kv_blocks, context_len)), config);
    *plant.price.lock().unwrap() = machine;
    *plant.draft.price.lock().unwrap() = small_machine;
    plant
}

fn sampled(request: &mut Request) {
    request.sampling = SamplingParams { temperature: 0.8, top_p: 0.95, seed: Some(7), ..SamplingParams::default() };
}

/// Passes of both models.
fn passes(plant: &Plant) -> (usize, usize) {
    (plant.batches.lock().unwrap().len(), plant.draft.batches.lock().unwrap().len())
}

#[test]
fn a_draft_that_thinks_alike_is_right_and_saves_passes() {
    for change in [|_: &mut Request| {}, sampled] {
        for candidates in [1, 3] {
            let ask = |plant: &mut Plant| {
                let log = plant.submit(prompt(3, 40), 300, |request| {
                    request.candidates = candidates;
                    change(request);
                });
                plant.drain();
                log
            };
            let (mut plain, mut drafted) =
                (plant_with(0, 512, 2048, &config(false)), plant_with(0, 512, 2048, &config(true)));
            let (without, with) = (ask(&mut plain), ask(&mut drafted));
            for candidate in 0..candidates {
                assert_eq!(without.tokens(candidate), with.tokens(candidate));
            }
            let usage = with.usage();
            let (right, wrong) = (usage.draft_accepted_tokens, usage.draft_rejected_tokens);
            assert!(right > 150 * u64::from(candidates) && wrong * 50 < right, "{right} right, {wrong} wrong");
            assert_eq!(passes(&plain).1, 0, "speculation is off");
            let (model, draft) = passes(&drafted);
            assert!(model * 2 < passes(&plain).0, "{model} passes and {draft} of the draft");
            let (time, drafted_time) = [&plain, &drafted].map(|plant| plant.clock.now_ns()).into();
            let most = if candidates == 1 { 90 } else { 100 };
            assert!(drafted_time * 100 < time * most, "{drafted_time} ns in place of {time}");
        }
    }
}

#[test]
fn a_draft_that_knows_nothing_is_soon_not_asked() {
    for streams in [1, 4, 16] {
        let ask = |plant: &mut Plant| -> Vec<Log> {
            let logs = (0..streams).map(|seed| plant.submit(prompt(seed, 100), 400, |_| {})).collect();
            plant.drain();
            logs
        };
        let (mut plain, mut drafted) =
            (plant_with(9, 512, 2048, &config(false)), plant_with(9, 512, 2048, &config(true)));
        let (without, with) = (ask(&mut plain), ask(&mut drafted));
        for (without, with) in without.iter().zip(&with) {
            assert_eq!(without.tokens(0), with.tokens(0));
        }
        let counters = drafted.stats.counters();
        assert!(passes(&drafted).1 > 0, "it was tried");
        assert!(counters.draft_rejected_tokens <= counters.decode_columns / 50, "{counters:?}");
        assert!(counters.draft_ns <= counters.busy_ns / 20, "{counters:?}");
        let (time, drafted_time) = [&plain, &drafted].map(|plant| plant.clock.now_ns()).into();
        assert!(drafted_time <= time / 100 * 105, "{drafted_time} ns in place of {time}");
    }
}

#[test]
fn a_goal_shorter_than_a_step_does_not_shut_the_draft_out() {
    let goal = EngineConfig { itl_goal: std::time::Duration::from_millis(1), ..config(true) };
    let mut plant = plant_with(0, 512, 2048, &goal);
    let log = plant.submit(prompt(3, 120), 300, |_| {});
    plant.drain();
    assert!(log.usage().draft_accepted_tokens > 100, "{:?}", log.usage());
}

#[test]
fn a_stream_beyond_the_drafts_context_holds_none_of_its_blocks() {
    let mut plant = plant_with(0, 512, 128, &config(true));
    let log = plant.submit(prompt(3, 40), 300, |_| {});
    let mut held = 0;
    while log.tokens(0).len() < 100 {
        plant.step();
        held = held.max(plant.draft_blocks());
    }
    assert!(held > 0 && plant.draft_blocks() == 0 && !log.is_ended(), "{held}");
}

#[test]
fn what_the_draft_computed_of_a_prompt_is_of_no_use_to_other_customers() {
    let mut plant = plant_with(0, 512, 2048, &config(true));
    let mut ask = |cache_salt| {
        let columns = |plant: &Plant| plant.draft.batches.lock().unwrap().iter().flatten().sum::<usize>();
        let before = columns(&plant);
        plant.submit(prompt(3, 200), 40, |request| request.cache_salt = cache_salt);
        plant.drain();
        columns(&plant) - before
    };
    let [first, other, again] = [ask(1), ask(2), ask(1)];
    assert!(first >= 200 && other >= 200 && again < 200, "{first} {other} {again}");
}

#[test]
fn streams_are_guessed_for_together_and_all_time_is_counted() {
    let mut plant = plant_with(0, 512, 2048, &config(true));
    let logs: Vec<Log> = (0..4).map(|seed| plant.submit(prompt(seed, 20), 200, |_| {})).collect();
    plant.drain();
    let batches = plant.draft.batches.lock().unwrap().clone();
    let together = batches.iter().filter(|columns| columns.len() >= 3).count();
    assert!(together * 2 > batches.len(), "{together} of {} passes", batches.len());
    let counters = plant.stats.counters();
    // The clock moves in passes only.
    assert_eq!(counters.busy_ns, plant.clock.now_ns());
    assert!(counters.draft_ns > 0 && counters.draft_ns < counters.busy_ns / 2, "{counters:?}");
    assert_adds_up(logs.iter(), &counters);
    assert_eq!(logs.iter().map(|log| log.usage().kv_block_ns).sum::<u64>(), counters.kv_block_ns);
}

/// Random work: the same for the same seed. Gives what each request got, and its candidates.
fn run(seed: u64, speculation: bool) -> (Vec<(Log, u32)>, inference::Counters, usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut pick = |below: u32| rng.next_u32() % below;
    let mut config = config(speculation);
    config.prefill_chunk = [256, 24, 7][pick(3) as usize];
    config.prefix_cache = pick(4) > 0;
    let (blocks, draft_blocks) = ([13, 24, 256][pick(3) as usize], [3, 8, 20, 256][pick(4) as usize]);
    let draft = simulated(u64::from(pick(4) == 0), draft_blocks, [64, 200, 2048][pick(3) as usize]);
    let mut plant = Plant::with_runners(simulated(0, blocks, 2048), Some(draft), &config);
    *plant.price.lock().unwrap() = machine;
    *plant.draft.price.lock().unwrap() = small_machine;
    let mut logs = Vec::new();
    for _ in 0..1 + pick(5) {
        let (id, len, max_tokens, at_once) = (pick(40), 1 + pick(90), 1 + pick(200), pick(3));
        let candidates = if blocks > 20 && pick(3) == 0 { 2 + pick(2) } else { 1 };
        let (kind, cancel) = (pick(4), CancelToken::new());
        let log = plant.submit(prompt(id, len), max_tokens, |request| {
            request.candidates = candidates;
            request.sampling.logprobs = Some(1);
            request.cancel = cancel.clone();
            match kind {
                0 => sampled(request),
                1 => request.stop_ids = vec![id],
                2 => request.sampling.frequency_penalty = 0.4,
                _ => {}
            }
        });
        (0..pick(6)).for_each(|_| plant.step());
        // What is cancelled at some time has made more or less by then: it is no answer to compare.
        if at_once == 0 {
            cancel.cancel();
        } else {
            logs.push((log, candidates));
        }
    }
    plant.drain();
    assert!(plant.core.draft.is_some(), "no pass of it failed");
    let passes = plant.draft.batches.lock().unwrap().len();
    (logs, plant.stats.counters(), passes)
}

#[test]
fn answers_are_the_same_with_and_without() {
    let (mut accepted, mut rejected, mut preemptions, mut saved) = (0, 0, 0, 0);
    for seed in 0..150 {
        let ((plain, plain_counters, none), (drafted, counters, _)) = (run(seed, false), run(seed, true));
        assert_eq!(none, 0);
        assert_same_answers(&plain, &drafted, seed);
        accepted += counters.draft_accepted_tokens;
        rejected += counters.draft_rejected_tokens;
        preemptions += counters.preemptions;
        saved += plain_counters.steps.saturating_sub(counters.steps);
    }
    assert!(
        accepted > 1000 && rejected > 10 && preemptions > 5 && saved > 1000,
        "{accepted} {rejected} {preemptions} {saved}"
    );
}

#[test]
fn a_cancelled_stream_gives_its_blocks_back_at_once() {
    let mut held = 0;
    for steps in 1..40 {
        let mut plant = plant_with(0, 64, 2048, &config(true));
        let cancel = CancelToken::new();
        let log = plant.submit(prompt(1, 100), 300, |request| request.cancel = cancel.clone());
        (0..steps).for_each(|_| plant.step());
        held += plant.draft_blocks();
        cancel.cancel();
        plant.step();
        assert!(log.is_ended());
        assert_eq!((plant.draft_blocks(), plant.gauges().kv_blocks_used), (0, 0));
    }
    assert!(held > 60, "{held}");
}

#[test]
fn streams_keep_their_goal_while_the_draft_reads_a_long_prompt() {
    let mut plant = plant_with(0, 512, 2048, &config(true));
    let stream = plant.submit(prompt(1, 20), 1500, |_| {});
    (0..20).for_each(|_| plant.step());
    let long = plant.submit(prompt(9, 600), 1200, |_| {});
    plant.drain();
    for log in [stream, long] {
        assert!(log.usage().gap_max_ns <= 100 * MS, "{} ms", log.usage().gap_max_ns / MS);
        assert!(log.usage().draft_accepted_tokens > 100, "{:?}", log.usage());
    }
}

#[test]
fn guesses_end_where_the_drafts_context_does() {
    let mut plant = plant_with(0, 512, 150, &config(true));
    let log = plant.submit(prompt(1, 40), 400, |_| {});
    let long = plant.submit(prompt(2, 151), 50, |_| {});
    plant.drain();
    assert!(plant.core.draft.is_some(), "no pass failed");
    assert_eq!((log.tokens(0).len(), long.tokens(0).len()), (400, 50));
    let accepted = log.usage().draft_accepted_tokens;
    assert!(accepted > 30 && accepted <= 110, "{accepted}");
    assert_eq!(long.usage().draft_accepted_tokens, 0);
}

#[test]
fn a_draft_without_blocks_for_a_stream_does_not_guess_for_it() {
    // Room for one stream of two, and not to its end.
    let mut plant = plant_with(0, 7, 2048, &config(true));
    let logs: Vec<Log> = (0..2).map(|seed| plant.submit(prompt(seed, 100), 300, |_| {})).collect();
    plant.drain();
    assert!(plant.core.draft.is_some(), "no pass failed");
    assert!(logs.iter().all(|log| log.tokens(0).len() == 300));
    assert!(plant.stats.counters().draft_accepted_tokens > 50);
}

#[test]
fn a_draft_that_fails_is_not_used_any_more() {
    for fault in ["panic", "out of luck"] {
        let mut plant = plant_with(0, 512, 2048, &config(true));
        let log = plant.submit(prompt(1, 40), 200, |_| {});
        (0..10).for_each(|_| plant.step());
        *plant.draft.fault.lock().unwrap() = Some(fault);
        plant.drain();
        assert!(plant.core.draft.is_none());
        assert_eq!(log.tokens(0), oracle(&prompt(1, 40), 200));
    }
}

/// A tiny generated model of this seed.
fn tiny(seed: u64) -> Arc<Model> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    TinyModel { seed, ..TinyModel::llama() }.write(&path).unwrap();
    let gguf = formats::gguf::Gguf::open(&path).unwrap();
    Arc::new(Model::load(&gguf, &Arc::new(kernels::ThreadPool::new(1).unwrap())).unwrap())
}

#[test]
fn a_real_model_guesses_for_itself() {
    let (model, other) = (tiny(1), tiny(2));
    let runner = |model: &Arc<Model>| -> Box<dyn Runner> {
        Box::new(ModelRunner::new(Arc::clone(model), KvType::F16, 40).unwrap())
    };
    let ask = |draft: Option<Box<dyn Runner>>| {
        let speculation = draft.is_some();
        let mut plant = Plant::with_runners(runner(&model), draft, &config(speculation));
        *plant.price.lock().unwrap() = machine;
        *plant.draft.price.lock().unwrap() = small_machine;
        let logs = [plant.submit(prompt(4, 50), 120, |_| {}), plant.submit(prompt(5, 30), 120, sampled)];
        plant.drain();
        let tokens = logs.each_ref().map(|log| log.tokens(0));
        (tokens, plant.stats.counters(), passes(&plant).0)
    };
    let (plain, _, plain_passes) = ask(None);
    let (itself, counters, itself_passes) = ask(Some(runner(&model)));
    assert_eq!(plain, itself);
    let (right, wrong) = (counters.draft_accepted_tokens, counters.draft_rejected_tokens);
    assert!(right > 100 && wrong * 50 <= right, "{right} right, {wrong} wrong");
    assert!(itself_passes * 2 < plain_passes, "{itself_passes} passes in place of {plain_passes}");
    let (foreign, counters, foreign_passes) = ask(Some(runner(&other)));
    assert_eq!(plain, foreign);
    // Its answers repeat themselves at times: most guesses are looked up.
    assert!(counters.draft_rejected_tokens <= counters.draft_accepted_tokens / 2 + 8, "{counters:?}");
    assert!(foreign_passes <= plain_passes);
}

#[test]
fn another_vocabulary_is_refused() {
    let shape = SimulatedConfig { vocab_size: VOCAB + 1, ..SimulatedConfig::default() };
    let draft: Box<dyn Runner> = Box::new(SimulatedRunner::new(shape));
    match LocalEngine::start_with_draft(simulated(0, 8, 256), Some(draft), config(true)) {
        Err(StartError::Setting(message)) => assert!(message.contains("has 65 tokens and the model 64"), "{message}"),
        other => panic!("started: {}", other.is_ok()),
    }
}
