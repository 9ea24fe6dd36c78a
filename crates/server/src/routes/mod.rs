//! The handlers.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod models;
pub(crate) mod state;
pub(crate) mod tokenize;
mod tokens;

use std::any::Any;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use inference::FinishReason;
use serde_json::{Map, Value};
use service::{Generation, Line, Reply};

use crate::app::App;
use crate::auth::Caller;
use crate::body;
use crate::decode::wrong;
use crate::error::ApiError;
use crate::request::Context;

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

/// The caller, then the body as an object.
async fn read(app: &App, mut request: Request) -> Result<(Caller, Map<String, Value>), ApiError> {
    let caller = request.extensions_mut().remove::<Caller>().unwrap_or_default();
    let object = body::read_object(request, &app.limits, &app.body_budget).await?;
    Ok((caller, object))
}

/// The line that `model` names. It may be left out only where `optional` and one line is served.
fn find_line<'a>(app: &'a App, object: &Map<String, Value>, optional: bool) -> Result<&'a Arc<dyn Line>, ApiError> {
    match object.get("model") {
        Some(Value::String(name)) => app.line(name),
        Some(value) if !value.is_null() => Err(wrong("model", "a string, the name of a model", value)),
        _ => {
            let missing = || ApiError::field("model", "`model` is missing; GET /v1/models lists the names");
            if optional { app.only_line().ok_or_else(missing) } else { Err(missing()) }
        }
    }
}

/// The bounds for a request to `line`.
fn context<'a>(app: &App, line: &'a dyn Line, caller: &'a Caller) -> Context<'a> {
    let limits = line.status().limits;
    Context { card: line.card(), caller, max_candidates: limits.max_candidates, max_choices: app.limits.max_choices }
}

/// Submits all or none: when one is refused, those accepted before are cancelled by the drop.
async fn submit(line: &dyn Line, generations: Vec<Generation>) -> Result<Vec<Reply>, ApiError> {
    let mut replies = Vec::with_capacity(generations.len());
    for generation in generations {
        replies.push(line.submit(generation).await?);
    }
    Ok(replies)
}

/// The word of the API.
fn finish_word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length | FinishReason::Allowance => "length",
        FinishReason::Cancelled => "abort",
    }
}

/// Changes with the program or the model.
fn fingerprint(card: &service::ModelCard) -> String {
    format!("tokenworks-{}-{}", env!("CARGO_PKG_VERSION"), card.created)
}
