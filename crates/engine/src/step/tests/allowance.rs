//! Tokens granted from outside, bit by bit.

use inference::Allowance;

use super::plant::{Plant, plant, prompt};
use super::*;

fn with(plant: &mut Plant, candidates: u32, allowance: &Allowance) -> Log {
    let allowance = Some(allowance.clone());
    plant.submit(prompt(3, 40), 30, |request| {
        request.candidates = candidates;
        request.allowance = allowance;
    })
}

fn made(log: &Log, candidates: u32) -> usize {
    (0..candidates).map(|candidate| log.tokens(candidate).len()).sum()
}

#[test]
fn the_last_token_granted_is_the_last_made() {
    for (candidates, granted) in [(1, 1), (1, 7), (3, 3), (3, 4), (3, 11), (4, 2), (2, 0)] {
        let mut plant = plant();
        let allowance = Allowance::new(granted);
        allowance.close();
        let other = plant.submit(prompt(5, 9), 12, |_| {});
        let log = with(&mut plant, candidates, &allowance);
        plant.drain();
        assert_eq!(made(&log, candidates), usize::try_from(granted).unwrap(), "{candidates} {granted}");
        assert_eq!(log.usage().output_tokens, granted);
        assert_eq!(log.finished().len(), candidates as usize);
        assert!(log.finished().iter().all(|(_, reason, dropped)| (*reason, *dropped) == (FinishReason::Allowance, 0)));
        assert_eq!(other.tokens(0), oracle(&prompt(5, 9), 12), "the others go on");
    }
}

#[test]
fn a_sequence_waits_for_more_and_goes_on_as_if_it_had_not() {
    let mut plant = plant();
    let allowance = Allowance::new(2);
    let log = with(&mut plant, 1, &allowance);
    for _ in 0..20 {
        plant.step();
    }
    assert_eq!(log.tokens(0).len(), 2);
    assert!(plant.core.is_starved() && !log.is_ended());
    allowance.grant(5);
    for _ in 0..20 {
        plant.step();
    }
    assert_eq!(log.tokens(0).len(), 7);
    allowance.grant(1000);
    plant.drain();
    assert_eq!(log.tokens(0), oracle(&prompt(3, 40), 30));
    assert_eq!(log.finished(), [(0, FinishReason::Length, 0)]);
}

#[test]
fn a_sequence_waits_only_so_long() {
    let mut plant = plant();
    let allowance = Allowance::new(4);
    let log = with(&mut plant, 2, &allowance);
    for _ in 0..10 {
        plant.step();
    }
    assert!(plant.core.is_starved() && !log.is_ended());
    plant.clock.0.fetch_add(ALLOWANCE_PATIENCE_NS, Ordering::Relaxed);
    plant.drain();
    assert_eq!(made(&log, 2), 4);
    assert!(log.finished().iter().all(|(_, reason, _)| *reason == FinishReason::Allowance));
}

#[test]
fn a_sequence_put_back_to_wait_keeps_its_patience() {
    // Few blocks: the request without allowance is preempted by one of higher priority and comes back.
    let mut plant = Plant::new(8, &EngineConfig { seed: Some(1), ..EngineConfig::default() });
    let allowance = Allowance::new(1);
    let log = with(&mut plant, 1, &allowance);
    for _ in 0..3 {
        plant.step();
    }
    let urgent = plant.submit(prompt(9, 200), 20, |request| request.priority = 5);
    while !urgent.is_ended() {
        plant.step();
    }
    for _ in 0..5 {
        plant.step();
    }
    assert!(!log.is_ended());
    assert_eq!(log.tokens(0).len(), 1);
    allowance.grant(100);
    plant.drain();
    assert_eq!(log.tokens(0), oracle(&prompt(3, 40), 30));
}

#[test]
fn first_tokens_wait_for_all_candidates() {
    let mut plant = plant();
    let allowance = Allowance::new(2);
    let log = with(&mut plant, 3, &allowance);
    for _ in 0..20 {
        plant.step();
    }
    assert!(plant.core.is_starved() && !log.is_ended());
    assert_eq!((made(&log, 3), plant.core.scheduler.kv().used()), (0, 0), "it costs nothing while it waits");
    allowance.grant(1);
    for _ in 0..20 {
        plant.step();
    }
    assert_eq!(made(&log, 3), 3);
    allowance.grant(1_000);
    plant.drain();
    assert!((0..3).all(|candidate| log.tokens(candidate).len() == 30));
}

#[test]
fn first_tokens_wait_only_so_long() {
    let mut plant = plant();
    let allowance = Allowance::new(2);
    let log = with(&mut plant, 3, &allowance);
    plant.step();
    plant.clock.0.fetch_add(ALLOWANCE_PATIENCE_NS, Ordering::Relaxed);
    plant.drain();
    assert_eq!((made(&log, 3), log.finished().len()), (2, 3));
    assert!(log.finished().iter().all(|(_, reason, _)| *reason == FinishReason::Allowance));
}

#[test]
fn who_waits_for_an_allowance_keeps_nobody_out() {
    // One place in the batch, then hardly enough blocks for one.
    for (blocks, max_running) in [(64, 1), (4, 8)] {
        let mut plant = Plant::new(blocks, &EngineConfig { seed: Some(1), max_running, ..EngineConfig::default() });
        let allowance = Allowance::new(2);
        let log = with(&mut plant, 1, &allowance);
        for _ in 0..10 {
            plant.step();
        }
        assert_eq!(log.tokens(0).len(), 2);
        let other = plant.submit(prompt(9, 60), 30, |_| {});
        for _ in 0..60 {
            plant.step();
        }
        assert!(other.is_ended() && !log.is_ended(), "{blocks} {max_running}");
        assert_eq!(other.tokens(0), oracle(&prompt(9, 60), 30));
        allowance.grant(1_000);
        plant.drain();
        assert_eq!(log.tokens(0), oracle(&prompt(3, 40), 30));
    }
}
