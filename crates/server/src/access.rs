//! One log line for each request, and its id in the reply.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::new_id;
use crate::claim::CLAIM_PATH;
use crate::connection::Peer;

/// Middleware: gives the request an id (`x-request-id` of the reply) and writes one line to the log (target `access`)
/// when the reply's head is known. What a stream used is in the usage record.
pub(crate) async fn log(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId(new_id("req-"));
    let method = request.method().clone();
    let path = shown_path(request.uri().path());
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    tracing::info!(
        target: "access",
        request_id = id.0,
        peer = peer.map(tracing::field::display),
        method = method.as_str(),
        path,
        status = response.status().as_u16(),
        seconds = started.elapsed().as_secs_f64(),
        "request"
    );
    response
}

/// The path without what nobody may read in a log.
fn shown_path(path: &str) -> String {
    if path.starts_with(CLAIM_PATH) {
        return format!("{CLAIM_PATH}…");
    }
    path.chars().take(200).collect()
}

/// The id of the HTTP request.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_links_stay_out_of_the_log() {
        assert_eq!(shown_path("/admin/claim/0123456789abcdef"), "/admin/claim/…");
        assert_eq!(shown_path("/v1/models"), "/v1/models");
    }
}
