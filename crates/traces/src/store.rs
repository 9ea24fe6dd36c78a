//! The file: what is in it, how it is read, and how it is kept small.

use std::path::Path;

use metering::UsageRecord;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sidefile::columns::{damaged, number};
use sidefile::{Kind, OpenError};

use crate::packed;
use crate::trace::{Content, Excerpt, Kept, Owner, Trace, Whole};
use crate::{ContentDays, Deletion, Filter, Page, Settings};

/// "TwTr". What is deleted is overwritten.
const KIND: Kind = Kind {
    application_id: 0x5477_5472,
    version: 1,
    schema: SCHEMA,
    pragmas: "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;
              PRAGMA journal_size_limit = 16777216;",
};
const DAY_MS: i64 = 86_400_000;
/// Pages given back to the file system in one sweep.
const VACUUM_PAGES: u32 = 4096;

const SCHEMA: &str = "
    CREATE TABLE traces (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL,
        received_ms INTEGER NOT NULL,
        organisation TEXT NOT NULL,
        project TEXT NOT NULL,
        key_id TEXT NOT NULL,
        model TEXT NOT NULL,
        outcome TEXT NOT NULL,
        e2e_ns INTEGER NOT NULL,
        candidates INTEGER NOT NULL,
        record TEXT NOT NULL,        -- the usage record as JSON
        error TEXT,
        search TEXT NOT NULL,        -- what a text is looked for in, in lower case
        timeline BLOB NOT NULL
    ) STRICT;
    CREATE INDEX traces_by_id ON traces (id);
    CREATE INDEX traces_by_age ON traces (received_ms);
    CREATE TABLE contents (
        number INTEGER PRIMARY KEY REFERENCES traces (number) ON DELETE CASCADE,
        project TEXT NOT NULL,
        kept_ms INTEGER NOT NULL,
        prompt TEXT NOT NULL,        -- texts with their marks, as JSON
        answers TEXT NOT NULL
    ) STRICT;
    CREATE INDEX contents_by_project ON contents (project, kept_ms);";

const COLUMNS: &str = "number, received_ms, organisation, project, key_id, candidates, record, error,
    EXISTS (SELECT 1 FROM contents WHERE contents.number = traces.number)";

/// The connection that writes.
pub(crate) struct Writer {
    connection: Connection,
    settings: Settings,
    content_days: ContentDays,
    /// Texts were deleted, and may be in the log still.
    unpurged: bool,
}

impl Writer {
    /// Opens the file, or makes it, readable by its owner only.
    pub(crate) fn open(path: &Path, settings: Settings, content_days: ContentDays) -> Result<Self, OpenError> {
        let connection = sidefile::writer(path, &KIND)?;
        Ok(Self { connection, settings, content_days, unpurged: true })
    }

    /// Keeps traces, and drops the oldest ones beyond the bound.
    pub(crate) fn keep(&mut self, traces: Vec<Trace>, now_ms: i64) -> rusqlite::Result<()> {
        let content_days = &self.content_days;
        let transaction = self.connection.transaction()?;
        for trace in traces {
            insert(&transaction, trace, content_days.as_ref(), now_ms)?;
        }
        let keep = i64::try_from(self.settings.keep).unwrap_or(i64::MAX);
        let sql = "DELETE FROM traces WHERE number <= (SELECT max(number) FROM traces) - ?1";
        transaction.prepare_cached(sql)?.execute([keep])?;
        transaction.commit()
    }

    /// Deletes texts; gives how many requests had some.
    pub(crate) fn delete(&mut self, what: &Deletion) -> rusqlite::Result<usize> {
        let deleted = match what {
            Deletion::Request(number) => {
                let number = i64::try_from(*number).unwrap_or(i64::MAX);
                self.connection.execute("DELETE FROM contents WHERE number = ?1", [number])?
            }
            Deletion::Project(project) => {
                self.connection.execute("DELETE FROM contents WHERE project = ?1", [project])?
            }
        };
        self.unpurged |= deleted > 0;
        self.purge()?;
        Ok(deleted)
    }

    /// Deletes what is older than it may get: traces, and texts by the setting of their project as it is now.
    pub(crate) fn sweep(&mut self, now_ms: i64) -> rusqlite::Result<()> {
        let oldest = |days: u32| now_ms.saturating_sub(i64::from(days) * DAY_MS);
        let sql = "DELETE FROM traces WHERE received_ms < ?1";
        let mut deleted = self.connection.execute(sql, [oldest(self.settings.keep_days)])?;
        let projects: Vec<String> = {
            let mut statement = self.connection.prepare_cached("SELECT DISTINCT project FROM contents")?;
            statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?
        };
        for project in projects {
            deleted += match (self.content_days)(&project) {
                None => self.connection.execute("DELETE FROM contents WHERE project = ?1", [project])?,
                Some(days) => {
                    let sql = "DELETE FROM contents WHERE project = ?1 AND kept_ms < ?2";
                    self.connection.execute(sql, params![project, oldest(days)])?
                }
            };
        }
        self.unpurged |= deleted > 0;
        self.give_back()?;
        self.purge()
    }

    /// Gives pages that nothing needs back to the file system. Each step of the statement is one page.
    fn give_back(&self) -> rusqlite::Result<()> {
        let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        Ok(())
    }

    /// Empties the log, which may hold deleted texts; again at the next sweep while somebody reads.
    fn purge(&mut self) -> rusqlite::Result<()> {
        if self.unpurged {
            let busy: i64 = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            self.unpurged = busy != 0;
        }
        Ok(())
    }
}

fn insert(
    connection: &Connection,
    mut trace: Trace,
    content_days: &(dyn Fn(&str) -> Option<u32> + Send + Sync),
    now_ms: i64,
) -> rusqlite::Result<()> {
    let content = trace.content.take();
    let error = trace.shown_error();
    let Trace { received_ms, owner, candidates, record, timeline, .. } = trace;
    let UsageRecord { request_id, model, key, user, .. } = &record;
    let words = [request_id, &owner.organisation, &owner.project, &owner.key, model];
    let words = words.into_iter().chain([key, user, &error].into_iter().flatten());
    let search = words.map(|word| word.to_lowercase()).collect::<Vec<_>>().join("\n");
    let mut statement = connection.prepare_cached(
        "INSERT INTO traces (id, received_ms, organisation, project, key_id, model, outcome, e2e_ns, candidates, record,
         error, search, timeline) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    statement.execute(params![
        request_id,
        received_ms,
        owner.organisation,
        owner.project,
        owner.key,
        model,
        record.outcome.as_str(),
        i64::try_from(record.e2e_ns).unwrap_or(i64::MAX),
        candidates,
        json(&record)?,
        error,
        search,
        packed::pack(&timeline),
    ])?;
    // The setting may have been switched off since the request began.
    let Some(content) = content.filter(|_| content_days(&owner.project).is_some()) else { return Ok(()) };
    let Content { prompt, answers } = content();
    let sql = "INSERT INTO contents (number, project, kept_ms, prompt, answers) VALUES (?1, ?2, ?3, ?4, ?5)";
    let number = connection.last_insert_rowid();
    let mut statement = connection.prepare_cached(sql)?;
    statement.execute(params![number, owner.project, now_ms, json(&prompt)?, json(&answers)?]).map(drop)
}

fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Requests of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Newest first.
    pub requests: Vec<Kept>,
    /// There are more.
    pub has_more: bool,
    /// The largest number of the requests that are kept, of the filter's organisation where it names one, whatever else was
    /// asked for; 0: none.
    pub newest: u64,
}

/// The connection that reads.
pub(crate) struct Reader(Connection);

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self(sidefile::reader(path)?))
    }

    /// The newest requests of a filter.
    pub(crate) fn list(&mut self, filter: &Filter, page: &Page) -> rusqlite::Result<Listed> {
        let transaction = self.0.transaction()?;
        let newest = "SELECT coalesce((SELECT number FROM traces WHERE ?1 IS NULL OR organisation = ?1
                          ORDER BY number DESC LIMIT 1), 0)";
        let newest = transaction.prepare_cached(newest)?.query_row([&filter.organisation], |row| number(row, 0))?;
        let (condition, mut values) = filter.sql(page);
        // One more tells whether there are more.
        let limit = i64::try_from(page.limit.saturating_add(1)).unwrap_or(i64::MAX);
        values.push(limit.into());
        let sql = format!("SELECT {COLUMNS} FROM traces WHERE {condition} ORDER BY number DESC LIMIT ?");
        let mut statement = transaction.prepare_cached(&sql)?;
        let rows = statement.query_map(rusqlite::params_from_iter(values), kept)?;
        let mut requests: Vec<Kept> = rows.collect::<rusqlite::Result<_>>()?;
        let has_more = requests.len() > page.limit;
        requests.truncate(page.limit);
        Ok(Listed { requests, has_more, newest })
    }

    /// All that is kept of a request; of several with the same id the newest.
    pub(crate) fn find(&mut self, id: &str) -> rusqlite::Result<Option<Whole>> {
        let transaction = self.0.transaction()?;
        let sql = format!("SELECT {COLUMNS}, timeline FROM traces WHERE id = ?1 ORDER BY number DESC LIMIT 1");
        let read = |row: &Row<'_>| Ok((kept(row)?, row.get::<_, Vec<u8>>(9)?));
        let found = transaction.prepare_cached(&sql)?.query_row([id], read).optional()?;
        let Some((kept, timeline)) = found else { return Ok(None) };
        let timeline = packed::unpack(&timeline).ok_or_else(|| damaged(9, "the timeline is damaged"))?;
        let place = i64::try_from(kept.number).unwrap_or(i64::MAX);
        let sql = "SELECT prompt, answers FROM contents WHERE number = ?1";
        let read = |row: &Row<'_>| {
            let (prompt, answers): (Excerpt, Vec<Excerpt>) = (text(row, 0)?, text(row, 1)?);
            Ok(Content { prompt, answers })
        };
        let content = transaction.prepare_cached(sql)?.query_row([place], read).optional()?;
        Ok(Some(Whole { kept, timeline, content }))
    }
}

fn text<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    Ok(Kept {
        number: number(row, 0)?,
        received_ms: row.get(1)?,
        owner: Owner { organisation: row.get(2)?, project: row.get(3)?, key: row.get(4)? },
        candidates: row.get(5)?,
        record: text(row, 6)?,
        error: row.get(7)?,
        has_content: row.get(8)?,
    })
}

#[cfg(test)]
mod tests;
