//! What the plant sold: tokens by kind, list price, discounts, credits, revenue.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::Nano;
use economics::rollup::{GroupBy, MAX_REPORT_ROWS, Sums, UsageRow, grouped_report};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, unreadable};
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;
use crate::routes::period::{Days, date, span};

/// What a report tells apart.
const GROUPS: [&str; 4] = ["organisation", "model", "tag", "day"];

/// What the plant sold in whole days (UTC). Amounts are in units of the book currency.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SalesReport {
    /// `report`.
    object: &'static str,
    /// The book currency.
    currency: String,
    /// When the first day begins, in Unix seconds.
    start_time: i64,
    /// When the last day ends, in Unix seconds.
    end_time: i64,
    /// By what rows are told apart.
    group_by: Vec<&'static str>,
    /// A row for each group.
    data: Vec<SalesRow>,
    /// Their exact sums.
    totals: Sales,
}

/// A group: what tells it from others, as far as was asked for, and its sums.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SalesRow {
    /// The day (UTC), e.g. `2026-11-16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    day: Option<String>,
    /// The organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    organisation: Option<String>,
    /// The model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    model: Option<String>,
    /// The requests' tag; empty: they have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tag: Option<String>,
    /// Its sums.
    #[serde(flatten)]
    sums: Sales,
}

/// What was sold, and what is left of the list price.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Sales {
    /// Tokens, list price, discount and credits.
    #[serde(flatten)]
    sums: Sums,
    /// List price less discount and credits.
    revenue: Nano,
}

impl From<Sums> for Sales {
    fn from(sums: Sums) -> Self {
        Self { sums, revenue: sums.total() }
    }
}

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
        (status = 200, body = SalesReport, description = "The rows and their sums"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or there would be more than 100,000 rows")
    )
)]
pub(crate) async fn report(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<SalesReport>, ApiError> {
    let admin = Admin::of_plant(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let (from_s, to_s) = span(&mut query)?;
    let told = query.words("group_by", &GROUPS)?;
    query.finish()?;
    let told: Vec<&'static str> = GROUPS.into_iter().filter(|group| told.iter().any(|word| word == group)).collect();
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
    Ok(Json(SalesReport {
        object: "report",
        currency,
        start_time: from_s,
        end_time: to_s,
        group_by: told,
        data: rows.into_iter().map(|row| sales_row(row, by)).collect(),
        totals: totals.into(),
    }))
}

fn sales_row(row: UsageRow, by: GroupBy) -> SalesRow {
    SalesRow {
        day: by.day.then(|| date(row.from_ms)),
        organisation: by.organisation.then_some(row.organisation),
        model: by.model.then_some(row.model),
        tag: by.tag.then_some(row.tag),
        sums: row.sums.into(),
    }
}
