//! The distribution of the next token: what the model would draw it from, and how the sampler's settings change that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{AnswerNote, ChatMessage, Usage};

/// Body of `POST /v1/next-token`; exactly one of `prompt` and `messages`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NextTokenRequest {
    /// The model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true)]
    pub model: Option<String>,
    /// What to go on from, as text or as token ids. Special tokens written in a text are read as such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptOrIds>,
    /// A chat, rendered by the model's template up to where the assistant begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<ChatMessage>>,
    /// Token ids of an answer that is there already, behind the prompt: only they count as made, which is what frequency and
    /// presence penalty go by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_tokens: Option<Vec<u32>>,
    /// How many of the likeliest tokens to give, 1 to 256 (the default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<u16>,
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
    /// The same seed draws the same token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Higher runs first; capped by the key's `max_priority`, and by 0 without a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The end user, for the usage record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// As in completions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<BTreeMap<String, Value>>,
}

/// A text, or the ids of its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PromptOrIds {
    /// A text.
    Text(String),
    /// Token ids.
    Ids(Vec<u32>),
}

/// Answer of `POST /v1/next-token`. One token is drawn and charged like that of any answer. Each of the two distributions
/// adds up to 1 over `tokens` and `rest`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NextToken {
    /// `next-…`.
    pub id: String,
    /// Always `next_token`.
    pub object: String,
    /// Unix seconds.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// Changes with the program or the model.
    pub system_fingerprint: Option<String>,
    /// The token that was drawn.
    pub drawn: DrawnToken,
    /// The likeliest tokens by raw logits, best first.
    pub tokens: Vec<NextTokenChance>,
    /// All other tokens together.
    pub rest: NextTokenRest,
    /// How many tokens the settings leave that can be drawn.
    pub possible: u32,
    /// What the request used.
    pub usage: Usage,
    /// What this server says of it beside the OpenAI API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenworks: Option<AnswerNote>,
}

/// A token by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrawnToken {
    /// Its id.
    pub id: u32,
    /// Its text; bytes that are no character of their own are written `\xNN`.
    pub token: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A token's chances to be the next one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NextTokenChance {
    /// Its id.
    pub id: u32,
    /// Its text; bytes that are no character of their own are written `\xNN`.
    pub token: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The model's raw logit.
    pub logit: f32,
    /// Its raw probability: over the whole vocabulary at temperature 1.
    pub raw: f64,
    /// The probability with which it is drawn under the settings.
    pub drawn: f64,
}

/// What is left beside the tokens named.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NextTokenRest {
    /// How many tokens.
    pub tokens: usize,
    /// Their raw probability, all together.
    pub raw: f64,
    /// The probability with which one of them is drawn under the settings.
    pub drawn: f64,
}
