//! The server over real sockets, with a scripted line behind it.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod admin;
mod alerts;
mod books;
mod budgets;
mod claim;
mod client;
mod conditions;
mod costs;
mod desk;
mod entries;
mod experiments;
mod fields;
mod history;
mod idempotency;
mod invoices;
mod life;
mod live;
mod local;
mod models;
mod next_token;
mod outcomes;
mod planning;
mod plant;
mod refusals;
mod replies;
mod requests;
mod session;
mod streams;
mod wire;
