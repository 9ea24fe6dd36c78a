//! The periods that reports are about: whole days, or exactly from one time to another.

use economics::rollup::{Excerpt, MAX_EXCERPT_ENTRIES, MAX_REPORT_DAYS, Tallies};
use economics::window::to_rfc3339;
use ledger::Ledger;

use super::admin::unreadable;
use crate::app::unix_ms;
use crate::error::ApiError;
use crate::query::Query;

const DAY_S: i64 = 86_400;
/// A day, in milliseconds.
pub(crate) const DAY_MS: i64 = DAY_S * 1000;
/// Days of a report that names no start.
const DAYS: i64 = 30;

/// The days that a report is about.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Days {
    /// Unix seconds; its day counts whole. 30 days before the end when not given
    start_time: Option<i64>,
    /// Unix seconds, exclusive; its day counts whole. Now when not given
    end_time: Option<i64>,
}

/// Whole days, in Unix seconds.
pub(crate) fn span(query: &mut Query) -> Result<(i64, i64), ApiError> {
    whole_days(asked(query)?, "start_time")
}

/// What is asked for, in Unix seconds.
fn asked(query: &mut Query) -> Result<(i64, i64), ApiError> {
    let Days { start_time, end_time } =
        Days { start_time: query.time("start_time")?, end_time: query.time("end_time")? };
    let end = end_time.unwrap_or_else(|| unix_ms() / 1000 + 1);
    let start = start_time.unwrap_or_else(|| end.saturating_sub(DAYS * DAY_S).max(0));
    Ok((start, end))
}

/// `name`: what the start is called.
fn whole_days((start, end): (i64, i64), name: &str) -> Result<(i64, i64), ApiError> {
    let (from, to) = (start - start % DAY_S, end.saturating_add(DAY_S - 1) / DAY_S * DAY_S);
    if end < start || to - from > MAX_REPORT_DAYS * DAY_S {
        let message = format!("`{name}` must be at or before the end, and at most {MAX_REPORT_DAYS} days before it");
        return Err(ApiError::field(name, message));
    }
    Ok((from, to))
}

/// A period of a statement: whole days, or exactly what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// In Unix seconds.
    pub(crate) ends_s: (i64, i64),
    /// Its ends are no days' ends: it is made from entries.
    pub(crate) exact: bool,
    /// What its start is called in the query.
    name: &'static str,
}

impl Period {
    /// `exact`: what the query says, for all its periods.
    pub(crate) fn read(query: &mut Query, exact: bool) -> Result<Self, ApiError> {
        let asked = asked(query)?;
        Self::of(asked, exact, "start_time")
    }

    /// Of a period whose ends have to be named.
    pub(crate) fn named(
        query: &mut Query,
        exact: bool,
        (start, end): (&'static str, &'static str),
    ) -> Result<Self, ApiError> {
        let mut second = |name: &str| {
            query.time(name)?.ok_or_else(|| ApiError::field(name, format!("`{name}` is missing; give Unix seconds")))
        };
        let ends = (second(start)?, second(end)?);
        Self::of(ends, exact, start)
    }

    pub(crate) fn of(ends: (i64, i64), exact: bool, name: &'static str) -> Result<Self, ApiError> {
        let days = whole_days(ends, name)?;
        Ok(Self { ends_s: if exact { ends } else { days }, exact, name })
    }

    /// Gives `read` the sums of the period, and the whole days (in milliseconds) that they lie in.
    pub(crate) fn sums<T>(
        &self,
        ledger: &Ledger,
        read: impl FnOnce(&dyn Tallies, (i64, i64)) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let (from_ms, to_ms) = (self.ends_s.0.saturating_mul(1000), self.ends_s.1.saturating_mul(1000));
        if !self.exact {
            return read(ledger, (from_ms, to_ms));
        }
        let excerpt = Excerpt::read(ledger, (from_ms, to_ms)).map_err(|error| unreadable(&error))?;
        let excerpt = excerpt.ok_or_else(|| self.too_many_entries())?;
        // An interval is told by when it began, which may be on the day before. No other entries are in the excerpt.
        let days = (from_ms.div_euclid(DAY_MS) - 1, to_ms.saturating_add(DAY_MS - 1).div_euclid(DAY_MS));
        read(&excerpt, (days.0 * DAY_MS, days.1 * DAY_MS))
    }

    fn too_many_entries(&self) -> ApiError {
        let message = format!(
            "this period has more than {MAX_EXCERPT_ENTRIES} entries; ask for less time, or for whole days without `exact`"
        );
        ApiError::field(self.name, message)
    }
}

/// Whether `exact=true` is asked for.
pub(crate) fn exact(query: &mut Query) -> Result<bool, ApiError> {
    Ok(query.word("exact", &["true", "false"])?.is_some_and(|word| word == "true"))
}

/// The date of a time in UTC.
pub(crate) fn date(at_ms: i64) -> String {
    to_rfc3339(at_ms).chars().take_while(|c| *c != 'T').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_start_of_its_own_period() {
        let uri = "/?start_time=5&end_time=9&compare_start_time=1&compare_end_time=3".parse().unwrap();
        let mut query = Query::of(&uri).unwrap();
        let later = Period::read(&mut query, true).unwrap();
        let earlier = Period::named(&mut query, true, ("compare_start_time", "compare_end_time")).unwrap();
        for (period, name) in [(later, "start_time"), (earlier, "compare_start_time")] {
            let error = period.too_many_entries().body().error;
            assert_eq!(error.param.as_deref(), Some(name));
            assert!(error.message.contains("500000 entries; ask for less time"), "{}", error.message);
        }
    }
}
