//! The scheduler and its blocks as a state machine: random submits, cancels, forks and steps, with a memory that
//! checks what every block really holds.

use std::cmp::Reverse;

use model::BLOCK_TOKENS;
use proptest::prelude::*;

use super::*;

fn config(kv_blocks: usize) -> SchedulerConfig {
    SchedulerConfig {
        states: false,
        kv_blocks,
        prefix_cache: true,
        max_running: 6,
        prefill_chunk: 48,
        itl_goal_ns: 1000,
        scored_rows: 16,
    }
}

fn rank(priority: i32, arrival: u64) -> Rank {
    Rank { priority: Reverse(priority), turn: 0, arrival, candidate: 0 }
}

/// A hash of each position's token and all before it.
fn states(tokens: &[TokenId]) -> Vec<u64> {
    let next = |state: &mut u64, token: &TokenId| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(*token) + 1);
        Some(*state)
    };
    tokens.iter().scan(0, next).collect()
}

/// A scheduler with a memory in place of a model.
struct Plant {
    scheduler: Scheduler,
    /// What each slot holds: a hash of its token and all before it.
    memory: Vec<[Option<u64>; BLOCK_TOKENS]>,
    cost: CostModel,
    /// Sequences and the length at which they end.
    ends: BTreeMap<Rank, usize>,
    next_token: TokenId,
    preemptions: usize,
}

impl Plant {
    fn new(config: SchedulerConfig) -> Self {
        let memory = vec![[None; BLOCK_TOKENS]; config.kv_blocks];
        let scheduler = Scheduler::new(config);
        let ends = BTreeMap::new();
        Self { scheduler, memory, cost: CostModel::default(), ends, next_token: 0, preemptions: 0 }
    }

    fn submit(&mut self, rank: Rank, prompt: Vec<TokenId>, more: usize, candidates: usize, scores: bool) {
        self.ends.insert(rank, prompt.len() + more);
        self.scheduler.add(rank, Sequence::new(prompt, candidates, if scores { 0 } else { usize::MAX }));
    }

    fn remove(&mut self, rank: Rank) {
        self.scheduler.remove(rank);
        self.ends.remove(&rank);
    }

    /// One step; gives whether any column was computed.
    fn step(&mut self) -> bool {
        let plan = self.scheduler.schedule(&self.cost, 0);
        self.scheduler.check();
        self.preemptions += plan.preempted.len();
        for copy in &plan.copies {
            let source = self.memory[copy.from as usize];
            self.memory[copy.to as usize] = [None; BLOCK_TOKENS];
            self.memory[copy.to as usize][..copy.tokens].copy_from_slice(&source[..copy.tokens]);
        }
        self.write(&plan);
        self.verify();
        for work in &plan.work {
            self.finish(work);
            self.scheduler.check();
        }
        !plan.work.is_empty()
    }

    fn write(&mut self, plan: &Plan) {
        for work in &plan.work {
            let sequence = &self.scheduler.running()[&work.rank];
            assert_eq!(work.start, sequence.computed);
            assert!(work.columns > 0);
            for position in work.start..work.start + work.columns {
                let block = sequence.table[position / BLOCK_TOKENS];
                assert_eq!(self.scheduler.kv().references(block), 1, "block {block} is written while shared");
                self.memory[block as usize][position % BLOCK_TOKENS] = Some(states(&sequence.tokens)[position]);
            }
        }
    }

    /// Every computed position of every table holds its token, computed after the right ones.
    fn verify(&self) {
        for sequence in self.scheduler.running().values() {
            for (position, state) in states(&sequence.tokens[..sequence.computed]).into_iter().enumerate() {
                let block = sequence.table[position / BLOCK_TOKENS];
                assert_eq!(self.memory[block as usize][position % BLOCK_TOKENS], Some(state), "position {position}");
            }
        }
    }

    fn finish(&mut self, work: &Work) {
        self.scheduler.advance(work.rank, work.columns);
        let sequence = &self.scheduler.running()[&work.rank];
        let candidates = u32::try_from(sequence.slots).unwrap();
        let (done, first) = (sequence.remaining() == 0, sequence.tokens.len() == sequence.prompt_len);
        if sequence.scores() {
            let computed = sequence.computed;
            self.scheduler.allow_cached(work.rank, computed);
        }
        if !done {
            return;
        }
        let end = self.ends[&work.rank];
        for candidate in (1..candidates).filter(|_| first) {
            let fork = Rank { candidate, ..work.rank };
            self.next_token = (self.next_token + 1) % 3;
            self.ends.insert(fork, end);
            self.scheduler.fork(work.rank, candidate, self.next_token);
        }
        self.scheduler.settle(work.rank);
        self.next_token = (self.next_token + 1) % 3;
        self.scheduler.append(work.rank, self.next_token);
        if self.scheduler.running()[&work.rank].tokens.len() >= end {
            self.remove(work.rank);
        }
    }

    /// Steps until everything has ended.
    fn drain(&mut self) {
        for _ in 0..20_000 {
            if self.ends.is_empty() {
                assert_eq!(self.scheduler.kv().used(), 0, "no block leaks");
                return;
            }
            assert!(self.step(), "a step with work computes something");
        }
        panic!("the work does not come to an end");
    }
}

#[derive(Clone, Debug)]
enum Act {
    Submit { priority: i32, prompt: Vec<TokenId>, more: usize, candidates: usize, scores: bool },
    Cancel(usize),
    Steps(usize),
}

fn prompt() -> impl Strategy<Value = Vec<TokenId>> {
    // Few different tokens and shared beginnings, so that prefixes meet.
    (0..3_u32, 1..150_usize, prop::collection::vec(0..3_u32, 0..40)).prop_map(|(token, len, tail)| {
        let mut prompt = vec![token; len];
        prompt.extend(tail);
        prompt
    })
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..3, prompt(), 1..60_usize, 1..4_usize, any::<bool>()).prop_map(|(priority, prompt, more, candidates, scores)| {
            Act::Submit { priority, prompt, more, candidates, scores }
        }),
        1 => (0..20_usize).prop_map(Act::Cancel),
        4 => (1..12_usize).prop_map(Act::Steps),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_work_keeps_every_invariant(blocks in 9..40_usize, acts in prop::collection::vec(act(), 1..40), caching in any::<bool>()) {
        let mut plant = Plant::new(SchedulerConfig { prefix_cache: caching, ..config(blocks) });
        for (arrival, act) in (0..).zip(acts) {
            match act {
                Act::Submit { priority, prompt, more, candidates, scores } => {
                    if (prompt.len() + more).div_ceil(model::BLOCK_TOKENS) <= blocks {
                        plant.submit(rank(priority, arrival), prompt, more, candidates, scores);
                    }
                }
                Act::Cancel(which) => {
                    if let Some(rank) = plant.ends.keys().nth(which).copied() {
                        plant.remove(rank);
                        plant.scheduler.check();
                    }
                }
                Act::Steps(steps) => {
                    for _ in 0..steps {
                        let idle = plant.ends.is_empty();
                        prop_assert_eq!(plant.step(), !idle);
                    }
                }
            }
        }
        plant.drain();
    }
}

fn columns(plan: &Plan) -> Vec<(u64, usize)> {
    plan.work.iter().map(|work| (work.rank.arrival, work.columns)).collect()
}

#[test]
fn prompts_share_the_chunk_in_order() {
    let mut plant = Plant::new(config(64));
    plant.submit(rank(0, 0), vec![1; 20], 5, 1, false);
    plant.submit(rank(0, 1), vec![2; 100], 5, 1, false);
    plant.submit(rank(1, 2), vec![3; 10], 5, 1, false);
    let plan = plant.scheduler.schedule(&plant.cost, 0);
    assert_eq!(columns(&plan), [(2, 10), (0, 20), (1, 18)], "priority first, then arrival; 48 in all");
}

#[test]
fn a_long_prompt_does_not_stop_those_who_decode() {
    let mut plant = Plant::new(config(64));
    plant.submit(rank(0, 0), vec![1; 20], 50, 1, false);
    plant.step();
    plant.submit(rank(0, 1), vec![2; 200], 5, 1, false);
    plant.cost.observe(&Load::default().with(0, 20, 1), 2000);
    plant.cost.observe(&Load::default().with(20, 1, 1), 300);
    for _ in 0..4 {
        let plan = plant.scheduler.schedule(&plant.cost, 0);
        assert_eq!(columns(&plan), [(0, 1), (1, 8)], "8 columns of about 90 ns beside the stream's 300: 1000 in all");
        for work in &plan.work {
            plant.finish(work);
        }
    }
}

#[test]
fn the_guesses_of_a_step_have_a_bound_and_each_stream_counts_for_itself() {
    let guessed = |streams: u64, chance: f32, cheap: bool| {
        let mut plant = Plant::new(SchedulerConfig { max_running: 20, itl_goal_ns: 1 << 40, ..config(64) });
        (0..streams).for_each(|arrival| plant.submit(rank(0, arrival), vec![1; 8], 50, 1, false));
        let all_decode = |plant: &Plant| {
            let waiting = plant.scheduler.waiting().count();
            waiting == 0 && plant.scheduler.running().values().all(Sequence::decodes)
        };
        while !all_decode(&plant) {
            plant.step();
        }
        if cheap {
            plant.cost.observe(&Load::default().with(8, 16, 16), 1_000_000);
            plant.cost.observe(&Load::default().with(8, 60, 60), 1_100_000);
        }
        let guesses = vec![Guess { token: 1, chance }; 7];
        (0..streams).for_each(|arrival| plant.scheduler.guess(rank(0, arrival), guesses.clone()));
        plant.scheduler.schedule(&plant.cost, 0).work.iter().map(|work| work.guessed).collect::<Vec<_>>()
    };
    assert_eq!(guessed(1, 1.0, false), [7]);
    assert_eq!(guessed(1, 0.3, false), [0], "a column of 3 ms does not pay for 0.3 tokens where one takes 7 ms");
    let many = guessed(16, 1.0, false);
    assert_eq!(many.iter().sum::<usize>(), 28, "each column more is worth less, until it does not pay");
    let many = guessed(16, 0.9, true);
    assert_eq!(many.iter().sum::<usize>(), GUESSES_MOST, "{many:?}");
}

#[test]
fn a_clients_turn_comes_before_arrival() {
    let mut plant = Plant::new(config(64));
    plant.submit(Rank { turn: 200, ..rank(0, 0) }, vec![1; 100], 5, 1, false);
    plant.submit(Rank { turn: 10, ..rank(0, 1) }, vec![2; 100], 5, 1, false);
    let plan = plant.scheduler.schedule(&plant.cost, 0);
    assert_eq!(columns(&plan), [(1, 48)]);
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one_before_it() {
    let mut plant = Plant::new(SchedulerConfig { prefill_chunk: 64, ..config(64) });
    plant.submit(rank(0, 0), (0..900).collect(), 5, 1, false);
    plant.step();
    plant.submit(rank(0, 1), (1000..1300).collect(), 5, 1, false);
    plant.submit(rank(0, 2), vec![7; 10], 5, 1, false);
    plant.submit(rank(-1, 3), vec![8; 4], 5, 1, false);
    let plan = plant.scheduler.schedule(&plant.cost, 0);
    assert_eq!(columns(&plan), [(0, 54), (2, 10)], "ten are kept for the shortest of the same priority");
    let mut plant = Plant::new(SchedulerConfig { prefill_chunk: 64, ..config(64) });
    plant.submit(rank(0, 0), (0..900).collect(), 5, 1, false);
    plant.step();
    plant.submit(rank(0, 1), (1000..1300).collect(), 5, 1, false);
    let plan = plant.scheduler.schedule(&plant.cost, 0);
    assert_eq!(columns(&plan), [(0, 32), (1, 32)], "the first keeps half at least");
}

#[test]
fn a_full_prefix_hit_still_computes_the_last_token() {
    let mut plant = Plant::new(config(64));
    let prompt: Vec<TokenId> = (0..64).collect();
    plant.submit(rank(0, 0), prompt.clone(), 1, 1, false);
    plant.drain();
    plant.submit(rank(0, 1), prompt, 1, 1, false);
    let plan = plant.scheduler.schedule(&plant.cost, 0);
    assert_eq!(columns(&plan), [(1, 1)]);
    assert_eq!(plan.cached, [(rank(0, 1), 63)]);
    assert_eq!(plan.copies.len(), 1, "31 tokens of the second block are copied");
    assert_eq!(plan.copies[0].tokens, 31);
}

#[test]
fn a_partly_common_block_is_copied() {
    let mut plant = Plant::new(config(64));
    plant.submit(rank(0, 0), (0..60).collect(), 1, 1, false);
    plant.drain();
    let mut other: Vec<TokenId> = (0..60).collect();
    other[50] = 900;
    plant.submit(rank(0, 1), other, 1, 1, false);
    let plan = plant.scheduler.schedule(&plant.cost, 0);
    assert_eq!(plan.cached, [(rank(0, 1), 50)], "one whole block and 18 tokens of a partly filled one");
    assert_eq!(plan.copies[0].tokens, 18);
    assert_eq!(columns(&plan), [(1, 10)]);
}

#[test]
fn a_follower_takes_what_the_leader_computed_meanwhile() {
    let mut plant = Plant::new(SchedulerConfig { prefill_chunk: 64, ..config(64) });
    let prompt: Vec<TokenId> = (0..200).collect();
    plant.submit(rank(0, 0), prompt.clone(), 9, 1, false);
    plant.step();
    plant.submit(rank(0, 1), prompt, 1, 1, false);
    let mut computed = 0;
    while plant.ends.contains_key(&rank(0, 1)) {
        let before: Vec<_> = plant.scheduler.running().get(&rank(0, 1)).map(|s| s.peak).into_iter().collect();
        plant.step();
        let after = plant.scheduler.running().get(&rank(0, 1)).map_or(200, |s| s.peak);
        computed += usize::from(after > before.first().copied().unwrap_or(0));
    }
    assert!(computed <= 3, "it only ran along at the end");
}

#[test]
fn higher_priority_takes_the_place_of_lower() {
    let mut plant = Plant::new(SchedulerConfig { max_running: 2, ..config(64) });
    plant.submit(rank(0, 0), vec![1; 8], 50, 1, false);
    plant.submit(rank(0, 1), vec![2; 8], 50, 1, false);
    plant.step();
    plant.submit(rank(5, 2), vec![3; 8], 50, 1, false);
    let plan = plant.scheduler.schedule(&plant.cost, 0);
    assert_eq!(plan.preempted, [rank(0, 1)], "the latest of the lowest priority goes first");
    assert_eq!(columns(&plan), [(2, 8), (0, 1)]);
    plant.submit(rank(0, 3), vec![3; 8], 50, 1, false);
    let waiting: Vec<u64> = plant.scheduler.waiting().map(|rank| rank.arrival).collect();
    assert_eq!(waiting, [1, 3], "the preempted one is at the front again");
}

#[test]
fn when_blocks_run_out_the_latest_is_preempted_and_all_end() {
    let mut plant = Plant::new(config(10));
    for arrival in 0..4 {
        let first = u32::try_from(arrival).unwrap() * 100;
        plant.submit(rank(0, arrival), (first..first + 33).collect(), 180, 1, false);
    }
    plant.drain();
    assert!(plant.preemptions > 0);
}

#[test]
fn block_time_is_shared_and_adds_up() {
    let mut plant = Plant::new(config(64));
    plant.submit(rank(0, 0), vec![1; 70], 50, 3, false);
    plant.step();
    plant.step();
    plant.step();
    let used = u64::try_from(plant.scheduler.kv().used()).unwrap();
    assert_eq!(used, 5, "two shared whole blocks, three of their own");
    let mut parts = Vec::new();
    let total = plant.scheduler.charge_blocks(1000, |rank, ns| parts.push((rank.candidate, ns)));
    assert_eq!(total, used * 1000);
    assert_eq!(parts, [(0, 1668), (1, 1666), (2, 1666)]);
}
