//! The fields both kinds of completions share: how tokens are chosen, when to stop, how to answer.

use std::collections::BTreeMap;

use economics::books::{METADATA_BYTES, Metadata, USER_BYTES};
use inference::{SamplingParams, TokenId};
use serde_json::{Map, Value};
use service::{Generation, Labels, MAX_STOP_BYTES, MAX_STOPS, ModelCard, Payer, Prompt};

use super::{Context, ReplyStyle, token_id_of};
use crate::error::ApiError;
use crate::fields::{Fields, number, short, wrong};

const MAX_TAG_BYTES: usize = 64;
/// OpenAI's own bound.
const MAX_LOGIT_BIAS: usize = 1024;

/// Reads the shared fields: a generation without its prompt, and how to answer. `logprobs`: how many of the likeliest
/// tokens to report.
pub(super) fn options(
    fields: &mut Fields,
    logprobs: Option<u8>,
    context: &Context<'_>,
) -> Result<(Generation, ReplyStyle), ApiError> {
    let most = context.max_candidates.min(context.max_choices).max(1);
    let n = fields.integer("n", &format!("an integer from 1 to {most}"), 1..=i128::from(most))?;
    let generation = Generation {
        id: context.id.to_owned(),
        prompt: Prompt::Ids(Vec::new()),
        answered: Vec::new(),
        max_tokens: None,
        candidates: n.unwrap_or(1),
        sampling: sampling(fields, logprobs, context.card)?,
        stop: stops(fields)?,
        ignore_eos: fields.boolean("ignore_eos")?.unwrap_or(false),
        echo: false,
        priority: fields
            .integer("priority", "an integer of 32 bits", ..)?
            .unwrap_or(0)
            .min(context.caller.max_priority),
        template_variables: BTreeMap::new(),
        payer: None,
        labels: Labels { key: context.caller.key.clone(), user: user(fields)?, route: context.route },
    };
    let (stream, include_usage) = streaming(fields)?;
    let (tag, metadata) = metadata(fields)?;
    let metadata = Metadata { joined: context.joined.cloned(), ..metadata };
    let identity = context.caller.identity.clone();
    let payer = identity.map(|identity| Payer { identity, tag, metadata, streamed: stream, traffic: None });
    let generation = Generation { payer, ..generation };
    let token_ids = fields.boolean("return_tokens_as_token_ids")?.unwrap_or(false);
    // Accepted; they do not change the answer.
    fields.boolean("store")?;
    for name in ["service_tier", "safety_identifier", "prompt_cache_key"] {
        fields.string(name)?;
    }
    Ok((generation, ReplyStyle { stream, include_usage, logprobs: logprobs.is_some(), token_ids }))
}

fn sampling(fields: &mut Fields, logprobs: Option<u8>, card: &ModelCard) -> Result<SamplingParams, ApiError> {
    let top_k: i64 = fields.integer("top_k", "an integer, at least 1, or 0 or -1 for all tokens", -1..)?.unwrap_or(0);
    let penalty = "a number from -2 to 2";
    Ok(SamplingParams {
        temperature: fields.number("temperature", "a number from 0 to 2", 0.0..=2.0)?.unwrap_or(1.0),
        // More than all tokens is all tokens.
        top_k: u32::try_from(top_k).unwrap_or(0),
        top_p: fields.positive("top_p", "a number above 0 and up to 1", 1.0)?.unwrap_or(1.0),
        min_p: fields.number("min_p", "a number from 0 to 1", 0.0..=1.0)?.unwrap_or(0.0),
        frequency_penalty: fields.number("frequency_penalty", penalty, -2.0..=2.0)?.unwrap_or(0.0),
        presence_penalty: fields.number("presence_penalty", penalty, -2.0..=2.0)?.unwrap_or(0.0),
        repetition_penalty: fields.positive("repetition_penalty", "a finite number above 0", f32::MAX)?.unwrap_or(1.0),
        logit_bias: logit_bias(fields.object("logit_bias")?.unwrap_or_default(), card)?,
        seed: fields.integer("seed", "an integer of 64 bits", ..)?.map(i64::cast_unsigned),
        logprobs,
        ..SamplingParams::default()
    })
}

fn logit_bias(object: Map<String, Value>, card: &ModelCard) -> Result<Vec<(TokenId, f32)>, ApiError> {
    if object.len() > MAX_LOGIT_BIAS {
        let message = format!("`logit_bias` has {} entries; at most {MAX_LOGIT_BIAS} are taken", object.len());
        return Err(ApiError::field("logit_bias", message));
    }
    let mut biases = BTreeMap::new();
    for (key, value) in object {
        let param = format!("logit_bias.{}", short(&key));
        let id = key.parse().ok().filter(|id| (*id as usize) < card.vocab_size).ok_or_else(|| {
            let message = format!("`{param}`: the keys of `logit_bias` must each be {}", token_id_of(card));
            ApiError::field(&param, message)
        })?;
        let bias = number(&value, -100.0..=100.0).ok_or_else(|| wrong(&param, "a number from -100 to 100", &value))?;
        if biases.insert(id, bias).is_some() {
            return Err(ApiError::field(&param, format!("`{param}`: `logit_bias` names token id {id} twice")));
        }
    }
    Ok(biases.into_iter().collect())
}

fn stops(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    match fields.take("stop") {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_STOPS => {
            list.into_iter().enumerate().map(|(i, value)| stop(value, &format!("stop[{i}]"))).collect()
        }
        Some(value @ Value::String(_)) => Ok(vec![stop(value, "stop")?]),
        Some(other) => Err(wrong("stop", &format!("a string, or a list of up to {MAX_STOPS} strings"), &other)),
    }
}

fn stop(value: Value, at: &str) -> Result<String, ApiError> {
    match value {
        Value::String(text) if text.len() > MAX_STOP_BYTES => {
            let message = format!("`{at}` has {} bytes; at most {MAX_STOP_BYTES} are taken", text.len());
            Err(ApiError::field(at, message))
        }
        Value::String(text) if !text.is_empty() => Ok(text),
        other => Err(wrong(at, "a string that is not empty", &other)),
    }
}

/// The words of `metadata` by which reports and TFP can be broken down; its others are accepted and not kept.
fn metadata(fields: &mut Fields) -> Result<(Option<String>, Metadata), ApiError> {
    let mut metadata = fields.object("metadata")?.unwrap_or_default();
    let tag = word(&mut metadata, "tag", MAX_TAG_BYTES)?;
    let mut text = |name| word(&mut metadata, name, METADATA_BYTES).map(Option::unwrap_or_default);
    let (task, prompt_version, episode) = (text("task")?, text("prompt_version")?, text("episode")?);
    Ok((tag, Metadata { task, prompt_version, episode, joined: None }))
}

fn word(metadata: &mut Map<String, Value>, name: &str, most: usize) -> Result<Option<String>, ApiError> {
    match metadata.remove(name) {
        None => Ok(None),
        Some(Value::String(word)) if is_word(&word, most) => Ok(Some(word)),
        Some(other) => {
            let expected = format!("a string of at most {most} bytes without control characters");
            Err(wrong(&format!("metadata.{name}"), &expected, &other))
        }
    }
}

/// Who asks through the caller's product: bounds and reports are by this word.
fn user(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    let user = fields.string("user")?;
    match user {
        Some(user) if !is_word(&user, USER_BYTES) => {
            let expected = format!("a string of at most {USER_BYTES} bytes without control characters");
            Err(wrong("user", &expected, &Value::String(user)))
        }
        user => Ok(user),
    }
}

fn is_word(text: &str, most: usize) -> bool {
    text.len() <= most && !text.chars().any(char::is_control)
}

/// Whether to stream, and with usage.
fn streaming(fields: &mut Fields) -> Result<(bool, bool), ApiError> {
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let Some(options) = fields.object("stream_options")? else { return Ok((stream, false)) };
    if !stream {
        return Err(ApiError::field("stream_options", "`stream_options` is only for requests with `stream: true`"));
    }
    let mut options = Fields::inside(options, "stream_options");
    let include_usage = options.boolean("include_usage")?.unwrap_or(false);
    options.boolean("include_obfuscation")?;
    options.finish()?;
    Ok((stream, include_usage))
}

/// Most tokens, `least` or more, which `expected` says; values above every context are as good as none.
pub(super) fn max_tokens(fields: &mut Fields, name: &str, expected: &str, least: u8) -> Result<Option<u32>, ApiError> {
    let count: Option<u64> = fields.integer(name, expected, i128::from(least)..)?;
    Ok(count.map(|count| u32::try_from(count).unwrap_or(u32::MAX)))
}
