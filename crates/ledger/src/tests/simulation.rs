//! A seeded simulation: random batches, duplicates and clocks that jump; stores that fail and processes that die at any
//! statement. The auditor says after each step what must be.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::auditor::{Auditor, Why};
use crate::embedded::{Desk, Writer};
use crate::error::{NotDurable, Refusal, StoreError};
use crate::ledger::{Options, StoreSpec};
use crate::mark::{Mark, Marked};
use crate::receipt::Receipt;
use crate::sqlite::Sqlite;
use crate::store::{self, Row, Sql, Table, Value};
use crate::tally::Summary;
use crate::types::{AccountId, AccountKind, AccountSpec, Batch, Command, Entry, EntryId, Leg, Reserve, Unit};
use crate::verify;

/// What goes wrong next.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    /// After so many statements.
    after: Option<u32>,
    /// The process is dead from then on.
    dies: bool,
    /// The statement itself is still done.
    late: bool,
    dead: bool,
}

/// A store that fails as planned.
struct Faulty {
    sql: Sqlite,
    plan: Arc<Mutex<Plan>>,
}

impl Faulty {
    fn step<T>(&mut self, act: impl FnOnce(&mut Sqlite) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let fail = || StoreError::Failed("planned".to_owned());
        let mut plan = self.plan.lock().unwrap();
        if plan.dead {
            return Err(fail());
        }
        match plan.after {
            Some(0) => {
                let Plan { dies, late, .. } = *plan;
                *plan = Plan { dead: dies, ..Plan::default() };
                if late {
                    act(&mut self.sql)?;
                }
                Err(fail())
            }
            Some(more) => {
                plan.after = Some(more - 1);
                act(&mut self.sql)
            }
            None => act(&mut self.sql),
        }
    }
}

impl Sql for Faulty {
    fn run(&mut self, script: &str) -> Result<(), StoreError> {
        self.step(|sql| sql.run(script))
    }

    fn rows(&mut self, query: &str, arguments: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        self.step(|sql| sql.rows(query, arguments))
    }

    fn put(&mut self, table: &'static Table, values: &[Value<'_>]) -> Result<(), StoreError> {
        self.step(|sql| sql.put(table, values))
    }

    fn delete(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<(), StoreError> {
        self.step(|sql| sql.delete(table, keys))
    }

    fn find(&mut self, table: &'static Table, column: usize, keys: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        self.step(|sql| sql.find(table, column, keys))
    }
}

struct ByKind;

impl Summary for ByKind {
    fn version(&self) -> u32 {
        1
    }

    fn tally(&self, entry: &Entry, add: &mut crate::Add<'_>) {
        add(&entry.kind.to_be_bytes(), 0, &[1]);
        for leg in &entry.legs {
            add(&leg.account.0.to_be_bytes(), 0, &[leg.amount]);
        }
    }
}

fn open(path: &Path, plan: &Arc<Mutex<Plan>>) -> Writer {
    let marked = Marked::read(path).unwrap();
    let mut sql = Sqlite::writer(path).unwrap();
    if let Some(marked) = marked {
        marked.check(&mut sql).unwrap();
    }
    // Dying here is never a loss of power: what a statement wrote is seen by the next process.
    sql.run("PRAGMA synchronous = OFF").unwrap();
    store::migrate(&mut sql, store::MIGRATIONS).unwrap();
    crate::ledger::check_summary(&mut sql, Some(&ByKind)).unwrap();
    let history = Box::new(Sqlite::reader(path).unwrap());
    let options = Options { summary: Some(Arc::new(ByKind)), ..Options::default() };
    Writer::open(Box::new(Faulty { sql, plan: Arc::clone(plan) }), history, Mark::open(path).unwrap(), &options)
        .unwrap()
}

/// One world: a store, its writer, the auditor's state after each decided batch that may still be lost.
struct World {
    random: ChaCha8Rng,
    folder: tempfile::TempDir,
    plan: Arc<Mutex<Plan>>,
    writer: Option<Writer>,
    /// The group was gathered and is not committed.
    failing: bool,
    /// The first is on the disk for certain.
    states: Vec<Auditor>,
    /// Receipts of the batches behind `states[1..]`.
    receipts: Vec<Receipt>,
    sent: Vec<Batch>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    applied: u64,
    refused: u64,
    crashes: u64,
    lost: u64,
    errors: u64,
    /// While the store failed.
    turned_away: u64,
}

/// New work, which a failing store does not take.
fn opens(command: &Command) -> bool {
    use Command::{Expect, Expire, Settle, Void};
    !matches!(command, Settle { .. } | Void { .. } | Expire { .. } | Expect { .. })
}

impl World {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = Arc::<Mutex<Plan>>::default();
        let writer = open(&folder.path().join("books.db"), &plan);
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            folder,
            plan,
            writer: Some(writer),
            failing: false,
            states: vec![Auditor::default()],
            receipts: Vec::new(),
            sent: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Most of the commands that follow find their accounts.
    fn open_accounts(&mut self) {
        let open = |(number, floor)| {
            let name = format!("account {number}");
            Command::Open(AccountSpec { name, kind: AccountKind::Customer, unit: Unit(0), floor })
        };
        let commands = [(0, None), (1, Some(0)), (2, Some(-50)), (3, None)].map(open).to_vec();
        self.decide(Batch { at_ms: 0, commands });
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..70 => self.submit(),
            70..88 => self.write(),
            88..93 => {
                let after = Some(self.random.random_range(0..12));
                *self.plan.lock().unwrap() = Plan { after, ..Plan::default() };
            }
            93..99 => self.crash(),
            _ => self.close(),
        }
        self.compare();
    }

    fn submit(&mut self) {
        let repeat = self.random.random_range(0..6) == 0;
        let batch = match self.sent.choose(&mut self.random) {
            Some(old) if repeat => old.clone(),
            _ => self.batch(),
        };
        self.decide(batch);
    }

    fn decide(&mut self, batch: Batch) {
        let (next, expected) = self.states.last().unwrap().judge(&batch);
        match self.desk().submit(&batch) {
            Ok(receipt) => {
                assert_eq!(Ok(&receipt.outcomes), expected.as_ref(), "{batch:?}");
                self.states.push(next);
                self.receipts.push(receipt);
                self.counts.applied += 1;
            }
            Err(refused) if matches!(refused.refusal, Refusal::Unavailable { .. }) => {
                assert!(self.failing && batch.commands.iter().any(opens));
                self.counts.turned_away += 1;
            }
            Err(refused) => {
                let expected = expected.map_err(|(index, why)| (index, class(why)));
                assert_eq!(Err((refused.index, class(word(&refused.refusal)))), expected, "{batch:?}");
                self.counts.refused += 1;
            }
        }
        self.sent.push(batch);
    }

    fn write(&mut self) {
        let writer = self.writer.as_mut().unwrap();
        if !self.failing {
            writer.gather();
        }
        match writer.commit() {
            Ok(()) => self.failing = false,
            Err(error) => {
                writer.report(&error);
                self.failing = true;
                self.counts.errors += 1;
            }
        }
        let durable = self.receipts.iter().take_while(|receipt| receipt.wait_durable(Duration::ZERO) == Ok(())).count();
        self.receipts.drain(..durable);
        self.states.drain(..durable);
        assert!(self.receipts.iter().all(|receipt| receipt.wait_durable(Duration::ZERO) == Err(NotDurable::Timeout)));
    }

    /// The process dies at some statement of a transaction, or between two.
    fn crash(&mut self) {
        let (after, late) = (self.random.random_range(0..16), self.random.random());
        *self.plan.lock().unwrap() = Plan { after: Some(after), dies: true, late, dead: false };
        self.write();
        self.plan.lock().unwrap().dead = true;
        self.reopen();
        let found = self.desk().lock().book.seq;
        // Whole batches, in order, and all that were acknowledged.
        let survivor = self.states.iter().rposition(|state| self.matches(state));
        let survivor = survivor.unwrap_or_else(|| panic!("entry {found} is no state that was decided"));
        self.counts.crashes += 1;
        self.counts.lost += (self.states.len() - 1 - survivor) as u64;
        self.states = vec![self.states[survivor].clone()];
        self.receipts.clear();
    }

    fn close(&mut self) {
        *self.plan.lock().unwrap() = Plan::default();
        self.write();
        self.write();
        assert_eq!(self.states.len(), 1, "everything is written");
        self.reopen();
        let path = self.folder.path().join("books.db");
        let mut reader = Sqlite::reader(&path).unwrap();
        let state = &self.states[0];
        for account in 0..state.accounts() {
            let key = account.to_be_bytes();
            let tallies =
                store::tallies(&mut reader, (&key, &(account + 1).to_be_bytes()), store::End::First, 10).unwrap();
            let mut sum = 0;
            store::each_tally(&tallies, &mut |tally| {
                sum += if tally.key == key { tally.sums[0] } else { 0 };
                true
            })
            .unwrap();
            assert_eq!(sum, state.posted(account));
        }
        let report = verify::verify(&StoreSpec::Sqlite(path), Some(&ByKind)).unwrap();
        assert_eq!((report.entries, report.accounts), (state.seq, state.accounts()));
        assert_eq!(report.holds, state.hold_ids().len() as u64);
    }

    fn reopen(&mut self) {
        self.failing = false;
        // Only a closed connection gives up the lock of a transaction that was cut off.
        self.writer = None;
        *self.plan.lock().unwrap() = Plan::default();
        self.writer = Some(open(&self.folder.path().join("books.db"), &self.plan));
    }

    fn desk(&self) -> &Desk {
        &self.writer.as_ref().unwrap().desk
    }

    fn matches(&self, state: &Auditor) -> bool {
        let desk = self.desk().lock();
        let mut holds: Vec<EntryId> = desk.book.holds.keys().copied().collect();
        holds.sort_unstable();
        let same = |(id, account): (&AccountId, &crate::book::Account)| {
            let balance = account.balance;
            (i128::from(balance.posted), i128::from(balance.held), balance.floor)
                == (state.posted(id.0), state.held(id.0), state.floor(id.0))
        };
        desk.book.seq == state.seq
            && desk.book.account_count == state.accounts()
            && holds == state.hold_ids()
            && desk.book.accounts.iter().all(same)
    }

    fn compare(&self) {
        let state = self.states.last().unwrap();
        assert!(self.matches(state), "{:?}\n{state:?}", self.desk().lock().book);
        let sum: i128 = (0..state.accounts()).map(|account| state.posted(account)).sum();
        assert_eq!(sum, 0);
    }

    fn batch(&mut self) -> Batch {
        let jumps = [i64::MIN, i64::MAX, 0, 5_000];
        let near = self.random.random_range(-1_000..10_000);
        let at_ms = if self.random.random_range(0..5) == 0 { *jumps.choose(&mut self.random).unwrap() } else { near };
        let count = *[0, 1, 1, 1, 1, 2, 3].choose(&mut self.random).unwrap();
        Batch { at_ms, commands: (0..count).map(|_| self.command()).collect() }
    }

    fn command(&mut self) -> Command {
        let random = &mut self.random;
        let id = EntryId((random.random_range(0..300_u128) << 64).to_be_bytes());
        let account = AccountId(random.random_range(0..5));
        let detail = vec![7; random.random_range(0..3)];
        let amount = amount(random);
        match random.random_range(0..20) {
            0 => {
                let unit = Unit(u16::from(random.random_range(0..5) == 0));
                let name = format!("account {}", random.random_range(0..5));
                let floor = *[None, Some(0), Some(-50)].choose(random).unwrap();
                Command::Open(AccountSpec { name, kind: AccountKind::Customer, unit, floor })
            }
            2 => Command::SetFloor { account, floor: random.random::<bool>().then(|| random.random_range(-100..100)) },
            1 | 3..7 => Command::Post { id, kind: random.random_range(0..2), legs: legs(random), detail },
            7..11 => {
                let reserves = (0..random.random_range(0..4))
                    .map(|_| Reserve { account: AccountId(random.random_range(0..5)), amount: self::amount(random) })
                    .collect();
                Command::Hold { id, reserves, expires_ms: random.random_range(0..8_000), detail }
            }
            11..13 => Command::Extend { id, reserves: vec![Reserve { account, amount }] },
            13..17 => Command::Settle { id, kind: random.random_range(0..2), legs: legs(random), detail },
            17 => Command::Void { id },
            18 if random.random() => Command::Expire { id },
            18 => Command::Expect { account, posted: random.random_range(-3..3) },
            _ => {
                let (key, version) = (format!("key {}", random.random_range(0..2)), random.random_range(1..5));
                Command::Put { id, kind: 1, key, version, actor: "someone".to_owned(), body: detail }
            }
        }
    }
}

fn amount(random: &mut ChaCha8Rng) -> i64 {
    match random.random_range(0..40) {
        0 => *[i64::MAX, i64::MIN, i64::MAX / 2, -1].choose(random).unwrap(),
        _ => random.random_range(0..60),
    }
}

/// Mostly balanced.
fn legs(random: &mut ChaCha8Rng) -> Vec<Leg> {
    let mut legs = Vec::new();
    for _ in 0..random.random_range(1..3) {
        let amount = amount(random);
        let [from, to] = [(); 2].map(|()| AccountId(random.random_range(0..5)));
        legs.push(Leg { account: from, amount: amount.saturating_neg() });
        legs.push(Leg { account: to, amount });
    }
    if random.random_range(0..20) == 0 {
        legs.pop();
    }
    legs
}

/// Of several things wrong with one posting, either may be named; the tables of the book say which.
fn class(why: Why) -> Why {
    match why {
        "insufficient" | "unknown account" | "unbalanced" | "overflow" | "invalid" => "impossible",
        other => other,
    }
}

fn word(refusal: &Refusal) -> Why {
    match refusal {
        Refusal::Insufficient { .. } => "insufficient",
        Refusal::UnknownHold(_) => "unknown hold",
        Refusal::UnknownAccount(_) => "unknown account",
        Refusal::Conflict(_) => "conflict",
        Refusal::AccountDiffers(_) => "differs",
        Refusal::Unbalanced { .. } => "unbalanced",
        Refusal::Overflow => "overflow",
        Refusal::BadVersion { .. } => "version",
        Refusal::NotExpired { .. } => "not expired",
        Refusal::Changed { .. } => "changed",
        Refusal::Limit { .. } => "limit",
        Refusal::Invalid(_) => "invalid",
        Refusal::Unavailable { .. } => "unavailable",
    }
}

#[test]
fn any_interleaving_is_what_the_auditor_says() {
    let mut total = Counts::default();
    for seed in 0..60 {
        let mut world = World::new(seed);
        world.open_accounts();
        for step in 0..500 {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.step()));
            assert!(caught.is_ok(), "seed {seed}, step {step}");
        }
        world.close();
        let Counts { applied, refused, crashes, lost, errors, turned_away } = world.counts;
        total.applied += applied;
        total.refused += refused;
        total.crashes += crashes;
        total.lost += lost;
        total.errors += errors;
        total.turned_away += turned_away;
    }
    println!("{total:?}");
    assert!(total.crashes > 1_500 && total.lost > 800 && total.errors > 800 && total.applied > 6_000, "{total:?}");
}
