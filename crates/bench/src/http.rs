//! A small HTTP/1.1 client: one connection for each request, closed at once when the response is dropped.

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Most bytes read of a reply that is not a stream.
const MAX_REPLY_BYTES: usize = 16 << 20;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The base URL cannot be used.
    #[error("--url {0}: must be http://HOST[:PORT][/PATH]")]
    Url(String),
    /// No connection.
    #[error("cannot connect to http://{0}: {1}")]
    Connect(String, std::io::Error),
    /// The exchange broke off.
    #[error("connection failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// The request could not be written down.
    #[error("bad request: {0}")]
    Build(#[from] hyper::http::Error),
    /// The reply was too large or broke off.
    #[error("reply: {0}")]
    Reply(Box<dyn std::error::Error + Send + Sync>),
}

/// Where the server is.
#[derive(Clone, Debug)]
pub struct Target {
    host: String,
    authority: String,
    port: u16,
    prefix: String,
    api_key: Option<String>,
}

/// A response whose connection ends with it.
#[derive(Debug)]
pub struct Response {
    /// Status.
    pub status: StatusCode,
    /// Seconds of `Retry-After`, if it says so.
    pub retry_after: Option<u64>,
    body: Incoming,
    connection: JoinHandle<()>,
}

impl Drop for Response {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Response {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The whole body, up to 16 MiB.
    ///
    /// # Errors
    /// When it is longer or breaks off.
    pub async fn text(&mut self) -> Result<String, HttpError> {
        let body = Limited::new(&mut self.body, MAX_REPLY_BYTES).collect().await.map_err(HttpError::Reply)?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    }
}

impl Target {
    /// Reads a base URL.
    ///
    /// # Errors
    /// When it is not an `http` URL with a host.
    pub fn parse(url: &str, api_key: Option<String>) -> Result<Self, HttpError> {
        let bad = || HttpError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_error| bad())?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() {
            return Err(bad());
        }
        let authority = uri.authority().ok_or_else(bad)?;
        Ok(Self {
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            authority: authority.as_str().to_owned(),
            port: authority.port_u16().unwrap_or(80),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            api_key,
        })
    }

    /// GETs a path below the base URL.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn get(&self, path: &str) -> Result<Response, HttpError> {
        self.send(Method::GET, path, String::new()).await
    }

    /// POSTs JSON to a path below the base URL.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn post(&self, path: &str, json: String) -> Result<Response, HttpError> {
        self.send(Method::POST, path, json).await
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Result<Response, HttpError> {
        let no_connection = |error| HttpError::Connect(self.authority.clone(), error);
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(no_connection)?;
        stream.set_nodelay(true).map_err(no_connection)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Aborted when dropped, so that a caller that stops waiting hangs up at once, even before the headers came.
        let connection = AbortOnDrop(Some(tokio::spawn(async move {
            let _ = connection.await;
        })));
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.api_key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let status = response.status();
        Ok(Response { status, retry_after, body: response.into_body(), connection: connection.keep()? })
    }
}

struct AbortOnDrop(Option<JoinHandle<()>>);

impl AbortOnDrop {
    fn keep(mut self) -> Result<JoinHandle<()>, HttpError> {
        self.0.take().ok_or_else(|| HttpError::Reply("the connection is gone".into()))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            handle.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls() {
        let target = Target::parse("http://127.0.0.1:8080/api/", None).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.prefix.as_str()), ("127.0.0.1", 8080, "/api"));
        let target = Target::parse("http://[::1]:9", None).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.authority.as_str()), ("::1", 9, "[::1]:9"));
        for bad in ["", "127.0.0.1:8080", "https://a", "http://", "http://a?x=1"] {
            assert!(Target::parse(bad, None).is_err(), "{bad}");
        }
    }
}
