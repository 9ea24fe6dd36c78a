//! Completions: the body to one generation for each prompt.

use protocol::{CompletionRequest, PromptInput};
use serde_json::{Map, Value};
use service::{Generation, Labels, Prompt};

use super::expected::expected;
use super::refused::strip_request;
use super::sampling::{SamplingInput, candidates, max_tokens, priority, sampling, stops, streaming, top_count};
use super::{Context, Job, ReplyStyle, in_vocabulary};
use crate::decode::decode;
use crate::error::ApiError;

/// Reads the body of `POST /v1/completions`.
pub(crate) fn parse_completion(
    mut object: Map<String, Value>,
    id: &str,
    context: &Context<'_>,
) -> Result<Job, ApiError> {
    strip_request(&mut object)?;
    let request: CompletionRequest = decode(&object, "", expected)?;
    drop(object);
    let prompts = prompts(request.prompt, context)?;
    let candidates = candidates(request.n, prompts.len(), context)?;
    if request.best_of.is_some_and(|best_of| best_of != candidates) {
        let message = "`best_of` is not supported yet unless it equals `n`; remove it";
        return Err(ApiError::unsupported("best_of", message));
    }
    let echo = request.echo.unwrap_or(false);
    let logprobs = top_count("logprobs", request.logprobs)?;
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
    let model = Generation {
        id: id.to_owned(),
        prompt: Prompt::Ids(Vec::new()),
        max_tokens: max_tokens("max_tokens", request.max_tokens, echo)?,
        candidates,
        sampling: sampling(numbers, logprobs, context.card)?,
        stop: stops(request.stop)?,
        ignore_eos: request.ignore_eos.unwrap_or(false),
        echo,
        priority: priority(request.priority, context),
        template_variables: std::collections::BTreeMap::new(),
        labels: Labels { key: context.caller.key.clone(), user: request.user, route: "/v1/completions" },
    };
    let several = prompts.len() > 1;
    let generations = prompts.into_iter().enumerate().map(|(i, prompt)| Generation {
        prompt,
        // Logs and usage records tell the prompts of one request apart.
        id: if several { format!("{id}-{i}") } else { id.to_owned() },
        ..model.clone()
    });
    let token_ids = request.return_tokens_as_token_ids.unwrap_or(false);
    let reply = ReplyStyle { stream, include_usage, logprobs: logprobs.is_some(), token_ids };
    Ok(Job { generations: generations.collect(), candidates, reply })
}

fn prompts(input: Option<PromptInput>, context: &Context<'_>) -> Result<Vec<Prompt>, ApiError> {
    let wrong = |message: String| Err(ApiError::field("prompt", message));
    let Some(input) = input else {
        return wrong(format!("`prompt` is missing; it must be {}", expected("prompt")));
    };
    let id_lists = match input {
        PromptInput::Text(text) => return Ok(vec![Prompt::Text(text)]),
        // An empty list reads as a list of ids.
        PromptInput::Ids(ids) => vec![ids],
        PromptInput::Texts(texts) => {
            bound_prompts(texts.len(), context)?;
            return Ok(texts.into_iter().map(Prompt::Text).collect());
        }
        PromptInput::IdLists(lists) => {
            bound_prompts(lists.len(), context)?;
            lists
        }
    };
    for ids in &id_lists {
        if ids.is_empty() {
            return wrong("`prompt` is an empty list; give at least one token id".to_owned());
        }
        for id in ids {
            if let Err(message) = in_vocabulary(*id, context.card) {
                return wrong(format!("`prompt`: {message}"));
            }
        }
    }
    Ok(id_lists.into_iter().map(Prompt::Ids).collect())
}

fn bound_prompts(count: usize, context: &Context<'_>) -> Result<(), ApiError> {
    if count as u64 > u64::from(context.max_choices) {
        let message =
            format!("`prompt` holds {count} prompts; at most {} are taken in one request", context.max_choices);
        return Err(ApiError::field("prompt", message));
    }
    Ok(())
}
