//! The handlers.

pub(crate) mod admin;
mod answer;
pub(crate) mod billing;
pub(crate) mod chat;
pub(crate) mod claim;
pub(crate) mod completions;
pub(crate) mod experiments;
pub(crate) mod figures;
pub(crate) mod models;
pub(crate) mod next_token;
pub(crate) mod outcomes;
pub(crate) mod period;
pub(crate) mod retention;
pub(crate) mod session;
pub(crate) mod state;
pub(crate) mod tfp;
pub(crate) mod tokenize;
mod tokens;

use std::any::Any;

use axum::extract::Request;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use service::Lease;

use crate::app::{App, Ticket};
use crate::auth::Caller;
use crate::body::{self, Held};
use crate::error::ApiError;
use crate::fields::{Fields, wrong};

/// 404 in OpenAI's form.
pub(crate) async fn not_found(uri: Uri) -> ApiError {
    ApiError::route_not_found(uri.path())
}

/// 405 in OpenAI's form.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::method_not_allowed(method.as_str(), uri.path())
}

/// 500 for a handler that panicked; the others go on.
pub(crate) fn panicked(cause: Box<dyn Any + Send + 'static>) -> Response {
    let text = cause.downcast_ref::<&str>().copied().or_else(|| cause.downcast_ref::<String>().map(String::as_str));
    tracing::error!(cause = text.unwrap_or("unknown"), "a handler panicked");
    ApiError::internal("the server failed on this request; its log says more").into_response()
}

/// The right to work on the request, the caller, and the body's fields.
async fn read(app: &App, request: Request) -> Result<(Ticket, Caller, Fields), ApiError> {
    let (ticket, caller, body) = read_bytes(app, request).await?;
    let object = body::parse_object(&body.bytes)?;
    Ok((ticket, caller, Fields::new(object)))
}

/// The right to work on the request, the caller, and the body as it came.
async fn read_bytes(app: &App, mut request: Request) -> Result<(Ticket, Caller, Held<'_>), ApiError> {
    let ticket = match app.admit() {
        Ok(ticket) => ticket,
        Err(error) => {
            body::discard(request, &app.limits);
            return Err(error);
        }
    };
    let caller = request.extensions_mut().remove::<Caller>().unwrap_or_default();
    let body = body::read(request, &app.limits, &app.body_budget).await?;
    Ok((ticket, caller, body))
}

/// The line that `model` names, loaded first if need be. It may be left out only where `optional` and one model is served.
async fn find_line(app: &App, fields: &mut Fields, optional: bool) -> Result<Lease, ApiError> {
    match fields.take("model") {
        Some(Value::String(name)) => app.line(&name).await,
        Some(value) => Err(wrong("model", "a string, the name of a model", &value)),
        None => match app.pool.models().as_slice() {
            [only] if optional => app.line(&only.id).await,
            _ => Err(ApiError::field("model", "`model` is missing; GET /v1/models lists the names")),
        },
    }
}
