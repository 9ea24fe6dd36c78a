//! The one place that writes to the terminal: results to standard output, everything else to standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// Where a command's results go, and whether they may be coloured.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    colour: bool,
    colour_stderr: bool,
}

impl Output {
    /// `no_colour` is the environment's wish (`NO_COLOR`); colours appear only on a terminal.
    #[must_use]
    pub fn new(no_colour: bool) -> Self {
        Self {
            colour: !no_colour && io::stdout().is_terminal(),
            colour_stderr: !no_colour && io::stderr().is_terminal(),
        }
    }

    /// Writes text to standard output and flushes it, so that a stream is seen as it comes.
    ///
    /// # Errors
    /// When standard output cannot take it.
    pub fn text(&self, text: impl fmt::Display) -> Result<()> {
        let mut out = io::stdout().lock();
        write!(out, "{text}").and_then(|()| out.flush()).map_err(|e| Error::output(&e))
    }

    /// Writes a line to standard output.
    ///
    /// # Errors
    /// When standard output cannot take it.
    pub fn line(&self, line: impl fmt::Display) -> Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}").map_err(|e| Error::output(&e))
    }

    /// Writes a value as indented JSON to standard output.
    ///
    /// # Errors
    /// When standard output cannot take it.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|e| Error::failure("cannot write the result as JSON").because(e))?;
        self.line(text)
    }

    /// Writes a line for the person (not part of the result) to standard error. There is nobody to tell when it fails.
    pub fn note(&self, line: impl fmt::Display) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// `text` in a style, when standard output is a terminal.
    pub fn styled(&self, style: Style, text: impl fmt::Display) -> String {
        paint(self.colour, style, text)
    }

    /// Whether standard output takes colours.
    #[must_use]
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// Whether standard error takes colours.
    #[must_use]
    pub fn colour_stderr(&self) -> bool {
        self.colour_stderr
    }

    /// Reports all errors but the last, which it gives back to be reported like any other.
    ///
    /// # Errors
    /// The last, if there is one.
    pub fn all(&self, mut errors: Vec<Error>) -> Result<()> {
        let last = errors.pop();
        errors.iter().for_each(|error| self.error(error));
        last.map_or(Ok(()), Err)
    }

    /// Reports an error on standard error: what, cause, hint.
    pub fn error(&self, error: &Error) {
        if error.kind == Kind::OutputClosed {
            return;
        }
        let label = paint(self.colour_stderr, Style::new().bold().fg_color(Some(AnsiColor::Red.into())), "error:");
        self.note(format_args!("{label} {}", error.what));
        if let Some(cause) = &error.cause {
            self.note(format_args!("  cause: {cause}"));
        }
        if let Some(hint) = &error.hint {
            self.note(format_args!("  hint:  {hint}"));
        }
    }
}

fn paint(colour: bool, style: Style, text: impl fmt::Display) -> String {
    if colour { format!("{style}{text}{style:#}") } else { text.to_string() }
}

/// Bytes as a person reads them: `1.5 GiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A number with a thin mark between groups of three digits: `12,345`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration as a person reads it: `420 ms`, `1.3 s`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

/// Rows as a table: columns padded to their widest cell, the last one left as it is.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|c| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        for (c, cell) in row.iter().enumerate() {
            if c + 1 == row.len() {
                text.push_str(cell);
            } else {
                text.push_str(&format!("{cell:<width$}  ", width = widths[c]));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(98_362_432), "93.8 MiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn groups_of_three() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn tables_align() {
        let rows = vec![vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), "d".to_owned()]];
        assert_eq!(table(&rows), "a    bb\nccc  d\n");
    }
}
