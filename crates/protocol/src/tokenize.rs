//! `/tokenize` and `/detokenize` in vLLM's shapes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ChatMessage;

/// Asks for the tokens of a text or of a chat; exactly one of `prompt` and `messages`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenizeRequest {
    /// The model; may be left out when only one is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// A chat, rendered by the model's template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<ChatMessage>>,
    /// Add the model's own start token (`prompt` only; default true).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_special_tokens: Option<bool>,
    /// Read special tokens written in `prompt` (default false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parse_special: Option<bool>,
    /// End the rendered chat where the assistant begins (`messages` only; default true).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_generation_prompt: Option<bool>,
    /// Give each token's text as well (default false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_token_strs: Option<bool>,
}

/// The tokens of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenizeReply {
    /// How many tokens.
    pub count: usize,
    /// Most tokens of prompt and answer together.
    pub max_model_len: usize,
    /// Their ids.
    pub tokens: Vec<u32>,
    /// Their texts, when asked for; bytes that are no character of their own are written `\xNN`.
    pub token_strs: Option<Vec<String>>,
}

/// Asks for the text of token ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DetokenizeRequest {
    /// The model; may be left out when only one is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true)]
    pub tokens: Option<Vec<u32>>,
}

/// The text of token ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetokenizeReply {
    /// The text, special tokens in their written form.
    pub prompt: String,
}
