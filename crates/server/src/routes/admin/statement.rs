//! The income statement of the plant.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::income::income;
use serde_json::{Value, json};

use super::report::span;
use super::{Admin, Answer, shown, unreadable};
use crate::app::App;
use crate::auth::Caller;
use crate::query::Query;

/// What the plant sold in whole days (UTC), what that cost by source, what was idle, what is left; per million tokens and
/// by model.
#[utoipa::path(
    get,
    path = "/admin/v1/statement",
    tag = "administration",
    params(
        ("start_time" = Option<i64>, Query, description = "Unix seconds; its day counts whole. 30 days before the end when not given"),
        ("end_time" = Option<i64>, Query, description = "Unix seconds, exclusive; its day counts whole. Now when not given")
    ),
    responses(
        (status = 200, body = Object, description = "The statement; `cost` is `attributed` + `idle` + `in_progress`, exactly"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong")
    )
)]
pub(crate) async fn statement(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>, uri: Uri) -> Answer {
    let admin = Admin::of_plant(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let (from_s, to_s) = span(&mut query)?;
    query.finish()?;
    let currency = admin.books.currency().code.clone();
    let span_ms = (from_s.saturating_mul(1000), to_s.saturating_mul(1000));
    let read = move |admin: &Admin| income(admin.books.ledger(), span_ms).map_err(|error| unreadable(&error));
    let mut answer = json!({
        "object": "statement", "currency": currency, "start_time": from_s, "end_time": to_s,
        "energy_boundary": "facility",
    });
    if let (Some(fields), Value::Object(figures)) = (answer.as_object_mut(), shown(admin.run(read).await?)?) {
        fields.extend(figures);
    }
    Ok(Json(answer))
}
