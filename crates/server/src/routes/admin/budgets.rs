//! What is used of budgets: of one customer, or of all that the caller may see.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::books::{BudgetStanding, MAX_BUDGETS};
use economics::directory::record::Kind;
use economics::limits::Level;
use serde::Serialize;
use utoipa::ToSchema;

use super::Admin;
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::fields::short;
use crate::query::Query;
use crate::segments::Segments;

/// Budgets of a page, when nothing else is asked for.
const LIMIT: usize = 100;

/// A page of budgets: those of organisations first, then of teams, projects, keys and end users, each by id.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BudgetList {
    /// `list`.
    object: &'static str,
    /// The book currency.
    currency: String,
    /// The budgets, each with what is used of it in its present window.
    data: Vec<BudgetStanding>,
    /// `after` of the next page; `null`: this was the last.
    #[schema(required = true)]
    next_after: Option<String>,
}

/// What is used of the budgets of one organisation and its teams, projects, keys and end users. End users without bounds of
/// their own are not listed.
#[utoipa::path(
    get,
    path = "/admin/v1/organisations/{id}/budgets",
    operation_id = "listBudgets",
    tag = "administration",
    params(
        ("id" = String, Path, description = "The organisation's id"),
        ("after" = Option<String>, Query, description = "Only budgets after this one: `next_after` of the page before, e.g. `project/web`"),
        ("limit" = Option<u32>, Query, description = "1 to 500; 100 when not given")
    ),
    responses(
        (status = 200, body = BudgetList, description = "A page of its budgets"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong"),
        (status = 404, body = protocol::ErrorBody, description = "There is none that the caller may see")
    )
)]
pub(crate) async fn of(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    Segments(id): Segments<String>,
) -> Result<Json<BudgetList>, ApiError> {
    let admin = Admin::of(&app, &caller)?;
    admin.known(Kind::Organisation, &id)?;
    admin.budgets(&uri, Some(id)).await
}

/// What is used of all budgets that the caller may see: of every organisation with the scope `plant`, of its own with
/// `manage`.
#[utoipa::path(
    get,
    path = "/admin/v1/budgets",
    operation_id = "listAllBudgets",
    tag = "administration",
    params(
        ("after" = Option<String>, Query, description = "Only budgets after this one: `next_after` of the page before, e.g. `project/web`"),
        ("limit" = Option<u32>, Query, description = "1 to 500; 100 when not given")
    ),
    responses(
        (status = 200, body = BudgetList, description = "A page of the budgets"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong"),
        (status = 403, body = protocol::ErrorBody, description = "The key may administer nothing")
    )
)]
pub(crate) async fn all(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<BudgetList>, ApiError> {
    let admin = Admin::of(&app, &caller)?;
    let own = admin.authority().organisation().map(str::to_owned);
    admin.budgets(&uri, own).await
}

/// The word of a level in documents.
fn word(level: Level) -> String {
    level.as_str().replace(' ', "_")
}

/// A budget by the word of its level and its id: `end_user/acme/ann`.
fn place(text: &str) -> Result<(Level, String), ApiError> {
    let found = text.split_once('/').and_then(|(level, id)| {
        let level = Level::ALL.into_iter().find(|one| word(*one) == level)?;
        Some((level, id.to_owned()))
    });
    found.ok_or_else(|| {
        let message = format!("`after` must be a level and an id, e.g. `project/web`; got `{}`", short(text));
        ApiError::field("after", message)
    })
}

impl Admin {
    async fn budgets(self, uri: &Uri, organisation: Option<String>) -> Result<Json<BudgetList>, ApiError> {
        let mut query = Query::of(uri)?;
        let limit = query.integer("limit", "a number from 1 to 500", 1..=MAX_BUDGETS as i128)?.unwrap_or(LIMIT);
        let after = query.text("after").map(|text| place(&text)).transpose()?;
        query.finish()?;
        let currency = self.books.currency().code.clone();
        let (data, more) = self
            .run(move |admin| {
                let after = after.as_ref().map(|(level, id)| (*level, id.as_str()));
                Ok(admin.books.budgets(organisation.as_deref(), after, limit, unix_ms())?)
            })
            .await?;
        let last = data.last().filter(|_| more);
        let next_after = last.map(|last| format!("{}/{}", word(last.level), last.id));
        Ok(Json(BudgetList { object: "list", currency, data, next_after }))
    }
}
