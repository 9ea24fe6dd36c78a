//! The engine seen from outside.

use crate::{ClassTime, Request, StepClass, StepTerm, Work};

/// Fixed facts of an engine, for checks before a request is submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Most positions of one sequence.
    pub context_len: usize,
    /// Ids run from 0 to this, exclusive.
    pub vocab_size: usize,
    /// Tokens in a KV block.
    pub block_tokens: usize,
    /// KV blocks in the pool.
    pub kv_blocks: usize,
    /// Most requests that may wait.
    pub max_waiting: usize,
    /// Most candidates of one request.
    pub max_candidates: u32,
}

/// Values that go up and down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Sequences in the running batch.
    pub running: usize,
    /// Requests waiting (accepted, not yet running, or preempted).
    pub waiting: usize,
    /// KV blocks referenced by a sequence.
    pub kv_blocks_used: usize,
    /// KV blocks kept for the prefix cache only; they can be taken at any time.
    pub kv_blocks_cached: usize,
}

/// Plant counters; they only grow. Times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Steps run.
    pub steps: u64,
    /// Time spent inside steps.
    pub busy_ns: u64,
    /// The part of it that a draft model took.
    pub draft_ns: u64,
    /// Prompt columns computed.
    pub prefill_columns: u64,
    /// Decode columns computed, those of guessed tokens included.
    pub decode_columns: u64,
    /// Guessed tokens that were made.
    pub draft_accepted_tokens: u64,
    /// Guessed tokens that were not made: columns computed in vain.
    pub draft_rejected_tokens: u64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_queries_tokens: u64,
    /// Prompt tokens found there.
    pub prefix_hits_tokens: u64,
    /// Preemptions.
    pub preemptions: u64,
    /// Requests accepted.
    pub requests: u64,
    /// Sum over time of KV blocks referenced.
    pub kv_block_ns: u64,
    /// Predicted and measured time of steps by class, in the order of [`StepClass::ALL`].
    pub classes: [ClassTime; StepClass::ALL.len()],
}

/// Why a request was not accepted. Nothing was done for it and its sink got no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitError {
    /// `max_waiting` requests wait already.
    QueueFull {
        /// How many wait.
        waiting: usize,
    },
    /// The engine drains or has stopped.
    Closed,
    /// The request breaks a limit; the message names the field and the fix.
    Invalid(String),
}

/// Token ids in, events out. Real and simulated engines both implement it.
pub trait Engine: Send + Sync {
    /// Accepts a request, or says at once why not.
    ///
    /// # Errors
    /// See [`SubmitError`].
    fn submit(&self, request: Request) -> Result<(), SubmitError>;

    /// Fixed facts.
    fn limits(&self) -> EngineLimits;

    /// A snapshot of the gauges.
    fn gauges(&self) -> Gauges;

    /// A snapshot of the counters.
    fn counters(&self) -> Counters;

    /// What it did since this was last called; from the first call on it keeps account. Call it every few seconds then: what
    /// is kept grows with the requests worked on.
    fn take_work(&self) -> Work;

    /// By which terms it predicts a step's time now; empty: it predicts none.
    fn step_terms(&self) -> Vec<StepTerm> {
        Vec::new()
    }

    /// Refuses new requests from now on; those accepted go on to their end.
    fn close(&self);
}
