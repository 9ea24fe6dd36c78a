//! What the plant costs, as its sheet says and as the command line corrects it.

use economics::plant::{Days, Equipment, Hours, Plant, PlantSheet, Rates, Source, TariffRate};
use economics::{Invalid, Nano};
use serde::Serialize;

use crate::books::now_ms;
use crate::cli::plan as cli;
use crate::error::{Error, Result};

const WEEK_MS: i64 = 7 * 86_400_000;
const SECONDS_PER_HOUR: f64 = 3_600.0;

/// What the plant costs, in units of the currency.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct PlantCost {
    /// Whether figures that were not given are those of an example.
    pub(super) example: bool,
    /// A second of each machine: depreciation or rent, operations, idle power.
    pub(super) machine_per_second: f64,
    /// A second of what there is once, whatever the number of machines: connection, fixed cost.
    pub(super) fixed_per_second: f64,
    /// The same by the month, as the command line has it.
    pub(super) fixed_per_month: f64,
    /// A second of full load, beyond idle power.
    pub(super) per_busy_second: f64,
    /// 1M tokens: traffic, cost spread over tokens.
    pub(super) per_million: f64,
    /// Mean price of a kilowatt-hour over a week.
    pub(super) per_kwh: f64,
}

impl PlantCost {
    /// By a sheet, with what the command line says in place of it.
    pub(super) fn of(mut sheet: PlantSheet, args: &cli::Plant) -> Result<Self> {
        replace(&mut sheet, args);
        let (idle, full, pue) = (milli(sheet.idle_watts.0), milli(sheet.full_watts.0), milli(sheet.pue.0));
        let (example, per_gb) = (sheet.is_example(), units(sheet.network.per_gb));
        let plant = Plant::new(sheet).map_err(|error| wrong(&error))?;
        let now = now_ms();
        let rates = plant.rates(now).map_err(|error| wrong(&error))?;
        let per_kwh = mean_per_kwh(&plant, now).map_err(|error| wrong(&error))?;
        let per_watt_second = pue * per_kwh / 1e3 / SECONDS_PER_HOUR;
        let machines = [Source::Depreciation, Source::Rent, Source::Operations];
        let bytes_per_million = args.bytes_per_token.unwrap_or_default() * 1e6;
        Ok(Self {
            example,
            machine_per_second: per_second(&rates, &machines) + idle * per_watt_second,
            fixed_per_second: per_second(&rates, &[Source::Network, Source::Fixed]),
            fixed_per_month: args.fixed_per_month.map_or(0.0, units),
            per_busy_second: (full - idle) * per_watt_second,
            per_million: bytes_per_million / 1e9 * per_gb + rates.atto_per_token() as f64 / 1e12,
            per_kwh,
        })
    }
}

/// Puts what the command line says in place of what the sheet says.
fn replace(sheet: &mut PlantSheet, args: &cli::Plant) {
    if args.rent_per_hour.is_some() {
        let machine =
            Equipment { name: "machine".to_owned(), rent_per_hour: args.rent_per_hour, ..Equipment::default() };
        sheet.equipment = vec![machine];
    }
    if args.fixed_per_month.is_some() {
        sheet.fixed.clear();
    }
    sheet.operations.per_month = args.operations_per_month.unwrap_or(sheet.operations.per_month);
    sheet.idle_watts = args.idle_watts.unwrap_or(sheet.idle_watts);
    sheet.full_watts = args.full_watts.unwrap_or(sheet.full_watts);
    // A cap of the sheet is that of its own machine.
    sheet.power_cap_watts = None;
    if let Some(per_kwh) = args.per_kwh {
        sheet.tariff = vec![TariffRate { per_kwh, days: Days::default(), hours: Hours::default() }];
    }
}

/// Mean price of a kilowatt-hour over the week from `from_ms` on.
fn mean_per_kwh(plant: &Plant, from_ms: i64) -> Result<f64, Invalid> {
    let end = from_ms.saturating_add(WEEK_MS);
    let (mut at, mut sum) = (from_ms, 0.0);
    while at < end {
        let rates = plant.rates(at)?;
        let next = rates.next_change_ms.min(end).max(at + 1);
        sum += units(rates.per_kwh) * (next - at) as f64;
        at = next;
    }
    Ok(sum / WEEK_MS as f64)
}

fn per_second(rates: &Rates, sources: &[Source]) -> f64 {
    sources.iter().map(|source| rates.atto_per_second(*source) as f64 / 1e18).sum()
}

fn units(amount: Nano) -> f64 {
    amount.0 as f64 / 1e9
}

fn milli(thousandths: i64) -> f64 {
    thousandths as f64 / 1e3
}

/// The sheet itself was right: what is wrong was said on the command line.
fn wrong(error: &Invalid) -> Error {
    let option = match error.field.as_str() {
        "plant.equipment[0].rent_per_hour" => "--rent-per-hour",
        "plant.operations.per_month" => "--operations-per-month",
        "plant.idle_watts" => "--idle-watts",
        "plant.full_watts" => "--full-watts",
        "plant.tariff[0].per_kwh" => "--per-kwh",
        field => field,
    };
    Error::usage(format!("{option}: {}", error.problem)).hint(error.fix.clone())
}

#[cfg(test)]
mod tests {
    use analysis::plan::SECONDS_PER_MONTH;
    use economics::Currency;

    use super::*;

    fn none() -> cli::Plant {
        cli::Plant {
            plant: None,
            rent_per_hour: None,
            fixed_per_month: None,
            operations_per_month: None,
            idle_watts: None,
            full_watts: None,
            per_kwh: None,
            bytes_per_token: None,
        }
    }

    #[test]
    fn the_example_and_what_replaces_it() {
        let currency = Currency::of("USD").unwrap();
        let example = PlantCost::of(PlantSheet::example(&currency), &none()).unwrap();
        // 540 over four years, 2 a month, 8 W at 0.15 a kWh; 1 a month and 120 over four years; 20 W more under load.
        let year = 31_557_600.0;
        let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
        near(example.machine_per_second, 135.0 / year + 24.0 / year + 8.0 * 0.15 / 3.6e6);
        near(example.fixed_per_second, 12.0 / year + 30.0 / year);
        near(example.per_busy_second, 20.0 * 0.15 / 3.6e6);
        assert!(example.example && example.per_million == 0.0);
        let rented = cli::Plant {
            rent_per_hour: Some("3.6".parse().unwrap()),
            fixed_per_month: Some("73".parse().unwrap()),
            operations_per_month: Some(Nano::ZERO),
            idle_watts: Some("0".parse().unwrap()),
            per_kwh: Some("0.30".parse().unwrap()),
            bytes_per_token: Some(200.0),
            ..none()
        };
        let cost = PlantCost::of(PlantSheet::example(&currency), &rented).unwrap();
        near(cost.machine_per_second, 0.001);
        near(cost.fixed_per_second * SECONDS_PER_MONTH + cost.fixed_per_month, 73.0 + 12.0 / year * SECONDS_PER_MONTH);
        near(cost.per_busy_second, 28.0 * 0.30 / 3.6e6);
        near(cost.per_million, 0.2 * 0.01);
    }

    #[test]
    fn the_mean_of_a_tariff_is_that_of_a_week() {
        let mut sheet = PlantSheet::example(&Currency::of("USD").unwrap());
        let night = TariffRate {
            per_kwh: "0.10".parse().unwrap(),
            days: Days::default(),
            hours: "22:00-04:00".parse().unwrap(),
        };
        let day =
            TariffRate { per_kwh: "0.30".parse().unwrap(), hours: "04:00-22:00".parse().unwrap(), ..night.clone() };
        sheet.tariff = vec![night, day];
        let mean = mean_per_kwh(&Plant::new(sheet).unwrap(), 1_794_744_012_345).unwrap();
        assert!((mean - 0.25).abs() < 1e-9, "{mean}");
    }
}
