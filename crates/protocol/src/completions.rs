//! Completions: text or token ids in, text out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{StopInput, StreamOptions, Usage};

/// Body of `POST /v1/completions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompletionRequest {
    /// The model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true)]
    pub model: Option<String>,
    /// What to go on from. Special tokens written in a text are read as such.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true)]
    pub prompt: Option<PromptInput>,
    /// Most tokens of each choice; absent or above the room left: to the context's end. 0 only with `echo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Choices for each prompt, default 1. Choice `j` of prompt `i` has the index `i * n + j`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// Accepted when it equals `n`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_of: Option<u32>,
    /// Give the prompt back in front of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
    /// Give each token's log-probability (with `echo` the prompt's as well) and those of the likeliest tokens, 0 to 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u8>,
    /// Write tokens in log-probabilities as `token_id:N` (default false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_tokens_as_token_ids: Option<bool>,
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
    /// Above 0; 1 (the default) is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    /// From token id (as a string) to a value added to its logit, -100 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// Strings that end a choice; not part of its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopInput>,
    /// The same seed and request give the same answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Answer as server-sent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Only with `stream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// Go on past the model's end tokens (default false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_eos: Option<bool>,
    /// Higher runs first; capped by the key's `max_priority`, and by 0 without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The end user, for the usage record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Accepted; does not change the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<BTreeMap<String, Value>>,
    /// Accepted; nothing is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<bool>,
    /// Accepted; does not change the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// Accepted; does not change the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety_identifier: Option<String>,
    /// Accepted; prefixes are shared without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_cache_key: Option<String>,
}

/// One prompt or several, as text or as token ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PromptInput {
    /// One text.
    Text(String),
    /// Token ids of one prompt.
    Ids(Vec<u32>),
    /// Several texts.
    Texts(Vec<String>),
    /// Token ids of several prompts.
    IdLists(Vec<Vec<u32>>),
}

/// Answer of `POST /v1/completions`, and one frame of its stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Completion {
    /// `cmpl-…`.
    pub id: String,
    /// Always `text_completion`.
    pub object: String,
    /// Unix seconds.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// Changes with the program or the model.
    pub system_fingerprint: Option<String>,
    /// Prompt-major: choice `j` of prompt `i` has the index `i * n + j`.
    pub choices: Vec<CompletionChoice>,
    /// What the request used. In a stream only with `include_usage`: `null`, and in the last frame the usage.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::usage::nullable")]
    #[schema(value_type = Option<Usage>)]
    pub usage: Option<Option<Usage>>,
}

/// One answer, or in a stream its news.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompletionChoice {
    /// From 0.
    pub index: u32,
    /// The text, with `echo` after the prompt's.
    pub text: String,
    /// When asked for.
    pub logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`; `null` in a stream until the choice ends.
    pub finish_reason: Option<String>,
}

/// Log-probabilities in parallel lists, one entry for each token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompletionLogprobs {
    /// Texts; bytes that are no character of their own are written `bytes:\xNN`.
    pub tokens: Vec<String>,
    /// Natural logarithms; `null` for a prompt's first token.
    pub token_logprobs: Vec<Option<f32>>,
    /// The likeliest tokens and theirs; `null` for a prompt's first token. Tokens with one and the same text appear
    /// once, with the larger value (ask for `return_tokens_as_token_ids` to tell them apart).
    pub top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where the token begins in the choice's text, in characters.
    pub text_offset: Vec<usize>,
}
