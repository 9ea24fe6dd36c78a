//! `/v1/usage` and `/v1/statement`: what the caller's organisation used and owes.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Query, State};
use economics::books::Books;
use economics::directory::record::Scope;
use economics::rollup;
use economics::window::Period;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;

/// Widest span of one answer.
const SPAN_S: i64 = 400 * 86_400;

/// Which time, in Unix seconds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Span {
    start_time: Option<i64>,
    end_time: Option<i64>,
}

/// The books, and the organisation whose figures the caller may read.
fn reader(app: &App, caller: &Caller) -> Result<(Arc<Books>, String), ApiError> {
    let books = app.books.clone().ok_or_else(|| ApiError::forbidden("this server keeps no books", "no_books"))?;
    let identity = caller.identity.as_ref().filter(|identity| identity.scopes.contains(&Scope::Usage));
    let identity =
        identity.ok_or_else(|| ApiError::forbidden("this key may not read usage (scope `usage`)", "not_allowed"))?;
    Ok((books, identity.organisation.id.clone()))
}

fn unreadable(error: impl std::fmt::Display) -> ApiError {
    ApiError::internal(format!("the books could not be read: {error}"))
}

/// Usage by hour, project, key, model and tag; without `start_time` that of the last 24 hours.
pub(crate) async fn usage(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    span: Result<Query<Span>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let (books, organisation) = reader(&app, &caller)?;
    let Query(span) = span.map_err(|error| {
        ApiError::bad_request(format!("`start_time` and `end_time` are Unix seconds: {}", error.body_text()))
    })?;
    let now = unix_ms() / 1000;
    let end = span.end_time.unwrap_or(now.saturating_add(1));
    let start = span.start_time.unwrap_or(end.saturating_sub(86_400));
    if start < 0 || end < start || end.saturating_sub(start) > SPAN_S {
        let message = "`start_time` must be at or before `end_time`, and at most 400 days before it";
        return Err(ApiError::field("start_time", message));
    }
    let currency = books.currency().code.clone();
    let rows = tokio::task::spawn_blocking(move || {
        // The hour that holds the start counts as well.
        let from = start.saturating_sub(start.rem_euclid(3600)).saturating_mul(1000);
        rollup::usage(books.ledger(), &organisation, from, end.saturating_mul(1000))
    });
    let rows = rows.await.map_err(unreadable)?.map_err(unreadable)?;
    Ok(Json(json!({"object": "list", "currency": currency, "data": rows})))
}

/// What the present window costs so far, line by line, and what the organisation has.
pub(crate) async fn statement(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, ApiError> {
    let (books, organisation) = reader(&app, &caller)?;
    let calendar = caller.identity.as_ref().map(|identity| identity.plan.calendar.clone()).unwrap_or_default();
    let window = calendar.window(Period::Month, unix_ms()).map_err(unreadable)?;
    let currency = books.currency().code.clone();
    let read = tokio::task::spawn_blocking(move || {
        let statement = rollup::statement(books.ledger(), &organisation, window.start_ms).map_err(unreadable)?;
        let standing = books.standing(&organisation, unix_ms())?;
        let total = statement.sums.total();
        Ok::<_, ApiError>(json!({
            "organisation": organisation, "currency": currency, "window_start_ms": window.start_ms,
            "window_end_ms": window.end_ms, "models": statement.models, "sums": statement.sums, "total": total,
            "standing": standing,
        }))
    });
    Ok(Json(read.await.map_err(unreadable)??))
}
