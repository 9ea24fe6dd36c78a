//! Chat completions: the body to one generation.

use serde_json::Value;
use service::{Generation, Message, Prompt};

use super::options::{max_tokens, options};
use super::refused::{strip_message, strip_request};
use super::{Context, Job};
use crate::error::ApiError;
use crate::fields::{Fields, missing, short, wrong};

const MAX_MESSAGES: usize = 4096;
const MESSAGES: &str = "a list of messages, each with `role` and `content`";
const MAX_TOKENS: &str = "an integer, at least 1: a chat always answers";
const ROLE: &str = "one of `system`, `developer`, `user`, `assistant`";
const CONTENT: &str = "a string, or a list of parts of type `text`";

/// Reads the body of `POST /v1/chat/completions`.
pub(crate) fn parse_chat(mut fields: Fields, context: &Context<'_>) -> Result<Job, ApiError> {
    strip_request(&mut fields)?;
    let messages = messages(&mut fields)?;
    if fields.boolean("add_generation_prompt")? == Some(false) {
        let message = "`add_generation_prompt` must be true (or absent): the answer is always a new message";
        return Err(ApiError::unsupported("add_generation_prompt", message));
    }
    let newer = max_tokens(&mut fields, "max_completion_tokens", MAX_TOKENS, 1)?;
    let older = max_tokens(&mut fields, "max_tokens", MAX_TOKENS, 1)?;
    if newer.is_some() && older.is_some() && newer != older {
        let message = "`max_tokens` is the older name of `max_completion_tokens`; give only one of them";
        return Err(ApiError::field("max_tokens", message));
    }
    let logprobs = fields.boolean("logprobs")?.unwrap_or(false);
    let top: Option<u8> =
        fields.integer("top_logprobs", "an integer from 0 to 20, next to `logprobs: true`", 0..=20)?;
    if top.is_some_and(|top| top > 0) && !logprobs {
        return Err(ApiError::field("top_logprobs", "`top_logprobs` needs `logprobs: true`"));
    }
    let template_variables = fields.object("chat_template_kwargs")?.unwrap_or_default().into_iter().collect();
    let (generation, reply) = options(&mut fields, logprobs.then(|| top.unwrap_or(0)), context)?;
    fields.finish()?;
    let prompt = Prompt::Chat(messages.ok_or_else(|| missing("messages", MESSAGES))?);
    let generation = Generation { prompt, max_tokens: newer.or(older), template_variables, ..generation };
    Ok(Job { candidates: generation.candidates, generations: vec![generation], reply })
}

/// The field `messages`, if it is there.
pub(super) fn messages(fields: &mut Fields) -> Result<Option<Vec<Message>>, ApiError> {
    let list = match fields.take("messages") {
        None => return Ok(None),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong("messages", MESSAGES, &other)),
    };
    if list.is_empty() {
        return Err(ApiError::field("messages", "`messages` must hold at least one message"));
    }
    if list.len() > MAX_MESSAGES {
        let message = format!("`messages` holds {} messages; at most {MAX_MESSAGES} are taken", list.len());
        return Err(ApiError::field("messages", message));
    }
    list.into_iter()
        .enumerate()
        .map(|(i, value)| message(value, &format!("messages[{i}]")))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn message(value: Value, at: &str) -> Result<Message, ApiError> {
    let Value::Object(object) = value else {
        return Err(wrong(at, "an object with `role` and `content`", &value));
    };
    let mut fields = Fields::inside(object, at);
    let role = role(&mut fields)?;
    strip_message(&mut fields)?;
    let content = content(&mut fields)?;
    let name = fields.string("name")?;
    fields.finish()?;
    Ok(Message { role, content, name })
}

/// Templates know `system`, so `developer` becomes that.
fn role(fields: &mut Fields) -> Result<String, ApiError> {
    let param = fields.path("role");
    let value = fields.take("role").ok_or_else(|| missing(&param, ROLE))?;
    match value.as_str() {
        Some("developer") => Ok("system".to_owned()),
        Some(role @ ("system" | "user" | "assistant")) => Ok(role.to_owned()),
        Some(role @ ("tool" | "function")) => {
            let message =
                format!("`{param}`: messages of the role `{role}` are not supported yet; remove this message");
            Err(ApiError::unsupported(param, message))
        }
        _ => Err(wrong(&param, ROLE, &value)),
    }
}

/// The text of a message; parts are joined as they are.
fn content(fields: &mut Fields) -> Result<String, ApiError> {
    let param = fields.path("content");
    match fields.take("content") {
        None => Err(missing(&param, CONTENT)),
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            parts.into_iter().enumerate().map(|(i, value)| part(value, &format!("{param}[{i}]"))).collect()
        }
        Some(other) => Err(wrong(&param, CONTENT, &other)),
    }
}

fn part(value: Value, at: &str) -> Result<String, ApiError> {
    let Value::Object(object) = value else {
        return Err(wrong(at, "an object with `type: \"text\"` and `text`", &value));
    };
    let mut fields = Fields::inside(object, at);
    let param = fields.path("type");
    let kind = fields.string("type")?.ok_or_else(|| missing(&param, "`text`"))?;
    if kind != "text" {
        let message = format!("`{param}` is `{}`, which is not supported yet; only `text` is", short(&kind));
        return Err(ApiError::unsupported(param, message));
    }
    let text = fields.string("text")?.ok_or_else(|| missing(&fields.path("text"), "a string"))?;
    fields.finish()?;
    Ok(text)
}
