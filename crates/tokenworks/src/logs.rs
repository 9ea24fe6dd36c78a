//! Logs, written to standard error by a thread of their own.
//!
//! The engine's thread logs each request's usage, so a standard error that nobody reads must not stop it: lines wait in a
//! bounded buffer, and those that find it full are left out.

use std::io;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{LogSettings, Origin};
use crate::error::{Error, Result};

/// Commands other than `serve` stay quiet unless a level was asked for: their standard error belongs to the person.
const QUIET: &str = "warn";

/// Lines that may wait to be written.
const WAITING_LINES_MAX: usize = 8192;

/// Starts logging, coloured if the terminal takes it; lines still waiting are written when the guard is dropped.
///
/// # Errors
/// The filter is wrong, or logging was started already.
pub fn start(settings: &LogSettings, origin: Option<&Origin>, serving: bool, colour: bool) -> Result<WorkerGuard> {
    let asked = origin.is_some_and(|o| *o != Origin::Default);
    let level = if serving || asked { settings.level.as_str() } else { QUIET };
    let filter = EnvFilter::try_new(level).map_err(|e| {
        Error::usage("log.level is no filter").because(e).hint("for example: level = \"info\" under [log]")
    })?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES_MAX)
        .thread_name("logs")
        .finish(io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = if settings.json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(colour).try_init()
    };
    started.map_err(|e| Error::failure("cannot start the logs").because(e))?;
    Ok(guard)
}
