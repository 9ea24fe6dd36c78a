//! From messages, text or ids to a checked prompt.

use std::collections::BTreeMap;

use inference::{EngineLimits, TokenId};
use tokenizer::{ChatMessage, TemplateError, TemplateRenderer, Tokenizer};

use crate::pieces::Pieces;
use crate::{Generation, LineError, Message, Prompt, TokenText};

/// Most stop strings of one request.
pub const MAX_STOPS: usize = 16;
/// Most bytes of one stop string.
pub const MAX_STOP_BYTES: usize = 1024;
/// Most best tokens reported at each position.
const MAX_TOP_LOGPROBS: u8 = 20;

/// Most tokens whose chances are reported.
pub const MAX_BEST_CHANCES: u16 = 256;

/// Text of so many bytes may always be tried.
const TEXT_BYTES_FREE: usize = 1 << 20;
/// Bytes of text for each token of the context that may be tried; a token is seldom longer.
const TEXT_BYTES_PER_TOKEN: usize = 16;

/// Most bytes of text worth tokenizing for a prompt: tokens take some tens of times the memory of their text, and longer
/// text does not fit the context.
fn text_bytes_max(context_len: usize) -> usize {
    context_len.saturating_mul(TEXT_BYTES_PER_TOKEN).max(TEXT_BYTES_FREE)
}

/// The bytes that would be tokenized.
pub(crate) fn text_bytes(prompt: &Prompt) -> usize {
    match prompt {
        Prompt::Chat(messages) => messages.iter().map(|message| message.content.len()).sum(),
        Prompt::Text(text) => text.len(),
        Prompt::Ids(_) => 0,
    }
}

/// The ids of a chat.
pub(crate) fn encode_chat(
    tokenizer: &Tokenizer,
    template: &dyn TemplateRenderer,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    variables: &BTreeMap<String, serde_json::Value>,
) -> Result<Vec<TokenId>, LineError> {
    let messages: Vec<_> =
        messages.into_iter().map(|Message { role, content, name }| ChatMessage { role, content, name }).collect();
    tokenizer.encode_chat(template, &messages, add_generation_prompt, variables).map_err(|error| match error {
        TemplateError::Unavailable { .. } => LineError::internal(error.to_string()),
        _ => LineError::TemplateFailed { message: error.to_string() },
    })
}

/// Checks what can be checked before the prompt's tokens are known.
pub(crate) fn check(generation: &Generation, limits: &EngineLimits) -> Result<(), LineError> {
    let Generation { candidates, max_tokens, echo, prompt, stop, sampling, .. } = generation;
    match prompt {
        Prompt::Chat(messages) if messages.is_empty() => {
            return Err(LineError::invalid("messages", "there are no messages; give at least one"));
        }
        Prompt::Chat(_) if *echo => return Err(LineError::invalid("echo", "a chat can't be echoed; use completions")),
        _ => {}
    }
    let (bytes, most_bytes) = (text_bytes(prompt), text_bytes_max(limits.context_len));
    if bytes > most_bytes {
        let field = if matches!(prompt, Prompt::Chat(_)) { "messages" } else { "prompt" };
        let message = format!(
            "the text has {bytes} bytes, far more than the context of {} tokens holds; send at most {most_bytes}",
            limits.context_len
        );
        return Err(LineError::invalid(field, message));
    }
    if *candidates == 0 || *candidates > limits.max_candidates {
        let most = limits.max_candidates;
        return Err(LineError::invalid("n", format!("{candidates} candidates were asked for; give 1 to {most}")));
    }
    if *max_tokens == Some(0) && !echo {
        return Err(LineError::invalid("max_tokens", "max_tokens is 0, which needs echo; give at least 1"));
    }
    if stop.len() > MAX_STOPS {
        let message = format!("{} stop strings were given; {MAX_STOPS} at most are allowed", stop.len());
        return Err(LineError::invalid("stop", message));
    }
    if stop.iter().any(String::is_empty) {
        return Err(LineError::invalid("stop", "a stop string is empty; leave it out"));
    }
    if let Some(long) = stop.iter().find(|stop| stop.len() > MAX_STOP_BYTES) {
        let message = format!("a stop string has {} bytes; {MAX_STOP_BYTES} at most are allowed", long.len());
        return Err(LineError::invalid("stop", message));
    }
    check_sampling(sampling, limits.vocab_size)
}

fn check_sampling(sampling: &inference::SamplingParams, vocab_size: usize) -> Result<(), LineError> {
    let ranges = [
        ("temperature", sampling.temperature, 0.0, f32::MAX, "at least 0"),
        ("top_p", sampling.top_p, f32::MIN_POSITIVE, 1.0, "above 0 and at most 1"),
        ("min_p", sampling.min_p, 0.0, 1.0, "from 0 to 1"),
        ("repetition_penalty", sampling.repetition_penalty, f32::MIN_POSITIVE, f32::MAX, "above 0"),
        ("frequency_penalty", sampling.frequency_penalty, f32::MIN, f32::MAX, "a finite number"),
        ("presence_penalty", sampling.presence_penalty, f32::MIN, f32::MAX, "a finite number"),
    ];
    for (field, value, low, high, range) in ranges {
        // NaN is in no range.
        if !(low..=high).contains(&value) {
            return Err(LineError::invalid(field, format!("{field} is {value}; it must be {range}")));
        }
    }
    for (id, bias) in &sampling.logit_bias {
        if *id as usize >= vocab_size {
            let message = format!("token {id} does not exist; ids are below {vocab_size}");
            return Err(LineError::invalid("logit_bias", message));
        }
        if !bias.is_finite() {
            return Err(LineError::invalid("logit_bias", format!("the bias of token {id} is not a finite number")));
        }
    }
    if let Some(best) = sampling.distribution.filter(|best| *best > MAX_BEST_CHANCES) {
        let message = format!("the chances of {best} tokens were asked for; {MAX_BEST_CHANCES} at most are reported");
        return Err(LineError::invalid("best", message));
    }
    match sampling.logprobs {
        Some(top) if top > MAX_TOP_LOGPROBS => Err(LineError::invalid(
            "logprobs",
            format!("{top} best tokens were asked for; {MAX_TOP_LOGPROBS} at most are reported"),
        )),
        _ => Ok(()),
    }
}

/// Checks the prompt's ids and gives how many tokens are to be made: what was asked for, at most the room left.
pub(crate) fn check_ids(ids: &[TokenId], max_tokens: Option<u32>, limits: &EngineLimits) -> Result<u32, LineError> {
    if ids.is_empty() {
        let message = "the prompt is empty and the model has no start token; give at least one token";
        return Err(LineError::invalid("prompt", message));
    }
    if let Some(id) = ids.iter().find(|id| **id as usize >= limits.vocab_size) {
        let message = format!("token {id} does not exist; ids are below {}", limits.vocab_size);
        return Err(LineError::invalid("prompt", message));
    }
    let room = limits.context_len.saturating_sub(ids.len());
    let fits = room > 0 || (max_tokens == Some(0) && ids.len() == limits.context_len);
    if !fits {
        return Err(LineError::ContextFull { prompt_tokens: ids.len(), context_len: limits.context_len });
    }
    let room = u32::try_from(room).unwrap_or(u32::MAX);
    Ok(max_tokens.unwrap_or(room).min(room))
}

/// Ids as text, each token in its written form.
pub(crate) fn token_texts(pieces: &dyn Pieces, ids: &[TokenId]) -> Vec<TokenText> {
    ids.iter()
        .map(|&id| TokenText { id, bytes: pieces.written_bytes(id).into_owned(), logprob: None, top: Vec::new() })
        .collect()
}

/// Makes the tokens' bytes, put together, equal to the text they came from: a start token that the text doesn't have
/// loses its written form, and so does the space that some tokenizers put in front.
pub(crate) fn align(tokens: &mut [TokenText], text: &str) {
    let total = |tokens: &[TokenText]| tokens.iter().map(|token| token.bytes.len()).sum::<usize>();
    let ends_with_text = |tokens: &[TokenText], skipped: usize| {
        let bytes = tokens.iter().flat_map(|token| &token.bytes).skip(skipped);
        bytes.eq(text.as_bytes())
    };
    let Some(extra) = total(tokens).checked_sub(text.len()) else { return };
    if !ends_with_text(tokens, extra) {
        return;
    }
    let mut extra = extra;
    for token in tokens {
        let cut = extra.min(token.bytes.len());
        token.bytes.drain(..cut);
        extra -= cut;
    }
}

/// Whether the ids end inside reasoning that was opened and not closed.
pub(crate) fn ends_inside(ids: &[TokenId], markers: Option<(TokenId, TokenId)>) -> bool {
    markers.is_some_and(|(open, close)| ids.iter().rev().find(|&&id| id == open || id == close) == Some(&open))
}
