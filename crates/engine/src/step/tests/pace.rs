//! Latency and fairness, on a machine whose steps cost what they cost and whose clock is the test's.

use std::time::Duration;

use super::plant::{Plant, prompt};
use super::*;

const MS: u64 = 1_000_000;

/// About the costs of a small model on two cores, unsteady by a tenth.
pub(super) fn machine(batch: &Batch<'_>, number: usize) -> u64 {
    let context: usize = batch.columns.iter().map(|column| column.position as usize).sum();
    let ns = 4_000_000 + 2_200_000 * batch.columns.len() + 400_000 * batch.logits_of.len() + 700 * context;
    u64::try_from(ns / 100 * (90 + number * 7 % 21)).unwrap()
}

fn plant_with(itl_goal: Duration) -> Plant {
    let plant = Plant::new(512, &EngineConfig { itl_goal, seed: Some(1), ..EngineConfig::default() });
    *plant.price.lock().unwrap() = machine;
    plant
}

fn plant() -> Plant {
    plant_with(EngineConfig::default().itl_goal)
}

fn steps(plant: &mut Plant, count: usize) {
    for _ in 0..count {
        plant.step();
    }
}

#[test]
fn streams_keep_their_goal_while_a_long_prompt_comes() {
    let mut plant = plant();
    let streams: Vec<Log> = (0..4).map(|seed| plant.submit(prompt(seed, 60), 300, |_| {})).collect();
    while plant.gauges().running < 4 || streams.iter().any(|log| log.tokens(0).len() < 3) {
        plant.step();
    }
    plant.batches.lock().unwrap().clear();
    let long = plant.submit(prompt(9, 1500), 10, |_| {});
    plant.drain();
    // The very first chunk beside a stream is sized by the prior's proportions only.
    for log in &streams {
        assert!(log.usage().gap_max_ns <= 100 * MS, "{} ms", log.usage().gap_max_ns / MS);
    }
    let ttft = long.usage().ttft_ns.unwrap();
    assert!(ttft < 7_000 * MS, "the streams take a fifth of the time, the prompt the rest: {} ms", ttft / MS);
}

#[test]
fn alone_a_prompt_takes_whole_chunks() {
    let mut plant = plant();
    plant.submit(prompt(9, 1024), 2, |_| {});
    plant.drain();
    let batches = plant.batches.lock().unwrap().clone();
    assert_eq!(batches, [[256], [256], [256], [256], [1]]);
}

#[test]
fn a_goal_that_cannot_be_kept_lets_prompts_move_on() {
    let mut plant = plant_with(Duration::from_millis(5));
    let streams: Vec<Log> = (0..8).map(|seed| plant.submit(prompt(seed, 20), 200, |_| {})).collect();
    steps(&mut plant, 20);
    let long = plant.submit(prompt(9, 600), 1, |_| {});
    plant.drain();
    assert!(long.usage().ttft_ns.unwrap() < 600 / 8 * 60 * MS);
    assert!(streams.iter().all(|log| log.usage().gap_max_ns < 60 * MS));
}

#[test]
fn short_prompts_and_a_long_one_both_get_on() {
    let mut plant = plant();
    let stream = plant.submit(prompt(1, 20), 900, |_| {});
    steps(&mut plant, 10);
    let long = plant.submit(prompt(9, 1500), 1, |_| {});
    let mut shorts = Vec::new();
    while !long.is_ended() {
        shorts.push(plant.submit(prompt(10 + u32::try_from(shorts.len()).unwrap(), 24), 1, |_| {}));
        steps(&mut plant, 4);
    }
    plant.drain();
    let ttft = long.usage().ttft_ns.unwrap();
    assert!(ttft < 2 * 1500 * 3 * MS, "half of all columns at least: {} ms", ttft / MS);
    for short in shorts {
        assert!(short.usage().ttft_ns.unwrap() < 300 * MS, "{} ms", short.usage().ttft_ns.unwrap() / MS);
    }
    assert!(stream.usage().gap_max_ns <= 100 * MS);
}

#[test]
fn one_client_cannot_keep_another_out() {
    let mut plant = plant();
    let many: Vec<Log> =
        (0..20).map(|seed| plant.submit(prompt(seed, 300), 20, |request| request.client = Some(1))).collect();
    plant.step();
    let other = plant.submit(prompt(30, 300), 20, |request| request.client = Some(2));
    let unknown = plant.submit(prompt(31, 300), 20, |_| {});
    plant.drain();
    let ttft = |log: &Log| log.usage().ttft_ns.unwrap();
    let before = many.iter().filter(|log| ttft(log) < ttft(&other).max(ttft(&unknown))).count();
    assert!(before <= 3, "{before} of the other's twenty came first");
}

/// Eight clients, each with four requests one after the other, as a chat does; gives the time for all.
fn chats(plant: &mut Plant) -> u64 {
    let mut open: Vec<(u32, Log)> = Vec::new();
    let ask = |plant: &mut Plant, seed: u32| plant.submit(prompt(seed, 150), 64, |_| {});
    for client in 0..8 {
        open.push((1, ask(plant, client)));
    }
    while !open.is_empty() {
        plant.step();
        for (round, log) in &mut open {
            if log.is_ended() && *round < 4 {
                *round += 1;
                *log = ask(plant, *round * 10 + u32::try_from(plant.next).unwrap());
            }
        }
        open.retain(|(_, log)| !log.is_ended());
    }
    plant.clock.0.load(Ordering::Relaxed)
}

#[test]
fn the_goal_costs_little_throughput() {
    let with_goal = chats(&mut plant());
    let without = chats(&mut plant_with(Duration::from_secs(3600)));
    assert!(with_goal < without / 100 * 106, "{} ms with, {} ms without", with_goal / MS, without / MS);
}
