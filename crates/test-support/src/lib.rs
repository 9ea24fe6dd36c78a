//! Tiny generated models and fixtures for tests.
#![forbid(unsafe_code)]
