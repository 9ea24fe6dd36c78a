//! Forward passes of tiny generated models: the same bits however computed, the same numbers as a plain reference, and
//! clear refusals.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod adapters;
mod fixture;
mod folders;
mod invariance;
mod llama_cpp;
mod plain;
mod reference;
mod refusals;
mod state_space;
