//! Tiny generated models and fixtures for tests.
//!
//! [`TinyModel`] writes a whole GGUF file (seeded weights, byte-level vocabulary, chat template) that everything from
//! the loader to the server can run on in milliseconds. Its answers mean nothing, but they depend on every token,
//! weight and position: logits spread over more than one unit and attention is far from uniform. `Cluster` is a PostgreSQL
//! server for one test.
#![forbid(unsafe_code)]

mod adapter;
#[cfg(unix)]
mod cluster;
mod folder;
mod quantize;
mod random;
mod tiny_model;
mod vocabulary;

pub use adapter::TinyAdapter;
#[cfg(unix)]
pub use cluster::Cluster;
pub use quantize::quantize;
pub use random::Random;
pub use tiny_model::{Architecture, RopeStretch, TinyExperts, TinyModel, TinyStateSpace};
pub use vocabulary::{CHAT_TEMPLATE, Special};
