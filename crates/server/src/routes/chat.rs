//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use protocol::{
    AssistantMessage, ChatChoice, ChatChunkChoice, ChatCompletion, ChatCompletionChunk, ChatCompletionRequest,
    ChatLogprobs, Delta, Usage,
};
use service::TokenText;

use super::answer::{Choice, Ending, Form, Head, Key, Refusals, answer};
use super::tokens::chat_logprobs;
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::request::{Context, Job, parse_chat};

/// Answers a chat, whole or (`stream`) as server-sent events.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    operation_id = "createChatCompletion",
    tag = "completions",
    params(Key),
    request_body = ChatCompletionRequest,
    responses(
        (status = 200, description = "The answer, whole or as frames", content((ChatCompletion = "application/json"), (ChatCompletionChunk = "text/event-stream"))),
        Refusals
    )
)]
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    answer::<Chat>(&app, request).await
}

struct Chat {
    head: Head,
}

impl Chat {
    fn logprobs(&self, tokens: Vec<TokenText>) -> ChatLogprobs {
        chat_logprobs(tokens, self.head.style.token_ids)
    }

    fn chunk(&self, choices: Vec<ChatChunkChoice>, usage: Option<Usage>) -> ChatCompletionChunk {
        ChatCompletionChunk {
            id: self.head.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.head.created,
            model: self.head.model.clone(),
            system_fingerprint: Some(self.head.fingerprint.clone()),
            choices,
            usage: self.head.style.include_usage.then_some(usage),
            tokenworks: self.head.note.clone(),
        }
    }
}

impl Form for Chat {
    const ROUTE: &'static str = "/v1/chat/completions";
    const ID_PREFIX: &'static str = "chatcmpl-";
    const PROMPT: &'static str = "messages";
    type Whole = ChatCompletion;
    type Frame = ChatCompletionChunk;

    fn parse(fields: Fields, context: &Context<'_>) -> Result<Job, ApiError> {
        parse_chat(fields, context)
    }

    fn new(head: Head) -> Self {
        Self { head }
    }

    fn head(&self) -> &Head {
        &self.head
    }

    fn opening(&self, index: u32) -> Option<ChatCompletionChunk> {
        let delta = Delta { role: Some("assistant".to_owned()), content: Some(String::new()) };
        Some(
            self.chunk(
                vec![ChatChunkChoice { index, delta, logprobs: None, finish_reason: None, tokenworks: None }],
                None,
            ),
        )
    }

    fn text(&mut self, index: u32, text: String, tokens: Vec<TokenText>) -> ChatCompletionChunk {
        let logprobs = (self.head.style.logprobs && !tokens.is_empty()).then(|| self.logprobs(tokens));
        let delta = Delta { role: None, content: Some(text) };
        self.chunk(vec![ChatChunkChoice { index, delta, logprobs, finish_reason: None, tokenworks: None }], None)
    }

    fn end(&self, index: u32, ending: Ending) -> ChatCompletionChunk {
        let (finish_reason, tokenworks) = (Some(ending.finish_reason()), ending.note());
        let delta = Delta::default();
        self.chunk(vec![ChatChunkChoice { index, delta, logprobs: None, finish_reason, tokenworks }], None)
    }

    fn usage(&self, usage: Usage) -> ChatCompletionChunk {
        self.chunk(Vec::new(), Some(usage))
    }

    fn whole(self, choices: Vec<Choice>, usage: Usage) -> Option<ChatCompletion> {
        let choices = (0..).zip(choices).map(|(index, choice)| ChatChoice {
            index,
            message: AssistantMessage { role: "assistant".to_owned(), content: Some(choice.text), refusal: None },
            logprobs: self.head.style.logprobs.then(|| self.logprobs(choice.tokens)),
            finish_reason: choice.ending.map(Ending::finish_reason).unwrap_or_default(),
            tokenworks: choice.ending.and_then(Ending::note),
        });
        Some(ChatCompletion {
            choices: choices.collect(),
            id: self.head.id,
            object: "chat.completion".to_owned(),
            created: self.head.created,
            model: self.head.model,
            usage,
            system_fingerprint: Some(self.head.fingerprint),
            tokenworks: self.head.note,
        })
    }
}
