//! The line as text: render, tokenize, submit, detokenize. No HTTP, no command line.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod error;
mod line;
mod reply;

pub use error::{ErrorKind, LineError};
pub use line::{BoxFuture, Generation, Labels, Line, LineEvent, LineStatus, Message, ModelCard, Prompt, TokenText};
pub use reply::{EventSource, Reply};
