//! The local line over the real engine and tokenizer. Only the model is replaced: by a runner whose next token is
//! written down beforehand.
#![expect(clippy::panic, clippy::unwrap_used, reason = "the plant is a part of the tests")]

mod answers;
mod books_away;
mod charged;
mod charges;
mod plant;
mod refusals;
mod stops;
mod usage;
