//! What both kinds of completions share: from the request to an answer, whole or as a stream of frames.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use economics::Currency;
use futures_util::StreamExt;
use inference::FinishReason;
use protocol::{AnswerNote, ChoiceNote, ErrorBody, Usage};
use serde::Serialize;
use service::{Chances, Generation, Lease, LineEvent, ModelCard, Reply, TokenText, TrafficCount, Withdrawal};
use sha2::{Digest as _, Sha256};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::{Response as Described, ResponseBuilder};
use utoipa::openapi::{Content, ObjectBuilder, Ref, RefOr, Required, Type};
use utoipa::{IntoParams, IntoResponses, ToSchema};

use super::{experiments, find_line, read_bytes};
use crate::app::{App, Ticket, new_id, unix_seconds};
use crate::auth::Caller;
use crate::body;
use crate::error::{ApiError, rate_headers};
use crate::fields::Fields;
use crate::idempotency::{self, Asked, Claim, Found, Recording};
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
    /// The experiment that the request belongs to.
    pub(super) note: Option<AnswerNote>,
    /// Candidates of each generation.
    candidates: u32,
    /// In which charges are shown.
    currency: Option<Currency>,
    /// Ids of the model's tokens run from 0 to this, exclusive.
    pub(super) vocab_size: usize,
    /// Choices of the answer, all generations together.
    pub(super) choices: u32,
}

/// One choice of a whole answer.
#[derive(Default)]
pub(super) struct Choice {
    pub(super) text: String,
    pub(super) tokens: Vec<TokenText>,
    pub(super) ending: Option<Ending>,
    /// What its first token was drawn from, if that was asked for.
    pub(super) chances: Option<Box<Chances>>,
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
    /// Whether a request says how many tokens it asks for at most.
    const SETS_LENGTH: bool = true;
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
    /// `None`: what it is made of did not come.
    fn whole(self, choices: Vec<Choice>, usage: Usage) -> Option<Self::Whole>;
}

/// From the request to the answer.
pub(super) async fn answer<F: Form>(app: &App, request: Request) -> Result<Response, ApiError> {
    let key = match idempotency::key(request.headers()) {
        Ok(key) => key.map(str::to_owned),
        Err(error) => {
            body::discard(request, &app.limits);
            return Err(error);
        }
    };
    let (ticket, caller, body) = read_bytes(app, request).await?;
    let fields = Fields::new(body::parse_object(&body.bytes)?);
    let (traffic, end) = TrafficCount::new(body.bytes.len() as u64);
    let asked = key.map(|key| Asked::new(&key, F::ROUTE, &caller, Sha256::digest(&body.bytes).into()));
    drop(body);
    let claim = match asked.zip(app.answers.as_ref()) {
        None => None,
        Some((asked, answers)) => match answers.ask(asked).await? {
            Found::Fresh(claim) => Some(claim),
            Found::Kept(replay) => return Ok(replay.respond(ticket)),
        },
    };
    let mut work = Work::<F>::plan(app, fields, &caller, ticket.clone()).await?;
    // That of all prompts of a request is its first one's.
    if let Some(payer) = work.generations.first_mut().and_then(|generation| generation.payer.as_mut()) {
        payer.traffic = Some(traffic);
    }
    let answer = match claim {
        None => work.run(None).await,
        Some(claim) => {
            let recording = Box::pin(work.record(claim));
            detached(ticket, recording).await
        }
    };
    answer.map(|answer| answer.map(|body| body::counted(body, end)))
}

/// Goes on when the client goes away; only the end of a drain stops it.
async fn detached(
    mut ticket: Ticket,
    work: impl Future<Output = Result<Response, ApiError>> + Send + 'static,
) -> Result<Response, ApiError> {
    let task = tokio::spawn(async move {
        tokio::select! {
            () = ticket.ended() => Err(ApiError::shutting_down()),
            answer = work => answer,
        }
    });
    task.await.unwrap_or_else(|failed| match failed.try_into_panic() {
        Ok(cause) => resume_unwind(cause),
        Err(_cancelled) => Err(ApiError::shutting_down()),
    })
}

/// A checked request, ready to run.
struct Work<F> {
    line: Lease,
    generations: Vec<Generation>,
    form: F,
    ticket: Ticket,
    reader_idle: Duration,
}

impl<F: Form> Work<F> {
    async fn plan(app: &App, mut fields: Fields, caller: &Caller, ticket: Ticket) -> Result<Self, ApiError> {
        // An arm may name the model.
        let membership = experiments::join(app, &mut fields, caller, F::SETS_LENGTH).await?;
        let line = find_line(app, &mut fields, false).await?;
        let card = line.card();
        let id = new_id(F::ID_PREFIX);
        let context = Context {
            id: &id,
            route: F::ROUTE,
            card,
            caller,
            joined: membership.as_ref().and_then(|membership| membership.joined.as_ref()),
            max_candidates: line.status().limits.max_candidates,
            max_choices: app.limits.max_choices,
        };
        let Job { generations, candidates, reply: style } = F::parse(fields, &context)?;
        let head = Head {
            created: unix_seconds(),
            model: card.id.clone(),
            fingerprint: fingerprint(card),
            style,
            note: membership.map(|membership| AnswerNote { experiment: membership.note }),
            candidates,
            vocab_size: card.vocab_size,
            currency: app.books.as_ref().map(|books| books.currency().clone()),
            choices: candidates.saturating_mul(u32::try_from(generations.len()).unwrap_or(u32::MAX)),
            id,
        };
        Ok(Self { line, generations, form: F::new(head), ticket, reader_idle: app.limits.reader_idle })
    }

    /// Runs under a key.
    async fn record(self, claim: Claim) -> Result<Response, ApiError> {
        let generations = u32::try_from(self.generations.len()).unwrap_or(u32::MAX);
        let recording = claim.begin(&self.form.head().id, generations).await?;
        self.run(Some(recording)).await
    }

    async fn run(self, recording: Option<Recording>) -> Result<Response, ApiError> {
        let Self { line, generations, form, ticket, reader_idle } = self;
        let replies = match submit(&line, generations).await {
            Ok(replies) => replies,
            Err(error) => {
                let failure = form.head().failure(error, false);
                return Err(failure.noted(recording).await.with_prompt_as(F::PROMPT));
            }
        };
        let standings = replies.last().map(Reply::standings).unwrap_or_default();
        let mut response = if form.head().style.stream {
            let events = sse::join(replies);
            sse::respond(ticket, reader_idle, recording, |frames| stream(events, form, frames))
        } else {
            let undelivered = Undelivered { withdrawals: replies.iter().map(Reply::withdrawal).collect(), ticket };
            match gather(sse::join(replies), form).await {
                Ok(bytes) => {
                    undelivered.delivered();
                    in_one_piece(bytes, recording).await
                }
                Err(failure) => {
                    // Nothing of it leaves, however far other generations have come.
                    undelivered.withdraw();
                    return Err(Failure { charged: false, ..failure }.noted(recording).await);
                }
            }
        };
        rate_headers(response.headers_mut(), &standings);
        Ok(response)
    }
}

/// A whole answer; kept before it leaves.
async fn in_one_piece(bytes: Vec<u8>, recording: Option<Recording>) -> Response {
    if let Some(mut recording) = recording {
        recording.take(&bytes);
        recording.keep(false).await;
    }
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response()
}

/// A whole answer that is not made yet. When the server ends it, by a failure or at the end of a drain, it costs nothing;
/// when its client goes away it costs what was made until then.
struct Undelivered {
    withdrawals: Vec<Withdrawal>,
    ticket: Ticket,
}

impl Undelivered {
    fn delivered(mut self) {
        self.withdrawals.clear();
    }

    fn withdraw(mut self) {
        self.withdrawals.drain(..).for_each(Withdrawal::withdraw);
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        if self.ticket.has_ended() {
            self.withdrawals.drain(..).for_each(Withdrawal::withdraw);
        }
    }
}

/// Why a request did not come to its end.
struct Failure {
    error: ApiError,
    /// Something may have been charged.
    charged: bool,
}

impl Failure {
    /// The error, once what it means for the key is written.
    async fn noted(self, recording: Option<Recording>) -> ApiError {
        if let Some(recording) = recording {
            recording.fail(&self.error, self.charged).await;
        }
        self.error
    }
}

/// Changes with the program or the model.
fn fingerprint(card: &ModelCard) -> String {
    format!("tokenworks-{}-{}", env!("CARGO_PKG_VERSION"), card.created)
}

/// Submits all or none: when one is refused, those accepted before stop and cost nothing.
async fn submit(line: &Lease, generations: Vec<Generation>) -> Result<Vec<Reply>, ApiError> {
    let mut replies = Vec::with_capacity(generations.len());
    for generation in generations {
        match line.submit(generation).await {
            Ok(reply) => replies.push(reply),
            Err(error) => {
                replies.iter().map(Reply::withdrawal).for_each(Withdrawal::withdraw);
                return Err(error.into());
            }
        }
    }
    Ok(replies)
}

/// What an event says about the choices of the answer.
enum News {
    Text { index: u32, text: String, tokens: Vec<TokenText> },
    Chances { index: u32, chances: Box<Chances> },
    End { index: u32, ending: Ending },
}

/// What the generations of a request used so far.
struct Used {
    usage: Usage,
    charges: Charges,
    /// Something came.
    any: bool,
}

impl Used {
    fn nothing() -> Self {
        Self { usage: usage::none(), charges: Charges::default(), any: false }
    }
}

impl Head {
    fn shown(&self, used: Used) -> Usage {
        let charged = self.currency.as_ref().and_then(|currency| used.charges.shown(currency));
        Usage { charged, ..used.usage }
    }

    /// `ran`: some of it ran, which the books charge where there are any.
    fn failure(&self, error: ApiError, ran: bool) -> Failure {
        Failure { error, charged: ran && self.currency.is_some() }
    }

    fn broke_off(&self) -> Failure {
        self.failure(ApiError::internal("an answer broke off"), true)
    }

    /// Adds usage to `used`.
    fn news(&self, number: u32, event: LineEvent, used: &mut Used) -> Result<Vec<News>, Failure> {
        // Prompt-major.
        let index = |candidate: u32| number.saturating_mul(self.candidates).saturating_add(candidate);
        match event {
            LineEvent::Echo { text, tokens } => {
                used.any = true;
                Ok((0..self.candidates)
                    .map(|candidate| News::Text { index: index(candidate), text: text.clone(), tokens: tokens.clone() })
                    .collect())
            }
            LineEvent::Text { candidate, text, tokens } => {
                used.any = true;
                Ok(vec![News::Text { index: index(candidate), text, tokens }])
            }
            LineEvent::Chances { candidate, chances } => {
                used.any = true;
                Ok(vec![News::Chances { index: index(candidate), chances }])
            }
            LineEvent::Finished { candidate, reason } => {
                // Also without a text: its end was delivered.
                used.any = true;
                Ok(vec![News::End { index: index(candidate), ending: reason.into() }])
            }
            LineEvent::Done(record, charge) => {
                usage::add(&mut used.usage, &record);
                charge.iter().for_each(|charge| used.charges.add(charge));
                Ok(Vec::new())
            }
            LineEvent::Failed(error, _) => {
                // The books charge nothing for what failed before anything of it was delivered; other generations may
                // have come further.
                Err(self.failure(error.into(), used.any || self.choices > self.candidates))
            }
        }
    }
}

/// The body of a whole answer.
async fn gather<F: Form>(mut events: Events, form: F) -> Result<Vec<u8>, Failure> {
    let mut choices: Vec<Choice> = (0..form.head().choices).map(|_| Choice::default()).collect();
    let mut used = Used::nothing();
    while let Some((number, event)) = events.next().await {
        for news in form.head().news(number, event, &mut used)? {
            let (News::Text { index, .. } | News::Chances { index, .. } | News::End { index, .. }) = news;
            let Some(choice) = choices.get_mut(index as usize) else { continue };
            match news {
                News::Text { text, tokens, .. } => {
                    choice.text.push_str(&text);
                    choice.tokens.extend(tokens);
                }
                News::Chances { chances, .. } => {
                    choice.chances.get_or_insert(chances);
                }
                News::End { ending, .. } => choice.ending = Some(ending),
            }
        }
    }
    if choices.iter().any(|choice| choice.ending.is_none()) {
        return Err(form.head().broke_off());
    }
    let used = form.head().shown(used);
    let unwritten = form.head().failure(ApiError::internal("an answer could not be written"), true);
    let broken = form.head().broke_off();
    let whole = form.whole(choices, used).ok_or(broken)?;
    serde_json::to_vec(&whole).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        unwritten
    })
}

/// Why a stream ends early.
enum Broken {
    Gone,
    Failed(Failure),
}

impl From<Gone> for Broken {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

async fn stream<F: Form>(events: Events, form: F, mut frames: Frames) {
    match write(events, form, &mut frames).await {
        Ok(()) => frames.done().await,
        Err(Broken::Failed(failure)) => frames.fail(&failure.error, failure.charged).await,
        Err(Broken::Gone) => {}
    }
}

async fn write<F: Form>(mut events: Events, mut form: F, frames: &mut Frames) -> Result<(), Broken> {
    let (style, choices) = (form.head().style, form.head().choices);
    for index in 0..choices {
        if let Some(frame) = form.opening(index) {
            frames.send(&frame).await?;
        }
    }
    let mut used = Used::nothing();
    let mut ended = 0;
    while let Some((number, event)) = events.next().await {
        for news in form.head().news(number, event, &mut used)? {
            let frame = match news {
                News::Text { text, tokens, .. } if text.is_empty() && (tokens.is_empty() || !style.logprobs) => {
                    continue;
                }
                // What answers with these is never streamed.
                News::Chances { .. } => continue,
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
        return Err(form.head().broke_off().into());
    }
    if style.include_usage {
        frames.send(&form.usage(form.head().shown(used))).await?;
    }
    Ok(())
}

/// The header both kinds of completions take, for the description of the API.
pub(super) struct Key;

impl IntoParams for Key {
    fn into_params(_in: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(idempotency::MAX_KEY_BYTES));
        let key = ParameterBuilder::new()
            .name(idempotency::KEY)
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some(
                "Names the request for 24 hours: sent again under the same key it is answered as the first time \
                 (`idempotent-replayed: true`) and charged once. Visible ASCII",
            ))
            .schema(Some(text));
        vec![key.build()]
    }
}

/// The error answers, for the description of the API.
pub(super) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        let refusals = [
            ("400", "A field is wrong; `param` names it"),
            ("401", "A key is needed"),
            ("402", "The budget, the pool or the account is spent: waiting does not help"),
            ("403", "The key may not do this, its owner is suspended, or the model has no price for it"),
            ("404", "The model is not served here"),
            ("408", "The body did not arrive in time"),
            (
                "409",
                "The Idempotency-Key has another body, is under way (see Retry-After), or has no answer to give again",
            ),
            ("413", "The body is too large"),
            ("429", "A rate limit, money that running answers hold, or a full queue; see Retry-After"),
            ("503", "No room, shutting down, or the books take nothing (`books_closed`); see Retry-After"),
        ];
        let content = Content::new(Some(Ref::from_schema_name(ErrorBody::name())));
        let response = |description| {
            ResponseBuilder::new().description(description).content("application/json", content.clone()).build()
        };
        refusals.map(|(status, description)| (status.to_owned(), response(description).into())).into()
    }
}
