//! The command line of `tfp`.

use clap::{Args, ValueEnum};

/// `tfp`
#[derive(Args, Debug)]
pub struct Tfp {
    /// First day (UTC) [default: 30 days before the last one]
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub from: Option<String>,
    /// Last day (UTC) [default: today]
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub to: Option<String>,
    /// What gets rows of its own
    #[arg(long, value_name = "WHAT", value_delimiter = ',', default_value = "model,prompt_version")]
    pub by: Vec<TfpBy>,
    /// Which tokens the value is divided by
    #[arg(long, value_name = "TOKENS", default_value = "total")]
    pub denominator: Denominator,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// What TFP tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TfpBy {
    /// Organisations
    Customer,
    /// Projects
    Project,
    /// Models
    Model,
    /// Versions of prompts (`metadata.prompt_version`)
    #[value(name = "prompt_version")]
    PromptVersion,
    /// Kinds of work (`metadata.task`)
    Task,
    /// Tags (`metadata.tag`)
    Tag,
    /// Days
    Day,
}

impl TfpBy {
    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "organisation",
            Self::Project => "project",
            Self::Model => "model",
            Self::PromptVersion => "prompt_version",
            Self::Task => "task",
            Self::Tag => "tag",
            Self::Day => "day",
        }
    }
}

/// Tokens that value is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Denominator {
    /// Input and output
    Total,
    /// Output
    Output,
    /// Input
    Input,
    /// Input that was not in the cache, and output
    Computed,
}

impl Denominator {
    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Output => "output",
            Self::Input => "input",
            Self::Computed => "computed",
        }
    }
}
