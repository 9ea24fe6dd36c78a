//! Settings of the server, checked once before it starts.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::is_key_hash;

/// Longest name of the seller.
const SELLER_BYTES: usize = 200;

/// What the server needs to know. Defaults: 127.0.0.1:8080 without keys, TLS or CORS.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Name or address to listen on.
    pub host: String,
    /// Port; 0 = any free one.
    pub port: u16,
    /// Keys that may call. Empty is allowed on loopback addresses only.
    pub keys: Vec<KeyConfig>,
    /// This installation's secret for [`hash_key`](crate::hash_key); at least 16 bytes when there are keys.
    pub key_secret: Vec<u8>,
    /// Certificate and key; `None` = plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Origins whose web pages may call, e.g. `https://app.example.com`.
    pub cors_origins: Vec<String>,
    /// Socket of the operator's desk (only with books): whoever may open it administers the plant without a key.
    pub desk: Option<PathBuf>,
    /// Who is paid, on invoices.
    pub seller: String,
    /// Whether the console is served at `/`.
    pub console: bool,
    /// Bounds.
    pub limits: Limits,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            keys: Vec::new(),
            key_secret: Vec::new(),
            tls: None,
            cors_origins: Vec::new(),
            desk: None,
            seller: "Tokenworks plant".to_owned(),
            console: true,
            limits: Limits::default(),
        }
    }
}

/// One key; only its hash is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    /// Name in logs and usage records; unique.
    pub name: String,
    /// Result of [`hash_key`](crate::hash_key): 64 hexadecimal digits.
    pub hash: String,
    /// Requests of this key with a higher `priority` run at this one.
    pub max_priority: i32,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
}

/// Bounds of every queue and wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections held at once, half of them by one peer; further ones are closed with a 503. While more than half are
    /// taken, those without a request for 2 s are closed.
    pub max_connections: usize,
    /// Requests for work (completions, tokens) at once; further ones get 503.
    pub max_requests: u32,
    /// Bytes of one request body; more gets 413.
    pub max_body_bytes: usize,
    /// Bytes of all request bodies held at once; more gets 503.
    pub max_bodies_bytes: usize,
    /// Choices of one request, all prompts together.
    pub max_choices: u32,
    /// For a request's head to arrive, also on an idle connection.
    pub header_timeout: Duration,
    /// For a request's body to arrive.
    pub body_timeout: Duration,
    /// A client that takes no bytes for so long is cut off and its work cancelled (`reader_idle_s`).
    pub reader_idle: Duration,
    /// For requests under way, after the shutdown signal.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_requests: 512,
            max_body_bytes: 8 << 20,
            max_bodies_bytes: 64 << 20,
            max_choices: 128,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            reader_idle: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// A setting that cannot work; the message names it and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No keys, and reachable from elsewhere.
    #[error(
        "{address} can be reached from other machines, which needs API keys: add a [[server.keys]] entry, or listen on 127.0.0.1"
    )]
    KeysNeeded {
        /// The address.
        address: IpAddr,
    },
    /// A field holds what it may not.
    #[error("{field}: {message}")]
    Invalid {
        /// The setting.
        field: String,
        /// What is wrong, and the fix.
        message: String,
    },
}

impl ServerConfig {
    /// Checks everything that can be checked without the network and the file system.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let invalid = |field: String, message: &str| Err(ConfigError::Invalid { field, message: message.to_owned() });
        if self.host.is_empty() {
            return invalid("server.host".into(), "is empty; use 127.0.0.1 for this machine only");
        }
        if let Ok(address) = self.host.parse::<IpAddr>() {
            self.check_address(address)?;
        }
        if !self.keys.is_empty() && self.key_secret.len() < 16 {
            return invalid("server.key_secret".into(), "must hold at least 16 bytes when there are keys");
        }
        for (i, key) in self.keys.iter().enumerate() {
            if key.name.trim().is_empty() {
                return invalid(format!("server.keys[{i}].name"), "is empty; give the key a name for logs");
            }
            if self.keys.iter().take(i).any(|other| other.name == key.name) {
                return invalid(format!("server.keys[{i}].name"), "is used by another key as well; names are unique");
            }
            if !is_key_hash(&key.hash) {
                return invalid(
                    format!("server.keys[{i}].hash"),
                    "is no key hash (64 hexadecimal digits); make one from the key, never store the key itself",
                );
            }
        }
        for (i, origin) in self.cors_origins.iter().enumerate() {
            if !is_origin(origin) {
                return invalid(
                    format!("server.cors_origins[{i}]"),
                    "is no origin; write scheme://host or scheme://host:port without a path, e.g. https://app.example.com",
                );
            }
        }
        let wrong = |c: char| c.is_control();
        if self.seller.trim().is_empty() || self.seller.len() > SELLER_BYTES || self.seller.contains(wrong) {
            return invalid("books.seller".into(), "is empty, longer than 200 bytes or not one line; write a name");
        }
        self.limits.check()
    }

    /// Refuses addresses reachable from elsewhere when there are no keys.
    pub(crate) fn check_address(&self, address: IpAddr) -> Result<(), ConfigError> {
        if self.keys.is_empty() && !address.to_canonical().is_loopback() {
            return Err(ConfigError::KeysNeeded { address });
        }
        Ok(())
    }

    /// Checks every address the host name stands for.
    pub(crate) fn check_addresses(&self, addresses: &[SocketAddr]) -> Result<(), ConfigError> {
        addresses.iter().try_for_each(|address| self.check_address(address.ip()))
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        let zero = |field: &str| {
            Err(ConfigError::Invalid { field: format!("server.{field}"), message: "must be above 0".to_owned() })
        };
        if self.max_connections == 0 {
            return zero("max_connections");
        }
        if self.max_requests == 0 {
            return zero("max_requests");
        }
        if self.max_body_bytes == 0 {
            return zero("max_body_bytes");
        }
        if self.max_bodies_bytes < self.max_body_bytes {
            return Err(ConfigError::Invalid {
                field: "server.max_bodies_bytes".to_owned(),
                message: "must be at least max_body_bytes".to_owned(),
            });
        }
        if self.max_choices == 0 {
            return zero("max_choices");
        }
        if self.header_timeout.is_zero() {
            return zero("header_timeout_s");
        }
        if self.body_timeout.is_zero() {
            return zero("body_timeout_s");
        }
        if self.reader_idle.is_zero() {
            return zero("reader_idle_s");
        }
        Ok(())
    }
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    matches!(scheme, "http" | "https")
        && !host.is_empty()
        && !host.contains(|c: char| c == '/' || c == '*' || c == '@' || !c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_key(host: &str) -> ServerConfig {
        let secret = b"0123456789abcdef".to_vec();
        let hash = crate::hash_key(&secret, "tw-test");
        ServerConfig {
            host: host.into(),
            keys: vec![KeyConfig { name: "test".into(), hash, max_priority: 0 }],
            key_secret: secret,
            ..ServerConfig::default()
        }
    }

    #[test]
    fn only_loopback_goes_without_keys() {
        for host in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1", "localhost"] {
            ServerConfig { host: host.into(), ..ServerConfig::default() }.check().unwrap();
        }
        for host in ["0.0.0.0", "::", "192.168.1.5", "::ffff:10.0.0.1"] {
            let error = ServerConfig { host: host.into(), ..ServerConfig::default() }.check().unwrap_err();
            assert!(error.to_string().contains("server.keys"), "{error}");
            with_key(host).check().unwrap();
        }
    }

    #[test]
    fn every_error_names_the_setting() {
        let check = |change: &dyn Fn(&mut ServerConfig), field: &str| {
            let mut config = with_key("127.0.0.1");
            change(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        };
        check(&|c| c.host.clear(), "server.host");
        check(&|c| c.key_secret.truncate(3), "server.key_secret");
        check(&|c| c.keys[0].name = " ".into(), "server.keys[0].name");
        check(&|c| c.keys.push(c.keys[0].clone()), "server.keys[1].name");
        check(&|c| c.keys[0].hash = "tw-the-key-itself".into(), "server.keys[0].hash");
        check(&|c| c.cors_origins = vec!["*".into()], "server.cors_origins[0]");
        check(&|c| c.cors_origins = vec!["https://a.b/".into()], "server.cors_origins[0]");
        check(&|c| c.seller = " ".into(), "books.seller");
        check(&|c| c.seller = "a\nb".into(), "books.seller");
        check(&|c| c.limits.max_requests = 0, "server.max_requests");
        check(&|c| c.limits.max_bodies_bytes = 1, "server.max_bodies_bytes");
        check(&|c| c.limits.reader_idle = Duration::ZERO, "server.reader_idle_s");
    }
}
