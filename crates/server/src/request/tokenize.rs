//! `/tokenize` and `/detokenize`: the bodies.

use inference::TokenId;
use serde_json::Value;
use service::{Message, ModelCard};

use super::chat::messages;
use super::token_ids;
use crate::error::ApiError;
use crate::fields::{Fields, missing, wrong};

/// What to tokenize.
#[derive(Debug)]
pub(crate) enum Tokenize {
    /// A text.
    Text { text: String, add_special: bool, parse_special: bool, merges: bool },
    /// A chat.
    Chat { messages: Vec<Message>, add_generation_prompt: bool },
}

/// What to say of the tokens beside their ids.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extras {
    pub(crate) strings: bool,
    pub(crate) bytes: bool,
    pub(crate) price: bool,
}

/// Reads the body of `POST /tokenize`.
pub(crate) fn parse_tokenize(mut fields: Fields) -> Result<(Tokenize, Extras), ApiError> {
    let prompt = fields.string("prompt")?;
    let messages = messages(&mut fields)?;
    let add_special = fields.boolean("add_special_tokens")?;
    let parse_special = fields.boolean("parse_special")?;
    let add_generation_prompt = fields.boolean("add_generation_prompt")?;
    let merges = fields.boolean("merges")?;
    let mut wanted = |name| fields.boolean(name).map(|wanted| wanted.unwrap_or(false));
    let extras =
        Extras { strings: wanted("return_token_strs")?, bytes: wanted("return_token_bytes")?, price: wanted("price")? };
    fields.finish()?;
    let only = |param: &str, given: bool, with: &str| {
        if given {
            return Err(ApiError::field(param, format!("`{param}` is only for requests with `{with}`; remove it")));
        }
        Ok(())
    };
    match (prompt, messages) {
        (Some(text), None) => {
            only("add_generation_prompt", add_generation_prompt.is_some(), "messages")?;
            let (add_special, parse_special) = (add_special.unwrap_or(true), parse_special.unwrap_or(false));
            Ok((Tokenize::Text { text, add_special, parse_special, merges: merges.unwrap_or(false) }, extras))
        }
        (None, Some(messages)) => {
            // The template writes the special tokens of a chat.
            only("add_special_tokens", add_special == Some(true), "prompt")?;
            only("parse_special", parse_special.is_some(), "prompt")?;
            only("merges", merges == Some(true), "prompt")?;
            let add_generation_prompt = add_generation_prompt.unwrap_or(true);
            Ok((Tokenize::Chat { messages, add_generation_prompt }, extras))
        }
        _ => Err(ApiError::field("prompt", "give either `prompt` (a string) or `messages`")),
    }
}

/// Reads the body of `POST /detokenize`.
pub(crate) fn parse_detokenize(mut fields: Fields, card: &ModelCard) -> Result<Vec<TokenId>, ApiError> {
    const TOKENS: &str = "a list of token ids";
    let tokens = match fields.take("tokens") {
        None => None,
        Some(Value::Array(list)) => Some(token_ids(list, "tokens", card)?),
        Some(other) => return Err(wrong("tokens", TOKENS, &other)),
    };
    fields.finish()?;
    tokens.ok_or_else(|| missing("tokens", TOKENS))
}
