//! Guessing ahead on tiny generated models: the same answers, bit for bit; and how much it saves on a real one.
#![cfg(test)]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use engine::{EngineConfig, LocalEngine, ModelRunner};
use formats::gguf::Gguf;
use inference::{Engine, Event, Request, RequestId, SamplingParams, TokenId, TokenLogprobs, Usage};
use kernels::ThreadPool;
use model::{KvType, Model};
use test_support::TinyModel;

struct Answer {
    tokens: Vec<TokenId>,
    logprobs: Vec<Option<TokenLogprobs>>,
    usage: Usage,
}

fn ask(prompt: Vec<TokenId>, max_tokens: u32, sampling: SamplingParams) -> (Request, Receiver<Event>) {
    let (sender, receiver) = channel();
    let events = Box::new(move |event| drop(sender.send(event)));
    let request = Request { sampling, ..Request::plain(RequestId(0), prompt, max_tokens, events) };
    (request, receiver)
}

fn read(receiver: &Receiver<Event>) -> Answer {
    let (mut tokens, mut all) = (Vec::new(), Vec::new());
    loop {
        match receiver.recv_timeout(Duration::from_secs(600)).expect("the request must come to an end") {
            Event::Token { id, logprobs, .. } => {
                tokens.push(id);
                all.push(logprobs);
            }
            Event::Done(usage) => return Answer { tokens, logprobs: all, usage: *usage },
            Event::Failed(failure, _) => panic!("{failure:?}"),
            _ => {}
        }
    }
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

fn check(tiny: &TinyModel, kv_type: KvType) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny.write(&path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let model = Arc::new(Model::load(&gguf, &Arc::new(ThreadPool::new(2).unwrap())).unwrap());
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
