//! Model files: every bound and limit is checked here, once.
#![forbid(unsafe_code)]
