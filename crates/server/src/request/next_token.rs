//! The next token's distribution: the body to one generation of one token.

use inference::SamplingParams;
use serde_json::Value;
use service::{Generation, MAX_BEST_CHANCES, Prompt};

use super::chat::messages;
use super::options::options;
use super::refused::strip_request;
use super::{Context, Job, token_ids};
use crate::error::ApiError;
use crate::fields::{Fields, wrong};

const PROMPT: &str = "a string, or a list of token ids";
const ANSWER: &str = "a list of token ids";
/// Fields of completions that make no sense where one token of one choice is made, in one piece.
const OF_ANSWERS: [&str; 9] = [
    "n",
    "stop",
    "stream",
    "stream_options",
    "ignore_eos",
    "max_tokens",
    "max_completion_tokens",
    "logprobs",
    "return_tokens_as_token_ids",
];

/// Reads the body of `POST /v1/next-token`.
pub(crate) fn parse_next_token(mut fields: Fields, context: &Context<'_>) -> Result<Job, ApiError> {
    strip_request(&mut fields)?;
    if let Some(name) = OF_ANSWERS.into_iter().find(|name| fields.peek(name).is_some()) {
        let message =
            format!("`{name}` is for completions; here one token of one choice is made, in one piece: remove it");
        return Err(ApiError::field(name, message));
    }
    let prompt = match fields.take("prompt") {
        None => None,
        Some(Value::String(text)) => Some(Prompt::Text(text)),
        Some(Value::Array(list)) => Some(Prompt::Ids(token_ids(list, "prompt", context.card)?)),
        Some(other) => return Err(wrong("prompt", PROMPT, &other)),
    };
    let prompt = match (prompt, messages(&mut fields)?) {
        (Some(prompt), None) => prompt,
        (None, Some(messages)) => Prompt::Chat(messages),
        _ => return Err(ApiError::field("prompt", format!("give either `prompt` ({PROMPT}) or `messages`"))),
    };
    let answered = match fields.take("answer_tokens") {
        None => Vec::new(),
        Some(Value::Array(list)) => token_ids(list, "answer_tokens", context.card)?,
        Some(other) => return Err(wrong("answer_tokens", ANSWER, &other)),
    };
    let expected = format!("an integer from 1 to {MAX_BEST_CHANCES}, how many of the likeliest tokens to give");
    let best = fields.integer("best", &expected, 1..=i128::from(MAX_BEST_CHANCES))?.unwrap_or(MAX_BEST_CHANCES);
    let (generation, reply) = options(&mut fields, None, context)?;
    fields.finish()?;
    let sampling = SamplingParams { distribution: Some(best), ..generation.sampling };
    let generation = Generation { prompt, answered, max_tokens: Some(1), sampling, ..generation };
    Ok(Job { candidates: generation.candidates, generations: vec![generation], reply })
}
