//! SQLite files beside the books: made for their owner alone, marked as what they are, looked at before they are relied on.
//! Losing one loses no money.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod columns;
pub mod numbers;

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

/// The connection that writes. Makes the file if it is not there. What is its own becomes readable by its owner only; what is
/// refused stays as it is.
///
/// # Errors
/// The file cannot be made, read or written, is another one, newer, or damaged.
pub fn writer(path: &Path, kind: &Kind) -> Result<Connection, OpenError> {
    create(path)?;
    let connection = connect(path)?;
    let is_new = check(&connection, kind)?;
    make_private(path)?;
    prepare(&connection, kind, is_new)?;
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

/// Whether the file is empty; or that it is one of this kind. Changes nothing.
fn check(connection: &Connection, kind: &Kind) -> Result<bool, OpenError> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (id, tables) = (number("PRAGMA application_id")?, number("SELECT count(*) FROM sqlite_schema")?);
    if id != kind.application_id && (id != 0 || tables != 0) {
        return Err(OpenError::Foreign);
    }
    if number("PRAGMA user_version")? > kind.version {
        return Err(OpenError::Newer);
    }
    Ok(tables == 0)
}

/// Makes the schema, or looks at the whole file: it is small, and what is damaged is told of before it is relied on.
fn prepare(connection: &Connection, kind: &Kind, is_new: bool) -> Result<(), OpenError> {
    let Kind { application_id, version, schema, pragmas } = kind;
    connection.execute_batch(pragmas)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA trusted_schema = OFF;")?;
    if is_new {
        let begin = format!(
            "BEGIN; {schema} PRAGMA application_id = {application_id}; PRAGMA user_version = {version}; COMMIT;"
        );
        return Ok(connection.execute_batch(&begin)?);
    }
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    Err(OpenError::File(io::Error::new(io::ErrorKind::InvalidData, found)))
}

/// Makes a file if it is not there, and lets only its owner read it, and its log; SQLite gives a new log the rights of its
/// file.
///
/// # Errors
/// The file cannot be made, or its rights not be set.
pub fn make_private(path: &Path) -> io::Result<()> {
    create(path)?;
    // By their names: to open and close a file would let go of the locks that this process has on it.
    restrict(path)?;
    ["-wal", "-shm"].into_iter().try_for_each(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match restrict(Path::new(&name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    })
}

/// Makes a file if it is not there, for its owner only.
fn create(path: &Path) -> io::Result<()> {
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

#[cfg(unix)]
fn restrict(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn restrict(_path: &Path) -> io::Result<()> {
    Ok(())
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
        let text = folder.path().join("text");
        std::fs::write(&text, "no database, but long enough to be looked at as one").unwrap();
        assert!(writer(&text, &KIND).is_err());
        assert!(writer(&folder.path().join("no/folder"), &KIND).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn what_is_its_own_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.sqlite");
        let log = folder.path().join("file.sqlite-wal");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let open_to_all = || std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let modes = || (mode(&path), mode(&log));
        let write = |kind: &Kind| {
            let connection = writer(&path, kind)?;
            connection.execute("INSERT INTO t VALUES (1)", [])?;
            Ok::<_, OpenError>(connection)
        };
        let first = write(&KIND).unwrap();
        assert_eq!(modes(), (0o600, 0o600), "a new one");
        drop(first);
        open_to_all();
        let second = write(&KIND).unwrap();
        assert_eq!(modes(), (0o600, 0o600), "one that others could read");
        drop(second);
        for refused in [Kind { application_id: 8, ..KIND }, Kind { version: 1, ..KIND }] {
            open_to_all();
            let changing = Kind { pragmas: "PRAGMA user_version = 1;", ..refused };
            writer(&path, &changing).unwrap_err();
            assert_eq!(mode(&path), 0o644, "{refused:?}");
        }
        drop(write(&KIND).unwrap());
        assert_eq!(
            reader(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)),
            Ok(2),
            "what was refused was not changed"
        );
    }
}
