//! A store in a PostgreSQL database, which several writers may share.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use postgres::types::private::BytesMut;
use postgres::types::{IsNull, ToSql, Type as PgType};
use postgres::{Client, Config, NoTls, Statement};

use crate::error::StoreError;
use crate::store::{Row, Sql, Table, Type, Value};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A server that goes away without a word is asked after this silence, then so often, so many times: what waits for it
/// ends within half a minute.
const ALIVE_IDLE: Duration = Duration::from_secs(10);
const ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const ALIVE_RETRIES: u32 = 3;
/// How long what was sent may go unacknowledged.
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(30);

/// For every connection: how long statements and locks may take, and that a commit is on the disk.
const SESSION: &str = "SET statement_timeout = '60s'; SET lock_timeout = '10s'; SET synchronous_commit = on";

/// For those that write, in addition: a writer that has gone does not keep the others waiting.
const WRITER_SESSION: &str = "SET idle_in_transaction_session_timeout = '30s'";

/// "TwLb": the ledger's advisory locks are (this, number of the writer).
const LOCKS: i32 = 0x5477_4c62;

/// How often, and how many times, a writer's number is asked for.
const CLAIM_INTERVAL: Duration = Duration::from_millis(50);
const CLAIM_TRIES: u32 = 20;

/// A connection that is made again when it was lost, except within a transaction.
pub(crate) struct Postgres {
    config: Config,
    client: Option<Client>,
    statements: HashMap<String, Statement>,
    in_transaction: bool,
    /// The writer whose number this connection keeps others from using.
    writer: Option<u32>,
}

impl Postgres {
    pub(crate) fn connect(url: &str, writer: Option<u32>) -> Result<Self, StoreError> {
        let config = config(url)?;
        let mut store = Self { config, client: None, statements: HashMap::new(), in_transaction: false, writer };
        store.client()?;
        Ok(store)
    }

    fn client(&mut self) -> Result<&mut Client, StoreError> {
        if self.client.as_ref().is_some_and(Client::is_closed) && !self.in_transaction {
            self.client = None;
            self.statements.clear();
        }
        if self.client.is_none() {
            let mut client = self.config.connect(NoTls)?;
            client.batch_execute(SESSION)?;
            if let Some(writer) = self.writer {
                client.batch_execute(WRITER_SESSION)?;
                claim(&mut client, writer)?;
            }
            self.client = Some(client);
        }
        self.client.as_mut().ok_or_else(|| StoreError::Failed("not connected".to_owned()))
    }

    fn statement(&mut self, sql: &str) -> Result<Statement, StoreError> {
        self.client()?;
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client()?.prepare(sql)?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn query(&mut self, sql: &str, arguments: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        self.again(|store| {
            let statement = store.statement(sql)?;
            let rows = store.client()?.query(&statement, arguments)?;
            rows.iter().map(row).collect()
        })
    }

    /// That an idle connection was lost shows only when it is used: then once more on a new one.
    fn again<T>(&mut self, mut act: impl FnMut(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let result = act(self);
        let lost = self.client.as_ref().is_some_and(Client::is_closed) && !self.in_transaction;
        if result.is_err() && lost { act(self) } else { result }
    }

    fn begin(&mut self, script: &str) -> Result<(), StoreError> {
        let begun = self.again(|store| Ok(store.client()?.batch_execute(script)?));
        self.in_transaction = begun.is_ok();
        if begun.is_err()
            && let Some(client) = &mut self.client
        {
            // What began before the lock was refused would refuse all that follows.
            let _ = client.batch_execute("ROLLBACK");
        }
        begun
    }
}

/// Takes the writer's number. Whoever had it before has gone a moment before the database notices.
fn claim(client: &mut Client, writer: u32) -> Result<(), StoreError> {
    let number = i32::from_be_bytes(writer.to_be_bytes());
    for _ in 0..CLAIM_TRIES {
        let row = client.query_one("SELECT pg_try_advisory_lock($1, $2)", &[&LOCKS, &number])?;
        if row.try_get::<_, bool>(0)? {
            return Ok(());
        }
        std::thread::sleep(CLAIM_INTERVAL);
    }
    Err(StoreError::Failed(format!("writer {writer} is in use by another process")))
}

impl Sql for Postgres {
    fn run(&mut self, script: &str) -> Result<(), StoreError> {
        match script {
            // All writers go one after the other: each settlement touches the plant's own accounts anyway, and so entries
            // have numbers without gaps, in the order of commits.
            "BEGIN IMMEDIATE" => self.begin("BEGIN; SELECT value FROM meta WHERE name = 'seq' FOR UPDATE"),
            "BEGIN" => self.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
            "COMMIT" | "ROLLBACK" => {
                let ended = self.client().and_then(|client| Ok(client.batch_execute(script)?));
                self.in_transaction = false;
                ended
            }
            _ => Ok(self.client()?.batch_execute(&translate(script))?),
        }
    }

    fn rows(&mut self, query: &str, arguments: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let arguments: Vec<_> = arguments.iter().map(|value| -> &(dyn ToSql + Sync) { value }).collect();
        self.query(query, &arguments)
    }

    fn put(&mut self, table: &'static Table, values: &[Value<'_>]) -> Result<(), StoreError> {
        if values.is_empty() {
            return Ok(());
        }
        let width = table.columns.len();
        let columns: Vec<Vec<&Value<'_>>> =
            (0..width).map(|column| values.iter().skip(column).step_by(width).collect()).collect();
        let arguments: Vec<_> = columns.iter().map(|column| -> &(dyn ToSql + Sync) { column }).collect();
        self.query(&upsert(table), &arguments).map(drop)
    }

    fn delete(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<(), StoreError> {
        let Some((column, kind)) = table.columns.first().filter(|_| !keys.is_empty()) else { return Ok(()) };
        let keys: Vec<_> = keys.iter().collect();
        self.query(&format!("DELETE FROM {} WHERE {column} = ANY($1::{}[])", table.name, name(*kind)), &[&keys])
            .map(drop)
    }

    fn find(&mut self, table: &'static Table, column: usize, keys: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        let Some((column, kind)) = table.columns.get(column).filter(|_| !keys.is_empty()) else {
            return Ok(Vec::new());
        };
        let names: Vec<_> = table.columns.iter().map(|(name, _)| *name).collect();
        let kind = name(*kind);
        let query = format!("SELECT {} FROM {} WHERE {column} = ANY($1::{kind}[])", names.join(", "), table.name);
        let keys: Vec<_> = keys.iter().collect();
        self.query(&query, &[&keys])
    }
}

/// Where the connection string says nothing, no wait for the network is for ever.
fn config(url: &str) -> Result<Config, StoreError> {
    let mut config: Config = url.parse()?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_LIMIT);
    }
    if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
        config.keepalives_idle(ALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(ALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(ALIVE_RETRIES);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNACKNOWLEDGED_LIMIT);
    }
    Ok(config)
}

fn name(kind: Type) -> &'static str {
    match kind {
        Type::Int => "bigint",
        Type::Bytes => "bytea",
        Type::Text => "text",
    }
}

/// The schema is written in SQLite's words.
fn translate(script: &str) -> String {
    script.replace("INTEGER", "BIGINT").replace("BLOB", "BYTEA").replace(" WITHOUT ROWID", "")
}

/// One statement for any number of rows: an array per column.
fn upsert(table: &'static Table) -> String {
    let names: Vec<_> = table.columns.iter().map(|(name, _)| *name).collect();
    let arrays: Vec<_> =
        (1..).zip(table.columns).map(|(place, (_, kind))| format!("${place}::{}[]", name(*kind))).collect();
    let (names, arrays) = (names.join(", "), arrays.join(", "));
    let mut sql = format!("INSERT INTO {} ({names}) SELECT * FROM unnest({arrays})", table.name);
    if table.replace {
        let (keys, rest) = table.columns.split_at(table.key);
        let keys: Vec<_> = keys.iter().map(|(name, _)| *name).collect();
        let sets: Vec<_> = rest.iter().map(|(name, _)| format!("{name} = excluded.{name}")).collect();
        let _ = write!(sql, " ON CONFLICT ({}) DO UPDATE SET {}", keys.join(", "), sets.join(", "));
    }
    sql
}

impl ToSql for Value<'_> {
    fn to_sql(&self, kind: &PgType, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(value) => value.to_sql(kind, out),
            Self::Bytes(value) => value.as_ref().to_sql(kind, out),
            Self::Text(value) => value.as_ref().to_sql(kind, out),
        }
    }

    fn accepts(kind: &PgType) -> bool {
        [PgType::INT8, PgType::BYTEA, PgType::TEXT].contains(kind)
    }

    postgres::types::to_sql_checked!();
}

fn row(found: &postgres::Row) -> Result<Row, StoreError> {
    let value = |(place, column): (usize, &postgres::Column)| {
        let value = match *column.type_() {
            PgType::INT8 => found.try_get::<_, Option<i64>>(place)?.map(Value::Int),
            PgType::BYTEA => found.try_get::<_, Option<Vec<u8>>>(place)?.map(|bytes| Value::Bytes(Cow::Owned(bytes))),
            PgType::TEXT => found.try_get::<_, Option<String>>(place)?.map(|text| Value::Text(Cow::Owned(text))),
            _ => None,
        };
        Ok(value.unwrap_or(Value::Null))
    };
    found.columns().iter().enumerate().map(value).collect()
}

impl From<postgres::Error> for StoreError {
    fn from(error: postgres::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        match error.code().map(postgres::error::SqlState::code) {
            Some("53100") => Self::Full(text),
            Some("XX001" | "XX002") => Self::Damaged(text),
            _ => Self::Failed(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_for_the_network_end_unless_the_connection_string_says_otherwise() {
        let limits = |url: &str| {
            let config = config(url).unwrap();
            (
                config.get_connect_timeout().map(Duration::as_secs),
                config.get_keepalives_idle().as_secs(),
                config.get_keepalives_interval().as_ref().map(Duration::as_secs),
                config.get_keepalives_retries(),
                config.get_tcp_user_timeout().map(Duration::as_secs),
            )
        };
        assert_eq!(limits("host=db user=books"), (Some(5), 10, Some(5), Some(3), Some(30)));
        let said = "host=db user=books connect_timeout=1 keepalives_idle=2 keepalives_interval=3 keepalives_retries=4 \
                    tcp_user_timeout=6";
        assert_eq!(limits(said), (Some(1), 2, Some(3), Some(4), Some(6)));
    }
}
