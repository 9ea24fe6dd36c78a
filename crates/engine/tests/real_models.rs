//! The invariant of the whole plant on real models: the logits of a position are the same, bit for bit, however it
//! was computed. Needs the folder of models named by `TOKENWORKS_TEST_MODELS`.
#![cfg(test)]

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::{EngineConfig, LocalEngine, ModelRunner, Runner, RunnerError, RunnerShape};
use formats::gguf::Gguf;
use inference::{Engine, Event, Request, RequestId, TokenId, Usage};
use kernels::ThreadPool;
use model::{BLOCK_TOKENS, Batch, BlockId, KvType, Model};

fn load(file: &str, threads: usize) -> Arc<Model> {
    let folder = std::env::var_os("TOKENWORKS_TEST_MODELS")
        .expect("TOKENWORKS_TEST_MODELS must name the folder that holds smollm2-135m.gguf and gemma3-270m.gguf");
    let path = PathBuf::from(folder).join(file);
    let gguf = Gguf::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Arc::new(Model::load(&gguf, &Arc::new(ThreadPool::new(threads).unwrap())).unwrap())
}

/// Every row of logits seen so far, as a hash of its bits, by the tokens it follows.
#[derive(Default)]
struct Record {
    rows: HashMap<Vec<TokenId>, u64>,
    /// Rows that were computed before, and how many of them came out different.
    repeated: usize,
    different: Vec<usize>,
}

impl Record {
    fn note(&mut self, tokens: Vec<TokenId>, row: &[f32]) {
        let mut hasher = DefaultHasher::new();
        row.iter().for_each(|logit| logit.to_bits().hash(&mut hasher));
        let hash = hasher.finish();
        let len = tokens.len();
        match self.rows.insert(tokens, hash) {
            Some(other) if other == hash => self.repeated += 1,
            Some(_) => self.different.push(len),
            None => {}
        }
    }
}

/// Passes everything on and records each row of logits under the tokens that its block table really leads to.
struct Recording {
    inner: ModelRunner,
    slots: Vec<[TokenId; BLOCK_TOKENS]>,
    record: Arc<Mutex<Record>>,
}

impl Recording {
    fn new(model: &Arc<Model>, blocks: usize, record: &Arc<Mutex<Record>>) -> Self {
        let inner = ModelRunner::new(Arc::clone(model), KvType::F16, blocks).unwrap();
        Self { inner, slots: vec![[0; BLOCK_TOKENS]; blocks], record: Arc::clone(record) }
    }
}

impl Runner for Recording {
    fn shape(&self) -> RunnerShape {
        self.inner.shape()
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut [f32]) -> Result<(), RunnerError> {
        self.inner.forward(batch, logits)?;
        for column in batch.columns {
            let position = column.position as usize;
            let block = batch.tables[column.sequence as usize][position / BLOCK_TOKENS];
            self.slots[block as usize][position % BLOCK_TOKENS] = column.token;
        }
        let rows = logits.chunks_exact(self.inner.shape().vocab_size);
        for (row, index) in rows.zip(batch.logits_of) {
            let column = &batch.columns[*index as usize];
            let table = batch.tables[column.sequence as usize];
            let token = |at: usize| self.slots[table[at / BLOCK_TOKENS] as usize][at % BLOCK_TOKENS];
            let tokens = (0..=column.position as usize).map(token).collect();
            self.record.lock().unwrap().note(tokens, row);
        }
        Ok(())
    }

    fn copy_block(&mut self, from: BlockId, to: BlockId, tokens: usize) {
        self.inner.copy_block(from, to, tokens);
        let source = self.slots[from as usize];
        self.slots[to as usize][..tokens].copy_from_slice(&source[..tokens]);
    }
}

fn ask(prompt: &[TokenId], max_tokens: u32, scores: bool) -> (Request, Receiver<Event>) {
    let (sender, receiver) = channel();
    let events = Box::new(move |event| drop(sender.send(event)));
    let request = Request::plain(RequestId(0), prompt.to_vec(), max_tokens, events);
    let request = Request { prompt_logprobs: scores.then_some(0), ..request };
    (request, receiver)
}

fn read(receiver: &Receiver<Event>) -> (Vec<TokenId>, Usage) {
    let mut tokens = Vec::new();
    loop {
        match receiver.recv_timeout(Duration::from_secs(600)).expect("the request must come to an end") {
            Event::Token { id, .. } => tokens.push(id),
            Event::Done(usage) => return (tokens, *usage),
            Event::Failed(failure, _) => panic!("{failure:?}"),
            _ => {}
        }
    }
}

fn prompt(seed: u32, len: u32) -> Vec<TokenId> {
    (0..len).map(|at| at.wrapping_add(seed * 1000).wrapping_mul(2_654_435_761) % 30_000 + 100).collect()
}

/// Prompts of several lengths, the first two with a common beginning that ends within a block.
fn prompts(longest: u32) -> Vec<Vec<TokenId>> {
    let mut sibling = prompt(1, 75);
    sibling.extend(prompt(5, 30));
    vec![prompt(1, 90), sibling, prompt(2, 33), prompt(3, longest)]
}

const MADE: u32 = 12;

struct Scenario<'a> {
    model: &'a Arc<Model>,
    blocks: usize,
    config: EngineConfig,
    together: bool,
}

impl Scenario<'_> {
    /// Runs all prompts, one after the other or together; gives the tokens made and what each used.
    fn run(
        &self,
        prompts: &[Vec<TokenId>],
        scores: bool,
        record: &Arc<Mutex<Record>>,
    ) -> (Vec<Vec<TokenId>>, Vec<Usage>) {
        let runner = Recording::new(self.model, self.blocks, record);
        let engine = LocalEngine::start(Box::new(runner), self.config.clone()).unwrap();
        let mut results = Vec::new();
        let mut readers = Vec::new();
        for prompt in prompts {
            let (request, reader) = ask(prompt, MADE, scores);
            engine.submit(request).unwrap();
            if self.together {
                readers.push(reader);
            } else {
                results.push(read(&reader));
            }
        }
        results.extend(readers.iter().map(read));
        results.into_iter().unzip()
    }
}

/// `longest` tokens in the longest of the four prompts; every position of the first `scored` ones is compared, of the
/// others those from the last of the prompt on.
fn check(file: &str, longest: u32, scored: usize) {
    let one = load(file, 1);
    let two = load(file, 2);
    let prompts = prompts(longest);
    let record = Arc::new(Mutex::new(Record::default()));
    let plain = EngineConfig { prefix_cache: false, ..EngineConfig::default() };
    let base = Scenario { model: &one, blocks: 200, config: plain.clone(), together: false };

    // Alone, in one piece; then every prompt position by scoring, in slices.
    let (alone, _) = base.run(&prompts, false, &record);
    let (tokens, _) = base.run(&prompts[..scored], true, &record);
    assert_eq!(tokens, alone[..scored], "scored");
    let known = record.lock().unwrap().rows.len();

    let batched = Scenario { model: &two, together: true, ..base_of(&base) };
    let (tokens, _) = batched.run(&prompts, false, &record);
    assert_eq!(tokens, alone, "batched, two threads");

    let config = EngineConfig { prefill_chunk: 23, ..plain.clone() };
    let chunked = Scenario { model: &two, config, together: true, ..base_of(&base) };
    let (tokens, _) = chunked.run(&prompts, false, &record);
    assert_eq!(tokens, alone, "in chunks, two threads");
    let (tokens, _) = chunked.run(&prompts[..scored], true, &record);
    assert_eq!(tokens, alone[..scored], "in chunks, scored, two threads");

    let caching = Scenario { config: EngineConfig::default(), ..base_of(&base) };
    let twice: Vec<Vec<TokenId>> = prompts.iter().chain(&prompts).cloned().collect();
    let (tokens, usage) = caching.run(&twice, false, &record);
    assert_eq!(tokens, [alone.clone(), alone.clone()].concat(), "from the prefix cache");
    assert_eq!(usage[1].input_cached_tokens, 75, "a part of a block is copied");
    assert!(usage[4..].iter().all(|usage| usage.input_uncached_tokens == 1), "only the last token is computed");

    preempted(&base, &prompts, &alone, &record);

    let record = record.lock().unwrap();
    assert!(record.different.is_empty(), "rows that differ, by their number of tokens: {:?}", record.different);
    assert_eq!(record.rows.len(), known, "every later row was one already known");
    assert!(record.repeated > known, "{} rows were computed again", record.repeated);
}

/// A pool so small that a long and a short sequence cannot both grow: the later one is preempted and resumes.
fn preempted(base: &Scenario<'_>, prompts: &[Vec<TokenId>], alone: &[Vec<TokenId>], record: &Arc<Mutex<Record>>) {
    for caching in [false, true] {
        let config = EngineConfig { prefix_cache: caching, ..EngineConfig::default() };
        let longest = prompts[3].len().div_ceil(BLOCK_TOKENS);
        let runner = Recording::new(base.model, longest + 2, record);
        let engine = Arc::new(LocalEngine::start(Box::new(runner), config).unwrap());
        let (mut urgent, urgent_events) = ask(&prompts[3], MADE, false);
        urgent.priority = 1;
        let (mut low, low_events) = ask(&prompts[0], MADE, false);
        // The urgent request comes in on the engine's own thread, at the low one's second token.
        let (handle, mut urgent) = (Arc::downgrade(&engine), Some(urgent));
        let mut events = std::mem::replace(&mut low.events, Box::new(|_| {}));
        let mut made = 0;
        low.events = Box::new(move |event| {
            made += 1;
            if made == 2 {
                handle.upgrade().unwrap().submit(urgent.take().unwrap()).unwrap();
            }
            events.push(event);
        });
        engine.submit(low).unwrap();
        let (tokens, _) = read(&urgent_events);
        assert_eq!(tokens, alone[3]);
        let (tokens, usage) = read(&low_events);
        assert_eq!(tokens, alone[0], "resumed");
        assert!(usage.preemptions > 0, "it must have been preempted");
    }
}

fn base_of<'a>(scenario: &Scenario<'a>) -> Scenario<'a> {
    Scenario { config: scenario.config.clone(), ..*scenario }
}

#[test]
fn smollm2_logits_are_the_same_however_computed() {
    check("smollm2-135m.gguf", 200, 4);
}

#[test]
fn gemma3_logits_are_the_same_however_computed() {
    // Longer than the sliding window.
    check("gemma3-270m.gguf", 540, 3);
}
