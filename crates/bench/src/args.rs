//! The command line, checked once.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::compare::args::CompareArgs;
use crate::speculation::args::SpeculationArgs;

/// Benchmarks a server with the OpenAI API from outside.
#[derive(Debug, Parser)]
#[command(name = "tokenworks-bench", version)]
pub struct Cli {
    /// What to measure.
    #[command(subcommand)]
    pub command: Command,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Many streaming clients at once; some hang up at random. Exits 1 when a rule is broken, 2 when nothing ran
    #[command(after_help = "\
Examples:
  tokenworks-bench serve-load --clients 64 --requests 2000 --pid $(pidof tokenworks)
  tokenworks-bench serve-load --requests 200 --disconnect 0.3 --seed 7 --json
  tokenworks-bench serve-load --url http://127.0.0.1:8081 --disconnect 0 --metrics off   # llama-server
  tokenworks-bench serve-load --rate 2.5 --requests 300 --disconnect 0 --slo ttft=1,tpot=0.1   # arrivals, not clients

Outcomes that are legal: 200 with a whole stream, 429, 503, closed by the client. Everything else is a violation.")]
    ServeLoad(Box<LoadArgs>),
    /// Tokenworks and llama.cpp side by side on the same files; writes a report with plots. Exits 2 when nothing ran
    #[command(after_help = "\
Examples:
  tokenworks-bench compare --llama-bin llama.cpp/build/bin --model smollm2-Q4_1.gguf=Q4_1 --model smollm2-Q4_0.gguf=Q4_0
  tokenworks-bench compare --llama-bin DIR --model m.gguf=Q4_1 --rounds 1 --only prefill,decode --fixed-peer 512,on

It takes two hours with the four models of the script. Let nothing else run on the machine.")]
    Compare(Box<CompareArgs>),
    /// Tokenworks with and without guesses, in turn: how much faster copying is, and what other work pays. Exits 1 when an
    /// answer is not the same, 2 when nothing ran
    #[command(after_help = "\
Examples:
  tokenworks-bench speculation --model smollm2-135m.gguf
  tokenworks-bench speculation --tokenworks target/release/tokenworks --model m.gguf --pairs 40 --only chat --json

It takes some minutes. Let nothing else run on the machine.")]
    Speculation(Box<SpeculationArgs>),
    /// How often 95 % intervals hold the truth, and how often experiments without a difference raise an alarm; two tables in
    /// Markdown, over simulated data
    #[command(after_help = "\
Examples:
  tokenworks-bench statistics
  tokenworks-bench statistics --sets 500 --seed 7

It needs no server, and takes some minutes with the default.")]
    Statistics(StatisticsArgs),
}

/// Settings of the simulations.
#[derive(Clone, Copy, Debug, Args)]
pub struct StatisticsArgs {
    /// Data sets, and experiments, for each row
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sets: u32,
    /// Seed of all draws; the same seed gives the same tables
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Settings of a load test.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// Where the server listens; the paths /v1/… and /metrics are appended
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Models to ask for, A,B,C: each client asks one of them, by turns (with --rate each request); the first of /v1/models
    /// when not given
    #[arg(long = "model", value_name = "MODEL", value_delimiter = ',', value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub models: Vec<String>,
    /// Bearer key, for servers that want one
    #[arg(long)]
    pub api_key: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// What is asked.
    #[command(flatten)]
    pub work: WorkArgs,
    /// What must hold.
    #[command(flatten)]
    pub rules: RuleArgs,
}

/// What is asked of the server.
#[derive(Clone, Debug, Args)]
pub struct WorkArgs {
    /// Clients at work at the same time, each with one request in flight
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub clients: u32,
    /// Requests that arrive in a second, at random (Poisson) and whether or not earlier ones have ended, in place of
    /// clients that wait for their answers
    #[arg(long, conflicts_with = "clients")]
    pub rate: Option<Rate>,
    /// With --rate: most requests in flight; one that arrives then is dropped and counted
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub max_in_flight: u32,
    /// Requests, all clients together
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub requests: u32,
    /// Seed of prompts, lengths, arrivals and disconnects; the same seed asks the same things
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of requests whose client hangs up at a random moment
    #[arg(long, default_value_t = Share(0.2))]
    pub disconnect: Share,
    /// Words of the part of a prompt that no other has, FROM..TO
    #[arg(long, default_value_t = Span { from: 8, to: 96 })]
    pub prompt_words: Span,
    /// Share of prompts that start with one of the shared prefixes
    #[arg(long, default_value_t = Share(0.5))]
    pub shared: Share,
    /// How many different shared prefixes there are
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub prefixes: u32,
    /// Words of a shared prefix
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub prefix_words: u32,
    /// Tokens to make, FROM..TO
    #[arg(long, default_value_t = Span { from: 4, to: 48 })]
    pub max_tokens: Span,
    /// Which route
    #[arg(long, value_enum, default_value_t = Endpoint::Chat)]
    pub endpoint: Endpoint,
    /// Sampling temperature
    #[arg(long, default_value_t = 0.8)]
    pub temperature: f32,
    /// Go on past the model's end tokens, so that every answer has its full length
    #[arg(long)]
    pub ignore_eos: bool,
}

/// What must hold.
#[derive(Clone, Debug, Args)]
pub struct RuleArgs {
    /// Limits a request must keep to count for goodput, in seconds: ttft=1,tpot=0.1,e2e=30 (any of them)
    #[arg(long)]
    pub slo: Option<Slo>,
    /// A request with no end after this many seconds is a violation
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Whether /metrics must show, at the end, nothing running, nothing waiting and no KV block in use
    #[arg(long, value_enum, default_value_t = MetricsCheck::Required)]
    pub metrics: MetricsCheck,
    /// Seconds the server has to come to rest after the last request
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub settle: u64,
    /// Process whose memory is watched (Linux)
    #[arg(long)]
    pub pid: Option<u32>,
    /// With --pid: most resident memory at any time, in MiB
    #[arg(long, requires = "pid")]
    pub rss_limit: Option<u64>,
    /// With --pid: most growth of resident memory from the middle of the run to its end, in MiB
    #[arg(long, requires = "pid")]
    pub rss_growth_limit: Option<u64>,
}

impl RuleArgs {
    /// How long a request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// Which route is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Endpoint {
    /// /v1/chat/completions
    Chat,
    /// /v1/completions (for models without a chat template)
    Completions,
}

/// Whether /metrics is read at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MetricsCheck {
    /// A missing or restless gauge is a violation.
    Required,
    /// Not read (other servers).
    Off,
}

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(pub f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err("must be a number from 0 to 1".to_owned()),
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Requests in a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub f64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(rate) if (0.001..=100_000.0).contains(&rate) => Ok(Self(rate)),
            _ => Err("must be a number from 0.001 to 100000".to_owned()),
        }
    }
}

/// A range of whole numbers, both ends included; written `8..96` or `16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The smallest.
    pub from: u32,
    /// The largest.
    pub to: u32,
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        match (from.parse(), to.parse()) {
            (Ok(from), Ok(to)) if 1 <= from && from <= to && to <= 1_000_000 => Ok(Self { from, to }),
            _ => Err("must be FROM..TO or one number, from 1 to 1000000".to_owned()),
        }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}

/// Service level objective of one request; `None` = any value will do. Seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Slo {
    /// Time to first token.
    pub ttft: Option<f64>,
    /// Time per output token after the first (mean of the request).
    pub tpot: Option<f64>,
    /// From sending to the end.
    pub e2e: Option<f64>,
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut slo = Self::default();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("`{part}`: expected key=seconds"))?;
            let seconds: f64 =
                value.parse().ok().filter(|s| *s > 0.0).ok_or_else(|| format!("`{part}`: seconds > 0"))?;
            let place = match key {
                "ttft" => &mut slo.ttft,
                "tpot" => &mut slo.tpot,
                "e2e" => &mut slo.e2e,
                _ => return Err(format!("`{key}`: expected ttft, tpot or e2e")),
            };
            *place = Some(seconds);
        }
        Ok(slo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn spans_shares_and_objectives_are_checked() {
        assert_eq!("8..96".parse(), Ok(Span { from: 8, to: 96 }));
        assert_eq!("16".parse(), Ok(Span { from: 16, to: 16 }));
        for bad in ["", "0", "9..8", "a..b", "1..", "1..2000000"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        for bad in ["-0.1", "1.1", "NaN", "x"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
        assert_eq!("2.5".parse(), Ok(Rate(2.5)));
        for bad in ["0", "-1", "NaN", "inf", "x"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        let slo: Slo = "ttft=1,tpot=0.1".parse().unwrap();
        assert_eq!(slo, Slo { ttft: Some(1.0), tpot: Some(0.1), e2e: None });
        for bad in ["", "ttft", "ttft=-1", "itl=1", "ttft=NaN"] {
            assert!(bad.parse::<Slo>().is_err(), "{bad}");
        }
    }
}
