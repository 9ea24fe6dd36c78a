//! A disk that is full: new work is refused, what is open can be settled, nothing decided is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::embedded::{Thread, Writer};
use crate::error::{NotDurable, Refusal, StoreError};
use crate::ledger::{Options, StoreSpec};
use crate::mark::Mark;
use crate::receipt::Receipt;
use crate::sqlite::Sqlite;
use crate::store::{self, Row, Sql, Table, Value};
use crate::types::{AccountId, AccountKind, AccountSpec, Batch, Command, EntryId, Leg, Reserve, Unit};
use crate::verify::verify;

const WAIT: Duration = Duration::from_secs(60);

/// SQLite with a limit on its pages that can be moved: it answers as on a full disk.
struct Capped(Sqlite, Arc<AtomicU64>);

impl Sql for Capped {
    fn run(&mut self, script: &str) -> Result<(), StoreError> {
        if script.starts_with("BEGIN") {
            self.0.rows(&format!("PRAGMA max_page_count = {}", self.1.load(Ordering::SeqCst)), &[])?;
        }
        self.0.run(script)
    }

    fn rows(&mut self, query: &str, arguments: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        self.0.rows(query, arguments)
    }

    fn put(&mut self, table: &'static Table, values: &[Value<'_>]) -> Result<(), StoreError> {
        self.0.put(table, values)
    }

    fn delete(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<(), StoreError> {
        self.0.delete(table, keys)
    }

    fn find(&mut self, table: &'static Table, column: usize, keys: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        self.0.find(table, column, keys)
    }
}

fn id(number: u8) -> EntryId {
    EntryId([number; 16])
}

fn batch(command: Command) -> Batch {
    Batch { at_ms: 0, commands: vec![command] }
}

fn open(name: &str) -> Batch {
    let name = name.to_owned();
    batch(Command::Open(AccountSpec { name, kind: AccountKind::Customer, unit: Unit(0), floor: None }))
}

fn hold(number: u8) -> Batch {
    let reserves = vec![Reserve { account: AccountId(0), amount: 10 }];
    batch(Command::Hold { id: id(number), reserves, expires_ms: 0, detail: Vec::new() })
}

fn settle(number: u8) -> Batch {
    let legs = vec![Leg { account: AccountId(0), amount: -7 }, Leg { account: AccountId(1), amount: 7 }];
    batch(Command::Settle { id: id(number), kind: 1, legs, detail: vec![number; 16_000] })
}

/// A thread on a store that just got full, with ten open holds and the receipt that waits.
fn full(path: &std::path::Path) -> (Thread, Arc<crate::embedded::Desk>, Arc<AtomicU64>, Receipt) {
    let limit = Arc::new(AtomicU64::new(1_000_000));
    let mut sql = Sqlite::writer(path).unwrap();
    store::migrate(&mut sql, store::MIGRATIONS).unwrap();
    let history = Box::new(Sqlite::reader(path).unwrap());
    let writer = Writer::open(
        Box::new(Capped(sql, Arc::clone(&limit))),
        history,
        Mark::open(path).unwrap(),
        &Options::default(),
    )
    .unwrap();
    let desk = Arc::clone(&writer.desk);
    let thread = Thread::start(writer).unwrap();
    for name in ["a", "b"] {
        desk.submit(&open(name)).unwrap();
    }
    for number in 0..10 {
        desk.submit(&hold(number)).unwrap();
    }
    desk.submit(&settle(0)).unwrap().wait_durable(WAIT).unwrap();
    limit.store(1, Ordering::SeqCst);
    let waiting = desk.submit(&settle(1)).unwrap();
    // The writer says that it is full before it waits to try again.
    while !matches!(desk.submit(&hold(99)), Err(refused) if matches!(refused.refusal, Refusal::Unavailable { .. })) {
        desk.submit(&batch(Command::Void { id: id(99) })).unwrap();
        std::thread::yield_now();
    }
    (thread, desk, limit, waiting)
}

#[test]
fn a_full_disk_refuses_new_work_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    let (thread, desk, limit, waiting) = full(&path);
    let refused = desk.submit(&hold(99)).unwrap_err().refusal;
    assert!(refused.to_string().contains("full"), "{refused}");
    let receipts: Vec<_> = (2..10).map(|number| desk.submit(&settle(number)).unwrap()).collect();
    assert_eq!(waiting.wait_durable(Duration::ZERO), Err(NotDurable::Timeout));
    assert_eq!(desk.lock().book.accounts[&AccountId(1)].balance.posted, 70);
    limit.store(1_000_000, Ordering::SeqCst);
    waiting.wait_durable(WAIT).unwrap();
    receipts.iter().for_each(|receipt| receipt.wait_durable(WAIT).unwrap());
    desk.submit(&hold(98)).unwrap();
    drop(thread);
    let report = verify(&StoreSpec::Sqlite(path), None).unwrap();
    assert_eq!(report.holds, 1);
}

#[test]
fn who_waits_for_a_full_disk_hears_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (_thread, desk, limit, waiting) = full(&folder.path().join("books.db"));
    let failing = waiting.wait_unless_failing(WAIT, || desk.trouble());
    assert!(matches!(&failing, Err(NotDurable::Failing(reason)) if reason.contains("full")), "{failing:?}");
    limit.store(1_000_000, Ordering::SeqCst);
    waiting.wait_unless_failing(WAIT, || desk.trouble()).unwrap();
}

#[test]
fn what_a_full_disk_does_not_take_is_reported_lost_at_close() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    let (thread, desk, _, waiting) = full(&path);
    let last = desk.submit(&settle(2)).unwrap();
    drop(thread);
    for receipt in [waiting, last] {
        assert!(matches!(receipt.wait_durable(WAIT), Err(NotDurable::Lost(reason)) if reason.contains("full")));
    }
    assert!(matches!(desk.submit(&settle(3)).unwrap_err().refusal, Refusal::Unavailable { .. }));
    verify(&StoreSpec::Sqlite(path), None).unwrap();
}

#[test]
fn a_queue_keeps_its_second_half_for_what_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("books.db");
    let mut sql = Sqlite::writer(&path).unwrap();
    store::migrate(&mut sql, store::MIGRATIONS).unwrap();
    let history = Box::new(Sqlite::reader(&path).unwrap());
    let options = Options { queue_bytes: 100_000, ..Options::default() };
    let mut writer = Writer::open(Box::new(sql), history, Mark::open(&path).unwrap(), &options).unwrap();
    let desk = Arc::clone(&writer.desk);
    for name in ["a", "b"] {
        desk.submit(&open(name)).unwrap();
    }
    for number in 0..10 {
        desk.submit(&hold(number)).unwrap();
    }
    let settled = (0..10).take_while(|&number| desk.submit(&settle(number)).is_ok()).count();
    assert_eq!(settled, 5);
    assert!(matches!(desk.submit(&hold(99)).unwrap_err().refusal, Refusal::Unavailable { .. }));
    writer.gather();
    writer.commit().unwrap();
    (5..10).for_each(|number| drop(desk.submit(&settle(number)).unwrap()));
}
