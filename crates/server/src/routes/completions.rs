//! `/v1/completions`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use protocol::{Completion, CompletionChoice, CompletionLogprobs, CompletionRequest, Usage};
use service::TokenText;

use super::answer::{Choice, Ending, Form, Head, Key, Refusals, answer};
use super::tokens::{Offset, completion_logprobs};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::request::{Context, Job, parse_completion};

/// Goes on from text or token ids, whole or (`stream`) as server-sent events.
#[utoipa::path(
    post,
    path = "/v1/completions",
    operation_id = "createCompletion",
    tag = "completions",
    params(Key),
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The answer, whole or as frames", content((Completion = "application/json"), (Completion = "text/event-stream"))),
        Refusals
    )
)]
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    answer::<Text>(&app, request).await
}

struct Text {
    head: Head,
    /// Where each choice's next token begins.
    offsets: Vec<Offset>,
}

impl Text {
    /// The log-probabilities of a choice's next tokens.
    fn logprobs(&mut self, index: u32, tokens: Vec<TokenText>) -> Option<CompletionLogprobs> {
        let offset = self.offsets.get_mut(index as usize).filter(|_| self.head.style.logprobs)?;
        Some(completion_logprobs(tokens, offset, self.head.style.token_ids))
    }

    fn completion(&self, choices: Vec<CompletionChoice>, usage: Option<Option<Usage>>) -> Completion {
        Completion {
            id: self.head.id.clone(),
            object: "text_completion".to_owned(),
            created: self.head.created,
            model: self.head.model.clone(),
            system_fingerprint: Some(self.head.fingerprint.clone()),
            choices,
            usage,
            tokenworks: self.head.note.clone(),
        }
    }

    fn frame(&self, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> Completion {
        self.completion(choices, self.head.style.include_usage.then_some(usage))
    }
}

impl Form for Text {
    const ROUTE: &'static str = "/v1/completions";
    const ID_PREFIX: &'static str = "cmpl-";
    const PROMPT: &'static str = "prompt";
    type Whole = Completion;
    type Frame = Completion;

    fn parse(fields: Fields, context: &Context<'_>) -> Result<Job, ApiError> {
        parse_completion(fields, context)
    }

    fn new(head: Head) -> Self {
        Self { offsets: vec![Offset::default(); head.choices as usize], head }
    }

    fn head(&self) -> &Head {
        &self.head
    }

    fn opening(&self, _index: u32) -> Option<Completion> {
        None
    }

    fn text(&mut self, index: u32, text: String, tokens: Vec<TokenText>) -> Completion {
        let logprobs = if tokens.is_empty() { None } else { self.logprobs(index, tokens) };
        self.frame(vec![CompletionChoice { index, text, logprobs, finish_reason: None, tokenworks: None }], None)
    }

    fn end(&self, index: u32, ending: Ending) -> Completion {
        let (finish_reason, tokenworks) = (Some(ending.finish_reason()), ending.note());
        self.frame(
            vec![CompletionChoice { index, text: String::new(), logprobs: None, finish_reason, tokenworks }],
            None,
        )
    }

    fn usage(&self, usage: Usage) -> Completion {
        self.frame(Vec::new(), Some(usage))
    }

    fn whole(mut self, choices: Vec<Choice>, usage: Usage) -> Option<Completion> {
        let choices = (0..).zip(choices).map(|(index, choice)| CompletionChoice {
            index,
            text: choice.text,
            logprobs: self.logprobs(index, choice.tokens),
            finish_reason: choice.ending.map(Ending::finish_reason),
            tokenworks: choice.ending.and_then(Ending::note),
        });
        let choices = choices.collect();
        Some(self.completion(choices, Some(Some(usage))))
    }
}
