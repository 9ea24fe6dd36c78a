//! Two periods compared: where the change of cost and margin came from.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::Nano;
use economics::income::{IncomeStatement, income};
use economics::rollup::{self, Sheets};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, unreadable};
use crate::app::App;
use crate::auth::Caller;
use crate::comparison::{ComparedChange, changes};
use crate::error::ApiError;
use crate::query::Query;
use crate::routes::period::{Days, Period, exact};

/// Two periods and what changed from the one to the other.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Comparison {
    /// `comparison`.
    object: &'static str,
    /// The book currency.
    currency: String,
    /// Whether the periods are exactly as asked for, or whole days.
    exact: bool,
    /// The earlier period.
    earlier: ComparedPeriod,
    /// The later period.
    later: ComparedPeriod,
    /// Cost and margin, in all and per 1M tokens.
    changes: Vec<ComparedChange>,
}

/// One of two periods.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ComparedPeriod {
    /// Unix seconds.
    start_time: i64,
    /// Unix seconds, exclusive.
    end_time: i64,
    /// What is left of the list price.
    revenue: Nano,
    /// All that the plant cost.
    cost: Nano,
    /// Revenue less cost.
    margin: Nano,
    /// Tokens charged, of every kind.
    tokens: u64,
    /// Charged requests.
    requests: i64,
    /// Busy time / all of it, in thousandths.
    utilisation_permille: Option<i64>,
    /// The plant sheets that its costs rest on.
    sheet: Sheets,
}

/// Where the change of cost and margin between two periods came from: volume, mix, efficiency, utilisation, the price of inputs,
/// the price asked. The parts of each change add up to it, exactly.
#[utoipa::path(
    get,
    path = "/admin/v1/comparison",
    operation_id = "comparePeriods",
    tag = "administration",
    params(
        Days,
        ("compare_start_time" = i64, Query, description = "Unix seconds, in the first day of the earlier period"),
        ("compare_end_time" = i64, Query, description = "Unix seconds, exclusive, in the last day of the earlier period"),
        ("exact" = Option<bool>, Query, description = "`true`: both exactly, as of /admin/v1/statement")
    ),
    responses(
        (status = 200, body = Comparison, description = "Both periods, and the parts of each change"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or a period has no tokens or no busy time"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`")
    )
)]
pub(crate) async fn comparison(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Comparison>, ApiError> {
    let admin = Admin::of_plant(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let exact = exact(&mut query)?;
    let later = Period::read(&mut query, exact)?;
    let earlier = Period::named(&mut query, exact, ("compare_start_time", "compare_end_time"))?;
    query.finish()?;
    let currency = admin.books.currency().code.clone();
    let read = move |admin: &Admin| Ok((admin.statement_of(earlier)?, admin.statement_of(later)?));
    let (before, after) = admin.run(read).await?;
    let changes = changes(&before.0, &after.0).map_err(|error| {
        let name = if error.field.contains("earlier") { "compare_start_time" } else { "start_time" };
        ApiError::field(name, format!("these periods cannot be compared: {error}"))
    })?;
    let compared = |period: Period, (income, sheet): (IncomeStatement, Sheets)| ComparedPeriod {
        start_time: period.ends_s.0,
        end_time: period.ends_s.1,
        revenue: income.revenue,
        cost: income.cost,
        margin: income.margin,
        tokens: income.sold.quantities.total(),
        requests: income.sold.requests,
        utilisation_permille: income.utilisation_permille,
        sheet,
    };
    let (earlier, later) = (compared(earlier, before), compared(later, after));
    Ok(Json(Comparison { object: "comparison", currency, exact, earlier, later, changes }))
}

impl Admin {
    fn statement_of(&self, period: Period) -> Result<(IncomeStatement, Sheets), ApiError> {
        period.sums(self.books.ledger(), |sums, span_ms| {
            let income = income(sums, span_ms).map_err(|error| unreadable(&error))?;
            Ok((income, rollup::sheets(sums, span_ms.0, span_ms.1).map_err(|error| unreadable(&error))?))
        })
    }
}
