//! `/v1/session`: who calls, and the sign-in and sign-out of the console.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use economics::directory::record::Scope;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::{Caller, presented};
use crate::body;
use crate::error::ApiError;

/// Who calls, and what the caller may do here.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// `session`.
    object: &'static str,
    /// `cookie`: signed in at the console; `key`: by a key; `local`: a program of this machine, which needs no key.
    by: &'static str,
    /// Id of the key.
    key: Option<String>,
    /// Name of the key.
    key_name: Option<String>,
    /// The person whose the key is: whoever makes keys by it makes that person's.
    owner: Option<String>,
    /// The project that pays.
    project: Option<String>,
    /// Id of the organisation.
    organisation: Option<String>,
    /// Name of the organisation.
    organisation_name: Option<String>,
    /// What the key may do: `inference`, `usage`, `manage`, `plant`.
    scopes: Vec<&'static str>,
    /// Whether the caller may watch the plant (`/admin/v1/live`).
    can_watch: bool,
    /// Whether a key administers this plant; until then its machine needs none.
    has_administrator: bool,
    /// Whether the server keeps books.
    has_books: bool,
    /// Currency of all amounts; `null` without books.
    currency: Option<String>,
    /// Of the program.
    version: &'static str,
}

/// Who calls.
#[utoipa::path(
    get,
    path = "/v1/session",
    operation_id = "getSession",
    tag = "session",
    responses(
        (status = 200, body = SessionView, description = "The caller"),
        (status = 401, body = protocol::ErrorBody, description = "Nobody: a key is needed, or the session has ended (`session_ended`)")
    )
)]
pub(crate) async fn show(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Response {
    private(Json(view(&app, &caller)))
}

/// Exchanges the key of `Authorization` for a session: a cookie that lasts twelve hours, or until the key ends. An earlier
/// session of the same browser ends.
#[utoipa::path(
    post,
    path = "/v1/session",
    operation_id = "beginSession",
    tag = "session",
    responses(
        (status = 200, body = SessionView, description = "The caller, and the cookie"),
        (status = 401, body = protocol::ErrorBody, description = "The key is not known here, or none was shown"),
        (status = 403, body = protocol::ErrorBody, description = "A page of another origin asked for it")
    )
)]
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    body::discard(request, &app.limits);
    if headers.contains_key(header::ORIGIN) {
        app.sessions.check_origin(&Method::POST, &headers)?;
    }
    let text = presented(&headers)?;
    // A program of this machine may show any word instead of a key.
    if caller.key_id().is_none() {
        return Err(ApiError::unauthorized("this API key is not known here"));
    }
    let (id, cookie) = app.sessions.begin(caller.clone(), text, app.books.as_ref(), &headers)?;
    let caller = Caller { session: Some(id), ..caller };
    let mut response = private(Json(view(&app, &caller)));
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// A session that is over.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedSession {
    /// `session`.
    object: &'static str,
    /// Whether there was one.
    deleted: bool,
}

/// Ends the session.
#[utoipa::path(
    delete,
    path = "/v1/session",
    operation_id = "endSession",
    tag = "session",
    responses((status = 200, body = EndedSession, description = "It is over"))
)]
pub(crate) async fn end(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if let Some(id) = &caller.session {
        app.sessions.end(id);
    }
    let answer = EndedSession { object: "session", deleted: caller.session.is_some() };
    let mut response = private(Json(answer));
    response.headers_mut().insert(header::SET_COOKIE, app.sessions.farewell(&headers)?);
    Ok(response)
}

fn view(app: &App, caller: &Caller) -> SessionView {
    let identity = caller.identity.as_deref();
    // Without books the keys of the configuration may do all that there is.
    let all = || [Scope::Inference, Scope::Plant].into();
    let scopes: BTreeSet<Scope> = identity.map_or_else(all, |identity| identity.scopes.clone());
    SessionView {
        object: "session",
        by: match (caller.session.is_some(), caller.key_id().is_some()) {
            (true, _) => "cookie",
            (false, true) => "key",
            (false, false) => "local",
        },
        key: caller.key_id().map(str::to_owned),
        key_name: caller.key.clone(),
        owner: identity.and_then(|identity| identity.owner.clone()),
        project: identity.map(|identity| identity.project.clone()),
        organisation: identity.map(|identity| identity.organisation.id.clone()),
        organisation_name: identity.map(|identity| identity.organisation.name.clone()),
        scopes: scopes.into_iter().map(Scope::as_str).collect(),
        can_watch: app.may_watch(caller),
        has_administrator: app.has_administrator(),
        has_books: app.books.is_some(),
        currency: app.books.as_ref().map(|books| books.currency().code.clone()),
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// An answer that nobody keeps.
fn private(answer: impl IntoResponse) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], answer).into_response()
}
