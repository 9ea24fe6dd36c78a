//! `/admin/v1/alerts`: the budget alerts that were raised and what became of them, and a test of the webhook.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use serde::Deserialize;
use serde_json::json;

use super::admin::{Admin, Answer, shown};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;

/// Alerts of one answer, when nothing else is asked for, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// How many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    limit: Option<usize>,
}

/// The alerts, newest first, each with its delivery: `pending`, `delivered` or `given_up`.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    page: Result<Query<Page>, QueryRejection>,
) -> Answer {
    let admin = Admin::of(&app, &caller)?;
    let limit =
        page.ok().map(|Query(page)| page.limit.unwrap_or(LIMIT)).filter(|limit| (1..=LIMIT_MAX).contains(limit));
    let limit = limit.ok_or_else(|| {
        ApiError::field("limit", format!("`limit` is a number from 1 to {LIMIT_MAX}, alone in the query"))
    })?;
    let currency = admin.books.currency().code.clone();
    let alerts = admin
        .run(move |books, _| {
            books.alerts(limit).map_err(|error| ApiError::unavailable(error.to_string(), "books_closed"))
        })
        .await?;
    Ok(Json(json!({"object": "list", "currency": currency, "data": shown(alerts)?})))
}

/// Sends a test event to the webhook and says what came back.
pub(crate) async fn test(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let admin = Admin::of(&app, &caller)?;
    let Some(notifier) = admin.books.notifier().cloned() else {
        return Err(ApiError::bad_request("no webhook is configured: set books.webhook_url").with_code("no_webhook"));
    };
    let result = admin.run(move |_, _| Ok(notifier.test())).await?;
    let (taken, answer) = result.map_or_else(|reason| (false, reason), |answer| (true, answer));
    Ok(Json(json!({"delivered": taken, "answer": answer})))
}
