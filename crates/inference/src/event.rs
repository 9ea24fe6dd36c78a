//! What comes out of the engine.

use crate::{TokenId, Usage};

/// A token and its natural log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: TokenId,
    /// Natural log of its probability over the whole vocabulary (raw logits).
    pub logprob: f32,
}

/// The log-probability of a token at its position, and the best ones there.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprobs {
    /// The token that stands at the position.
    pub chosen: TokenLogprob,
    /// The n best, best first (n as asked for; may be empty).
    pub top: Vec<TokenLogprob>,
}

/// A token's chances to be the next one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenChance {
    /// The token.
    pub id: TokenId,
    /// The model's raw logit.
    pub logit: f32,
    /// Its probability by the raw logits, over the whole vocabulary at temperature 1.
    pub raw: f64,
    /// The probability with which it is drawn, once all of [`SamplingParams`](crate::SamplingParams) is applied.
    pub drawn: f64,
}

/// What a token is drawn from. Each of the two distributions adds up to 1 over `best` and the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// The token that was drawn.
    pub chosen: TokenId,
    /// The n best by raw logits, best first (n as asked for).
    pub best: Vec<TokenChance>,
    /// Raw probability of all other tokens together.
    pub rest_raw: f64,
    /// Probability with which some other token is drawn.
    pub rest_drawn: f64,
    /// How many tokens can be drawn at all.
    pub possible: u32,
}

/// Why a candidate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// A stop id was made, or a [`Control`](crate::Control) stopped the candidate (stop string).
    Stop,
    /// `max_tokens` or the end of the context was reached.
    Length,
    /// The [`Allowance`](crate::Allowance) was used up.
    Allowance,
    /// The request was cancelled.
    Cancelled,
}

/// Why a whole request failed after it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFailure {
    /// The KV pool can never hold this request.
    TooLarge {
        /// KV blocks needed at least.
        needed_blocks: usize,
        /// KV blocks in the pool.
        pool_blocks: usize,
    },
    /// The engine stopped before the request was done.
    Shutdown,
    /// The forward pass failed; the message says how.
    Internal(String),
}

/// One event of a request. The last one is always `Done` or `Failed`, exactly once.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Log-probabilities of prompt tokens `start ..`, in order; position 0 has none, so the first `start` is 1.
    Prompt {
        /// Position of the first entry.
        start: u32,
        /// One entry for each position.
        logprobs: Vec<TokenLogprobs>,
    },
    /// The prompt is done, the first tokens follow; not sent when only the prompt is scored.
    Prefilled {
        /// Prompt tokens whose KV came from the prefix cache; the others were computed.
        cached: u64,
    },
    /// A candidate made a token.
    Token {
        /// Which candidate, from 0.
        candidate: u32,
        /// The token made.
        id: TokenId,
        /// Present when the request asked for log-probabilities.
        logprobs: Option<TokenLogprobs>,
    },
    /// What the token just reported was drawn from, when that was asked for.
    Distribution {
        /// Which candidate, from 0.
        candidate: u32,
        /// The chances of the best tokens and of the rest.
        distribution: Box<Distribution>,
    },
    /// A candidate ended.
    Finished {
        /// Which candidate.
        candidate: u32,
        /// Why.
        reason: FinishReason,
        /// How many of its last tokens a stop string cut off whole: made, but neither delivered nor billed.
        dropped: u32,
    },
    /// All candidates ended; what the request used.
    Done(Box<Usage>),
    /// The request failed; what it had used until then.
    Failed(RequestFailure, Box<Usage>),
}

/// Takes a request's events. `push` must return at once: it is called on the engine's thread.
pub trait EventSink: Send {
    /// Takes one event.
    fn push(&mut self, event: Event);
}

impl<F: FnMut(Event) + Send> EventSink for F {
    fn push(&mut self, event: Event) {
        self(event);
    }
}
