//! `plan`: what tokens cost and bring at a load, a mix and a price; where the plant breaks even; what size does.

mod shown;

use analysis::plan::{LineProfile, Load};
use economics::{Invalid, Rate};
use server::plan::{Basis, Corrections, PlanPrice, PlanRequest, UTILISATION};

use super::Context;
use crate::books::now_ms;
use crate::cli::plan as cli;
use crate::desk::Books;
use crate::error::{Error, Result};

/// Runs `plan`.
///
/// # Errors
/// An option that cannot be, by its name; a plant sheet that cannot be read.
pub fn run(context: &Context, args: &cli::Plan) -> Result<()> {
    let sheet = args.plant.plant.as_deref().map_or_else(|| crate::plant::sheet(context), crate::plant::read_sheet)?;
    let request = request(args);
    let measured = if request.takes_measured_speed() { Some(measured_line(context)?) } else { None };
    let currency = context.settings.books.currency.code.clone();
    let basis = Basis { currency, sheet, version: None, measured, now_ms: now_ms() };
    let answer = request.answer(basis).map_err(|error| wrong(&error))?;
    if args.json { context.output.json(&answer) } else { context.output.text(shown::text(&answer)) }
}

/// Tokens per second of this plant at full load, over the last 30 days.
fn measured_line(context: &Context) -> Result<f64> {
    let missing = || {
        Error::usage("no speed is given, and these books have none measured")
            .hint("give --tokens-per-second, or --gflop-per-token and --peak-tflops")
    };
    let statement = Books::open(context, false).and_then(|books| books.get("/statement"));
    let statement = statement.map_err(|error| missing().because(error))?;
    statement["machine_tokens_per_second"].as_f64().ok_or_else(missing)
}

fn request(args: &cli::Plan) -> PlanRequest {
    let cli::Line { tokens_per_second, gflop_per_token, peak_tflops, share } = args.line;
    let cli::Plant {
        rent_per_hour,
        fixed_per_month,
        operations_per_month,
        idle_watts,
        full_watts,
        per_kwh,
        bytes_per_token,
        ..
    } = args.plant;
    let rate = |rate: Option<Rate>| rate.or(args.price.price).unwrap_or_default();
    PlanRequest {
        machines: args.machines,
        line: LineProfile { tokens_per_second, gflop_per_token, peak_tflops, peak_share: share },
        load: load(&args.demand),
        input_share: args.demand.input_share,
        price: PlanPrice { input: rate(args.price.input), output: rate(args.price.output) },
        plant: Corrections {
            rent_per_hour,
            fixed_per_month,
            operations_per_month,
            idle_watts,
            full_watts,
            per_kwh,
            bytes_per_token,
        },
    }
}

fn load(args: &cli::Demand) -> Load {
    match (args.load, args.tokens_per_month) {
        (Some(rate), _) => Load::TokensPerSecond(rate),
        (_, Some(tokens)) => Load::TokensPerMonth(tokens),
        _ => Load::Utilisation(args.utilisation.unwrap_or(UTILISATION)),
    }
}

/// Names the option in place of the field; a field of the sheet keeps its name.
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
        "plant.bytes_per_token" => "--bytes-per-token",
        "plant.fixed_per_month" => "--fixed-per-month",
        "plant.rent_per_hour" => "--rent-per-hour",
        "plant.operations_per_month" => "--operations-per-month",
        "plant.idle_watts" => "--idle-watts",
        "plant.full_watts" => "--full-watts",
        "plant.per_kwh" => "--per-kwh",
        field => field,
    };
    Error::usage(format!("{option}: {}", error.problem)).hint(error.fix.clone())
}
