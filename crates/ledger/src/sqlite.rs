//! The embedded store: one SQLite file, one writing process.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, InterruptHandle, OpenFlags, ToSql};

use crate::error::{OpenError, StoreError};
use crate::store::{Pairs, Row, Sql, Table, Value};

/// A connection to the file.
pub(crate) struct Sqlite(Connection);

/// "TwLb", so that a foreign database is not taken for a ledger.
const APPLICATION_ID: i64 = 0x5477_4c62;

/// How long a statement waits for another connection.
const BUSY_LIMIT: Duration = Duration::from_secs(5);

impl Sqlite {
    /// The one connection that writes. Every commit is on the disk when it returns.
    pub(crate) fn writer(path: &Path) -> Result<Self, StoreError> {
        // Its log takes the file's permissions.
        match new_private(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(StoreError::Failed(format!("{}: {error}", path.display())));
            }
            _ => {}
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut store = Self::connect(path, flags)?;
        let (id, tables) =
            (store.number("PRAGMA application_id")?, store.number("SELECT count(*) FROM sqlite_schema")?);
        if id != APPLICATION_ID && (id != 0 || tables != 0) {
            return Err(StoreError::Damaged(format!("{} is a database, but no ledger", path.display())));
        }
        store.run(
            "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF;
             PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864;",
        )?;
        if id == 0 {
            store.run(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
        }
        Ok(store)
    }

    /// A connection that only reads.
    pub(crate) fn reader(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut store = Self::connect(path, flags)?;
        store.run("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -16384;")?;
        Ok(store)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_LIMIT)?;
        // Closing would empty the log. One that is cut off must stay for a person to look at, so not before
        // [`Sqlite::checked`].
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(Self(connection))
    }

    /// The store is right: closing may empty its log.
    pub(crate) fn checked(&self) -> Result<(), StoreError> {
        self.0.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        Ok(())
    }

    /// Whether nothing was ever written to it.
    pub(crate) fn is_new(&mut self) -> Result<bool, StoreError> {
        Ok(self.number("SELECT count(*) FROM sqlite_schema")? == 0)
    }

    /// To break off what another thread does with it.
    pub(crate) fn interrupt_handle(&self) -> InterruptHandle {
        self.0.get_interrupt_handle()
    }

    /// Structure of the whole file.
    pub(crate) fn quick_check(&mut self) -> Result<(), StoreError> {
        self.check("PRAGMA quick_check(1)")
    }

    /// Structure of the whole file, and that every index has what its table has. Takes longer.
    pub(crate) fn integrity_check(&mut self) -> Result<(), StoreError> {
        self.check("PRAGMA integrity_check(1)")
    }

    fn check(&mut self, pragma: &str) -> Result<(), StoreError> {
        let found: String = self.0.query_row(pragma, [], |row| row.get(0))?;
        if found == "ok" { Ok(()) } else { Err(StoreError::Damaged(found)) }
    }

    fn number(&mut self, query: &str) -> Result<i64, StoreError> {
        Ok(self.0.query_row(query, [], |row| row.get(0))?)
    }
}

impl Sql for Sqlite {
    fn run(&mut self, script: &str) -> Result<(), StoreError> {
        Ok(self.0.execute_batch(script)?)
    }

    fn rows(&mut self, query: &str, arguments: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self.0.prepare_cached(query)?;
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(arguments))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|column| value(row.get_ref(column)?));
            all.push(values.collect::<Result<Row, StoreError>>()?);
        }
        Ok(all)
    }

    fn pairs(&mut self, query: &str, arguments: &[Value<'_>]) -> Result<Pairs, StoreError> {
        let mut statement = self.0.prepare_cached(query)?;
        let mut rows = statement.query(rusqlite::params_from_iter(arguments))?;
        let mut pairs = Pairs::default();
        while let Some(row) = rows.next()? {
            let [first, second] = [row.get_ref(0)?, row.get_ref(1)?];
            let (ValueRef::Blob(first), ValueRef::Blob(second)) = (first, second) else {
                return Err(StoreError::Damaged("bytes were expected".to_owned()));
            };
            pairs.push(first, second);
        }
        Ok(pairs)
    }

    fn put(&mut self, table: &'static Table, values: &[Value<'_>]) -> Result<(), StoreError> {
        if values.is_empty() {
            return Ok(());
        }
        let mut statement = self.0.prepare_cached(&upsert(table))?;
        for row in values.chunks(table.columns.len()) {
            statement.execute(rusqlite::params_from_iter(row))?;
        }
        Ok(())
    }

    fn delete(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<(), StoreError> {
        let Some((column, _)) = table.columns.first() else { return Ok(()) };
        let mut statement = self.0.prepare_cached(&format!("DELETE FROM {} WHERE {column} = $1", table.name))?;
        for key in keys {
            statement.execute([key])?;
        }
        Ok(())
    }

    fn find(&mut self, table: &'static Table, column: usize, keys: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let names: Vec<_> = table.columns.iter().map(|(name, _)| *name).collect();
        let Some(column) = names.get(column) else { return Ok(Vec::new()) };
        let query = format!("SELECT {} FROM {} WHERE {column} = $1", names.join(", "), table.name);
        let mut all = Vec::new();
        for key in keys {
            all.extend(self.rows(&query, std::slice::from_ref(key))?);
        }
        Ok(all)
    }
}

fn upsert(table: &'static Table) -> String {
    let names: Vec<_> = table.columns.iter().map(|(name, _)| *name).collect();
    let places: Vec<_> = (1..=names.len()).map(|place| format!("${place}")).collect();
    let mut sql = format!("INSERT INTO {} ({}) VALUES ({})", table.name, names.join(", "), places.join(", "));
    if table.replace {
        let (keys, rest) = names.split_at(table.key);
        let sets: Vec<_> = rest.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        let _ = write!(sql, " ON CONFLICT ({}) DO UPDATE SET {}", keys.join(", "), sets.join(", "));
    }
    sql
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Bytes(value) => ValueRef::Blob(value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
        }))
    }
}

fn value(found: ValueRef<'_>) -> Result<Value<'static>, StoreError> {
    Ok(match found {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Blob(value) => Value::Bytes(Cow::Owned(value.to_vec())),
        ValueRef::Text(value) => match str::from_utf8(value) {
            Ok(text) => Value::Text(Cow::Owned(text.to_owned())),
            Err(error) => return Err(StoreError::Damaged(format!("a text is not UTF-8: {error}"))),
        },
        ValueRef::Real(_) => return Err(StoreError::Damaged("a number is not whole".to_owned())),
    })
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(text),
            _ => Self::Failed(text),
        }
    }
}

/// Held while the store is open; the operating system drops it when the process dies, whatever way.
pub(crate) struct Lock {
    #[expect(dead_code, reason = "open as long as the ledger is: says who has this path")]
    path: File,
    /// Of the file itself, which may have another name too. SQLite's own locks are of another kind; closing this would
    /// drop them, so it must be the last to close.
    store: Option<File>,
}

impl Lock {
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", lock_path(path).display()));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(lock_path(path));
        let mut file = file.map_err(failed)?;
        if !try_lock(&file).map_err(failed)? {
            let mut by = String::new();
            let _ = file.take(100).read_to_string(&mut by);
            return Err(OpenError::InUse { path: path.to_owned(), by: by.trim().to_owned() });
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "process {}", std::process::id()).map_err(failed)?;
        Ok(Self { path: file, store: None })
    }

    /// Keeps those out who know the file by another name.
    pub(crate) fn hold(&mut self, path: &Path) -> Result<(), OpenError> {
        let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(failed)?;
        if !try_lock(&file).map_err(failed)? {
            let by = "a server that knows this file by another name".to_owned();
            return Err(OpenError::InUse { path: path.to_owned(), by });
        }
        self.store = Some(file);
        Ok(())
    }
}

fn try_lock(file: &File) -> std::io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A compact copy of one state of a store, which may be in use meanwhile. There is the whole copy or none, and only its
/// owner may read it.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| StoreError::Failed(format!("{}: {error}", to.display()));
    // A log left by another file of this name would be taken for the copy's own.
    for path in [to.to_owned(), beside(to, "-wal")] {
        if path.try_exists().map_err(failed)? {
            return Err(StoreError::Failed(format!("{} exists already; move it away", path.display())));
        }
    }
    let part = beside(to, ".part");
    if part.try_exists().map_err(failed)? {
        std::fs::remove_file(&part).map_err(failed)?;
    }
    new_private(&part).map_err(failed)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let target = part.to_str().ok_or_else(|| StoreError::Failed(format!("{} is not UTF-8", part.display())))?;
    let written = Sqlite::connect(from, flags).and_then(|from| {
        from.0.execute("VACUUM INTO ?1", [target])?;
        File::open(&part).and_then(|file| file.sync_all()).map_err(failed)
    });
    written.inspect_err(|_half| drop(std::fs::remove_file(&part)))?;
    std::fs::rename(&part, to).map_err(failed)?;
    sync_folder(to).map_err(failed)
}

/// Brings the name of a file to the disk.
pub(crate) fn sync_folder(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// An empty file, which SQLite fills as it does one that it made itself.
pub(crate) fn new_private(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn lock_path(path: &Path) -> PathBuf {
    beside(path, ".lock")
}

pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
