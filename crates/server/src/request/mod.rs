//! Wire requests to domain requests, by hand: every limit of the API is checked here.

mod chat;
mod completions;
mod next_token;
mod options;
mod refused;
mod tokenize;

use economics::books::Joined;
use inference::TokenId;
use serde_json::Value;
use service::{Generation, ModelCard};

use crate::auth::Caller;
use crate::error::ApiError;
use crate::fields::wrong;

pub(crate) use chat::parse_chat;
pub(crate) use completions::parse_completion;
pub(crate) use next_token::parse_next_token;
pub(crate) use tokenize::{Extras, Tokenize, parse_detokenize, parse_tokenize};

/// Who asks, of which model, within which bounds.
pub(crate) struct Context<'a> {
    /// The id of the request and of its answer.
    pub(crate) id: &'a str,
    /// The route, e.g. `/v1/completions`.
    pub(crate) route: &'static str,
    /// The model's facts.
    pub(crate) card: &'a ModelCard,
    /// The caller.
    pub(crate) caller: &'a Caller,
    /// Where the request belongs in an experiment.
    pub(crate) joined: Option<&'a Joined>,
    /// Most candidates one generation may have.
    pub(crate) max_candidates: u32,
    /// Most choices, all prompts together.
    pub(crate) max_choices: u32,
}

/// A checked request for completions of either kind.
#[derive(Debug)]
pub(crate) struct Job {
    /// One for each prompt.
    pub(crate) generations: Vec<Generation>,
    /// Candidates of each generation.
    pub(crate) candidates: u32,
    /// How to answer.
    pub(crate) reply: ReplyStyle,
}

/// How to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplyStyle {
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) logprobs: bool,
    pub(crate) token_ids: bool,
}

/// What a token id of this model is, in words for errors.
fn token_id_of(card: &ModelCard) -> String {
    format!("a token id of `{}` (an integer from 0 to {})", card.id, card.vocab_size.saturating_sub(1))
}

/// A list of token ids, each within the vocabulary; `at` is the list's place.
fn token_ids(list: Vec<Value>, at: &str, card: &ModelCard) -> Result<Vec<TokenId>, ApiError> {
    let id = |value: &Value| value.as_u64().filter(|id| *id < card.vocab_size as u64).and_then(|id| id.try_into().ok());
    let ids = list.iter().enumerate();
    ids.map(|(i, value)| id(value).ok_or_else(|| wrong(&format!("{at}[{i}]"), &token_id_of(card), value))).collect()
}
