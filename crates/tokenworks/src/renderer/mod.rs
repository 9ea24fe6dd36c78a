//! Chat templates in a process of their own.
//!
//! A template comes with the model file and is a program: one line of it can ask for all memory or never end. So it is
//! compiled and rendered by a second process of this program, [`work`], which limits its own memory and is ended by
//! [`ProcessRenderer`] when it takes too long. The two speak in frames over the worker's standard input and output:
//! first the source, then one JSON request for each chat; each is answered by a JSON `Result<String, TemplateError>`.

mod frames;
mod limits;
mod process;
mod worker;

pub use process::ProcessRenderer;
pub use worker::work;

use std::time::Duration;

/// The hidden command that makes the program a worker.
pub const COMMAND: &str = "template-worker";

/// Memory that a worker may take beyond what it has at its start. The longest chats that a line takes (some megabytes)
/// need a tenth of it.
const MEMORY_BYTES: u64 = 256 << 20;
/// How long compiling a template, or rendering a chat, may take. Real ones take well under a millisecond.
const TIME: Duration = Duration::from_secs(2);

fn too_long() -> String {
    format!("it took longer than {} s", TIME.as_secs())
}
