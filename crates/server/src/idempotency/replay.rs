//! An answer that was given before, given again byte for byte.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::sync::OwnedSemaphorePermit;

use super::REPLAYED;
use crate::app::Ticket;
use crate::sse;

/// Sent in pieces, so that the connection takes no more of it at once than it has room for.
const PIECE_BYTES: usize = 64 << 10;

/// A kept answer on its way out.
pub(crate) struct Replay {
    pub(super) bytes: Vec<u8>,
    /// It is a stream of frames.
    pub(super) streamed: bool,
    /// Its share of the memory of all.
    pub(super) held: OwnedSemaphorePermit,
}

impl Replay {
    /// The answer. Rate limits have no part in it: nothing runs.
    pub(crate) fn respond(self, ticket: Ticket) -> Response {
        let Self { bytes, streamed, held } = self;
        let length = bytes.len();
        let body = unfold((Bytes::from(bytes), ticket, held), |(mut rest, ticket, held)| async move {
            let piece = rest.split_to(PIECE_BYTES.min(rest.len()));
            (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), (rest, ticket, held)))
        });
        let mut response = Body::from_stream(body).into_response();
        let headers = response.headers_mut();
        if streamed {
            headers.extend(sse::headers());
        } else {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}
