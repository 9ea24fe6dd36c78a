//! One suite for all stores: each scenario runs on each store that the ledger knows.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's own helper may fail the test")]

mod scenarios;
mod several;

use std::time::Duration;

use ledger::{
    AccountId, AccountKind, AccountSpec, Batch, Command, Entry, EntryId, Ledger, Leg, OpenError, Options, Outcome,
    Refusal, Reserve, StoreSpec, Summary, Unit,
};
use test_support::Cluster;

const WAIT: Duration = Duration::from_secs(60);

fn options(writer: u32) -> Options {
    Options { writer, summary: Some(std::sync::Arc::new(ByKind)), ..Options::default() }
}

/// A fresh store, opened as often as a scenario likes.
struct Place {
    spec: StoreSpec,
}

impl Place {
    fn open(&self) -> Ledger {
        Ledger::open(&self.spec, &options(0)).unwrap()
    }
}

/// Entries and credits by kind of entry; legs by account, in parts of one key.
struct ByKind;

impl Summary for ByKind {
    fn version(&self) -> u32 {
        1
    }

    fn tally(&self, entry: &Entry, add: &mut ledger::Add<'_>) {
        let credits = entry.legs.iter().map(|leg| leg.amount.max(0)).sum();
        add(&entry.kind.to_be_bytes(), 0, &[1, credits]);
        for leg in &entry.legs {
            add(b"legs", u8::try_from(leg.account.0).unwrap(), &[1, leg.amount]);
        }
    }
}

#[test]
fn sqlite() {
    for (name, scenario) in scenarios::ALL {
        println!("scenario {name}");
        let folder = tempfile::tempdir().unwrap();
        scenario(&Place { spec: StoreSpec::Sqlite(folder.path().join("books.db")) });
    }
}

#[test]
fn postgres() {
    let cluster = Cluster::start();
    let database = |name: &str| StoreSpec::Postgres(cluster.database(name));
    for (number, (name, scenario)) in scenarios::ALL.iter().enumerate() {
        println!("scenario {name}");
        scenario(&Place { spec: database(&format!("books{number}")) });
    }
    several::writers_share_a_database(&database("several"));
    several::what_was_changed_is_found(&database("changed"));
    several::a_server_that_dies_loses_nothing(&cluster, &database("dies"));
}

/// The id of a number.
fn id(number: u64) -> EntryId {
    EntryId((u128::from(number) << 64).to_be_bytes())
}

fn spec(name: &str, floor: Option<i64>) -> AccountSpec {
    AccountSpec { name: name.to_owned(), kind: AccountKind::Customer, unit: Unit(0), floor }
}

fn leg(account: AccountId, amount: i64) -> Leg {
    Leg { account, amount }
}

fn reserve(account: AccountId, amount: i64) -> Reserve {
    Reserve { account, amount }
}

/// Applies and waits for the disk.
fn submit(ledger: &Ledger, commands: Vec<Command>) -> Result<Vec<Outcome>, Refusal> {
    let receipt = ledger.submit(&Batch { at_ms: 1_000, commands }).map_err(|refused| refused.refusal)?;
    receipt.wait_durable(WAIT).unwrap();
    Ok(receipt.outcomes)
}

fn open_account(ledger: &Ledger, name: &str, floor: Option<i64>) -> AccountId {
    match submit(ledger, vec![Command::Open(spec(name, floor))]).unwrap()[..] {
        [Outcome::Opened(id)] => id,
        ref other => panic!("{other:?}"),
    }
}

fn grant(number: u64, from: AccountId, to: AccountId, amount: i64) -> Command {
    Command::Post {
        id: id(number),
        kind: 1,
        legs: vec![leg(from, -amount), leg(to, amount)],
        detail: b"grant".to_vec(),
    }
}

fn hold(number: u64, account: AccountId, amount: i64) -> Command {
    let reserves = vec![reserve(account, amount)];
    Command::Hold { id: id(number), reserves, expires_ms: 5_000, detail: format!("request {number}").into_bytes() }
}

fn settle(number: u64, from: AccountId, to: AccountId, amount: i64) -> Command {
    Command::Settle { id: id(number), kind: 2, legs: vec![leg(from, -amount), leg(to, amount)], detail: vec![7; 40] }
}

fn put(number: u64, key: &str, version: u64, body: &str) -> Command {
    let (key, actor, body) = (key.to_owned(), "admin".to_owned(), body.as_bytes().to_vec());
    Command::Put { id: id(number), kind: 3, key, version, actor, body }
}
