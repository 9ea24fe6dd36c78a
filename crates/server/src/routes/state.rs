//! The server's own state: probes, metrics, and what its API looks like.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::openapi::openapi_json;

/// Whether the process serves.
#[utoipa::path(get, path = "/health", tag = "state", responses((status = 200, description = "It serves")))]
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// Whether new requests are taken.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "state",
    responses((status = 200, description = "Every model that is loaded, or should be, takes requests"), (status = 503, body = protocol::ErrorBody, description = "No requests are taken"))
)]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, ApiError> {
    if app.draining() {
        return Err(ApiError::shutting_down());
    }
    match app.pool.not_ready() {
        Some(reason) => Err(ApiError::unavailable(reason, "not_ready")),
        None => Ok("ready\n"),
    }
}

/// Counters, gauges and histograms as Prometheus text. Costs, energy and power of the plant are in it for those only who may
/// watch the plant.
#[utoipa::path(get, path = "/metrics", tag = "state", responses((status = 200, content_type = "text/plain", body = String, description = "Prometheus text")))]
pub(crate) async fn metrics(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Response {
    let lines: Vec<_> = app.pool.lines().iter().map(|line| line.status().line_gauges(&line.card().id)).collect();
    let content_type = HeaderValue::from_static(metering::CONTENT_TYPE);
    let mut text = app.meter.render(&lines);
    if let Some(traces) = &app.traces {
        text.push_str(&metering::render_families(&traces.families()));
    }
    if app.may_watch(&caller) {
        let families = app.charging.as_ref().map(|charging| charging.families()).unwrap_or_default();
        text.push_str(&metering::render_families(&families));
    }
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "state", responses((status = 200, content_type = "application/json", description = "OpenAPI 3.1")))]
pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], openapi_json()).into_response()
}
