//! The trait every line implements, local or elsewhere: messages, text or ids in, text events out.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use economics::books::Metadata;
use economics::directory::Identity;
use inference::{Distribution, FinishReason, SamplingParams, TokenId};
use metering::UsageRecord;
use tokenizer::MergedWord;

use crate::{Charge, LineError, Reply, TrafficCount};

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant` or what the model's template knows.
    pub role: String,
    /// The text; special tokens in it are never parsed.
    pub content: String,
    /// The speaker's name, if given.
    pub name: Option<String>,
}

/// What to go on from.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// Rendered by the model's chat template.
    Chat(Vec<Message>),
    /// Text; special tokens in it are parsed, the model's own start token is added.
    Text(String),
    /// Token ids, as they are.
    Ids(Vec<TokenId>),
}

/// One request to a line.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The id shown to the client and in logs, e.g. `chatcmpl-…`.
    pub id: String,
    /// What to go on from.
    pub prompt: Prompt,
    /// Tokens of an answer that is there already and goes on: they follow the prompt, are input as it is, and count as made
    /// for the penalties.
    pub answered: Vec<TokenId>,
    /// Most tokens for each candidate; `None` = up to the context's end; 0 only scores the prompt (needs `echo`).
    pub max_tokens: Option<u32>,
    /// Number of candidates, at least 1.
    pub candidates: u32,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Strings that end a candidate; they are not part of the text. At most 16, of at most 1024
    /// bytes each, none empty.
    pub stop: Vec<String>,
    /// Go on past the model's end tokens.
    pub ignore_eos: bool,
    /// Give the prompt back in front of the answer (completions only); with `sampling.logprobs` also its log-probabilities.
    pub echo: bool,
    /// Higher runs first.
    pub priority: i32,
    /// Additional variables for the chat template.
    pub template_variables: BTreeMap<String, serde_json::Value>,
    /// The caller's own words for logs and the usage record (never the prompt): key id, user, metadata.
    pub labels: Labels,
    /// Who pays; needed where requests are charged.
    pub payer: Option<Payer>,
}

/// Who pays for a request, and how it is delivered.
#[derive(Clone, Debug)]
pub struct Payer {
    /// The customer's key, or the house.
    pub identity: Arc<Identity>,
    /// A word of the caller that reports are broken down by.
    pub tag: Option<String>,
    /// What the request is for.
    pub metadata: Metadata,
    /// Whether parts of the answer leave before its end.
    pub streamed: bool,
    /// Counts what goes over the network for it.
    pub traffic: Option<TrafficCount>,
}

/// Who asked, for the usage record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Name of the API key, or `None` for keyless loopback.
    pub key: Option<String>,
    /// The `user` field of the request.
    pub user: Option<String>,
    /// The route, e.g. `/v1/chat/completions`.
    pub route: &'static str,
}

/// A token as text, with its log-probability if that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenText {
    /// The id.
    pub id: TokenId,
    /// Its bytes; may be part of a character. Special tokens: their written form, but none in answers, where they make no
    /// text. The bytes of an answer's or an echo's tokens, put together, are its text.
    pub bytes: Vec<u8>,
    /// Natural log of its probability; `None` when not asked for, or for a prompt's first token.
    pub logprob: Option<f32>,
    /// The best tokens at this position: id, bytes, log-probability; best first.
    pub top: Vec<(TokenId, Vec<u8>, f32)>,
}

/// A token and its bytes; of special tokens those of their written form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBytes {
    /// The id.
    pub id: TokenId,
    /// May be part of a character.
    pub bytes: Vec<u8>,
}

/// What a token was drawn from, with the tokens' bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Chances {
    /// The token that was drawn.
    pub chosen: TokenBytes,
    /// The tokens of `distribution.best`, in its order.
    pub best: Vec<TokenBytes>,
    /// The chances.
    pub distribution: Distribution,
}

/// How a text becomes tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Merges {
    /// The tokenizer's kind: `bpe`, `sentencepiece_bpe`, `word_piece`, `unigram` or `word_level`.
    pub algorithm: &'static str,
    /// The words with their merges; `None` where the tokenizer merges nothing, or is one of `tokenizer.json`, whose
    /// encoder does not show its merges.
    pub words: Option<Vec<MergedWord>>,
}

/// What a reply consists of. The last event is always `Done` or `Failed`.
#[derive(Clone, Debug)]
pub enum LineEvent {
    /// The prompt given back (only with `echo`, before any text): its text and its tokens.
    Echo {
        /// The prompt's text as it was given; of ids: their text, special tokens in their written form.
        text: String,
        /// One entry for each prompt token.
        tokens: Vec<TokenText>,
    },
    /// New text of a candidate: whole UTF-8, never part of a stop string. `tokens` are those whose text is complete with
    /// this chunk (may be empty); stop and end tokens are left out.
    Text {
        /// Which candidate, from 0.
        candidate: u32,
        /// May be empty when only `tokens` is news.
        text: String,
        /// Filled when log-probabilities were asked for.
        tokens: Vec<TokenText>,
    },
    /// What a candidate's next token was drawn from, when `sampling.distribution` asks for it.
    Chances {
        /// Which candidate.
        candidate: u32,
        /// The chances.
        chances: Box<Chances>,
    },
    /// A candidate ended; its text is complete.
    Finished {
        /// Which candidate.
        candidate: u32,
        /// Why.
        reason: FinishReason,
    },
    /// All ended: what was used, and what was charged for it (with books).
    Done(Box<UsageRecord>, Option<Charge>),
    /// The request failed under way.
    Failed(LineError, Box<UsageRecord>),
}

/// What a line serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    /// The name clients use.
    pub id: String,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// The model that it changes, where it is an adapter.
    pub base: Option<String>,
    /// Unix seconds when it was loaded.
    pub created: u64,
    /// Most tokens of prompt and answer together.
    pub context_len: usize,
    /// Ids run from 0 to this, exclusive.
    pub vocab_size: usize,
    /// Whether chat works (the model or the configuration has a template).
    pub has_chat_template: bool,
}

/// A boxed future, so that `dyn Line` works.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A production line as text.
pub trait Line: Send + Sync {
    /// What it serves.
    fn card(&self) -> &ModelCard;

    /// Accepts one generation and gives back its events; dropping the reply cancels the work within one step.
    ///
    /// # Errors
    /// [`LineError`] says which field is wrong, or that the line is full or closing.
    fn submit(&self, generation: Generation) -> BoxFuture<'_, Result<Reply, LineError>>;

    /// Text to ids. `add_special` adds the model's own start token; `parse_special` reads special tokens in the text.
    ///
    /// # Errors
    /// When the line has no tokenizer of its own.
    fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<TokenText>, LineError>;

    /// How the words of a text become its tokens, merge by merge. For short texts: what it takes grows with the square of
    /// the length of words.
    ///
    /// # Errors
    /// When the line has no tokenizer of its own.
    fn merges(&self, text: &str, parse_special: bool) -> Result<Merges, LineError>;

    /// A chat, rendered by the template, to ids. Off the caller's thread: a template is a program.
    ///
    /// # Errors
    /// No template, the template failed, or too many chats wait for it.
    fn tokenize_chat(
        &self,
        messages: Vec<Message>,
        add_generation_prompt: bool,
    ) -> BoxFuture<'_, Result<Vec<TokenText>, LineError>>;

    /// Ids to text (special tokens in their written form).
    ///
    /// # Errors
    /// An id outside the vocabulary.
    fn detokenize(&self, ids: &[TokenId]) -> Result<String, LineError>;

    /// The state of the line for `/health`, `/ready` and `/metrics`.
    fn status(&self) -> LineStatus;

    /// How its engine predicts the time of steps; nothing where it predicts none.
    fn calibration(&self) -> LineCalibration {
        LineCalibration::default()
    }

    /// Refuses new requests; those accepted go on.
    fn close(&self);
}

/// How a step's time is shared over the requests in it, for people.
pub const SHARING_RULE: &str = "A step's time is shared over the requests in it by their columns, rows of logits, positions \
     looked back on and positions read, each at its fitted time; the part of the step that depends on none of these follows the \
     rest. The shares add up to the engine's busy time, to the nanosecond.";

/// Whether a line works, and its gauges and counters.
#[derive(Clone, Debug)]
pub struct LineStatus {
    /// Whether new requests are taken.
    pub ready: bool,
    /// Up-and-down values.
    pub gauges: inference::Gauges,
    /// Growing values.
    pub counters: inference::Counters,
    /// Fixed facts.
    pub limits: inference::EngineLimits,
}

/// How the time of a line's steps is predicted, and by that shared.
#[derive(Clone, Debug, Default)]
pub struct LineCalibration {
    /// The terms, each with the time that is known of it now.
    pub terms: Vec<inference::StepTerm>,
    /// For people: what the engine started from.
    pub started_from: String,
}

impl LineStatus {
    /// The same for [`metering::Meter::render`].
    #[must_use]
    pub fn line_gauges(&self, model: &str) -> metering::LineGauges {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let (gauges, counters) = (&self.gauges, &self.counters);
        metering::LineGauges {
            model: model.to_owned(),
            ready: self.ready,
            running: count(gauges.running),
            waiting: count(gauges.waiting),
            kv_blocks_used: count(gauges.kv_blocks_used),
            kv_blocks_cached: count(gauges.kv_blocks_cached),
            kv_blocks_total: count(self.limits.kv_blocks),
            steps: counters.steps,
            busy_ns: counters.busy_ns,
            draft_ns: counters.draft_ns,
            prefill_columns: counters.prefill_columns,
            decode_columns: counters.decode_columns,
            draft_accepted_tokens: counters.draft_accepted_tokens,
            draft_rejected_tokens: counters.draft_rejected_tokens,
            prefix_queries_tokens: counters.prefix_queries_tokens,
            prefix_hits_tokens: counters.prefix_hits_tokens,
            preemptions: counters.preemptions,
            kv_block_ns: counters.kv_block_ns,
            classes: inference::StepClass::ALL
                .iter()
                .zip(counters.classes)
                .map(|(class, time)| metering::ClassTime {
                    class: class.as_str(),
                    steps: time.steps,
                    predicted_ns: time.predicted_ns,
                    busy_ns: time.busy_ns,
                })
                .collect(),
        }
    }
}
