//! Settings of an engine, and the checks of a request against them.

use std::time::Duration;

use inference::{EngineLimits, Request, SamplingParams, SubmitError};
use model::Adapter;

use crate::calibration::{Calibration, StepLog};
use crate::duty::DutyLimit;
use crate::runner::RunnerShape;

/// Settings of a [`LocalEngine`](crate::LocalEngine).
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Most requests that may wait (accepted but not running); more are refused at once.
    pub max_waiting: usize,
    /// Most sequences (candidates) in one batch.
    pub max_running: usize,
    /// Most prompt columns in one step.
    pub prefill_chunk: usize,
    /// How long streams should wait for their next token at most: prompt columns of others fill a step up to this. The rest
    /// that a duty limit asks for after a step comes on top.
    pub itl_goal: Duration,
    /// KV blocks to use; 0 = all the runner has.
    pub kv_blocks: usize,
    /// Most candidates of one request; never more than `max_running`.
    pub max_candidates: u32,
    /// Whether KV blocks are kept and shared between requests with a common prefix.
    pub prefix_cache: bool,
    /// Whether tokens are guessed ahead where that pays; what is made is the same either way.
    pub speculation: bool,
    /// Seed of the random numbers of requests that bring none; `None` = from the operating system.
    pub seed: Option<u64>,
    /// For how much of the time it may compute, together with all engines that hold the same limit.
    pub duty: DutyLimit,
    /// What was measured of its steps another time; else it starts from a guess. It goes on measuring either way.
    pub calibration: Option<Calibration>,
    /// Where every step is written that did work.
    pub step_log: Option<StepLog>,
    /// Name of the engine's thread.
    pub thread_name: String,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_waiting: 256,
            max_running: 64,
            prefill_chunk: 256,
            itl_goal: Duration::from_millis(60),
            kv_blocks: 0,
            max_candidates: 16,
            prefix_cache: true,
            speculation: true,
            seed: None,
            duty: DutyLimit::default(),
            calibration: None,
            step_log: None,
            thread_name: "engine".to_owned(),
        }
    }
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is out of range; the message names it and the fix.
    #[error("{0}")]
    Setting(String),
    /// The thread could not be made.
    #[error("the engine's thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl EngineConfig {
    /// Checks the settings against the runner and gives the engine's limits.
    pub(crate) fn limits(&self, shape: RunnerShape) -> Result<EngineLimits, StartError> {
        let at_least_one = [
            ("max_waiting", self.max_waiting),
            ("max_running", self.max_running),
            ("prefill_chunk", self.prefill_chunk),
            ("max_candidates", self.max_candidates as usize),
            ("the runner's kv_blocks", shape.kv_blocks),
            ("the runner's vocab_size", shape.vocab_size),
            ("the runner's context_len", shape.context_len),
        ];
        if let Some((name, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(StartError::Setting(format!("{name} must be at least 1")));
        }
        if self.kv_blocks > shape.kv_blocks {
            return Err(StartError::Setting(format!(
                "kv_blocks is {} but the runner has {}; lower it or use 0 for all",
                self.kv_blocks, shape.kv_blocks
            )));
        }
        let kv_blocks = if self.kv_blocks == 0 { shape.kv_blocks } else { self.kv_blocks };
        let max_running = u32::try_from(self.places(shape, kv_blocks)).unwrap_or(u32::MAX);
        Ok(EngineLimits {
            context_len: context_within(shape.context_len, kv_blocks, shape.block_tokens()),
            vocab_size: shape.vocab_size,
            block_tokens: shape.block_tokens(),
            kv_blocks,
            max_waiting: self.max_waiting,
            max_candidates: self.max_candidates.min(max_running),
        })
    }

    /// Most sequences in one batch: where each has a state, no more than there are states.
    pub(crate) fn places(&self, shape: RunnerShape, kv_blocks: usize) -> usize {
        if shape.states { self.max_running.min(kv_blocks) } else { self.max_running }
    }
}

/// The longest sequence of a context of `context_len` tokens that so many blocks of `block_tokens` hold.
#[must_use]
pub fn context_within(context_len: usize, kv_blocks: usize, block_tokens: usize) -> usize {
    context_len.min(kv_blocks.saturating_mul(block_tokens))
}

/// Checks that what a draft model guesses can be what the model makes. Its context may be shorter: guesses end there.
pub(crate) fn check_draft(shape: RunnerShape, draft: RunnerShape) -> Result<(), StartError> {
    let setting = |message| Err(StartError::Setting(message));
    if shape.states || draft.states {
        let which = if shape.states { "the model" } else { "the draft model" };
        let message = format!("{which} keeps a state, which cannot take a wrong guess back; remove the draft model");
        return setting(message);
    }
    if draft.vocab_size != shape.vocab_size {
        let (own, model) = (draft.vocab_size, shape.vocab_size);
        return setting(format!("the draft model has {own} tokens and the model {model}; they must have the same"));
    }
    if draft.kv_blocks == 0 || draft.context_len == 0 {
        return setting("the draft model's kv_blocks and context_len must be at least 1".to_owned());
    }
    Ok(())
}

fn invalid<T>(message: String) -> Result<T, SubmitError> {
    Err(SubmitError::Invalid(message))
}

/// Checks a request before it is queued. `context_len` is the model's own: what fits the model but not the KV pool
/// is accepted and fails as too large.
pub(crate) fn check_request(request: &Request, limits: &EngineLimits, context_len: usize) -> Result<(), SubmitError> {
    let prompt = request.prompt.len();
    if prompt == 0 {
        return invalid("prompt is empty; give at least one token".to_owned());
    }
    let total = prompt.saturating_add(request.max_tokens as usize);
    if total > context_len {
        return invalid(format!(
            "prompt ({prompt} tokens) and max_tokens ({}) exceed the context of {context_len} tokens; shorten one",
            request.max_tokens
        ));
    }
    if let Some(id) = request.prompt.iter().find(|id| **id as usize >= limits.vocab_size) {
        return invalid(format!("prompt holds token {id}; ids must be below {}", limits.vocab_size));
    }
    // The runner knows no others, and would pass over them.
    if request.adapter.as_ref().is_some_and(|adapter| adapter.weights::<Adapter>().is_none()) {
        return invalid("the adapter is of no kind that this engine runs; load it for this model".to_owned());
    }
    if request.candidates == 0 || request.candidates > limits.max_candidates {
        return invalid(format!("candidates must be from 1 to {}", limits.max_candidates));
    }
    if !request.controls.is_empty() && request.controls.len() != request.candidates as usize {
        return invalid("controls must be empty or one for each candidate".to_owned());
    }
    check_sampling(&request.sampling, limits.vocab_size)
}

fn check_sampling(sampling: &SamplingParams, vocab_size: usize) -> Result<(), SubmitError> {
    let ranges = [
        ("temperature", sampling.temperature, 0.0, f32::MAX),
        ("top_p", sampling.top_p, 0.0, 1.0),
        ("min_p", sampling.min_p, 0.0, 1.0),
        ("repetition_penalty", sampling.repetition_penalty, f32::MIN_POSITIVE, f32::MAX),
        ("frequency_penalty", sampling.frequency_penalty, f32::MIN, f32::MAX),
        ("presence_penalty", sampling.presence_penalty, f32::MIN, f32::MAX),
    ];
    for (name, value, low, high) in ranges {
        if !(low..=high).contains(&value) {
            return invalid(format!("{name} is {value}; it must be a number from {low} to {high}"));
        }
    }
    for (id, bias) in &sampling.logit_bias {
        if *id as usize >= vocab_size {
            return invalid(format!("logit_bias names token {id}; ids must be below {vocab_size}"));
        }
        if !bias.is_finite() {
            return invalid(format!("logit_bias of token {id} is {bias}; it must be a finite number"));
        }
    }
    Ok(())
}
