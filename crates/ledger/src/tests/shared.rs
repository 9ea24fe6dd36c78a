//! Decisions in a database: what is loaded for them, and what becomes of a transaction that cannot begin or is left alone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use test_support::Cluster;

use crate::error::{Refusal, StoreError};
use crate::ledger::{Ledger, Options, StoreSpec};
use crate::postgres::Postgres;
use crate::shared::Shared;
use crate::sqlite::Sqlite;
use crate::store::{self, Row, Sql, Table, Value};
use crate::types::{AccountId, AccountKind, AccountSpec, Batch, Command, EntryId, Outcome, Reserve, Unit, limit};

/// SQLite in the place of a shared database, and the most rows that a statement gave.
struct Counted(Sqlite, Arc<AtomicUsize>);

impl Counted {
    fn count(&self, rows: Vec<Row>) -> Vec<Row> {
        self.1.fetch_max(rows.len(), Ordering::SeqCst);
        rows
    }
}

impl Sql for Counted {
    fn run(&mut self, script: &str) -> Result<(), StoreError> {
        self.0.run(script)
    }

    fn rows(&mut self, query: &str, arguments: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        self.0.rows(query, arguments).map(|rows| self.count(rows))
    }

    fn put(&mut self, table: &'static Table, values: &[Value<'_>]) -> Result<(), StoreError> {
        self.0.put(table, values)
    }

    fn delete(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<(), StoreError> {
        self.0.delete(table, keys)
    }

    fn find(&mut self, table: &'static Table, column: usize, keys: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        self.0.find(table, column, keys).map(|rows| self.count(rows))
    }
}

/// A new store that `script` has changed, and the most rows so far.
fn open(path: &Path, script: &str) -> (Shared, Arc<AtomicUsize>) {
    let mut sql = Sqlite::writer(path).unwrap();
    store::migrate(&mut sql, store::MIGRATIONS).unwrap();
    sql.run(script).unwrap();
    let most = Arc::new(AtomicUsize::new(0));
    (Shared::open(Box::new(Counted(sql, Arc::clone(&most))), &Options::default()).unwrap(), most)
}

fn submit(shared: &Shared, command: Command) -> Result<Vec<Outcome>, Refusal> {
    let receipt = shared.submit(&Batch { at_ms: 0, commands: vec![command] }).map_err(|refused| refused.refusal)?;
    Ok(receipt.outcomes)
}

fn account(name: &str) -> Command {
    let name = name.to_owned();
    Command::Open(AccountSpec { name, kind: AccountKind::Customer, unit: Unit(0), floor: None })
}

#[test]
fn a_document_is_put_without_loading_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let (shared, most) = open(&folder.path().join("books.db"), "");
    let put = |kind: u16, version: u64| {
        let id = EntryId((u128::from(kind) << 64 | u128::from(version)).to_be_bytes());
        let (key, actor) = ("plan".to_owned(), "admin".to_owned());
        submit(&shared, Command::Put { id, kind, key, version, actor, body: Vec::new() })
    };
    (1..=30).for_each(|version| drop(put(1, version).unwrap()));
    most.store(0, Ordering::SeqCst);
    put(1, 31).unwrap();
    assert_eq!(put(1, 33), Err(Refusal::BadVersion { key: "plan".to_owned(), current: 31, given: 33 }));
    put(2, 1).unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[test]
fn open_holds_are_limited_wherever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let all_but_one = format!("UPDATE meta SET value = {} WHERE name = 'holds'", limit::HOLDS - 1);
    let (shared, _) = open(&folder.path().join("books.db"), &all_but_one);
    submit(&shared, account("a")).unwrap();
    let id = |number| EntryId([number; 16]);
    let hold = |number| {
        let reserves = vec![Reserve { account: AccountId(0), amount: 1 }];
        submit(&shared, Command::Hold { id: id(number), reserves, expires_ms: 0, detail: Vec::new() })
    };
    hold(1).unwrap();
    assert_eq!(hold(1), Ok(vec![Outcome::Replayed]));
    assert_eq!(hold(2), Err(Refusal::Limit { what: "open holds", max: limit::HOLDS }));
    submit(&shared, Command::Void { id: id(1) }).unwrap();
    hold(2).unwrap();
}

#[test]
fn a_transaction_that_cannot_begin_or_is_left_alone_stops_none_after_it() {
    let cluster = Cluster::start();
    let url = cluster.database("books");
    let spec = StoreSpec::Postgres(url.clone());
    drop(Ledger::open(&spec, &Options::default()).unwrap());
    let options = Options { writer: 1, ..Options::default() };

    // A writer that says nothing within its transaction has gone; others do not begin any.
    let limit = |sql: &mut Postgres| {
        let rows = sql.rows("SHOW idle_in_transaction_session_timeout", &[]).unwrap();
        store::text(&rows[0], 0).unwrap().to_owned()
    };
    assert_eq!(limit(&mut Postgres::connect(&url, None).unwrap()), "0");
    let mut sql = Postgres::connect(&url, Some(options.writer)).unwrap();
    assert_eq!(limit(&mut sql), "30s");
    sql.run("SET idle_in_transaction_session_timeout = '10ms'").unwrap();
    sql.run("BEGIN IMMEDIATE").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    sql.run("COMMIT").unwrap_err();
    sql.run("BEGIN IMMEDIATE").unwrap();
    sql.run("ROLLBACK").unwrap();

    sql.run("SET lock_timeout = '100ms'").unwrap();
    let shared = Shared::open(Box::new(sql), &options).unwrap();
    let mut other = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    other.batch_execute("BEGIN; SELECT value FROM meta WHERE name = 'seq' FOR UPDATE").unwrap();
    let refused = submit(&shared, account("a")).unwrap_err().to_string();
    assert!(refused.contains("lock timeout"), "{refused}");
    other.batch_execute("ROLLBACK").unwrap();
    assert_eq!(submit(&shared, account("a")), Ok(vec![Outcome::Opened(AccountId(0))]));

    // Why the schema cannot be brought up, and not that the transaction has failed.
    drop(shared);
    other.batch_execute("UPDATE meta SET value = 1 WHERE name = 'schema'").unwrap();
    let broken = Ledger::open(&spec, &Options { writer: 2, ..options }).err().unwrap().to_string();
    assert!(broken.contains("document_seq"), "{broken}");
}
