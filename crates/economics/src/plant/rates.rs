//! What the sheet says at an instant, in integers ready to multiply.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::tariff::Week;
use super::{BySource, Equipment, HOUR_S, MONTH_S, Milli, PlantSheet, Source, YEAR_S};
use crate::money::divide_half_even;
use crate::{Invalid, Nano, window};

/// Atto-units (10⁻¹⁸ of a unit of the currency) in a nano-unit. Rates per second and per token are rounded down
/// to whole atto-units, which loses a nano-unit in thirty years at most; with pico-units it would be a quarter of an hour.
pub(super) const ATTO_PER_NANO: u64 = 1_000_000_000;
const BYTES_PER_GB: i128 = 1_000_000_000;
/// Most that a plant costs a year under full load, in nano-units: an amount of 64 bits holds two such years.
const MAX_YEARLY_NANO: u128 = 4_000_000_000_000_000_000;
const MINUTE_MS: i64 = 60_000;

/// A checked sheet, laid out for [`Plant::rates`].
#[derive(Clone, Debug)]
pub struct Plant {
    sheet: PlantSheet,
    zone: TimeZone,
    week: Week,
    standing: BySource<u128>,
    per_token: u128,
}

/// What the plant costs at an instant. Constant until [`Rates::next_change_ms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Atto-units per second; nothing for [`Source::Power`], which goes by energy.
    pub(super) standing: BySource<u128>,
    /// Atto-units per token.
    per_token: u128,
    per_gb: Nano,
    /// Price of a kilowatt-hour at the site's meter.
    pub per_kwh: Nano,
    /// Energy at the site's meter / energy of the equipment.
    pub pue: Milli,
    /// Grams of CO2 equivalent for a kilowatt-hour.
    pub carbon_g_per_kwh: Milli,
    /// First millisecond at which the rates may be others: when the tariff changes or the zone's clocks are set. No
    /// interval may pass it. The greatest number when there is none.
    pub next_change_ms: i64,
}

impl Plant {
    /// Checks `sheet` and lays it out.
    ///
    /// # Errors
    /// As [`PlantSheet::check`].
    pub fn new(sheet: PlantSheet) -> Result<Self, Invalid> {
        Self::lay_out(sheet).map_err(|error| error.within("plant"))
    }

    fn lay_out(sheet: PlantSheet) -> Result<Self, Invalid> {
        sheet.check_fields()?;
        let zone = window::time_zone(&sheet.zone)?;
        let week = Week::new(&sheet.tariff)?;
        let mut standing = BySource::default();
        *standing.get_mut(Source::Network) = atto_per(sheet.network.per_month, MONTH_S);
        *standing.get_mut(Source::Operations) = atto_per(sheet.operations.per_month, MONTH_S);
        for (source, rate) in sheet.equipment.iter().map(standing_of) {
            *standing.get_mut(source) += rate;
        }
        let mut per_token = 0;
        for cost in &sheet.fixed {
            *standing.get_mut(Source::Fixed) += cost.over_years.map_or(0, |years| atto_per_years(cost.amount, years));
            per_token += cost.over_tokens.map_or(0, |tokens| atto_per(cost.amount, tokens));
        }
        let plant = Self { sheet, zone, week, standing, per_token };
        if plant.yearly_nano() > MAX_YEARLY_NANO {
            let units = MAX_YEARLY_NANO / 1_000_000_000;
            let problem = format!("under full load the plant costs more than {units} a year");
            return Err(Invalid::new("", problem, "check the decimal points"));
        }
        Ok(plant)
    }

    /// Cost of a year under full load at the dearest tariff, in nano-units.
    fn yearly_nano(&self) -> u128 {
        let standing: u128 = Source::ALL.iter().map(|source| self.standing.get(*source)).sum();
        let hours = u128::from(YEAR_S / HOUR_S);
        let factors = [self.sheet.full_watts, self.sheet.pue].map(|factor| u128::from(factor.thousandths()));
        // Thousandths twice, and a thousand watt-hours in a kilowatt-hour.
        let power = factors[0] * factors[1] * hours * magnitude(self.week.dearest()) / 1_000_000_000;
        standing * u128::from(YEAR_S) / u128::from(ATTO_PER_NANO) + power
    }

    /// The sheet.
    #[must_use]
    pub fn sheet(&self) -> &PlantSheet {
        &self.sheet
    }

    /// The rates at `at_ms`, by the tariff's day and hour in the sheet's zone.
    ///
    /// # Errors
    /// When the time is beyond the years -9999 to 9999.
    pub fn rates(&self, at_ms: i64) -> Result<Rates, Invalid> {
        let at = Timestamp::from_millisecond(at_ms).map_err(window::out_of_range)?;
        let local = self.zone.to_datetime(at);
        let of_day = [local.hour(), local.minute()].map(|part| u16::try_from(part).unwrap_or(0));
        let day = u16::try_from(local.weekday().to_monday_zero_offset()).unwrap_or(0);
        let (per_kwh, change) = self.week.at((day * 24 + of_day[0]) * 60 + of_day[1]);
        let minute_began = at_ms - i64::from(local.second()) * 1_000 - i64::from(local.millisecond());
        let next_change = change.map(|minutes| minute_began + i64::from(minutes) * MINUTE_MS);
        // Clocks that are set bring another minute of the week, and with it perhaps another price.
        let clocks_set = self.zone.following(at).next().map(|set| set.timestamp().as_millisecond());
        let next_change_ms = next_change.into_iter().chain(clocks_set.filter(|_| change.is_some())).min();
        Ok(Rates {
            standing: self.standing,
            per_token: self.per_token,
            per_gb: self.sheet.network.per_gb,
            per_kwh,
            pue: self.sheet.pue,
            carbon_g_per_kwh: self.sheet.carbon_g_per_kwh,
            next_change_ms: next_change_ms.unwrap_or(i64::MAX),
        })
    }
}

impl Rates {
    /// What the standing cost of `source` accrues each second, in atto-units (10⁻¹⁸ of a unit of the currency). Nothing
    /// for [`Source::Power`]: even its standing part goes by energy.
    #[must_use]
    pub fn atto_per_second(&self, source: Source) -> u128 {
        self.standing.get(source)
    }

    /// What the standing cost of `source` is in an hour, rounded half-even.
    #[must_use]
    pub fn per_hour(&self, source: Source) -> Nano {
        let atto = self.atto_per_second(source).saturating_mul(u128::from(HOUR_S));
        let nano = divide_half_even(i128::try_from(atto).unwrap_or(i128::MAX), i128::from(ATTO_PER_NANO));
        Nano(i64::try_from(nano).unwrap_or(i64::MAX))
    }

    /// What each source but power costs in an hour, used or not: power goes by energy.
    pub fn standing_per_hour(&self) -> impl Iterator<Item = (Source, Nano)> {
        let standing = Source::ALL.into_iter().filter(|source| *source != Source::Power);
        standing.map(|source| (source, self.per_hour(source)))
    }

    /// What an hour of this power at the machines costs, rounded half-even.
    #[must_use]
    pub fn power_per_hour(&self, watts: Milli) -> Nano {
        // Nano-units for an hour of 1,000 W, thousandths of watts and of PUE.
        let product = i128::from(self.per_kwh.0) * i128::from(watts.0) * i128::from(self.pue.0);
        Nano::saturating(divide_half_even(product, 1_000_000_000))
    }

    /// What each token carries of cost spread over tokens, in atto-units.
    #[must_use]
    pub fn atto_per_token(&self) -> u128 {
        self.per_token
    }

    /// What `bytes` of traffic cost: a line of the request that caused it ([`Source::Network`], marginal), rounded
    /// half-even. No part of it accrues by time.
    #[must_use]
    pub fn network(&self, bytes: u64) -> Nano {
        Nano::saturating(divide_half_even(i128::from(self.per_gb.0) * i128::from(bytes), BYTES_PER_GB))
    }

    /// What `tokens` carry of cost spread over tokens: a line of the request that they belong to ([`Source::Fixed`],
    /// attributed), rounded half-even. No part of it accrues by time.
    #[must_use]
    pub fn fixed(&self, tokens: u64) -> Nano {
        let atto = i128::try_from(self.per_token.saturating_mul(u128::from(tokens))).unwrap_or(i128::MAX);
        Nano::saturating(divide_half_even(atto, i128::from(ATTO_PER_NANO)))
    }
}

/// The nano-units of an amount that a check found not negative.
pub(super) fn magnitude(amount: Nano) -> u128 {
    u128::try_from(amount.0).unwrap_or(0)
}

/// Standing cost of a piece of equipment, in atto-units per second.
fn standing_of(item: &Equipment) -> (Source, u128) {
    match (item.rent_per_hour, item.price, item.life_years) {
        (Some(rent), ..) => (Source::Rent, atto_per(rent, HOUR_S)),
        (None, Some(price), Some(life)) => {
            let lost = price.saturating_sub(item.salvage.unwrap_or_default());
            (Source::Depreciation, atto_per_years(lost, life))
        }
        _ => (Source::Depreciation, 0),
    }
}

/// `amount / parts` in atto-units, rounded down to whole ones.
fn atto_per(amount: Nano, parts: u64) -> u128 {
    magnitude(amount) * u128::from(ATTO_PER_NANO) / u128::from(parts.max(1))
}

/// `amount` spread over years, in atto-units per second, rounded down to whole ones.
fn atto_per_years(amount: Nano, years: Milli) -> u128 {
    let parts = u128::from(YEAR_S) * u128::from(years.thousandths().max(1));
    magnitude(amount) * u128::from(ATTO_PER_NANO) * 1_000 / parts
}

#[cfg(test)]
mod tests;
