//! Accounts, holds and postings: integers, append-only, double entry. No tokens, no floats, no clocks.
//!
//! A [`Batch`] of commands is applied all or none, in one order. Money (or pool tokens, or a budget) is first held
//! ([`Command::Hold`]), which never lets an account fall below its floor, and the hold ends exactly once: settled by a
//! posting whose legs sum to zero, voided or expired. Whatever changes accounts or documents leaves an [`Entry`] in a
//! chain of hashes; balances and roll-ups are folds of the entries, and [`Ledger::verify`] recomputes them.
//!
//! Embedded, decisions are made in memory under one mutex and written behind by one thread in groups; a caller that
//! needs to know that its batch is on the disk waits for its [`Receipt`]. Over PostgreSQL the same book decides on the
//! rows that a group of batches touches, in one transaction.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
// The tests' own sums need no such care; the same code is also checked without `cfg(test)`.
#![cfg_attr(not(test), deny(clippy::float_arithmetic, clippy::arithmetic_side_effects, clippy::as_conversions))]

mod audit;
mod book;
mod embedded;
mod error;
mod export;
mod group;
mod ledger;
mod mark;
mod pack;
mod patient;
mod postgres;
mod receipt;
mod shared;
mod sqlite;
mod store;
mod tally;
#[cfg(test)]
mod tests;
mod types;
mod verify;

pub use error::{NotDurable, OpenError, Refusal, Refused, StoreError};
pub use export::{Format, csv_text, each_entry, export};
pub use ledger::{Ledger, Options, StoreSpec, backup, restore};
pub use receipt::Receipt;
pub use tally::{Add, Summary, Sums, Tally};
pub use types::{
    AccountId, AccountKind, AccountSpec, Balance, Batch, Command, Document, Entry, EntryId, Hold, Leg, Outcome,
    Reserve, Unit, kind, limit,
};
pub use verify::{Fault, Report, verify};
