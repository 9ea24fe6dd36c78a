//! Completions: text or token ids in, text out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AnswerNote, ChoiceNote, GenerationOptions, Usage};

/// Body of `POST /v1/completions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct CompletionRequest {
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
    /// The fields both kinds of completions take.
    #[serde(flatten)]
    pub options: GenerationOptions,
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
    /// What this server says of it beside the OpenAI API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenworks: Option<AnswerNote>,
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
    /// Why it ended, where `finish_reason` has no word for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenworks: Option<ChoiceNote>,
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
