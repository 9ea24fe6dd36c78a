//! The command line of the planner.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use economics::plant::Milli;
use economics::{Nano, Rate};

/// `plan`
#[derive(Args, Debug)]
#[command(allow_negative_numbers = true)]
pub struct Plan {
    /// What one machine can do.
    #[command(flatten)]
    pub line: Line,
    /// What is asked of the plant.
    #[command(flatten)]
    pub demand: Demand,
    /// What tokens bring.
    #[command(flatten)]
    pub price: Price,
    /// What the plant costs.
    #[command(flatten)]
    pub plant: Plant,
    /// Machines of the plant
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub machines: u32,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// What one machine can do at full load; as the books measured it in the last 30 days where nothing is given.
#[derive(Args, Debug)]
pub struct Line {
    /// Tokens per second of one machine at full load, input and output together [default: as the books measured it]
    #[arg(long, value_name = "N")]
    pub tokens_per_second: Option<f64>,
    /// Arithmetic of one token; with --peak-tflops it gives the speed, or checks --tokens-per-second
    #[arg(long, value_name = "GFLOP", requires = "peak_tflops")]
    pub gflop_per_token: Option<f64>,
    /// Peak of one machine
    #[arg(long, value_name = "TFLOP/S", requires = "gflop_per_token")]
    pub peak_tflops: Option<f64>,
    /// Share of the peak that is reached [default: 1]
    #[arg(long, value_name = "SHARE", requires = "gflop_per_token")]
    pub share: Option<f64>,
}

/// How much is asked of the plant.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("demand").args(["load", "tokens_per_month", "utilisation"])))]
pub struct Demand {
    /// Mean tokens per second that are asked of the plant
    #[arg(long, value_name = "N")]
    pub load: Option<f64>,
    /// Tokens a month that are asked of the plant
    #[arg(long, value_name = "N")]
    pub tokens_per_month: Option<f64>,
    /// Share of what the plant can do that is asked of it [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    pub utilisation: Option<f64>,
    /// Share of input among the tokens
    #[arg(long, value_name = "SHARE", default_value_t = 0.75)]
    pub input_share: f64,
}

/// What tokens bring.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("priced").required(true).multiple(true).args(["price", "input"])))]
pub struct Price {
    /// Of all tokens, e.g. "10 per 1M" or "0.0001 per token"
    #[arg(long, value_name = "RATE", conflicts_with_all = ["input", "output"])]
    pub price: Option<Rate>,
    /// Of prompt tokens
    #[arg(long, value_name = "RATE", requires = "output")]
    pub input: Option<Rate>,
    /// Of answer tokens
    #[arg(long, value_name = "RATE", requires = "input")]
    pub output: Option<Rate>,
}

/// What the plant costs, where it is not as its sheet says. Options that take its place are named as it names its fields.
#[derive(Args, Debug)]
pub struct Plant {
    /// File with a plant sheet, of which each machine is one [default: that of plant.sheet_file, or an example]
    #[arg(long, value_name = "FILE")]
    pub plant: Option<PathBuf>,
    /// Rent of a machine, in place of the sheet's equipment
    #[arg(long, value_name = "AMOUNT")]
    pub rent_per_hour: Option<Nano>,
    /// Cost that does not grow with machines, in place of the sheet's fixed cost
    #[arg(long, value_name = "AMOUNT")]
    pub fixed_per_month: Option<Nano>,
    /// Staff for a machine, in place of the sheet's
    #[arg(long, value_name = "AMOUNT")]
    pub operations_per_month: Option<Nano>,
    /// Power of a machine without work
    #[arg(long, value_name = "WATTS")]
    pub idle_watts: Option<Milli>,
    /// Power of a machine under full load
    #[arg(long, value_name = "WATTS")]
    pub full_watts: Option<Milli>,
    /// Price of a kilowatt-hour, in place of the sheet's tariff
    #[arg(long, value_name = "AMOUNT")]
    pub per_kwh: Option<Nano>,
    /// Traffic of a token, which the sheet's price of a gigabyte makes cost [default: 0]
    #[arg(long, value_name = "N")]
    pub bytes_per_token: Option<f64>,
}
