//! What both kinds of completions share: from the request to an answer, whole or as a stream of frames.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use economics::Currency;
use futures_util::StreamExt;
use inference::FinishReason;
use protocol::{ChoiceNote, ErrorBody, Usage};
use serde::Serialize;
use service::{Generation, Line, LineEvent, ModelCard, Reply, TokenText};
use utoipa::openapi::response::{Response as Described, ResponseBuilder};
use utoipa::openapi::{Content, Ref, RefOr};
use utoipa::{IntoResponses, ToSchema};

use super::{find_line, read};
use crate::app::{App, new_id, unix_seconds};
use crate::error::{ApiError, rate_headers};
use crate::fields::Fields;
use crate::request::{Context, Job, ReplyStyle};
use crate::sse::{self, Events, Frames, Gone};
use crate::usage::{self, Charges};

/// The facts that every part of an answer repeats.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    /// Changes with the program or the model.
    pub(super) fingerprint: String,
    pub(super) style: ReplyStyle,
    /// Candidates of each generation.
    candidates: u32,
    /// In which charges are shown.
    currency: Option<Currency>,
    /// Choices of the answer, all generations together.
    pub(super) choices: u32,
}

/// One choice of a whole answer.
#[derive(Default)]
pub(super) struct Choice {
    pub(super) text: String,
    pub(super) tokens: Vec<TokenText>,
    pub(super) ending: Option<Ending>,
}

/// Why a choice ended.
#[derive(Clone, Copy)]
pub(super) struct Ending {
    finish_reason: &'static str,
    /// What may be spent is spent.
    budget: bool,
}

impl Ending {
    pub(super) fn finish_reason(self) -> String {
        self.finish_reason.to_owned()
    }

    pub(super) fn note(self) -> Option<ChoiceNote> {
        self.budget.then(|| ChoiceNote { stop: "budget".to_owned() })
    }
}

impl From<FinishReason> for Ending {
    fn from(reason: FinishReason) -> Self {
        let finish_reason = match reason {
            FinishReason::Stop => "stop",
            FinishReason::Length | FinishReason::Allowance => "length",
            FinishReason::Cancelled => "abort",
        };
        Self { finish_reason, budget: reason == FinishReason::Allowance }
    }
}

/// How one API writes its answers.
pub(super) trait Form: Send + 'static {
    const ROUTE: &'static str;
    const ID_PREFIX: &'static str;
    /// The field that holds what the line calls the prompt.
    const PROMPT: &'static str;
    type Whole: Serialize;
    type Frame: Serialize + Send + Sync;

    fn parse(fields: Fields, context: &Context<'_>) -> Result<Job, ApiError>;
    fn new(head: Head) -> Self;
    fn head(&self) -> &Head;
    /// The frame that opens a choice, if there is one.
    fn opening(&self, index: u32) -> Option<Self::Frame>;
    /// More of a choice.
    fn text(&mut self, index: u32, text: String, tokens: Vec<TokenText>) -> Self::Frame;
    /// The end of a choice.
    fn end(&self, index: u32, ending: Ending) -> Self::Frame;
    /// The last frame, with `include_usage`.
    fn usage(&self, usage: Usage) -> Self::Frame;
    fn whole(self, choices: Vec<Choice>, usage: Usage) -> Self::Whole;
}

/// From the request to the answer.
pub(super) async fn answer<F: Form>(app: &App, request: Request) -> Result<Response, ApiError> {
    let (ticket, caller, mut fields) = read(app, request).await?;
    let line = find_line(app, &mut fields, false)?;
    let card = line.card();
    let id = new_id(F::ID_PREFIX);
    let context = Context {
        id: &id,
        route: F::ROUTE,
        card,
        caller: &caller,
        max_candidates: line.status().limits.max_candidates,
        max_choices: app.limits.max_choices,
    };
    let job = F::parse(fields, &context)?;
    let head = Head {
        created: unix_seconds(),
        model: card.id.clone(),
        fingerprint: fingerprint(card),
        style: job.reply,
        candidates: job.candidates,
        currency: app.books.as_ref().map(|books| books.currency().clone()),
        choices: job.candidates.saturating_mul(u32::try_from(job.generations.len()).unwrap_or(u32::MAX)),
        id,
    };
    let replies = submit(line, job.generations).await.map_err(|error| error.with_prompt_as(F::PROMPT))?;
    let standings = replies.last().map(Reply::standings).unwrap_or_default();
    let events = sse::join(replies);
    let form = F::new(head);
    if job.reply.stream {
        let mut response = sse::respond(ticket, app.limits.reader_idle, |frames| stream(events, form, frames));
        rate_headers(response.headers_mut(), &standings);
        return Ok(response);
    }
    let whole = gather(events, form).await?;
    drop(ticket);
    let mut response = Json(whole).into_response();
    rate_headers(response.headers_mut(), &standings);
    Ok(response)
}

/// Changes with the program or the model.
fn fingerprint(card: &ModelCard) -> String {
    format!("tokenworks-{}-{}", env!("CARGO_PKG_VERSION"), card.created)
}

/// Submits all or none: when one is refused, those accepted before are cancelled by the drop.
async fn submit(line: &Arc<dyn Line>, generations: Vec<Generation>) -> Result<Vec<Reply>, ApiError> {
    let mut replies = Vec::with_capacity(generations.len());
    for generation in generations {
        replies.push(line.submit(generation).await?);
    }
    Ok(replies)
}

/// What an event says about the choices of the answer.
enum News {
    Text { index: u32, text: String, tokens: Vec<TokenText> },
    End { index: u32, ending: Ending },
}

/// What the generations of a request used so far.
struct Used {
    usage: Usage,
    charges: Charges,
}

impl Used {
    fn nothing() -> Self {
        Self { usage: usage::none(), charges: Charges::default() }
    }
}

impl Head {
    fn shown(&self, used: Used) -> Usage {
        let charged = self.currency.as_ref().and_then(|currency| used.charges.shown(currency));
        Usage { charged, ..used.usage }
    }

    /// Adds usage to `used`.
    fn news(&self, number: u32, event: LineEvent, used: &mut Used) -> Result<Vec<News>, ApiError> {
        // Prompt-major.
        let index = |candidate: u32| number.saturating_mul(self.candidates).saturating_add(candidate);
        match event {
            LineEvent::Echo { text, tokens } => Ok((0..self.candidates)
                .map(|candidate| News::Text { index: index(candidate), text: text.clone(), tokens: tokens.clone() })
                .collect()),
            LineEvent::Text { candidate, text, tokens } => {
                Ok(vec![News::Text { index: index(candidate), text, tokens }])
            }
            LineEvent::Finished { candidate, reason } => {
                Ok(vec![News::End { index: index(candidate), ending: reason.into() }])
            }
            LineEvent::Done(record, charge) => {
                usage::add(&mut used.usage, &record);
                charge.iter().for_each(|charge| used.charges.add(charge));
                Ok(Vec::new())
            }
            LineEvent::Failed(error, _) => Err(error.into()),
        }
    }
}

fn broke_off() -> ApiError {
    ApiError::internal("an answer broke off")
}

async fn gather<F: Form>(mut events: Events, form: F) -> Result<F::Whole, ApiError> {
    let mut choices: Vec<Choice> = (0..form.head().choices).map(|_| Choice::default()).collect();
    let mut used = Used::nothing();
    while let Some((number, event)) = events.next().await {
        for news in form.head().news(number, event, &mut used)? {
            let (News::Text { index, .. } | News::End { index, .. }) = news;
            let Some(choice) = choices.get_mut(index as usize) else { continue };
            match news {
                News::Text { text, tokens, .. } => {
                    choice.text.push_str(&text);
                    choice.tokens.extend(tokens);
                }
                News::End { ending, .. } => choice.ending = Some(ending),
            }
        }
    }
    if choices.iter().any(|choice| choice.ending.is_none()) {
        return Err(broke_off());
    }
    let used = form.head().shown(used);
    Ok(form.whole(choices, used))
}

async fn stream<F: Form>(mut events: Events, mut form: F, frames: Frames) -> Result<(), Gone> {
    let (style, choices) = (form.head().style, form.head().choices);
    for index in 0..choices {
        if let Some(frame) = form.opening(index) {
            frames.send(&frame).await?;
        }
    }
    let mut used = Used::nothing();
    let mut ended = 0;
    while let Some((number, event)) = events.next().await {
        let news = match form.head().news(number, event, &mut used) {
            Ok(news) => news,
            Err(error) => return frames.fail(&error).await,
        };
        for news in news {
            let frame = match news {
                News::Text { text, tokens, .. } if text.is_empty() && (tokens.is_empty() || !style.logprobs) => {
                    continue;
                }
                News::Text { index, text, tokens } => form.text(index, text, tokens),
                News::End { index, ending } => {
                    ended += 1;
                    form.end(index, ending)
                }
            };
            frames.send(&frame).await?;
        }
    }
    if ended < choices {
        return frames.fail(&broke_off()).await;
    }
    if style.include_usage {
        frames.send(&form.usage(form.head().shown(used))).await?;
    }
    frames.done().await
}

/// The error answers, for the description of the API.
pub(super) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        let refusals = [
            ("400", "A field is wrong; `param` names it"),
            ("401", "A key is needed"),
            ("404", "The model is not served here"),
            ("408", "The body did not arrive in time"),
            ("413", "The body is too large"),
            ("415", "The body is not plain JSON"),
            ("429", "The queue is full; see Retry-After"),
            ("503", "No room, or shutting down; see Retry-After"),
        ];
        let content = Content::new(Some(Ref::from_schema_name(ErrorBody::name())));
        let response = |description| {
            ResponseBuilder::new().description(description).content("application/json", content.clone()).build()
        };
        refusals.map(|(status, description)| (status.to_owned(), response(description).into())).into()
    }
}
