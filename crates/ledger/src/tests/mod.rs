//! Tests of what is not visible from outside.

mod auditor;
mod book;
mod full;
mod migration;
mod shared;
mod simulation;
