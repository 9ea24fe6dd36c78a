//! Who may call: Bearer keys, or without keys only programs of this machine, never a web page.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Uri, header, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use economics::books::Books;
use economics::directory::{Identity, Unidentified};
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use crate::ServerConfig;
use crate::app::{App, unix_ms};
use crate::body;
use crate::claim::CLAIM_PATH;
use crate::connection::check_head;
use crate::desk::Operator;
use crate::error::ApiError;
use crate::session::{SESSION_PATH, SessionId, Sessions, Shown};

/// What our keys begin with, those of customers and those of the configuration.
const KEY_MARKS: [&str; 2] = ["tw_", "tw-"];

/// What a request is let in by.
type Head<'a> = (&'a Method, &'a Uri, &'a HeaderMap);

/// Who calls; put into the request by [`check`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// Name of the key; `None` without keys.
    pub(crate) key: Option<String>,
    /// Highest priority of the caller's requests.
    pub(crate) max_priority: i32,
    /// Who pays, and what the caller may do; `None` without books.
    pub(crate) identity: Option<Arc<Identity>>,
    /// The console's session that speaks for the key, where one does.
    pub(crate) session: Option<SessionId>,
}

impl Caller {
    /// What tells the key from others; `None` without a key.
    pub(crate) fn key_id(&self) -> Option<&str> {
        match &self.identity {
            Some(identity) => identity.key.as_deref(),
            None => self.key.as_deref(),
        }
    }
}

impl From<Arc<Identity>> for Caller {
    fn from(identity: Arc<Identity>) -> Self {
        Self {
            key: identity.key_name.clone(),
            max_priority: identity.max_priority,
            identity: Some(identity),
            session: None,
        }
    }
}

/// Makes a new random key: `tw-` and 64 hexadecimal digits.
///
/// # Errors
/// When the operating system gives no random numbers.
pub fn generate_key() -> std::io::Result<String> {
    let mut bytes = [0_u8; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(std::io::Error::other)?;
    Ok(format!("tw-{}", hex(&bytes)))
}

/// The form a key is kept in: HMAC-SHA256 under this installation's secret, as 64 hexadecimal digits. A fast hash is
/// right because keys are long and random.
#[must_use]
pub fn hash_key(secret: &[u8], key: &str) -> String {
    hex(&digest(secret, key))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn digest(secret: &[u8], key: &str) -> [u8; 32] {
    // HMAC takes secrets of every length, so the fallback is never used; it keeps this function total.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return [0; 32] };
    mac.update(key.as_bytes());
    mac.finalize().into_bytes().into()
}

pub(crate) fn is_key_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

struct Key {
    name: String,
    hash: String,
    max_priority: i32,
}

/// The rule in force, made from the configuration.
pub(crate) struct Gate {
    keys: Vec<Key>,
    secret: Vec<u8>,
    /// Knows the keys, those of the configuration too; `None`: only these.
    books: Option<Arc<Books>>,
    cors_origins: Vec<String>,
    scheme: &'static str,
}

impl Gate {
    pub(crate) fn new(config: &ServerConfig, books: Option<Arc<Books>>) -> Self {
        let keys = config.keys.iter().map(|key| Key {
            name: key.name.clone(),
            hash: key.hash.to_ascii_lowercase(),
            max_priority: key.max_priority,
        });
        Self {
            keys: keys.collect(),
            secret: config.key_secret.clone(),
            books,
            cors_origins: config.cors_origins.clone(),
            scheme: if config.tls.is_some() { "https" } else { "http" },
        }
    }

    /// Who comes through the desk.
    fn operator(&self) -> Option<Caller> {
        let books = self.books.as_ref()?;
        Some(Arc::new(books.directory().operator()).into())
    }

    /// Whether callers of this machine need no key.
    pub(crate) fn keyless(&self) -> bool {
        self.keys.is_empty()
    }

    /// Decides about one request by its head.
    fn admit(&self, sessions: &Sessions, (method, uri, headers): Head<'_>) -> Result<Caller, ApiError> {
        // Probes know no key and learn nothing.
        if matches!(uri.path(), "/health" | "/ready") {
            return Ok(Caller::default());
        }
        // The token of the path is the key here, and a form sends it: only where no other key is configured.
        if self.keyless() && uri.path().starts_with(CLAIM_PATH) {
            self.check_local(uri, headers)?;
            return Ok(Caller::default());
        }
        let caller = match (self.find_session(sessions, (method, uri, headers))?, &self.books) {
            (Some(caller), _) => caller,
            (None, Some(books)) => self.find_customer(books, uri, headers)?,
            (None, None) if self.keyless() => {
                self.check_local(uri, headers)?;
                Caller::default()
            }
            (None, None) => self.find_key(presented(headers)?)?,
        };
        if *method == Method::POST && !is_json(headers) {
            return Err(ApiError::not_json());
        }
        Ok(caller)
    }

    /// By the console's cookie, where no key is shown.
    fn find_session(&self, sessions: &Sessions, (method, uri, headers): Head<'_>) -> Result<Option<Caller>, ApiError> {
        if headers.contains_key(header::AUTHORIZATION) {
            return Ok(None);
        }
        let caller = match sessions.find(self.books.as_ref(), unix_ms(), (method, headers))? {
            Shown::Nothing => return Ok(None),
            Shown::Going(caller) => caller,
            // Signing out takes the cookie away, whatever it still means.
            Shown::Ended if *method == Method::DELETE && uri.path() == SESSION_PATH => Caller::default(),
            // Whoever signed in is not served as somebody else unawares.
            Shown::Ended => return Err(ApiError::session_ended()),
        };
        if self.keyless() {
            self.check_local(uri, headers)?;
        }
        Ok(Some(caller))
    }

    /// By the books. Where no key is configured, callers on this machine that show none of ours belong to the house
    /// (OpenAI's clients always show some word).
    fn find_customer(&self, books: &Books, uri: &Uri, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let local = self.keyless();
        if local {
            self.check_local(uri, headers)?;
        }
        let house =
            || books.identify_house("").map(|house| Arc::new(house).into()).map_err(|error| unidentified(&error));
        let key = match presented(headers) {
            Ok(key) => key,
            Err(_none) if local => return house(),
            Err(error) => return Err(error),
        };
        match books.identify(key, "", unix_ms()) {
            Ok(identity) => Ok(Arc::new(identity).into()),
            Err(Unidentified::Unknown) if local && !KEY_MARKS.iter().any(|mark| key.starts_with(mark)) => house(),
            Err(error) => Err(unidentified(&error)),
        }
    }

    fn find_key(&self, key: &str) -> Result<Caller, ApiError> {
        let hash = hash_key(&self.secret, key);
        // All keys are compared, each in constant time, so that time tells nothing about them.
        let mut found = None;
        for known in &self.keys {
            let same: Choice = known.hash.as_bytes().ct_eq(hash.as_bytes());
            if bool::from(same) {
                found = Some(known);
            }
        }
        let known = found.ok_or_else(|| ApiError::unauthorized("this API key is not known here"))?;
        Ok(Caller { key: Some(known.name.clone()), max_priority: known.max_priority, ..Caller::default() })
    }

    /// Without keys: the name in the address must be this machine's (a page whose own name was pointed at 127.0.0.1
    /// sends its own), and a page of another origin gets nothing.
    fn check_local(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let foreign_host = || {
            ApiError::forbidden(
                "without API keys the Host must be 127.0.0.1, [::1] or localhost; use such an address or configure keys",
                "foreign_host",
            )
        };
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(foreign_host()) };
        let host = host.to_str().map_err(|_not_ascii| foreign_host())?;
        if !is_loopback_name(host) || uri.authority().is_some_and(|authority| !is_loopback_name(authority.as_str())) {
            return Err(foreign_host());
        }
        for origin in headers.get_all(header::ORIGIN) {
            let own = format!("{}://{host}", self.scheme);
            let allowed = origin.to_str().is_ok_and(|origin| {
                origin.eq_ignore_ascii_case(&own) || self.cors_origins.iter().any(|o| o.eq_ignore_ascii_case(origin))
            });
            if !allowed {
                return Err(ApiError::forbidden(
                    "web pages of another origin may not call this server; add theirs to server.cors_origins",
                    "foreign_origin",
                ));
            }
        }
        Ok(())
    }
}

/// 403 where the key is right and its owner is shut out, so that nobody looks for another key; 401 otherwise.
pub(crate) fn unidentified(error: &Unidentified) -> ApiError {
    match error {
        Unidentified::Suspended(_) => ApiError::forbidden(error.to_string(), "suspended"),
        _ => ApiError::unauthorized(error.to_string()),
    }
}

/// The key a client shows.
pub(crate) fn presented(headers: &HeaderMap) -> Result<&str, ApiError> {
    let missing = || ApiError::unauthorized("an API key is needed: send `Authorization: Bearer KEY`");
    let value = headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
    let text = value.to_str().map_err(|_not_ascii| missing())?;
    let (scheme, key) = text.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(key.trim()) } else { Err(missing()) }
}

/// Whether `host` or `host:port` names this machine by a loopback address or as `localhost`.
fn is_loopback_name(text: &str) -> bool {
    if text.contains('@') {
        return false;
    }
    let Ok(authority) = text.parse::<Authority>() else { return false };
    let host = authority.host();
    let port = authority.as_str().strip_prefix(host).unwrap_or_default();
    let is_port = |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok();
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
        return false;
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter().peekable();
    types.peek().is_some() && types.all(|value| value.to_str().is_ok_and(is_json_type))
}

/// Whether a `Content-Type` says JSON in UTF-8, which is the only encoding JSON has.
fn is_json_type(text: &str) -> bool {
    let mut parts = text.split(';').map(str::trim);
    parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
        && parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
            !name.trim().eq_ignore_ascii_case("charset") || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
}

/// Middleware: lets a request through with its [`Caller`], or answers why not.
pub(crate) async fn check(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let operator = request.extensions().get::<Operator>().is_some().then(|| app.gate.operator()).flatten();
    let admit = || operator.map_or_else(|| app.gate.admit(&app.sessions, (method, uri, headers)), Ok);
    match check_head(uri, headers).and_then(|()| admit()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => {
            body::discard(request, &app.limits);
            error.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names() {
        for good in ["localhost", "LocalHost:80", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:9", "127.9.9.9"] {
            assert!(is_loopback_name(good), "{good}");
        }
        for bad in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "localhost@evil.com",
            "evil@localhost",
            "0.0.0.0",
            "10.0.0.1",
            "[::2]",
            "::1 ",
            "127.0.0.1:8080,evil.com",
            "localhost:99999",
            "localhost:+80",
            "localhost:",
        ] {
            assert!(!is_loopback_name(bad), "{bad}");
        }
    }

    #[test]
    fn json_types() {
        let with = |values: &[&'static str]| {
            let values = values.iter().map(|v| (header::CONTENT_TYPE, v.parse().unwrap()));
            is_json(&values.collect())
        };
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
            assert!(with(&[good]), "{good}");
        }
        assert!(with(&["application/json", "application/json"]));
        for bad in ["text/plain", "application/json; charset=utf-16", "application/json, text/plain"] {
            assert!(!with(&[bad]) && !with(&["application/json", bad]), "{bad}");
        }
        assert!(!with(&[]));
    }

    #[test]
    fn hashes_depend_on_secret_and_key() {
        let hash = hash_key(b"secret", "key");
        assert!(is_key_hash(&hash));
        // RFC 4231, test case 2.
        assert_eq!(
            hash_key(b"Jefe", "what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_ne!(hash, hash_key(b"other", "key"));
        assert_ne!(hash, hash_key(b"secret", "kez"));
        let key = generate_key().unwrap();
        assert_ne!(key, generate_key().unwrap());
        assert_eq!(key.len(), 67);
    }
}
