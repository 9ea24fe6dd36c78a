//! The line as text: render, tokenize, submit, detokenize. No HTTP, no command line.
//!
//! A [`Generation`] goes into a [`Line`], a [`Reply`] of [`LineEvent`]s comes back. [`LocalLine`] joins a tokenizer and
//! an engine: it checks and tokenizes on the caller's side, settles usage where the engine's events arrive, and makes
//! text where the reply is read, so that the engine's thread does as little as possible. A [`ModelPool`] holds the lines of
//! a plant, and may load them when they are asked for.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod account;
mod assembly;
mod callers;
mod charging;
mod costing;
mod delivery;
mod error;
mod line;
mod local;
mod pieces;
mod plant_meter;
mod pool;
mod prompt;
mod reply;
mod stop;
mod tracer;
mod traffic;

pub use charging::{Charging, Waits, entry_id};
pub use costing::{Cap, Costing, CostingConfig, Reading};
pub use economics::Charge;
pub use error::{ErrorKind, LineError};
pub use line::{
    BoxFuture, Chances, Generation, Labels, Line, LineCalibration, LineEvent, LineStatus, Merges, Message, ModelCard,
    Payer, Prompt, SHARING_RULE, TokenBytes, TokenText,
};
pub use local::{LocalLine, LocalLineConfig};
pub use pool::{AdapterStatus, Behind, Fetching, FixedPool, Lease, ModelPool, ModelState, ModelStatus, PoolError};
pub use prompt::{MAX_BEST_CHANCES, MAX_STOP_BYTES, MAX_STOPS};
pub use reply::{EventSource, Reply, Withdrawal};
pub use tokenizer::{MergeOrder, MergeStep, MergedWord};
pub use traffic::{TrafficCount, TrafficEnd};

#[cfg(test)]
mod text_tests;
