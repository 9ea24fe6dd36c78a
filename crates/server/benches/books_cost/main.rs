//! What the books cost a request: `cargo bench -p server --bench books_cost -- [--pairs N] [--model FILE] …`, or
//! `./scripts/books-cost`, which fetches the default model.
//!
//! 1. **Time added to the first token.** One simulated engine (1 ms a step, burnt) answers the same request over three
//!    arms in random order: with books, without, and without once more (the control: what a pair differs by when there
//!    is no difference). Other simulated engines keep every core busy meanwhile. First directly at the line, then over
//!    HTTP; with books the key is looked up in them, without it is one of the configuration. A request with books has a
//!    customer's price, three budgets, limits per minute, a hold, a journal page and a settlement that waits for the disk.
//!    "Added" is the difference of each pair; beside it stands the difference of the arms' own quantiles.
//! 2. **Processor time.** 16 clients stream from the real model (FILE, a GGUF file) in rounds with and without books, in
//!    random order. The threads of the books count whole, the server's by the difference of the rounds, since admission
//!    and the journal run there.
//!
//! Caveats: figures are for this machine and its disk, and other work on it falsifies them. A waking thread waits for a
//! core that others burn; that is part of what is measured, and the control shows how much it varies by itself. Processor
//! time comes in ticks of 10 ms for each thread, so rounds must be long.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark prints, and stops at a fault"
)]

mod first_token;
mod plant;
mod processor;
mod stats;

use std::path::PathBuf;
use std::time::Duration;

/// What to measure.
struct Options {
    /// Of requests with and without books, for each of line and HTTP.
    pairs: usize,
    /// Of clients with and without books.
    rounds: usize,
    round: Duration,
    /// The real model.
    model: Option<PathBuf>,
    seed: u64,
}

impl Options {
    fn read() -> Self {
        let mut options = Self { pairs: 2_000, rounds: 10, round: Duration::from_secs(10), model: None, seed: 1 };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            match argument.as_str() {
                "--pairs" => options.pairs = value().parse().unwrap(),
                "--rounds" => options.rounds = value().parse().unwrap(),
                "--round-seconds" => options.round = Duration::from_secs(value().parse().unwrap()),
                "--model" => options.model = Some(value().into()),
                "--seed" => options.seed = value().parse().unwrap(),
                // From cargo.
                "--bench" => {}
                other => panic!("unknown argument {other}"),
            }
        }
        options
    }
}

fn main() {
    let options = Options::read();
    println!("{} cores, seed {}", plant::cores(), options.seed);
    first_token::run(options.pairs, options.seed);
    match &options.model {
        Some(model) => processor::run(model, options.rounds, options.round, options.seed),
        None => println!("\nno --model FILE: processor time is not measured"),
    }
}
