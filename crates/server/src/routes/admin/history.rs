//! The plant over the last 90 days: rates, percentiles, money and goodput in steps of time.

mod document;

use std::sync::Arc;

use ::history::{HistoryError, KEPT_DAYS};
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;

use self::document::{PlantHistory, point};
use super::live::check;
use crate::app::{App, in_turn, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::live::sample::stated;
use crate::query::Query;

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3600;
const LONGEST_S: i64 = KEPT_DAYS as i64 * 24 * HOUR_S;
/// Most points that come by themselves, and most that may be asked for.
const POINTS: i64 = 720;
const MAX_POINTS: i64 = 1440;
/// Steps that are chosen from, in seconds.
const STEPS: [i64; 12] =
    [60, 120, 300, 600, 900, 1800, HOUR_S, 2 * HOUR_S, 3 * HOUR_S, 6 * HOUR_S, 12 * HOUR_S, 24 * HOUR_S];

/// What the plant did, in steps of time, from minutes that are kept for 90 days; the one that runs is not among them yet.
/// Steps begin at multiples of their length; what began within one belongs to it.
#[utoipa::path(
    get,
    path = "/admin/v1/history",
    operation_id = "getPlantHistory",
    tag = "administration",
    params(
        ("start_time" = Option<i64>, Query, description = "Unix seconds; its step counts whole. An hour before the end when not given"),
        ("end_time" = Option<i64>, Query, description = "Unix seconds, exclusive; its step counts whole. Now when not given"),
        ("step" = Option<i64>, Query, description = "Seconds, a multiple of 60, for 1440 points at most. When not given the shortest of 1, 2, 5, 10, 15, 30 minutes, 1, 2, 3, 6, 12, 24 hours that gives 720 points at most")
    ),
    responses(
        (status = 200, body = PlantHistory, description = "The history"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`, and some key administers the plant"),
        (status = 503, body = protocol::ErrorBody, description = "No history is kept: its file cannot be used (`history_closed`)")
    )
)]
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<PlantHistory>, ApiError> {
    check(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    // The second that runs is in it.
    let period = Period::read(&mut query, unix_ms().div_euclid(1000).saturating_add(1))?;
    query.finish()?;
    let turns = Arc::clone(&app.history_turns);
    in_turn(turns, move || read(&app, period)).await.map(Json)
}

fn read(app: &App, period: Period) -> Result<PlantHistory, ApiError> {
    let closed = |error: HistoryError| ApiError::unavailable(error.to_string(), "history_closed");
    let history = app.history.as_ref();
    let history = history.ok_or_else(|| ApiError::unavailable("this server keeps no history", "history_closed"))?;
    let Period { start_s, step_s, count } = period;
    let steps = history.steps(start_s.saturating_mul(1000), step_s.saturating_mul(1000), count).map_err(closed)?;
    let whole = steps.iter().flatten().cloned().reduce(|mut sum, step| {
        sum.add(&step);
        sum
    });
    let times = (0_i64..).map(|step| start_s.saturating_add(step.saturating_mul(step_s)));
    Ok(PlantHistory {
        object: "history",
        start_time: start_s,
        end_time: period.end_s(),
        step: step_s,
        oldest_time: history.oldest_ms().map_err(closed)?.map(|oldest_ms| oldest_ms.div_euclid(1000)),
        trouble: history.trouble(),
        currency: app.books.as_ref().map(|books| books.currency().code.clone()),
        objectives: stated(&app.meter.objectives()),
        total: point(start_s, whole.as_ref()),
        data: times.zip(&steps).map(|(time, step)| point(time, step.as_ref())).collect(),
    })
}

/// Whole steps, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Period {
    start_s: i64,
    step_s: i64,
    count: usize,
}

impl Period {
    fn read(query: &mut Query, now_s: i64) -> Result<Self, ApiError> {
        let end_s = query.time("end_time")?.unwrap_or(now_s);
        let start_s = query.time("start_time")?;
        let start_s = start_s.unwrap_or_else(|| end_s.saturating_sub(HOUR_S).max(0));
        if start_s >= end_s || end_s - start_s > LONGEST_S {
            let message = format!("`start_time` must be before the end, and at most {KEPT_DAYS} days before it");
            return Err(ApiError::field("start_time", message));
        }
        let expected = "a multiple of 60 seconds, a day at most";
        let step = query.integer::<i64>("step", expected, 1..=i128::from(24 * HOUR_S))?;
        let Some(step_s) = step else {
            let [first @ .., last] = STEPS;
            let step_s = first.into_iter().find(|step_s| count(start_s, end_s, *step_s) <= POINTS).unwrap_or(last);
            return Ok(Self::of(start_s, end_s, step_s));
        };
        if step_s % MINUTE_S != 0 {
            return Err(ApiError::field("step", format!("`step` must be {expected}; got `{step_s}`")));
        }
        let points = count(start_s, end_s, step_s);
        if points > MAX_POINTS {
            let message = format!(
                "`step` gives {points} points, and at most {MAX_POINTS} come; ask for longer steps, or for less time"
            );
            return Err(ApiError::field("step", message));
        }
        Ok(Self::of(start_s, end_s, step_s))
    }

    fn of(start_s: i64, end_s: i64, step_s: i64) -> Self {
        let count = usize::try_from(count(start_s, end_s, step_s)).unwrap_or(0);
        Self { start_s: start_s - start_s % step_s, step_s, count }
    }

    fn end_s(&self) -> i64 {
        let length_s = self.step_s.saturating_mul(i64::try_from(self.count).unwrap_or(i64::MAX));
        self.start_s.saturating_add(length_s)
    }
}

/// Steps that a time touches.
fn count(start_s: i64, end_s: i64, step_s: i64) -> i64 {
    end_s.saturating_add(step_s - 1) / step_s - start_s / step_s
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: i64 = 1_800_000_030;

    fn period(text: &str) -> Result<Period, ApiError> {
        let mut query = Query::of(&format!("/x?{text}").parse().unwrap()).unwrap();
        let period = Period::read(&mut query, NOW_S)?;
        query.finish()?;
        Ok(period)
    }

    #[test]
    fn steps_are_whole_and_few() {
        let hour = Period { start_s: 1_799_996_400, step_s: 60, count: 61 };
        assert_eq!(period("").unwrap(), hour);
        assert_eq!(hour.end_s(), 1_800_000_060);
        for (days, step_s) in [(1, 300), (7, 900), (30, 2 * HOUR_S), (90, 6 * HOUR_S)] {
            let found = period(&format!("start_time={}", NOW_S - days * 24 * HOUR_S)).unwrap();
            assert_eq!((found.step_s, found.count <= 720), (step_s, true), "{days}");
            assert!(found.start_s <= NOW_S - days * 24 * HOUR_S && found.end_s() >= NOW_S);
            assert_eq!(
                (found.start_s % step_s, found.end_s() - found.start_s),
                (0, step_s * i64::try_from(found.count).unwrap())
            );
        }
        assert_eq!(
            period("start_time=120&end_time=240&step=60").unwrap(),
            Period { start_s: 120, step_s: 60, count: 2 }
        );
        assert_eq!(
            period("start_time=119&end_time=241&step=60").unwrap(),
            Period { start_s: 60, step_s: 60, count: 4 }
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, param, part) in [
            ("start_time=5&end_time=5", "start_time", "before the end"),
            ("start_time=1790000000", "start_time", "at most 90 days"),
            ("start_time=x", "start_time", "the year 9999; got `x`"),
            ("end_time=0", "start_time", "before the end"),
            ("end_time=x", "end_time", "the year 9999; got `x`"),
            ("step=90", "step", "a multiple of 60 seconds, a day at most; got `90`"),
            ("step=0", "step", "multiple of 60"),
            ("step=86460", "step", "a day at most"),
            ("start_time=1799000000&step=60", "step", "gives 16668 points, and at most 1440 come"),
            ("steps=60", "steps", "unrecognized"),
        ] {
            let error = period(text).unwrap_err().body().error;
            assert_eq!(error.param.as_deref(), Some(param), "{text}");
            assert!(error.message.contains(part), "{text}: {}", error.message);
        }
    }
}
