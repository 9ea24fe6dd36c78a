//! Simulated data whose truth is known: how often intervals cover it, and how often an experiment without a difference raises
//! an alarm. The tests of this crate and `tokenworks-bench statistics` run the same code.

mod coverage;
mod looks;
mod shape;

pub use coverage::{Coverage, coverage, coverage_table};
pub use looks::{FalseAlarms, Trial, false_alarms, false_alarms_table};
pub use shape::Shape;
