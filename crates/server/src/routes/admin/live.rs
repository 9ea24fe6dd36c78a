//! The plant as it is now: one document, or a stream of them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderName, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use protocol::sse;

use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::live::document::{RecentPlant, Snapshot};
use crate::live::{self, EVERY, Viewer};
use crate::query::Query;
use crate::sse as streams;

type Json = ([(HeaderName, &'static str); 2], Bytes);

/// A snapshot of the plant once a second, as server-sent events; the same one for all who watch. It ends when the caller's
/// key or session does. At most 64 watch at one time.
#[utoipa::path(
    get,
    path = "/admin/v1/live",
    operation_id = "watchPlant",
    tag = "administration",
    responses(
        (status = 200, body = Snapshot, content_type = "text/event-stream", description = "A frame for each snapshot"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`, and some key administers the plant"),
        (status = 503, body = protocol::ErrorBody, description = "64 watch already")
    )
)]
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    check(&app, &caller)?;
    if app.draining() {
        return Err(ApiError::shutting_down());
    }
    let viewer = live::watch(&app)?;
    let ending = app.ending.subscribe();
    let frames = unfold(Some((app, caller, viewer, ending)), |state| async {
        let (app, caller, mut viewer, mut ending) = state?;
        let frame = tokio::select! {
            biased;
            _ = ending.wait_for(|ending| *ending) => return None,
            frame = next(&mut viewer) => frame?,
        };
        // Whoever lost the right to watch sees nothing more.
        match still(&app, &caller) {
            Ok(()) => Some((Ok::<_, Infallible>(frame), Some((app, caller, viewer, ending)))),
            Err(error) => {
                let last = format!("event: end\n{}", sse::frame(&error.body()).unwrap_or_default());
                Some((Ok(Bytes::from(last)), None))
            }
        }
    });
    Ok((streams::headers(), Body::from_stream(frames)).into_response())
}

/// The next snapshot; a comment when none comes for a while, so that a connection that is gone is found.
async fn next(viewer: &mut Viewer) -> Option<Bytes> {
    loop {
        match tokio::time::timeout(EVERY * 10, viewer.snapshots.changed()).await {
            Ok(Ok(())) => {}
            // The server is gone.
            Ok(Err(_)) => return None,
            Err(_) => return Some(Bytes::from_static(b": waiting\n\n")),
        }
        if let Some(written) = viewer.snapshots.borrow_and_update().as_ref() {
            return Some(written.frame.clone());
        }
    }
}

/// The plant now, or one of the last minute's snapshots by its id.
#[utoipa::path(
    get,
    path = "/admin/v1/live/snapshot",
    operation_id = "getPlantSnapshot",
    tag = "administration",
    params(("id" = Option<String>, Query, description = "Of a snapshot of the last minute; the newest when not given")),
    responses(
        (status = 200, body = Snapshot, description = "The snapshot"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`, and some key administers the plant"),
        (status = 404, body = protocol::ErrorBody, description = "There is no such snapshot any more")
    )
)]
pub(crate) async fn snapshot(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json, ApiError> {
    check(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let id = query.text("id");
    query.finish()?;
    let written = match id {
        None => live::newest(&app, Duration::from_millis(900)).await?,
        Some(id) => app.live.kept(&id).ok_or_else(|| {
            ApiError::not_found("there is no such snapshot any more; the last 60 are kept while somebody watches")
        })?,
    };
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], written.json))
}

/// Rates of the last five minutes, one a second: what curves begin with. Empty where no history is kept and nobody watched.
#[utoipa::path(
    get,
    path = "/admin/v1/live/recent",
    operation_id = "listRecentRates",
    tag = "administration",
    responses(
        (status = 200, body = RecentPlant, description = "The rates"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`, and some key administers the plant")
    )
)]
pub(crate) async fn recent(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<axum::Json<RecentPlant>, ApiError> {
    check(&app, &caller)?;
    Query::of(&uri)?.finish()?;
    Ok(axum::Json(RecentPlant { object: "recent", data: app.live.recent() }))
}

/// Refuses who may not watch the plant.
pub(super) fn check(app: &App, caller: &Caller) -> Result<(), ApiError> {
    if app.may_watch(caller) {
        return Ok(());
    }
    let message = "to watch the plant takes a key with the scope `plant`; without one only its own machine may, as long as no key \
                   administers it";
    Err(ApiError::forbidden(message, "not_allowed"))
}

/// Whether the caller is still who it was when the stream began.
fn still(app: &App, caller: &Caller) -> Result<(), ApiError> {
    let now = match (&caller.session, &caller.identity, &app.books) {
        (Some(id), ..) => app.sessions.resolve(id, app.books.as_ref(), unix_ms())?,
        (None, Some(identity), Some(books)) => {
            let again = books.directory().identify_again(identity, "", unix_ms());
            again.ok().map(|identity| Arc::new(identity).into())
        }
        _ => Some(caller.clone()),
    };
    now.map_or_else(|| Err(ApiError::unauthorized("the key or the session has ended")), |now| check(app, &now))
}
