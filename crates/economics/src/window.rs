//! Accounting windows in a customer's own time zone, and times as text.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Invalid;

/// A day (UTC) in milliseconds.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// How often a window begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BudgetPeriod)]
pub enum Period {
    /// Each midnight.
    Day,
    /// Each month, on the anchor day.
    #[default]
    Month,
    /// Never: one window for all time.
    Forever,
}

/// When windows begin.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// IANA name, e.g. `Asia/Shanghai`.
    #[serde(default = "utc")]
    #[schema(required = true)]
    pub zone: String,
    /// Day of the month, 1 to 31, on which a monthly window begins; in shorter months the last day.
    #[serde(default = "first")]
    #[schema(required = true)]
    pub anchor_day: u8,
}

pub(crate) fn utc() -> String {
    "UTC".to_owned()
}

fn first() -> u8 {
    1
}

impl Default for Calendar {
    fn default() -> Self {
        Self { zone: utc(), anchor_day: first() }
    }
}

/// One window: `start_ms <= t < end_ms`. The windows of a calendar tile time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// The calendar's zone.
    pub zone: String,
    /// The calendar's anchor day.
    pub anchor_day: u8,
    /// First millisecond.
    pub start_ms: i64,
    /// First millisecond after it.
    pub end_ms: i64,
    /// The local date on which it begins (`2026-11-01`), or `all`; names its accounts.
    pub label: String,
}

impl Window {
    /// `at_ms` as RFC 3339 text with the offset of the window's zone: `2026-11-01T00:00:00+08:00`.
    #[must_use]
    pub fn local(&self, at_ms: i64) -> String {
        let local = Timestamp::from_millisecond(at_ms).and_then(|at| at.in_tz(&self.zone));
        local.map_or_else(|_unknown| to_rfc3339(at_ms), |local| local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    }
}

impl Calendar {
    /// Refuses zones and days that do not exist.
    ///
    /// # Errors
    /// Names the field and the fix.
    pub fn check(&self) -> Result<(), Invalid> {
        time_zone(&self.zone)?;
        if !(1..=31).contains(&self.anchor_day) {
            return Err(Invalid::new("anchor_day", format!("{} is no day of a month", self.anchor_day), "use 1 to 31"));
        }
        Ok(())
    }

    /// The window of `period` that holds `at_ms`.
    ///
    /// # Errors
    /// When the calendar is wrong or the time is beyond the years -9998 to 9998.
    pub fn window(&self, period: Period, at_ms: i64) -> Result<Window, Invalid> {
        self.check()?;
        let named = |start_ms, end_ms, label| Window {
            zone: self.zone.clone(),
            anchor_day: self.anchor_day,
            start_ms,
            end_ms,
            label,
        };
        if period == Period::Forever {
            return Ok(named(i64::MIN, i64::MAX, "all".to_owned()));
        }
        let zone = time_zone(&self.zone)?;
        let today = Timestamp::from_millisecond(at_ms).map_err(out_of_range)?.to_zoned(zone.clone()).date();
        // The local date alone does not tell: clocks set back over midnight repeat a date. The borders decide.
        let mut first = match period {
            Period::Month => self.anchor_in(today, 0)?,
            Period::Day | Period::Forever => today,
        };
        let step = |from: Date, by: i8| match period {
            Period::Month => self.anchor_in(from, by),
            Period::Day | Period::Forever => from.checked_add(i32::from(by).days()).map_err(out_of_range),
        };
        while begin(first, &zone)? > at_ms {
            first = step(first, -1)?;
        }
        let mut next = step(first, 1)?;
        while begin(next, &zone)? <= at_ms {
            first = next;
            next = step(first, 1)?;
        }
        Ok(named(begin(first, &zone)?, begin(next, &zone)?, first.to_string()))
    }

    /// The anchor day of the month `by` months from that of `date`.
    fn anchor_in(&self, date: Date, by: i8) -> Result<Date, Invalid> {
        let month = date.first_of_month().checked_add(i32::from(by).months()).map_err(out_of_range)?;
        let day = i8::try_from(self.anchor_day).unwrap_or(i8::MAX).min(month.days_in_month());
        Date::new(month.year(), month.month(), day).map_err(out_of_range)
    }
}

/// The time zone of an IANA name in a field `zone`.
pub(crate) fn time_zone(name: &str) -> Result<TimeZone, Invalid> {
    TimeZone::get(name)
        .map_err(|error| Invalid::new("zone", error.to_string(), "use an IANA name such as Europe/Berlin or UTC"))
}

/// The instant at which `date` begins in `zone`; a midnight that the clocks skip begins when they have been set.
fn begin(date: Date, zone: &TimeZone) -> Result<i64, Invalid> {
    Ok(date.to_zoned(zone.clone()).map_err(out_of_range)?.timestamp().as_millisecond())
}

#[expect(clippy::needless_pass_by_value, reason = "used as an argument of map_err")]
pub(crate) fn out_of_range(error: jiff::Error) -> Invalid {
    tracing::debug!("a time beyond the calendar: {error}");
    Invalid::new(
        "time",
        "it is beyond the calendar, which ends with the year 9999",
        "take an earlier time, or check the machine's clock",
    )
}

/// The first day of the month (UTC) that a day lies in, both from the epoch; a day beyond the calendar is its own.
pub(crate) fn first_of_month(day: i64) -> i64 {
    let date = Timestamp::from_millisecond(day.saturating_mul(DAY_MS)).map(|at| at.to_zoned(TimeZone::UTC).date());
    date.map_or(day, |date| day.saturating_sub(i64::from(date.day()) - 1))
}

/// `at_ms` as RFC 3339 text; a time beyond the calendar as its number.
#[must_use]
pub fn to_rfc3339(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_beyond| format!("{at_ms} ms"), |at| at.to_string())
}

/// The milliseconds of RFC 3339 text.
///
/// # Errors
/// When it is none.
pub fn from_rfc3339(text: &str) -> Result<i64, Invalid> {
    let wrong = |error: jiff::Error| {
        Invalid::new("time", format!("`{text}` is no time ({error})"), "write e.g. 2026-11-01T00:00:00Z")
    };
    let time: Timestamp = text.parse().map_err(wrong)?;
    Ok(time.as_millisecond())
}

/// Times in documents: RFC 3339 text outside, milliseconds inside.
pub mod rfc3339 {
    use crate::Invalid;
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// Writes the time as text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(at_ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&super::to_rfc3339(*at_ms))
    }

    /// Reads the time from text.
    ///
    /// # Errors
    /// When it is no RFC 3339 time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        parse(&String::deserialize(deserializer)?)
    }

    pub(super) fn parse<E: de::Error>(text: &str) -> Result<i64, E> {
        super::from_rfc3339(text).map_err(|Invalid { problem, fix, .. }| E::custom(format!("{problem}; {fix}")))
    }
}

/// As [`rfc3339`], for times that may be missing.
pub mod rfc3339_option {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the time as text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(at_ms: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
        match at_ms {
            Some(at_ms) => serializer.collect_str(&super::to_rfc3339(*at_ms)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the time from text.
    ///
    /// # Errors
    /// When it is no RFC 3339 time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
        Option::<String>::deserialize(deserializer)?.map(|text| super::rfc3339::parse(&text)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn month(zone: &str, anchor_day: u8, at: &str) -> (String, String, String) {
        let calendar = Calendar { zone: zone.to_owned(), anchor_day };
        let window = calendar.window(Period::Month, ms(at)).unwrap();
        (window.label, to_rfc3339(window.start_ms), to_rfc3339(window.end_ms))
    }

    #[test]
    fn months_begin_at_local_midnight_through_daylight_saving() {
        for (zone, anchor, at, label, start, end) in [
            ("UTC", 1, "2026-11-22T21:00:00Z", "2026-11-01", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("Asia/Shanghai", 1, "2026-10-31T16:00:00Z", "2026-11-01", "2026-10-31T16:00:00Z", "2026-11-30T16:00:00Z"),
            // Berlin: summer time ends on 25 October.
            ("Europe/Berlin", 1, "2026-10-26T00:00:00Z", "2026-10-01", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
            // An anchor in months without that day.
            ("UTC", 31, "2026-02-27T00:00:00Z", "2026-01-31", "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"),
            ("UTC", 31, "2026-02-28T00:00:00Z", "2026-02-28", "2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z"),
            ("UTC", 29, "2028-02-29T12:00:00Z", "2028-02-29", "2028-02-29T00:00:00Z", "2028-03-29T00:00:00Z"),
            // Santiago skips 00:00 to 01:00 on 6 September 2026: the window begins at the change.
            (
                "America/Santiago",
                6,
                "2026-09-06T04:00:00Z",
                "2026-09-06",
                "2026-09-06T04:00:00Z",
                "2026-10-06T03:00:00Z",
            ),
            // Samoa had no 30 December 2011.
            ("Pacific/Apia", 30, "2011-12-30T10:00:00Z", "2011-12-30", "2011-12-30T10:00:00Z", "2012-01-29T10:00:00Z"),
        ] {
            assert_eq!(month(zone, anchor, at), (label.into(), start.into(), end.into()), "{zone} {at}");
        }
    }

    #[test]
    fn the_first_of_a_month_is_that_of_the_calendar() {
        let day = |date: &str| ms(&format!("{date}T00:00:00Z")) / DAY_MS;
        for (at, first) in [
            ("2026-11-01", "2026-11-01"),
            ("2026-11-30", "2026-11-01"),
            ("2028-02-29", "2028-02-01"),
            ("1969-12-31", "1969-12-01"),
        ] {
            assert_eq!(first_of_month(day(at)), day(first), "{at}");
        }
        assert_eq!([i64::MIN, i64::MAX].map(first_of_month), [i64::MIN, i64::MAX]);
    }

    #[test]
    fn local_times_have_the_offset_of_their_day() {
        let window = |zone: &str| Calendar { zone: zone.into(), anchor_day: 1 }.window(Period::Month, 0).unwrap();
        let berlin = window("Europe/Berlin");
        assert_eq!(berlin.local(ms("2026-10-24T22:00:00Z")), "2026-10-25T00:00:00+02:00");
        assert_eq!(berlin.local(ms("2026-10-25T23:00:00Z")), "2026-10-26T00:00:00+01:00");
        assert_eq!(window("UTC").local(0), "1970-01-01T00:00:00+00:00");
    }

    #[test]
    fn windows_of_every_zone_tile_time() {
        let zones: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        assert!(zones.len() > 300, "{} zones", zones.len());
        for (index, zone) in zones.iter().enumerate() {
            let anchor_day = u8::try_from(index % 31).unwrap() + 1;
            let calendar = Calendar { zone: zone.clone(), anchor_day };
            for (period, least, most, from) in [
                (Period::Month, 27, 35, ms("2009-12-15T12:34:56Z")),
                (Period::Day, 0, 2, ms("2011-12-20T00:00:00Z")),
                (Period::Day, 0, 2, ms("2026-03-01T00:00:00Z")),
            ] {
                let mut window = calendar.window(period, from).unwrap();
                for _ in 0..40 {
                    assert!(window.start_ms < window.end_ms);
                    let length = window.end_ms - window.start_ms;
                    assert!(length > least * DAY_MS && length < most * DAY_MS, "{window:?}");
                    for inside in [window.start_ms, window.start_ms + length / 2, window.end_ms - 1] {
                        assert_eq!(calendar.window(period, inside).unwrap(), window, "{zone} at {inside}");
                    }
                    let next = calendar.window(period, window.end_ms).unwrap();
                    assert_eq!(next.start_ms, window.end_ms, "{window:?} {next:?}");
                    assert_ne!(next.label, window.label);
                    window = next;
                }
            }
        }
    }

    #[test]
    fn bad_calendars_and_clocks_are_refused() {
        for (zone, anchor_day, part) in
            [("Mars/Olympus", 1, "zone:"), ("UTC", 0, "anchor_day: 0"), ("UTC", 32, "anchor_day: 32")]
        {
            let error =
                Calendar { zone: zone.to_owned(), anchor_day }.window(Period::Month, 0).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        for at in [i64::MIN, i64::MAX] {
            assert!(Calendar::default().window(Period::Day, at).unwrap_err().to_string().contains("clock"));
            assert!(Calendar::default().window(Period::Forever, at).is_ok());
        }
    }
}
