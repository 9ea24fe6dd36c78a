//! `plant`: the sheet by which costs are reckoned.

use economics::Nano;
use economics::plant::{Plant as Rates, PlantSheet};
use serde_json::{Map, json};

use super::Context;
use crate::books::now_ms;
use crate::cli::books::Plant;
use crate::error::{Error, Result};
use crate::output::table;
use crate::plant;

/// Runs `plant`.
///
/// # Errors
/// The configured sheet cannot be used.
pub fn run(context: &Context, command: &Plant) -> Result<()> {
    match command {
        Plant::Example => example(context),
        Plant::Show { json } => show(context, *json),
    }
}

fn example(context: &Context) -> Result<()> {
    let sheet = PlantSheet::example(&context.settings.books.currency);
    let text = toml::to_string(&sheet).map_err(|e| Error::failure("the example cannot be written").because(e))?;
    context.output.text(format!(
        "# Plant sheet for tokenworks. Every figure is an example: put your own in.\n\
         # Amounts are in {}; a server takes the sheet that plant.sheet_file names when it starts.\n{text}",
        context.settings.books.currency.code
    ))
}

fn show(context: &Context, as_json: bool) -> Result<()> {
    let sheet = plant::sheet(context)?;
    let wrong = |e: economics::Invalid| Error::usage("the plant sheet cannot be used").because(e);
    let rates = Rates::new(sheet.clone()).map_err(wrong)?.rates(now_ms()).map_err(wrong)?;
    let loads = [("idle", sheet.idle_watts), ("full_load", sheet.full_watts)];
    let power = loads.map(|(load, watts)| (load, rates.power_per_hour(watts)));
    if as_json {
        let standing: Map<_, _> =
            rates.standing_per_hour().map(|(source, cost)| (source.as_str().to_owned(), json!(cost))).collect();
        let power: Map<_, _> = power.into_iter().map(|(load, cost)| (load.to_owned(), json!(cost))).collect();
        return context.output.json(&json!({
            "example": sheet.is_example(), "sheet": sheet, "standing_per_hour": standing, "power_per_hour": power,
            "per_kwh": rates.per_kwh,
        }));
    }
    let mut rows = vec![vec!["SOURCE".to_owned(), "PER HOUR".to_owned()]];
    rows.extend(rates.standing_per_hour().map(|(source, cost)| vec![source.as_str().to_owned(), cost.to_string()]));
    let standing = rates.standing_per_hour().map(|(_, cost)| cost).fold(Nano::ZERO, Nano::saturating_add);
    for (load, power) in power {
        let load = load.replace('_', " ");
        rows.push(vec![format!("power, {load}"), power.to_string()]);
        rows.push(vec![format!("all, {load}"), standing.saturating_add(power).to_string()]);
    }
    if sheet.is_example() {
        context.output.line(
            "These are example figures: `tokenworks plant example > plant.toml`, put your own in, and name the",
        )?;
        context.output.line("file by plant.sheet_file.")?;
    }
    context.output.text(format!(
        "{}power: {} W idle to {} W, PUE {}, {} a kWh now, {} g CO2e a kWh; amounts in {}\n",
        table(&rows),
        sheet.idle_watts,
        sheet.full_watts,
        sheet.pue,
        rates.per_kwh,
        sheet.carbon_g_per_kwh,
        context.settings.books.currency.code
    ))
}
