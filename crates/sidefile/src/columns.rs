//! Columns of rows that were read, checked: a file may be damaged where `quick_check` does not look.

use rusqlite::Row;
use rusqlite::types::Type;

/// A number that is never negative.
///
/// # Errors
/// It is negative, or no number.
pub fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_negative| damaged(column, "a number is negative"))
}

/// The error of a column whose bytes are not what was written.
#[must_use]
pub fn damaged(column: usize, what: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, what.into())
}
