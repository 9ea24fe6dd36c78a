//! Chat completions: the body to one generation.

use protocol::{ChatCompletionRequest, ChatMessage, ContentPart, MessageContent};
use serde_json::{Map, Value};
use service::{Generation, Labels, Message, Prompt};

use super::expected::expected;
use super::refused::{strip_message, strip_request};
use super::sampling::{SamplingInput, candidates, max_tokens, priority, sampling, stops, streaming, top_count};
use super::{Context, Job, ReplyStyle};
use crate::decode::{decode, wrong};
use crate::error::ApiError;

const MAX_MESSAGES: usize = 4096;

/// Reads the body of `POST /v1/chat/completions`.
pub(crate) fn parse_chat(mut object: Map<String, Value>, id: &str, context: &Context<'_>) -> Result<Job, ApiError> {
    strip_request(&mut object)?;
    check_messages(&mut object)?;
    let request: ChatCompletionRequest = decode(&object, "", expected)?;
    drop(object);
    let messages = messages(request.messages)?;
    if messages.is_empty() {
        return Err(ApiError::field("messages", "`messages` must hold at least one message"));
    }
    if request.add_generation_prompt == Some(false) {
        let message = "`add_generation_prompt: false` is not supported; the answer is always a new message";
        return Err(ApiError::unsupported("add_generation_prompt", message));
    }
    let limit = match (request.max_completion_tokens, request.max_tokens) {
        (Some(new), Some(old)) if new != old => {
            let message = "`max_tokens` is the older name of `max_completion_tokens`; give only one of them";
            return Err(ApiError::field("max_tokens", message));
        }
        (Some(new), _) => max_tokens("max_completion_tokens", Some(new), false)?,
        (None, old) => max_tokens("max_tokens", old, false)?,
    };
    let logprobs = request.logprobs.unwrap_or(false);
    let top = top_count("top_logprobs", request.top_logprobs)?;
    if top.is_some_and(|top| top > 0) && !logprobs {
        return Err(ApiError::field("top_logprobs", "`top_logprobs` needs `logprobs: true`"));
    }
    let numbers = SamplingInput {
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        min_p: request.min_p,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        repetition_penalty: request.repetition_penalty,
        logit_bias: request.logit_bias,
        seed: request.seed,
    };
    let (stream, include_usage) = streaming(request.stream, request.stream_options)?;
    let candidates = candidates(request.n, 1, context)?;
    let generation = Generation {
        id: id.to_owned(),
        prompt: Prompt::Chat(messages),
        max_tokens: limit,
        candidates,
        sampling: sampling(numbers, logprobs.then(|| top.unwrap_or(0)), context.card)?,
        stop: stops(request.stop)?,
        ignore_eos: request.ignore_eos.unwrap_or(false),
        echo: false,
        priority: priority(request.priority, context),
        template_variables: request.chat_template_kwargs.unwrap_or_default(),
        labels: Labels { key: context.caller.key.clone(), user: request.user, route: "/v1/chat/completions" },
    };
    let token_ids = request.return_tokens_as_token_ids.unwrap_or(false);
    let reply = ReplyStyle { stream, include_usage, logprobs, token_ids };
    Ok(Job { generations: vec![generation], candidates, reply })
}

/// Looks at every message on its own, so that errors can name the place; takes out fields that ask for nothing.
pub(super) fn check_messages(object: &mut Map<String, Value>) -> Result<(), ApiError> {
    let list = match object.get_mut("messages") {
        None => return Ok(()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong("messages", expected("messages"), other)),
    };
    if list.len() > MAX_MESSAGES {
        let message = format!("`messages` holds {} messages; at most {MAX_MESSAGES} are taken", list.len());
        return Err(ApiError::field("messages", message));
    }
    for (i, value) in list.iter_mut().enumerate() {
        let at = format!("messages[{i}]");
        let Value::Object(message) = value else {
            return Err(wrong(&at, "an object with `role` and `content`", value));
        };
        check_message(message, &format!("{at}."))?;
    }
    Ok(())
}

fn check_message(message: &mut Map<String, Value>, at: &str) -> Result<(), ApiError> {
    let param = format!("{at}role");
    match message.get("role") {
        None => return Err(ApiError::field(&param, format!("`{param}` is missing; it must be {}", expected("role")))),
        Some(Value::String(role)) => match role.as_str() {
            "system" | "developer" | "user" | "assistant" => {}
            "tool" | "function" => {
                let text = format!("messages of the role `{role}` are not supported yet; remove this message");
                return Err(ApiError::unsupported(param, text));
            }
            _ => return Err(wrong(&param, expected("role"), &Value::from(role.as_str()))),
        },
        Some(other) => return Err(wrong(&param, expected("role"), other)),
    }
    strip_message(message, at)?;
    let param = format!("{at}content");
    match message.get("content") {
        None | Some(Value::Null) => {
            return Err(ApiError::field(&param, format!("`{param}` is missing; it must be {}", expected("content"))));
        }
        Some(Value::Array(parts)) => {
            for (i, part) in parts.iter().enumerate() {
                check_part(part, &format!("{param}[{i}]"))?;
            }
        }
        Some(_) => {}
    }
    decode::<ChatMessage>(message, at, expected).map(drop)
}

fn check_part(part: &Value, at: &str) -> Result<(), ApiError> {
    match part.get("type") {
        Some(Value::String(kind)) if kind == "text" => match part.get("text") {
            Some(Value::String(_)) => Ok(()),
            Some(other) => Err(wrong(&format!("{at}.text"), "a string", other)),
            None => Err(ApiError::field(format!("{at}.text"), format!("`{at}.text` is missing; it must be a string"))),
        },
        Some(Value::String(kind)) => {
            let shown: String = kind.chars().take(64).collect();
            let message = format!("`{at}` is of the type `{shown}`, which is not supported yet; only `text` is");
            Err(ApiError::unsupported(format!("{at}.type"), message))
        }
        _ => Err(wrong(at, "an object with `type: \"text\"` and `text`", part)),
    }
}

/// Messages as the line takes them. Templates know `system`, so `developer` becomes that.
pub(super) fn messages(wire: Vec<ChatMessage>) -> Result<Vec<Message>, ApiError> {
    wire.into_iter()
        .enumerate()
        .map(|(i, message)| {
            let content = match message.content {
                Some(MessageContent::Text(text)) => text,
                Some(MessageContent::Parts(parts)) => {
                    parts.into_iter().map(|ContentPart::Text { text }| text).collect::<String>()
                }
                None => {
                    let param = format!("messages[{i}].content");
                    return Err(ApiError::field(&param, format!("`{param}` is missing")));
                }
            };
            let role = if message.role == "developer" { "system".to_owned() } else { message.role };
            Ok(Message { role, content, name: message.name })
        })
        .collect()
}
