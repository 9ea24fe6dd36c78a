//! A runner whose blocks are states: one for each sequence in the batch, and what is made is the same. The simulated one
//! refuses to go on from a state that stands at another position.

use inference::Allowance;
use rand_chacha::ChaCha8Rng;

use super::*;

/// A plant with so many states.
fn states(count: usize, config: &EngineConfig) -> Plant {
    let shape = SimulatedConfig { vocab_size: VOCAB, kv_blocks: count, states: true, ..SimulatedConfig::default() };
    Plant::with_runners(Box::new(SimulatedRunner::new(shape)), None, config)
}

#[test]
fn more_requests_than_states_wait_for_one() {
    for (count, chunk) in [(1, 256), (2, 7), (3, 33), (8, 1)] {
        let mut plant = states(count, &EngineConfig { prefill_chunk: chunk, ..EngineConfig::default() });
        let asked = [(1, 5, 30), (2, 100, 3), (3, 64, 64), (4, 1, 80), (5, 33, 1), (1, 5, 60), (6, 300, 40)];
        let ask = |plant: &mut Plant| {
            asked.map(|(seed, len, max)| (plant.submit(prompt(seed, len), max, |_| {}), prompt(seed, len), max))
        };
        let logs = ask(&mut plant);
        plant.step();
        assert!(plant.gauges().running <= count && plant.gauges().waiting >= asked.len().saturating_sub(count));
        while !plant.core.is_idle() {
            plant.step();
            let gauges = plant.gauges();
            assert!(gauges.kv_blocks_used <= gauges.running && gauges.running <= count, "{gauges:?}");
        }
        for (log, prompt, max) in logs {
            assert_eq!(log.tokens(0), oracle(&prompt, max as usize), "{count} states, chunks of {chunk}");
        }
        let counters = plant.stats.counters();
        assert_eq!(counters.preemptions, 0, "a state does not grow: nobody gives way");
        assert_eq!(counters.prefill_columns, asked.iter().map(|(_, len, _)| *len as u64).sum::<u64>());
        assert_eq!((plant.gauges().kv_blocks_used, plant.gauges().kv_blocks_cached), (0, 0), "nothing is kept");
    }
}

/// The longest prompt and answer there may be need one state.
#[test]
fn a_whole_context_is_one_state() {
    let mut plant = states(1, &EngineConfig::default());
    let log = plant.submit(prompt(7, 2000), 48, |_| {});
    plant.drain();
    assert_eq!(log.tokens(0).len(), 48);
    let usage = log.usage();
    assert_eq!((usage.input_uncached_tokens, usage.input_cached_tokens), (2000, 0));
    // Held from its start to its end: one block, however long the sequence is.
    assert_eq!(usage.kv_block_ns, plant.clock.now_ns());
    assert_eq!(usage.kv_block_ns, plant.stats.counters().kv_block_ns);
}

#[test]
fn nothing_is_found_again_and_nothing_guessed() {
    let pattern =
        SimulatedConfig { vocab_size: VOCAB, kv_blocks: 4, states: true, pattern: 5, ..SimulatedConfig::default() };
    let mut plant = Plant::with_runners(Box::new(SimulatedRunner::new(pattern)), None, &EngineConfig::default());
    for _ in 0..2 {
        let log = plant.submit(prompt(1, 100), 60, |_| {});
        plant.drain();
        let usage = log.usage();
        assert_eq!((usage.input_cached_tokens, usage.input_uncached_tokens, usage.output_tokens), (0, 100, 60));
        assert_eq!((usage.draft_accepted_tokens, usage.draft_rejected_tokens), (0, 0));
    }
    let counters = plant.stats.counters();
    assert_eq!((counters.prefix_queries_tokens, counters.prefix_hits_tokens), (0, 0));
}

/// All candidates go on from copies of the prompt's state.
#[test]
fn candidates_get_copies() {
    let sampling = SamplingParams { temperature: 1.0, seed: Some(5), ..SamplingParams::default() };
    let mut plant = states(5, &EngineConfig::default());
    let log = plant.submit(prompt(1, 70), 40, |request| {
        request.candidates = 4;
        request.sampling = sampling.clone();
    });
    // It leaves no place for two: what the candidates will need is theirs from the start.
    let other = plant.submit(prompt(2, 30), 20, |request| request.candidates = 2);
    plant.step();
    assert_eq!((plant.gauges().kv_blocks_used, plant.gauges().running, plant.gauges().waiting), (1, 4, 1));
    plant.step();
    assert_eq!((plant.gauges().kv_blocks_used, plant.gauges().waiting), (4, 1));
    plant.drain();
    let all: Vec<_> = (0..4).map(|candidate| log.tokens(candidate)).collect();
    let expected: Vec<_> = (0..4).map(|candidate| drawn(&prompt(1, 70), 40, &sampling, candidate)).collect();
    assert_eq!(all, expected);
    assert_eq!(log.usage().prefill_columns, 70);
    assert_eq!(other.tokens(1), oracle(&prompt(2, 30), 20));
    assert_eq!(plant.stats.counters().preemptions, 0);
    assert_eq!(EngineConfig::default().limits(plant.core.runner.shape()).unwrap().max_candidates, 5);
}

/// Who gives way is computed anew, from a state of zeros.
#[test]
fn the_preempted_begin_again() {
    let mut plant = states(2, &EngineConfig { prefill_chunk: 16, ..EngineConfig::default() });
    let low: Vec<Log> =
        (0..2).map(|seed| plant.submit(prompt(seed, 50), 30, |request| request.priority = -1)).collect();
    for _ in 0..12 {
        plant.step();
    }
    let high: Vec<Log> =
        (5..8).map(|seed| plant.submit(prompt(seed, 40), 10, |request| request.priority = 1)).collect();
    plant.drain();
    for (seed, log) in (0..).zip(&low) {
        assert_eq!(log.tokens(0), oracle(&prompt(seed, 50), 30));
        assert!(log.usage().preemptions > 0);
        assert_eq!(log.usage().decode_columns, 29, "what is computed again counts as prefill");
    }
    for (seed, log) in (5..).zip(&high) {
        assert_eq!(log.tokens(0), oracle(&prompt(seed, 40), 10));
    }
}

/// Random work of several priorities, with candidates, grants that come late and readers that leave: whoever waits, sits out,
/// gives way or comes back, each gets what it gets alone.
#[test]
fn mixed_work_is_as_if_alone() {
    let (mut preemptions, mut sat_out) = (0, 0);
    for seed in 0..100 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut pick = |below: u32| rng.next_u32() % below;
        let count = 1 + pick(6);
        let chunk = [256, 24, 7][pick(3) as usize];
        let mut plant = states(count as usize, &EngineConfig { prefill_chunk: chunk, ..EngineConfig::default() });
        let mut asked = Vec::new();
        for id in 0..2 + pick(6) {
            let (prompt, max, candidates) = (prompt(id, 1 + pick(90)), 1 + pick(60), 1 + pick(count.min(3)));
            let sampling = SamplingParams { temperature: 1.0, seed: Some(seed), ..SamplingParams::default() };
            let allowance = Allowance::new(if pick(3) == 0 { pick(20).into() } else { 1000 });
            let (cancel, priority) = (CancelToken::default(), [-1, 0, 1][pick(3) as usize]);
            let log = plant.submit(prompt.clone(), max, |request| {
                (request.candidates, request.priority) = (candidates, priority);
                (request.sampling, request.cancel) = (sampling.clone(), cancel.clone());
                request.allowance = Some(allowance.clone());
            });
            let all: Vec<_> = (0..candidates).map(|c| drawn(&prompt, max as usize, &sampling, c)).collect();
            asked.push((log, all, allowance, cancel));
            (0..pick(8)).for_each(|_| plant.step());
        }
        let leaves = pick(3) as usize;
        for _ in 0..30 {
            plant.step();
            let gauges = plant.gauges();
            assert!(gauges.kv_blocks_used <= count as usize && gauges.running <= count as usize, "{gauges:?}");
            sat_out += usize::from(plant.core.is_starved());
        }
        asked.get(leaves).inspect(|(.., cancel)| cancel.cancel());
        asked.iter().for_each(|(_, _, allowance, _)| allowance.grant(1000));
        plant.drain();
        for (i, (log, all, ..)) in asked.iter().enumerate() {
            for (candidate, expected) in (0..).zip(all) {
                let got = log.tokens(candidate);
                assert!(got[..] == expected[..got.len()], "{seed}, request {i}, candidate {candidate}");
                assert!(i == leaves || got.len() == expected.len(), "{seed}, request {i}, candidate {candidate}");
            }
        }
        let usage = |part: fn(&Usage) -> u64| asked.iter().map(|(log, ..)| part(&log.usage())).sum::<u64>();
        let counters = plant.stats.counters();
        assert_eq!(usage(|usage| usage.kv_block_ns), counters.kv_block_ns, "{seed}");
        assert_eq!(usage(|usage| usage.prefill_columns), counters.prefill_columns, "{seed}");
        preemptions += counters.preemptions;
    }
    assert!(preemptions > 50 && sat_out > 50, "{preemptions} {sat_out}");
}

#[test]
fn cancellation_frees_the_state() {
    let mut plant = states(1, &EngineConfig::default());
    let cancel = CancelToken::default();
    let token = cancel.clone();
    let first = plant.submit(prompt(1, 20), 500, |request| request.cancel = token);
    let second = plant.submit(prompt(2, 20), 10, |_| {});
    for _ in 0..5 {
        plant.step();
    }
    assert_eq!((plant.gauges().kv_blocks_used, plant.gauges().waiting), (1, 1));
    cancel.cancel();
    plant.step();
    assert!(first.is_ended());
    plant.drain();
    assert_eq!(second.tokens(0), oracle(&prompt(2, 20), 10));
    assert_eq!(plant.gauges().kv_blocks_used, 0);
}

/// A batch that failed leaves states that nobody goes on from.
#[test]
fn a_failed_batch_leaves_nothing_behind() {
    let mut plant = states(2, &EngineConfig::default());
    let failed = plant.submit(prompt(1, 20), 50, |_| {});
    plant.step();
    *plant.fault.lock().unwrap() = Some("out of luck");
    plant.step();
    assert!(matches!(failed.failure(), RequestFailure::Internal(_)));
    let logs: Vec<Log> = (3..6).map(|seed| plant.submit(prompt(seed, 25), 12, |_| {})).collect();
    plant.drain();
    for (seed, log) in (3..).zip(logs) {
        assert_eq!(log.tokens(0), oracle(&prompt(seed, 25), 12));
    }
}

#[test]
fn a_state_has_no_draft_model() {
    let shape = |states| SimulatedRunner::new(SimulatedConfig { states, ..SimulatedConfig::default() }).shape();
    for (model, draft, expected) in [(true, false, "the model keeps a state"), (false, true, "the draft model keeps")] {
        let error = crate::config::check_draft(shape(model), shape(draft)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("remove the draft model"), "{error}");
    }
    assert!(crate::config::check_draft(shape(false), shape(false)).is_ok());
}
