//! Guessing ahead changes how many steps an answer takes, and nothing else.

use inference::Allowance;
use rand_chacha::ChaCha8Rng;

use super::pace::machine;
use super::plant::{Log, Plant, assert_adds_up, assert_same_answers, prompt};
use super::*;

const PATTERN: usize = 19;

fn config(speculation: bool) -> EngineConfig {
    EngineConfig { speculation, seed: Some(1), ..EngineConfig::default() }
}

/// Stops when it has seen both halves of a stop string, as it were, and cuts them off.
struct StopPair(TokenId, TokenId, Option<TokenId>);

impl Control for StopPair {
    fn commit(&mut self, id: TokenId) -> Verdict {
        let stop = self.2.replace(id) == Some(self.0) && id == self.1;
        if stop { Verdict::Stop { drop: 2 } } else { Verdict::Continue }
    }
}

/// Forbids one id after each token; its mask must be asked for once for each token, in order.
struct Masks(TokenId);

impl Control for Masks {
    fn masks(&self) -> bool {
        true
    }

    fn mask(&mut self, allowed: &mut inference::Bits) {
        allowed.remove(self.0);
        allowed.remove((self.0 * 7 + 3) % 64);
    }

    fn commit(&mut self, id: TokenId) -> Verdict {
        self.0 = (self.0 * 3 + id) % 64;
        Verdict::Continue
    }
}

/// Random work: the same for the same seed. Gives what each request got, and its candidates.
fn run(seed: u64, mut config: EngineConfig) -> (Vec<(Log, u32)>, inference::Counters) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut pick = |below: u32| rng.next_u32() % below;
    let blocks = [13, 24, 256][pick(3) as usize];
    config.prefill_chunk = [256, 24, 7][pick(3) as usize];
    config.prefix_cache = pick(4) > 0;
    let mut plant = Plant::with_pattern(blocks, &config, PATTERN);
    let mut logs = Vec::new();
    for _ in 0..1 + pick(5) {
        let (id, len, max_tokens) = (pick(40), 1 + pick(90), 1 + pick(200));
        let candidates = if blocks > 20 && pick(3) == 0 { 2 + pick(2) } else { 1 };
        let (kind, halves, stop_id, allowed) = (pick(6), (pick(64), pick(64)), pick(64), pick(120));
        let sampled = pick(2) == 0;
        let penalty = if pick(3) == 0 { 0.4 } else { 0.0 };
        let log = plant.submit(prompt(id, len), max_tokens, |request| {
            request.candidates = candidates;
            if sampled {
                let temperature = 0.7;
                let seed = Some(u64::from(id));
                request.sampling =
                    SamplingParams { temperature, seed, top_p: 0.95, frequency_penalty: penalty, ..Default::default() };
            }
            request.sampling.logprobs = Some(1);
            match kind {
                0 => request.stop_ids = vec![stop_id],
                1 => {
                    request.controls = (0..candidates)
                        .map(|_| -> Box<dyn Control> { Box::new(StopPair(halves.0, halves.1, None)) })
                        .collect()
                }
                2 => {
                    request.controls =
                        (0..candidates).map(|_| -> Box<dyn Control> { Box::new(Masks(stop_id)) }).collect()
                }
                3 if candidates == 1 => {
                    let allowance = Allowance::new(u64::from(allowed));
                    allowance.close();
                    request.allowance = Some(allowance);
                }
                _ => {}
            }
        });
        logs.push((log, candidates));
        (0..pick(6)).for_each(|_| plant.step());
    }
    plant.drain();
    (logs, plant.stats.counters())
}

#[test]
fn answers_are_the_same_with_and_without() {
    let (mut accepted, mut rejected, mut preemptions, mut saved) = (0, 0, 0, 0);
    for seed in 0..150 {
        let (plain, plain_counters) = run(seed, config(false));
        let (drafted, counters) = run(seed, config(true));
        assert_same_answers(&plain, &drafted, seed);
        assert_adds_up(drafted.iter().map(|(log, _)| log), &counters);
        accepted += counters.draft_accepted_tokens;
        rejected += counters.draft_rejected_tokens;
        preemptions += counters.preemptions;
        saved += plain_counters.steps.saturating_sub(counters.steps);
    }
    assert!(
        accepted > 1000 && rejected > 100 && preemptions > 10 && saved > 1000,
        "{accepted} {rejected} {preemptions} {saved}"
    );
}

#[test]
fn no_token_beyond_the_allowance_is_made() {
    for (candidates, granted) in (0..60).map(|granted| (1, granted)).chain((3..80).map(|granted| (3, granted))) {
        let mut plant = Plant::with_pattern(256, &config(true), PATTERN);
        let allowance = Allowance::new(granted);
        if granted % 2 == 0 {
            allowance.close();
        }
        let shared = allowance.clone();
        let log = plant.submit(prompt(3, 70), 100, |request| {
            request.allowance = Some(shared);
            request.candidates = candidates;
        });
        for _ in 0..120 {
            plant.step();
        }
        let made: usize = (0..candidates).map(|candidate| log.tokens(candidate).len()).sum();
        assert_eq!(made as u64, granted, "all that was granted, by {candidates}");
        assert_eq!(log.is_ended(), granted % 2 == 0, "an open allowance is waited for");
        if granted % 2 == 1 {
            allowance.grant(1000);
            plant.drain();
            assert_eq!(log.usage().output_tokens, u64::from(100 * candidates));
            assert!(log.usage().draft_accepted_tokens > 2, "{:?}", log.usage());
        }
    }
}

#[test]
fn a_cancelled_request_ends_in_the_next_step_and_frees_all() {
    for steps in 1..40 {
        let mut plant = Plant::with_pattern(64, &config(true), PATTERN);
        let cancel = CancelToken::new();
        let log = plant.submit(prompt(1, 70), 300, |request| request.cancel = cancel.clone());
        let other = plant.submit(prompt(2, 30), 20, |_| {});
        (0..steps).for_each(|_| plant.step());
        let made = log.tokens(0).len();
        cancel.cancel();
        plant.step();
        assert!(log.is_ended());
        assert_eq!(log.tokens(0).len(), made);
        plant.drain();
        assert_eq!(other.tokens(0).len(), 20);
    }
}

#[test]
fn an_answer_ends_at_the_token_at_which_its_reader_hangs_up() {
    for after in 1..60 {
        let mut plant = Plant::with_pattern(64, &config(true), PATTERN);
        let (cancel, mut left) = (CancelToken::new(), after);
        let log = plant.submit(prompt(1, 70), 300, |request| {
            request.cancel = cancel.clone();
            let mut inner = std::mem::replace(&mut request.events, Box::new(|_| {}));
            request.events = Box::new(move |event: inference::Event| {
                left -= usize::from(matches!(event, inference::Event::Token { .. }));
                if left == 0 {
                    cancel.cancel();
                }
                inner.push(event);
            });
        });
        plant.drain();
        assert_eq!(log.tokens(0).len(), after);
        assert_eq!(log.usage().output_tokens, after as u64);
    }
}

/// What follows an answer finds the KV of the tokens that were made, and of no others.
#[test]
fn the_prefix_cache_holds_what_was_made_only() {
    let mut rejected = 0;
    for seed in 0..40 {
        let follow_ups = |speculation| {
            let mut plant = Plant::with_pattern(48, &config(speculation), PATTERN);
            let start = prompt(seed % 8, 20 + seed);
            let mut seen = Vec::new();
            for part in 1..5 {
                let log = plant.submit(start.clone(), 97, |_| {});
                plant.drain();
                let answer = log.tokens(0);
                let kept = &answer[..answer.len() * part / 4];
                // As it went on, and as it might have: the token that stood at this place of the pattern before.
                let other = answer[(kept.len() + 2 * PATTERN) % answer.len()];
                for next in [answer[kept.len() % answer.len()], other] {
                    let log = plant.submit([&start, kept, &[next; 3]].concat(), 40, |_| {});
                    plant.drain();
                    let usage = log.usage();
                    seen.push((answer.clone(), log.tokens(0), usage.input_cached_tokens, usage.input_uncached_tokens));
                }
            }
            (seen, plant.stats.counters().draft_rejected_tokens)
        };
        let (plain, drafted) = (follow_ups(false), follow_ups(true));
        assert_eq!(plain.0, drafted.0, "{seed}");
        assert!(plain.0.iter().any(|(.., cached, _)| *cached > 0));
        rejected += drafted.1;
    }
    assert!(rejected > 100, "{rejected}");
}

#[test]
fn a_failed_pass_with_guesses_counts_them_as_wasted() {
    let mut with_guesses = 0;
    for steps in 3..60 {
        let mut plant = Plant::with_pattern(64, &config(true), PATTERN);
        let log = plant.submit(prompt(1, 70), 300, |_| {});
        (0..steps).for_each(|_| plant.step());
        let before = plant.stats.counters();
        *plant.fault.lock().unwrap() = Some("out of luck");
        plant.step();
        assert!(log.is_ended());
        let counters = plant.stats.counters();
        let made = log.tokens(0).len() as u64;
        assert_eq!(counters.decode_columns, made + counters.draft_rejected_tokens, "the first came from the prompt");
        with_guesses += counters.draft_rejected_tokens - before.draft_rejected_tokens;
    }
    assert!(with_guesses > 20);
}

/// The time that one answer takes, and its usage.
fn timed(pattern: usize, streams: u32, speculation: bool) -> (u64, Usage) {
    let mut plant = Plant::with_pattern(512, &config(speculation), pattern);
    *plant.price.lock().unwrap() = machine;
    let logs: Vec<Log> = (0..streams).map(|seed| plant.submit(prompt(seed, 100), 400, |_| {})).collect();
    plant.drain();
    let mut all = Usage::default();
    for usage in logs.iter().map(Log::usage) {
        all.decode_columns += usage.decode_columns;
        all.draft_accepted_tokens += usage.draft_accepted_tokens;
        all.draft_rejected_tokens += usage.draft_rejected_tokens;
    }
    (plant.clock.0.load(Ordering::Relaxed), all)
}

#[test]
fn it_is_used_where_it_pays() {
    for streams in [1, 4, 16] {
        let (without, _) = timed(PATTERN, streams, false);
        let (with, usage) = timed(PATTERN, streams, true);
        let needed = if streams == 1 { 125 } else { 98 };
        assert!(without / needed * 100 > with, "{streams}: {without} without, {with} with, {usage:?}");
        assert!(usage.draft_rejected_tokens <= usage.draft_accepted_tokens / 2 + 4 * u64::from(streams));
        // Nothing repeats itself.
        let (without, _) = timed(0, streams, false);
        let (with, usage) = timed(0, streams, true);
        assert!(with <= without / 100 * 102, "{streams}: {without} without, {with} with");
        assert!(usage.draft_rejected_tokens <= usage.decode_columns / 50);
    }
}
