//! What one request used: plain data, the one source of every figure shown for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every candidate came to its own end.
    #[default]
    Ok,
    /// The client went away or the request was cancelled before every candidate had ended.
    Cancelled,
    /// The plant could not finish it.
    Failed,
}

impl Outcome {
    /// All of them, in the order they are shown.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Cancelled, Self::Failed];

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// How one candidate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end token or a stop string.
    Stop,
    /// `max_tokens` or the context's end.
    Length,
    /// What the customer may spend was used up.
    Budget,
    /// Cancelled under way.
    Cancelled,
    /// The request failed under way.
    Failed,
}

impl FinishReason {
    /// All of them, in the order they are shown.
    pub const ALL: [Self; 5] = [Self::Stop, Self::Length, Self::Budget, Self::Cancelled, Self::Failed];

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Budget => "budget",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// The label value under vLLM's metric names.
    #[must_use]
    pub fn as_vllm_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length | Self::Budget => "length",
            Self::Cancelled => "abort",
            Self::Failed => "error",
        }
    }
}

/// Quantities of one request. The token meters are disjoint: no token is in two of them. What an API shows
/// (`prompt_tokens`, `completion_tokens`) is derived, never stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// The id shown to the client.
    pub request_id: String,
    /// The model's name; of an adapter its full one, `BASE:ADAPTER`.
    pub model: String,
    /// The model that an adapter changes; `None`: the model is no adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The route, e.g. `/v1/chat/completions`.
    pub route: String,
    /// Name of the API key; `None` without keys.
    pub key: Option<String>,
    /// The request's `user` field.
    pub user: Option<String>,
    /// How the request ended.
    pub outcome: Outcome,
    /// How each candidate ended, in order.
    pub finish_reasons: Vec<FinishReason>,
    /// Prompt tokens computed, once for all candidates.
    pub input_uncached_tokens: u64,
    /// Prompt tokens whose KV came from the prefix cache.
    pub input_cached_tokens: u64,
    /// Answer tokens made and billed outside reasoning (the end token included), all candidates together.
    pub output_tokens: u64,
    /// Tokens made between the model's reasoning markers and billed; `None` when the model declares none.
    pub reasoning_tokens: Option<u64>,
    /// Tokens made but cut off by a stop string: never billed.
    pub output_dropped_tokens: u64,
    /// Columns of prefill computed (recomputation after preemption included).
    pub prefill_columns: u64,
    /// Columns of decode computed, those of guessed tokens included.
    pub decode_columns: u64,
    /// Guessed tokens that were made (a part of the output).
    pub draft_accepted_tokens: u64,
    /// Guessed tokens that were not made: columns computed in vain, never billed.
    pub draft_rejected_tokens: u64,
    /// From reception to the first step that worked on the request.
    pub queue_ns: u64,
    /// Steps that computed the prompt, until the first token.
    pub prefill_ns: u64,
    /// From the first token to the end.
    pub decode_ns: u64,
    /// From reception to the first token; `None` when no token was made.
    pub ttft_ns: Option<u64>,
    /// From reception to the end.
    pub e2e_ns: u64,
    /// Number of gaps between successive tokens of one candidate.
    pub gap_count: u64,
    /// Sum of the gaps.
    pub gap_sum_ns: u64,
    /// The longest gap.
    pub gap_max_ns: u64,
    /// How many gaps are how long, in nanoseconds rounded up to two significant digits; for the roll-up only.
    #[serde(skip)]
    pub gap_lengths: BTreeMap<u64, u64>,
    /// Sum over time of the KV blocks held.
    pub kv_block_ns: u64,
    /// How often the request was preempted.
    pub preemptions: u32,
}

impl UsageRecord {
    /// All prompt tokens (OpenAI's `prompt_tokens`; the cached ones are a part of it).
    #[must_use]
    pub fn prompt_tokens(&self) -> u64 {
        self.input_uncached_tokens.saturating_add(self.input_cached_tokens)
    }

    /// All billed answer tokens (OpenAI's `completion_tokens`; reasoning is a part of it).
    #[must_use]
    pub fn completion_tokens(&self) -> u64 {
        self.output_tokens.saturating_add(self.reasoning_tokens.unwrap_or(0))
    }

    /// Prompt and answer together.
    #[must_use]
    pub fn total_tokens(&self) -> u64 {
        self.prompt_tokens().saturating_add(self.completion_tokens())
    }

    /// The finish reasons, joined by commas.
    fn finish_reasons_text(&self) -> String {
        let words: Vec<_> = self.finish_reasons.iter().map(|reason| reason.as_str()).collect();
        words.join(",")
    }

    /// Writes the record as one structured log event (target `usage`).
    pub(crate) fn log(&self) {
        tracing::info!(
            target: "usage",
            request_id = self.request_id,
            model = self.model,
            base = self.base,
            route = self.route,
            key = self.key,
            user = self.user,
            outcome = self.outcome.as_str(),
            finish_reasons = self.finish_reasons_text(),
            input_uncached_tokens = self.input_uncached_tokens,
            input_cached_tokens = self.input_cached_tokens,
            output_tokens = self.output_tokens,
            reasoning_tokens = self.reasoning_tokens,
            output_dropped_tokens = self.output_dropped_tokens,
            prefill_columns = self.prefill_columns,
            decode_columns = self.decode_columns,
            draft_accepted_tokens = self.draft_accepted_tokens,
            draft_rejected_tokens = self.draft_rejected_tokens,
            queue_ns = self.queue_ns,
            prefill_ns = self.prefill_ns,
            decode_ns = self.decode_ns,
            ttft_ns = self.ttft_ns,
            e2e_ns = self.e2e_ns,
            gap_count = self.gap_count,
            gap_sum_ns = self.gap_sum_ns,
            gap_max_ns = self.gap_max_ns,
            kv_block_ns = self.kv_block_ns,
            preemptions = self.preemptions,
            "request finished"
        );
    }
}
