//! `plant`: the sheet by which costs are reckoned.

use economics::Nano;
use economics::plant::{Milli, Plant as Rates, PlantSheet, Source};
use serde_json::json;

use super::Context;
use crate::books::now_ms;
use crate::cli::books::Plant;
use crate::error::{Error, Result};
use crate::output::table;
use crate::plant;

/// Atto-units per second in one unit of the currency per hour.
const ATTO_PER_SECOND: u128 = 1_000_000_000_000_000_000 / SECONDS_PER_HOUR;
const SECONDS_PER_HOUR: u128 = 3_600;

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
    let standing = Source::ALL.into_iter().filter(|source| *source != Source::Power);
    let per_hour: Vec<(Source, String)> =
        standing.map(|source| (source, hourly(rates.atto_per_second(source)))).collect();
    if as_json {
        let standing: serde_json::Map<_, _> =
            per_hour.iter().map(|(source, text)| (source.as_str().to_owned(), json!(text))).collect();
        return context.output.json(&json!({
            "example": sheet.is_example(), "sheet": sheet, "standing_per_hour": standing, "per_kwh": rates.per_kwh,
        }));
    }
    let mut rows = vec![vec!["SOURCE".to_owned(), "PER HOUR".to_owned()]];
    rows.extend(per_hour.into_iter().map(|(source, text)| vec![source.as_str().to_owned(), text]));
    let standing = Source::ALL.into_iter().filter(|source| *source != Source::Power);
    let standing: u128 = standing.map(|source| rates.atto_per_second(source)).sum();
    for (load, watts) in [("idle", sheet.idle_watts), ("full load", sheet.full_watts)] {
        let power = power(rates.per_kwh, watts, sheet.pue);
        rows.push(vec![format!("power, {load}"), hourly(power)]);
        rows.push(vec![format!("all, {load}"), hourly(standing + power)]);
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

/// Atto-units per second of a power at the machine.
fn power(per_kwh: Nano, watts: Milli, pue: Milli) -> u128 {
    // Nano-units for an hour of 1,000 W, thousandths of watts and of PUE: together 10^-18 an hour.
    let [per_kwh, watts, pue] = [per_kwh.0, watts.0, pue.0].map(|figure| u128::try_from(figure).unwrap_or(0));
    per_kwh * watts * pue / SECONDS_PER_HOUR
}

/// Six decimals, rounded to the nearest.
fn hourly(atto_per_second: u128) -> String {
    let micro = (atto_per_second.saturating_mul(1_000_000) + ATTO_PER_SECOND / 2) / ATTO_PER_SECOND;
    format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_by_the_hour() {
        // 28 W at a PUE of 1.2 and 0.15 a kWh: 0.0336 kWh an hour.
        let full = power("0.15".parse().unwrap(), Milli(28_000), Milli(1_200));
        assert_eq!(hourly(full), "0.005040");
        assert_eq!(
            hourly(power(Nano(i64::MAX), Milli(1_000_000_000), Milli(10_000))).len(),
            "92233720368547.758070".len()
        );
    }
}
