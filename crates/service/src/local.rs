//! A line in this process: tokenizer, chat template and engine.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use economics::books::{Admission, AdmitError};
use inference::{Adapter, CancelToken, Control, Engine, Request, RequestId, SubmitError, TokenId};
use ledger::EntryId;
use metering::intervals::Holder;
use metering::{Meter, Rejection, UsageRecord};
use tokenizer::{TemplateRenderer, Tokenizer};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use traces::Traces;

use crate::account::{Account, Opening};
use crate::assembly::{Assembly, Echo, Plan};
use crate::callers::{cache_salt, client};
use crate::charging::{Bill, Charging, entry_id, now_ms};
use crate::costing::LineNumber;
use crate::pieces::Pieces;
use crate::prompt;
use crate::stop::{StopControl, StopSet};
use crate::tracer::{Texts, Tracer};
use crate::{
    BoxFuture, ErrorKind, Generation, Line, LineCalibration, LineError, LineStatus, Merges, Message, ModelCard, Prompt,
    Reply, TokenText,
};

/// Text longer than this is tokenized off the async runtime's threads.
const LONG_TEXT_BYTES: usize = 8 * 1024;
/// Long texts that are tokenized at the same time, and chats; further ones wait their turn.
const TEXTS_AT_ONCE: usize = 2;
/// How long a chat or a long text may wait for its turn; it comes at once unless others are very long or the template is very slow.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// Admissions that may keep a thread of the runtime waiting at one time. It has others in their place, but not without
/// end: further admissions wait on its blocking threads.
const ADMISSIONS_IN_PLACE: usize = 16;
/// Most bytes of a caller's word (key, user) that a usage record keeps.
const MAX_LABEL_BYTES: usize = 256;

/// What a line is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalLineConfig {
    /// The name clients use.
    pub id: String,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// Unix seconds when it was loaded.
    pub created: u64,
    /// For people: what its engine predicted steps by at its start.
    pub calibration: String,
}

/// A line over an engine in this process.
pub struct LocalLine {
    card: ModelCard,
    tokenizer: Arc<Tokenizer>,
    template: Option<Arc<dyn TemplateRenderer>>,
    engine: Arc<dyn Engine>,
    meter: Arc<Meter>,
    next_id: Arc<AtomicU64>,
    open: AtomicBool,
    long_texts: Arc<Semaphore>,
    chats: Arc<Semaphore>,
    texts_waiting: Arc<Semaphore>,
    in_place: Arc<Semaphore>,
    charging: Option<Arc<Charging>>,
    /// Keeps the last requests, if that is wanted.
    traces: Option<Arc<Traces>>,
    /// Under which its engine's work is counted; shared with the lines of adapters.
    number: Option<Arc<LineNumber>>,
    /// What its requests change the model by.
    adapter: Option<Adapter>,
    /// What its engine predicted steps by at its start.
    calibration: String,
}

impl LocalLine {
    /// A line that takes requests at once. Context length and vocabulary are the engine's.
    #[must_use]
    pub fn new(
        config: LocalLineConfig,
        tokenizer: Tokenizer,
        template: Option<Arc<dyn TemplateRenderer>>,
        engine: Arc<dyn Engine>,
        meter: Arc<Meter>,
    ) -> Self {
        let limits = engine.limits();
        let card = ModelCard {
            id: config.id,
            aliases: config.aliases,
            base: None,
            created: config.created,
            context_len: limits.context_len,
            vocab_size: limits.vocab_size,
            has_chat_template: template.is_some(),
        };
        Self {
            card,
            tokenizer: Arc::new(tokenizer),
            template,
            engine,
            meter,
            next_id: Arc::default(),
            open: AtomicBool::new(true),
            long_texts: Arc::new(Semaphore::new(TEXTS_AT_ONCE)),
            chats: Arc::new(Semaphore::new(TEXTS_AT_ONCE)),
            texts_waiting: Arc::new(Semaphore::new(limits.max_waiting.min(Semaphore::MAX_PERMITS))),
            in_place: Arc::new(Semaphore::new(ADMISSIONS_IN_PLACE)),
            charging: None,
            traces: None,
            number: None,
            adapter: None,
            calibration: config.calibration,
        }
    }

    /// The same line, with every request charged in these books.
    #[must_use]
    pub fn charged(self, charging: Arc<Charging>) -> Self {
        let number = charging.register(&self.engine);
        Self { charging: Some(charging), number, ..self }
    }

    /// The same line, with every request that its engine takes traced.
    #[must_use]
    pub fn traced(self, traces: Arc<Traces>) -> Self {
        Self { traces: Some(traces), ..self }
    }

    /// A line of its own for an adapter of this line's model, over the same engine; its requests take part in the bounds of
    /// this one, and its end leaves this one as it is. It has a full name and no others.
    #[must_use]
    pub fn adapted(&self, config: LocalLineConfig, adapter: Adapter) -> Self {
        let LocalLineConfig { id, aliases, created, calibration: _ } = config;
        let card = ModelCard { id, aliases, created, base: Some(self.card.id.clone()), ..self.card.clone() };
        Self {
            card,
            tokenizer: Arc::clone(&self.tokenizer),
            template: self.template.clone(),
            engine: Arc::clone(&self.engine),
            meter: Arc::clone(&self.meter),
            next_id: Arc::clone(&self.next_id),
            open: AtomicBool::new(true),
            long_texts: Arc::clone(&self.long_texts),
            chats: Arc::clone(&self.chats),
            texts_waiting: Arc::clone(&self.texts_waiting),
            in_place: Arc::clone(&self.in_place),
            charging: self.charging.clone(),
            traces: self.traces.clone(),
            number: self.number.clone(),
            adapter: Some(adapter),
            calibration: self.calibration.clone(),
        }
    }

    async fn accept(&self, mut generation: Generation) -> Result<Reply, LineError> {
        let (received, received_ms) = (Instant::now(), now_ms());
        let limits = self.engine.limits();
        self.check_open(&limits)?;
        prompt::check(&generation, &limits)?;
        let mut ids = self.encode(&mut generation).await?;
        ids.extend(&generation.answered);
        generation.sampling.made_before = u32::try_from(generation.answered.len()).unwrap_or(u32::MAX);
        let max_tokens = prompt::check_ids(&ids, generation.max_tokens, &limits)?;
        let bill = self.admit(&generation, ids.len(), max_tokens).await?;
        let echo = generation.echo.then(|| self.echo(&generation, &ids));
        let end_ids = if generation.ignore_eos { Vec::new() } else { self.tokenizer.end_ids().to_vec() };
        let stops = Arc::new(StopSet::new(&generation.stop));
        let pieces: Arc<dyn Pieces> = Arc::clone(&self.tokenizer) as _;
        let tracer = self.traces.as_ref().map(|traces| {
            let texts = || Texts::new(&self.tokenizer, &stops, &end_ids, &ids, generation.candidates);
            Tracer::new(traces, &generation, received_ms, texts)
        });
        let opening = Opening { tracer, ..self.opening(&generation, &ids, bill.clone()) };
        let plan = Plan {
            pieces: Arc::clone(&pieces),
            candidates: generation.candidates,
            stops: Arc::clone(&stops),
            end_ids,
            wants_tokens: generation.sampling.logprobs.is_some(),
            echo,
            bill: bill.clone(),
        };
        let (sender, parcels) = mpsc::unbounded_channel();
        let (account, sink) = Account::open(opening, Arc::clone(&self.meter), sender);
        let cancel = CancelToken::new();
        // Made before the request is handed over: if this future is dropped from here on, the work stops.
        let reply = Reply::new(Box::new(Assembly::new(plan, parcels)), cancel.clone()).charged(bill.clone());
        let candidates = generation.candidates;
        let id = RequestId(self.next_id.fetch_add(1, Ordering::Relaxed));
        if let (Some(bill), Some(number)) = (&bill, &self.number) {
            bill.held_by(Holder { line: number.number, request: id.0 });
        }
        let request = Request {
            id,
            prompt: ids,
            adapter: self.adapter.clone(),
            max_tokens,
            allowance: bill.as_ref().filter(|_| max_tokens > 0).map(|bill| bill.allowance()),
            candidates,
            stop_ids: self.tokenizer.end_ids().to_vec(),
            ignore_eos: generation.ignore_eos,
            prompt_logprobs: if generation.echo { generation.sampling.logprobs } else { None },
            priority: generation.priority,
            client: generation.labels.key.as_deref().map(client),
            cache_salt: cache_salt(&generation),
            controls: controls(candidates, &pieces, &stops),
            sampling: generation.sampling,
            events: Box::new(sink),
            cancel,
            received,
        };
        self.engine.submit(request).map_err(|error| self.refusal(error))?;
        account.accept();
        if let Some(bill) = &bill {
            bill.begin(candidates);
        }
        Ok(reply)
    }

    /// Takes the hold of a request, if requests are charged here. The first request of a customer's window opens accounts,
    /// which waits for the disk.
    async fn admit(
        &self,
        generation: &Generation,
        input_tokens: usize,
        max_tokens: u32,
    ) -> Result<Option<Arc<Bill>>, LineError> {
        let Some(charging) = &self.charging else { return Ok(None) };
        let payer = generation.payer.as_ref();
        let payer = payer.ok_or_else(|| LineError::internal("a request came without one who pays"))?;
        let id = EntryId(entry_id(&generation.id));
        let (payer, charging, card) = (payer.clone(), Arc::clone(charging), self.card.clone());
        let user = generation.labels.user.clone().unwrap_or_default();
        let max_output = u64::from(max_tokens) * u64::from(generation.candidates);
        let work = move || {
            let admission = Admission {
                id,
                identity: &payer.identity,
                model: &card.id,
                base: card.base.as_deref(),
                input: input_tokens as u64,
                max_output,
                tag: payer.tag.as_deref().unwrap_or_default(),
                user: &user,
                metadata: &payer.metadata,
                now_ms: now_ms(),
            };
            charging.admit(admission, payer.streamed, payer.traffic)
        };
        self.beside_the_runtime(work).await?.map(Some)
    }

    /// Runs what may wait for the disk while other tasks go on. In place if the runtime has other threads: to another one
    /// and back takes two wake-ups, and beside busy cores they are most of what admission adds to the first token.
    async fn beside_the_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LineError> {
        let in_place = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        if let Some(_place) = in_place.then(|| self.in_place.try_acquire().ok()).flatten() {
            return Ok(tokio::task::block_in_place(work));
        }
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| LineError::internal(format!("admitting failed: {error}")))
    }

    /// Turns a request away before its text is tokenized if the engine would turn it away anyway.
    fn check_open(&self, limits: &inference::EngineLimits) -> Result<(), LineError> {
        if !self.open.load(Ordering::Acquire) {
            return Err(LineError::Closed);
        }
        if let Some(trouble) = self.trouble() {
            return Err(LineError::Payment(AdmitError::Unavailable(trouble)));
        }
        let waiting = self.engine.gauges().waiting;
        if waiting >= limits.max_waiting { Err(self.queue_full(waiting)) } else { Ok(()) }
    }

    /// Why the books take no new request, if they don't.
    fn trouble(&self) -> Option<String> {
        self.charging.as_ref().and_then(|charging| charging.trouble())
    }

    /// The prompt's ids. Long texts and chats leave the prompt for a blocking thread; a text comes back.
    async fn encode(&self, generation: &mut Generation) -> Result<Vec<TokenId>, LineError> {
        match &mut generation.prompt {
            Prompt::Ids(ids) => Ok(ids.clone()),
            Prompt::Text(text) if text.len() <= LONG_TEXT_BYTES => Ok(self.tokenizer.encode(text, true, true)),
            Prompt::Text(text) => {
                let turn = self.turn(&self.long_texts).await?;
                let (tokenizer, long) = (Arc::clone(&self.tokenizer), std::mem::take(text));
                let (ids, long) = off_thread(turn, move || (tokenizer.encode(&long, true, true), long)).await?;
                *text = long;
                Ok(ids)
            }
            Prompt::Chat(messages) => {
                let messages = std::mem::take(messages);
                self.encode_chat(messages, true, std::mem::take(&mut generation.template_variables)).await
            }
        }
    }

    /// A template is a program that may run as long as its renderer lets it: never on the async runtime's threads.
    async fn encode_chat(
        &self,
        messages: Vec<Message>,
        add_generation_prompt: bool,
        variables: BTreeMap<String, serde_json::Value>,
    ) -> Result<Vec<TokenId>, LineError> {
        let Some(template) = self.template.clone() else {
            return Err(LineError::NoChatTemplate { model: self.card.id.clone() });
        };
        let turn = self.turn(&self.chats).await?;
        let tokenizer = Arc::clone(&self.tokenizer);
        let work =
            move || prompt::encode_chat(&tokenizer, template.as_ref(), messages, add_generation_prompt, &variables);
        off_thread(turn, work).await?
    }

    /// Waits for the turn of a chat or a long text. As many may wait for it as for the engine, and none for long.
    async fn turn(&self, turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, LineError> {
        let waiting = || self.engine.limits().max_waiting.saturating_sub(self.texts_waiting.available_permits());
        let Ok(_place) = self.texts_waiting.try_acquire() else { return Err(self.queue_full(waiting())) };
        match tokio::time::timeout(TURN_WAIT, Arc::clone(turns).acquire_owned()).await {
            Ok(turn) => turn.map_err(|error| LineError::internal(error.to_string())),
            Err(_) => Err(self.queue_full(waiting())),
        }
    }

    fn echo(&self, generation: &Generation, ids: &[TokenId]) -> Echo {
        let mut tokens = prompt::token_texts(self.tokenizer.as_ref(), ids);
        let text = match &generation.prompt {
            Prompt::Text(text) => {
                prompt::align(&mut tokens, text);
                text.clone()
            }
            Prompt::Ids(_) | Prompt::Chat(_) => self.written(ids),
        };
        let missing = if generation.sampling.logprobs.is_some() { ids.len() - 1 } else { 0 };
        Echo { text, tokens, missing }
    }

    fn written(&self, ids: &[TokenId]) -> String {
        String::from_utf8_lossy(&self.tokenizer.decode(ids)).into_owned()
    }

    /// The usage record before anything was used.
    fn opening(&self, generation: &Generation, ids: &[TokenId], bill: Option<Arc<Bill>>) -> Opening {
        let labels = &generation.labels;
        let markers = self.tokenizer.reasoning_markers();
        let record = UsageRecord {
            request_id: bounded(&generation.id).into_owned(),
            model: self.card.id.clone(),
            base: self.card.base.clone(),
            route: labels.route.to_owned(),
            key: labels.key.as_deref().map(|key| bounded(key).into_owned()),
            user: labels.user.as_deref().map(|user| bounded(user).into_owned()),
            ..UsageRecord::default()
        };
        let inside = prompt::ends_inside(ids, markers);
        Opening { record, candidates: generation.candidates, markers, inside, bill, tracer: None }
    }

    fn refusal(&self, error: SubmitError) -> LineError {
        match error {
            SubmitError::QueueFull { waiting } => self.queue_full(waiting),
            SubmitError::Closed => {
                self.open.store(false, Ordering::Release);
                LineError::Closed
            }
            SubmitError::Invalid(message) => LineError::Invalid { field: "request", message },
        }
    }

    /// By the machine time of a request so far, how long those that wait will take.
    fn queue_full(&self, waiting: usize) -> LineError {
        let counters = self.engine.counters();
        let mean_ns = counters.busy_ns / counters.requests.max(1);
        let wait_ns = mean_ns.saturating_mul(u64::try_from(waiting).unwrap_or(u64::MAX));
        let retry_after = Duration::from_nanos(wait_ns).clamp(Duration::from_secs(1), Duration::from_secs(60));
        LineError::QueueFull { waiting, retry_after }
    }

    fn count_refusal(&self, error: &LineError) {
        let rejection = match error.kind() {
            ErrorKind::QueueFull => Rejection::QueueFull,
            ErrorKind::Closed | ErrorKind::BooksClosed => Rejection::Closed,
            ErrorKind::Unpaid => Rejection::Unpaid,
            ErrorKind::RateLimited => Rejection::RateLimited,
            ErrorKind::Forbidden => Rejection::Forbidden,
            ErrorKind::Internal => {
                tracing::error!(model = self.card.id, "a request could not be taken: {error}");
                Rejection::Internal
            }
            ErrorKind::Invalid
            | ErrorKind::ContextFull
            | ErrorKind::NoChatTemplate
            | ErrorKind::TemplateFailed
            | ErrorKind::NotSupported => Rejection::Invalid,
        };
        self.meter.reject(&self.card.id, rejection);
    }
}

impl Line for LocalLine {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn submit(&self, generation: Generation) -> BoxFuture<'_, Result<Reply, LineError>> {
        Box::pin(async move {
            let accepted = self.accept(generation).await;
            accepted.inspect_err(|error| self.count_refusal(error))
        })
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<TokenText>, LineError> {
        let ids = self.tokenizer.encode(text, add_special, parse_special);
        Ok(prompt::token_texts(self.tokenizer.as_ref(), &ids))
    }

    fn merges(&self, text: &str, parse_special: bool) -> Result<Merges, LineError> {
        Ok(Merges { algorithm: self.tokenizer.algorithm(), words: self.tokenizer.merges(text, parse_special) })
    }

    fn tokenize_chat(
        &self,
        messages: Vec<Message>,
        add_generation_prompt: bool,
    ) -> BoxFuture<'_, Result<Vec<TokenText>, LineError>> {
        Box::pin(async move {
            let ids = self.encode_chat(messages, add_generation_prompt, BTreeMap::new()).await?;
            Ok(prompt::token_texts(self.tokenizer.as_ref(), &ids))
        })
    }

    fn detokenize(&self, ids: &[TokenId]) -> Result<String, LineError> {
        let vocab_size = self.card.vocab_size;
        match ids.iter().find(|id| **id as usize >= vocab_size) {
            Some(id) => {
                Err(LineError::invalid("tokens", format!("token {id} does not exist; ids are below {vocab_size}")))
            }
            None => Ok(self.written(ids)),
        }
    }

    fn status(&self) -> LineStatus {
        LineStatus {
            ready: self.open.load(Ordering::Acquire) && self.trouble().is_none(),
            gauges: self.engine.gauges(),
            counters: self.engine.counters(),
            limits: self.engine.limits(),
        }
    }

    fn calibration(&self) -> LineCalibration {
        LineCalibration { terms: self.engine.step_terms(), started_from: self.calibration.clone() }
    }

    fn close(&self) {
        self.open.store(false, Ordering::Release);
        if self.adapter.is_none() {
            self.engine.close();
        }
    }
}

/// One control for each candidate, or none if nothing is to be controlled.
fn controls(candidates: u32, pieces: &Arc<dyn Pieces>, stops: &Arc<StopSet>) -> Vec<Box<dyn Control>> {
    if stops.is_empty() {
        return Vec::new();
    }
    let control = |_| Box::new(StopControl::new(Arc::clone(pieces), Arc::clone(stops))) as Box<dyn Control>;
    (0..candidates).map(control).collect()
}

/// Works on a blocking thread. The turn ends with the work, also when nobody waits for it any more.
async fn off_thread<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LineError> {
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    work.await.map_err(|error| LineError::internal(format!("tokenizing failed: {error}")))
}

/// At most [`MAX_LABEL_BYTES`] of a caller's word.
fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_LABEL_BYTES {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(MAX_LABEL_BYTES);
    Cow::Owned(format!("{}…", &text[..end]))
}
