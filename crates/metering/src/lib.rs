//! Quantities per request: usage records, their journal, roll-ups and their Prometheus text; the plant's energy. No money.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod energy;
mod histogram;
pub mod intervals;
mod journal;
mod meter;
mod objectives;
mod record;
mod render;

pub use histogram::Histogram;
pub use journal::{Journal, Page, PageId, Recovery, SEGMENT_BYTES, Unfinished, set_aside};
pub use meter::{ClassTime, Family, LineGauges, Meter, Rejection, Sample, Sums, totals_of};
pub use objectives::Objectives;
pub use record::{FinishReason, Outcome, UsageRecord};
pub use render::render_families;

/// The `Content-Type` of [`Meter::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
