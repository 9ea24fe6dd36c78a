//! What the books' integers say, with their uncertainty: TFP, experiments, the index, comparison of periods, plans.
//!
//! Pure: plain data in, plain data out. No clock, no I/O, no HTTP, no other crate of the project; chance comes from seeds
//! that are arguments, so the same call gives the same figures. Floats are allowed here, and nowhere near the ledger:
//! nothing that this crate gives out is ever posted.
//!
//! [`simulation`] holds the proof: how often the intervals of [`ratio`] cover the truth, and how often [`experiment`]
//! raises a false alarm, over simulated data whose truth is known.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod compare;
mod distribution;
pub mod experiment;
pub mod index;
mod invalid;
pub mod plan;
mod random;
pub mod ratio;
pub mod retention;
pub mod simulation;

pub use invalid::Invalid;
