//! What the plant did minute by minute, for 90 days: one SQLite file. No books; what is in it is for looking at only.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod history;
mod packed;
mod rollup;
mod store;

pub use history::{History, HistoryError};
pub use rollup::{Metered, Rollup};

/// How long a minute is kept, in days.
pub const KEPT_DAYS: u32 = 90;
