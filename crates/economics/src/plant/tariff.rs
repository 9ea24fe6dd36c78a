//! What a kilowatt-hour costs, by weekday and local time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

use crate::money::serde_as_text;
use crate::{Invalid, Nano};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MINUTES: u16 = 1_440;
const WEEK_MINUTES: u16 = 7 * DAY_MINUTES;
/// Most rates of a tariff.
const MAX_RATES: usize = 64;

/// Weekdays: `mon-fri`, `sat,sun`, `fri-mon`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String)]
pub struct Days([bool; 7]);

impl Default for Days {
    fn default() -> Self {
        Self([true; 7])
    }
}

impl FromStr for Days {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let day = |name: &str| {
            DAYS.iter().position(|day| *day == name.trim()).ok_or_else(|| {
                let problem = format!("`{}` is no weekday", name.trim().escape_debug());
                Invalid::new("", problem, "write e.g. \"mon-fri\" or \"sat,sun\"")
            })
        };
        let mut days = [false; 7];
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (day(first)?, day(last)?);
            for step in 0..=(last + 7 - first) % 7 {
                days[(first + step) % 7] = true;
            }
        }
        Ok(Self(days))
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut day = 0;
        while day < 7 {
            let run = self.0[day..].iter().take_while(|held| **held).count();
            match run {
                0 => {}
                1 => parts.push(DAYS[day].to_owned()),
                _ => parts.push(format!("{}-{}", DAYS[day], DAYS[day + run - 1])),
            }
            day += run + 1;
        }
        f.write_str(&parts.join(","))
    }
}

/// Local times of a day: `07:00-22:00`, the end not included. `22:00-07:00` passes midnight into the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// First minute of the day.
    from: u16,
    /// First minute after it; at most 1,440.
    to: u16,
}

impl Default for Hours {
    fn default() -> Self {
        Self { from: 0, to: DAY_MINUTES }
    }
}

impl Hours {
    fn minutes(self) -> u16 {
        if self.to > self.from { self.to - self.from } else { self.to + DAY_MINUTES - self.from }
    }
}

impl FromStr for Hours {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        const FIX: &str = "write e.g. \"07:00-22:00\", or \"00:00-24:00\" for all day";
        let unclear = |problem: &str| Invalid::new("", format!("`{}` {problem}", text.escape_debug()), FIX);
        let minute = |time: &str| -> Option<u16> {
            let (hour, minute) = time.trim().split_once(':')?;
            let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            let (hour, minute) = (two_digits(hour).then_some(hour)?, two_digits(minute).then_some(minute)?);
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (minute < 60).then_some(hour * 60 + minute).filter(|minute| *minute <= DAY_MINUTES)
        };
        let times = text.split_once('-').and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
        let (from, to) = times.ok_or_else(|| unclear("is no span of local time"))?;
        if from == to || from == DAY_MINUTES {
            return Err(unclear("is empty"));
        }
        Ok(Self { from, to })
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

serde_as_text!(Days, "days");
serde_as_text!(Hours, "hours");

/// A price of energy and when it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TariffRate {
    /// Price of a kilowatt-hour.
    pub per_kwh: Nano,
    /// Days on which its hours begin.
    #[serde(default)]
    pub days: Days,
    /// Hours of each of these days.
    #[serde(default)]
    #[schema(value_type = String)]
    pub hours: Hours,
}

/// A tariff whose rates cover each minute of the local week once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Week {
    /// Minutes of the week at which the price changes, with the price from there, ascending. Before the first the last
    /// holds; a price that never changes stands alone.
    borders: Vec<(u16, Nano)>,
}

impl Week {
    /// Lays out `rates`.
    ///
    /// # Errors
    /// Names the rate, the day and the time of the first overlap or gap.
    pub(super) fn new(rates: &[TariffRate]) -> Result<Self, Invalid> {
        if rates.is_empty() || rates.len() > MAX_RATES {
            let problem = format!("{} rates; there must be 1 to {MAX_RATES}", rates.len());
            return Err(Invalid::new("tariff", problem, "write one rate without days and hours for a flat tariff"));
        }
        let mut minutes: Vec<Option<usize>> = vec![None; usize::from(WEEK_MINUTES)];
        for (index, rate) in rates.iter().enumerate() {
            let starts = (0..7_u16).zip(rate.days.0).filter(|(_, held)| *held).map(|(day, _)| day * DAY_MINUTES);
            for start in starts {
                for step in 0..rate.hours.minutes() {
                    let minute = (start + rate.hours.from + step) % WEEK_MINUTES;
                    if let Some(other) = minutes[usize::from(minute)].replace(index) {
                        let problem = format!("on {} tariff[{other}] holds too", day_and_time(minute));
                        let fix = "change the days or the hours of one of them";
                        return Err(Invalid::new(format!("tariff[{index}]"), problem, fix));
                    }
                }
            }
        }
        let mut prices = Vec::with_capacity(minutes.len());
        for (minute, held) in (0..WEEK_MINUTES).zip(minutes) {
            let Some(rate) = held.and_then(|index| rates.get(index)) else {
                let problem = format!("no rate holds on {}", day_and_time(minute));
                return Err(Invalid::new("tariff", problem, "cover each hour of the week once"));
            };
            prices.push((minute, rate.per_kwh));
        }
        let mut borders = Vec::new();
        let mut before = prices.last().copied();
        for at in prices {
            if before.is_some_and(|(_, price)| price != at.1) {
                borders.push(at);
            }
            before = Some(at);
        }
        if borders.is_empty() {
            borders.extend(before.map(|(_, price)| (0, price)));
        }
        Ok(Self { borders })
    }

    /// The price of a kilowatt-hour at a minute of the local week (0: Monday 00:00), and in how many minutes it changes.
    pub(super) fn at(&self, minute: u16) -> (Nano, Option<u16>) {
        let next = self.borders.partition_point(|(from, _)| *from <= minute);
        let price = next.checked_sub(1).map_or(self.borders.last(), |held| self.borders.get(held));
        let change = match (self.borders.get(next), self.borders.first()) {
            _ if self.borders.len() < 2 => None,
            (Some((from, _)), _) => Some(from - minute),
            (None, first) => first.map(|(from, _)| from + WEEK_MINUTES - minute),
        };
        (price.map_or(Nano::ZERO, |(_, price)| *price), change)
    }

    /// The dearest price of a kilowatt-hour.
    pub(super) fn dearest(&self) -> Nano {
        self.borders.iter().map(|(_, price)| *price).max().unwrap_or(Nano::ZERO)
    }
}

/// A minute of the week as people say it.
fn day_and_time(minute: u16) -> String {
    let (day, time) = (minute / DAY_MINUTES, minute % DAY_MINUTES);
    format!("{} at {:02}:{:02}", DAYS[usize::from(day % 7)], time / 60, time % 60)
}

#[cfg(test)]
mod tests;
