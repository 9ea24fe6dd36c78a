//! The step, driven by hand.

use inference::{CancelToken, Control, Event, SamplingParams, TokenId, Usage, Verdict};

use self::plant::{Log, Plant, STEP_NS, VOCAB, plant, prompt};
use super::*;
use crate::sampler::{TokenCounts, draw};
use crate::{SimulatedConfig, SimulatedRunner};

mod allowance;
mod draft_model;
mod duty;
mod pace;
mod plant;
mod speculation;
mod states;
mod timeline;

/// A continuation straight from a runner with one table: no engine involved. `pick` chooses from a row of logits.
fn continued(prompt: &[TokenId], count: usize, mut pick: impl FnMut(&[f32], u32) -> TokenId) -> Vec<TokenId> {
    let shape = SimulatedConfig { vocab_size: VOCAB, context_len: 1024, kv_blocks: 32, ..SimulatedConfig::default() };
    let mut runner = SimulatedRunner::new(shape);
    let table: Vec<BlockId> = (0..32).rev().collect();
    let mut tokens = prompt.to_vec();
    for position in 0..prompt.len() + count - 1 {
        let column = Column { token: tokens[position], position: u32::try_from(position).unwrap(), sequence: 0 };
        let mut logits = vec![0.0; VOCAB];
        let batch = Batch { columns: &[column], tables: &[&table], logits_of: &[0], adapters: &[] };
        runner.forward(&batch, &mut logits).unwrap();
        if position + 1 >= prompt.len() {
            let index = u32::try_from(position + 1 - prompt.len()).unwrap();
            tokens.push(pick(&logits, index));
        }
    }
    tokens.split_off(prompt.len())
}

/// The greedy continuation.
fn oracle(prompt: &[TokenId], count: usize) -> Vec<TokenId> {
    continued(prompt, count, |logits, _| {
        let best = logits.iter().copied().fold(f32::MIN, f32::max);
        u32::try_from(logits.iter().position(|l| *l == best).unwrap()).unwrap()
    })
}

/// What a candidate draws with a seed.
fn drawn(prompt: &[TokenId], count: usize, sampling: &SamplingParams, candidate: u32) -> Vec<TokenId> {
    let seed = sampling.seed.unwrap();
    let mut counts = TokenCounts::new(prompt, sampling);
    continued(prompt, count, |logits, index| {
        let uniform = draw(seed, candidate, index);
        let id = Sampler::default().choose(logits, sampling, &counts, None, uniform).unwrap();
        counts.note(id);
        id
    })
}

#[test]
fn unequal_lengths_together_give_what_each_gives_alone() {
    for (chunk, blocks, max_running) in [(256, 256, 64), (7, 256, 64), (33, 30, 8), (64, 20, 3), (1, 64, 64)] {
        let config = EngineConfig { prefill_chunk: chunk, max_running, max_candidates: 1, ..EngineConfig::default() };
        let mut plant = Plant::new(blocks, &config);
        let mut logs = Vec::new();
        for (seed, len, count) in
            [(1, 5, 30), (2, 100, 3), (3, 64, 64), (4, 1, 80), (5, 33, 1), (1, 5, 60), (6, 300, 40)]
        {
            logs.push((plant.submit(prompt(seed, len), count, |_| {}), prompt(seed, len), count as usize));
            plant.step();
        }
        plant.drain();
        for (log, prompt, count) in logs {
            assert_eq!(log.tokens(0), oracle(&prompt, count), "chunk {chunk}, {blocks} blocks");
            assert_eq!(log.finished(), [(0, FinishReason::Length, 0)]);
        }
    }
}

#[test]
fn preempted_sequences_resume_as_if_nothing_had_been() {
    let config = EngineConfig { max_candidates: 1, ..EngineConfig::default() };
    let sampling =
        SamplingParams { temperature: 1.0, seed: Some(9), frequency_penalty: 0.5, ..SamplingParams::default() };
    let ask = |plant: &mut Plant, seed: u32| {
        plant.submit(prompt(seed, 40), 150, |request| request.sampling = sampling.clone())
    };
    let alone: Vec<_> = (0..6).map(|seed| drawn(&prompt(seed, 40), 150, &sampling, 0)).collect();
    for caching in [true, false] {
        let mut plant = Plant::new(13, &EngineConfig { prefix_cache: caching, ..config.clone() });
        let logs: Vec<Log> = (0..6).map(|seed| ask(&mut plant, seed)).collect();
        plant.drain();
        assert!(plant.stats.counters().preemptions > 0);
        assert_eq!(logs.iter().map(|log| log.tokens(0)).collect::<Vec<_>>(), alone);
        let usage: Vec<Usage> = logs.iter().map(Log::usage).collect();
        assert!(usage.iter().all(|u| u.input_cached_tokens + u.input_uncached_tokens == 40));
        assert_eq!(usage.iter().map(|u| u64::from(u.preemptions)).sum::<u64>(), plant.stats.counters().preemptions);
        let columns = plant.stats.counters();
        assert_eq!(usage.iter().map(|u| u.prefill_columns).sum::<u64>(), columns.prefill_columns);
        assert_eq!(usage.iter().map(|u| u.decode_columns).sum::<u64>(), columns.decode_columns);
        assert_eq!(columns.decode_columns, 6 * 149, "recomputed columns count as prefill");
        assert_eq!(usage.iter().map(|u| u.kv_block_ns).sum::<u64>(), columns.kv_block_ns, "parts add up to the whole");
    }
}

#[test]
fn candidates_share_the_prompt_and_draw_their_own_streams() {
    let sampling = SamplingParams { temperature: 1.0, seed: Some(5), ..SamplingParams::default() };
    let mut plant = plant();
    let log = plant.submit(prompt(1, 70), 40, |request| {
        request.candidates = 4;
        request.sampling = sampling.clone();
    });
    plant.step();
    assert_eq!(plant.gauges().kv_blocks_used, 3, "one prompt for all");
    assert_eq!(plant.gauges().running, 4);
    plant.drain();
    let usage = log.usage();
    assert_eq!((usage.input_uncached_tokens, usage.prefill_columns), (70, 70));
    assert_eq!((usage.output_tokens, usage.decode_columns), (160, 4 * 39));
    assert_eq!(usage.gap_count, 4 * 39);
    assert_eq!(usage.gap_lengths.values().sum::<u64>(), usage.gap_count);
    let all: Vec<_> = (0..4).map(|candidate| log.tokens(candidate)).collect();
    let expected: Vec<_> = (0..4).map(|candidate| drawn(&prompt(1, 70), 40, &sampling, candidate)).collect();
    assert_eq!(all, expected);
    assert!(all.iter().skip(1).all(|tokens| *tokens != all[0]));
}

#[test]
fn a_chat_goes_on_from_what_was_made() {
    let mut plant = plant();
    let first = plant.submit(prompt(1, 50), 40, |_| {});
    plant.drain();
    let mut next = prompt(1, 50);
    next.extend(first.tokens(0));
    next.extend(prompt(2, 20));
    let second = plant.submit(next.clone(), 10, |_| {});
    plant.drain();
    assert_eq!(second.usage().input_cached_tokens, 89, "all that was computed of the first turn");
    assert_eq!(second.tokens(0), oracle(&next, 10));
    let counters = plant.stats.counters();
    assert_eq!((counters.prefix_queries_tokens, counters.prefix_hits_tokens), (50 + 110, 89));
}

#[test]
fn prompt_logprobs_come_in_order_and_do_not_read_the_cache() {
    let mut plant = plant();
    plant.submit(prompt(1, 150), 1, |_| {});
    plant.drain();
    plant.batches.lock().unwrap().clear();
    let log = plant.submit(prompt(1, 150), 0, |request| request.prompt_logprobs = Some(2));
    plant.drain();
    let all = log.prompt();
    assert_eq!(all.len(), 149);
    let ids: Vec<TokenId> = all.iter().map(|entry| entry.chosen.id).collect();
    assert_eq!(ids, prompt(1, 150)[1..]);
    assert!(all.iter().all(|entry| entry.top.len() == 2 && entry.top[0].logprob >= entry.chosen.logprob));
    assert_eq!(log.usage().input_cached_tokens, 0);
    assert!(plant.batches.lock().unwrap().iter().all(|columns| columns.iter().sum::<usize>() <= 32));
    assert_eq!(log.finished(), [(0, FinishReason::Length, 0)]);
    assert_eq!((log.usage().output_tokens, log.usage().ttft_ns), (0, None));
    // The row of the last prompt position is the one the first token is made from.
    let log = plant.submit(prompt(1, 33), 2, |request| {
        request.prompt_logprobs = Some(0);
        request.sampling.logprobs = Some(1);
    });
    plant.drain();
    assert_eq!(log.prompt().len(), 32);
    assert_eq!(log.tokens(0), oracle(&prompt(1, 33), 2));
}

#[test]
fn a_preempted_scoring_request_reports_each_position_once() {
    let mut plant = Plant::new(12, &EngineConfig { max_running: 4, max_candidates: 1, ..EngineConfig::default() });
    let log = plant.submit(prompt(1, 300), 5, |request| request.prompt_logprobs = Some(0));
    for _ in 0..4 {
        plant.step();
    }
    let urgent = plant.submit(prompt(2, 200), 20, |request| request.priority = 1);
    plant.drain();
    assert_eq!(log.usage().preemptions, 1);
    assert_eq!(log.prompt().len(), 299);
    assert_eq!(log.tokens(0), oracle(&prompt(1, 300), 5));
    assert_eq!(urgent.tokens(0), oracle(&prompt(2, 200), 20));
}

#[test]
fn cancelling_frees_everything_in_every_phase() {
    // Waiting, in prefill, at the first token, decoding, with candidates, at the end.
    for steps in 0..14 {
        let mut plant = Plant::new(64, &EngineConfig { prefill_chunk: 20, ..EngineConfig::default() });
        let cancel = CancelToken::new();
        let log = plant.submit(prompt(1, 70), 8, |request| {
            request.cancel = cancel.clone();
            request.candidates = 3;
        });
        let other = plant.submit(prompt(2, 30), 20, |_| {});
        for _ in 0..steps {
            plant.step();
        }
        let was_ended = log.is_ended();
        let events = log.events().len();
        cancel.cancel();
        plant.step();
        assert!(log.is_ended());
        if was_ended {
            assert_eq!(log.events().len(), events, "nothing after the end");
        } else {
            assert_eq!(log.finished().len(), 3);
            assert!(log.finished().iter().all(|(_, reason, _)| *reason == FinishReason::Cancelled));
            assert!(matches!(log.events().last(), Some(Event::Done(_))));
        }
        assert!(plant.core.scheduler.running().keys().all(|rank| rank.arrival == 1), "its blocks are free");
        plant.drain();
        assert_eq!(other.tokens(0), oracle(&prompt(2, 30), 20));
    }
}

#[test]
fn what_never_ran_used_nothing() {
    let mut plant = Plant::new(64, &EngineConfig { prefill_chunk: 20, ..EngineConfig::default() });
    plant.submit(prompt(1, 70), 8, |_| {});
    plant.drain();
    // The first in the row and the shortest share the steps.
    plant.submit(prompt(2, 300), 8, |_| {});
    plant.submit(prompt(3, 100), 8, |_| {});
    let cancel = CancelToken::new();
    let known = [prompt(1, 70), prompt(4, 200)].concat();
    let log = plant.submit(known, 8, |request| request.cancel = cancel.clone());
    plant.step();
    let found = plant.core.scheduler.running().iter().find(|(rank, _)| rank.arrival == 3).map(|(_, own)| own.computed);
    assert!(found > Some(0), "it has what the cache knows, and waits");
    cancel.cancel();
    plant.step();
    let usage = log.usage();
    assert_eq!((usage.input_cached_tokens, usage.input_uncached_tokens, usage.prefill_columns), (0, 0, 0));
}

/// Stops after so many tokens and drops some.
struct StopAfter(u32, u32);

impl Control for StopAfter {
    fn commit(&mut self, _: TokenId) -> Verdict {
        self.0 -= 1;
        if self.0 == 0 { Verdict::Stop { drop: self.1 } } else { Verdict::Continue }
    }
}

#[test]
fn dropped_tokens_are_made_but_not_billed() {
    let mut plant = plant();
    let log = plant.submit(prompt(1, 10), 50, |request| request.controls = vec![Box::new(StopAfter(7, 3))]);
    plant.drain();
    assert_eq!(log.tokens(0), oracle(&prompt(1, 10), 7));
    assert_eq!(log.finished(), [(0, FinishReason::Stop, 3)]);
    assert_eq!((log.usage().output_tokens, log.usage().output_dropped_tokens), (4, 3));
    let greedy_drop = plant.submit(prompt(1, 10), 50, |request| request.controls = vec![Box::new(StopAfter(2, 99))]);
    plant.drain();
    assert_eq!(greedy_drop.finished(), [(0, FinishReason::Stop, 2)], "never more than were made");
    assert_eq!((greedy_drop.usage().output_tokens, greedy_drop.usage().output_dropped_tokens), (0, 2));
}

#[test]
fn stop_ids_end_a_candidate_unless_ignored() {
    let expected = oracle(&prompt(1, 10), 20);
    let stop = expected[6];
    let first = expected.iter().position(|id| *id == stop).unwrap();
    let mut plant = plant();
    let log = plant.submit(prompt(1, 10), 20, |request| request.stop_ids = vec![stop]);
    let on = plant.submit(prompt(1, 10), 20, |request| {
        request.stop_ids = vec![stop];
        request.ignore_eos = true;
    });
    plant.drain();
    assert_eq!(log.tokens(0), expected[..=first]);
    assert_eq!(log.finished(), [(0, FinishReason::Stop, 0)]);
    assert_eq!(log.usage().output_tokens, first as u64 + 1, "the ending token is billed");
    assert_eq!(on.tokens(0), expected);
}

#[test]
fn a_failed_pass_fails_its_batch_only() {
    for (fault, trusted) in [("out of luck", true), ("panic", false), ("nan", true)] {
        let config = EngineConfig { max_running: 2, max_candidates: 1, ..EngineConfig::default() };
        let mut plant = Plant::new(64, &config);
        let hit: Vec<Log> = (0..2).map(|seed| plant.submit(prompt(seed, 40), 10, |_| {})).collect();
        let later = plant.submit(prompt(7, 40), 10, |_| {});
        plant.step();
        *plant.fault.lock().unwrap() = Some(fault);
        plant.step();
        for log in hit {
            assert!(matches!(log.failure(), RequestFailure::Internal(_)));
        }
        assert_eq!(plant.gauges().kv_blocks_used, 0);
        if !trusted {
            assert_eq!(plant.gauges().kv_blocks_cached, 0);
        }
        plant.drain();
        assert_eq!(later.tokens(0), oracle(&prompt(7, 40), 10));
    }
}

#[test]
fn logits_without_a_number_fail_their_own_request_only() {
    let mut plant = plant();
    let bad = plant.submit(prompt(1, 10), 10, |_| {});
    let good = plant.submit(prompt(2, 10), 10, |_| {});
    plant.step();
    *plant.fault.lock().unwrap() = Some("first nan");
    plant.drain();
    assert!(matches!(bad.failure(), RequestFailure::Internal(_)));
    assert_eq!(good.tokens(0), oracle(&prompt(2, 10), 10));
}

struct Panics;

impl Control for Panics {
    fn commit(&mut self, _: TokenId) -> Verdict {
        panic!("a control's fault")
    }
}

#[test]
fn a_panicking_control_or_sink_fails_its_own_request_only() {
    let mut plant = plant();
    let control = plant.submit(prompt(1, 10), 10, |request| request.controls = vec![Box::new(Panics)]);
    plant.submit(prompt(3, 10), 10, |request| request.events = Box::new(|_: Event| panic!("a sink's fault")));
    let good = plant.submit(prompt(2, 10), 10, |_| {});
    plant.step();
    plant.step();
    assert_eq!(plant.gauges().running, 1);
    plant.drain();
    assert!(matches!(control.failure(), RequestFailure::Internal(message) if message.contains("a control's fault")));
    assert_eq!(good.tokens(0), oracle(&prompt(2, 10), 10));
}

#[test]
fn what_can_never_fit_fails_at_once() {
    let mut plant = Plant::new(4, &EngineConfig::default());
    let log = plant.submit(prompt(1, 100), 100, |_| {});
    plant.step();
    assert_eq!(log.failure(), RequestFailure::TooLarge { needed_blocks: 7, pool_blocks: 4 });
    let fits = plant.submit(prompt(1, 100), 29, |_| {});
    plant.drain();
    assert_eq!(fits.tokens(0), oracle(&prompt(1, 100), 29), "128 positions in 4 blocks, the last token uncomputed");
}

#[test]
fn times_are_measured_as_documented() {
    let config = EngineConfig { prefill_chunk: 32, max_running: 1, max_candidates: 1, ..EngineConfig::default() };
    let mut plant = Plant::new(64, &config);
    plant.clock.0.store(500, Ordering::Relaxed);
    let log = plant.submit(prompt(1, 64), 4, |_| {});
    let next = plant.submit(prompt(2, 10), 1, |_| {});
    plant.clock.0.store(800, Ordering::Relaxed);
    plant.drain();
    let usage = log.usage();
    assert_eq!(usage.queue_ns, 300);
    assert_eq!(usage.prefill_ns, 2 * STEP_NS);
    assert_eq!(usage.ttft_ns, Some(300 + 2 * STEP_NS));
    assert_eq!(usage.decode_ns, 3 * STEP_NS);
    assert_eq!(usage.e2e_ns, 300 + 5 * STEP_NS);
    assert_eq!((usage.gap_count, usage.gap_sum_ns, usage.gap_max_ns), (3, 3 * STEP_NS, STEP_NS));
    assert_eq!(usage.gap_lengths, [(STEP_NS, 3)].into());
    // Blocks: 1, 2, then 3 for three steps, each a step long, and the first since the request was taken.
    assert_eq!(usage.kv_block_ns, (300 + STEP_NS) + 2 * STEP_NS + 3 * 3 * STEP_NS);
    let usage = next.usage();
    assert_eq!(usage.queue_ns, 300 + 5 * STEP_NS, "it waited for the first one's place");
    assert_eq!((usage.input_uncached_tokens, usage.output_tokens), (10, 1));
    assert_eq!(plant.stats.counters().steps, 6);
    assert_eq!(plant.stats.counters().busy_ns, 6 * STEP_NS);
}

#[test]
fn a_fault_of_the_engine_is_survived() {
    let mut plant = plant();
    let log = plant.submit(prompt(1, 40), 40, |_| {});
    plant.step();
    plant.core.reset(&RequestFailure::Internal("a test's fault".to_owned()));
    plant.core.settle();
    assert!(matches!(log.failure(), RequestFailure::Internal(_)));
    let after = plant.submit(prompt(2, 40), 10, |_| {});
    plant.drain();
    assert_eq!(after.tokens(0), oracle(&prompt(2, 40), 10));
}
