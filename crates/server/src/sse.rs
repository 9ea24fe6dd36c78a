//! Streams: events of the lines become frames, at the reader's pace but never waiting longer than allowed.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{SelectAll, select_all, unfold};
use protocol::sse;
use serde::Serialize;
use service::{LineEvent, Reply};
use tokio::sync::mpsc;

use crate::app::Ticket;
use crate::error::ApiError;
use crate::idempotency::Recording;

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

/// Sends the frames of one stream, and records them where the answer is to be kept.
pub(crate) struct Frames {
    /// `None`: nobody reads any more.
    reader: Option<mpsc::Sender<Item>>,
    reader_idle: Duration,
    recording: Option<Recording>,
}

impl Frames {
    /// Sends one frame.
    ///
    /// # Errors
    /// [`Gone`]: nobody reads any more, and nothing is to be kept.
    pub(crate) async fn send<T: Serialize>(&mut self, value: &T) -> Result<(), Gone> {
        let text = sse::frame(value).map_err(|error| {
            tracing::error!(%error, "a frame could not be written");
            Gone
        })?;
        let frame = Bytes::from(text);
        if let Some(recording) = &mut self.recording {
            recording.take(&frame);
        }
        self.push(Item::Frame(frame)).await;
        if self.reader.is_some() || self.recording.as_ref().is_some_and(Recording::is_whole) {
            return Ok(());
        }
        // Too large to be kept, and nobody reads: the rest is for nobody.
        if let Some(recording) = self.recording.take() {
            recording.keep(true).await;
        }
        Err(Gone)
    }

    async fn push(&mut self, item: Item) {
        let Some(reader) = &self.reader else { return };
        if let Err(error) = reader.send_timeout(item, self.reader_idle).await {
            if matches!(error, mpsc::error::SendTimeoutError::Timeout(_)) {
                tracing::info!(target: "access", "a stream's reader was idle too long; it is cut off");
            }
            self.reader = None;
        }
    }

    /// Ends the stream well.
    pub(crate) async fn done(mut self) {
        let frame = Bytes::from_static(sse::DONE.as_bytes());
        if let Some(mut recording) = self.recording.take() {
            recording.take(&frame);
            // Kept before the reader sees the end: whoever asks again from then on gets all of it.
            recording.keep(true).await;
        }
        self.push(Item::Frame(frame)).await;
        self.push(Item::End).await;
    }

    /// Ends the stream with an error. `charged`: something may have been charged.
    pub(crate) async fn fail(mut self, error: &ApiError, charged: bool) {
        if let Some(recording) = self.recording.take() {
            recording.fail(error, charged).await;
        }
        self.push(Item::Frame(error_frame(error))).await;
        self.push(Item::End).await;
    }
}

/// The last frame of a stream that fails.
fn error_frame(error: &ApiError) -> Bytes {
    Bytes::from(sse::frame(&error.body()).unwrap_or_default())
}

/// Answers with a stream: a task of its own writes the frames. Dropping the work of `write` cancels what it waits for:
/// when the reader goes, or, where the answer is recorded, only at the end of a drain.
pub(crate) fn respond<W>(
    ticket: Ticket,
    reader_idle: Duration,
    recording: Option<Recording>,
    write: impl FnOnce(Frames) -> W,
) -> Response
where
    W: Future<Output = ()> + Send + 'static,
{
    let (reader, receiver) = mpsc::channel(FRAMES);
    let client = recording.is_none().then(|| reader.clone());
    let written = write(Frames { reader: Some(reader), reader_idle, recording });
    let mut held = ticket.clone();
    tokio::spawn(async move {
        let left = async {
            match client {
                Some(client) => client.closed().await,
                None => held.ended().await,
            }
        };
        tokio::select! {
            () = left => {}
            () = written => {}
        }
    });
    // The ticket lives as long as the body, so that a drain waits for the last frame to be taken.
    let body = unfold(Some((receiver, ticket)), |state| async {
        let (mut receiver, mut ticket): (mpsc::Receiver<Item>, Ticket) = state?;
        let item = tokio::select! {
            biased;
            () = ticket.ended() => {
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
    (headers(), Body::from_stream(body)).into_response()
}

/// The headers of every stream.
pub(crate) fn headers() -> [(HeaderName, HeaderValue); 3] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // Proxies that gather answers (nginx) would undo the streaming.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ]
}
