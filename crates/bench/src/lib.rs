//! Load generator and benchmarks of the whole plant.
#![forbid(unsafe_code)]
