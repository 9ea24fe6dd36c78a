//! Texts that a person hands in: whole or not at all, never cut without a word.

use std::io::{Read, Stdin};

use crate::error::{Error, Result};
use crate::output::bytes;

/// Longest text on standard input; no context is longer.
const STDIN_BYTES_MAX: u64 = 64 << 20;

/// Everything on standard input; `what` it is to be appears in errors.
///
/// # Errors
/// It cannot be read, is not UTF-8, or is too long.
pub fn stdin(what: &str, input: &Stdin) -> Result<String> {
    text(&format!("the {what} on standard input"), input.lock(), STDIN_BYTES_MAX)
}

/// Everything that a reader gives, at most `bytes_max` bytes.
///
/// # Errors
/// It cannot be read, is not UTF-8, or is too long.
pub fn text(what: &str, reader: impl Read, bytes_max: u64) -> Result<String> {
    let mut text = String::new();
    let read = reader
        .take(bytes_max + 1)
        .read_to_string(&mut text)
        .map_err(|e| Error::usage(format!("cannot read {what}")).because(e).hint("give UTF-8 text"))?;
    if read as u64 > bytes_max {
        return Err(Error::usage(format!("{what} is longer than {}", bytes(bytes_max))).hint("give a part of it"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_or_not_at_all() {
        assert_eq!(text("it", "four".as_bytes(), 4).unwrap(), "four");
        let long = text("it", "five!".as_bytes(), 4).unwrap_err();
        assert_eq!((long.what.as_str(), long.exit_code()), ("it is longer than 4 B", 2));
        // Too long even where the cut would part a character.
        assert!(text("it", "äää".as_bytes(), 2).is_err());
        assert!(text("it", &b"\xff"[..], 4).unwrap_err().hint.unwrap().contains("UTF-8"));
    }
}
