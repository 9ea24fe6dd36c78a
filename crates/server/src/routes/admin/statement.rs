//! The income statement of the plant.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::income::IncomeStatement;
use economics::rollup::{self, Goodput, TfpAsk, TfpBy, TfpRow, TfpTooMany};
use serde_json::{Value, json};

use super::report::{Days, span};
use super::tfp_index::Basis;
use super::{Admin, Answer, shown, unreadable};
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;
use crate::routes::outcomes::refused;
use crate::routes::tfp::{organisations, plant_row_json};

/// What the plant sold in whole days (UTC), what that cost by source, what was idle, what is left; per million tokens and
/// by model.
#[utoipa::path(
    get,
    path = "/admin/v1/statement",
    tag = "administration",
    params(
        Days
    ),
    responses(
        (status = 200, body = Object, description = "The statement; `cost` is `attributed` + `idle` + `in_progress`, exactly. `sheet.example`: its costs rest on the example sheet and are nobody's. `goodput`: requests that met all stated objectives (`[slo]`). `value`: TFP with its parts, as of /v1/tfp. `products`: tokens by model and kind, outcomes by kind"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong")
    )
)]
pub(crate) async fn statement(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>, uri: Uri) -> Answer {
    let admin = Admin::of_plant(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let (from_s, to_s) = span(&mut query)?;
    query.finish()?;
    let currency = admin.books.currency().code.clone();
    let read = move |admin: &Admin| {
        let span_ms = (from_s.saturating_mul(1000), to_s.saturating_mul(1000));
        let value = value(admin, span_ms)?;
        let goodput =
            rollup::goodput(admin.books.ledger(), span_ms.0, span_ms.1).map_err(|error| unreadable(&error))?;
        Ok((Basis::read(admin, (from_s, to_s))?, value, goodput))
    };
    let (Basis { income, products, sheets, .. }, value, goodput) = admin.run(read).await?;
    let mut answer = json!({
        "object": "statement", "currency": currency, "start_time": from_s, "end_time": to_s,
        "energy_boundary": "facility", "sheet": shown(&sheets)?, "goodput": goodput_json(&goodput, &income),
        "value": plant_row_json(&value), "products": shown(&products)?,
    });
    if let (Some(fields), Value::Object(figures)) = (answer.as_object_mut(), shown(&income)?) {
        fields.extend(figures);
    }
    Ok(Json(answer))
}

/// Value, tokens and cost of all customers in one row.
fn value(admin: &Admin, span_ms: (i64, i64)) -> Result<TfpRow, ApiError> {
    let (books, now_ms) = (&admin.books, unix_ms());
    books.match_outcomes(now_ms).map_err(refused)?;
    let ask = TfpAsk {
        organisations: &organisations(books),
        span_ms,
        by: TfpBy::default(),
        now_ms,
        top: 0,
        teams: &HashMap::new(),
        weigh: None,
    };
    let table = rollup::tfp(books.ledger(), &ask).map_err(|error| match error {
        TfpTooMany::Store(error) => unreadable(&error),
        error => ApiError::internal(error.to_string()),
    })?;
    Ok(table.rows.into_iter().next().unwrap_or_default())
}

/// Per second of the time that is accounted for.
fn goodput_json(goodput: &Goodput, income: &IncomeStatement) -> Value {
    let Goodput { stated, met, output_tokens } = *goodput;
    let per_second =
        |count: i64| (stated > 0 && income.length_ns > 0).then(|| count as f64 * 1e9 / income.length_ns as f64);
    let share = (stated > 0).then(|| met as f64 / stated as f64);
    json!({
        "stated": stated, "met": met, "share": share, "requests_per_second": per_second(met),
        "output_tokens_per_second": per_second(output_tokens),
    })
}
