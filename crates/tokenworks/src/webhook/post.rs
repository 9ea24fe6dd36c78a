//! One signed POST: where it may go, and what came back.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use super::secret::Secret;

/// For a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// For the whole exchange.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// The longest pause that a receiver may ask for.
const RETRY_AFTER_MAX_S: u64 = 6 * 3600;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Taken, with this status.
    Taken(u16),
    /// The receiver wants no more events.
    Gone,
    /// Not taken, for this reason; the receiver may say when to come again.
    Failed(String, Option<Duration>),
}

/// The way to the receiver.
pub(super) struct Post {
    agent: ureq::Agent,
    url: String,
    host: String,
    secret: Secret,
}

/// Whether events may be sent to this URL; gives its host.
///
/// # Errors
/// What is wrong with it.
pub fn check_url(url: &str) -> Result<String, String> {
    let parsed = ureq::post(url).request_url().map_err(|_unreadable| "it is no URL".to_owned())?;
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match parsed.scheme() {
        _ if !parsed.as_url().username().is_empty() || parsed.as_url().password().is_some() => {
            Err("a name or password before @ would be shown in logs; the signature says who sends".to_owned())
        }
        _ if parsed.as_url().fragment().is_some() => Err("what follows # is never sent".to_owned()),
        "https" => Ok(host),
        "http" if loopback => Ok(host),
        "http" => {
            Err("over http everybody on the way reads who spent what; only loopback may be without TLS".to_owned())
        }
        other => Err(format!("{other} is neither https nor http")),
    }
}

impl Post {
    /// To a checked URL.
    pub(super) fn new(url: &str, secret: Secret) -> Self {
        let agent = ureq::AgentBuilder::new()
            .timeout_connect(CONNECT_LIMIT)
            .timeout(ANSWER_LIMIT)
            .redirects(0)
            .max_idle_connections(0)
            .user_agent(concat!("tokenworks/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent, url: url.to_owned(), host: check_url(url).unwrap_or_default(), secret }
    }

    /// For logs: the rest of the URL may hold a secret of the receiver's.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Sends and waits for the answer's head.
    pub(super) fn send(&self, id: &str, body: &str, now_ms: i64) -> Answer {
        let timestamp = now_ms.div_euclid(1000);
        let request = self
            .agent
            .post(&self.url)
            .set("content-type", "application/json")
            .set("webhook-id", id)
            .set("webhook-timestamp", &timestamp.to_string())
            .set("webhook-signature", &self.secret.sign(id, timestamp, body));
        match request.send_bytes(body.as_bytes()) {
            Ok(response) | Err(ureq::Error::Status(_, response)) => judge(&response),
            // Its own text repeats the URL.
            Err(ureq::Error::Transport(error)) => {
                let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                Answer::Failed(format!("{}{cause}", error.kind()), None)
            }
        }
    }
}

fn judge(response: &ureq::Response) -> Answer {
    match response.status() {
        status @ 200..=299 => Answer::Taken(status),
        410 => Answer::Gone,
        status => {
            let seconds = response.header("retry-after").and_then(|text| text.trim().parse::<u64>().ok());
            let pause = seconds.map(|seconds| Duration::from_secs(seconds.min(RETRY_AFTER_MAX_S)));
            Answer::Failed(format!("it answered {status}"), pause)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_urls_are_taken() {
        for good in [
            "https://hooks.example.com/tokenworks?team=1",
            "http://127.0.0.1:9000/",
            "http://127.8.8.8",
            "http://localhost:9000/a",
            "http://[::1]:9000/a",
        ] {
            check_url(good).unwrap();
        }
        for (bad, part) in [
            ("hooks.example.com", "no URL"),
            ("", "no URL"),
            ("http://", "no URL"),
            ("https://ex ample.com", "no URL"),
            ("ftp://example.com", "neither"),
            ("http://example.com/a", "loopback"),
            ("http://10.0.0.1/a", "loopback"),
            ("http://localhost.example.com/a", "loopback"),
            ("https://me:word@example.com", "before @"),
            ("http://127.0.0.1@example.com/", "before @"),
            ("https://example.com/#a", "#"),
        ] {
            let error = check_url(bad).unwrap_err();
            assert!(error.contains(part), "{bad}: {error}");
        }
    }
}
