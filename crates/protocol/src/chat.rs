//! Chat completions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{StopInput, StreamOptions, Usage};

/// Body of `POST /v1/chat/completions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatCompletionRequest {
    /// The model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true)]
    pub model: Option<String>,
    /// The chat so far; at least one message.
    #[serde(default)]
    #[schema(required = true)]
    pub messages: Vec<ChatMessage>,
    /// Most tokens of each choice, at least 1; absent or above the room left: to the context's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_completion_tokens: Option<u64>,
    /// The older name of `max_completion_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Number of choices, default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
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
    /// Give each token's log-probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    /// With `logprobs`: also those of the likeliest tokens, 0 to 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u8>,
    /// Write tokens in log-probabilities as `token_id:N` (default false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_tokens_as_token_ids: Option<bool>,
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
    /// More variables for the model's chat template.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub chat_template_kwargs: Option<BTreeMap<String, Value>>,
    /// Must be true: the answer is always a new assistant message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_generation_prompt: Option<bool>,
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

/// One message of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// `system`, `developer` (the same), `user` or `assistant`.
    #[serde(default)]
    #[schema(required = true)]
    pub role: String,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true)]
    pub content: Option<MessageContent>,
    /// The speaker's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl ChatMessage {
    /// A message of plain text.
    #[must_use]
    pub fn text(role: &str, text: &str) -> Self {
        Self { role: role.to_owned(), content: Some(MessageContent::Text(text.to_owned())), name: None }
    }
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum MessageContent {
    /// A text.
    Text(String),
    /// Texts in parts, joined as they are.
    Parts(Vec<ContentPart>),
}

/// One part of a message's content; only `text` is supported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ContentPart {
    /// A text.
    Text {
        /// The text.
        text: String,
    },
}

/// Answer of `POST /v1/chat/completions` without `stream`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatCompletion {
    /// `chatcmpl-…`.
    pub id: String,
    /// Always `chat.completion`.
    pub object: String,
    /// Unix seconds.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// One for each candidate, in order.
    pub choices: Vec<ChatChoice>,
    /// What the request used.
    pub usage: Usage,
    /// Changes with the program or the model.
    pub system_fingerprint: Option<String>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatChoice {
    /// From 0.
    pub index: u32,
    /// The answer.
    pub message: AssistantMessage,
    /// When asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// `stop` or `length`.
    pub finish_reason: String,
}

/// The model's message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssistantMessage {
    /// Always `assistant`.
    pub role: String,
    /// The text.
    pub content: Option<String>,
    /// Always `null`: the model's words are all in `content`.
    pub refusal: Option<String>,
}

/// Log-probabilities of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatLogprobs {
    /// One for each token of the content.
    pub content: Vec<ChatTokenLogprob>,
    /// Always `null`.
    pub refusal: Option<Vec<ChatTokenLogprob>>,
}

/// A token with its log-probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatTokenLogprob {
    /// Its text; bytes that are no character of their own are written `\xNN`.
    pub token: String,
    /// Natural logarithm.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at this place, best first.
    pub top_logprobs: Vec<ChatTopLogprob>,
}

/// One of the likeliest tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatTopLogprob {
    /// Its text.
    pub token: String,
    /// Natural logarithm.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Option<Vec<u8>>,
}

/// One frame of a chat stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatCompletionChunk {
    /// The same in every frame.
    pub id: String,
    /// Always `chat.completion.chunk`.
    pub object: String,
    /// Unix seconds; the same in every frame.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// Changes with the program or the model.
    pub system_fingerprint: Option<String>,
    /// One, or none in the frame that carries the usage.
    pub choices: Vec<ChatChunkChoice>,
    /// With `include_usage`: `null`, and in the last frame the usage. Absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::usage::nullable")]
    #[schema(value_type = Option<Usage>)]
    pub usage: Option<Option<Usage>>,
}

/// News of one choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatChunkChoice {
    /// From 0.
    pub index: u32,
    /// What is new.
    pub delta: Delta,
    /// When asked for: of the tokens whose text is complete with this frame.
    pub logprobs: Option<ChatLogprobs>,
    /// `null` until the choice ends.
    pub finish_reason: Option<String>,
}

/// What is new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delta {
    /// In the first frame of a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// More text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}
