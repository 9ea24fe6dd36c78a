//! Chat completions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{AnswerNote, ChoiceNote, GenerationOptions, Usage};

/// Body of `POST /v1/chat/completions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct ChatCompletionRequest {
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
    /// Give each token's log-probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<bool>,
    /// With `logprobs`: also those of the likeliest tokens, 0 to 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u8>,
    /// More variables for the model's chat template.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub chat_template_kwargs: Option<BTreeMap<String, Value>>,
    /// Must be true: the answer is always a new assistant message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_generation_prompt: Option<bool>,
    /// The fields both kinds of completions take.
    #[serde(flatten)]
    pub options: GenerationOptions,
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
    /// What this server says of it beside the OpenAI API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenworks: Option<AnswerNote>,
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
    /// Why it ended, where `finish_reason` has no word for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenworks: Option<ChoiceNote>,
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
    /// What this server says of it beside the OpenAI API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenworks: Option<AnswerNote>,
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
    /// Why it ended, where `finish_reason` has no word for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenworks: Option<ChoiceNote>,
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
