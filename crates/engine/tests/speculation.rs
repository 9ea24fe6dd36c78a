//! Guessing ahead on tiny generated models: the same answers, bit for bit; and how much it saves on a real one.
#![cfg(test)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use engine::{EngineConfig, LocalEngine, ModelRunner, Runner, RunnerError, RunnerShape};
use formats::gguf::Gguf;
use inference::{Engine, Event, Request, RequestId, SamplingParams, TokenId};
use kernels::ThreadPool;
use model::{Batch, BlockId, KvType, Model};
use test_support::TinyModel;

use common::{Answer, read};

fn ask(prompt: Vec<TokenId>, max_tokens: u32, sampling: SamplingParams) -> (Request, Receiver<Event>) {
    let (sender, receiver) = channel();
    let events = Box::new(move |event| drop(sender.send(event)));
    let request = Request { sampling, ..Request::plain(RequestId(0), prompt, max_tokens, events) };
    (request, receiver)
}

/// A prompt in which a few tokens come again and again.
fn prompt(seed: u32, vocab: u32) -> Vec<TokenId> {
    let token = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 7) % vocab;
    let part: Vec<TokenId> = (0..3 + seed % 17).map(token).collect();
    part.iter().copied().cycle().take(part.len() * 3 + seed as usize % 5).collect()
}

fn answers((model, kv_type): (&Arc<Model>, KvType), speculation: bool, chunk: usize, together: bool) -> Vec<Answer> {
    let runner = ModelRunner::new(Arc::clone(model), kv_type, 40).unwrap();
    let config = EngineConfig { speculation, prefill_chunk: chunk, seed: Some(1), ..EngineConfig::default() };
    let engine = LocalEngine::start(Box::new(runner), config).unwrap();
    let vocab = u32::try_from(model.config().vocab_size).unwrap();
    let (mut answers, mut readers) = (Vec::new(), Vec::new());
    for seed in 0..16 {
        let sampling = SamplingParams {
            temperature: if seed % 2 == 0 { 0.0 } else { 0.3 },
            seed: Some(u64::from(seed)),
            logprobs: Some(2),
            ..SamplingParams::default()
        };
        let (request, reader) = ask(prompt(seed, vocab), 60, sampling);
        engine.submit(request).unwrap();
        if together {
            readers.push(reader);
        } else {
            answers.push(read(&reader));
        }
    }
    answers.extend(readers.iter().map(read));
    answers
}

fn load(tiny: &TinyModel) -> Arc<Model> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny.write(&path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    Arc::new(Model::load(&gguf, &Arc::new(ThreadPool::new(2).unwrap())).unwrap())
}

fn check(tiny: &TinyModel, kv_type: KvType) {
    let model = load(tiny);
    let plain = answers((&model, kv_type), false, 256, false);
    let mut accepted = 0;
    for (chunk, together) in [(256, false), (256, true), (5, true)] {
        for (plain, drafted) in plain.iter().zip(answers((&model, kv_type), true, chunk, together)) {
            assert_eq!(plain.tokens, drafted.tokens);
            assert_eq!(plain.logprobs, drafted.logprobs, "bit for bit");
            accepted += drafted.usage.draft_accepted_tokens;
        }
    }
    assert!(accepted > 50, "{accepted} guesses came");
}

#[test]
fn a_tiny_llama_answers_the_same() {
    check(&TinyModel::llama(), KvType::F16);
    check(&TinyModel::llama(), KvType::Q8_0);
}

#[test]
fn a_tiny_gemma_answers_the_same() {
    check(&TinyModel::gemma3(), KvType::F16);
}

/// Takes longer than it must, as a large model does, and counts its passes.
struct Slow(ModelRunner, Arc<AtomicUsize>);

impl Runner for Slow {
    fn shape(&self) -> RunnerShape {
        self.0.shape()
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut [f32]) -> Result<(), RunnerError> {
        std::thread::sleep(Duration::from_millis(20));
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.forward(batch, logits)
    }

    fn copy_block(&mut self, from: BlockId, to: BlockId, tokens: usize) {
        self.0.copy_block(from, to, tokens);
    }
}

#[test]
fn a_draft_model_changes_nothing_and_saves_passes() {
    let model = load(&TinyModel::llama());
    let ask = |draft: Option<&Arc<Model>>| {
        let passes = Arc::new(AtomicUsize::new(0));
        let runner = |model: &Arc<Model>| ModelRunner::new(Arc::clone(model), KvType::F16, 40).unwrap();
        let draft = draft.map(|draft| -> Box<dyn Runner> { Box::new(runner(draft)) });
        let config = EngineConfig { speculation: draft.is_some(), seed: Some(1), ..EngineConfig::default() };
        let slow = Box::new(Slow(runner(&model), Arc::clone(&passes)));
        let engine = LocalEngine::start_with_draft(slow, draft, config).unwrap();
        let mut all = Vec::new();
        for seed in [None, Some(5)] {
            let temperature = if seed.is_some() { 0.9 } else { 0.0 };
            let sampling = SamplingParams { temperature, seed, logprobs: Some(1), ..SamplingParams::default() };
            let (request, reader) = ask((10..50).map(|token| token * 5 % 197).collect(), 60, sampling);
            engine.submit(request).unwrap();
            let answer = read(&reader);
            all.push((answer.tokens, answer.logprobs));
        }
        let counters = engine.counters();
        assert!(counters.draft_ns <= counters.busy_ns, "{counters:?}");
        (all, passes.load(Ordering::Relaxed))
    };
    let (plain, plain_passes) = ask(None);
    let (itself, passes) = ask(Some(&model));
    assert_eq!(plain, itself, "bit for bit");
    assert!(passes * 4 < plain_passes * 3, "{passes} passes in place of {plain_passes}");
    let (foreign, _) = ask(Some(&load(&TinyModel { seed: 8, layers: 1, ..TinyModel::llama() })));
    assert_eq!(plain, foreign, "bit for bit");
}
