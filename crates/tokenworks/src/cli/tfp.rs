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
    /// With --by end_user: how many get rows of their own, those with most value; the others are summed up [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub top: Option<u32>,
    /// Which tokens the value is divided by
    #[arg(long, value_name = "TOKENS", default_value = "total")]
    pub denominator: Denominator,
    /// With --denominator standard: the model whose output price counts as one [default: each model's own]
    #[arg(long, value_name = "MODEL")]
    pub base: Option<String>,
    /// Instead: of those that came first in a week, which share came back in later weeks
    #[arg(long, value_name = "WHO", num_args = 0..=1, default_missing_value = "end_user", conflicts_with_all = ["from", "to", "by", "top", "denominator", "base"])]
    pub retention: Option<Unit>,
    /// With --retention: how many weeks, the present one included
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=104), requires = "retention")]
    pub weeks: u32,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// What TFP tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TfpBy {
    /// Organisations
    Customer,
    /// The teams that projects belong to now
    Team,
    /// Projects
    Project,
    /// End users (`user`)
    #[value(name = "end_user")]
    EndUser,
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
    /// Weeks, from Monday
    Week,
    /// Months
    Month,
}

impl TfpBy {
    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "organisation",
            Self::Team => "team",
            Self::Project => "project",
            Self::EndUser => "end_user",
            Self::Model => "model",
            Self::PromptVersion => "prompt_version",
            Self::Task => "task",
            Self::Tag => "tag",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
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
    /// All, weighted by list price relative to output
    Standard,
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
            Self::Standard => "standard",
        }
    }
}

/// Whose return is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// End users (`user`)
    #[value(name = "end_user")]
    EndUser,
    /// Projects
    Project,
}

impl Unit {
    /// The word of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndUser => "end_user",
            Self::Project => "project",
        }
    }
}
