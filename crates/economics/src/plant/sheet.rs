//! The plant sheet: what the operator writes about the plant.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Days, Hours, Milli, Plant, TariffRate};
use crate::directory::parse;
use crate::directory::record::check_text;
use crate::{Currency, Invalid, Nano, Rate, window};

/// Bytes of a name.
const MAX_NAME: usize = 64;
/// Most pieces of equipment, and most fixed costs.
const MAX_ITEMS: usize = 256;
/// Largest single amount, in units of the currency.
const MAX_UNITS: i64 = 1_000_000_000;
/// Dearest kilowatt-hour, in units of the currency.
const MAX_KWH_UNITS: i64 = 1_000_000;
/// Longest life or period, in years.
const MAX_YEARS: i64 = 1_000;
/// Most power: a gigawatt.
const MAX_WATTS: i64 = 1_000_000_000;
/// Dirtiest energy; coal stands near 1,000 g.
const MAX_CARBON_G: i64 = 10_000;
const NANO: i64 = 1_000_000_000;

/// One version of the plant sheet, as people write it and as the directory keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlantSheet {
    /// In force from here (RFC 3339).
    #[serde(default, with = "window::rfc3339")]
    #[schema(value_type = String)]
    pub from: i64,
    /// IANA name of the time zone of the tariff's days and hours.
    #[serde(default = "window::utc")]
    pub zone: String,
    /// Machines, racks, whatever is bought or rented; may be empty.
    pub equipment: Vec<Equipment>,
    /// Power when there is no work, measured before losses of the site (those are in `pue`).
    pub idle_watts: Milli,
    /// Power under full load.
    pub full_watts: Milli,
    /// Power usage effectiveness: energy at the site's meter / energy of the equipment (ISO/IEC 30134-2); 1 to 10.
    pub pue: Milli,
    /// Price of energy; its rates cover each hour of the local week once.
    pub tariff: Vec<TariffRate>,
    /// Grams of CO2 equivalent for a kilowatt-hour.
    pub carbon_g_per_kwh: Milli,
    /// Traffic and connection.
    #[serde(default)]
    pub network: Network,
    /// Staff.
    #[serde(default)]
    pub operations: Operations,
    /// Costs that do not follow the load: training, research, site.
    #[serde(default)]
    pub fixed: Vec<FixedCost>,
    /// Power that the plant shall not exceed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_cap_watts: Option<Milli>,
    /// Whether these are the figures of [`PlantSheet::example`], which must be labelled so wherever they show. Never read.
    #[serde(skip)]
    is_example: bool,
}

/// Equipment that is bought (`price`, `salvage`, `life_years`) or rented (`rent_per_hour`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Equipment {
    /// What people call it.
    pub name: String,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Nano>,
    /// What it brings at the end of its life; nothing when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salvage: Option<Nano>,
    /// Years over which it loses its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life_years: Option<Milli>,
    /// What it costs an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rent_per_hour: Option<Nano>,
}

/// Cost of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = NetworkCost)]
pub struct Network {
    /// A gigabyte (10⁹ bytes) of traffic.
    pub per_gb: Nano,
    /// The connection.
    pub per_month: Nano,
}

/// Cost of staff.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = OperationsCost)]
pub struct Operations {
    /// All of it.
    pub per_month: Nano,
}

/// A cost that is spread over a period or over a volume of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedCost {
    /// What people call it.
    pub name: String,
    /// All of it.
    pub amount: Nano,
    /// Years over which it is spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_years: Option<Milli>,
    /// Tokens over which it is spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_tokens: Option<u64>,
}

impl PlantSheet {
    /// Reads a sheet and checks it.
    ///
    /// # Errors
    /// Names the field by its path (`plant.equipment[1].life_years`) and the fix.
    pub fn read(value: serde_json::Value) -> Result<Self, Invalid> {
        let sheet: Self = parse::value(value).map_err(|error| error.within("plant"))?;
        sheet.check()?;
        Ok(sheet)
    }

    /// A sheet for a small machine with two cores, for plants whose operator wrote none. Each figure is an example, not a
    /// measurement: 600 for the machine, 60 of it left after 4 years, 8 to 28 watts, no losses of the site, 0.15 a kWh with
    /// about the world's average of CO2 (473 g, Ember 2024), 0.01 a GB of traffic, 1 a month for the connection and 2 for
    /// staff, 120 over 4 years for the setup. They are dollars and cents; the minor unit of another currency stands for a
    /// cent, without any rate of exchange.
    #[must_use]
    pub fn example(currency: &Currency) -> Self {
        let minor_unit = i64::try_from(currency.minor_unit()).unwrap_or(NANO);
        let cents = |cents: i64| Nano(cents * minor_unit);
        let machine = Equipment {
            name: "small machine with 2 cores".to_owned(),
            price: Some(cents(60_000)),
            salvage: Some(cents(6_000)),
            life_years: Some(Milli(4_000)),
            rent_per_hour: None,
        };
        let setup = FixedCost {
            name: "setup".to_owned(),
            amount: cents(12_000),
            over_years: Some(Milli(4_000)),
            over_tokens: None,
        };
        Self {
            from: 0,
            zone: window::utc(),
            equipment: vec![machine],
            idle_watts: Milli(8_000),
            full_watts: Milli(28_000),
            pue: Milli(1_000),
            tariff: vec![TariffRate { per_kwh: cents(15), days: Days::default(), hours: Hours::default() }],
            carbon_g_per_kwh: Milli(473_000),
            network: Network { per_gb: cents(1), per_month: cents(100) },
            operations: Operations { per_month: cents(200) },
            fixed: vec![setup],
            power_cap_watts: None,
            is_example: true,
        }
    }

    /// The same, labelled as an example or not as it was when the books took it.
    pub(crate) fn labelled(self, is_example: bool) -> Self {
        Self { is_example, ..self }
    }

    /// Whether its figures are examples and must be labelled so wherever they show.
    #[must_use]
    pub fn is_example(&self) -> bool {
        self.is_example
    }

    /// Refuses what has no meaning or is out of range.
    ///
    /// # Errors
    /// Names the field by its path (`plant.equipment[1].life_years`) and the fix.
    pub fn check(&self) -> Result<(), Invalid> {
        Plant::new(self.clone()).map(drop)
    }

    /// As [`PlantSheet::check`], but for tariff, zone and the whole, which [`Plant::new`] checks as it lays them out.
    pub(super) fn check_fields(&self) -> Result<(), Invalid> {
        for (field, length) in [("equipment", self.equipment.len()), ("fixed", self.fixed.len())] {
            if length > MAX_ITEMS {
                let fix = "sum up what is alike";
                return Err(Invalid::new(field, format!("{length} entries; there may be {MAX_ITEMS}"), fix));
            }
        }
        for (index, item) in self.equipment.iter().enumerate() {
            item.check().map_err(|error| error.within(&format!("equipment[{index}]")))?;
        }
        self.check_power()?;
        for (index, rate) in self.tariff.iter().enumerate() {
            amount("per_kwh", rate.per_kwh, MAX_KWH_UNITS)
                .map_err(|error| error.within(&format!("tariff[{index}]")))?;
        }
        within("carbon_g_per_kwh", self.carbon_g_per_kwh, (0, MAX_CARBON_G), "grams of CO2 for a kilowatt-hour")?;
        amount("network.per_gb", self.network.per_gb, MAX_UNITS)?;
        amount("network.per_month", self.network.per_month, MAX_UNITS)?;
        amount("operations.per_month", self.operations.per_month, MAX_UNITS)?;
        for (index, cost) in self.fixed.iter().enumerate() {
            cost.check().map_err(|error| error.within(&format!("fixed[{index}]")))?;
        }
        Ok(())
    }

    fn check_power(&self) -> Result<(), Invalid> {
        const WATTS: &str = "watts";
        within("idle_watts", self.idle_watts, (0, MAX_WATTS), WATTS)?;
        within("full_watts", self.full_watts, (0, MAX_WATTS), WATTS)?;
        if self.full_watts < self.idle_watts {
            let problem = format!("{} W are less than `idle_watts` ({} W)", self.full_watts, self.idle_watts);
            return Err(Invalid::new("full_watts", problem, "write the power under full load"));
        }
        within("pue", self.pue, (1, 10), "energy of the site / energy of the equipment")?;
        let Some(cap) = self.power_cap_watts else { return Ok(()) };
        within("power_cap_watts", cap, (0, MAX_WATTS), WATTS)?;
        if cap <= self.idle_watts {
            let problem = format!("{cap} W are not above `idle_watts` ({} W): nothing could run", self.idle_watts);
            return Err(Invalid::new("power_cap_watts", problem, "write more, or leave it out for no cap"));
        }
        Ok(())
    }
}

impl Equipment {
    fn check(&self) -> Result<(), Invalid> {
        check_text("name", &self.name, MAX_NAME)?;
        let named = |problem: &str| format!("`{}` {problem}", self.name);
        match (self.price, self.rent_per_hour) {
            (Some(_), Some(_)) => {
                let problem = named("is bought and rented at the same time");
                Err(Invalid::new("rent_per_hour", problem, "keep `price` or `rent_per_hour`"))
            }
            (None, None) => {
                let problem = named("has neither a price nor a rent");
                Err(Invalid::new("price", problem, "write `price` and `life_years`, or `rent_per_hour`"))
            }
            (None, Some(rent)) => {
                for (field, given) in [("salvage", self.salvage.is_some()), ("life_years", self.life_years.is_some())] {
                    if given {
                        return Err(Invalid::new(field, named("is rented"), "remove it; it belongs to what is bought"));
                    }
                }
                amount("rent_per_hour", rent, MAX_UNITS)
            }
            (Some(price), None) => {
                amount("price", price, MAX_UNITS)?;
                let salvage = self.salvage.unwrap_or_default();
                amount("salvage", salvage, MAX_UNITS)?;
                if salvage > price {
                    let problem = format!("{salvage} is more than the price, {price}");
                    return Err(Invalid::new("salvage", problem, "write what is left at the end of its life"));
                }
                let life = self.life_years.ok_or_else(|| {
                    Invalid::new(
                        "life_years",
                        named("has a price but no life"),
                        "write in how many years it is used up",
                    )
                })?;
                years("life_years", life)
            }
        }
    }
}

impl FixedCost {
    fn check(&self) -> Result<(), Invalid> {
        check_text("name", &self.name, MAX_NAME)?;
        amount("amount", self.amount, MAX_UNITS)?;
        match (self.over_years, self.over_tokens) {
            (Some(period), None) => years("over_years", period),
            (None, Some(0)) => {
                Err(Invalid::new("over_tokens", "0 tokens carry no cost", "write how many tokens shall carry it"))
            }
            (None, Some(tokens)) => {
                let rate_pico = i128::from(self.amount.0) * 1_000 / i128::from(tokens);
                if rate_pico > i128::from(Rate::MAX.pico()) {
                    let problem = format!("a token would carry more than {}", Rate::MAX);
                    return Err(Invalid::new("over_tokens", problem, "check the number of tokens and the amount"));
                }
                Ok(())
            }
            (Some(_), Some(_)) => {
                let problem = format!("`{}` is spread over years and over tokens", self.name);
                Err(Invalid::new("over_tokens", problem, "keep `over_years` or `over_tokens`"))
            }
            (None, None) => {
                let problem = format!("`{}` is spread over nothing", self.name);
                Err(Invalid::new("over_years", problem, "write `over_years` or `over_tokens`"))
            }
        }
    }
}

/// Refuses amounts below 0 and above `most` units of the currency.
fn amount(field: &str, amount: Nano, most: i64) -> Result<(), Invalid> {
    if amount < Nano::ZERO {
        return Err(Invalid::new(field, format!("{amount} is negative"), "write 0 or more"));
    }
    if amount.0 > most.saturating_mul(NANO) {
        return Err(Invalid::new(field, format!("{amount} is above {most}"), "check the decimal point"));
    }
    Ok(())
}

/// Refuses numbers outside of `least` to `most`.
fn within(field: &str, number: Milli, (least, most): (i64, i64), unit: &str) -> Result<(), Invalid> {
    if number < Milli(least * 1_000) || number > Milli(most * 1_000) {
        let problem = format!("{number} is not within {least} to {most}");
        return Err(Invalid::new(field, problem, format!("write {unit}, from {least} to {most}")));
    }
    Ok(())
}

/// Refuses periods without length and absurd ones.
fn years(field: &str, period: Milli) -> Result<(), Invalid> {
    if period <= Milli(0) || period > Milli(MAX_YEARS * 1_000) {
        let problem = format!("{period} is not more than 0 and at most {MAX_YEARS}");
        return Err(Invalid::new(field, problem, "write years, e.g. 4 or 0.5"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
