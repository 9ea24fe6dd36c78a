//! `/admin/v1/alerts`: the budget alerts that were raised and what became of them, and a test of the webhook.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use serde_json::json;

use super::{Admin, Answer, shown, unreadable};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;

/// Alerts of one answer, when nothing else is asked for.
const LIMIT: usize = 100;

/// The alerts, newest first, each with its delivery: `pending`, `delivered` or `given_up`.
#[utoipa::path(
    get,
    path = "/admin/v1/alerts",
    tag = "administration",
    params(("limit" = Option<u32>, Query, description = "1 to 1000; 100 when not given")),
    responses(
        (status = 200, body = Object, description = "`data`: alerts, newest first, each with its `delivery`; `webhook`: whether one is configured to take them"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong")
    )
)]
pub(crate) async fn list(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>, uri: Uri) -> Answer {
    let admin = Admin::of_plant(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let limit = query.integer("limit", "a number from 1 to 1000", 1..=1_000)?.unwrap_or(LIMIT);
    query.finish()?;
    let (currency, webhook) = (admin.books.currency().code.clone(), admin.books.notifier().is_some());
    let alerts = admin.run(move |admin| admin.books.alerts(limit).map_err(|error| unreadable(&error))).await?;
    Ok(Json(json!({"object": "list", "currency": currency, "webhook": webhook, "data": shown(alerts)?})))
}

/// Sends a test event to the webhook and says what came back.
#[utoipa::path(
    post,
    path = "/admin/v1/webhook/test",
    tag = "administration",
    responses(
        (status = 200, body = Object, description = "`delivered`: whether the receiver took it; `answer`: what it said"),
        (status = 400, body = protocol::ErrorBody, description = "No webhook is configured")
    )
)]
pub(crate) async fn test(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let admin = Admin::of_plant(&app, &caller)?;
    let Some(notifier) = admin.books.notifier().cloned() else {
        return Err(ApiError::bad_request(
            "this process delivers no webhooks: set books.webhook_url and ask the server",
        )
        .with_code("no_webhook"));
    };
    let result = admin.run(move |_| Ok(notifier.test())).await?;
    let (taken, answer) = result.map_or_else(|reason| (false, reason), |answer| (true, answer));
    Ok(Json(json!({"delivered": taken, "answer": answer})))
}
