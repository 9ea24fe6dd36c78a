//! Which sequences run, and which columns each step computes.
//!
//! A pure state machine: what columns cost is an argument, nothing here reads a clock or touches memory of the model.
//! Sequences wait or run; both sets are ordered by [`Rank`]. When blocks run out the worst running sequence is
//! preempted: it gives up its blocks and waits again, to be computed anew (mostly from the prefix cache). One that sits
//! out is the first to give way, whatever its rank, and comes back when it may go on.

use std::collections::BTreeMap;

use inference::TokenId;
#[cfg(test)]
use model::BlockId;

use crate::cost::{CostModel, Load, costs};
use crate::draft::Guess;
use crate::kv_cache::{BlockCopy, KvBlocks};
use crate::sequence::{Rank, Sequence};

/// Prompts that may be under way together: a short one need not wait for a long one before it.
const PREFILLS: usize = 8;
/// How long a step may take in which no stream waits for its next token: new requests and cancellations wait for its
/// end.
const ALONE_STEP_NS: u64 = 1_000_000_000;
/// How much more tokens for its time a step must promise with the guesses of a stream than without, as a part of what this
/// one stream makes of it.
const GUESSES_GAIN: f64 = 0.05;
/// Most guesses of a step, all streams together: each needs a row of logits.
pub(crate) const GUESSES_MOST: usize = 32;

/// Limits of the scheduler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SchedulerConfig {
    pub(crate) kv_blocks: usize,
    /// Whether each block is a state; then no more than these may run.
    pub(crate) states: bool,
    pub(crate) prefix_cache: bool,
    pub(crate) max_running: usize,
    /// Most prompt columns of a step.
    pub(crate) prefill_chunk: usize,
    /// How long a step with streams in it should take at most, prompt columns included.
    pub(crate) itl_goal_ns: u64,
    /// Most prompt positions of a step whose log-probabilities are reported: each needs a row of logits.
    pub(crate) scored_rows: usize,
}

/// Columns of one sequence in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) rank: Rank,
    /// Position of the first column.
    pub(crate) start: usize,
    pub(crate) columns: usize,
    /// How many of the columns, the last ones, are of guessed tokens.
    pub(crate) guessed: usize,
}

/// What a step does. The copies come first, in order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) copies: Vec<BlockCopy>,
    pub(crate) work: Vec<Work>,
    /// Sequences that took positions from the prefix cache: how many of their first positions now hold KV.
    pub(crate) cached: Vec<(Rank, usize)>,
    /// Sequences that went back to waiting.
    pub(crate) preempted: Vec<Rank>,
}

/// Waiting and running sequences, and the KV blocks they hold.
#[derive(Debug)]
pub(crate) struct Scheduler {
    config: SchedulerConfig,
    kv: KvBlocks,
    waiting: BTreeMap<Rank, Sequence>,
    running: BTreeMap<Rank, Sequence>,
    /// Scratch: how many holders of each block were counted.
    shares: Vec<u32>,
}

impl Scheduler {
    pub(crate) fn new(config: SchedulerConfig) -> Self {
        let blocks = config.kv_blocks;
        Self {
            kv: if config.states { KvBlocks::states(blocks) } else { KvBlocks::new(blocks, config.prefix_cache) },
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            shares: vec![0; blocks],
            config,
        }
    }

    pub(crate) fn kv(&self) -> &KvBlocks {
        &self.kv
    }

    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Rank> {
        self.waiting.keys()
    }

    pub(crate) fn running(&self) -> &BTreeMap<Rank, Sequence> {
        &self.running
    }

    pub(crate) fn add(&mut self, rank: Rank, sequence: Sequence) {
        self.waiting.insert(rank, sequence);
    }

    /// Removes a sequence wherever it is and frees its blocks.
    pub(crate) fn remove(&mut self, rank: Rank) {
        self.waiting.remove(&rank);
        if let Some(mut sequence) = self.running.remove(&rank) {
            sequence.release(&mut self.kv);
        }
    }

    /// All sequences, running and waiting.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = (&Rank, &Sequence)> {
        self.running.iter().chain(&self.waiting)
    }

    /// Lets a sequence sit out, or go on.
    pub(crate) fn pause(&mut self, rank: Rank, paused: bool) {
        if let Some(sequence) = self.running.get_mut(&rank).or(self.waiting.get_mut(&rank)) {
            sequence.paused = paused;
        }
    }

    /// Tokens that may come next in a running sequence; they hold for one step.
    pub(crate) fn guess(&mut self, rank: Rank, guesses: Vec<Guess>) {
        if let Some(sequence) = self.running.get_mut(&rank) {
            sequence.guesses = guesses;
        }
    }

    /// The columns of a running sequence are computed.
    pub(crate) fn advance(&mut self, rank: Rank, columns: usize) {
        if let Some(sequence) = self.running.get_mut(&rank) {
            sequence.advance(columns, &mut self.kv);
        }
    }

    /// A running sequence goes on with `token`.
    pub(crate) fn append(&mut self, rank: Rank, token: TokenId) {
        if let Some(sequence) = self.running.get_mut(&rank) {
            sequence.tokens.push(token);
        }
    }

    /// Another candidate of a running sequence that has just computed its prompt goes on with `token`.
    pub(crate) fn fork(&mut self, root: Rank, candidate: u32, token: TokenId) {
        if let Some(sequence) = self.running.get_mut(&root) {
            sequence.slots = sequence.slots.saturating_sub(1).max(1);
            let fork = sequence.fork(token, &mut self.kv);
            self.running.insert(Rank { candidate, ..root }, fork);
        }
    }

    /// The prompt of a sequence is done: it stands for one candidate only from now on.
    pub(crate) fn settle(&mut self, rank: Rank) {
        if let Some(sequence) = self.running.get_mut(&rank) {
            sequence.slots = 1;
        }
    }

    /// Prompt positions below `positions` need not be computed for their log-probabilities any more.
    pub(crate) fn allow_cached(&mut self, rank: Rank, positions: usize) {
        if let Some(sequence) = self.running.get_mut(&rank) {
            sequence.cache_limit = positions;
        }
    }

    /// Forgets all cached content; every sequence must have been removed or be waiting.
    pub(crate) fn clear_cache(&mut self) {
        self.kv.clear_cache();
    }

    /// Plans the next step. This is the whole policy; the methods below only carry it out.
    ///
    /// - Order is the rank: priority, then the client's turn (see [`Turns`](crate::turns::Turns)), then arrival. Whoever
    ///   is preempted comes back at its old place.
    /// - Streams, whose prompts are done, come first: each gets its column in every step, and further
    ///   ones for guessed tokens where the step then makes more tokens for its time (see [`Self::draft`]).
    /// - Prompts get the time that is left of the inter-token goal, but a quarter at least: they move on whatever the
    ///   goal. The cost model says how many columns that is. When no stream waits they get whole chunks.
    /// - The first prompt gets half of these columns at least; up to half is kept for the shortest of its priority, which
    ///   so does not wait for all of a long one. Both halves move in every step, so neither starves.
    /// - Waiting sequences start, first in order first, while those before them leave columns over and there is room.
    /// - When blocks run out, who sits out is preempted first, then the last in order.
    ///
    /// `drafted_ns` of the step's time are over: guesses were made in them.
    pub(crate) fn schedule(&mut self, cost: &CostModel, drafted_ns: u64) -> Plan {
        let mut plan = Plan::default();
        let (streams, guessed) = self.choose_guesses(cost, drafted_ns);
        let limit_ns = if streams.columns == 0 {
            ALONE_STEP_NS.max(self.config.itl_goal_ns)
        } else {
            let (goal, decode) = (self.config.itl_goal_ns, cost.predict(&streams) + drafted_ns);
            goal.max(decode + goal.max(decode) / 4) - drafted_ns
        };
        let farthest = self.prompts().map(|(_, sequence)| sequence.computed).max().unwrap_or(0);
        let mut left = cost.columns_within(&streams, farthest, self.config.prefill_chunk, limit_ns);
        self.admit(left, &mut plan);

        let (shortest, mut kept) = self.short_share(left).unzip();
        let mut rows = self.config.scored_rows;
        for rank in self.running.keys().copied().collect::<Vec<_>>() {
            let Some(sequence) = self.running.get(&rank).filter(|sequence| !sequence.paused) else { continue };
            if sequence.decodes() {
                if self.assign(rank, 1, &mut plan) == 1 {
                    self.add_guessed(guessed.get(&rank).copied().unwrap_or(0), &mut plan);
                }
                continue;
            }
            if shortest == Some(rank) {
                kept = None;
            }
            let mut most = left.saturating_sub(kept.unwrap_or(0));
            let scores = sequence.scores();
            if scores {
                most = most.min(rows);
            }
            let columns = self.assign(rank, most, &mut plan);
            left -= columns;
            if scores {
                rows -= columns;
            }
        }
        plan
    }

    /// Running sequences whose prompts are done, in order.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (&Rank, &Sequence)> {
        self.running.iter().filter(|(_, sequence)| sequence.decodes() && !sequence.paused)
    }

    /// What the streams compute in a step without guesses.
    pub(crate) fn streams_load(&self) -> Load {
        self.streams().fold(Load::default(), |load, (_, sequence)| load.with(sequence.computed, 1, 1))
    }

    /// What the streams make of a step: a column and a row of logits for each, and for each guess that pays. A guess
    /// pays when the step is expected to make more tokens for its time with its column than without, by the chances of
    /// the guesses and the measured cost of so many columns, and still ends within the goal, or takes twice as long at
    /// most. Gives also how many guesses each stream gets, at most [`GUESSES_MOST`] together.
    fn choose_guesses(&self, cost: &CostModel, drafted_ns: u64) -> (Load, BTreeMap<Rank, usize>) {
        let mut load = self.streams_load();
        let limit_ns = self.config.itl_goal_ns.max(cost.predict(&load).saturating_mul(2));
        let limit_ns = limit_ns.saturating_sub(drafted_ns) as f64;
        let mut guessed = BTreeMap::new();
        let mut made = load.columns as f64;
        let (gain, mut left) = (1.0 + GUESSES_GAIN / made.max(1.0), GUESSES_MOST);
        for (rank, sequence) in self.streams() {
            let (base, start) = (load, sequence.computed + 1);
            let with = |count: usize| base.extended(start, count, count);
            let costs = costs(cost, with, sequence.guesses.len().min(left));
            let (mut best, mut chance, mut more) = (made / costs[0] * gain, 1.0, made);
            for (count, (guess, ns)) in (1..).zip(sequence.guesses.iter().zip(&costs[1..])) {
                chance *= f64::from(guess.chance);
                more += chance;
                let gained = more / ns;
                if gained > best && *ns <= limit_ns {
                    (best, load, made) = (gained, with(count), more);
                    guessed.insert(*rank, count);
                }
            }
            left -= guessed.get(rank).copied().unwrap_or(0);
        }
        (load, guessed)
    }

    /// Adds columns for guessed tokens to the work planned last, as far as there are blocks to spare for them.
    fn add_guessed(&mut self, guessed: usize, plan: &mut Plan) {
        let Some(work) = plan.work.last_mut().filter(|_| guessed > 0) else { return };
        let spare = self.kv.available() > self.running.len();
        let Some(sequence) = self.running.get_mut(&work.rank).filter(|sequence| spare && sequence.decodes()) else {
            return;
        };
        let columns = sequence.extend(1 + guessed, &mut self.kv, &mut plan.copies);
        work.guessed = columns.saturating_sub(1);
        work.columns = 1 + work.guessed;
    }

    /// Running sequences whose prompt is not done, in order.
    fn prompts(&self) -> impl Iterator<Item = (&Rank, &Sequence)> {
        self.running.iter().filter(|(_, sequence)| !sequence.decodes() && !sequence.paused)
    }

    /// Moves waiting sequences to the batch, best first, as long as there is work and room for them.
    fn admit(&mut self, budget: usize, plan: &mut Plan) {
        while let Some((rank, head)) = self.waiting.iter().find(|(_, sequence)| !sequence.paused) {
            let rank = *rank;
            let ahead = || self.prompts().take_while(|(other, _)| **other < rank);
            let enough = ahead().map(|(_, s)| s.remaining()).sum::<usize>() >= budget;
            if enough && ahead().count() >= PREFILLS {
                return;
            }
            let need = self.need(head);
            if !self.fits(&need) && !self.clear_idle(&need, plan) && !self.make_room(rank, &need, plan) {
                return;
            }
            let Some(mut sequence) = self.waiting.remove(&rank) else { return };
            self.take_cached(rank, &mut sequence, plan);
            self.running.insert(rank, sequence);
        }
    }

    fn take_cached(&mut self, rank: Rank, sequence: &mut Sequence, plan: &mut Plan) {
        let before = sequence.computed;
        sequence.take_cached(&mut self.kv, &mut plan.copies);
        if sequence.computed > before {
            plan.cached.push((rank, sequence.computed));
        }
    }

    fn need(&self, sequence: &Sequence) -> Need {
        let cached = sequence.cached_blocks(&self.kv);
        let idle = cached.iter().filter(|block| self.kv.references(**block) == 0).count();
        let forks = sequence.slots - 1;
        Need { slots: sequence.slots, blocks: self.kv.blocks_for(sequence.tokens.len()) - cached.len() + idle + forks }
    }

    /// Whether a sequence can start and, with those that run, get as far as its present end, with one block more for
    /// each to grow into. Alone, a sequence always starts: it is known to fit the pool. A state does not grow: a place in the
    /// batch is all that a sequence needs.
    fn fits(&self, need: &Need) -> bool {
        if self.running.is_empty() {
            return true;
        }
        let slots: usize = self.running.values().map(|sequence| sequence.slots).sum();
        if self.config.states {
            return slots + need.slots <= self.config.max_running;
        }
        let more = |s: &Sequence| self.kv.blocks_for(s.tokens.len()).saturating_sub(s.table.len()) + s.slots - 1;
        let promised: usize = self.running.values().map(more).sum();
        let watermark = self.running.len() + self.kv.total() / 100;
        slots + need.slots <= self.config.max_running && promised + need.blocks + watermark <= self.kv.available()
    }

    /// Preempts sequences that sit out, worst first, until `need` fits: they need nothing until they go on.
    fn clear_idle(&mut self, need: &Need, plan: &mut Plan) -> bool {
        let idle: Vec<Rank> = self.running.iter().rev().filter(|(_, s)| s.paused).map(|(rank, _)| *rank).collect();
        idle.into_iter().any(|rank| {
            self.preempt(rank, plan);
            self.fits(need)
        })
    }

    /// Preempts sequences of strictly lower priority until `need` fits; does nothing when that could not help.
    fn make_room(&mut self, rank: Rank, need: &Need, plan: &mut Plan) -> bool {
        let lower: Vec<Rank> = self.running.keys().rev().take_while(|r| r.priority > rank.priority).copied().collect();
        let gained: usize = lower.iter().map(|rank| self.running[rank].table.len()).sum();
        let kept: usize = self.running.range(..rank).map(|(_, s)| s.slots).sum();
        let slots_help = kept + need.slots <= self.config.max_running || lower.len() == self.running.len();
        if lower.is_empty() || !slots_help || self.kv.available() + gained < need.blocks {
            return false;
        }
        for victim in lower {
            self.preempt(victim, plan);
            if self.fits(need) {
                return true;
            }
        }
        false
    }

    fn preempt(&mut self, rank: Rank, plan: &mut Plan) {
        if let Some(mut sequence) = self.running.remove(&rank) {
            sequence.release(&mut self.kv);
            self.waiting.insert(rank, sequence);
            plan.preempted.push(rank);
        }
    }

    /// Gives a running sequence its next columns, up to `most`, and the blocks for them. Gives how many.
    fn assign(&mut self, rank: Rank, most: usize, plan: &mut Plan) -> usize {
        let Some(mut sequence) = self.running.remove(&rank) else { return 0 };
        if most > 0 && !sequence.decodes() {
            self.take_cached(rank, &mut sequence, plan);
        }
        let (start, wanted) = (sequence.computed, sequence.remaining().min(most));
        self.running.insert(rank, sequence);
        let columns = if wanted == 0 { 0 } else { self.make_columns(rank, wanted, plan) };
        if columns > 0 {
            plan.work.push(Work { rank, start, columns, guessed: 0 });
        }
        columns
    }

    /// The prompt with the least to do, and up to half of the budget kept for it: so it does not wait for all of a long
    /// one that came first. `None` when it is first anyway, or of lower priority.
    fn short_share(&self, budget: usize) -> Option<(Rank, usize)> {
        let mut prompts = self.prompts();
        let (first, first_sequence) = prompts.next()?;
        let same = prompts.take_while(|(rank, _)| rank.priority == first.priority);
        let (rank, sequence) = same.min_by_key(|(_, sequence)| sequence.remaining())?;
        let shorter = sequence.remaining() < first_sequence.remaining();
        shorter.then(|| (*rank, sequence.remaining().min(budget / 2)))
    }

    /// Finds blocks for the next columns, preempting worse sequences if it must. The worst one itself rather waits a
    /// step: the best one always moves, so blocks come free in the end.
    fn make_columns(&mut self, rank: Rank, columns: usize, plan: &mut Plan) -> usize {
        loop {
            let Some(sequence) = self.running.get_mut(&rank) else { return 0 };
            let room = sequence.extend(columns, &mut self.kv, &mut plan.copies);
            let idle = self.running.iter().rev().find(|(_, sequence)| sequence.paused);
            let Some((worst, _)) = idle.or(self.running.last_key_value()) else { return room };
            if room == columns || *worst == rank {
                return room;
            }
            self.preempt(*worst, plan);
        }
    }

    /// Adds up `ns` of holding blocks for each running sequence; a block held by n tables counts 1/n for each, and
    /// the parts add up exactly. Gives the whole.
    pub(crate) fn charge_blocks(&mut self, ns: u64, mut charge: impl FnMut(Rank, u64)) -> u64 {
        let mut total = 0_u64;
        self.shares.fill(0);
        for (rank, sequence) in &self.running {
            let mut sum = 0_u64;
            for block in &sequence.table {
                let holders = u64::from(self.kv.references(*block)).max(1);
                let share = &mut self.shares[*block as usize];
                sum += ns / holders + u64::from(u64::from(*share) < ns % holders);
                *share += 1;
            }
            total += sum;
            charge(*rank, sum);
        }
        total
    }

    /// Checks everything that must hold between steps.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.kv.check(self.running.values().map(|sequence| -> &[BlockId] { &sequence.table }));
        for sequence in self.waiting.values() {
            assert!(sequence.table.is_empty() && sequence.computed == 0);
        }
        for sequence in self.running.values() {
            assert!(sequence.computed <= sequence.tokens.len());
            assert!(sequence.table.len().saturating_mul(self.kv.block_tokens()) >= sequence.computed);
            assert!(!self.config.states || sequence.table.len() <= 1);
        }
        let slots: usize = self.running.values().map(|sequence| sequence.slots).sum();
        assert!(slots <= self.config.max_running.max(self.running.first_key_value().map_or(0, |(_, s)| s.slots)));
    }
}

/// What a waiting sequence needs to start.
struct Need {
    slots: usize,
    /// Blocks out of those now free or cached, the cached ones it would share included.
    blocks: usize,
}

#[cfg(test)]
mod tests;
