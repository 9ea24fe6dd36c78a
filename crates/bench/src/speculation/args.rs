//! The command line of `speculation`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::prompts::Kind;

/// Settings of the measurement.
#[derive(Clone, Debug, Args)]
pub struct SpeculationArgs {
    /// The tokenworks program [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub tokenworks: Option<PathBuf>,
    /// GGUF file that both servers run; it needs a chat template
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Pairs of each kind of work: the same question with guesses and without, one right after the other
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(5..=1000))]
    pub pairs: u32,
    /// Measure only these kinds of work
    #[arg(long, value_enum, value_name = "KINDS", value_delimiter = ',')]
    pub only: Vec<Kind>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=4096))]
    pub max_tokens: u32,
    /// Compute threads of each server; only one of them works at a time
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Seconds after which an answer is given up
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Folder for the logs of the servers [default: one in the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub logs: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

impl SpeculationArgs {
    /// How long an answer may take.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
