//! A small model that guesses: its KV blocks, how far it has seen each stream, and what its time has brought.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use inference::TokenId;
use model::{Batch, BlockId, Column};

use super::Usual;
use crate::cost::{CostModel, Load};
use crate::kv_cache::{BlockCopy, KvBlocks};
use crate::output::panic_message;
use crate::runner::{Runner, RunnerShape};
use crate::sequence::{Rank, Sequence};

/// So many tokens of a stream may be new to the model when it guesses; more are computed before, bit by bit.
const CLOSE: usize = 16;
/// What the model may take of the engine's time before it has brought anything, and at most in advance.
const FIRST_NS: f64 = 1e9;
const MOST_NS: f64 = 5e9;
/// What it may take of the time of each step, whatever it brings.
const SHARE: f64 = 0.01;

/// A stream as the model has seen it.
struct Stream {
    /// The tokens made, and the blocks of those computed.
    sequence: Sequence,
    /// What was guessed to come after them.
    ahead: Vec<TokenId>,
    /// Positions whose KV stands in the blocks: those of guesses too, from `sequence.computed` on.
    done: usize,
    /// Its blocks were needed by others; it is not guessed for any more.
    barred: bool,
}

impl Stream {
    fn behind(&self) -> usize {
        self.sequence.tokens.len() + self.ahead.len() - self.done
    }

    /// Notes that the tokens of positions before `done` are computed.
    fn advance(&mut self, done: usize, kv: &mut KvBlocks) {
        self.done = done;
        let known = done.min(self.sequence.tokens.len());
        self.sequence.advance(known - self.sequence.computed, kv);
    }
}

/// Runs beside the model on the engine's thread, between its steps, and on the same compute threads.
pub(crate) struct DraftModel {
    runner: Box<dyn Runner>,
    shape: RunnerShape,
    kv: KvBlocks,
    copies: Vec<BlockCopy>,
    streams: BTreeMap<Rank, Stream>,
    logits: Vec<f32>,
    cost: CostModel,
    /// What was computed last.
    load: Load,
    pub(crate) usual: Usual,
    /// Time that it may take still: what the guesses that came have saved (the columns that checked them not taken off) and
    /// a small share of all steps, less what it took. So guesses that do not come cost no more than that share.
    balance_ns: f64,
    /// What a token saves that need not be made in a step of its own.
    worth_ns: f64,
    /// Whether it guessed in this step.
    guessed: bool,
}

impl DraftModel {
    /// `prefix_cache`: blocks are kept for streams that begin alike.
    pub(crate) fn new(runner: Box<dyn Runner>, prefix_cache: bool) -> Self {
        let shape = runner.shape();
        Self {
            runner,
            shape,
            kv: KvBlocks::new(shape.kv_blocks, prefix_cache),
            copies: Vec::new(),
            streams: BTreeMap::new(),
            logits: Vec::new(),
            cost: CostModel::default(),
            load: Load::default(),
            usual: Usual::default(),
            balance_ns: FIRST_NS,
            worth_ns: 0.0,
            guessed: false,
        }
    }

    /// Most tokens it can guess after `tokens`: what does not fit its context has no position.
    pub(crate) fn most(&self, tokens: usize) -> usize {
        (self.shape.context_len + 1).saturating_sub(tokens)
    }

    /// A step took so long, of which it had `drafted_ns`.
    pub(crate) fn settle(&mut self, step_ns: u64, drafted_ns: u64) {
        self.earn(step_ns as f64 * SHARE - drafted_ns as f64);
        if !std::mem::take(&mut self.guessed) {
            self.usual.fade();
        }
    }

    /// A token that need not be made in a step of its own saves so much time now.
    pub(crate) fn set_worth_ns(&mut self, token_ns: f64) {
        self.worth_ns = token_ns;
    }

    /// So many of its guesses came.
    pub(crate) fn earn_tokens(&mut self, tokens: usize) {
        self.earn(tokens as f64 * self.worth_ns);
    }

    fn earn(&mut self, ns: f64) {
        self.balance_ns = (self.balance_ns + ns).min(MOST_NS);
    }

    /// Time it may take now.
    pub(crate) fn balance_ns(&self) -> f64 {
        self.balance_ns
    }

    /// How long a forward pass for one further position of `streams` takes, at the position `context` on average; 0 before
    /// anything was measured.
    pub(crate) fn position_ns(&self, streams: usize, context: usize) -> f64 {
        let load = (0..streams).fold(Load::default(), |load, _| load.with(context, 1, 1));
        if self.cost.is_measured() { self.cost.predict(&load) as f64 } else { 0.0 }
    }

    /// How long [`Self::run_to_end`] takes for these streams; 0 before anything was measured.
    pub(crate) fn pass_ns(&self, ranks: impl Iterator<Item = Rank>) -> f64 {
        let streams = ranks.filter_map(|rank| self.streams.get(&rank));
        let load = streams.fold(Load::default(), |load, stream| load.with(stream.done, stream.behind(), 1));
        if self.cost.is_measured() { self.cost.predict(&load) as f64 } else { 0.0 }
    }

    /// How long it takes to compute what it has not seen of a stream that is so far by now; `None` when there are no
    /// blocks for it, or nothing new to go on from.
    pub(crate) fn behind_ns(&mut self, rank: Rank, sequence: &Sequence) -> Option<f64> {
        let tokens = &sequence.tokens;
        let (start, behind) = match self.follow(rank, tokens) {
            // Guesses that nothing came after are those of a stream that waits.
            Some(stream) if stream.barred || stream.behind() == 0 || !stream.ahead.is_empty() => return None,
            Some(stream) => (stream.done, stream.behind()),
            None => {
                if self.kv.blocks_for(tokens.len()) + self.streams.len() >= self.kv.available() {
                    return None;
                }
                let start = sequence.followed().cached_blocks(&self.kv).len() * model::BLOCK_TOKENS;
                (start, tokens.len() - start)
            }
        };
        let ns = self.cost.predict(&Load::default().with(start, behind, 1)) as f64;
        // What guessing takes anyway is no debt.
        Some(if behind <= CLOSE || !self.cost.is_measured() { 0.0 } else { ns })
    }

    /// The stream as it is known, with the tokens that were made since; guesses among them need not be computed again,
    /// but the last one, whose logits are wanted.
    fn follow(&mut self, rank: Rank, tokens: &[TokenId]) -> Option<&Stream> {
        let stream = self.streams.get_mut(&rank)?;
        let known = stream.sequence.tokens.len();
        if !stream.barred && tokens.len() > known {
            let came = stream.ahead.iter().zip(&tokens[known..]).take_while(|(guess, token)| guess == token).count();
            stream.sequence.tokens.extend_from_slice(&tokens[known..]);
            stream.ahead.clear();
            let done = stream.done.min(known + came).min(tokens.len() - 1);
            stream.advance(done, &mut self.kv);
        }
        Some(stream)
    }

    /// Begins to follow a stream.
    pub(crate) fn begin(&mut self, rank: Rank, sequence: &Sequence) {
        self.streams.entry(rank).or_insert_with(|| Stream {
            sequence: sequence.followed(),
            ahead: Vec::new(),
            done: 0,
            barred: false,
        });
    }

    /// Whether it can guess for a stream at once.
    pub(crate) fn is_close(&self, rank: Rank) -> bool {
        self.streams.get(&rank).is_some_and(|stream| !stream.barred && (1..=CLOSE).contains(&stream.behind()))
    }

    /// Computes what it has not seen of streams, first come first served, within `limit_ns`, but some of the first one in
    /// any case; all but the end, which guessing begins with.
    pub(crate) fn catch_up(&mut self, ranks: &[Rank], limit_ns: u64) -> Result<(), String> {
        let (mut load, mut work) = (Load::default(), Vec::new());
        for rank in ranks {
            let Some(stream) = self.streams.get_mut(rank).filter(|stream| stream.behind() > CLOSE) else { continue };
            stream.sequence.take_cached(&mut self.kv, &mut self.copies);
            stream.done = stream.sequence.computed;
            let (start, most) = (stream.done, stream.behind() - 1);
            let columns = self.cost.columns_within(&load, start, most, limit_ns);
            let with = load.with(start, columns, 0);
            if !work.is_empty() && (!self.cost.is_measured() || self.cost.predict(&with) > limit_ns) {
                break;
            }
            load = with;
            work.push((*rank, columns));
        }
        self.run(&work, false).map(drop)
    }

    /// Computes the tokens and guesses of streams that it has not seen, each a few. Gives those for which there was room;
    /// [`Self::rows`] are the logits of what comes next in them, in order.
    pub(crate) fn run_to_end(&mut self, ranks: &[Rank]) -> Result<Vec<Rank>, String> {
        let behind = |rank: &Rank| self.streams.get(rank).map(|stream| (*rank, stream.behind()));
        let work: Vec<(Rank, usize)> = ranks.iter().filter_map(behind).collect();
        self.guessed = true;
        self.run(&work, true)
    }

    /// Rows of logits, as [`Self::run_to_end`] left them.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.logits.chunks_exact(self.shape.vocab_size)
    }

    /// A token was guessed to come next in a stream.
    pub(crate) fn push(&mut self, rank: Rank, token: TokenId) {
        if let Some(stream) = self.streams.get_mut(&rank) {
            stream.ahead.push(token);
        }
    }

    /// What was computed last took so long, choosing tokens included.
    pub(crate) fn observe(&mut self, ns: u64) {
        let load = std::mem::take(&mut self.load);
        if load.columns > 0 {
            self.cost.observe(&load, ns);
        }
    }

    /// Gives the blocks back of streams that are gone or go on beyond its context; `tokens` says how many a stream has.
    pub(crate) fn retain(&mut self, tokens: impl Fn(&Rank) -> Option<usize>) {
        let (kv, context_len) = (&mut self.kv, self.shape.context_len);
        self.streams.retain(|rank, stream| {
            let kept = tokens(rank).is_some_and(|tokens| tokens <= context_len);
            if !kept {
                stream.sequence.release(kv);
            }
            kept
        });
    }

    /// Runs the next columns of streams, each with how many, or none of one for which there are no blocks: it gives up its
    /// own. Gives those that ran.
    fn run(&mut self, work: &[(Rank, usize)], rows: bool) -> Result<Vec<Rank>, String> {
        let mut ready = Vec::new();
        for (rank, columns) in work.iter().copied().filter(|(_, columns)| *columns > 0) {
            let Some(stream) = self.streams.get_mut(&rank) else { continue };
            let wanted = stream.done + columns - stream.sequence.computed;
            if stream.sequence.extend(wanted, &mut self.kv, &mut self.copies) == wanted {
                ready.push((rank, columns));
            } else {
                stream.sequence.release(&mut self.kv);
                stream.ahead.clear();
                (stream.done, stream.barred) = (0, true);
            }
        }
        if ready.is_empty() {
            return Ok(Vec::new());
        }
        let ran = catch_unwind(AssertUnwindSafe(|| self.forward(&ready, rows)));
        ran.unwrap_or_else(|panic| Err(format!("its forward pass panicked: {}", panic_message(panic.as_ref()))))?;
        for (rank, columns) in &ready {
            if let Some(stream) = self.streams.get_mut(rank) {
                stream.advance(stream.done + columns, &mut self.kv);
            }
        }
        Ok(ready.into_iter().map(|(rank, _)| rank).collect())
    }

    /// Puts the batch together and runs it; with `rows`, the logits of each stream's last column are in `self.logits` then.
    fn forward(&mut self, work: &[(Rank, usize)], rows: bool) -> Result<(), String> {
        for copy in self.copies.drain(..) {
            self.runner.copy_block(copy.from, copy.to, copy.tokens);
        }
        let small = |value: usize| u32::try_from(value).map_err(|error| format!("{value}: {error}"));
        let (mut columns, mut logits_of, mut load) = (Vec::new(), Vec::new(), Load::default());
        let mut tables: Vec<&[BlockId]> = Vec::with_capacity(work.len());
        for (rank, count) in work {
            let Some(Stream { sequence, ahead, done, .. }) = self.streams.get(rank) else { continue };
            let tokens = sequence.tokens.iter().chain(ahead).skip(*done).take(*count);
            for (position, token) in (*done..).zip(tokens) {
                let sequence = small(tables.len())?;
                columns.push(Column { token: *token, position: small(position)?, sequence });
            }
            tables.push(&sequence.table);
            if rows {
                logits_of.push(small(columns.len() - 1)?);
            }
            load = load.with(*done, *count, usize::from(rows));
        }
        self.load = load;
        self.logits.resize(logits_of.len() * self.shape.vocab_size, 0.0);
        let batch = Batch { columns: &columns, tables: &tables, logits_of: &logits_of, adapters: &[] };
        self.runner.forward(&batch, &mut self.logits).map_err(|error| format!("its forward pass failed: {error}"))
    }

    /// Checks everything that must hold between steps; gives how many blocks are held.
    #[cfg(test)]
    pub(crate) fn check(&self) -> usize {
        self.kv.check(self.streams.values().map(|stream| -> &[BlockId] { &stream.sequence.table }));
        for stream in self.streams.values() {
            assert!(stream.sequence.computed <= stream.sequence.tokens.len());
            assert!(
                stream.sequence.computed <= stream.done
                    && stream.sequence.table.len() * model::BLOCK_TOKENS >= stream.done
            );
            assert!(!stream.barred || stream.sequence.table.is_empty());
        }
        self.kv.used()
    }
}
