//! Payments, credit notes, and what a customer has.

use std::sync::Arc;

use ::ledger::EntryId;
use axum::Json;
use axum::extract::{Extension, Request, State};
use economics::books::{Posted, Standing};
use economics::directory::record::Kind;
use economics::{Invalid, Nano};
use serde::Serialize;
use service::entry_id;
use utoipa::ToSchema;

use super::Admin;
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::fields::{Fields, missing};
use crate::routes::read;
use crate::segments::Segments;

const REFERENCE: &str = "a string that names this act; the same one again changes nothing";

/// What was posted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PostedEntry {
    /// The entry's id in the ledger.
    entry: String,
    /// It was posted before, under the same `reference`: nothing was booked.
    repeated: bool,
}

impl From<Posted> for PostedEntry {
    fn from(Posted { entry, repeated }: Posted) -> Self {
        Self { entry: entry.to_string(), repeated }
    }
}

fn amount(fields: &mut Fields) -> Result<Nano, ApiError> {
    let expected = "a decimal number as a string, e.g. \"12.50\"";
    let text = fields.string("amount")?.ok_or_else(|| missing("amount", expected))?;
    text.parse().map_err(|error: Invalid| super::invalid(&error.within("amount")))
}

fn text(fields: &mut Fields, name: &str, expected: &str) -> Result<String, ApiError> {
    fields.string(name)?.ok_or_else(|| missing(name, expected))
}

/// Books a payment of a customer; a negative amount: paid out.
#[utoipa::path(
    post,
    path = "/admin/v1/payments",
    tag = "administration",
    request_body(content = Object, example = json!({"organisation": "acme", "amount": "5.00", "reference": "transfer 17"})),
    responses(
        (status = 200, body = PostedEntry, description = "It is posted. The same `reference` again changes nothing"),
        (status = 400, body = protocol::ErrorBody, description = "A field is wrong, or the reference was used for another amount")
    )
)]
pub(crate) async fn pay(State(app): State<Arc<App>>, request: Request) -> Result<Json<PostedEntry>, ApiError> {
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let admin = Admin::of_plant(&app, &caller)?;
    let organisation = text(&mut fields, "organisation", "the id of an organisation")?;
    let (amount, reference) = (amount(&mut fields)?, text(&mut fields, "reference", REFERENCE)?);
    fields.finish()?;
    let pay =
        move |admin: &Admin| Ok(admin.books.pay(&organisation, amount, (&reference, admin.actor()), unix_ms())?);
    admin.run(pay).await.map(|posted| Json(posted.into()))
}

/// Gives back what a request was charged, or a part of it.
#[utoipa::path(
    post,
    path = "/admin/v1/credits",
    tag = "administration",
    request_body(content = Object, example = json!({"request": "chatcmpl-…", "amount": "0.25", "reference": "complaint 4", "reason": "slow"})),
    responses(
        (status = 200, body = PostedEntry, description = "It is posted. The same `reference` again changes nothing"),
        (status = 400, body = protocol::ErrorBody, description = "A field is wrong, or more than is left of the charge")
    )
)]
pub(crate) async fn credit(State(app): State<Arc<App>>, request: Request) -> Result<Json<PostedEntry>, ApiError> {
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let admin = Admin::of_plant(&app, &caller)?;
    let request = text(&mut fields, "request", "the id of an answer, e.g. `chatcmpl-…`")?;
    let (amount, reference) = (amount(&mut fields)?, text(&mut fields, "reference", REFERENCE)?);
    let reason = fields.string("reason")?.unwrap_or_default();
    fields.finish()?;
    let request = EntryId(entry_id(&request));
    let credit = move |admin: &Admin| {
        Ok(admin.books.credit(request, amount, (&reference, &reason, admin.actor()), unix_ms())?)
    };
    admin.run(credit).await.map(|posted| Json(posted.into()))
}

/// What an organisation has now.
#[utoipa::path(
    get,
    path = "/admin/v1/organisations/{id}/standing",
    tag = "administration",
    params(("id" = String, Path, description = "The organisation's id")),
    responses(
        (status = 200, body = Standing, description = "Its balance, what running requests hold of it, and what is left of the pool"),
        (status = 404, body = protocol::ErrorBody, description = "There is none that the caller may see")
    )
)]
pub(crate) async fn standing(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(id): Segments<String>,
) -> Result<Json<Standing>, ApiError> {
    let admin = Admin::of(&app, &caller)?;
    admin.known(Kind::Organisation, &id)?;
    admin.run(move |admin| Ok(admin.books.standing(&id, unix_ms())?)).await.map(Json)
}
