//! The production line: token ids in, token ids out, one step at a time.
//!
//! A [`LocalEngine`] owns one thread. Requests reach it through a bounded inbox; each step it schedules columns over
//! the paged KV cache, runs them through a [`Runner`], samples, and pushes events. Nothing here knows text, HTTP,
//! async or money.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod calibration;
mod config;
mod cost;
mod draft;
mod duty;
mod inbox;
mod kv_cache;
mod local;
mod model_runner;
mod output;
mod runner;
mod sampler;
mod scheduler;
mod sequence;
mod simulated;
mod stats;
mod step;
mod turns;
mod work;

pub use calibration::{Calibration, CalibrationCell, Compared, StepLog, StepSample};
pub use config::{EngineConfig, StartError, context_within};
pub use duty::DutyLimit;
pub use local::LocalEngine;
pub use model_runner::ModelRunner;
pub use runner::{Runner, RunnerError, RunnerShape};
pub use simulated::{SimulatedConfig, SimulatedRunner};
