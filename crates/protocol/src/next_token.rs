//! The distribution of the next token: what the model would draw it from, and how the sampler's settings change that.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AnswerNote, ChatMessage, RequestOptions, Usage};

/// Body of `POST /v1/next-token`; exactly one of `prompt` and `messages`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct NextTokenRequest {
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
    /// Those of all requests.
    #[serde(flatten)]
    pub options: RequestOptions,
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
    /// The model's raw logit; -9999: minus infinity.
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
