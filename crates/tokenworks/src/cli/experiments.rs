//! The command line of `experiments`.

use clap::{Args, Subcommand, ValueEnum};

use super::books::Fields;

/// `experiments`
#[derive(Debug, Subcommand)]
pub enum Experiments {
    /// List the experiments
    #[command(after_help = "Example:\n  tokenworks experiments list --json")]
    List {
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what the arms of an experiment have shown; at any time, as often as you like
    #[command(after_help = "Example:\n  tokenworks experiments show tone")]
    Show {
        /// Its id
        id: String,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Begin an experiment
    #[command(
        after_help = "Examples:\n  tokenworks experiments add tone --customer acme --arm plain=500 --arm warm=500,prompt_version=v2\n  \
        tokenworks experiments add size --customer acme --unit episode --metric value_per_unit --allocation thompson \\\n    \
        --arm small=450,model=smollm2-135m --arm cool=450,model=smollm2-135m,temperature=0.2 --arm none=100,held_out\n\n\
        An arm is its name and weight (permille; together 1000), then what it sets: model, prompt_version, temperature,\n\
        top_p, top_k, min_p, frequency_penalty, presence_penalty, repetition_penalty, max_tokens, or held_out."
    )]
    Add(Experiment),
    /// Change weights or allocation of a running experiment; units keep the arms they have
    #[command(after_help = "Example:\n  tokenworks experiments set tone --weight plain=200 --weight warm=800")]
    Set(Weights),
    /// Stop an experiment for good: from then on all units get the winner, else the control
    #[command(after_help = "Example:\n  tokenworks experiments stop tone --winner warm")]
    Stop {
        /// Its id
        id: String,
        /// The arm that all get from now on [default: the control]
        #[arg(long, value_name = "ARM")]
        winner: Option<String>,
    },
}

/// `experiments add`
#[derive(Args, Debug)]
pub struct Experiment {
    /// Its id: a-z, 0-9, `-`, `_`, `.`
    pub id: String,
    /// The organisation whose requests may join
    #[arg(long, value_name = "ID")]
    pub customer: String,
    /// Only requests of this project
    #[arg(long, value_name = "ID")]
    pub project: Option<String>,
    /// What comes to an arm as a whole
    #[arg(long, value_name = "WHAT", default_value = "user")]
    pub unit: Unit,
    /// An arm, the control first
    #[arg(long = "arm", value_name = "NAME=WEIGHT[,FIELD=VALUE…]", required = true)]
    pub arms: Vec<String>,
    /// What arms are compared by [default: tfp]
    #[arg(long, value_name = "METRIC")]
    pub metric: Option<Metric>,
    /// How weights come about [default: fixed]
    #[arg(long, value_name = "HOW")]
    pub allocation: Option<Allocation>,
    /// Other fields.
    #[command(flatten)]
    pub fields: Fields,
}

/// `experiments set`
#[derive(Args, Debug)]
pub struct Weights {
    /// Its id
    pub id: String,
    /// An arm's weight in permille; of all arms together 1000
    #[arg(long = "weight", value_name = "ARM=WEIGHT")]
    pub weights: Vec<String>,
    /// How weights come about
    #[arg(long, value_name = "HOW")]
    pub allocation: Option<Allocation>,
    /// Other fields.
    #[command(flatten)]
    pub fields: Fields,
}

/// What comes to an arm as a whole.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Unit {
    /// End users (`user` of requests)
    User,
    /// Pieces of work (`metadata.episode`)
    Episode,
}

/// What arms are compared by.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Metric {
    /// Value per token
    Tfp,
    /// Value per unit
    #[value(name = "value_per_unit")]
    ValuePerUnit,
    /// Accepted outcomes per outcome
    #[value(name = "accepted_share")]
    AcceptedShare,
}

/// How weights come about.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Allocation {
    /// As they are written
    Fixed,
    /// Once an hour by the chance of each arm to be the best
    Thompson,
}
