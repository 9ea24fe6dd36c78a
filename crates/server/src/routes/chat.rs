//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use protocol::{
    AssistantMessage, ChatChoice, ChatChunkChoice, ChatCompletion, ChatCompletionChunk, ChatCompletionRequest,
    ChatLogprobs, Delta, ErrorBody, Usage,
};
use service::LineEvent;

use super::tokens::chat_logprobs;
use super::{context, find_line, fingerprint, finish_word, read, submit};
use crate::app::{App, Ticket, new_id, unix_seconds};
use crate::error::ApiError;
use crate::request::{ReplyStyle, parse_chat};
use crate::sse::{self, Events, Failure, Frames, Gone, Writer};
use crate::usage;

/// Answers a chat, whole or (`stream`) as server-sent events.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    operation_id = "createChatCompletion",
    tag = "completions",
    request_body = ChatCompletionRequest,
    responses(
        (status = 200, description = "The answer, whole or as frames", content((ChatCompletion = "application/json"), (ChatCompletionChunk = "text/event-stream"))),
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
    let id = new_id("chatcmpl-");
    let job = parse_chat(object, &id, &context(&app, line.as_ref(), &caller))?;
    let card = line.card();
    let head =
        Head { id, created: unix_seconds(), model: card.id.clone(), fingerprint: fingerprint(card), style: job.reply };
    let events = sse::join(submit(line.as_ref(), job.generations).await?);
    if job.reply.stream {
        let writer = ChatWriter { head, candidates: job.candidates, usage: usage::none() };
        return Ok(sse::respond(events, writer, ticket, app.limits.reader_idle));
    }
    whole(events, head, job.candidates, ticket).await
}

struct Head {
    id: String,
    created: u64,
    model: String,
    fingerprint: String,
    style: ReplyStyle,
}

#[derive(Default)]
struct Candidate {
    text: String,
    logprobs: ChatLogprobs,
    finish_reason: Option<&'static str>,
}

async fn whole(mut events: Events, head: Head, candidates: u32, ticket: Ticket) -> Result<Response, ApiError> {
    let mut found: Vec<Candidate> = (0..candidates).map(|_| Candidate::default()).collect();
    let mut used = usage::none();
    while let Some((_, event)) = events.next().await {
        match event {
            LineEvent::Echo { .. } => {}
            LineEvent::Text { candidate, text, tokens } => {
                let Some(into) = found.get_mut(candidate as usize) else { continue };
                into.text.push_str(&text);
                if head.style.logprobs {
                    into.logprobs.content.extend(chat_logprobs(tokens, head.style.token_ids).content);
                }
            }
            LineEvent::Finished { candidate, reason } => {
                if let Some(into) = found.get_mut(candidate as usize) {
                    into.finish_reason = Some(finish_word(reason));
                }
            }
            LineEvent::Done(record) => usage::add(&mut used, &record),
            LineEvent::Failed(error, _) => return Err(error.into()),
        }
    }
    let choices = (0..).zip(found).map(|(index, candidate)| {
        let finish_reason = candidate.finish_reason.ok_or_else(|| ApiError::internal("an answer broke off"))?;
        Ok(ChatChoice {
            index,
            message: AssistantMessage { role: "assistant".to_owned(), content: Some(candidate.text), refusal: None },
            logprobs: head.style.logprobs.then_some(candidate.logprobs),
            finish_reason: finish_reason.to_owned(),
        })
    });
    let reply = ChatCompletion {
        choices: choices.collect::<Result<_, ApiError>>()?,
        id: head.id,
        object: "chat.completion".to_owned(),
        created: head.created,
        model: head.model,
        usage: used,
        system_fingerprint: Some(head.fingerprint),
    };
    drop(ticket);
    Ok(Json(reply).into_response())
}

struct ChatWriter {
    head: Head,
    candidates: u32,
    usage: Usage,
}

impl ChatWriter {
    fn chunk(&self, choices: Vec<ChatChunkChoice>) -> ChatCompletionChunk {
        ChatCompletionChunk {
            id: self.head.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.head.created,
            model: self.head.model.clone(),
            system_fingerprint: Some(self.head.fingerprint.clone()),
            choices,
            usage: self.head.style.include_usage.then_some(None),
        }
    }

    fn choice(
        &self,
        index: u32,
        delta: Delta,
        logprobs: Option<ChatLogprobs>,
        finish_reason: Option<&str>,
    ) -> ChatCompletionChunk {
        self.chunk(vec![ChatChunkChoice { index, delta, logprobs, finish_reason: finish_reason.map(str::to_owned) }])
    }
}

impl Writer for ChatWriter {
    async fn open(&mut self, frames: &Frames) -> Result<(), Gone> {
        for index in 0..self.candidates {
            let delta = Delta { role: Some("assistant".to_owned()), content: Some(String::new()) };
            frames.send(&self.choice(index, delta, None, None)).await?;
        }
        Ok(())
    }

    async fn event(&mut self, _number: u32, event: LineEvent, frames: &Frames) -> Result<(), Failure> {
        match event {
            LineEvent::Echo { .. } => {}
            LineEvent::Text { candidate, text, tokens } => {
                let logprobs = (self.head.style.logprobs && !tokens.is_empty())
                    .then(|| chat_logprobs(tokens, self.head.style.token_ids));
                if text.is_empty() && logprobs.is_none() {
                    return Ok(());
                }
                let delta = Delta { role: None, content: Some(text) };
                frames.send(&self.choice(candidate, delta, logprobs, None)).await?;
            }
            LineEvent::Finished { candidate, reason } => {
                frames.send(&self.choice(candidate, Delta::default(), None, Some(finish_word(reason)))).await?;
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
        let mut last = self.chunk(Vec::new());
        last.usage = Some(Some(std::mem::take(&mut self.usage)));
        frames.send(&last).await
    }
}
