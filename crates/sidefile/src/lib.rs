//! SQLite files beside the books: made for their owner alone, marked as what they are, looked at before they are relied on.
//! Losing one loses no money.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// How long a statement waits for another connection.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// What a file is.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its mark, so that a foreign database is not taken for it.
    pub application_id: i64,
    /// Of the schema.
    pub version: i64,
    /// Statements that make its tables.
    pub schema: &'static str,
    /// Further `PRAGMA`s of the connection that writes, set before the first page is written.
    pub pragmas: &'static str,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another mark, or tables without one.
    #[error("it is a database of something else")]
    Foreign,
    /// A version above the one that is known.
    #[error("it was written by a newer version of this program")]
    Newer,
    /// The system's reason, or what is damaged.
    #[error("{0}")]
    File(#[from] io::Error),
    /// SQLite's reason.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// The connection that writes. Makes the file if it is not there; its log takes its permissions.
///
/// # Errors
/// The file cannot be made, read or written, is another one, newer, or damaged.
pub fn writer(path: &Path, kind: &Kind) -> Result<Connection, OpenError> {
    make_private(path)?;
    let connection = connect(path)?;
    prepare(&connection, kind)?;
    Ok(connection)
}

/// A connection that reads what [`writer`] has made.
///
/// # Errors
/// The file cannot be opened.
pub fn reader(path: &Path) -> Result<Connection, OpenError> {
    let connection = connect(path)?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF")?;
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_LIMIT)?;
    Ok(connection)
}

/// Makes the schema, or checks that it is there. The whole file is looked at: it is small, and what is damaged is told of
/// before it is relied on.
fn prepare(connection: &Connection, kind: &Kind) -> Result<(), OpenError> {
    let Kind { application_id, version, schema, pragmas } = kind;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (id, tables) = (number("PRAGMA application_id")?, number("SELECT count(*) FROM sqlite_schema")?);
    if id != *application_id && (id != 0 || tables != 0) {
        return Err(OpenError::Foreign);
    }
    connection.execute_batch(pragmas)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF;")?;
    if tables == 0 {
        let begin = format!(
            "BEGIN; {schema} PRAGMA application_id = {application_id}; PRAGMA user_version = {version}; COMMIT;"
        );
        return Ok(connection.execute_batch(&begin)?);
    }
    if number("PRAGMA user_version")? > *version {
        return Err(OpenError::Newer);
    }
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    Err(OpenError::File(io::Error::new(io::ErrorKind::InvalidData, found)))
}

/// Makes the file if it is not there, readable by its owner only.
fn make_private(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { application_id: 7, version: 2, schema: "CREATE TABLE t (x);", pragmas: "" };

    #[test]
    fn what_is_not_of_its_kind_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.sqlite");
        writer(&path, &KIND).unwrap().execute("INSERT INTO t VALUES (1)", []).unwrap();
        writer(&path, &KIND).unwrap();
        assert!(matches!(writer(&path, &Kind { application_id: 8, ..KIND }), Err(OpenError::Foreign)));
        assert!(matches!(writer(&path, &Kind { version: 1, ..KIND }), Err(OpenError::Newer)));
        let read = reader(&path).unwrap();
        assert_eq!(read.query_row("SELECT x FROM t", [], |row| row.get::<_, i64>(0)), Ok(1));
        assert!(read.execute("DELETE FROM t", []).is_err(), "it only reads");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let text = folder.path().join("text");
        std::fs::write(&text, "no database, but long enough to be looked at as one").unwrap();
        assert!(writer(&text, &KIND).is_err());
        assert!(writer(&folder.path().join("no/folder"), &KIND).is_err());
    }
}
