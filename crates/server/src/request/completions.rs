//! Completions: the body to one generation for each prompt.

use serde_json::Value;
use service::{Generation, Prompt};

use super::options::{max_tokens, options};
use super::refused::strip_request;
use super::{Context, Job, token_ids};
use crate::error::ApiError;
use crate::fields::{Fields, missing, wrong};

const PROMPT: &str = "a string, a list of strings, a list of token ids, or a list of lists of token ids";

/// Reads the body of `POST /v1/completions`.
pub(crate) fn parse_completion(mut fields: Fields, context: &Context<'_>) -> Result<Job, ApiError> {
    strip_request(&mut fields)?;
    let prompts = prompts(&mut fields, context)?;
    let echo = fields.boolean("echo")?.unwrap_or(false);
    let (expected, least) = if echo {
        ("an integer, at least 0", 0)
    } else {
        ("an integer, at least 1 (0 only scores a prompt, with `echo`)", 1)
    };
    let max_tokens = max_tokens(&mut fields, "max_tokens", expected, least)?;
    let best_of: Option<u32> = fields.integer("best_of", "an integer, equal to `n`", 1..)?;
    let logprobs =
        fields.integer("logprobs", "an integer from 0 to 20, how many of the likeliest tokens to give", 0..=20)?;
    let (model, reply) = options(&mut fields, logprobs, context)?;
    fields.finish()?;
    let prompts = prompts.ok_or_else(|| missing("prompt", PROMPT))?;
    let candidates = model.candidates;
    if prompts.len() as u64 * u64::from(candidates) > u64::from(context.max_choices) {
        let message = format!(
            "`prompt`: {} prompts with {candidates} choices each are more than {} choices; send them in several requests",
            prompts.len(),
            context.max_choices
        );
        return Err(ApiError::field("prompt", message));
    }
    if best_of.is_some_and(|best_of| best_of != candidates) {
        let message = "`best_of` is not supported yet unless it equals `n`; remove it";
        return Err(ApiError::unsupported("best_of", message));
    }
    let several = prompts.len() > 1;
    let generations = prompts.into_iter().enumerate().map(|(i, prompt)| Generation {
        prompt,
        max_tokens,
        echo,
        // Logs and usage records tell the prompts of one request apart.
        id: if several { format!("{}-{i}", model.id) } else { model.id.clone() },
        ..model.clone()
    });
    Ok(Job { generations: generations.collect(), candidates, reply })
}

/// The field `prompt`, if it is there; the first entry of a list says what the others must be.
fn prompts(fields: &mut Fields, context: &Context<'_>) -> Result<Option<Vec<Prompt>>, ApiError> {
    let list = match fields.take("prompt") {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(vec![Prompt::Text(text)])),
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(other) => return Err(wrong("prompt", PROMPT, &other)),
    };
    let prompts: Result<_, _> = match list.first() {
        Some(Value::Number(_)) => return Ok(Some(vec![Prompt::Ids(token_ids(list, "prompt", context.card)?)])),
        Some(Value::String(_)) => bounded(list, context)?.map(|(at, value)| text(value, &at)).collect(),
        Some(Value::Array(_)) => bounded(list, context)?.map(|(at, value)| ids(value, &at, context)).collect(),
        other => Err(wrong("prompt[0]", "a string, a token id, or a list of token ids", other.unwrap_or(&Value::Null))),
    };
    prompts.map(Some)
}

/// The prompts of a list, each with its place, if they are not too many.
fn bounded(list: Vec<Value>, context: &Context<'_>) -> Result<impl Iterator<Item = (String, Value)> + use<>, ApiError> {
    if list.len() as u64 > u64::from(context.max_choices) {
        let message =
            format!("`prompt` holds {} prompts; at most {} are taken in one request", list.len(), context.max_choices);
        return Err(ApiError::field("prompt", message));
    }
    Ok(list.into_iter().enumerate().map(|(i, value)| (format!("prompt[{i}]"), value)))
}

fn text(value: Value, at: &str) -> Result<Prompt, ApiError> {
    match value {
        Value::String(text) => Ok(Prompt::Text(text)),
        other => Err(wrong(at, "a string, like the first entry", &other)),
    }
}

fn ids(value: Value, at: &str, context: &Context<'_>) -> Result<Prompt, ApiError> {
    match value {
        Value::Array(list) if !list.is_empty() => token_ids(list, at, context.card).map(Prompt::Ids),
        other => Err(wrong(at, "a list of at least one token id, like the first entry", &other)),
    }
}
