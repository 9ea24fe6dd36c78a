//! `/admin/v1/alerts`: the budget alerts that were raised and what became of them, and a test of the webhook.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::books::Raised;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, unreadable};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;

/// Alerts of one answer, when nothing else is asked for.
const LIMIT: usize = 100;

/// Budget alerts, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertList {
    /// `list`.
    object: &'static str,
    /// The book currency.
    currency: String,
    /// Whether a webhook is configured to take them.
    webhook: bool,
    /// The alerts.
    data: Vec<Raised>,
}

/// What came of a test of the webhook.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebhookTest {
    /// Whether the receiver took it.
    delivered: bool,
    /// What it said, or why it could not be asked.
    answer: String,
}

/// The alerts, newest first, each with its delivery: `pending`, `delivered` or `given_up`.
#[utoipa::path(
    get,
    path = "/admin/v1/alerts",
    operation_id = "listAlerts",
    tag = "administration",
    params(("limit" = Option<u32>, Query, description = "1 to 1000; 100 when not given")),
    responses(
        (status = 200, body = AlertList, description = "The alerts"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong")
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<AlertList>, ApiError> {
    let admin = Admin::of_plant(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let limit = query.integer("limit", "a number from 1 to 1000", 1..=1_000)?.unwrap_or(LIMIT);
    query.finish()?;
    let (currency, webhook) = (admin.books.currency().code.clone(), admin.books.notifier().is_some());
    let data = admin.run(move |admin| admin.books.alerts(limit).map_err(|error| unreadable(&error))).await?;
    Ok(Json(AlertList { object: "list", currency, webhook, data }))
}

/// Sends a test event to the webhook and says what came back.
#[utoipa::path(
    post,
    path = "/admin/v1/webhook/test",
    tag = "administration",
    responses(
        (status = 200, body = WebhookTest, description = "What came back"),
        (status = 400, body = protocol::ErrorBody, description = "No webhook is configured")
    )
)]
pub(crate) async fn test(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<WebhookTest>, ApiError> {
    let admin = Admin::of_plant(&app, &caller)?;
    let Some(notifier) = admin.books.notifier().cloned() else {
        return Err(ApiError::bad_request(
            "this process delivers no webhooks: set books.webhook_url and ask the server",
        )
        .with_code("no_webhook"));
    };
    let result = admin.run(move |_| Ok(notifier.test())).await?;
    let (delivered, answer) = result.map_or_else(|reason| (false, reason), |answer| (true, answer));
    Ok(Json(WebhookTest { delivered, answer }))
}
