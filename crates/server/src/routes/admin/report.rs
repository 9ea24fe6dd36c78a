//! What the plant sold: tokens by kind, list price, discounts, credits, revenue.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::rollup::{GroupBy, MAX_REPORT_ROWS, Sums, UsageRow, grouped_report};
use serde_json::{Map, Value, json};

use super::{Admin, Answer, shown, unreadable};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;
use crate::routes::period::{Days, date, span};

/// What a report tells apart.
const GROUPS: [&str; 4] = ["organisation", "model", "tag", "day"];

/// Tokens, list price, discount, credits and revenue of whole days (UTC), summed up.
#[utoipa::path(
    get,
    path = "/admin/v1/report",
    tag = "administration",
    params(
        Days,
        ("group_by" = Option<String>, Query, description = "Some of `organisation`, `model`, `tag`, `day`, with commas between them; one row when not given")
    ),
    responses(
        (status = 200, body = Object, description = "`data`: rows; `totals`: their exact sums"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or there would be more than 100,000 rows")
    )
)]
pub(crate) async fn report(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>, uri: Uri) -> Answer {
    let admin = Admin::of_plant(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let (from_s, to_s) = span(&mut query)?;
    let told = query.words("group_by", &GROUPS)?;
    query.finish()?;
    let told: Vec<&str> = GROUPS.into_iter().filter(|group| told.iter().any(|word| word == group)).collect();
    let [organisation, model, tag, day] = GROUPS.map(|group| told.contains(&group));
    let by = GroupBy { organisation, model, tag, day };
    let currency = admin.books.currency().code.clone();
    let span_ms = (from_s.saturating_mul(1000), to_s.saturating_mul(1000));
    let read =
        move |admin: &Admin| grouped_report(admin.books.ledger(), span_ms, by).map_err(|error| unreadable(&error));
    let rows = admin.run(read).await?.ok_or_else(|| {
        let message =
            format!("this would be more than {MAX_REPORT_ROWS} rows; leave out `tag` or `day`, or ask for less time");
        ApiError::field("group_by", message)
    })?;
    let mut totals = Sums::default();
    rows.iter().for_each(|row| totals.add(&row.sums));
    let data = rows.iter().map(|row| row_json(row, by)).collect::<Result<Vec<_>, _>>()?;
    Ok(Json(json!({
        "object": "report", "currency": currency, "start_time": from_s, "end_time": to_s, "group_by": told,
        "data": data, "totals": sums_json(&totals)?,
    })))
}

fn row_json(row: &UsageRow, by: GroupBy) -> Result<Value, ApiError> {
    let mut fields = Map::new();
    if by.day {
        fields.insert("day".into(), date(row.from_ms).into());
    }
    let names = [
        ("organisation", by.organisation, &row.organisation),
        ("model", by.model, &row.model),
        ("tag", by.tag, &row.tag),
    ];
    for (name, _, text) in names.into_iter().filter(|(_, told, _)| *told) {
        fields.insert(name.into(), text.clone().into());
    }
    if let Value::Object(sums) = sums_json(&row.sums)? {
        fields.extend(sums);
    }
    Ok(Value::Object(fields))
}

/// The sums, and what is left of them: the revenue.
fn sums_json(sums: &Sums) -> Result<Value, ApiError> {
    let mut value = shown(sums)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("revenue".into(), shown(sums.total())?);
    }
    Ok(value)
}
