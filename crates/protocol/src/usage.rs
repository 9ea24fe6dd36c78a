//! What a request used, as the reply shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Tokens of the whole request, all choices together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens of the prompt (or of all prompts), counted once for all choices.
    pub prompt_tokens: u64,
    /// Tokens made and billed.
    pub completion_tokens: u64,
    /// Their sum.
    pub total_tokens: u64,
    /// Parts of `prompt_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
    /// Parts of `completion_tokens`, and what was guessed ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens_details: Option<CompletionTokensDetails>,
    /// What was charged (an addition to the OpenAI API); absent where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charged: Option<Charged>,
    /// What the plant measured while it made the answer (an addition to the OpenAI API).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

/// What a request was charged, exactly: decimal numbers as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Charged {
    /// Money, after the discount.
    pub amount: String,
    /// Its currency, by ISO 4217.
    pub currency: String,
    /// Tokens taken from the plan's pool, by their weights.
    pub pool_tokens: String,
}

/// What this server says of a choice beside the OpenAI API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChoiceNote {
    /// `budget`: the answer ends here because what may be spent is spent.
    pub stop: String,
}

/// What this server says of an answer beside the OpenAI API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnswerNote {
    /// The experiment that its request named.
    pub experiment: ExperimentNote,
}

/// Where a request belongs in an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExperimentNote {
    /// The experiment's id.
    pub id: String,
    /// The name of the arm.
    pub arm: String,
    /// The chance with which its unit got this arm; absent when it is not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f64>,
    /// Whether the request counts for the experiment.
    pub counted: bool,
    /// Why it does not: `stopped` or `full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Parts of the prompt's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Tokens whose computation was found in the prefix cache.
    pub cached_tokens: u64,
}

/// Parts of the answer's tokens, and tokens that were guessed ahead of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompletionTokensDetails {
    /// Tokens between the model's reasoning markers; absent when it declares none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Guessed tokens that came.
    pub accepted_prediction_tokens: u64,
    /// Guessed tokens that did not come: no part of `completion_tokens`, and never billed.
    pub rejected_prediction_tokens: u64,
}

/// Times and resources, measured where they were spent. With several prompts in one request: sums, and for the
/// `queue`, `ttft`, `e2e` and `_max` values the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Measured {
    /// From arrival to the first step that worked on the request.
    pub queue_seconds: f64,
    /// Steps that computed the prompt.
    pub prefill_seconds: f64,
    /// From the first token to the end.
    pub decode_seconds: f64,
    /// From arrival to the first token; absent when none was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_seconds: Option<f64>,
    /// From arrival to the end.
    pub e2e_seconds: f64,
    /// Gaps between successive tokens of one choice.
    pub inter_token_count: u64,
    /// Their sum.
    pub inter_token_seconds_sum: f64,
    /// The longest of them.
    pub inter_token_seconds_max: f64,
    /// KV blocks held, times how long.
    pub kv_block_seconds: f64,
    /// Tokens made, then cut off by a stop string; never billed.
    pub dropped_tokens: u64,
}

/// A field that may be absent, `null` or a usage; plain `Option<Option<_>>` reads `null` as absent.
pub(crate) mod nullable {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Usage;

    #[expect(clippy::option_option, reason = "absent and null differ on the wire")]
    #[expect(clippy::ref_option, reason = "the signature serde calls")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<Option<Usage>>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().and_then(Option::as_ref).serialize(serializer)
    }

    #[expect(clippy::option_option, reason = "absent and null differ on the wire")]
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Usage>>, D::Error> {
        Option::<Usage>::deserialize(deserializer).map(Some)
    }
}
