//! Wire requests to domain requests, by hand: every limit of the API is checked here.

mod chat;
mod completions;
mod expected;
mod refused;
mod sampling;
mod tokenize;

use inference::TokenId;
use service::{Generation, ModelCard};

use crate::auth::Caller;

pub(crate) use chat::parse_chat;
pub(crate) use completions::parse_completion;
pub(crate) use tokenize::{Tokenize, parse_detokenize, parse_tokenize};

/// Who asks, of which model, within which bounds.
pub(crate) struct Context<'a> {
    /// The model's facts.
    pub(crate) card: &'a ModelCard,
    /// The caller.
    pub(crate) caller: &'a Caller,
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

/// An id of the vocabulary, or why not.
fn in_vocabulary(id: TokenId, card: &ModelCard) -> Result<(), String> {
    if (id as usize) < card.vocab_size {
        return Ok(());
    }
    Err(format!(
        "token id {id} is outside the vocabulary of `{}` (0 to {})",
        card.id,
        card.vocab_size.saturating_sub(1)
    ))
}
