//! A runner without a model: deterministic logits from what its KV blocks really hold.

use std::time::{Duration, Instant};

use model::{BLOCK_TOKENS, Batch, BlockId, Column};

use crate::runner::{Runner, RunnerError, RunnerShape};

/// What a [`SimulatedRunner`] pretends to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedConfig {
    /// Vocabulary size.
    pub vocab_size: usize,
    /// Most positions of one sequence.
    pub context_len: usize,
    /// KV blocks.
    pub kv_blocks: usize,
    /// Time each step takes, at least.
    pub step_cost: Duration,
    /// Time each column adds.
    pub column_cost: Duration,
    /// Burn the time instead of sleeping through it.
    pub spin: bool,
    /// Changes all logits.
    pub seed: u64,
    /// What it makes mostly repeats itself after so many tokens; 0 = never.
    pub pattern: usize,
    /// Each block is the state of a whole sequence. What is made is the same.
    pub states: bool,
}

impl Default for SimulatedConfig {
    fn default() -> Self {
        Self {
            vocab_size: 256,
            context_len: 2048,
            kv_blocks: 512,
            step_cost: Duration::ZERO,
            column_cost: Duration::ZERO,
            spin: false,
            seed: 0,
            pattern: 0,
            states: false,
        }
    }
}

/// Stands in a slot that was never written.
const EMPTY: u64 = u64::MAX;

/// What a state holds.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The position that comes next.
    position: u32,
    /// What the slot of the last position would hold.
    slot: u64,
    /// The hash of all slots so far.
    history: u64,
}

/// A runner whose KV slots hold hashes of a token and of all that came before it. The logits at a position are a hash
/// of all slots that its sequence's block table leads to, so a wrong table, a missing copy or a stale prefix changes
/// the answer. A block written by one sequence of a batch while another holds it is an error, and so is a state that goes on
/// from another position than it stands at.
#[derive(Debug)]
pub struct SimulatedRunner {
    config: SimulatedConfig,
    slots: Vec<[u64; BLOCK_TOKENS]>,
    states: Vec<State>,
}

impl SimulatedRunner {
    /// A runner with empty blocks.
    #[must_use]
    pub fn new(config: SimulatedConfig) -> Self {
        let (blocks, states) = if config.states { (0, config.kv_blocks) } else { (config.kv_blocks, 0) };
        Self { slots: vec![[EMPTY; BLOCK_TOKENS]; blocks], states: vec![State::default(); states], config }
    }

    fn store(&mut self, batch: &Batch<'_>) -> Result<(), RunnerError> {
        for column in batch.columns {
            let (position, sequence) = (column.position as usize, column.sequence as usize);
            let block = self.block(batch, column, position / BLOCK_TOKENS)?;
            let before = match position.checked_sub(1) {
                None => mix(self.config.seed),
                Some(last) => self.slot(batch.tables[sequence], last)?,
            };
            let slots = self.slots.get_mut(block as usize).ok_or_else(|| RunnerError(format!("no block {block}")))?;
            slots[position % BLOCK_TOKENS] = mix(before ^ u64::from(column.token)) >> 1;
        }
        Ok(())
    }

    /// The block of a column, which is the `index`th of its sequence and no other's.
    fn block(&self, batch: &Batch<'_>, column: &Column, index: usize) -> Result<BlockId, RunnerError> {
        let (position, sequence) = (column.position as usize, column.sequence as usize);
        if column.token as usize >= self.config.vocab_size || position >= self.config.context_len {
            return Err(RunnerError(format!("column out of range: {column:?}")));
        }
        let block = batch.tables.get(sequence).and_then(|table| table.get(index)).copied();
        let block = block.ok_or_else(|| RunnerError(format!("no block for {column:?}")))?;
        let held_twice =
            batch.tables.iter().enumerate().any(|(other, table)| other != sequence && table.contains(&block));
        if held_twice { Err(RunnerError(format!("block {block} is written while shared"))) } else { Ok(block) }
    }

    /// Runs the columns through the states; gives the histories after each.
    fn pass(&mut self, batch: &Batch<'_>) -> Result<Vec<u64>, RunnerError> {
        let mut histories = Vec::with_capacity(batch.columns.len());
        for column in batch.columns {
            let block = self.block(batch, column, 0)?;
            let seed = self.config.seed;
            let state = self.states.get_mut(block as usize).ok_or_else(|| RunnerError(format!("no block {block}")))?;
            if column.position == 0 {
                *state = State { position: 0, slot: mix(seed), history: 0 };
            } else if state.position != column.position {
                return Err(RunnerError(format!("{column:?} after a state that stands at {}", state.position)));
            }
            let slot = mix(state.slot ^ u64::from(column.token)) >> 1;
            *state = State { position: column.position + 1, slot, history: mix(state.history ^ slot) };
            histories.push(state.history);
        }
        Ok(histories)
    }

    fn slot(&self, table: &[BlockId], position: usize) -> Result<u64, RunnerError> {
        let block = table.get(position / BLOCK_TOKENS).and_then(|block| self.slots.get(*block as usize));
        match block.map(|slots| slots[position % BLOCK_TOKENS]) {
            None | Some(EMPTY) => Err(RunnerError(format!("position {position} was never computed"))),
            Some(state) => Ok(state),
        }
    }

    fn history(&self, table: &[BlockId], position: usize) -> Result<u64, RunnerError> {
        (0..=position).try_fold(0, |state, at| Ok(mix(state ^ self.slot(table, at)?)))
    }

    fn spend(&self, columns: usize) {
        let count = u32::try_from(columns).unwrap_or(u32::MAX);
        let cost = self.config.step_cost + self.config.column_cost.saturating_mul(count);
        if cost.is_zero() {
            return;
        }
        if !self.config.spin {
            std::thread::sleep(cost);
            return;
        }
        let start = Instant::now();
        while start.elapsed() < cost {
            std::hint::spin_loop();
        }
    }
}

impl Runner for SimulatedRunner {
    fn shape(&self) -> RunnerShape {
        let SimulatedConfig { vocab_size, context_len, kv_blocks, states, .. } = self.config;
        RunnerShape { vocab_size, context_len, kv_blocks, states }
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut [f32]) -> Result<(), RunnerError> {
        self.spend(batch.columns.len());
        let histories = if self.config.states { self.pass(batch)? } else { Vec::new() };
        if !self.config.states {
            self.store(batch)?;
        }
        for (row, index) in logits.chunks_exact_mut(self.config.vocab_size).zip(batch.logits_of) {
            let column = &batch.columns[*index as usize];
            let state = match histories.get(*index as usize) {
                Some(history) => *history,
                None => self.history(batch.tables[column.sequence as usize], column.position as usize)?,
            };
            for (id, logit) in (0_u64..).zip(&mut *row) {
                *logit = unit(mix(state ^ (id << 32))) * 12.0 - 6.0;
            }
            // Fifteen times out of sixteen: what comes between depends on all that came before.
            if self.config.pattern > 0 && !mix(state).is_multiple_of(16) {
                let next = (u64::from(column.position) + 1) % self.config.pattern as u64;
                let favourite = mix(self.config.seed ^ next) % self.config.vocab_size as u64;
                row[usize::try_from(favourite).unwrap_or(0)] += 12.0;
            }
        }
        Ok(())
    }

    fn copy_block(&mut self, from: BlockId, to: BlockId, tokens: usize) {
        if self.config.states {
            self.states[to as usize] = self.states[from as usize];
            return;
        }
        let source = self.slots[from as usize];
        self.slots[to as usize][..tokens].copy_from_slice(&source[..tokens]);
        self.slots[to as usize][tokens..].fill(EMPTY);
    }
}

/// One round of the SplitMix64 output function.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in 0..1 from the upper 24 bits, exact in `f32`.
fn unit(bits: u64) -> f32 {
    let upper = u16::try_from(bits >> 48).unwrap_or(0);
    let lower = u8::try_from((bits >> 40) & 0xff).unwrap_or(0);
    (f32::from(upper) * 256.0 + f32::from(lower)) / 16_777_216.0
}
