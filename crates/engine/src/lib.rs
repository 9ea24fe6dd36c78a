//! The production line: token ids in, token ids out, one step at a time.
#![forbid(unsafe_code)]
