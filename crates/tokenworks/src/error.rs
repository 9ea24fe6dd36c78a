//! What a command fails with: what went wrong, why, and what to do about it.

use std::fmt;
use std::io;

/// Decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The work failed: exit code 1.
    Failure,
    /// The command line or the configuration is wrong: exit code 2.
    Usage,
    /// Whoever read our output has gone (`tokenworks run … | head`): exit code 0, nothing is printed.
    OutputClosed,
}

/// An error as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Decides the exit code.
    pub kind: Kind,
    /// What went wrong, in one sentence.
    pub what: String,
    /// The cause underneath, when there is one.
    pub cause: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The work failed (exit code 1).
    #[must_use]
    pub fn failure(what: impl Into<String>) -> Self {
        Self { kind: Kind::Failure, what: what.into(), cause: None, hint: None }
    }

    /// The command line or the configuration is wrong (exit code 2).
    #[must_use]
    pub fn usage(what: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, ..Self::failure(what) }
    }

    /// Writing to standard output failed; a closed pipe is not an error.
    #[must_use]
    pub fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { kind: Kind::OutputClosed, ..Self::failure("the output was closed") };
        }
        Self::failure("cannot write to standard output").because(error)
    }

    /// Adds the cause, with the causes under it.
    #[must_use]
    pub fn because(self, cause: impl fmt::Display) -> Self {
        Self { cause: Some(cause.to_string()), ..self }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failure => 1,
            Kind::Usage => 2,
            Kind::OutputClosed => 0,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(cause) = &self.cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// An error and all the causes under it, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        // Some errors repeat their cause's words in their own.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        assert_eq!(Error::failure("x").exit_code(), 1);
        assert_eq!(Error::usage("x").exit_code(), 2);
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        assert_eq!(Error::output(&io::ErrorKind::BrokenPipe.into()).exit_code(), 0);
        assert_eq!(Error::output(&io::ErrorKind::StorageFull.into()).exit_code(), 1);
    }

    #[test]
    fn cause_follows_what() {
        assert_eq!(Error::failure("cannot read").because("no such file").to_string(), "cannot read: no such file");
    }
}
