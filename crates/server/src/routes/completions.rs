//! `/v1/completions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use protocol::{Completion, CompletionChoice, CompletionLogprobs, CompletionRequest, ErrorBody, Usage};
use service::{LineEvent, TokenText};

use super::tokens::{Offset, push_completion_logprobs};
use super::{context, find_line, fingerprint, finish_word, read, submit};
use crate::app::{App, Ticket, new_id, unix_seconds};
use crate::error::ApiError;
use crate::request::{ReplyStyle, parse_completion};
use crate::sse::{self, Events, Failure, Frames, Gone, Writer};
use crate::usage;

/// Goes on from text or token ids, whole or (`stream`) as server-sent events.
#[utoipa::path(
    post,
    path = "/v1/completions",
    operation_id = "createCompletion",
    tag = "completions",
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The answer, whole or as frames", content((Completion = "application/json"), (Completion = "text/event-stream"))),
        (status = 400, body = ErrorBody, description = "A field is wrong; `param` names it"),
        (status = 401, body = ErrorBody, description = "A key is needed"),
        (status = 404, body = ErrorBody, description = "The model is not served here"),
        (status = 413, body = ErrorBody, description = "The body is too large"),
        (status = 429, body = ErrorBody, description = "The queue is full; see Retry-After"),
        (status = 503, body = ErrorBody, description = "No room, or shutting down; see Retry-After")
    )
)]
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let ticket = app.admit()?;
    let (caller, object) = read(&app, request).await?;
    let line = Arc::clone(find_line(&app, &object, false)?);
    let id = new_id("cmpl-");
    let job = parse_completion(object, &id, &context(&app, line.as_ref(), &caller))?;
    let choices = job.generations.len() * job.candidates as usize;
    let card = line.card();
    let head = Head {
        id,
        created: unix_seconds(),
        model: card.id.clone(),
        fingerprint: fingerprint(card),
        style: job.reply,
        candidates: job.candidates,
    };
    let events = sse::join(submit(line.as_ref(), job.generations).await?);
    if job.reply.stream {
        let offsets = vec![Offset::default(); choices];
        let writer = CompletionWriter { head, offsets, usage: usage::none() };
        return Ok(sse::respond(events, writer, ticket, app.limits.reader_idle));
    }
    whole(events, head, choices, ticket).await
}

struct Head {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    style: ReplyStyle,
    candidates: u32,
}

impl Head {
    /// The index of a candidate of a generation; prompt-major.
    fn index(&self, number: u32, candidate: u32) -> u32 {
        number.saturating_mul(self.candidates).saturating_add(candidate)
    }

    fn completion(&self, choices: Vec<CompletionChoice>) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion".to_owned(),
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: Some(self.fingerprint.clone()),
            choices,
            usage: None,
        }
    }
}

#[derive(Default)]
struct Choice {
    text: String,
    logprobs: CompletionLogprobs,
    offset: Offset,
    finish_reason: Option<&'static str>,
}

async fn whole(mut events: Events, head: Head, choices: usize, ticket: Ticket) -> Result<Response, ApiError> {
    let mut found: Vec<Choice> = (0..choices).map(|_| Choice::default()).collect();
    let mut used = usage::none();
    let style = head.style;
    let append = |choice: Option<&mut Choice>, text: &str, tokens: Vec<TokenText>| {
        let Some(choice) = choice else { return };
        choice.text.push_str(text);
        if style.logprobs {
            push_completion_logprobs(&mut choice.logprobs, tokens, &mut choice.offset, style.token_ids);
        }
    };
    while let Some((number, event)) = events.next().await {
        match event {
            LineEvent::Echo { text, tokens } => {
                for candidate in 0..head.candidates {
                    append(found.get_mut(head.index(number, candidate) as usize), &text, tokens.clone());
                }
            }
            LineEvent::Text { candidate, text, tokens } => {
                append(found.get_mut(head.index(number, candidate) as usize), &text, tokens);
            }
            LineEvent::Finished { candidate, reason } => {
                if let Some(choice) = found.get_mut(head.index(number, candidate) as usize) {
                    choice.finish_reason = Some(finish_word(reason));
                }
            }
            LineEvent::Done(record) => usage::add(&mut used, &record),
            LineEvent::Failed(error, _) => return Err(error.into()),
        }
    }
    let choices = (0..).zip(found).map(|(index, choice)| {
        let finish_reason = choice.finish_reason.ok_or_else(|| ApiError::internal("an answer broke off"))?;
        Ok(CompletionChoice {
            index,
            text: choice.text,
            logprobs: style.logprobs.then_some(choice.logprobs),
            finish_reason: Some(finish_reason.to_owned()),
        })
    });
    let mut reply = head.completion(choices.collect::<Result<_, ApiError>>()?);
    reply.usage = Some(Some(used));
    drop(ticket);
    Ok(Json(reply).into_response())
}

struct CompletionWriter {
    head: Head,
    offsets: Vec<Offset>,
    usage: Usage,
}

impl CompletionWriter {
    async fn send(&self, choices: Vec<CompletionChoice>, usage: Option<Usage>, frames: &Frames) -> Result<(), Gone> {
        let mut chunk = self.head.completion(choices);
        chunk.usage = self.head.style.include_usage.then_some(usage);
        frames.send(&chunk).await
    }

    async fn text(&mut self, index: u32, text: String, tokens: Vec<TokenText>, frames: &Frames) -> Result<(), Gone> {
        let style = self.head.style;
        let logprobs = (style.logprobs && !tokens.is_empty()).then(|| {
            let mut logprobs = CompletionLogprobs::default();
            if let Some(offset) = self.offsets.get_mut(index as usize) {
                push_completion_logprobs(&mut logprobs, tokens, offset, style.token_ids);
            }
            logprobs
        });
        if text.is_empty() && logprobs.is_none() {
            return Ok(());
        }
        self.send(vec![CompletionChoice { index, text, logprobs, finish_reason: None }], None, frames).await
    }
}

impl Writer for CompletionWriter {
    async fn open(&mut self, _frames: &Frames) -> Result<(), Gone> {
        Ok(())
    }

    async fn event(&mut self, number: u32, event: LineEvent, frames: &Frames) -> Result<(), Failure> {
        match event {
            LineEvent::Echo { text, tokens } => {
                for candidate in 0..self.head.candidates {
                    let index = self.head.index(number, candidate);
                    self.text(index, text.clone(), tokens.clone(), frames).await?;
                }
            }
            LineEvent::Text { candidate, text, tokens } => {
                self.text(self.head.index(number, candidate), text, tokens, frames).await?;
            }
            LineEvent::Finished { candidate, reason } => {
                let choice = CompletionChoice {
                    index: self.head.index(number, candidate),
                    text: String::new(),
                    logprobs: None,
                    finish_reason: Some(finish_word(reason).to_owned()),
                };
                self.send(vec![choice], None, frames).await?;
            }
            LineEvent::Done(record) => usage::add(&mut self.usage, &record),
            LineEvent::Failed(error, _) => return Err(Failure::Error(error.into())),
        }
        Ok(())
    }

    async fn close(&mut self, frames: &Frames) -> Result<(), Gone> {
        if !self.head.style.include_usage {
            return Ok(());
        }
        let usage = std::mem::take(&mut self.usage);
        self.send(Vec::new(), Some(usage), frames).await
    }
}
