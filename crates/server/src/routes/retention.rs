//! Retention: of the end users, or projects, that came first in a week, which share asks again in later weeks.

use std::collections::HashMap;
use std::sync::Arc;

use analysis::retention::{Cohort, Retained, cohorts};
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::rollup::{Activity, MAX_ACTIVITY, Unit, activity, week_of};
use serde::Serialize;
use utoipa::ToSchema;

use super::admin::unreadable;
use super::period::{DAY_MS, date};
use super::tfp::{organisations, reader};
use crate::app::{App, in_turn, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;

const UNITS: [&str; 2] = ["end_user", "project"];
const WEEKS: u32 = 12;
const LEVEL: f64 = 0.95;

/// Cohorts of end users or projects, by the week in which they came first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetentionReport {
    /// `retention`.
    object: &'static str,
    /// Of what: `end_user` or `project`.
    of: String,
    /// How many weeks, the present one included.
    weeks: u32,
    /// The Monday of the first week (UTC).
    first_week: String,
    /// The Monday of the week that is not over.
    partial: String,
    /// How often intervals hold the truth.
    level: f64,
    /// A cohort for each week in which units came first since the books began, the earliest first.
    data: Vec<RetentionCohort>,
}

/// Units that came first in one week.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetentionCohort {
    /// The Monday of the week (UTC).
    week: String,
    /// How many they are.
    units: u32,
    /// By weeks since then, from 0 (all of them) to the present week.
    ages: Vec<RetentionAge>,
}

/// A cohort so many weeks later.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetentionAge {
    /// Weeks since the cohort's.
    age: usize,
    /// Units that were active.
    units: u32,
    /// Their share of the cohort.
    share: f64,
    /// Lower end of its interval.
    low: f64,
    /// Upper end of its interval.
    high: f64,
}

/// By the week of their first use, how many end users or projects used models again in each week after it.
#[utoipa::path(
    get,
    path = "/v1/retention",
    operation_id = "getRetention",
    tag = "value",
    params(
        ("of" = Option<String>, Query, description = "`end_user` (the `user` field of requests; the default), or `project`"),
        ("weeks" = Option<u32>, Query, description = "How many weeks, the present one included: 1 to 104 [default: 12]")
    ),
    responses(
        (status = 200, body = RetentionReport, description = "The cohorts; `ages`: how many of a cohort were active so many weeks later, the share, and its 95 % interval"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or there is more activity than one answer looks at"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not read usage")
    )
)]
pub(crate) async fn retention(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<RetentionReport>, ApiError> {
    let (books, own) = reader(&app, &caller, "retention")?;
    let mut query = Query::of(&uri)?;
    let of = query.word("of", &UNITS)?.unwrap_or_else(|| "end_user".to_owned());
    let weeks: u32 = query.integer("weeks", "from 1 to 104", 1..=104)?.unwrap_or(WEEKS);
    query.finish()?;
    let read = move || {
        let present = week_of(unix_ms().div_euclid(DAY_MS));
        let organisations = own.map_or_else(|| organisations(&books), |own| vec![own]);
        let unit = if of == "project" { Unit::Project } else { Unit::EndUser };
        let found = activity(books.ledger(), &organisations, present.saturating_add(1), unit);
        let found = found.map_err(|error| unreadable(&error))?.ok_or_else(|| {
            let message = format!("there are more than {MAX_ACTIVITY} weeks of end users to be looked at");
            ApiError::field("of", format!("{message}; ask with a key of one customer, or for `project`"))
        })?;
        let first = present.saturating_sub(i64::from(weeks) - 1);
        let data = table(&found, (first, weeks))?;
        Ok(Json(RetentionReport {
            object: "retention",
            of,
            weeks,
            first_week: week_date(first),
            partial: week_date(present),
            level: LEVEL,
            data,
        }))
    };
    in_turn(Arc::clone(&app.books_turns), read).await
}

/// The cohorts of units that came first in one of `weeks` weeks from `first` on.
fn table(activity: &Activity, (first, weeks): (i64, u32)) -> Result<Vec<RetentionCohort>, ApiError> {
    let mut came = HashMap::<u32, i64>::new();
    for (unit, week) in &activity.weeks {
        let known = came.entry(*unit).or_insert(*week);
        *known = (*known).min(*week);
    }
    let is_new = |unit: &u32| came.get(unit).is_some_and(|week| *week >= first);
    let active = activity.weeks.iter().filter(|(unit, _)| is_new(unit));
    let active: Vec<(u32, u32)> =
        active.filter_map(|(unit, week)| Some((*unit, u32::try_from(week.saturating_sub(first)).ok()?))).collect();
    let found = cohorts(&active, weeks, LEVEL).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(found.iter().map(|found| cohort(found, first)).collect())
}

fn cohort(cohort: &Cohort, first: i64) -> RetentionCohort {
    let age = |(age, retained): (usize, &Retained)| {
        let Retained { units, share, interval } = *retained;
        RetentionAge { age, units, share, low: interval.low, high: interval.high }
    };
    RetentionCohort {
        week: week_date(first.saturating_add(cohort.period.into())),
        units: cohort.units,
        ages: cohort.ages.iter().enumerate().map(age).collect(),
    }
}

/// The Monday of a week.
fn week_date(week: i64) -> String {
    date(week.saturating_mul(7).saturating_sub(3).saturating_mul(DAY_MS))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn table(activity: &Activity, span: (i64, u32)) -> Result<Vec<Value>, ApiError> {
        let found = super::table(activity, span)?;
        Ok(found.iter().map(|cohort| serde_json::to_value(cohort).unwrap()).collect())
    }

    #[test]
    fn units_that_came_before_the_first_week_are_no_cohort() {
        // The week from 16 November 2026.
        let first = week_of(20_773);
        let weeks = vec![(0, first - 3), (1, first), (0, first), (2, first), (1, first + 2), (2, first + 1)];
        let shown = table(&Activity { weeks, units: 3 }, (first, 3)).unwrap();
        let [cohort] = shown.as_slice() else { panic!("{shown:?}") };
        assert_eq!((&cohort["week"], &cohort["units"]), (&json!("2026-11-16"), &json!(2)));
        let units: Vec<&Value> = cohort["ages"].as_array().unwrap().iter().map(|age| &age["units"]).collect();
        assert_eq!(units, [&json!(2), &json!(1), &json!(1)]);
    }
}
