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
    let per_hour: Vec<(Source, String)> = standing.map(|source| (source, rates.per_hour(source).to_string())).collect();
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
    let standing = standing.map(|source| rates.per_hour(source)).fold(Nano::ZERO, Nano::saturating_add);
    for (load, watts) in [("idle", sheet.idle_watts), ("full load", sheet.full_watts)] {
        let power = power_per_hour(rates.per_kwh, watts, sheet.pue);
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

/// What an hour of a power at the machine costs, rounded down.
fn power_per_hour(per_kwh: Nano, watts: Milli, pue: Milli) -> Nano {
    // Nano-units for an hour of 1,000 W, thousandths of watts and of PUE.
    let nano = i128::from(per_kwh.0) * i128::from(watts.0) * i128::from(pue.0) / 1_000_000_000;
    Nano(i64::try_from(nano).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_by_the_hour() {
        // 28 W at a PUE of 1.2 and 0.15 a kWh: 0.0336 kWh an hour.
        let full = power_per_hour("0.15".parse().unwrap(), Milli(28_000), Milli(1_200));
        assert_eq!(full, "0.00504".parse().unwrap());
        assert_eq!(power_per_hour(Nano(i64::MAX), Milli(1_000_000_000), Milli(10_000)), Nano(i64::MAX));
    }
}
