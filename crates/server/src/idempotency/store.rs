//! The file of kept answers: one SQLite database, used by one server. Every change is on the disk when its call returns.
//! Prompts are never in it, only hashes of them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, params};
use sha2::{Digest as _, Sha256};

use super::{Asked, Digest};

/// How long a key is known, and its answer kept: 24 hours, in milliseconds.
pub(super) const KEPT_MS: i64 = 24 * 3600 * 1000;
/// Rows forgotten in one transaction.
pub(super) const FORGET_AT_ONCE: usize = 256;
/// "TwAn", so that a foreign database is not taken for kept answers.
const APPLICATION_ID: i64 = 0x5477_416e;
const VERSION: i64 = 1;
/// How long the file may be in use by a server that is about to end.
const BUSY_LIMIT: Duration = Duration::from_secs(2);

const SCHEMA: &str = "
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY,
        name BLOB NOT NULL UNIQUE,   -- SHA-256 of caller, route and key
        body BLOB NOT NULL,          -- SHA-256 of the request's body
        caller TEXT NOT NULL,
        answer TEXT NOT NULL,        -- the answer's id
        begun_ms INTEGER NOT NULL,
        state INTEGER NOT NULL,
        note TEXT NOT NULL           -- begun: the number of generations; failed: why
    ) STRICT;
    CREATE INDEX requests_by_age ON requests (begun_ms);
    CREATE TABLE contents (
        id INTEGER PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
        size INTEGER NOT NULL,
        streamed INTEGER NOT NULL,
        seal BLOB NOT NULL,          -- SHA-256 of name and bytes
        bytes BLOB NOT NULL
    ) STRICT;";

/// What the file holds at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    /// Bytes of all kept answers; beyond that the oldest are dropped.
    pub(super) bytes: i64,
    /// Keys known at once; further ones are refused, since a forgotten key could be charged twice.
    pub(super) keys: i64,
    /// Keys of one caller, so that nobody takes the others' room.
    pub(super) keys_of_one: i64,
}

impl Default for Caps {
    fn default() -> Self {
        Self { bytes: 256 << 20, keys: 1_000_000, keys_of_one: 250_000 }
    }
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("another server uses it")]
    InUse,
    #[error("it was written by a newer version of this program; use that version, or move the file away")]
    Newer,
    #[error("{0}")]
    File(#[from] io::Error),
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// It is set aside and a new one begun.
    #[error("{0}")]
    Damaged(String),
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) body: Digest,
    /// The answer's id.
    pub(super) answer: String,
    pub(super) state: State,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Under way, or interrupted.
    Begun {
        /// How many requests of the books it is; `None` where that was not written.
        generations: Option<u32>,
    },
    Kept {
        /// Bytes.
        size: i64,
        streamed: bool,
    },
    /// Failed when some of it was charged already; why.
    Failed(String),
    /// Done, but too large to be kept.
    TooLarge,
    /// Done, and no longer kept.
    Dropped,
}

impl State {
    const BEGUN: i64 = 0;
    const KEPT: i64 = 1;
    const FAILED: i64 = 2;
    const TOO_LARGE: i64 = 3;
    const DROPPED: i64 = 4;
}

/// What the file holds now.
#[derive(Debug, Default)]
struct Holdings {
    bytes: i64,
    keys: i64,
    /// Keys by caller.
    callers: HashMap<String, i64>,
}

impl Holdings {
    fn count(connection: &Connection) -> rusqlite::Result<Self> {
        let bytes = connection.query_row("SELECT coalesce(sum(size), 0) FROM contents", [], |row| row.get(0))?;
        let mut statement = connection.prepare("SELECT caller, count(*) FROM requests GROUP BY caller")?;
        let callers = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let callers: HashMap<String, i64> = callers.collect::<rusqlite::Result<_>>()?;
        Ok(Self { bytes, keys: callers.values().sum(), callers })
    }

    /// Whether another key of `caller` has room once these are forgotten.
    fn have_room(&self, caps: &Caps, caller: &str, forgotten: &[Forgotten]) -> bool {
        let own = self.callers.get(caller).copied().unwrap_or_default();
        let count = |rows: usize| i64::try_from(rows).unwrap_or(i64::MAX);
        let own_forgotten = forgotten.iter().filter(|row| row.caller == caller).count();
        self.keys - count(forgotten.len()) < caps.keys && own - count(own_forgotten) < caps.keys_of_one
    }

    fn add(&mut self, caller: &str) {
        self.keys += 1;
        *self.callers.entry(caller.to_owned()).or_default() += 1;
    }

    fn remove(&mut self, forgotten: &[Forgotten]) {
        for Forgotten { caller, size } in forgotten {
            self.bytes -= size;
            self.keys -= 1;
            if let Some(keys) = self.callers.get_mut(caller) {
                *keys -= 1;
                if *keys <= 0 {
                    self.callers.remove(caller);
                }
            }
        }
    }
}

/// A row that was deleted, with the bytes of its answer.
struct Forgotten {
    caller: String,
    size: i64,
}

/// The open file.
pub(super) struct Store {
    connection: Connection,
    /// `None`: in memory.
    path: Option<PathBuf>,
    caps: Caps,
    holdings: Holdings,
}

impl Store {
    /// Opens or creates the file; `None`: in memory. A damaged one is renamed to `….damaged`, and a new one begun.
    ///
    /// # Errors
    /// In use, from a newer version, or what the system says.
    pub(super) fn open(path: Option<PathBuf>, caps: Caps) -> Result<Self, OpenError> {
        match Self::try_open(path.clone(), caps) {
            Err(OpenError::Damaged(reason)) => {
                if let Some(path) = &path {
                    set_aside(path, &reason)?;
                }
                Self::try_open(path, caps)
            }
            result => result,
        }
    }

    fn try_open(path: Option<PathBuf>, caps: Caps) -> Result<Self, OpenError> {
        let connection = match &path {
            Some(path) => {
                check_log(path)?;
                // Answers are nobody else's business.
                sidefile::make_private(path)?;
                Connection::open(path)?
            }
            None => Connection::open_in_memory()?,
        };
        connection.busy_timeout(BUSY_LIMIT)?;
        let holdings = prepare(&connection).and_then(|()| Ok(Holdings::count(&connection)?));
        let holdings = holdings.map_err(|error| match error {
            OpenError::Sqlite(error) if is_damage(&error) => OpenError::Damaged(error.to_string()),
            OpenError::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => OpenError::InUse,
            error => error,
        })?;
        Ok(Self { connection, path, caps, holdings })
    }

    /// After an error: when it says that the file is damaged, the file is set aside and a new one begun.
    pub(super) fn mend(&mut self, error: &rusqlite::Error) -> Result<(), OpenError> {
        if !is_damage(error) {
            return Ok(());
        }
        // The connection lets go of the file before it is renamed.
        self.connection = Connection::open_in_memory()?;
        if let Some(path) = &self.path {
            set_aside(path, &error.to_string())?;
        }
        *self = Self::try_open(self.path.clone(), self.caps)?;
        Ok(())
    }

    /// What is known of a key.
    pub(super) fn find(&self, name: &Digest, now_ms: i64) -> rusqlite::Result<Option<Row>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT body, answer, state, note, size, streamed FROM requests LEFT JOIN contents USING (id)
             WHERE name = ?1 AND begun_ms > ?2",
        )?;
        let row = statement.query_row(params![name, now_ms - KEPT_MS], |row| {
            let size: Option<i64> = row.get(4)?;
            let state = match (row.get(2)?, size) {
                (State::BEGUN, _) => State::Begun { generations: row.get::<_, String>(3)?.parse().ok() },
                (State::KEPT, Some(size)) => State::Kept { size, streamed: row.get(5)? },
                (State::FAILED, _) => State::Failed(row.get(3)?),
                (State::TOO_LARGE, _) => State::TooLarge,
                _ => State::Dropped,
            };
            Ok(Row { body: row.get(0)?, answer: row.get(1)?, state })
        });
        row.optional()
    }

    /// The bytes of a kept answer; `None` when it was dropped, or is not what was written.
    pub(super) fn bytes(&self, name: &Digest) -> rusqlite::Result<Option<Vec<u8>>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT seal, bytes FROM requests JOIN contents USING (id) WHERE name = ?1")?;
        let found: Option<(Digest, Vec<u8>)> =
            statement.query_row([name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((seal, bytes)) = found else { return Ok(None) };
        let whole = seal == sealed(name, &bytes);
        if !whole {
            tracing::error!("a kept answer is not what was written; it is not given out");
        }
        Ok(whole.then_some(bytes))
    }

    /// Writes that a request begins: the id of its answer, and of how many generations. Gives `false` when there is no
    /// room for another key.
    pub(super) fn begin(
        &mut self,
        asked: &Asked,
        (answer, generations): (&str, u32),
        now_ms: i64,
    ) -> rusqlite::Result<bool> {
        let transaction = self.connection.transaction()?;
        // A row of the same name is an old one.
        let forgotten = forget(&transaction, now_ms, Some(&asked.name))?;
        let room = self.holdings.have_room(&self.caps, &asked.caller, &forgotten);
        if room {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO requests (name, body, caller, answer, begun_ms, state, note)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            let note = generations.to_string();
            statement.execute(params![asked.name, asked.body, asked.caller, answer, now_ms, State::BEGUN, note])?;
        }
        transaction.commit()?;
        self.holdings.remove(&forgotten);
        if room {
            self.holdings.add(&asked.caller);
        }
        Ok(room)
    }

    /// Forgets a request that never ran.
    pub(super) fn free(&mut self, name: &Digest) -> rusqlite::Result<()> {
        let sql = "DELETE FROM requests WHERE name = ?1 AND state = ?2 RETURNING caller";
        let caller: Option<String> =
            self.connection.query_row(sql, params![name, State::BEGUN], |row| row.get(0)).optional()?;
        if let Some(caller) = caller {
            self.holdings.remove(&[Forgotten { caller, size: 0 }]);
        }
        Ok(())
    }

    /// Notes that a request failed when some of it was charged.
    pub(super) fn fail(&mut self, name: &Digest, note: &str) -> rusqlite::Result<()> {
        self.end(name, State::FAILED, note)
    }

    /// Notes that an answer was too large.
    pub(super) fn too_large(&mut self, name: &Digest) -> rusqlite::Result<()> {
        self.end(name, State::TOO_LARGE, "")
    }

    fn end(&mut self, name: &Digest, state: i64, note: &str) -> rusqlite::Result<()> {
        let sql = "UPDATE requests SET state = ?2, note = ?3 WHERE name = ?1";
        self.connection.execute(sql, params![name, state, note]).map(drop)
    }

    /// Keeps an answer, and drops the oldest ones that it leaves no room for.
    pub(super) fn keep(&mut self, name: &Digest, streamed: bool, bytes: &[u8]) -> rusqlite::Result<()> {
        let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let transaction = self.connection.transaction()?;
        let sql = "UPDATE requests SET state = ?2 WHERE name = ?1 RETURNING id";
        let id: Option<i64> = transaction.query_row(sql, params![name, State::KEPT], |row| row.get(0)).optional()?;
        // It took longer than keys are known.
        let Some(id) = id else { return Ok(()) };
        let room = self.caps.bytes.saturating_sub(size);
        let mut held = self.holdings.bytes;
        while held > room {
            let oldest = "DELETE FROM contents WHERE id = (SELECT min(id) FROM contents) RETURNING id, size";
            let (dropped, freed): (i64, i64) =
                transaction.query_row(oldest, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            transaction.execute("UPDATE requests SET state = ?2 WHERE id = ?1", [dropped, State::DROPPED])?;
            held -= freed;
        }
        let seal = sealed(name, bytes);
        transaction.execute(
            "INSERT INTO contents (id, size, streamed, seal, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![id, size, streamed, seal, bytes],
        )?;
        transaction.commit()?;
        self.holdings.bytes = held + size;
        Ok(())
    }

    /// Forgets some of what is older than [`KEPT_MS`]; gives how many rows.
    pub(super) fn forget_old(&mut self, now_ms: i64) -> rusqlite::Result<usize> {
        let transaction = self.connection.transaction()?;
        let forgotten = forget(&transaction, now_ms, None)?;
        transaction.commit()?;
        self.holdings.remove(&forgotten);
        Ok(forgotten.len())
    }
}

/// Binds an answer to its key: one that damage put under another key is given to nobody.
fn sealed(name: &Digest, bytes: &[u8]) -> Digest {
    Sha256::new().chain_update(name).chain_update(bytes).finalize().into()
}

/// Deletes old rows, and the one of `name`.
fn forget(transaction: &Transaction<'_>, now_ms: i64, name: Option<&Digest>) -> rusqlite::Result<Vec<Forgotten>> {
    let mut old = transaction.prepare_cached(
        "SELECT id, caller, coalesce(size, 0) FROM requests LEFT JOIN contents USING (id)
         WHERE id IN (SELECT id FROM requests WHERE begun_ms <= ?1 ORDER BY begun_ms LIMIT ?2) OR name = ?3",
    )?;
    let limit = i64::try_from(FORGET_AT_ONCE).unwrap_or(i64::MAX);
    let rows = old.query_map(params![now_ms - KEPT_MS, limit, name], |row| {
        Ok((row.get::<_, i64>(0)?, Forgotten { caller: row.get(1)?, size: row.get(2)? }))
    })?;
    let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
    let mut delete = transaction.prepare_cached("DELETE FROM requests WHERE id = ?1")?;
    for (id, _) in &rows {
        delete.execute([id])?;
    }
    Ok(rows.into_iter().map(|(_, forgotten)| forgotten).collect())
}

/// Settings, structure and schema of a file that was just opened.
fn prepare(connection: &Connection) -> Result<(), OpenError> {
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    // Exclusive: what is under way is known to one process only. What is deleted leaves nothing readable in the file.
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 16777216;",
    )?;
    let (id, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let fresh = id == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0;
    if fresh {
        let marks = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};");
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {marks} {SCHEMA} COMMIT;"))?;
        return Ok(());
    }
    if id != APPLICATION_ID {
        return Err(OpenError::Damaged("it is a database of another kind".to_owned()));
    }
    if version > VERSION {
        return Err(OpenError::Newer);
    }
    if number("SELECT count(*) FROM sqlite_schema WHERE name IN ('requests', 'contents')")? != 2 {
        return Err(OpenError::Damaged("its tables are missing".to_owned()));
    }
    // Not the quick one: beside the log of another file, an index may name rows of other keys.
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(OpenError::Damaged(found)) }
}

/// A log beside no file, or an empty one: the file was taken away or overwritten, and SQLite would drop the log with all it
/// tells.
fn check_log(path: &Path) -> Result<(), OpenError> {
    let length = |path: &Path| match std::fs::metadata(path) {
        Ok(file) => Ok(file.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    };
    if length(path)? == 0 && length(&beside(path, "-wal"))? > 0 {
        return Err(OpenError::Damaged("it is missing or empty, and its log is there".to_owned()));
    }
    Ok(())
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Renames a damaged file, over one that was set aside before.
fn set_aside(path: &Path, reason: &str) -> io::Result<()> {
    let aside = beside(path, ".damaged");
    tracing::error!(
        file = %path.display(), set_aside = %aside.display(), reason,
        "the kept answers are damaged and begun anew: requests sent again under an earlier Idempotency-Key run again"
    );
    let or_none =
        |result: io::Result<()>| result.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) });
    or_none(std::fs::rename(path, &aside))?;
    ["-wal", "-shm"].into_iter().try_for_each(|suffix| {
        let (log, aside) = (beside(path, suffix), beside(&aside, suffix));
        or_none(std::fs::remove_file(&aside))?;
        or_none(std::fs::rename(log, aside))
    })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
