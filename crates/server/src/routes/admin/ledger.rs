//! The whole ledger: verified, exported, backed up.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::ledger::{Format, Report};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use economics::books::Books;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use utoipa::ToSchema;

use super::Admin;
use crate::app::{App, Ticket};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::fields::missing;
use crate::query::Query;
use crate::routes::read;

/// Bytes of one piece of an export.
const PIECE: usize = 64 * 1024;
/// Pieces between the thread that reads the ledger and the connection that sends them.
const PIECES: usize = 4;
/// How long a backup waits for what is decided to be on the disk.
const FLUSH: Duration = Duration::from_secs(30);

/// The right to walk over the whole ledger, which takes a processor for long.
fn walk(app: &App) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(&app.ledger_walks).try_acquire_owned().map_err(|_full| {
        ApiError::unavailable("the ledger is being exported, backed up or verified already; try again", "overloaded")
    })
}

/// How much of a ledger was looked at and found right.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Verification {
    /// Entries, each hashed into its chain.
    entries: u64,
    /// Accounts, each equal to the sum of its postings.
    accounts: u64,
    /// Holds, each on accounts that say so, and not ended.
    holds: u64,
    /// Sums of the roll-ups, each recomputed.
    tallies: u64,
}

/// Recomputes the ledger's chain, balances and roll-ups.
#[utoipa::path(
    get,
    path = "/admin/v1/verify",
    tag = "administration",
    responses(
        (status = 200, body = Verification, description = "All is right"),
        (status = 500, body = protocol::ErrorBody, description = "The first fault")
    )
)]
pub(crate) async fn verify(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Verification>, ApiError> {
    let admin = Admin::of_plant(&app, &caller)?;
    let walk = walk(&app)?;
    let verify = move |admin: &Admin| {
        let _walk = walk;
        admin.books.ledger().verify().map_err(|error| ApiError::internal(format!("the ledger: {error}")))
    };
    let Report { entries, accounts, holds, tallies, .. } = admin.run(verify).await?;
    Ok(Json(Verification { entries, accounts, holds, tallies }))
}

/// All entries of the ledger, as a stream.
#[utoipa::path(
    get,
    path = "/admin/v1/export",
    tag = "administration",
    params(("format" = Option<String>, Query, description = "`csv` (when not given): a line per posting's leg; `jsonl`: an object per entry")),
    responses(
        (status = 200, content((String = "text/csv"), (String = "application/x-ndjson")), description = "The entries; a stream that breaks off is not whole"),
        (status = 503, body = protocol::ErrorBody, description = "The ledger is being walked over already")
    )
)]
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let admin = Admin::of_plant(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let (format, content_type, name) = match query.word("format", &["csv", "jsonl"])?.as_deref() {
        Some("jsonl") => (Format::JsonLines, "application/x-ndjson", "attachment; filename=\"ledger.jsonl\""),
        _ => (Format::Csv, "text/csv; charset=utf-8", "attachment; filename=\"ledger.csv\""),
    };
    query.finish()?;
    let (ticket, walk) = (app.admit()?, walk(&app)?);
    let (sender, receiver) = mpsc::channel(PIECES);
    let pipe = Pipe { sender, runtime: Handle::current(), reader_idle: app.limits.reader_idle };
    tokio::task::spawn_blocking(move || pipe.write_entries(&admin.books, format, walk));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static(name)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, body(receiver, ticket)).into_response())
}

enum Piece {
    Data(Bytes),
    End,
}

/// The pieces as a body. The ticket lives as long, so that a drain waits for the last piece to be taken.
fn body(receiver: mpsc::Receiver<Piece>, ticket: Ticket) -> Body {
    Body::from_stream(unfold(Some((receiver, ticket)), |state| async {
        let (mut receiver, mut ticket) = state?;
        let piece = tokio::select! {
            biased;
            () = ticket.ended() => None,
            piece = receiver.recv() => piece,
        };
        match piece {
            Some(Piece::Data(bytes)) => Some((Ok(bytes), Some((receiver, ticket)))),
            Some(Piece::End) => None,
            // The connection breaks, so that the reader sees that it does not have all.
            None => Some((Err(io::Error::other("the export broke off")), None)),
        }
    }))
}

/// From a thread that may wait to a connection's task.
struct Pipe {
    sender: mpsc::Sender<Piece>,
    runtime: Handle,
    reader_idle: Duration,
}

impl Pipe {
    fn write_entries(self, books: &Books, format: Format, walk: OwnedSemaphorePermit) {
        let mut out = BufWriter::with_capacity(PIECE, self);
        let written = books.ledger().export(format, &mut out);
        // Before the end is told: whoever has it may ask for the next.
        drop(walk);
        match written {
            Ok(_) => {
                // Fails when nobody reads any more.
                let _ = out.into_inner().map_err(io::Error::from).and_then(|pipe| pipe.send(Piece::End));
            }
            Err(error) => {
                tracing::info!(%error, "an export ended early");
                // Dropped as a whole, the buffer would try to write once more.
                drop(out.into_parts());
            }
        }
    }

    fn send(&self, piece: Piece) -> io::Result<()> {
        let sent = self.sender.send_timeout(piece, self.reader_idle);
        self.runtime.block_on(sent).map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(Piece::Data(Bytes::copy_from_slice(bytes)))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A copy of the ledger.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackupFile {
    /// The absolute path of the file on the server's machine.
    to: String,
    /// How large it is.
    bytes: u64,
}

/// Copies the ledger to a new file of the server's machine, while it goes on working.
#[utoipa::path(
    post,
    path = "/admin/v1/backup",
    tag = "administration",
    request_body(content = Object, description = "`to`: the absolute path of a file that does not exist", example = json!({"to": "/backups/books-2026-11-26.db"})),
    responses(
        (status = 200, body = BackupFile, description = "The file is whole"),
        (status = 400, body = protocol::ErrorBody, description = "The path cannot be used")
    )
)]
pub(crate) async fn backup(State(app): State<Arc<App>>, request: Request) -> Result<Json<BackupFile>, ApiError> {
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let admin = Admin::of_plant(&app, &caller)?;
    let expected = "the absolute path of a new file on the server's machine";
    let to = fields.string("to")?.ok_or_else(|| missing("to", expected))?;
    fields.finish()?;
    let walk = walk(&app)?;
    let bytes = admin.run(move |admin| {
        let _walk = walk;
        let path = new_file(&to)?;
        let failed = |error: String| ApiError::internal(format!("the backup was not made: {error}"));
        admin.books.ledger().flush(FLUSH).map_err(|error| failed(error.to_string()))?;
        admin.books.ledger().backup(&path).map_err(|error| failed(error.to_string()))?;
        tracing::info!(to, actor = admin.actor(), "the ledger was backed up");
        let bytes = std::fs::metadata(&path).map_err(|error| failed(error.to_string()))?.len();
        Ok(BackupFile { to, bytes })
    });
    Ok(Json(bytes.await?))
}

/// A path at which a file can be made.
fn new_file(to: &str) -> Result<PathBuf, ApiError> {
    let wrong = |problem: &str, fix: &str| Err(ApiError::field("to", format!("`to`: {to:?} {problem}; {fix}")));
    let path = Path::new(to);
    if !path.is_absolute() || path.file_name().is_none() || to.contains('\0') {
        return wrong("is no absolute path of a file", "write e.g. /backups/books.db");
    }
    if !path.parent().is_some_and(Path::is_dir) {
        return wrong("is in no folder of the server's machine", "make the folder first");
    }
    // Links count, also those to nowhere.
    if path.symlink_metadata().is_ok() {
        return wrong("exists already", "move it away, or write another name");
    }
    Ok(path.to_owned())
}
