//! A line that answers by script, and a server in front of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use economics::books::Books;
use inference::{CancelToken, Counters, EngineLimits, FinishReason, Gauges, TokenId};
use metering::{Meter, UsageRecord};
use server::{Server, ServerConfig};
use service::{
    BoxFuture, FixedPool, Generation, Line, LineError, LineEvent, LineStatus, Merges, Message, ModelCard, Reply,
    TokenText,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// What the line does with a generation.
pub(crate) enum Script {
    /// All events are there at once.
    Events(Vec<LineEvent>),
    /// These events, then nothing more until the reply is dropped.
    Hang(Vec<LineEvent>),
    /// Not accepted.
    Refuse(LineError),
    /// A bug.
    Panic,
}

type Rule = Box<dyn Fn(&Generation) -> Script + Send + Sync>;

/// A line whose ids are bytes.
pub(crate) struct ScriptedLine {
    card: ModelCard,
    rule: Rule,
    pub(crate) submitted: Mutex<Vec<Generation>>,
    pub(crate) cancels: Mutex<Vec<CancelToken>>,
    open: Mutex<Vec<mpsc::UnboundedSender<LineEvent>>>,
    closed: Mutex<bool>,
}

impl ScriptedLine {
    pub(crate) fn new(rule: impl Fn(&Generation) -> Script + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            card: ModelCard {
                id: "scripted".into(),
                aliases: vec!["other/name".into()],
                base: None,
                created: 1_700_000_000,
                context_len: 2048,
                vocab_size: 256,
                has_chat_template: true,
            },
            rule: Box::new(rule),
            submitted: Mutex::default(),
            cancels: Mutex::default(),
            open: Mutex::default(),
            closed: Mutex::default(),
        })
    }

    /// Sends events into the i-th reply that hangs.
    pub(crate) fn feed(&self, i: usize, events: Vec<LineEvent>) {
        for event in events {
            let _ = self.open.lock().unwrap()[i].send(event);
        }
    }

    pub(crate) fn last(&self) -> Generation {
        self.submitted.lock().unwrap().last().unwrap().clone()
    }

    pub(crate) fn cancelled(&self) -> usize {
        self.cancels.lock().unwrap().iter().filter(|cancel| cancel.is_cancelled()).count()
    }
}

fn pieces(bytes: &[u8]) -> Vec<TokenText> {
    bytes.iter().map(|b| TokenText { id: u32::from(*b), bytes: vec![*b], logprob: None, top: vec![] }).collect()
}

impl Line for ScriptedLine {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn submit(&self, generation: Generation) -> BoxFuture<'_, Result<Reply, LineError>> {
        let script = (self.rule)(&generation);
        self.submitted.lock().unwrap().push(generation);
        let (sender, receiver) = mpsc::unbounded_channel();
        let cancel = CancelToken::new();
        self.cancels.lock().unwrap().push(cancel.clone());
        let result = match script {
            Script::Events(events) => {
                events.into_iter().for_each(|event| sender.send(event).unwrap());
                Ok(Reply::new(Box::new(receiver), cancel))
            }
            Script::Hang(events) => {
                events.into_iter().for_each(|event| sender.send(event).unwrap());
                self.open.lock().unwrap().push(sender);
                Ok(Reply::new(Box::new(receiver), cancel))
            }
            Script::Refuse(error) => Err(error),
            Script::Panic => panic!("a bug in the line"),
        };
        Box::pin(async move { result })
    }

    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<TokenText>, LineError> {
        let mut bytes = text.as_bytes().to_vec();
        if parse_special {
            bytes.push(2);
        }
        if add_special {
            bytes.insert(0, 1);
        }
        Ok(pieces(&bytes))
    }

    fn merges(&self, text: &str, _parse_special: bool) -> Result<Merges, LineError> {
        Ok(Merges { algorithm: if text.contains('#') { "word_piece" } else { "bpe" }, words: None })
    }

    fn tokenize_chat(
        &self,
        messages: Vec<Message>,
        add_generation_prompt: bool,
    ) -> BoxFuture<'_, Result<Vec<TokenText>, LineError>> {
        let mut text: String = messages.iter().map(|m| format!("<{}>{}", m.role, m.content)).collect();
        if add_generation_prompt {
            text.push_str("<assistant>");
        }
        Box::pin(async move { Ok(pieces(text.as_bytes())) })
    }

    fn detokenize(&self, ids: &[TokenId]) -> Result<String, LineError> {
        let bytes: Vec<u8> = ids.iter().map(|id| u8::try_from(*id).unwrap()).collect();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn status(&self) -> LineStatus {
        LineStatus {
            ready: !*self.closed.lock().unwrap(),
            gauges: Gauges { running: 3, ..Gauges::default() },
            counters: Counters::default(),
            limits: EngineLimits {
                context_len: 2048,
                vocab_size: 256,
                block_tokens: 32,
                kv_blocks: 64,
                max_waiting: 8,
                max_candidates: 8,
            },
        }
    }

    fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }
}

pub(crate) fn text(candidate: u32, text: &str) -> LineEvent {
    LineEvent::Text { candidate, text: text.into(), tokens: vec![] }
}

pub(crate) fn finished(candidate: u32, reason: FinishReason) -> LineEvent {
    LineEvent::Finished { candidate, reason }
}

pub(crate) fn record() -> Box<UsageRecord> {
    Box::new(UsageRecord {
        input_uncached_tokens: 3,
        input_cached_tokens: 32,
        output_tokens: 2,
        draft_accepted_tokens: 1,
        draft_rejected_tokens: 4,
        queue_ns: 1_000_000,
        ttft_ns: Some(5_000_000),
        ..UsageRecord::default()
    })
}

pub(crate) fn done() -> LineEvent {
    LineEvent::Done(record(), None)
}

/// `Hello`, ` world`, for every candidate.
pub(crate) fn hello(generation: &Generation) -> Script {
    let mut events = vec![];
    for candidate in 0..generation.candidates {
        events.extend([text(candidate, "Hello"), text(candidate, " world"), finished(candidate, FinishReason::Stop)]);
    }
    events.push(done());
    Script::Events(events)
}

/// A running server.
pub(crate) struct Plant {
    pub(crate) address: SocketAddr,
    pub(crate) line: Arc<ScriptedLine>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Plant {
    pub(crate) async fn start(line: Arc<ScriptedLine>, change: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::start_over(line, None, None, change).await
    }

    /// Over a file of kept answers and books.
    pub(crate) async fn start_over(
        line: Arc<ScriptedLine>,
        answers: Option<PathBuf>,
        books: Option<Arc<Books>>,
        change: impl FnOnce(&mut ServerConfig),
    ) -> Self {
        let mut config = ServerConfig { port: 0, ..ServerConfig::default() };
        change(&mut config);
        let lines: Vec<Arc<dyn Line>> = vec![Arc::clone(&line) as Arc<dyn Line>];
        let plant = server::Plant {
            pool: Arc::new(FixedPool::new(lines)),
            meter: Arc::new(Meter::new()),
            books,
            charging: None,
            answers,
            traces: None,
            history: None,
        };
        let server = Server::bind(&config, plant).await.unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        Self { address, line, stop: Some(stop), task: Some(task) }
    }

    /// A server with default settings.
    pub(crate) async fn hello() -> Self {
        Self::start(ScriptedLine::new(hello), |_| {}).await
    }

    /// Gives the shutdown signal.
    pub(crate) fn signal(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Waits until the server has ended.
    pub(crate) async fn ended(&mut self) {
        tokio::time::timeout(Duration::from_secs(20), self.task.take().unwrap()).await.unwrap().unwrap();
    }
}

/// Waits until something is so; fails when it never is.
pub(crate) async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
