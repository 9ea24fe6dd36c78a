//! Request fields shared by chat and completions.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Fields of all requests for tokens: of which model, how tokens are chosen, for whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct RequestOptions {
    /// The model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true)]
    pub model: Option<String>,
    /// 0 (always the likeliest token) to 2; default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Above 0, up to 1 (all tokens, the default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Choose among the k likeliest; 0 or -1 (the default): all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    /// Least share of the likeliest token's probability, 0 (off, the default) to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// -2 to 2, default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// -2 to 2, default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Above 0; 1 (the default) is off. Goes by all tokens, the prompt's too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// From token id (as a string) to a value added to its logit, -100 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// The same seed and request give the same answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Higher runs first; capped by the key's `max_priority`, and by 0 without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The end user, for the usage record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `tag` (64 bytes), `task`, `prompt_version` and `episode` (120 bytes each) go into the books, for reports and TFP;
    /// `experiment` lets the request join one, whose arm may set its model and settings; other pairs are accepted and not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<BTreeMap<String, Value>>,
}

/// Fields that chats and completions share beside them: how tokens are chosen, when to stop, how to answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct GenerationOptions {
    /// Those of all requests.
    #[serde(flatten)]
    pub request: RequestOptions,
    /// Write tokens in log-probabilities as `token_id:N` (default false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_tokens_as_token_ids: Option<bool>,
    /// Strings that end a choice; not part of its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopInput>,
    /// Answer as server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Only with `stream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// Go on past the model's end tokens (default false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_eos: Option<bool>,
    /// Accepted; nothing is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<bool>,
    /// Accepted; does not change the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// Accepted; does not change the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety_identifier: Option<String>,
    /// Accepted; prefixes are shared within one customer without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_cache_key: Option<String>,
}

/// One stop string or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum StopInput {
    /// One string.
    One(String),
    /// Up to 16 strings.
    Many(Vec<String>),
}

/// What a stream carries besides its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Send the usage of the whole request in a last chunk without choices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_usage: Option<bool>,
    /// Accepted; streams are never padded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_obfuscation: Option<bool>,
}
