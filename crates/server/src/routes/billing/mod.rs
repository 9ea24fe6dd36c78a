//! What an organisation used and owes: its own for keys with the scope `usage`, that of any for keys with the scope `plant`.

pub(crate) mod invoices;
pub(crate) mod organization;

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::Uri;
use axum::routing::get;
use axum::{Json, Router};
use economics::books::{Books, Standing, unit};
use economics::directory::record::Scope;
use economics::rollup::{self, Sums};
use economics::{Nano, Quantities, Window};
use protocol::{BillingPeriod, ErrorBody, UsageQuantities, UsageReport, UsageRow, UsageSums};
use tokio::sync::Semaphore;

use crate::app::{App, in_turn, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;
use crate::routes::admin;

/// Times that may be asked for, and what they are.
/// Widest span of one answer.
const SPAN_S: i64 = 400 * 86_400;

/// The routes of this module.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/usage", get(usage))
        .route("/v1/standing", get(standing))
        .route("/v1/invoices", get(invoices::list))
        .route("/v1/invoices/{id}", get(invoices::one))
        .route("/v1/organization/usage/completions", get(organization::completions))
        .route("/v1/organization/costs", get(organization::costs))
        .route("/admin/v1/organisations/{id}/invoices", get(invoices::list_of))
        .route("/admin/v1/organisations/{id}/invoices/{label}", get(invoices::one_of))
}

/// The books, and the organisation whose figures may be read.
struct Reader {
    books: Arc<Books>,
    organisation: String,
    turns: Arc<Semaphore>,
}

impl Reader {
    /// The caller's own organisation.
    fn own(app: &App, caller: &Caller) -> Result<Self, ApiError> {
        let denied = || {
            let message = "this key may not read usage, costs and invoices: that needs the scope `usage`";
            ApiError::forbidden(message, "not_allowed")
        };
        let books = app.books()?;
        let identity = caller.identity.as_ref().filter(|identity| identity.scopes.contains(&Scope::Usage));
        let organisation = identity.ok_or_else(denied)?.organisation.id.clone();
        Ok(Self { books, organisation, turns: Arc::clone(&app.books_turns) })
    }

    /// Any organisation, for administrators of the plant.
    fn of(app: &App, caller: &Caller, organisation: String) -> Result<Self, ApiError> {
        let books = app.books()?;
        if !caller.identity.as_ref().is_some_and(|identity| identity.scopes.contains(&Scope::Plant)) {
            let message = "this key may not read what other organisations owe (scope `plant`)";
            return Err(ApiError::forbidden(message, "not_allowed"));
        }
        if books.directory().organisation(&organisation).is_none() {
            let message = format!("there is no organisation `{organisation}`; GET /admin/v1/organisations lists them");
            return Err(ApiError::not_found(message));
        }
        Ok(Self { books, organisation, turns: Arc::clone(&app.books_turns) })
    }

    /// Reads the ledger, off the runtime's threads.
    async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(&Books, &str) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        in_turn(Arc::clone(&self.turns), move || read(&self.books, &self.organisation)).await
    }
}

/// 500 for what does not fit the books.
fn unreadable(error: impl std::fmt::Display) -> ApiError {
    ApiError::internal(format!("the books could not be read: {error}"))
}

/// Usage of the caller's organisation by hour, project, key, model and tag; without `start_time` that of the 24 hours
/// before `end_time`.
#[utoipa::path(
    get,
    path = "/v1/usage",
    operation_id = "listUsage",
    tag = "billing",
    params(
        ("start_time" = Option<i64>, Query, description = "Unix seconds; the hour that holds it counts as well"),
        ("end_time" = Option<i64>, Query, description = "Unix seconds, exclusive; now when absent")
    ),
    responses(
        (status = 200, body = UsageReport, description = "The rows"),
        (status = 400, body = ErrorBody, description = "A parameter is wrong"),
        (status = 403, body = ErrorBody, description = "The key may not read usage")
    )
)]
pub(crate) async fn usage(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<UsageReport>, ApiError> {
    let reader = Reader::own(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let end = query.time("end_time")?.unwrap_or(unix_ms() / 1000 + 1);
    let start = query.time("start_time")?.unwrap_or(end.saturating_sub(86_400));
    query.finish()?;
    if end < start || end.saturating_sub(start) > SPAN_S {
        let message = "`start_time` must be at or before `end_time`, and at most 400 days before it";
        return Err(ApiError::field("start_time", message));
    }
    let report = reader.read(move |books, organisation| {
        // The hour that holds the start counts as well.
        let from = start.saturating_sub(start.rem_euclid(3600)).saturating_mul(1000);
        let rows = rollup::usage(books.ledger(), organisation, from, end.saturating_mul(1000));
        let rows = rows.map_err(|error| admin::unreadable(&error))?;
        let teams = books.directory().teams_of_projects();
        let data = rows.into_iter().map(|found| row(found, &teams)).collect();
        Ok(UsageReport { object: "list".to_owned(), currency: books.currency().code.clone(), data })
    });
    Ok(Json(report.await?))
}

fn row(row: rollup::UsageRow, teams: &HashMap<String, String>) -> UsageRow {
    let rollup::UsageRow { from_ms, organisation, project, key, model, tag, sums } = row;
    let Sums { requests, quantities, pooled_tokens, pool_units, list, discount, credited } = sums;
    let Quantities { in_uncached, in_cached, out_visible, out_reasoning } = quantities;
    let sums = UsageSums {
        requests,
        quantities: UsageQuantities { in_uncached, in_cached, out_visible, out_reasoning },
        pooled_tokens,
        pool_units,
        list: list.to_string(),
        discount: discount.to_string(),
        credited: credited.to_string(),
    };
    let team = teams.get(&project).cloned().unwrap_or_default();
    UsageRow { from_ms, organisation, team, project, key, model, tag, sums }
}

/// What the caller's organisation has now.
#[utoipa::path(
    get,
    path = "/v1/standing",
    operation_id = "getStanding",
    tag = "billing",
    responses(
        (status = 200, body = protocol::Standing, description = "Money and pool"),
        (status = 403, body = ErrorBody, description = "The key may not read usage")
    )
)]
pub(crate) async fn standing(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<protocol::Standing>, ApiError> {
    let standing = Reader::own(&app, &caller)?.read(|books, organisation| {
        let now = unix_ms();
        let Standing { balance, held, pool_units_left } = books.standing(organisation, now)?;
        let credit = books.directory().organisation(organisation).and_then(|organisation| organisation.credit);
        let available = |credit: Nano| balance.saturating_sub(held).saturating_add(credit).to_string();
        let window = books.present_window(organisation, now).map_err(unreadable)?;
        Ok(protocol::Standing {
            organisation: organisation.to_owned(),
            currency: books.currency().code.clone(),
            balance: balance.to_string(),
            held: held.to_string(),
            available: credit.map(available),
            pool_tokens_left: pool_units_left.map(|units| unit::text(unit::POOL, units)),
            period: period(&window),
        })
    });
    Ok(Json(standing.await?))
}

fn period(window: &Window) -> BillingPeriod {
    BillingPeriod {
        start: window.local(window.start_ms),
        end: window.local(window.end_ms),
        time_zone: window.zone.clone(),
    }
}
