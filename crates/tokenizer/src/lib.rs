//! Text to token ids and back, chat templates, and decoding a stream safely.
#![forbid(unsafe_code)]
