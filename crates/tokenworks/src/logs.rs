//! Logs, written to standard error.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::{LogSettings, Origin};
use crate::error::{Error, Result};

/// Commands other than `serve` stay quiet unless a level was asked for: their standard error belongs to the person.
const QUIET: &str = "warn";

/// Starts logging.
///
/// # Errors
/// The filter is wrong, or logging was started already.
pub fn start(settings: &LogSettings, origin: Option<&Origin>, serving: bool) -> Result<()> {
    let asked = origin.is_some_and(|o| *o != Origin::Default);
    let level = if serving || asked { settings.level.as_str() } else { QUIET };
    let filter = EnvFilter::try_new(level).map_err(|e| Error::usage("log.level is no filter").because(e))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if settings.json {
        builder.json().flatten_event(true).try_init()
    } else {
        use io::IsTerminal as _;
        builder.with_ansi(io::stderr().is_terminal()).try_init()
    };
    started.map_err(|e| Error::failure("cannot start the logs").because(e))
}
