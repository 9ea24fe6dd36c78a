//! Requests with several adapters and with none in one engine: the answers of each alone, and nothing shared between them.
#![cfg(test)]

mod common;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use engine::{EngineConfig, LocalEngine, ModelRunner, Runner};
use formats::gguf::Gguf;
use inference::{Adapter, Engine, Event, Request, RequestId, SamplingParams, SubmitError};
use kernels::ThreadPool;
use model::{KvType, Model};
use test_support::{TinyAdapter, TinyModel};

use common::{Answer, read};

/// Longest wait for something that must come.
const LIMIT: Duration = Duration::from_secs(120);
/// Tokens of the prompt: two whole blocks and a part.
const PROMPT: u32 = 75;
const MADE: u32 = 20;

fn ask(adapter: Option<&Adapter>) -> (Request, Receiver<Event>) {
    let (sender, receiver) = channel();
    let events = Box::new(move |event| drop(sender.send(event)));
    let prompt = (0..PROMPT).map(|at| at.wrapping_mul(2_654_435_761) % 250).collect();
    let sampling = SamplingParams { temperature: 0.0, logprobs: Some(3), ..SamplingParams::default() };
    let request = Request::plain(RequestId(0), prompt, MADE, events);
    (Request { sampling, adapter: adapter.cloned(), ..request }, receiver)
}

struct Plant {
    model: Arc<Model>,
    adapters: Vec<Adapter>,
}

impl Plant {
    fn new(tiny: &TinyModel) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.gguf");
        tiny.write(&path).unwrap();
        let model = Model::load(&Gguf::open(&path).unwrap(), &Arc::new(ThreadPool::new(2).unwrap())).unwrap();
        let load = |seed| {
            TinyAdapter::new(4, seed).writer(tiny).unwrap().write(&path).unwrap();
            let file = formats::adapter::Adapter::open(&path).unwrap();
            Adapter::new(Arc::new(model.load_adapter(&file).unwrap()))
        };
        let adapters = vec![load(1), load(2)];
        Self { model: Arc::new(model), adapters }
    }

    /// With the base as the model that guesses ahead, if `drafts`.
    fn engine(&self, drafts: bool) -> LocalEngine {
        let runner =
            || Box::new(ModelRunner::new(Arc::clone(&self.model), KvType::F16, 40).unwrap()) as Box<dyn Runner>;
        let config = EngineConfig { seed: Some(1), speculation: drafts, prefill_chunk: 40, ..EngineConfig::default() };
        LocalEngine::start_with_draft(runner(), drafts.then(runner), config).unwrap()
    }

    /// Without an adapter, then with each.
    fn all(&self) -> impl Iterator<Item = Option<&Adapter>> {
        std::iter::once(None).chain(self.adapters.iter().map(Some))
    }

    fn alone(&self, adapter: Option<&Adapter>) -> Answer {
        let engine = self.engine(false);
        let (request, receiver) = ask(adapter);
        engine.submit(request).unwrap();
        read(&receiver)
    }
}

#[test]
fn answers_are_those_of_each_alone() {
    for tiny in [TinyModel::llama(), TinyModel::llama().with_weights(formats::gguf::TensorType::Q8_0)] {
        let plant = Plant::new(&tiny);
        let expected: Vec<Answer> = plant.all().map(|adapter| plant.alone(adapter)).collect();
        assert!(expected[0].tokens != expected[1].tokens && expected[1].tokens != expected[2].tokens);
        for drafts in [false, true] {
            let engine = plant.engine(drafts);
            // All together, twice each; then one after the other, their prompts in the cache by now.
            let mut readers = Vec::new();
            for adapter in plant.all().chain(plant.all()) {
                let (request, receiver) = ask(adapter);
                engine.submit(request).unwrap();
                readers.push(receiver);
            }
            let mut answers: Vec<Answer> = readers.iter().map(read).collect();
            for adapter in plant.all() {
                let (request, receiver) = ask(adapter);
                engine.submit(request).unwrap();
                answers.push(read(&receiver));
                assert!(answers[answers.len() - 1].usage.input_cached_tokens >= 64);
            }
            for (number, answer) in answers.iter().enumerate() {
                let Answer { tokens, logprobs, .. } = &expected[number % 3];
                assert_eq!((&answer.tokens, &answer.logprobs), (tokens, logprobs), "answer {number}, drafts {drafts}");
            }
        }
    }
}

#[test]
fn keys_and_values_are_never_shared_between_adapters() {
    let plant = Plant::new(&TinyModel::llama());
    let engine = plant.engine(false);
    let cached = |adapter: Option<&Adapter>| {
        let (request, receiver) = ask(adapter);
        engine.submit(request).unwrap();
        read(&receiver).usage.input_cached_tokens
    };
    for adapter in plant.all() {
        assert_eq!(cached(adapter), 0, "the same prompt under {adapter:?}");
        assert_eq!(cached(adapter), u64::from(PROMPT) - 1);
    }
    // The same weights loaded once more are another adapter.
    let again = Plant::new(&TinyModel::llama());
    assert_eq!(cached(Some(&again.adapters[0])), 0);
}

#[test]
fn an_adapter_is_kept_until_its_last_request_has_ended() {
    let plant = Plant::new(&TinyModel::llama());
    let engine = plant.engine(false);
    let adapter = &plant.adapters[0];
    let (request, receiver) = ask(Some(adapter));
    assert_eq!(adapter.holders(), 2);
    engine.submit(request).unwrap();
    read(&receiver);
    let deadline = Instant::now() + LIMIT;
    while adapter.holders() > 1 {
        assert!(Instant::now() < deadline, "the engine holds what no request has");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_no_adapter_of_a_model_is_refused() {
    let plant = Plant::new(&TinyModel::llama());
    let (request, _receiver) = ask(Some(&Adapter::new(Arc::new("no weights"))));
    match plant.engine(false).submit(request) {
        Err(SubmitError::Invalid(message)) => assert!(message.contains("adapter"), "{message}"),
        other => panic!("{other:?}"),
    }
}
