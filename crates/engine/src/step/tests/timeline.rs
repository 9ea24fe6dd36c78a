//! When things happened to a request: what its timeline says is what its usage counts.

use inference::Timeline;

use super::pace::machine;
use super::plant::{Plant, prompt};
use super::*;

/// The timeline and the usage are of one measurement.
fn assert_agrees(usage: &Usage) {
    let Timeline { prefill, tokens, preemptions_ns, more_prefill, more_tokens } = &usage.timeline;
    assert_eq!((*more_prefill, *more_tokens), (0, 0));
    assert_eq!(tokens.len() as u64, usage.output_tokens + usage.output_dropped_tokens);
    assert_eq!(prefill.iter().map(|chunk| chunk.tokens).sum::<u64>(), usage.prefill_columns);
    assert_eq!(prefill[0].start_ns, usage.queue_ns);
    let first = tokens.iter().map(|token| token.at_ns).min();
    assert_eq!(first, usage.ttft_ns);
    let before = prefill.iter().filter(|chunk| first.is_none_or(|first| chunk.start_ns < first));
    assert_eq!(before.map(|chunk| chunk.length_ns).sum::<u64>(), usage.prefill_ns);
    assert!(prefill.is_sorted_by(|a, b| a.start_ns + a.length_ns <= b.start_ns), "{prefill:?}");
    assert!(tokens.is_sorted_by_key(|token| token.at_ns));
    assert!(tokens.last().is_none_or(|last| last.at_ns <= usage.e2e_ns));
    assert_eq!(preemptions_ns.len() as u64, u64::from(usage.preemptions));
    let candidates = tokens.iter().map(|token| token.candidate + 1).max().unwrap_or(0);
    let gaps = (0..candidates).flat_map(|candidate| {
        let own: Vec<u64> = tokens.iter().filter(|t| t.candidate == candidate).map(|t| t.at_ns).collect();
        own.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
    });
    let gaps: Vec<u64> = gaps.collect();
    let told = (usage.gap_count, usage.gap_sum_ns, usage.gap_max_ns);
    assert_eq!((gaps.len() as u64, gaps.iter().sum(), gaps.iter().copied().max().unwrap_or(0)), told);
}

#[test]
fn chunks_and_tokens_add_up_to_the_usage() {
    let mut plant = Plant::new(512, &EngineConfig { seed: Some(1), ..EngineConfig::default() });
    *plant.price.lock().unwrap() = machine;
    let long = plant.submit(prompt(9, 600), 20, |_| {});
    let several = plant.submit(prompt(3, 100), 15, |request| request.candidates = 3);
    plant.drain();
    assert!(long.usage().timeline.prefill.len() > 2, "{:?}", long.usage().timeline.prefill);
    for log in [&long, &several] {
        assert_agrees(&log.usage());
    }
}

#[test]
fn what_is_computed_again_after_a_preemption_is_told() {
    let config = EngineConfig { max_candidates: 1, prefix_cache: false, ..EngineConfig::default() };
    let mut plant = Plant::new(13, &config);
    let logs: Vec<Log> = (0..6).map(|seed| plant.submit(prompt(seed, 40), 150, |_| {})).collect();
    plant.drain();
    let usage: Vec<Usage> = logs.iter().map(Log::usage).collect();
    assert!(usage.iter().any(|usage| usage.preemptions > 0 && usage.timeline.prefill.len() > 1));
    usage.iter().for_each(assert_agrees);
}
