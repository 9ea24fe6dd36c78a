//! Streams: events of the lines become frames, at the reader's pace but never waiting longer than allowed.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{SelectAll, select_all, unfold};
use protocol::sse;
use serde::Serialize;
use service::{LineEvent, Reply};
use tokio::sync::mpsc;

use crate::app::Ticket;
use crate::error::ApiError;

/// Frames between the task that makes them and the connection that sends them.
const FRAMES: usize = 16;

/// Several replies as one stream of (number of the generation, event); dropping it cancels them all.
pub(crate) type Events = SelectAll<std::pin::Pin<Box<dyn futures_util::Stream<Item = (u32, LineEvent)> + Send>>>;

/// Joins replies; generation `i` is the i-th.
pub(crate) fn join(replies: Vec<Reply>) -> Events {
    select_all((0_u32..).zip(replies).map(|(number, reply)| {
        let stream = unfold(reply, move |mut reply| async move {
            let event = reply.next().await?;
            Some(((number, event), reply))
        });
        let boxed: std::pin::Pin<Box<dyn futures_util::Stream<Item = (u32, LineEvent)> + Send>> = Box::pin(stream);
        boxed
    }))
}

/// The end of a stream came too early: the client is gone, or does not read.
#[derive(Debug)]
pub(crate) struct Gone;

enum Item {
    Frame(Bytes),
    End,
}

/// Sends the frames of one stream.
pub(crate) struct Frames {
    sender: mpsc::Sender<Item>,
    reader_idle: Duration,
}

impl Frames {
    /// Sends one frame.
    ///
    /// # Errors
    /// [`Gone`]: nobody reads any more.
    pub(crate) async fn send<T: Serialize>(&self, value: &T) -> Result<(), Gone> {
        let text = sse::frame(value).map_err(|error| {
            tracing::error!(%error, "a frame could not be written");
            Gone
        })?;
        self.push(Item::Frame(Bytes::from(text))).await
    }

    async fn push(&self, item: Item) -> Result<(), Gone> {
        self.sender.send_timeout(item, self.reader_idle).await.map_err(|error| {
            if matches!(error, mpsc::error::SendTimeoutError::Timeout(_)) {
                tracing::info!(target: "access", "a stream's reader was idle too long; its work is cancelled");
            }
            Gone
        })
    }

    /// Ends the stream well.
    pub(crate) async fn done(&self) -> Result<(), Gone> {
        self.push(Item::Frame(Bytes::from_static(sse::DONE.as_bytes()))).await?;
        self.push(Item::End).await
    }

    /// Ends the stream with an error.
    pub(crate) async fn fail(&self, error: &ApiError) -> Result<(), Gone> {
        self.send(&error.body()).await?;
        self.push(Item::End).await
    }
}

/// The last frame of a stream that fails.
fn error_frame(error: &ApiError) -> Bytes {
    Bytes::from(sse::frame(&error.body()).unwrap_or_default())
}

/// Answers with a stream: a task of its own writes the frames. Dropping the work of `write` cancels what it waits for.
pub(crate) fn respond<W>(ticket: Ticket, reader_idle: Duration, write: impl FnOnce(Frames) -> W) -> Response
where
    W: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(FRAMES);
    let client = sender.clone();
    let written = write(Frames { sender, reader_idle });
    tokio::spawn(async move {
        tokio::select! {
            () = client.closed() => {}
            _ = written => {}
        }
    });
    // The ticket lives as long as the body, so that a drain waits for the last frame to be taken.
    let body = unfold(Some((receiver, ticket)), |state| async {
        let (mut receiver, mut ticket): (mpsc::Receiver<Item>, Ticket) = state?;
        let item = tokio::select! {
            biased;
            _ = ticket.ending.wait_for(|ending| *ending) => {
                return Some((Ok(error_frame(&ApiError::shutting_down())), None));
            }
            item = receiver.recv() => item,
        };
        match item {
            Some(Item::Frame(frame)) => Some((Ok::<_, Infallible>(frame), Some((receiver, ticket)))),
            Some(Item::End) => None,
            // The task broke off without an end: it panicked, or found the reader idle.
            None => {
                let error = ApiError::internal("the stream broke off: it failed, or was not read for too long");
                Some((Ok(error_frame(&error)), None))
            }
        }
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // Proxies that gather answers (nginx) would undo the streaming.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(body)).into_response()
}
