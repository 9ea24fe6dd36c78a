//! Sessions of the console: a key is shown once and exchanged for a cookie that scripts cannot read.
//!
//! A session may do what its key may do, looked up again at each request, so that whatever ends the key or narrows it does
//! so at once. Kept in memory only, by hash: they end with the server. A cookie goes along whoever makes the browser ask, so
//! it counts only for requests that the browser says come from the console itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use economics::books::Books;
use economics::directory::key::KeyHash;
use economics::directory::record::Scope;
use economics::directory::{Identity, Unidentified};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};

use crate::auth::{Caller, hex, unidentified};
use crate::error::ApiError;

/// Where a session is begun, asked for and ended.
pub(crate) const SESSION_PATH: &str = "/v1/session";
/// How long a session lasts.
pub(crate) const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// Most sessions of one key; the oldest makes room.
const MAX_OF_A_KEY: usize = 16;
/// Most sessions of all keys; the oldest of those that do not administer the plant makes room.
const MAX: usize = 1024;

/// The name under which a session is kept: a hash of the cookie's token.
pub(crate) type SessionId = [u8; 32];

struct Session {
    caller: Caller,
    /// Of the key's text, where the books know it: another text is another sign-in.
    key_hash: Option<KeyHash>,
    begun: Instant,
}

/// Whom a request's cookie speaks for.
pub(crate) enum Shown {
    /// There is no cookie of ours.
    Nothing,
    /// The cookie is one of ours, or looks like it, and means nothing any more.
    Ended,
    /// The session goes on.
    Going(Caller),
}

/// All sessions of a server.
pub(crate) struct Sessions {
    open: Mutex<HashMap<SessionId, Session>>,
    cookie: String,
    tls: bool,
}

impl Sessions {
    /// For a server at `port`. Browsers give a cookie to every port of a name, so the port is a part of its name.
    pub(crate) fn new(port: u16, tls: bool) -> Self {
        // Browsers take `__Host-` from the name's own server only, and over TLS only.
        let cookie = if tls { format!("__Host-tokenworks-{port}") } else { format!("tokenworks-{port}") };
        Self { open: Mutex::default(), cookie, tls }
    }

    /// Begins a session for who showed the key `text`; gives the cookie to set. An earlier session that the same browser
    /// shows ends with it.
    pub(crate) fn begin(
        &self,
        caller: Caller,
        text: &str,
        books: Option<&Arc<Books>>,
        headers: &HeaderMap,
    ) -> Result<(SessionId, HeaderValue), ApiError> {
        let mut random = [0; 32];
        let no_random = |error| ApiError::internal(format!("no random numbers for a session: {error}"));
        OsRng.try_fill_bytes(&mut random).map_err(no_random)?;
        let (token, key_hash) = (hex(&random), books.map(|books| books.hash_key(text)));
        let id = id_of(&token);
        self.end_shown(headers);
        let mut open = self.lock();
        let now = Instant::now();
        open.retain(|_, session| now.duration_since(session.begun) < LIFETIME);
        let same_key = |session: &Session| session.caller.key_id() == caller.key_id();
        if open.values().filter(|session| same_key(session)).count() >= MAX_OF_A_KEY {
            end_oldest(&mut open, same_key);
        } else if open.len() >= MAX {
            let customers = open.values().any(|session| !is_plant(session));
            end_oldest(&mut open, |session| !customers || !is_plant(session));
        }
        open.insert(id, Session { caller, key_hash, begun: now });
        drop(open);
        let cookie = self.cookie_text(&token, LIFETIME.as_secs(), self.tls || origin_scheme(headers) == Some("https"));
        Ok((id, header_value(&cookie)?))
    }

    /// Who a request's cookie speaks for now.
    ///
    /// # Errors
    /// The cookie is right, and the request does not come from the console: whoever made it may not use the session.
    pub(crate) fn find(
        &self,
        books: Option<&Arc<Books>>,
        now_ms: i64,
        (method, headers): (&Method, &HeaderMap),
    ) -> Result<Shown, ApiError> {
        let Some(id) = self.shown(headers).map(id_of) else { return Ok(Shown::Nothing) };
        let Some(caller) = self.resolve(&id, books, now_ms)? else { return Ok(Shown::Ended) };
        self.check_origin(method, headers)?;
        Ok(Shown::Going(Caller { session: Some(id), ..caller }))
    }

    /// Who a session belongs to now; `None`: it has ended.
    ///
    /// # Errors
    /// The key's owner is suspended for now.
    pub(crate) fn resolve(
        &self,
        id: &SessionId,
        books: Option<&Arc<Books>>,
        now_ms: i64,
    ) -> Result<Option<Caller>, ApiError> {
        let (known, hash) = match self.lock().get(id) {
            Some(session) if session.begun.elapsed() < LIFETIME => (session.caller.clone(), session.key_hash),
            _ => return Ok(None),
        };
        let (Some(books), Some(identity)) = (books, &known.identity) else { return Ok(Some(known)) };
        match identify(books, identity, hash, now_ms) {
            Ok(identity) => Ok(Some(Arc::new(identity).into())),
            Err(error @ Unidentified::Suspended(_)) => Err(unidentified(&error)),
            Err(_) => {
                self.end(id);
                Ok(None)
            }
        }
    }

    /// Whether a request that acts by cookie comes from the console: browsers say so, and no page can make them lie.
    pub(crate) fn check_origin(&self, method: &Method, headers: &HeaderMap) -> Result<(), ApiError> {
        let foreign = |what: &str| {
            let message = format!("{what}; only the console of this server may use its session, programs send a key");
            Err(ApiError::forbidden(message, "foreign_origin"))
        };
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let safe = matches!(*method, Method::GET | Method::HEAD);
        match site {
            None | Some(b"same-origin") => {}
            // An address typed in, or a bookmark.
            Some(b"none") if safe => {}
            Some(_) => return foreign("the request comes from another site"),
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, None) if safe => Ok(()),
            (None, _) => foreign("the request names no Origin"),
            (Some(origin), None) if self.is_own(origin, headers) => Ok(()),
            _ => foreign("the request comes from another origin"),
        }
    }

    /// Whether an origin is the address that the request was sent to. Before a server without TLS there may be a proxy that
    /// has it.
    fn is_own(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        let Some((scheme, authority)) = origin.to_str().ok().and_then(|origin| origin.split_once("://")) else {
            return false;
        };
        let known = scheme == "https" || (scheme == "http" && !self.tls);
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let parsed = |text: &str| text.parse::<Authority>().ok();
        let host = host.to_str().ok().and_then(parsed);
        known && host.is_some() && host == parsed(authority)
    }

    /// Ends a session.
    pub(crate) fn end(&self, id: &SessionId) {
        self.lock().remove(id);
    }

    fn end_shown(&self, headers: &HeaderMap) {
        if let Some(token) = self.shown(headers) {
            self.end(&id_of(token));
        }
    }

    /// The cookie that takes the place of a session's.
    pub(crate) fn farewell(&self, headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
        header_value(&self.cookie_text("", 0, self.tls || origin_scheme(headers) == Some("https")))
    }

    fn cookie_text(&self, token: &str, seconds: u64, secure: bool) -> String {
        let secure = if secure { "; Secure" } else { "" };
        format!("{}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}", self.cookie)
    }

    fn shown<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.into_iter().find_map(|(name, token)| (name == self.cookie && token.len() == 64).then_some(token))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key's holder as the books say now. Of a key whose text was changed the old one ends at once, also where programs
/// may use it for a while longer.
fn identify(books: &Books, known: &Identity, hash: Option<KeyHash>, now_ms: i64) -> Result<Identity, Unidentified> {
    let directory = books.directory();
    if let (Some(key), Some(hash)) = (known.key.as_deref().and_then(|id| directory.key(id)), hash)
        && key.hash != hash
    {
        return Err(Unidentified::Expired(key.name.clone()));
    }
    directory.identify_again(known, "", now_ms)
}

fn id_of(token: &str) -> SessionId {
    Sha256::digest(token).into()
}

fn is_plant(session: &Session) -> bool {
    session.caller.identity.as_ref().is_none_or(|identity| identity.scopes.contains(&Scope::Plant))
}

fn end_oldest(open: &mut HashMap<SessionId, Session>, among: impl Fn(&Session) -> bool) {
    let candidates = open.iter().filter(|(_, session)| among(session));
    if let Some(id) = candidates.min_by_key(|(_, session)| session.begun).map(|(id, _)| *id) {
        open.remove(&id);
    }
}

fn origin_scheme(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ORIGIN)?.to_str().ok()?.split_once("://").map(|(scheme, _)| scheme)
}

fn header_value(text: &str) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(text).map_err(|error| ApiError::internal(format!("no cookie could be made: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn begin(sessions: &Sessions, key: &str) -> SessionId {
        let caller = Caller { key: Some(key.to_owned()), ..Caller::default() };
        sessions.begin(caller, key, None, &HeaderMap::new()).unwrap().0
    }

    fn lives(sessions: &Sessions, id: &SessionId) -> bool {
        sessions.resolve(id, None, 0).unwrap().is_some()
    }

    #[test]
    fn a_key_has_a_bounded_number_and_the_oldest_ends() {
        let sessions = Sessions::new(1, false);
        let other = begin(&sessions, "b");
        let ids: Vec<_> = (0..MAX_OF_A_KEY + 3).map(|_| begin(&sessions, "a")).collect();
        let alive: Vec<bool> = ids.iter().map(|id| lives(&sessions, id)).collect();
        assert_eq!(alive, [[false; 3].as_slice(), &[true; MAX_OF_A_KEY]].concat());
        assert!(lives(&sessions, &other));
    }

    #[test]
    fn all_keys_together_have_a_bounded_number() {
        let sessions = Sessions::new(1, false);
        for number in 0..MAX + 10 {
            begin(&sessions, &format!("k{number}"));
        }
        assert_eq!(sessions.lock().len(), MAX);
    }

    #[test]
    fn only_the_console_itself_may_use_a_session() {
        let (plain, tls) = (Sessions::new(8080, false), Sessions::new(8443, true));
        let host = ("host", "a.example:8080");
        let ok = |sessions: &Sessions, method: Method, pairs: &[(&'static str, &str)]| {
            sessions.check_origin(&method, &headers(pairs)).is_ok()
        };
        let own = ("origin", "http://a.example:8080");
        let same = ("sec-fetch-site", "same-origin");
        assert!(ok(&plain, Method::POST, &[host, own, same]) && ok(&plain, Method::POST, &[host, own]));
        assert!(ok(&plain, Method::POST, &[host, ("origin", "https://a.example:8080"), same]), "a proxy has the TLS");
        assert!(!ok(&tls, Method::POST, &[host, own, same]), "a page without TLS");
        assert!(ok(&plain, Method::GET, &[host]) && ok(&plain, Method::GET, &[host, ("sec-fetch-site", "none")]));
        for bad in [
            [host, same, ("x-none", "1")].as_slice(),
            &[host, own, ("sec-fetch-site", "same-site")],
            &[host, own, ("sec-fetch-site", "cross-site")],
            &[host, own, ("sec-fetch-site", "none")],
            &[host, ("origin", "null"), same],
            &[host, ("origin", "http://a.example:8081"), same],
            &[host, ("origin", "http://a.example"), same],
            &[host, ("origin", "http://a.example:8080.evil.example"), same],
            &[host, ("origin", "http://evil@a.example:8080"), same],
            &[host, own, own, same],
            &[host, host, own, same],
        ] {
            assert!(!ok(&plain, Method::POST, bad), "{bad:?}");
        }
        assert!(!ok(&plain, Method::GET, &[host, ("sec-fetch-site", "same-site")]));
        assert!(!ok(&plain, Method::GET, &[host, ("origin", "http://evil.example")]));
    }

    #[test]
    fn cookies_are_out_of_reach() {
        let begun = |sessions: &Sessions, pairs: &[(&'static str, &str)]| {
            let (_, cookie) = sessions.begin(Caller::default(), "k", None, &headers(pairs)).unwrap();
            cookie.to_str().unwrap().to_owned()
        };
        let plain = begun(&Sessions::new(8080, false), &[]);
        assert!(plain.starts_with("tokenworks-8080=") && plain.ends_with("; HttpOnly; SameSite=Strict; Max-Age=43200"));
        assert!(begun(&Sessions::new(80, false), &[("origin", "https://a.example")]).ends_with("; Secure"));
        let tls = begun(&Sessions::new(443, true), &[]);
        assert!(tls.starts_with("__Host-tokenworks-443=") && tls.ends_with("; Secure") && tls.contains("; Path=/;"));
    }
}
