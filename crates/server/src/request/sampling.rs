//! The fields both kinds of completions share: how tokens are chosen, when to stop, how to answer.

use std::collections::BTreeMap;

use inference::{SamplingParams, TokenId};
use protocol::{StopInput, StreamOptions};
use service::ModelCard;

use super::{Context, expected::expected, in_vocabulary};
use crate::error::ApiError;

const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 4096;
const MAX_LOGPROBS: u8 = 20;
/// OpenAI's own bound.
const MAX_LOGIT_BIAS: usize = 1024;

/// The numbers of a request that steer the sampler, as they came.
pub(super) struct SamplingInput {
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<i64>,
    pub(super) min_p: Option<f64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) repetition_penalty: Option<f64>,
    pub(super) logit_bias: Option<BTreeMap<String, f64>>,
    pub(super) seed: Option<i64>,
}

fn out_of_range(param: &str, given: impl std::fmt::Display) -> ApiError {
    ApiError::field(param, format!("`{param}` must be {}; got {given}", expected(param)))
}

#[expect(clippy::cast_possible_truncation, reason = "the range was checked; rounding to f32 is what is wanted")]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// A number between two bounds, both allowed; NaN is outside.
fn within(param: &str, value: Option<f64>, low: f64, high: f64, default: f32) -> Result<f32, ApiError> {
    match value {
        None => Ok(default),
        Some(value) if (low..=high).contains(&value) => Ok(narrow(value)),
        Some(value) => Err(out_of_range(param, value)),
    }
}

/// Checks the ranges. `logprobs`: what the sampler reports.
pub(super) fn sampling(
    input: SamplingInput,
    logprobs: Option<u8>,
    card: &ModelCard,
) -> Result<SamplingParams, ApiError> {
    let top_p = within("top_p", input.top_p, 0.0, 1.0, 1.0)?;
    if top_p <= 0.0 {
        return Err(out_of_range("top_p", input.top_p.unwrap_or_default()));
    }
    let repetition_penalty = within("repetition_penalty", input.repetition_penalty, 0.0, f64::from(f32::MAX), 1.0)?;
    if repetition_penalty <= 0.0 {
        return Err(out_of_range("repetition_penalty", input.repetition_penalty.unwrap_or_default()));
    }
    let top_k = match input.top_k {
        None | Some(-1 | 0) => 0,
        // More than all tokens is all tokens.
        Some(k) if k > 0 => u32::try_from(k).unwrap_or(0),
        Some(k) => return Err(out_of_range("top_k", k)),
    };
    Ok(SamplingParams {
        repetition_penalty,
        frequency_penalty: within("frequency_penalty", input.frequency_penalty, -2.0, 2.0, 0.0)?,
        presence_penalty: within("presence_penalty", input.presence_penalty, -2.0, 2.0, 0.0)?,
        logit_bias: logit_bias(input.logit_bias, card)?,
        temperature: within("temperature", input.temperature, 0.0, 2.0, 1.0)?,
        top_k,
        top_p,
        min_p: within("min_p", input.min_p, 0.0, 1.0, 0.0)?,
        seed: input.seed.map(i64::cast_unsigned),
        logprobs,
    })
}

fn logit_bias(input: Option<BTreeMap<String, f64>>, card: &ModelCard) -> Result<Vec<(TokenId, f32)>, ApiError> {
    let input = input.unwrap_or_default();
    let wrong = |message: String| ApiError::field("logit_bias", message);
    if input.len() > MAX_LOGIT_BIAS {
        return Err(wrong(format!("`logit_bias` has {} entries; at most {MAX_LOGIT_BIAS} are taken", input.len())));
    }
    let mut biases = BTreeMap::new();
    for (key, value) in input {
        let shown: String = key.chars().take(32).collect();
        let id: TokenId = key
            .parse()
            .map_err(|_not_a_number| wrong(format!("the keys of `logit_bias` must be token ids; got {shown:?}")))?;
        in_vocabulary(id, card).map_err(|message| wrong(format!("`logit_bias`: {message}")))?;
        let bias = within("logit_bias", Some(value), -100.0, 100.0, 0.0)?;
        if biases.insert(id, bias).is_some() {
            return Err(wrong(format!("`logit_bias` names token id {id} twice")));
        }
    }
    Ok(biases.into_iter().collect())
}

/// A number of likeliest tokens to report.
pub(super) fn top_count(param: &str, value: Option<u8>) -> Result<Option<u8>, ApiError> {
    match value {
        Some(count) if count > MAX_LOGPROBS => Err(out_of_range(param, count)),
        other => Ok(other),
    }
}

/// The stop strings.
pub(super) fn stops(input: Option<StopInput>) -> Result<Vec<String>, ApiError> {
    let stops = input.map(StopInput::into_vec).unwrap_or_default();
    if stops.len() > MAX_STOPS {
        return Err(out_of_range("stop", format!("{} strings", stops.len())));
    }
    if stops.iter().any(String::is_empty) {
        return Err(out_of_range("stop", "an empty string"));
    }
    if let Some(long) = stops.iter().find(|stop| stop.len() > MAX_STOP_BYTES) {
        let message = format!("a string of `stop` has {} bytes; at most {MAX_STOP_BYTES} are taken", long.len());
        return Err(ApiError::field("stop", message));
    }
    Ok(stops)
}

/// The number of candidates, within the bounds for `prompts` prompts.
pub(super) fn candidates(n: Option<u32>, prompts: usize, context: &Context<'_>) -> Result<u32, ApiError> {
    let n = n.unwrap_or(1);
    let most = context.max_candidates.min(context.max_choices).max(1);
    if !(1..=most).contains(&n) {
        return Err(ApiError::field("n", format!("`n` must be an integer from 1 to {most}; got {n}")));
    }
    if prompts as u64 * u64::from(n) > u64::from(context.max_choices) {
        let message = format!(
            "{prompts} prompts with {n} choices each are more than {} choices; send them in several requests",
            context.max_choices
        );
        return Err(ApiError::field("prompt", message));
    }
    Ok(n)
}

/// Most tokens; values above every context are as good as none.
pub(super) fn max_tokens(param: &str, value: Option<u64>, zero_allowed: bool) -> Result<Option<u32>, ApiError> {
    match value {
        Some(0) if !zero_allowed => {
            let message = if param == "max_tokens" {
                "`max_tokens` must be at least 1; 0 is for completions with `echo`, which only score the prompt"
                    .to_owned()
            } else {
                format!("`{param}` must be at least 1")
            };
            Err(ApiError::field(param, message))
        }
        other => Ok(other.map(|count| u32::try_from(count).unwrap_or(u32::MAX))),
    }
}

/// Whether to stream, and with usage.
pub(super) fn streaming(stream: Option<bool>, options: Option<StreamOptions>) -> Result<(bool, bool), ApiError> {
    let stream = stream.unwrap_or(false);
    if options.is_some() && !stream {
        return Err(ApiError::field("stream_options", "`stream_options` is only for requests with `stream: true`"));
    }
    Ok((stream, options.and_then(|options| options.include_usage).unwrap_or(false)))
}

/// The priority, capped for this caller.
pub(super) fn priority(value: Option<i32>, context: &Context<'_>) -> i32 {
    value.unwrap_or(0).min(context.caller.max_priority)
}
