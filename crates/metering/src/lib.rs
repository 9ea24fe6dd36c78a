//! Quantities per request: usage records, roll-ups and their Prometheus text. No money.
#![forbid(unsafe_code)]
