//! Tests of the books over a real ledger in a folder of their own.

mod admission;
mod alerts;
mod audit;
mod bounds;
mod budgets;
mod contention;
mod costs;
mod crash;
mod experiments;
mod focus;
mod fresh;
mod income;
mod invoices;
mod outcomes;
#[cfg(unix)]
mod several;
mod simulation;
mod tfp;
mod undo;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::*;
use crate::directory::record::{Bounds, Key, Kind, Organisation, Project, Record, Scope};
use crate::plan::{Budget, Plan, Pool, PoolEnd, Weights};
use crate::price::{PriceSpec, Tier};
use crate::window::{DAY_MS, Period};
use crate::{Nano, Quantities, Rate};

/// 15 November 2026, 12:00 UTC.
const NOW: i64 = 1_794_744_000_000;
const MODEL: &str = "gpt-4-turbo";
/// Price of the example: 10,000 nano a prompt token, 30,000 an answer token.
const IN: i64 = 10_000;
const OUT: i64 = 30_000;

pub(super) struct Plant {
    pub(super) books: Arc<Books>,
    folder: TempDir,
}

impl Plant {
    fn store(&self) -> StoreSpec {
        StoreSpec::Sqlite(self.folder.path().join("books.db"))
    }
}

fn settings(path: &Path) -> Settings {
    Settings {
        store: StoreSpec::Sqlite(path.to_owned()),
        writer: 0,
        currency: Currency::of("USD").unwrap(),
        secret: b"plant".to_vec(),
        bootstrap: vec![BootstrapKey { name: "ops".into(), hash: KeyHash::of(b"plant", "tw-config"), max_priority: 9 }],
        steps: Steps { first: 16, next: 16 },
    }
}

fn organisation(credit: Option<Nano>) -> Organisation {
    Organisation {
        id: "acme".into(),
        name: "Acme".into(),
        plan: "basic".into(),
        credit,
        bounds: Bounds::default(),
        end_user_bounds: Bounds::default(),
        suspended: false,
    }
}

fn project() -> Project {
    Project {
        id: "web".into(),
        organisation: "acme".into(),
        team: None,
        name: "Web".into(),
        bounds: Bounds::default(),
        suspended: false,
        store_content: None,
    }
}

fn key(bounds: Bounds) -> Key {
    Key {
        id: "k1".into(),
        project: "web".into(),
        name: "web".into(),
        prefix: "tw_one".into(),
        hash: KeyHash::of(b"plant", "tw_one"),
        previous: None,
        scopes: [Scope::Inference].into(),
        owner: None,
        expires: None,
        revoked: false,
        bounds,
        max_priority: 0,
    }
}

fn budget(nano: i64) -> Bounds {
    let budget = Budget { amount: Nano(nano), period: Period::Month, soft: false, alert_percent: vec![50, 100] };
    Bounds { budget: Some(budget), ..Bounds::default() }
}

/// Plant with the example's price, one customer on `plan` and one key with `bounds`.
fn plant_with(tiers: Vec<Tier>, plan: Plan, bounds: Bounds) -> Plant {
    let folder = tempfile::tempdir().unwrap();
    let books = Books::open(settings(&folder.path().join("books.db")), NOW).unwrap();
    furnish(&books, tiers, plan, bounds);
    Plant { books, folder }
}

fn furnish(books: &Books, tiers: Vec<Tier>, plan: Plan, bounds: Bounds) {
    let price = PriceSpec { tiers, ..PriceSpec::flat("standard", MODEL, Rate::ZERO, Rate::ZERO) };
    for record in [
        Record::Price(price),
        Record::Plan(plan),
        Record::Organisation(organisation(None)),
        Record::Project(project()),
        Record::Key(key(bounds)),
    ] {
        books.change(record, "admin", NOW).unwrap();
    }
}

fn example_tier() -> Tier {
    Tier::flat("0.01 per 1K".parse().unwrap(), "0.03 per 1K".parse().unwrap())
}

fn plant(bounds: Bounds) -> Plant {
    plant_with(vec![example_tier()], Plan::plain("basic"), bounds)
}

fn next_id() -> EntryId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut id = [0; 16];
    id[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    EntryId(id)
}

impl Plant {
    fn admit(&self, input: u64, max_output: u64) -> Result<Ticket, AdmitError> {
        self.admit_with("tw_one", input, max_output)
    }

    fn admit_with(&self, key: &str, input: u64, max_output: u64) -> Result<Ticket, AdmitError> {
        self.admit_for((key, ""), (input, max_output), NOW)
    }

    /// For an end user (empty: none), at a time.
    fn admit_for(
        &self,
        (key, user): (&str, &str),
        (input, max_output): (u64, u64),
        now_ms: i64,
    ) -> Result<Ticket, AdmitError> {
        let identity = self.books.identify(key, "", now_ms).unwrap();
        let (id, identity, tag) = (next_id(), &identity, "test");
        self.books.admit(Admission {
            id,
            identity,
            model: MODEL,
            base: None,
            input,
            max_output,
            tag,
            user,
            metadata: Metadata::NONE,
            now_ms,
        })
    }

    fn balance(&self, name: &str) -> ledger::Balance {
        let account = self.books.ledger().account(name).unwrap().unwrap_or_else(|| panic!("no account {name}"));
        self.books.ledger().balance(account).unwrap().unwrap()
    }

    /// Everything that must hold whenever no request runs.
    fn check(&self) {
        self.books.ledger().flush(DURABLE_WAIT).unwrap();
        assert!(self.books.ledger().holds().unwrap().is_empty());
        let report = self.books.ledger().verify().unwrap();
        assert!(report.tallies > 0 || report.entries < 20, "{report:?}");
    }
}

/// The whole directory.
fn records(books: &Books) -> Vec<Record> {
    let directory = books.directory();
    Kind::ALL.iter().flat_map(|kind| directory.records(*kind)).collect()
}

/// Holds the store's lock, as a disk does that does not answer.
struct Stuck(rusqlite::Connection);

impl Stuck {
    fn of(plant: &Plant) -> Self {
        let other = rusqlite::Connection::open(plant.folder.path().join("books.db")).unwrap();
        other.busy_timeout(Duration::from_secs(30)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(other)
    }

    fn end(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

fn used(input: u64, output: u64) -> Quantities {
    Quantities { in_uncached: input, out_visible: output, ..Quantities::default() }
}

/// The account that is spent.
fn spent(result: Result<Ticket, AdmitError>) -> String {
    match result.map(drop) {
        Err(AdmitError::Spent { account, .. }) => account,
        other => panic!("{other:?}"),
    }
}
