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
    /// Give each token's bytes as well (default false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_token_bytes: Option<bool>,
    /// Say what the tokens cost as input (default false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<bool>,
    /// Show how byte-pair encoding merges each word, step by step (default false; `prompt` only, of at most 512 bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merges: Option<bool>,
}

/// The tokens of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenizeReply {
    /// How many tokens.
    pub count: usize,
    /// Most tokens of prompt and answer together.
    pub max_model_len: usize,
    /// Their ids.
    pub tokens: Vec<u32>,
    /// Their texts, when asked for; bytes that are no character of their own are written `\xNN`.
    pub token_strs: Option<Vec<String>>,
    /// Their bytes, when asked for; of special tokens those of their written form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_bytes: Option<Vec<Vec<u8>>>,
    /// What they cost the caller as input, when asked for and the caller has a price for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<InputPrice>,
    /// How they came about, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merges: Option<TokenMerges>,
}

/// What a prompt's tokens cost at list price, none of them cached: before volume, plan and discount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InputPrice {
    /// Decimal text, exact to the nano-unit.
    pub amount: String,
    /// Its currency, by ISO 4217.
    pub currency: String,
    /// The price of the tokens, e.g. `0.5 per 1M`.
    pub rate: String,
    /// The price list of the caller's plan.
    pub list: String,
    /// The version of the model's price in the list.
    pub version: u32,
}

/// How a tokenizer comes from text to tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenMerges {
    /// `bpe`, `sentencepiece_bpe`, `word_piece`, `unigram` or `word_level`.
    pub algorithm: String,
    /// Why there are no merges to show, where there are none.
    pub none_because: Option<String>,
    /// The text's words in order, special tokens among them; start and end tokens are not. Empty where there are no merges.
    pub words: Vec<MergedWord>,
}

/// One word, which nothing merges across.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MergedWord {
    /// The pieces that it begins as; bytes that are no character of their own are written `\xNN`. One alone and no steps: it
    /// is a token of its own, taken whole.
    pub start: Vec<String>,
    /// The merges in their order.
    pub steps: Vec<MergeStep>,
    /// Its tokens: the pieces after the last step.
    pub tokens: Vec<u32>,
}

/// One merge of two neighbours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MergeStep {
    /// The merge's place in the model's list; of the merges that are possible the one with the lowest comes next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// The score of the token made, where a model has these instead; the highest comes next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// Which piece was made, from 0.
    pub at: usize,
    /// The word's pieces after it.
    pub pieces: Vec<String>,
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
