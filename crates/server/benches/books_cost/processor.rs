//! The books' share of the processor time while a real model streams to 16 clients.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::ModelRunner;
use formats::gguf::Gguf;
use kernels::ThreadPool;
use model::{KvType, Model};
use serde_json::json;
use test_support::Random;

use crate::first_token::stream;
use crate::plant::{Arm, MODEL, Plant, cores};
use crate::stats::bootstrap;

const CLIENTS: u64 = 16;
const PROMPT_TOKENS: u64 = 32;
const ANSWER_TOKENS: u32 = 64;
/// Of 32 tokens each; twice what the clients need.
const KV_BLOCKS: usize = 128;
/// Linux counts in hundredths of a second for programs.
const TICK_SECONDS: f64 = 0.01;

/// Threads of one duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Engine,
    Server,
    Books,
    Ledger,
    Journal,
    Other,
}

const GROUPS: [(Group, &str); 6] = [
    (Group::Engine, "engine, compute"),
    (Group::Server, "server (HTTP, admission, journal)"),
    (Group::Books, "books"),
    (Group::Ledger, "ledger"),
    (Group::Journal, "journal-sync"),
    (Group::Other, "other"),
];

/// Seconds on a processor by group.
type Seconds = [f64; GROUPS.len()];

/// One round of clients.
#[derive(Clone, Copy, Default)]
struct Round {
    seconds: Seconds,
    tokens: f64,
    wall: f64,
}

impl Round {
    fn total(&self) -> f64 {
        self.seconds.iter().sum()
    }

    fn of(&self, group: Group) -> f64 {
        self.seconds[group as usize]
    }
}

pub(crate) fn run(file: &Path, rounds: usize, round: Duration, seed: u64) {
    let gguf = Gguf::open(file).unwrap();
    let pool = Arc::new(ThreadPool::new(cores()).unwrap());
    let model = Arc::new(Model::load(&gguf, &pool).unwrap());
    let plant = Plant::start(Box::new(ModelRunner::new(model, KvType::F16, KV_BLOCKS).unwrap()), &gguf);
    let mut random = Random::new(seed);
    for arm in [Arm::On, Arm::Off] {
        clients(&plant, arm, Duration::from_secs(1));
    }
    let pairs: Vec<(Round, Round)> = (0..rounds)
        .map(|_| {
            let on_first = random.below(2) == 0;
            let first = clients(&plant, if on_first { Arm::On } else { Arm::Off }, round);
            let second = clients(&plant, if on_first { Arm::Off } else { Arm::On }, round);
            if on_first { (first, second) } else { (second, first) }
        })
        .collect();
    plant.check();
    report(&pairs, &mut random);
}

/// Clients that stream one answer after the other, the last one to its end.
fn clients(plant: &Plant, arm: Arm, time: Duration) -> Round {
    let address = plant.side(arm).address;
    let (before, started) = (processor_seconds(), Instant::now());
    let tokens = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let name = format!("client-{client}");
                let work = move || {
                    let (mut tokens, mut number) = (0, 0);
                    while started.elapsed() < time {
                        number += 1;
                        let ids: Vec<u64> =
                            (0..PROMPT_TOKENS).map(|n| 100 + client * 1_000 + number * 31 + n).collect();
                        let body = json!({
                            "model": MODEL, "prompt": ids, "max_tokens": ANSWER_TOKENS, "ignore_eos": true,
                            "stream": true, "stream_options": {"include_usage": true},
                        });
                        tokens += stream(address, &body.to_string()).1;
                    }
                    tokens
                };
                std::thread::Builder::new().name(name).spawn_scoped(scope, work).unwrap()
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum::<u64>()
    });
    let wall = started.elapsed().as_secs_f64();
    plant.settle();
    let mut seconds = Seconds::default();
    for (thread, (group, now)) in processor_seconds() {
        seconds[group as usize] += now - before.get(&thread).map_or(0.0, |(_, before)| *before);
    }
    Round { seconds, tokens: tokens as f64, wall }
}

/// Seconds each thread of this process has had, except those of clients and this one.
fn processor_seconds() -> BTreeMap<String, (Group, f64)> {
    let own = std::process::id().to_string();
    let mut threads = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/task").unwrap() {
        let entry = entry.unwrap();
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // `id (name) state …`; user and system time are the 12th and 13th after the name.
        let (head, fields) = stat.rsplit_once(") ").unwrap();
        let (id, name) = head.split_once(" (").unwrap();
        if id == own || name.starts_with("client-") {
            continue;
        }
        let ticks: f64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum();
        threads.insert(id.to_owned(), (group(name), ticks * TICK_SECONDS));
    }
    threads
}

fn group(name: &str) -> Group {
    match name {
        "books" => Group::Books,
        "ledger" => Group::Ledger,
        "journal-sync" => Group::Journal,
        "server" => Group::Server,
        name if name == "engine" || name.starts_with("compute-") => Group::Engine,
        _ => Group::Other,
    }
}

/// The books' own threads and what the server's threads have more of than without books, over all of it.
fn share(pairs: &[(Round, Round)]) -> f64 {
    let sum = |value: &dyn Fn(&(Round, Round)) -> f64| pairs.iter().map(value).sum::<f64>();
    let own = sum(&|(on, _)| on.of(Group::Books) + on.of(Group::Ledger) + on.of(Group::Journal));
    let (on_tokens, off_tokens) = (sum(&|(on, _)| on.tokens), sum(&|(_, off)| off.tokens));
    let server = sum(&|(on, _)| on.of(Group::Server)) - sum(&|(_, off)| off.of(Group::Server)) / off_tokens * on_tokens;
    100.0 * (own + server) / sum(&|(on, _)| on.total())
}

fn report(pairs: &[(Round, Round)], random: &mut Random) {
    let mut sums = [Round::default(); 2];
    for (on, off) in pairs {
        for (sum, round) in sums.iter_mut().zip([on, off]) {
            sum.tokens += round.tokens;
            sum.wall += round.wall;
            sum.seconds.iter_mut().zip(round.seconds).for_each(|(sum, seconds)| *sum += seconds);
        }
    }
    let [on, off] = sums;
    println!("\nProcessor time at {CLIENTS} streams, in microseconds a token: {} rounds of each\n", pairs.len());
    println!("| threads | books | none | difference | share of all with books |");
    println!("|---|---|---|---|---|");
    let per_token = |seconds: f64, round: &Round| seconds * 1e6 / round.tokens;
    let row = |name: &str, with: f64, without: f64| {
        let (with, without) = (per_token(with, &on), per_token(without, &off));
        let all = 100.0 * with / per_token(on.total(), &on);
        println!("| {name} | {with:.2} | {without:.2} | {:.2} | {all:.2} % |", with - without);
    };
    for (group, name) in GROUPS {
        row(name, on.of(group), off.of(group));
    }
    row("all", on.total(), off.total());
    println!("\ntokens/s: {:.1} with books, {:.1} without", on.tokens / on.wall, off.tokens / off.wall);
    println!("the books' share of the process's time, in %: {}", bootstrap(pairs, random, share));
}
