//! The income statement of the plant.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::books::Books;
use economics::income::IncomeStatement;
use economics::products::Products;
use economics::rollup::{self, Goodput, Sheets, Tallies, TfpAsk, TfpBy, TfpError, TfpRow};
use serde::Serialize;
use utoipa::ToSchema;

use super::tfp_index::Basis;
use super::{Admin, unreadable};
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::plan::measured_speed;
use crate::query::Query;
use crate::routes::figures::{seconds, share};
use crate::routes::outcomes::refused;
use crate::routes::period::{Days, Period, exact};
use crate::routes::tfp::{Productivity, organisations, plant_figures};

/// The income statement of the plant. Amounts are in units of the book currency.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Statement {
    /// `statement`.
    object: &'static str,
    /// The book currency.
    currency: String,
    /// When the period begins, in Unix seconds.
    start_time: i64,
    /// When it ends, in Unix seconds.
    end_time: i64,
    /// Whether it is exactly as asked for, or whole days.
    exact: bool,
    /// Tokens of the requests whose cost is known per second of their machine time.
    #[schema(required = true)]
    machine_tokens_per_second: Option<f64>,
    /// Where energy is told for: `facility`, at the site's meter.
    energy_boundary: &'static str,
    /// The plant sheets that its costs rest on.
    sheet: Sheets,
    /// Requests that met all stated objectives (`slo` of the configuration).
    goodput: StatementGoodput,
    /// TFP with its parts, as of `/v1/tfp`.
    value: Productivity,
    /// Tokens by model and kind, outcomes by kind.
    products: Products,
    /// What was sold and what that cost.
    #[serde(flatten)]
    income: IncomeStatement,
}

/// Requests that met all stated objectives, over the time that is accounted for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatementGoodput {
    /// Requests for which objectives were stated.
    stated: i64,
    /// Those of them that were completed and met all.
    met: i64,
    /// `met` / `stated`; `null` where nothing was stated.
    #[schema(required = true)]
    share: Option<f64>,
    /// `met` in a second; `null` where nothing was stated.
    #[schema(required = true)]
    requests_per_second: Option<f64>,
    /// Their output tokens in a second; `null` where nothing was stated.
    #[schema(required = true)]
    output_tokens_per_second: Option<f64>,
}

/// What the plant sold in whole days (UTC), or exactly in a period, what that cost by source, what was idle, what is left; per million tokens and
/// by model.
#[utoipa::path(
    get,
    path = "/admin/v1/statement",
    tag = "administration",
    params(
        Days,
        ("exact" = Option<bool>, Query, description = "`true`: exactly from `start_time` to `end_time`, made from the entries that were written in it, 500,000 at most; outcomes count when they were told")
    ),
    responses(
        (status = 200, body = Statement, description = "The statement; `cost` is `attributed` + `idle` + `in_progress`, exactly"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong")
    )
)]
pub(crate) async fn statement(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Statement>, ApiError> {
    let admin = Admin::of_plant(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let exact = exact(&mut query)?;
    let period = Period::read(&mut query, exact)?;
    query.finish()?;
    let currency = admin.books.currency().code.clone();
    let read = move |admin: &Admin| {
        admin.books.match_outcomes(unix_ms()).map_err(refused)?;
        period.sums(admin.books.ledger(), |sums, span_ms| {
            let goodput = rollup::goodput(sums, span_ms.0, span_ms.1).map_err(|error| unreadable(&error))?;
            Ok((Basis::of(admin, period, (sums, span_ms))?, value(&admin.books, sums, span_ms)?, goodput))
        })
    };
    let (Basis { income, products, sheets, .. }, value, goodput) = admin.run(read).await?;
    Ok(Json(Statement {
        object: "statement",
        currency,
        start_time: period.ends_s.0,
        end_time: period.ends_s.1,
        exact: period.exact,
        machine_tokens_per_second: measured_speed(&income.models),
        energy_boundary: "facility",
        sheet: sheets,
        goodput: per_second(goodput, &income),
        value: plant_figures(&value),
        products,
        income,
    }))
}

/// Value, tokens and cost of all customers in one row.
fn value(books: &Books, sums: &dyn Tallies, span_ms: (i64, i64)) -> Result<TfpRow, ApiError> {
    let ask = TfpAsk {
        organisations: &organisations(books),
        span_ms,
        by: TfpBy::default(),
        now_ms: unix_ms(),
        top: 0,
        teams: &HashMap::new(),
        weigh: None,
    };
    let table = rollup::tfp(sums, &ask).map_err(|error| match error {
        TfpError::Store(error) => unreadable(&error),
        error => ApiError::internal(error.to_string()),
    })?;
    Ok(table.rows.into_iter().next().unwrap_or_default())
}

/// Per second of the time that is accounted for.
fn per_second(goodput: Goodput, income: &IncomeStatement) -> StatementGoodput {
    let Goodput { stated, met, output_tokens } = goodput;
    let per_second = |count: i64| share(count as f64, seconds(income.length_ns)).filter(|_| stated > 0);
    StatementGoodput {
        stated,
        met,
        share: share(met as f64, stated as f64),
        requests_per_second: per_second(met),
        output_tokens_per_second: per_second(output_tokens),
    }
}
