//! `/tokenize` and `/detokenize`: the bodies.

use inference::TokenId;
use protocol::{DetokenizeRequest, TokenizeRequest};
use serde_json::{Map, Value};
use service::{Message, ModelCard};

use super::chat::{check_messages, messages};
use super::expected::{expected, expected_tokenize};
use super::in_vocabulary;
use crate::decode::decode;
use crate::error::ApiError;

/// What to tokenize.
#[derive(Debug)]
pub(crate) enum Tokenize {
    /// A text.
    Text { text: String, add_special: bool, parse_special: bool, strings: bool },
    /// A chat.
    Chat { messages: Vec<Message>, add_generation_prompt: bool, strings: bool },
}

/// Reads the body of `POST /tokenize`.
pub(crate) fn parse_tokenize(mut object: Map<String, Value>) -> Result<Tokenize, ApiError> {
    check_messages(&mut object)?;
    let request: TokenizeRequest = decode(&object, "", expected_tokenize)?;
    let strings = request.return_token_strs.unwrap_or(false);
    let only = |param: &str, given: bool, with: &str| {
        if given {
            return Err(ApiError::field(param, format!("`{param}` is only for requests with `{with}`; remove it")));
        }
        Ok(())
    };
    match (request.prompt, request.messages) {
        (Some(text), None) => {
            only("add_generation_prompt", request.add_generation_prompt.is_some(), "messages")?;
            Ok(Tokenize::Text {
                text,
                add_special: request.add_special_tokens.unwrap_or(true),
                parse_special: request.parse_special.unwrap_or(false),
                strings,
            })
        }
        (None, Some(wire)) => {
            // The template writes the special tokens of a chat.
            only("add_special_tokens", request.add_special_tokens == Some(true), "prompt")?;
            only("parse_special", request.parse_special.is_some(), "prompt")?;
            let messages = messages(wire)?;
            if messages.is_empty() {
                return Err(ApiError::field("messages", "`messages` must hold at least one message"));
            }
            Ok(Tokenize::Chat {
                messages,
                add_generation_prompt: request.add_generation_prompt.unwrap_or(true),
                strings,
            })
        }
        _ => Err(ApiError::field("prompt", "give either `prompt` (a string) or `messages`")),
    }
}

/// Reads the body of `POST /detokenize`.
pub(crate) fn parse_detokenize(object: &Map<String, Value>, card: &ModelCard) -> Result<Vec<TokenId>, ApiError> {
    let request: DetokenizeRequest = decode(object, "", expected)?;
    let Some(ids) = request.tokens else {
        return Err(ApiError::field("tokens", "`tokens` is missing; it must be a list of token ids"));
    };
    for id in &ids {
        in_vocabulary(*id, card).map_err(|message| ApiError::field("tokens", message))?;
    }
    Ok(ids)
}
