//! The last requests as they went: figures, times, and prompts and answers where their project keeps them.
//!
//! One SQLite file, written by one thread from a bounded queue: a request never waits for it. It is no part of the books;
//! whoever deletes it loses nothing that is owed.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod filter;
mod packed;
mod store;
mod trace;
mod traces;

pub use filter::{Filter, Page};
pub use store::Listed;
pub use trace::{Content, Excerpt, Kept, MAX_TEXT_BYTES, Owner, Trace, Whole};
pub use traces::{ContentDays, Deletion, Settings, Traces, TracesError};
