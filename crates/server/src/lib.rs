//! HTTP: authentication, routes and streaming over the trait `Line`.
//!
//! The only crate that knows the HTTP framework; it never sees an engine. Wire types (`protocol`) become domain types
//! here, by hand, in [`mod@request`](crate). Every queue and every wait has a limit in [`ServerConfig`].

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod access;
mod app;
mod auth;
mod body;
mod claim;
pub mod comparison;
mod config;
mod connection;
mod console;
mod crowd;
mod desk;
mod error;
mod fields;
mod idempotency;
mod live;
mod openapi;
pub mod pdf;
pub mod plan;
mod query;
mod request;
mod routes;
mod segments;
mod serve;
mod session;
mod sse;
mod tls;
mod usage;

pub use auth::{generate_key, hash_key};
pub use config::{ConfigError, KeyConfig, Limits, ServerConfig, TlsFiles};
pub use console::is_built as has_console;
pub use desk::{Desk, DeskAnswer, DeskError};
pub use openapi::openapi_json;
pub use serve::{Plant, Server, ServerError};
