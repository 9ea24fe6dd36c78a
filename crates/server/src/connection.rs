//! One connection: TLS, HTTP/1.1, and a limit on how long a write may make no headway.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::Service;

use crate::Limits;
use crate::crowd::Place;
use crate::error::ApiError;

/// For the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A request's head; more gets 431 with a body that says so.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// What the library reads of a head; it answers 431 itself, without a body, to heads beyond that or of over 100 headers.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// The other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Refuses heads that are too large.
pub(crate) fn check_head(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if fields + target > MAX_HEAD_BYTES { Err(ApiError::head_too_large(MAX_HEAD_BYTES)) } else { Ok(()) }
}

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) router: Router,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) limits: Limits,
    /// Turns true when connections should end after the request they are at.
    pub(crate) ending: watch::Receiver<bool>,
}

/// Serves one connection to its end.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, place: Place, plan: Plan) {
    // Frames of a stream are small and should leave at once.
    let _ = stream.set_nodelay(true);
    let stream = WriteLimit::new(stream, plan.limits.reader_idle);
    let place = Arc::new(place);
    let served = async {
        match plan.tls.clone() {
            None => http(stream, peer, &place, plan).await,
            Some(acceptor) => match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => http(stream, peer, &place, plan).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            },
        }
    };
    tokio::select! {
        () = served => {}
        () = place.overstayed() => tracing::debug!(%peer, "closed without a request: too many connections"),
    }
}

/// A request under way, until its answer's last byte was taken.
struct Busy(Arc<Place>);

impl Busy {
    fn new(place: &Arc<Place>) -> Self {
        place.set_busy(true);
        Self(Arc::clone(place))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set_busy(false);
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: SocketAddr,
    place: &Arc<Place>,
    mut plan: Plan,
) {
    let router = plan.router;
    let service = service_fn(move |request: Request<Incoming>| {
        let busy = Busy::new(place);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        let answer = router.clone().call(request);
        async move {
            let answer = answer.await?;
            Ok::<_, Infallible>(answer.map(|body| {
                body.map_frame(move |frame| {
                    // Held by the body, and so dropped with it.
                    let _held = &busy;
                    frame
                })
            }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(plan.limits.header_timeout)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut told = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                return;
            }
            _ = plan.ending.wait_for(|ending| *ending), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A stream whose writes fail when the other end takes nothing for so long.
struct WriteLimit {
    stream: TcpStream,
    idle: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl WriteLimit {
    fn new(stream: TcpStream, idle: Duration) -> Self {
        Self { stream, idle, waiting: None }
    }

    /// Passes a result on; one that is pending for too long becomes an error.
    fn limit<T>(&mut self, result: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.waiting = None;
            return result;
        }
        let idle = self.idle;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(idle)));
        ready!(waiting.as_mut().poll(cx));
        waiting.as_mut().reset(Instant::now() + idle);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes")))
    }
}

impl AsyncRead for WriteLimit {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for WriteLimit {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.limit(result, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TCP flushes at once; going through the limit would forget that a write waits.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.limit(result, cx)
    }
}
