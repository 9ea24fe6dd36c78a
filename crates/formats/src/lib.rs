//! Model files: every bound and limit is checked here, once.
//!
//! What leaves this crate is consistent: names are unique, counts are real, and every tensor lies inside the file. Memory
//! taken while a header is read is bounded by the size of the file, whatever the file claims.
#![forbid(unsafe_code)]

mod error;
pub mod gguf;

pub use error::FormatError;
