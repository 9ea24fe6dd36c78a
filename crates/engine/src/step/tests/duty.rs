//! The duty limit, on machines whose clock is the test's: they rest as their threads would.

use super::pace::machine;
use super::plant::{Plant, prompt};
use super::*;

fn plant_with(duty: &DutyLimit) -> Plant {
    let plant = Plant::new(512, &EngineConfig { duty: duty.clone(), seed: Some(1), ..EngineConfig::default() });
    *plant.price.lock().unwrap() = machine;
    plant
}

/// One step of one plant after the other, each when it may; gives the time then. All clocks show the same.
fn round(plants: &mut [Plant], mut now: u64) -> u64 {
    for at in 0..plants.len() {
        loop {
            plants.iter().for_each(|plant| plant.clock.0.store(now, Ordering::Relaxed));
            match plants[at].core.rest_ns() {
                0 => break,
                rest_ns => now += rest_ns,
            }
        }
        plants[at].step();
        now = plants[at].clock.now_ns();
    }
    now
}

fn busy_ns(plants: &[Plant]) -> u64 {
    plants.iter().map(|plant| plant.stats.counters().busy_ns).sum()
}

/// Always some work, prompts and answers of several lengths, for so many steps of each plant; gives the busy share in
/// thousandths of the time since `now`, and the time after it.
fn run(plants: &mut [Plant], steps: u32, mut now: u64) -> (u64, u64) {
    let (start, busy_before) = (now, busy_ns(plants));
    for step in 0..steps {
        for plant in plants.iter_mut() {
            plant.clock.0.store(now, Ordering::Relaxed);
            if plant.core.is_idle() || step % 50 == 0 {
                plant.submit(prompt(step, 20 + step * 7 % 400), 30, |_| {});
            }
        }
        now = round(plants, now);
    }
    ((busy_ns(plants) - busy_before) * 1000 / (now - start), now)
}

#[track_caller]
fn assert_share(share: u64, permille: u32) {
    let permille = u64::from(permille);
    assert!(share.abs_diff(permille) * 50 <= permille, "{share} of 1000 at a limit of {permille}");
}

#[test]
fn the_busy_share_is_the_limit() {
    for permille in [50, 300, 700, 950] {
        let (share, _) = run(&mut [plant_with(&DutyLimit::new(permille))], 3000, 0);
        assert_share(share, permille);
    }
}

#[test]
fn engines_that_share_a_limit_obey_it_together() {
    for count in [2, 5] {
        let duty = DutyLimit::new(250);
        let mut plants: Vec<Plant> = (0..count).map(|_| plant_with(&duty)).collect();
        let (share, _) = run(&mut plants, 1500, 0);
        assert_share(share, 250);
    }
}

#[test]
fn a_limit_that_changes_is_obeyed_from_then_on() {
    let duty = DutyLimit::new(800);
    let mut plants = [plant_with(&duty)];
    let mut now = 0;
    for permille in [800, 200, 1000, 400] {
        duty.set(permille);
        let (share, then) = run(&mut plants, 1500, now);
        assert_share(share, permille);
        now = then;
    }
}

#[test]
fn rest_is_no_busy_time_and_changes_no_answer() {
    let made = |permille: u32| {
        let mut plants = [plant_with(&DutyLimit::new(permille))];
        let logs: Vec<Log> = (0..6).map(|seed| plants[0].submit(prompt(seed, 90), 40, |_| {})).collect();
        let mut now = 0;
        while !plants[0].core.is_idle() {
            now = round(&mut plants, now);
        }
        let usage: Vec<Usage> = logs.iter().map(Log::usage).collect();
        let counters = plants[0].stats.counters();
        let answers: Vec<Vec<Event>> = logs
            .iter()
            .map(|log| log.events().into_iter().filter(|e| !matches!(e, Event::Done(_))).collect())
            .collect();
        let gaps: u64 = usage.iter().map(|usage| usage.gap_sum_ns).sum();
        let busy: Vec<_> = usage.iter().map(|usage| (usage.prefill_ns, usage.prefill_columns)).collect();
        (answers, busy, (counters.busy_ns, counters.steps), now, gaps)
    };
    let free = made(DutyLimit::NO_LIMIT);
    assert_eq!(free.2.0, free.3, "without a limit every nanosecond is busy");
    let limited = made(300);
    assert_eq!((&free.0, &free.1, free.2), (&limited.0, &limited.1, limited.2));
    assert!(limited.3 > 3 * free.3 && limited.4 > 3 * free.4, "it shows in the time that passes");
}
