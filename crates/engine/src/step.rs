//! The production line: one step from schedule to events.

mod speculation;
mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use inference::{EngineLimits, FinishReason, Request, RequestFailure, TokenId};
use model::{Adapter, Batch, BlockId, Column};
use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::calibration::StepLog;
use crate::config::EngineConfig;
use crate::cost::{CostModel, Load};
use crate::draft::DraftModel;
use crate::duty::DutyLimit;
use crate::inbox::Inbox;
use crate::output::{Made, Output, panic_message};
use crate::runner::Runner;
use crate::sampler::Sampler;
use crate::scheduler::{Plan, Scheduler, SchedulerConfig, Work};
use crate::sequence::{Rank, Sequence};
use crate::stats::{self, Stats};
use crate::turns::Turns;
use crate::work::WorkLog;

/// Most prompt positions of a step whose log-probabilities are reported; bounds the rows of logits.
const SCORED_ROWS: usize = 32;
/// How long a candidate waits for more allowance before it ends with what it has. It costs nobody anything: it computes
/// nothing meanwhile, and its blocks and its place in the batch are given to whoever needs them.
const ALLOWANCE_PATIENCE_NS: u64 = 30_000_000_000;

/// Tells the time in nanoseconds; never goes back.
pub(crate) trait Clock: Send {
    fn now_ns(&self) -> u64;
}

/// Everything the engine's thread owns. Requests are known by their number of arrival.
pub(crate) struct Core {
    runner: Box<dyn Runner>,
    /// Guesses beside prompt lookup, when there is one.
    draft: Option<DraftModel>,
    scheduler: Scheduler,
    scheduler_config: SchedulerConfig,
    requests: BTreeMap<u64, Output>,
    /// Requests that ended in this step; their last event goes out when the gauges show it.
    ended: Vec<(Output, Option<RequestFailure>)>,
    sampler: Sampler,
    cost: CostModel,
    step_log: Option<StepLog>,
    turns: Turns,
    duty: DutyLimit,
    speculation: bool,
    logits: Vec<f32>,
    vocab_size: usize,
    seeds: ChaCha8Rng,
    arrivals: u64,
    /// The last step had nothing to do: all wait for more allowance.
    starved: bool,
    /// Until when block time is charged.
    charged_ns: u64,
    shared: Shared,
    clock: Box<dyn Clock>,
}

/// What other threads read.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) stats: Arc<Stats>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) work: Arc<WorkLog>,
}

/// Rows of logits that a piece of work asked for.
struct Rows {
    work: Work,
    /// First prompt position whose row is wanted, and how many; rows of positions before the last of the prompt.
    scored_from: usize,
    scored: usize,
    /// How many rows tokens are to be sampled from: that of the last column and those of guessed ones after it.
    samples: usize,
}

impl Core {
    /// `draft` is the runner of a draft model, of the same vocabulary.
    pub(crate) fn new(
        runner: Box<dyn Runner>,
        draft: Option<Box<dyn Runner>>,
        config: &EngineConfig,
        limits: EngineLimits,
        shared: Shared,
        clock: Box<dyn Clock>,
    ) -> Self {
        let shape = runner.shape();
        let scheduler_config = SchedulerConfig {
            kv_blocks: limits.kv_blocks,
            states: shape.states,
            prefix_cache: config.prefix_cache && !shape.states,
            max_running: config.places(shape, limits.kv_blocks),
            prefill_chunk: config.prefill_chunk,
            itl_goal_ns: u64::try_from(config.itl_goal.as_nanos()).unwrap_or(u64::MAX),
            scored_rows: SCORED_ROWS,
        };
        let cost = config.calibration.as_ref().and_then(CostModel::calibrated).unwrap_or_default();
        shared.stats.set_terms(cost.terms());
        Self {
            runner,
            draft: draft.map(|draft| DraftModel::new(draft, config.prefix_cache)),
            scheduler: Scheduler::new(scheduler_config),
            scheduler_config,
            requests: BTreeMap::new(),
            ended: Vec::new(),
            sampler: Sampler::default(),
            cost,
            step_log: config.step_log.clone(),
            turns: Turns::default(),
            duty: config.duty.clone(),
            speculation: config.speculation && !shape.states,
            logits: Vec::new(),
            vocab_size: limits.vocab_size,
            seeds: config.seed.map_or_else(ChaCha8Rng::from_os_rng, ChaCha8Rng::seed_from_u64),
            arrivals: 0,
            starved: false,
            charged_ns: 0,
            shared,
            clock,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether there is work, but none that may be done now.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved && !self.is_idle()
    }

    /// How long to rest before the next step, in nanoseconds; 0 without work. Rest is no time of any step, nor of its requests.
    pub(crate) fn rest_ns(&self) -> u64 {
        if self.is_idle() { 0 } else { self.duty.rest_ns(self.clock.now_ns()) }
    }

    /// Takes a checked request.
    pub(crate) fn submit(&mut self, request: Request, received_ns: u64) {
        let arrival = self.arrivals;
        self.arrivals += 1;
        let mut output = Output::new(request, arrival, received_ns, self.seeds.next_u64());
        let kv = self.scheduler.kv();
        let (needed_blocks, pool_blocks) = (kv.blocks_for(output.most_positions()), kv.total());
        if needed_blocks > pool_blocks {
            self.ended.push((output, Some(RequestFailure::TooLarge { needed_blocks, pool_blocks })));
            return;
        }
        if self.requests.is_empty() {
            // Nobody held a block while the engine slept.
            self.charged_ns = self.clock.now_ns();
            self.turns.clear();
        }
        output.turn = self.turns.take(output.client, count(output.prompt.len()));
        let rank = output.rank(arrival, 0);
        let cache_limit = if output.prompt_logprobs.is_some() { 0 } else { usize::MAX };
        let slots = output.candidates() as usize;
        let sequence = Sequence::new(output.prompt.clone(), slots, cache_limit);
        let sequence = sequence.with_adapter(output.adapter.clone()).salted(output.cache_salt);
        self.scheduler.add(rank, sequence);
        self.requests.insert(arrival, output);
    }

    /// One step: schedule, run, sample, emit.
    pub(crate) fn step(&mut self) {
        // Before the clock is read: waiting for other models is no work of this one.
        let _reserved = self.runner.reserve();
        let start = self.clock.now_ns();
        self.drop_cancelled();
        self.hold_back(start);
        let drafted_ns = self.guess();
        let plan = self.scheduler.schedule(&self.cost, drafted_ns);
        self.starved = plan.work.is_empty();
        self.publish();
        self.note_plan(&plan, start);
        let rows = self.rows(&plan);
        if !rows.is_empty() {
            self.shared.work.begin(start);
        }
        let ran = self.run(&plan, &rows);
        let step_ns = self.clock.now_ns().saturating_sub(start);
        let (parts, class) = self.measure(&rows, start, step_ns);
        match ran {
            Ok(()) => {
                self.emit(&rows);
                self.learn(&rows, class, self.clock.now_ns().saturating_sub(start + drafted_ns));
            }
            Err(failure) => self.fail_batch(&plan, failure),
        }
        self.drop_broken();
        let step_ns = self.clock.now_ns().saturating_sub(start);
        if let Some(draft) = &mut self.draft {
            draft.settle(step_ns, drafted_ns);
        }
        self.share(parts, start, step_ns);
        self.duty.charge(start, step_ns);
        stats::add(&self.shared.stats.busy_ns, step_ns);
        stats::add(&self.shared.stats.draft_ns, drafted_ns);
    }

    /// Ends requests whose cancel token is set, in whatever phase they are.
    pub(crate) fn drop_cancelled(&mut self) {
        let cancelled: Vec<u64> =
            self.requests.iter().filter(|(_, output)| output.is_cancelled()).map(|(arrival, _)| *arrival).collect();
        for arrival in cancelled {
            if let Some(output) = self.requests.get_mut(&arrival) {
                output.finish_all(FinishReason::Cancelled);
            }
            self.end(arrival, None);
        }
    }

    /// Lets candidates without allowance sit out, and ends those that wait in vain. A prompt is one sequence for all
    /// candidates, whose first tokens come together: it sits out before it begins, and ends none here.
    fn hold_back(&mut self, now: u64) {
        let mut prompts: Vec<(Rank, bool)> = Vec::new();
        let mut decoding: BTreeMap<u64, Vec<Rank>> = BTreeMap::new();
        for (rank, sequence) in self.scheduler.sequences() {
            if sequence.tokens.len() > sequence.prompt_len {
                decoding.entry(rank.arrival).or_default().push(*rank);
            } else if let Some(output) = self.requests.get_mut(&rank.arrival) {
                prompts.push((*rank, output.waits_to_begin(now, ALLOWANCE_PATIENCE_NS)));
            }
        }
        for (rank, waits) in prompts {
            self.scheduler.pause(rank, waits);
        }
        for (arrival, ranks) in decoding {
            let Some(output) = self.requests.get_mut(&arrival) else { continue };
            let candidates: Vec<u32> = ranks.iter().map(|rank| rank.candidate).collect();
            let (starved, in_vain) = output.starved(&candidates, now, ALLOWANCE_PATIENCE_NS);
            for rank in ranks {
                let without = starved.contains(&rank.candidate);
                self.scheduler.pause(rank, without);
                if without && in_vain {
                    output.finish(rank.candidate, FinishReason::Allowance, 0);
                    self.scheduler.remove(rank);
                }
            }
            if output.is_finished() {
                self.end(arrival, None);
            }
        }
    }

    /// Notes who starts, who found cached positions, and who was preempted.
    fn note_plan(&mut self, plan: &Plan, start: u64) {
        for rank in &plan.preempted {
            stats::add(&self.shared.stats.preemptions, 1);
            if let Some(output) = self.requests.get_mut(&rank.arrival) {
                output.count_preemption(start);
            }
        }
        for (rank, positions) in &plan.cached {
            if let Some(output) = self.requests.get_mut(&rank.arrival) {
                let tokens = output.count_input(*positions, true);
                self.turns.refund(output.client, tokens);
                stats::add(&self.shared.stats.prefix_hits_tokens, tokens);
            }
        }
        for work in &plan.work {
            if let Some(output) = self.requests.get_mut(&work.rank.arrival)
                && output.start(start)
                && output.prompt_logprobs.is_none()
                && self.scheduler_config.prefix_cache
            {
                stats::add(&self.shared.stats.prefix_queries_tokens, count(output.prompt.len()));
            }
        }
    }

    /// Copies blocks and runs the batch; the logits are in `self.logits` then, row after row.
    fn run(&mut self, plan: &Plan, rows: &[Rows]) -> Result<(), Fault> {
        let wanted = rows.iter().map(|rows| rows.scored + rows.samples).sum::<usize>();
        self.logits.resize(wanted * self.vocab_size, 0.0);
        let (runner, scheduler, logits) = (&mut self.runner, &self.scheduler, &mut self.logits);
        let result = catch_unwind(AssertUnwindSafe(|| {
            for copy in &plan.copies {
                runner.copy_block(copy.from, copy.to, copy.tokens);
            }
            if plan.work.is_empty() { Ok(()) } else { forward(runner.as_mut(), scheduler, rows, logits) }
        }));
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault { message: format!("the forward pass failed: {error}"), trusted: true }),
            Err(panic) => {
                let message = format!("the forward pass panicked: {}", panic_message(panic.as_ref()));
                Err(Fault { message, trusted: false })
            }
        }
    }

    /// Which rows of logits each piece of work asks for.
    fn rows(&self, plan: &Plan) -> Vec<Rows> {
        let rows = |work: &Work| {
            let output = self.requests.get(&work.rank.arrival)?;
            let sequence = self.scheduler.running().get(&work.rank)?;
            let end = work.start + work.columns - work.guessed;
            let scored_from = work.start.max(output.scored);
            let scored_to = end.min(output.prompt.len() - 1);
            let scored = if output.prompt_logprobs.is_some() { scored_to.saturating_sub(scored_from) } else { 0 };
            let samples = end == sequence.tokens.len() && !output.only_scores();
            let samples = if samples { 1 + work.guessed } else { 0 };
            Some(Rows { work: *work, scored_from, scored, samples })
        };
        plan.work.iter().filter_map(rows).collect()
    }

    /// Samples from the rows and pushes what came of it.
    fn emit(&mut self, rows: &[Rows]) {
        let logits = std::mem::take(&mut self.logits);
        let mut next = logits.chunks_exact(self.vocab_size);
        for rows in rows {
            let work = rows.work;
            let columns = work.columns - work.guessed;
            self.scheduler.advance(work.rank, columns);
            if let Some(output) = self.requests.get_mut(&work.rank.arrival) {
                output.count_input(work.start + columns, false);
            }
            let scored: Vec<&[f32]> = next.by_ref().take(rows.scored).collect();
            let sampled: Vec<&[f32]> = next.by_ref().take(rows.samples).collect();
            if !scored.is_empty() {
                self.score_prompt(rows, &scored);
            }
            match sampled.split_first() {
                Some((row, guessed)) => {
                    let made = self.make_tokens(work.rank, row);
                    self.check_guesses(work.rank, made, guessed);
                }
                None => self.end_scored(work.rank),
            }
        }
        self.logits = logits;
    }

    /// Reports log-probabilities of prompt tokens: the row of a position tells of the token after it.
    fn score_prompt(&mut self, rows: &Rows, scored: &[&[f32]]) {
        let rank = rows.work.rank;
        let Some(output) = self.requests.get_mut(&rank.arrival) else { return };
        let top = output.prompt_logprobs.unwrap_or(0);
        let targets = &output.prompt[rows.scored_from + 1..];
        let logprobs: Result<Vec<_>, _> =
            scored.iter().zip(targets).map(|(row, id)| self.sampler.logprobs(row, *id, top)).collect();
        match logprobs {
            Ok(logprobs) => {
                output.push_prompt(rows.scored_from + 1, logprobs);
                let all = output.scored + 1 >= output.prompt.len();
                self.scheduler.allow_cached(rank, if all { usize::MAX } else { output.scored });
            }
            Err(error) => self.end(rank.arrival, Some(RequestFailure::Internal(error.to_string()))),
        }
    }

    /// Makes the next token of a sequence, or the first ones of all candidates when its prompt has just been done. Gives
    /// the one that the sequence goes on with, if it does.
    fn make_tokens(&mut self, rank: Rank, row: &[f32]) -> Option<TokenId> {
        let sequence = self.scheduler.running().get(&rank)?;
        let output = self.requests.get_mut(&rank.arrival)?;
        let mut next = None;
        let first = sequence.tokens.len() == sequence.prompt_len;
        if first {
            output.push_prefilled();
        }
        let others = if first { output.candidates() } else { rank.candidate + 1 };
        // The sequence itself comes last: the others share its blocks while it still holds them.
        for candidate in (rank.candidate..others).rev() {
            let now = || self.clock.now_ns();
            match output.make_token(candidate, row, &mut self.sampler, now) {
                Made::Goes(id) if candidate == rank.candidate => {
                    self.scheduler.settle(rank);
                    self.scheduler.append(rank, id);
                    next = Some(id);
                }
                Made::Goes(id) => self.scheduler.fork(rank, candidate, id),
                Made::Ended if candidate == rank.candidate => self.scheduler.remove(rank),
                Made::Ended => {}
                Made::Failed(failure) => {
                    self.end(rank.arrival, Some(failure));
                    return None;
                }
            }
        }
        if output.is_finished() {
            self.end(rank.arrival, None);
        }
        next
    }

    /// Ends a request that only wanted its prompt scored, once it is.
    fn end_scored(&mut self, rank: Rank) {
        let Some(sequence) = self.scheduler.running().get(&rank) else { return };
        let Some(output) = self.requests.get_mut(&rank.arrival) else { return };
        if output.only_scores() && sequence.remaining() == 0 {
            output.finish_all(FinishReason::Length);
            self.end(rank.arrival, None);
        }
    }

    /// Takes a request out of the engine and frees its blocks; its last event follows at the end of the step.
    fn end(&mut self, arrival: u64, failure: Option<RequestFailure>) {
        let Some(output) = self.requests.remove(&arrival) else { return };
        for candidate in 0..output.candidates() {
            self.scheduler.remove(output.rank(arrival, candidate));
        }
        self.ended.push((output, failure));
    }

    /// Fails the requests of a batch that did not run, or everything that runs if the KV cannot be trusted any more.
    fn fail_batch(&mut self, plan: &Plan, fault: Fault) {
        tracing::error!("{}", fault.message);
        let arrivals: BTreeSet<u64> = if fault.trusted {
            plan.work.iter().map(|work| work.rank.arrival).collect()
        } else {
            self.scheduler.running().keys().map(|rank| rank.arrival).collect()
        };
        for arrival in arrivals {
            self.end(arrival, Some(RequestFailure::Internal(fault.message.clone())));
        }
        if !fault.trusted {
            self.scheduler.clear_cache();
        }
    }

    /// Ends requests whose sink panicked.
    fn drop_broken(&mut self) {
        let broken: Vec<u64> =
            self.requests.iter().filter(|(_, output)| output.is_broken()).map(|(arrival, _)| *arrival).collect();
        for arrival in broken {
            if let Some(output) = self.requests.get(&arrival) {
                tracing::error!("the event sink of request {} panicked", output.id());
            }
            self.end(arrival, Some(RequestFailure::Internal("the event sink panicked".to_owned())));
        }
    }

    /// Fails every request.
    pub(crate) fn fail_all(&mut self, failure: &RequestFailure) {
        let arrivals: Vec<u64> = self.requests.keys().copied().collect();
        for arrival in arrivals {
            self.end(arrival, Some(failure.clone()));
        }
    }

    /// Fails every request and forgets all state but the runner and the counters.
    pub(crate) fn reset(&mut self, failure: &RequestFailure) {
        self.scheduler = Scheduler::new(self.scheduler_config);
        self.sampler = Sampler::default();
        self.fail_all(failure);
    }

    /// Shows the others how many run and wait and how many blocks are taken.
    fn publish(&self) {
        let Shared { stats, inbox, .. } = &self.shared;
        let kv = self.scheduler.kv();
        stats.running.store(self.scheduler.running().len(), Ordering::Release);
        stats.kv_blocks_used.store(kv.used(), Ordering::Release);
        stats.kv_blocks_cached.store(kv.cached(), Ordering::Release);
        let requests: BTreeSet<u64> = self.scheduler.waiting().map(|rank| rank.arrival).collect();
        inbox.hold(requests.len());
    }

    /// Gives up what the draft model holds of streams that it cannot guess for any more, publishes the gauges, then
    /// pushes the last events of the requests that ended: who has read such an event sees its blocks free.
    pub(crate) fn settle(&mut self) {
        if let Some(draft) = &mut self.draft {
            let running = self.scheduler.running();
            draft.retain(|rank| running.get(rank).map(|sequence| sequence.tokens.len()));
        }
        self.publish();
        self.shared.work.rest();
        let now = self.clock.now_ns();
        for (output, failure) in self.ended.drain(..) {
            output.end(failure, now);
        }
    }
}

/// What a step computed.
fn load(rows: &[Rows]) -> Load {
    let add = |load: Load, rows: &Rows| load.with(rows.work.start, rows.work.columns, rows.scored + rows.samples);
    rows.iter().fold(Load::default(), add)
}

/// A batch that did not run.
struct Fault {
    message: String,
    /// Whether the KV outside the batch is as it was.
    trusted: bool,
}

/// Puts the batch together and runs it.
fn forward(runner: &mut dyn Runner, scheduler: &Scheduler, rows: &[Rows], logits: &mut [f32]) -> Result<(), String> {
    let mut columns = Vec::new();
    let mut tables: Vec<&[BlockId]> = Vec::with_capacity(rows.len());
    let mut adapters: Vec<Option<&Adapter>> = Vec::with_capacity(rows.len());
    let mut logits_of = Vec::new();
    for rows in rows {
        let Work { rank, start, columns: count, guessed } = rows.work;
        let sequence = scheduler.running().get(&rank).ok_or("a scheduled sequence is gone")?;
        let number = narrow(tables.len())?;
        tables.push(&sequence.table);
        adapters.push(sequence.adapter.as_ref().and_then(|adapter| adapter.weights()));
        let known = &sequence.tokens[start..start + count - guessed];
        let tokens = known.iter().copied().chain(sequence.guesses.iter().take(guessed).map(|guess| guess.token));
        for (position, token) in (start..).zip(tokens) {
            if (rows.scored_from..rows.scored_from + rows.scored).contains(&position)
                || position + rows.samples >= start + count
            {
                logits_of.push(narrow(columns.len())?);
            }
            columns.push(Column { token, position: narrow(position)?, sequence: number });
        }
    }
    let batch = Batch { columns: &columns, tables: &tables, logits_of: &logits_of, adapters: &adapters };
    runner.forward(&batch, logits).map_err(|error| error.to_string())
}

fn narrow(value: usize) -> Result<u32, String> {
    u32::try_from(value).map_err(|error| format!("{value}: {error}"))
}

fn count(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
