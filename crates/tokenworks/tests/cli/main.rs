//! The program as a person meets it: exit codes, standard output, words of errors.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod adapters;
mod alerts;
mod books;
mod calibrate;
mod catalogue;
mod configuration;
mod draft_model;
mod files;
mod fleet;
#[cfg(unix)]
mod journal;
mod plan;
mod quantize;
mod serving;
mod state_space;
mod support;
mod templates;
mod tiny_model;
