//! The server's life: bind, accept, drain, end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use economics::books::Books;
use history::History;
use metering::Meter;
use service::{Charging, FixedPool, Line, ModelPool};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;
use traces::Traces;

use crate::app::{App, router, unix_ms};
use crate::claim::CLAIM_PATH;
use crate::connection::{self, Plan};
use crate::crowd::Crowd;
use crate::desk;
use crate::idempotency::Answers;
use crate::live::minutes::Minutes;
use crate::{ConfigError, ServerConfig, routes, tls};

/// For connections to send what is written and close, after the last request has ended.
const CLOSING_TIME: Duration = Duration::from_secs(2);
/// The whole answer to a connection too many.
const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
Retry-After: 1\r\nConnection: close\r\nContent-Length: 117\r\n\r\n\
{\"error\":{\"message\":\"too many connections; try again\",\"type\":\"service_unavailable\",\"param\":null,\"code\":\"overloaded\"}}";

/// How often it is told that connections were turned away.
const TURNED_AWAY_EVERY: Duration = Duration::from_secs(10);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificate files cannot be used; the message names the file.
    #[error("server.tls: {0}")]
    Tls(String),
    /// The host name stands for no address.
    #[error("server.host: `{host}` stands for no address: {source}")]
    Host {
        /// The name.
        host: String,
        /// What the system says.
        source: io::Error,
    },
    /// Another program has the port.
    #[error("port {} is in use by another program; stop it, or choose another port with --port", address.port())]
    PortInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The socket for the operator's commands cannot be made.
    #[error("cannot listen on {}: {source}", path.display())]
    Desk {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file of the answers kept by `Idempotency-Key` cannot be used.
    #[error("cannot keep answers in {}: {message}", path.display())]
    Answers {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// What is served.
pub struct Plant {
    /// The models.
    pub pool: Arc<dyn ModelPool>,
    /// Counts what they do.
    pub meter: Arc<Meter>,
    /// Know the customers and are charged; `None`: the keys of the configuration, and nothing is charged.
    pub books: Option<Arc<Books>>,
    /// Keeps what the plant uses and costs; `None`: nobody does.
    pub charging: Option<Arc<Charging>>,
    /// The file of the answers kept by `Idempotency-Key`; `None`: in memory, for as long as the server lives.
    pub answers: Option<PathBuf>,
    /// Keep the last requests; `None`: nobody does.
    pub traces: Option<Arc<Traces>>,
    /// Keeps what the plant did minute by minute; `None`: nobody does.
    pub history: Option<Arc<History>>,
}

impl Plant {
    /// These lines for good, without books, and with nothing kept beyond the server's life.
    #[must_use]
    pub fn new(lines: Vec<Arc<dyn Line>>, meter: Arc<Meter>) -> Self {
        Self {
            pool: Arc::new(FixedPool::new(lines)),
            meter,
            books: None,
            charging: None,
            answers: None,
            traces: None,
            history: None,
        }
    }
}

/// A server that listens and is ready to [`run`](Self::run).
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    desk: Option<desk::Listener>,
    app: Arc<App>,
    cors_origins: Vec<String>,
}

impl Server {
    /// Checks the settings, reads the certificates and takes the port. Clients can connect from here on; they are
    /// answered by [`run`](Self::run).
    ///
    /// # Errors
    /// [`ServerError`] names the setting or the file, and the fix.
    pub async fn bind(config: &ServerConfig, plant: Plant) -> Result<Self, ServerError> {
        config.check()?;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose().map_err(|e| ServerError::Tls(e.to_string()))?;
        let host = config.host.as_str();
        let no_address = |source| ServerError::Host { host: host.to_owned(), source };
        let addresses: Vec<_> = lookup_host((host, config.port)).await.map_err(no_address)?.collect();
        config.check_addresses(&addresses)?;
        let (listener, address) = listen(&addresses).await.map_err(|error| match error {
            Some((address, source)) if source.kind() == io::ErrorKind::AddrInUse => {
                tracing::debug!(%address, %source, "bind");
                ServerError::PortInUse { address }
            }
            Some((address, source)) => ServerError::Bind { address, source },
            None => no_address(io::ErrorKind::NotFound.into()),
        })?;
        let path = config.desk.as_ref().filter(|_| plant.books.is_some());
        let desk = path.map(|path| desk::Listener::open(path).map_err(|e| desk_error(path, e))).transpose()?;
        let answers = Answers::open(plant.answers.clone(), plant.books.clone()).await.map_err(|error| {
            let path = plant.answers.clone().unwrap_or_default();
            ServerError::Answers { path, message: error.to_string() }
        })?;
        let config = ServerConfig { port: address.port(), ..config.clone() };
        let app = App::new(&config, plant, Some(answers));
        Ok(Self { listener, address, tls, desk, app, cors_origins: config.cors_origins })
    }

    /// The address taken, with the real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The URL clients on this machine can use.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// A fresh link at which this machine can make the first admin key, once, while this server runs. `None` where keys
    /// are configured, some key administers the plant already, or there are no books.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn claim_link(&self) -> io::Result<Option<String>> {
        let has_key = |books: &Arc<Books>| books.directory().has_plant_key(unix_ms());
        if !self.app.gate.keyless() || self.app.books.as_ref().is_none_or(has_key) {
            return Ok(None);
        }
        Ok(Some(format!("{}{CLAIM_PATH}{}", self.url(), self.app.claim.open()?)))
    }

    /// Serves until `shutdown` completes, then drains: new work gets 503 (and `/ready` says so), requests under way
    /// have the drain timeout to end, then what is left is cut off.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) {
        let limits = self.app.limits.clone();
        let router = router(Arc::clone(&self.app), &self.cors_origins);
        // Ends with this future.
        let mut desk = JoinSet::new();
        if let Some(listener) = self.desk.take() {
            desk.spawn(listener.serve(router.clone(), limits.clone()));
        }
        let mut allocation = JoinSet::new();
        allocation.spawn(routes::experiments::keep_allocating(Arc::clone(&self.app)));
        let minutes = Minutes::start(&self.app);
        let crowd = Crowd::new(limits.max_connections);
        let plan = Plan { router, tls: self.tls.clone(), limits: limits.clone(), ending: self.app.ending.subscribe() };
        let mut connections = JoinSet::new();
        self.accept_until(shutdown, (&plan, &crowd), &mut connections).await;
        self.app.close();
        let under_way = self.app.under_way();
        tracing::info!(under_way, seconds = limits.drain_timeout.as_secs_f64(), "draining");
        // Connections are still taken meanwhile, so that clients and probes hear 503 instead of a refused connection.
        let deadline = Instant::now() + limits.drain_timeout;
        let drained = async {
            let _ = timeout_at(deadline, self.app.idle()).await;
        };
        self.accept_until(drained, (&plan, &crowd), &mut connections).await;
        drop(self.listener);
        self.app.ending.send_replace(true);
        let closing = async { while connections.join_next().await.is_some() {} };
        if timeout_at(Instant::now() + CLOSING_TIME, closing).await.is_err() {
            let cut_off = self.app.under_way();
            tracing::warn!(cut_off, "connections did not end in time and are closed");
            connections.shutdown().await;
        }
        if let Some(minutes) = minutes {
            minutes.end().await;
        }
    }

    async fn accept_until(
        &self,
        until: impl Future<Output = ()> + Send,
        (plan, crowd): (&Plan, &Arc<Crowd>),
        connections: &mut JoinSet<()>,
    ) {
        tokio::pin!(until);
        let mut turned_away = TurnedAway::default();
        loop {
            tokio::select! {
                () = until.as_mut() => return,
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => match crowd.enter(peer.ip()) {
                        Some(place) => drop(connections.spawn(connection::serve(stream, peer, place, plan.clone()))),
                        None => self.turn_away(&stream, &mut turned_away),
                    },
                    Err(error) => {
                        // Out of files, or a client that was gone before it was accepted.
                        tracing::warn!(%error, "a connection could not be accepted");
                        sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
    }

    fn turn_away(&self, stream: &TcpStream, turned_away: &mut TurnedAway) {
        turned_away.count();
        if self.tls.is_none() {
            // A fresh socket has room for this; if not, it is only closed.
            let _ = stream.try_write(TOO_MANY_CONNECTIONS);
        }
    }
}

/// Connections that found no place, told of once in a while: a crowd must not fill the log.
#[derive(Default)]
struct TurnedAway {
    count: u64,
    told: Option<Instant>,
}

impl TurnedAway {
    fn count(&mut self) {
        self.count += 1;
        if self.told.is_none_or(|told| told.elapsed() >= TURNED_AWAY_EVERY) {
            tracing::warn!(connections = self.count, "too many connections: some were turned away");
            *self = Self { count: 0, told: Some(Instant::now()) };
        }
    }
}

fn desk_error(path: &Path, source: io::Error) -> ServerError {
    ServerError::Desk { path: path.to_owned(), source }
}

/// Takes the first address that can be had, or says why the last one could not.
async fn listen(addresses: &[SocketAddr]) -> Result<(TcpListener, SocketAddr), Option<(SocketAddr, io::Error)>> {
    let mut failure = None;
    for address in addresses {
        match TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((bound, listener)) => return Ok((listener, bound)),
            Err(error) => failure = Some((*address, error)),
        }
    }
    Err(failure)
}
