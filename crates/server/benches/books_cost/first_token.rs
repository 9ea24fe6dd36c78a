//! What the books add to the time until the first token.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use economics::books::Metadata;
use engine::{EngineConfig, LocalEngine, SimulatedConfig, SimulatedRunner};
use formats::gguf::Gguf;
use inference::{Engine, Event, EventSink, Request, RequestId, SamplingParams};
use serde_json::json;
use service::{Generation, Labels, Line, LineEvent, Payer, Prompt};
use test_support::{Random, TinyModel};
use tokenizer::Tokenizer;

use crate::plant::{Arm, KEY, MODEL, Plant, cores, now_ms};
use crate::stats::{bootstrap, quantile};

const STEP: Duration = Duration::from_millis(1);
/// Of the engines that only keep the cores busy.
const BUSY_STEP: Duration = Duration::from_millis(5);
const BUSY_BLOCKS: usize = 16 * 1024;
const PROMPT_TOKENS: u32 = 64;
const ANSWER_TOKENS: u32 = 4;
/// Pairs before those that count.
const WARM_UP: usize = 50;

/// Milliseconds of the three requests of one turn.
#[derive(Clone, Copy)]
struct Turn {
    on: f64,
    off: f64,
    control: f64,
}

pub(crate) fn run(pairs: usize, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiny.gguf");
    TinyModel::llama().write(&file).unwrap();
    let gguf = Gguf::open(&file).unwrap();
    let vocab_size = Tokenizer::from_gguf(&gguf).unwrap().vocab_size();
    let config = SimulatedConfig { vocab_size, step_cost: STEP, spin: true, ..SimulatedConfig::default() };
    let plant = Plant::start(Box::new(SimulatedRunner::new(config)), &gguf);
    let busy: Vec<LocalEngine> = (0..cores()).map(|_| busy_engine()).collect();
    let mut random = Random::new(seed);
    println!("\nTime to the first token, in ms: {pairs} pairs, {} engines keep {} cores busy\n", busy.len(), cores());
    println!("| at | books p50 | p99 | none p50 | p99 | added p50 (95 %) | added p99 (95 %) | p99 less p99 (95 %) |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut number = 0;
    let line = turns(pairs, &mut random, |arm| {
        number += 1;
        at_the_line(&plant, arm, number)
    });
    report("line", &line, &mut random);
    let http = turns(pairs, &mut random, |arm| over_http(plant.side(arm).address));
    report("HTTP", &http, &mut random);
    assert!(busy.iter().all(|engine| engine.gauges().running == 1), "a busy engine ran out of work: fewer pairs");
    plant.check();
}

/// Measures in random order within each turn.
fn turns(pairs: usize, random: &mut Random, mut probe: impl FnMut(Arm) -> Duration) -> Vec<Turn> {
    let mut turns = Vec::with_capacity(pairs);
    for _ in 0..pairs + WARM_UP {
        let mut arms = [(0, Arm::On), (1, Arm::Off), (2, Arm::Off)];
        for last in (1..arms.len()).rev() {
            arms.swap(last, random.below(u32::try_from(last + 1).unwrap()) as usize);
        }
        let mut ms = [0.0; 3];
        for (place, arm) in arms {
            ms[place] = probe(arm).as_secs_f64() * 1e3;
        }
        turns.push(Turn { on: ms[0], off: ms[1], control: ms[2] });
    }
    turns.split_off(WARM_UP)
}

type Figure = fn(&Turn) -> f64;

/// A row for the books, and one for the control.
fn report(at: &str, turns: &[Turn], random: &mut Random) {
    let of =
        |turns: &[Turn], share: f64, value: Figure| quantile(&mut turns.iter().map(value).collect::<Vec<_>>(), share);
    let rows: [(&str, Figure, Figure); 2] = [
        ("", |turn| turn.on, |turn| turn.on - turn.off),
        (", control", |turn| turn.control, |turn| turn.control - turn.off),
    ];
    for (what, own, added) in rows {
        let [p50, p99] = [0.5, 0.99].map(|share| of(turns, share, own));
        let [off50, off99] = [0.5, 0.99].map(|share| of(turns, share, |turn| turn.off));
        let [added50, added99] = [0.5, 0.99].map(|share| bootstrap(turns, random, |sample| of(sample, share, added)));
        let tails = bootstrap(turns, random, |sample| of(sample, 0.99, own) - of(sample, 0.99, |turn| turn.off));
        println!("| {at}{what} | {p50:.3} | {p99:.3} | {off50:.3} | {off99:.3} | {added50} | {added99} | {tails} |");
    }
}

/// From before the key is known until the first text, on a thread of the server; the answer is read to its end.
fn at_the_line(plant: &Plant, arm: Arm, number: u64) -> Duration {
    let line = Arc::clone(&plant.side(arm).line);
    let books = (arm == Arm::On).then(|| Arc::clone(plant.charging.books()));
    let work = plant.runtime.spawn(async move {
        let started = Instant::now();
        let payer = books.map(|books| {
            let identity = Arc::new(books.identify(KEY, "", now_ms()).unwrap());
            Payer { identity, tag: None, metadata: Metadata::default(), streamed: true, traffic: None }
        });
        let mut reply = line.submit(generation(payer, number)).await.unwrap();
        let mut first = None;
        while let Some(event) = reply.next().await {
            match event {
                LineEvent::Text { .. } => first = first.or(Some(started.elapsed())),
                LineEvent::Failed(error, _) => panic!("{error}"),
                _ => {}
            }
        }
        first.unwrap()
    });
    plant.runtime.block_on(work).unwrap()
}

fn generation(payer: Option<Payer>, number: u64) -> Generation {
    Generation {
        id: format!("cmpl-{:012x}{number:020x}", now_ms()),
        prompt: Prompt::Ids(prompt()),
        answered: Vec::new(),
        max_tokens: Some(ANSWER_TOKENS),
        candidates: 1,
        sampling: SamplingParams { temperature: 0.0, logprobs: Some(0), ..SamplingParams::default() },
        stop: Vec::new(),
        ignore_eos: true,
        echo: false,
        priority: 0,
        template_variables: BTreeMap::new(),
        labels: Labels::default(),
        payer,
    }
}

fn prompt() -> Vec<u32> {
    (0..PROMPT_TOKENS).map(|n| 10 + n % 50).collect()
}

fn over_http(address: SocketAddr) -> Duration {
    let body = json!({
        "model": MODEL, "prompt": prompt(), "max_tokens": ANSWER_TOKENS, "temperature": 0, "ignore_eos": true,
        "logprobs": 0, "stream": true, "stream_options": {"include_usage": true},
    });
    stream(address, &body.to_string()).0
}

/// Streams one completion over a connection of its own: the time from sending to the first frame, and the tokens made.
pub(crate) fn stream(address: SocketAddr, body: &str) -> (Duration, u64) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_nodelay(true).unwrap();
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (started, mut first, mut seen, mut buffer) = (Instant::now(), None, String::new(), [0; 16 * 1024]);
    connection.write_all(request.as_bytes()).unwrap();
    loop {
        let read = connection.read(&mut buffer).unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        if first.is_none() && seen.contains("data: {") {
            first = Some(started.elapsed());
        }
        if read == 0 {
            break;
        }
    }
    let tokens = seen.rsplit_once("\"completion_tokens\":").filter(|_| seen.contains("data: [DONE]"));
    let tokens = tokens.unwrap_or_else(|| panic!("no whole answer: {seen}")).1;
    let digits: String = tokens.chars().take_while(char::is_ascii_digit).collect();
    (first.unwrap(), digits.parse().unwrap())
}

/// Takes one endless answer to keep a core busy.
fn busy_engine() -> LocalEngine {
    let context_len = BUSY_BLOCKS * model::BLOCK_TOKENS;
    let config = SimulatedConfig {
        context_len,
        kv_blocks: BUSY_BLOCKS,
        vocab_size: 64,
        step_cost: BUSY_STEP,
        spin: true,
        ..SimulatedConfig::default()
    };
    let engine = LocalEngine::start(Box::new(SimulatedRunner::new(config)), EngineConfig::default()).unwrap();
    let max_tokens = u32::try_from(context_len).unwrap() - 1;
    let request = Request::plain(RequestId(1), vec![1], max_tokens, Box::new(Unread));
    engine.submit(request).unwrap();
    engine
}

struct Unread;

impl EventSink for Unread {
    fn push(&mut self, _: Event) {}
}
