//! A small plant: a tokenizer from a GGUF file, a runner that follows a script, the engine and the line.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{EngineConfig, LocalEngine, Runner, RunnerError, RunnerShape};
use formats::gguf::{Gguf, StringArray, Writer};
use inference::{Engine, FinishReason, SamplingParams, TokenId};
use metering::{LineGauges, Meter, UsageRecord};
use model::{BLOCK_TOKENS, Batch, BlockId};
use service::{
    Chances, Generation, Labels, Line, LineError, LineEvent, LocalLine, LocalLineConfig, Prompt, Reply, TokenText,
};
use tokenizer::{ChatTemplate, Tokenizer};

pub(crate) const START: TokenId = 1;
pub(crate) const END: TokenId = 2;
pub(crate) const THINK: TokenId = 3;
pub(crate) const THOUGHT: TokenId = 4;
const FIRST_BYTE: TokenId = 5;
const WORDS: [&str; 10] = ["Hello", "▁wor", "ld", "!", "▁more", "ab", "bc", "XYZ", "▁", "é"];
/// A user-defined token, found whole in any text: makes long texts of few tokens.
pub(crate) const LONG_WORD: &str = "~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~";
/// The id of the first word.
const FIRST_WORD: TokenId = FIRST_BYTE + 256;
pub(crate) const VOCAB_SIZE: usize = 5 + 256 + WORDS.len() + 1;
pub(crate) const CONTEXT_LEN: usize = 16 * BLOCK_TOKENS;

/// The id of a word; `▁` is a space.
pub(crate) fn word(text: &str) -> TokenId {
    let index = WORDS.iter().position(|word| *word == text).unwrap();
    FIRST_WORD + TokenId::try_from(index).unwrap()
}

/// The byte tokens of a text.
pub(crate) fn byte_ids(text: &str) -> Vec<TokenId> {
    text.bytes().map(|byte| FIRST_BYTE + TokenId::from(byte)).collect()
}

/// A template in the manner of ChatML, with the end token as its frame.
pub(crate) const TEMPLATE: &str = "{% for m in messages %}<s>{{ m.role }}:{{ m.content }}</s>{% endfor %}\
                                   {% if add_generation_prompt %}<s>assistant:{% endif %}";

fn tokenizer() -> Tokenizer {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>", "<think>", "</think>"].map(str::to_owned).to_vec();
    tokens.extend((0..=255_u8).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(WORDS.map(str::to_owned));
    tokens.push(LONG_WORD.to_owned());
    let mut types = vec![2_i32, 3, 3, 3, 3];
    types.extend([6; 256]);
    types.extend([1; WORDS.len()]);
    types.push(4);
    let mut writer = Writer::new();
    writer
        .key("tokenizer.ggml.model", "llama")
        .key("tokenizer.ggml.tokens", tokens.iter().map(String::as_str).collect::<StringArray>())
        .key("tokenizer.ggml.token_type", types)
        .key("tokenizer.ggml.scores", vec![0_f32; VOCAB_SIZE])
        .key("tokenizer.ggml.bos_token_id", START)
        .key("tokenizer.ggml.eos_token_id", END)
        .key("tokenizer.ggml.add_bos_token", true)
        .key("tokenizer.ggml.add_space_prefix", false);
    let file = tempfile::NamedTempFile::new().unwrap();
    writer.write(file.path()).unwrap();
    Tokenizer::from_gguf(&Gguf::open(file.path()).unwrap()).unwrap()
}

/// What the "model" says.
#[derive(Clone, Default)]
pub(crate) struct Script {
    /// The token after each position; `!` where there is none.
    pub(crate) next: HashMap<u32, TokenId>,
    /// Time of a step.
    pub(crate) step: Duration,
    /// The position at which the forward pass fails.
    pub(crate) fails_at: Option<u32>,
}

impl Script {
    /// Answers a prompt of `prompt_len` tokens with `answer`, then `!` without end.
    pub(crate) fn new(prompt_len: usize, answer: &[TokenId]) -> Self {
        let first = u32::try_from(prompt_len).unwrap() - 1;
        Self { next: (first..).zip(answer.iter().copied()).collect(), ..Self::default() }
    }
}

struct ScriptRunner(Script, RunnerShape);

impl Runner for ScriptRunner {
    fn shape(&self) -> RunnerShape {
        self.1
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut [f32]) -> Result<(), RunnerError> {
        std::thread::sleep(self.0.step);
        if batch.columns.iter().any(|column| Some(column.position) == self.0.fails_at) {
            return Err(RunnerError("out of ink".to_owned()));
        }
        for (row, index) in logits.chunks_exact_mut(VOCAB_SIZE).zip(batch.logits_of) {
            let position = batch.columns[*index as usize].position;
            let next = self.0.next.get(&position).copied().unwrap_or(word("!"));
            row.fill(0.0);
            row[next as usize] = 9.0;
            row[word("Hello") as usize] += 1.0;
        }
        Ok(())
    }

    fn copy_block(&mut self, _: BlockId, _: BlockId, _: usize) {}
}

pub(crate) struct Plant {
    pub(crate) line: LocalLine,
    pub(crate) engine: Arc<LocalEngine>,
    pub(crate) meter: Arc<Meter>,
}

impl Plant {
    pub(crate) fn new(script: Script) -> Self {
        Self::with(script, EngineConfig::default(), Some(TEMPLATE))
    }

    pub(crate) fn with(script: Script, config: EngineConfig, template: Option<&str>) -> Self {
        let shape = RunnerShape { vocab_size: VOCAB_SIZE, context_len: CONTEXT_LEN, kv_blocks: 64, states: false };
        let engine = Arc::new(LocalEngine::start(Box::new(ScriptRunner(script, shape)), config).unwrap());
        let meter = Arc::new(Meter::new());
        let name = LocalLineConfig { id: "m".to_owned(), ..LocalLineConfig::default() };
        let template = template.map(|source| Arc::new(ChatTemplate::compile(source).unwrap()) as _);
        let line = LocalLine::new(name, tokenizer(), template, Arc::clone(&engine) as _, Arc::clone(&meter));
        Self { line, engine, meter }
    }

    pub(crate) async fn submit(&self, generation: Generation) -> Result<Reply, LineError> {
        self.line.submit(generation).await
    }

    /// Submits and reads to the end.
    pub(crate) async fn run(&self, generation: Generation) -> Answer {
        Answer::read(&mut self.submit(generation).await.unwrap()).await
    }

    /// Waits until nothing runs or waits and no block is held.
    pub(crate) async fn idle(&self) {
        self.until(|plant| {
            let gauges = plant.engine.gauges();
            gauges.running == 0 && gauges.waiting == 0 && gauges.kv_blocks_used == 0
        })
        .await;
    }

    /// Waits for a state; fails when it does not come.
    pub(crate) async fn until(&self, state: impl Fn(&Self) -> bool) {
        let patience = Instant::now() + Duration::from_secs(60);
        while !state(self) {
            assert!(Instant::now() < patience, "{:?}", self.engine.gauges());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A sample of the meter's text.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.meter.render(&[LineGauges { model: "m".to_owned(), ..LineGauges::default() }]);
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series}")).parse().unwrap()
    }

    pub(crate) fn ended(&self, outcome: &str) -> u64 {
        self.metric(&format!("tokenworks_requests_total{{model=\"m\",outcome=\"{outcome}\"}}"))
    }
}

/// Greedy, one candidate, four prompt tokens, no stop.
pub(crate) fn generation(max_tokens: u32) -> Generation {
    Generation {
        id: "cmpl-1".to_owned(),
        prompt: Prompt::Ids(byte_ids("abcd")),
        answered: Vec::new(),
        max_tokens: Some(max_tokens),
        candidates: 1,
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        stop: Vec::new(),
        ignore_eos: false,
        echo: false,
        priority: 0,
        template_variables: BTreeMap::new(),
        payer: None,
        labels: Labels { key: Some("k".to_owned()), user: Some("u".to_owned()), route: "/v1/completions" },
    }
}

/// The length of [`generation`]'s prompt.
pub(crate) const PROMPT_LEN: usize = 4;

/// A whole reply.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// For each candidate: its chunks, tokens and end.
    pub(crate) chunks: BTreeMap<u32, Vec<String>>,
    pub(crate) tokens: BTreeMap<u32, Vec<TokenText>>,
    pub(crate) chances: BTreeMap<u32, Vec<Chances>>,
    pub(crate) ends: BTreeMap<u32, FinishReason>,
    pub(crate) echo: Option<(String, Vec<TokenText>)>,
    pub(crate) record: UsageRecord,
    pub(crate) failure: Option<LineError>,
}

impl Answer {
    /// Reads to the end and checks the order of events.
    pub(crate) async fn read(reply: &mut Reply) -> Self {
        let mut answer = Self::default();
        while let Some(event) = reply.next().await {
            match event {
                LineEvent::Echo { text, tokens } => {
                    assert!(answer.echo.is_none() && answer.chunks.is_empty() && answer.ends.is_empty());
                    answer.echo = Some((text, tokens));
                }
                LineEvent::Text { candidate, text, tokens } => {
                    assert!(!answer.ends.contains_key(&candidate), "text after the end");
                    answer.chunks.entry(candidate).or_default().push(text);
                    answer.tokens.entry(candidate).or_default().extend(tokens);
                }
                LineEvent::Chances { candidate, chances } => {
                    answer.chances.entry(candidate).or_default().push(*chances);
                }
                LineEvent::Finished { candidate, reason } => {
                    assert!(answer.ends.insert(candidate, reason).is_none());
                }
                LineEvent::Done(record, _) => answer.record = *record,
                LineEvent::Failed(error, record) => {
                    (answer.failure, answer.record) = (Some(error), *record);
                }
            }
        }
        assert!(reply.next().await.is_none());
        answer
    }

    pub(crate) fn text(&self, candidate: u32) -> String {
        self.chunks.get(&candidate).map(|chunks| chunks.concat()).unwrap_or_default()
    }
}
