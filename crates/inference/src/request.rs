//! What is asked of the engine.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::{Allowance, Control, EventSink, TokenId};

/// Identifies one request within one engine's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How the next token is chosen from the logits. Steps apply in the order of the fields.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides positive and multiplies negative logits of every token seen (prompt and output); 1 = off.
    pub repetition_penalty: f32,
    /// Subtracted once for every time the token was made; 0 = off.
    pub frequency_penalty: f32,
    /// Subtracted once if the token was made at all; 0 = off.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// 0 = greedy (the largest logit; ties go to the lowest id).
    pub temperature: f32,
    /// Keep the k largest; 0 = all.
    pub top_k: u32,
    /// Keep the smallest set whose probability reaches this; 1 = all.
    pub top_p: f32,
    /// Keep tokens with at least this share of the best one's probability; 0 = all.
    pub min_p: f32,
    /// Seed of this request's random numbers; candidate `i` draws from its own stream. `None` = seeded by the engine.
    pub seed: Option<u64>,
    /// `Some(n)`: report each made token's log-probability and the n best beside it.
    /// Log-probabilities are natural logs over the whole vocabulary of the model's raw logits.
    pub logprobs: Option<u8>,
    /// `Some(n)`: report the distribution that each token is drawn from, with its n best by raw logits.
    pub distribution: Option<u16>,
    /// So many of the prompt's last tokens count as made: an answer that is gone on with.
    pub made_before: u32,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: None,
            logprobs: None,
            distribution: None,
            made_before: 0,
        }
    }
}

/// Tells the engine to stop a request; effective within one step. Cloning shares the token.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the stop; idempotent.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the stop was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Weights that change what a model makes of a request, loaded beside it. Cloning shares them: they stay in memory as long
/// as a request has them.
#[derive(Clone)]
pub struct Adapter {
    id: u64,
    weights: Arc<dyn Any + Send + Sync>,
}

impl Adapter {
    /// An adapter with a number of its own, which no other gets as long as the process lives, also not when the same
    /// weights are loaded once more. What the weights are, the engine's runner knows.
    #[must_use]
    pub fn new(weights: Arc<dyn Any + Send + Sync>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self { id: LAST.fetch_add(1, Ordering::Relaxed) + 1, weights }
    }

    /// Its number, at least 1.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The weights, if they are of this type.
    #[must_use]
    pub fn weights<T: Any>(&self) -> Option<&T> {
        self.weights.downcast_ref()
    }

    /// How many share the weights, this one included.
    #[must_use]
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.weights)
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Adapter({})", self.id)
    }
}

/// One request: a prompt, how many tokens to make of it, and where the events go.
pub struct Request {
    /// Unique among the requests this engine holds.
    pub id: RequestId,
    /// Prompt token ids; never empty, shorter than the context length (or equal to it when `max_tokens` is 0).
    pub prompt: Vec<TokenId>,
    /// What the model is changed by for this request; `None` = nothing.
    pub adapter: Option<Adapter>,
    /// Most tokens to make for each candidate; 0 only scores the prompt. `prompt.len() + max_tokens` must not
    /// exceed the context length.
    pub max_tokens: u32,
    /// Tokens that may be made of all candidates together, granted bit by bit; `None` = no other bound than `max_tokens`.
    pub allowance: Option<Allowance>,
    /// Candidates made from the same prompt, sharing its KV blocks; at least 1.
    pub candidates: u32,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Tokens that end a candidate (`FinishReason::Stop`); the ending token is made and billed, not delivered as text.
    pub stop_ids: Vec<TokenId>,
    /// Go on past `stop_ids`.
    pub ignore_eos: bool,
    /// `Some(n)`: report log-probabilities of the prompt's tokens, with the n best beside each.
    pub prompt_logprobs: Option<u8>,
    /// Higher runs first and is preempted last.
    pub priority: i32,
    /// Whose request it is: clients of equal priority get equal shares, however many requests they send. `None` = a
    /// client of its own.
    pub client: Option<u64>,
    /// What was computed of a prompt's beginning is shared among requests of the same salt only: whoever sees how much of a
    /// prompt was known could guess the prompts of others. 0 is a salt like any other.
    pub cache_salt: u64,
    /// One hook for each candidate, in order; empty = no hook.
    pub controls: Vec<Box<dyn Control>>,
    /// Where this request's events go.
    pub events: Box<dyn EventSink>,
    /// Stops the request.
    pub cancel: CancelToken,
    /// When the plant received the request (queue time counts from here).
    pub received: Instant,
}

impl Request {
    /// Received now: one greedy candidate, that neither ends early nor reports more than its tokens.
    #[must_use]
    pub fn plain(id: RequestId, prompt: Vec<TokenId>, max_tokens: u32, events: Box<dyn EventSink>) -> Self {
        Self {
            id,
            prompt,
            adapter: None,
            max_tokens,
            allowance: None,
            candidates: 1,
            sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
            stop_ids: Vec::new(),
            ignore_eos: true,
            prompt_logprobs: None,
            priority: 0,
            client: None,
            cache_salt: 0,
            controls: Vec::new(),
            events,
            cancel: CancelToken::new(),
            received: Instant::now(),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("id", &self.id)
            .field("prompt_tokens", &self.prompt.len())
            .field("max_tokens", &self.max_tokens)
            .field("candidates", &self.candidates)
            .finish_non_exhaustive()
    }
}
