//! What the plant costs, as its sheet says and as a plan corrects it.

use economics::plant::{Days, Equipment, Hours, Milli, Plant, PlantSheet, Rates, Source, TariffRate};
use economics::{Invalid, Nano};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::routes::figures::{money, thousandths};

const WEEK_MS: i64 = 7 * 86_400_000;
const SECONDS_PER_HOUR: f64 = 3_600.0;

/// What takes the place of what the plant's sheet says.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = PlanCorrections)]
pub struct Corrections {
    /// Rent of a machine, in place of the sheet's equipment.
    pub rent_per_hour: Option<Nano>,
    /// Cost that does not grow with machines, in place of the sheet's fixed cost.
    pub fixed_per_month: Option<Nano>,
    /// Staff for a machine, in place of the sheet's.
    pub operations_per_month: Option<Nano>,
    /// Power of a machine without work.
    pub idle_watts: Option<Milli>,
    /// Power of a machine under full load.
    pub full_watts: Option<Milli>,
    /// Price of a kilowatt-hour, in place of the sheet's tariff.
    pub per_kwh: Option<Nano>,
    /// Traffic of a token, which the sheet's price of a gigabyte makes cost; 0 when not given.
    pub bytes_per_token: Option<f64>,
}

/// What the plant costs, in units of the currency.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct PlantCost {
    /// Whether figures that were not given are those of an example.
    pub example: bool,
    /// A second of each machine: depreciation or rent, operations, idle power.
    pub machine_per_second: f64,
    /// A second of what there is once, whatever the number of machines: connection, fixed cost.
    pub fixed_per_second: f64,
    /// The same by the month, as it was given.
    pub fixed_per_month: f64,
    /// A second of full load, beyond idle power.
    pub per_busy_second: f64,
    /// 1M tokens: traffic, cost spread over tokens.
    pub per_million: f64,
    /// Mean price of a kilowatt-hour over a week.
    pub per_kwh: f64,
}

impl PlantCost {
    /// By a sheet, with what takes its place. Tariffs are those of the week from `now_ms` on.
    ///
    /// # Errors
    /// Names the field of the request (`plant.rent_per_hour`) or of the sheet (`plant.equipment[1].life_years`).
    pub fn of(mut sheet: PlantSheet, corrections: &Corrections, now_ms: i64) -> Result<Self, Invalid> {
        replace(&mut sheet, corrections);
        let (idle, full, pue) =
            (thousandths(sheet.idle_watts.0), thousandths(sheet.full_watts.0), thousandths(sheet.pue.0));
        let (example, per_gb) = (sheet.is_example(), money(sheet.network.per_gb));
        let plant = Plant::new(sheet).map_err(named)?;
        let rates = plant.rates(now_ms).map_err(named)?;
        let per_kwh = mean_per_kwh(&plant, now_ms).map_err(named)?;
        let per_watt_second = pue * per_kwh / 1e3 / SECONDS_PER_HOUR;
        let machines = [Source::Depreciation, Source::Rent, Source::Operations];
        let bytes_per_million = corrections.bytes_per_token.unwrap_or_default() * 1e6;
        Ok(Self {
            example,
            machine_per_second: per_second(&rates, &machines) + idle * per_watt_second,
            fixed_per_second: per_second(&rates, &[Source::Network, Source::Fixed]),
            fixed_per_month: corrections.fixed_per_month.map_or(0.0, money),
            per_busy_second: (full - idle) * per_watt_second,
            per_million: bytes_per_million / 1e9 * per_gb + rates.atto_per_token() as f64 / 1e12,
            per_kwh,
        })
    }
}

/// Puts the corrections in place of what the sheet says.
fn replace(sheet: &mut PlantSheet, corrections: &Corrections) {
    if corrections.rent_per_hour.is_some() {
        let machine =
            Equipment { name: "machine".to_owned(), rent_per_hour: corrections.rent_per_hour, ..Equipment::default() };
        sheet.equipment = vec![machine];
    }
    if corrections.fixed_per_month.is_some() {
        sheet.fixed.clear();
    }
    sheet.operations.per_month = corrections.operations_per_month.unwrap_or(sheet.operations.per_month);
    sheet.idle_watts = corrections.idle_watts.unwrap_or(sheet.idle_watts);
    sheet.full_watts = corrections.full_watts.unwrap_or(sheet.full_watts);
    // A cap of the sheet is that of its own machine.
    sheet.power_cap_watts = None;
    if let Some(per_kwh) = corrections.per_kwh {
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
        sum += money(rates.per_kwh) * (next - at) as f64;
        at = next;
    }
    Ok(sum / WEEK_MS as f64)
}

fn per_second(rates: &Rates, sources: &[Source]) -> f64 {
    sources.iter().map(|source| rates.atto_per_second(*source) as f64 / 1e18).sum()
}

/// The sheet itself was right: what is wrong stands in the request.
fn named(error: Invalid) -> Invalid {
    let field = match error.field.as_str() {
        "plant.equipment[0].rent_per_hour" => "plant.rent_per_hour",
        "plant.operations.per_month" => "plant.operations_per_month",
        "plant.tariff[0].per_kwh" => "plant.per_kwh",
        _ => return error,
    };
    Invalid { field: field.to_owned(), ..error }
}

#[cfg(test)]
mod tests {
    use analysis::plan::SECONDS_PER_MONTH;
    use economics::Currency;

    use super::*;

    #[test]
    fn the_example_and_what_replaces_it() {
        let currency = Currency::of("USD").unwrap();
        let example = PlantCost::of(PlantSheet::example(&currency), &Corrections::default(), 0).unwrap();
        // 540 over four years, 2 a month, 8 W at 0.15 a kWh; 1 a month and 120 over four years; 20 W more under load.
        let year = 31_557_600.0;
        let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
        near(example.machine_per_second, 135.0 / year + 24.0 / year + 8.0 * 0.15 / 3.6e6);
        near(example.fixed_per_second, 12.0 / year + 30.0 / year);
        near(example.per_busy_second, 20.0 * 0.15 / 3.6e6);
        assert!(example.example && example.per_million == 0.0);
        let rented = Corrections {
            rent_per_hour: Some("3.6".parse().unwrap()),
            fixed_per_month: Some("73".parse().unwrap()),
            operations_per_month: Some(Nano::ZERO),
            idle_watts: Some("0".parse().unwrap()),
            per_kwh: Some("0.30".parse().unwrap()),
            bytes_per_token: Some(200.0),
            ..Corrections::default()
        };
        let cost = PlantCost::of(PlantSheet::example(&currency), &rented, 0).unwrap();
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
