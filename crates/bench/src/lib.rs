//! Load generator and benchmarks of the whole plant, seen from outside: it speaks only HTTP, so the same program
//! measures any server with the OpenAI API.
//!
//! `tokenworks-bench serve-load` drives many streaming clients, checks that every outcome is a legal one, and reports
//! latency percentiles, throughput and goodput. The line is: [`args`] -> [`plan`] (seeded, so a run can be repeated)
//! -> [`load`] (clients over [`http`] and [`sse`]) -> [`settle`] (nothing leaked) -> [`report`].
//!
//! `tokenworks-bench compare` measures tokenworks and llama.cpp side by side: [`compare`]; `tokenworks-bench speculation`
//! measures tokenworks with and without guesses: [`speculation`]. `tokenworks-bench statistics` needs no server: it prints what
//! [`analysis::simulation`] finds.

#![forbid(unsafe_code)]

pub mod args;
pub mod compare;
pub mod http;
pub mod load;
mod machine;
pub mod memory;
pub mod plan;
mod process;
pub mod report;
pub mod request;
pub mod settle;
pub mod speculation;
pub mod sse;
