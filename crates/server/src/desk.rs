//! The operator's desk: administration without a key, for whoever may open the socket in the data folder (only its owner
//! can), or the folder's books while no server has them. The routes are those of `/admin/v1` in both cases.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, Request, Response, header};
use economics::books::Books;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metering::Meter;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::{Service, ServiceExt};

use crate::app::{App, router};
use crate::serve::Plant;
use crate::{Limits, ServerConfig};

/// Connections served at once; further ones wait.
const MAX_CONNECTIONS: usize = 16;
/// Longest path of a socket that every Unix takes.
const MAX_PATH: usize = 100;
/// How long the desk may take for an answer: the longest are waits for the disk.
const PATIENCE: Duration = Duration::from_secs(120);
/// Largest answer.
const MAX_ANSWER: usize = 64 << 20;

/// Marks a request that came through the desk; nothing from the network can carry it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operator;

/// A path short enough for a socket. The folder stays open as long as the path is in use.
struct Reach {
    path: PathBuf,
    _folder: Option<File>,
}

impl Reach {
    fn of(path: &Path) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a socket"));
        };
        if path.as_os_str().len() <= MAX_PATH {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let folder = File::open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }
}

/// The server's end; its socket goes when it is dropped.
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Takes the place of a socket that a dead server left. It appears under its name with its permissions.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let fresh = path.with_extension("new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&Reach::of(&fresh)?.path)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&fresh, path)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self, router: Router, limits: Limits) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            // Fails only when the semaphore is closed, which never happens.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (router, header_timeout) = (router.clone(), limits.header_timeout);
                    connections.spawn(async move {
                        converse(stream, router, header_timeout).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the desk could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Gone already, or the next server replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn converse(stream: UnixStream, router: Router, header_timeout: Duration) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Operator);
        let answer = router.clone().call(request);
        async move { answer.await.map_err(|never: Infallible| match never {}) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the desk ended");
    }
}

/// Why the desk gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The connection failed.
    #[error("the server could not be asked: {0}")]
    Io(#[from] io::Error),
    /// Not HTTP, or broken off.
    #[error("the server's answer broke off: {0}")]
    Http(#[from] hyper::Error),
    /// The answer is larger than commands take.
    #[error("the server's answer could not be read: {0}")]
    Body(String),
    /// The path or method cannot be asked for.
    #[error(transparent)]
    Request(#[from] axum::http::Error),
    /// No answer in time.
    #[error("the server gave no answer within {} s", PATIENCE.as_secs())]
    Timeout,
}

/// What the desk answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeskAnswer {
    /// Of HTTP.
    pub status: u16,
    /// The `ETag` of a record.
    pub etag: Option<String>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// The commands' end.
pub struct Desk(Place);

enum Place {
    /// The socket of a server.
    Socket(PathBuf),
    /// The books themselves.
    Books(Router),
}

impl Desk {
    /// The desk of the server that listens at `socket`; `None`: no server does.
    ///
    /// # Errors
    /// There is a socket, and this user may not open it.
    pub async fn find(socket: &Path) -> io::Result<Option<Self>> {
        let reach = match Reach::of(socket) {
            // No folder, no server.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            reach => reach?,
        };
        match UnixStream::connect(&reach.path).await {
            Ok(_) => Ok(Some(Self(Place::Socket(socket.to_owned())))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The desk of books that no server has; `seller` issues the invoices.
    #[must_use]
    pub fn of(books: Arc<Books>, seller: String) -> Self {
        let plant = Plant { books: Some(books), ..Plant::new(Vec::new(), Arc::new(Meter::new())) };
        let config = ServerConfig { seller, console: false, ..ServerConfig::default() };
        Self(Place::Books(router(App::new(&config, plant, None), &[])))
    }

    /// Asks for `path`, under a condition: the name of a header and its value.
    ///
    /// # Errors
    /// [`DeskError`] when there is no answer; an answer of refusal is none.
    pub async fn ask(
        &self,
        (method, path): (&str, &str),
        condition: Option<(&str, &str)>,
        body: Option<&[u8]>,
    ) -> Result<DeskAnswer, DeskError> {
        let method = Method::from_bytes(method.as_bytes()).map_err(axum::http::Error::from)?;
        let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let request = condition.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let request = request.body(Body::from(Bytes::copy_from_slice(body.unwrap_or_default())))?;
        timeout(PATIENCE, self.exchange(request)).await.map_err(|_elapsed| DeskError::Timeout)?
    }

    async fn exchange(&self, mut request: Request<Body>) -> Result<DeskAnswer, DeskError> {
        match &self.0 {
            Place::Socket(path) => {
                let stream = UnixStream::connect(&Reach::of(path)?.path).await?;
                let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                let driver = tokio::spawn(connection);
                let read = whole(sender.send_request(request).await?).await;
                driver.abort();
                read
            }
            Place::Books(router) => {
                request.extensions_mut().insert(Operator);
                match router.clone().oneshot(request).await {
                    Ok(answer) => whole(answer).await,
                    Err(never) => match never {},
                }
            }
        }
    }
}

async fn whole<B>(answer: Response<B>) -> Result<DeskAnswer, DeskError>
where
    B: hyper::body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = answer.into_parts();
    let etag = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| DeskError::Body(error.to_string()))?;
    Ok(DeskAnswer { status: head.status.as_u16(), etag, body: body.to_bytes().to_vec() })
}
