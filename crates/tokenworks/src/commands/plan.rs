//! `plan`: what tokens cost and bring at a load, a mix and a price; where the plant breaks even; what size does.

mod plant;
mod shown;

use analysis::Invalid;
use analysis::plan::{LineProfile, Load, Plan, SECONDS_PER_MONTH, Scenario, rent_per_hour};
use economics::Rate;
use serde::Serialize;

use super::Context;
use super::statement::measured_speed;
use crate::cli::plan::{self as cli, Demand, Line, Price};
use crate::desk::Books;
use crate::error::{Error, Result};
use plant::PlantCost;

/// Share of the plant that is used where nothing is said.
const UTILISATION: f64 = 0.5;

/// The plan as JSON: figures of a month of 730 hours, money in units of `currency`.
#[derive(Debug, Serialize)]
struct Answer {
    currency: String,
    /// What the plant costs; `example` where figures that were not given are those of an example.
    plant: PlantCost,
    /// The same label as in all answers that rest on a plant sheet.
    sheet: Sheet,
    /// Whether the speed of the line is the one that the books measured.
    measured: bool,
    scenario: Scenario,
    #[serde(flatten)]
    plan: Plan,
    /// What the price pays for, at full load.
    implied_rent: ImpliedRent,
}

/// The plant sheet that figures rest on. A plan's may differ from every version in the books.
#[derive(Debug, Serialize)]
struct Sheet {
    version: Option<u64>,
    example: bool,
}

/// Rent of a machine, an hour, that all of its revenue at full load would pay.
#[derive(Debug, Serialize)]
struct ImpliedRent {
    /// At the speed that was given, believed or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_claimed: Option<f64>,
    /// At the speed of the plan.
    as_planned: f64,
}

/// Runs `plan`.
///
/// # Errors
/// An option that cannot be, by its name; a plant sheet that cannot be read.
pub fn run(context: &Context, args: &cli::Plan) -> Result<()> {
    let currency = &context.settings.books.currency;
    let sheet = args.plant.plant.as_deref().map_or_else(|| crate::plant::sheet(context), crate::plant::read_sheet)?;
    let plant = PlantCost::of(sheet, &args.plant)?;
    let mut line = line(&args.line);
    let measured = line.tokens_per_second.is_none() && line.gflop_per_token.is_none();
    if measured {
        line.tokens_per_second = Some(measured_line(context)?);
    }
    let answer = answer(currency.code.clone(), plant, (line, measured), args)?;
    if args.json { context.output.json(&answer) } else { context.output.text(shown::text(&answer)) }
}

/// Tokens per second of this plant at full load, over the last 30 days.
fn measured_line(context: &Context) -> Result<f64> {
    let missing = || {
        Error::usage("no speed is given, and these books have none measured")
            .hint("give --tokens-per-second, or --gflop-per-token and --peak-tflops")
    };
    let statement = Books::open(context, false).and_then(|books| books.get("/statement"));
    measured_speed(&statement.map_err(|error| missing().because(error))?)?.ok_or_else(missing)
}

fn answer(
    currency: String,
    plant: PlantCost,
    (line, measured): (LineProfile, bool),
    args: &cli::Plan,
) -> Result<Answer> {
    let (input_price_per_million, output_price_per_million) = prices(&args.price);
    let scenario = Scenario {
        machines: args.machines,
        line,
        fixed_cost_per_month: plant.fixed_per_second * SECONDS_PER_MONTH + plant.fixed_per_month,
        machine_cost_per_month: plant.machine_per_second * SECONDS_PER_MONTH,
        cost_per_busy_second: plant.per_busy_second,
        cost_per_million: plant.per_million,
        input_share: args.demand.input_share,
        input_price_per_million,
        output_price_per_million,
        load: load(&args.demand),
    };
    let plan = scenario.plan().map_err(|error| wrong(&error))?;
    let rent = |speed: f64| rent_per_hour(plan.price_per_million / 1e6, speed).map_err(|error| wrong(&error));
    let implied_rent = ImpliedRent {
        as_claimed: scenario.line.tokens_per_second.map(rent).transpose()?,
        as_planned: rent(plan.tokens_per_second)?,
    };
    let sheet = Sheet { version: None, example: plant.example };
    Ok(Answer { currency, plant, sheet, measured, scenario, plan, implied_rent })
}

fn line(args: &Line) -> LineProfile {
    LineProfile {
        tokens_per_second: args.tokens_per_second,
        gflop_per_token: args.gflop_per_token,
        peak_tflops: args.peak_tflops,
        peak_share: args.share,
    }
}

fn load(args: &Demand) -> Load {
    match (args.load, args.tokens_per_month) {
        (Some(rate), _) => Load::TokensPerSecond(rate),
        (_, Some(tokens)) => Load::TokensPerMonth(tokens),
        _ => Load::Utilisation(args.utilisation.unwrap_or(UTILISATION)),
    }
}

/// Prices of 1M tokens of input and output.
fn prices(args: &Price) -> (f64, f64) {
    // A pico-unit a token is a micro-unit for 1M tokens.
    let per_million = |rate: Option<Rate>| rate.or(args.price).map_or(0.0, |rate| rate.pico() as f64 / 1e6);
    (per_million(args.input), per_million(args.output))
}

/// Names the option in place of the field.
fn wrong(error: &Invalid) -> Error {
    let option = match error.field.as_str() {
        "line.tokens_per_second" => "--tokens-per-second",
        "line.gflop_per_token" => "--gflop-per-token",
        "line.peak_tflops" => "--peak-tflops",
        "line.peak_share" => "--share",
        "load.tokens_per_second" => "--load",
        "load.tokens_per_month" => "--tokens-per-month",
        "load.utilisation" => "--utilisation",
        "machines" => "--machines",
        "input_share" => "--input-share",
        "cost_per_million" => "--bytes-per-token",
        "fixed_cost_per_month" => "--fixed-per-month",
        field => field,
    };
    Error::usage(format!("{option}: {}", error.problem)).hint(error.fix.clone())
}
