//! The handle of an open ledger.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::embedded::{Desk, Thread, Writer};
use crate::error::{NotDurable, OpenError, Refused, StoreError};
use crate::group;
use crate::receipt::Receipt;
use crate::sqlite::{Lock, Sqlite};
use crate::store::{self, META, Sql, Value, whole};
use crate::types::{AccountId, AccountSpec, Balance, Batch, Document, Entry, EntryId, Hold};
use crate::verify::{Fault, Report, verify};

/// Where a ledger is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSpec {
    /// A file of this process alone, and its `.lock` and `-wal` beside it; made when it is not there.
    Sqlite(PathBuf),
}

/// How to open a ledger.
#[derive(Clone)]
pub struct Options {
    /// The number of this writer's chain.
    pub writer: u32,
    /// Roll-ups to keep.
    pub summary: Option<Arc<dyn Summary>>,
    /// The most that may wait to be written. New work is refused from half of it on.
    pub queue_bytes: usize,
    /// How long holds that nobody waits for may wait for company.
    pub linger: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { writer: 0, summary: None, queue_bytes: 64 * 1024 * 1024, linger: Duration::from_millis(10) }
    }
}

/// A roll-up: what an entry counts for. Its sums are stored in the entry's transaction, and [`Ledger::verify`]
/// recomputes them.
pub trait Summary: Send + Sync {
    /// From 1. With another version than the stored one all tallies are made anew when the ledger is opened.
    fn version(&self) -> u32;

    /// Calls `add` with keys and what to add to their sums. It depends on nothing but the entry.
    fn tally(&self, entry: &Entry, add: &mut dyn FnMut(&[u8], &[i64]));
}

/// The sums of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// From [`Summary::tally`].
    pub key: Vec<u8>,
    /// As many as the longest slice added.
    pub sums: Vec<i128>,
}

/// An open ledger. Clones are the same ledger; the last one dropped closes it, after all decided batches are written.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    desk: Arc<Desk>,
    // Dropped in this order: the writer ends, then others may open the file.
    _thread: Thread,
    reader: Mutex<Box<dyn Sql>>,
    _lock: Lock,
    spec: StoreSpec,
    summary: Option<Arc<dyn Summary>>,
}

impl Ledger {
    /// Opens or makes a ledger and checks it: the file's structure, every account and hold, the end of the chain.
    ///
    /// # Errors
    /// See [`OpenError`]: in use, newer, damaged, not to be read.
    pub fn open(spec: &StoreSpec, options: &Options) -> Result<Self, OpenError> {
        let StoreSpec::Sqlite(path) = spec;
        let lock = Lock::take(path)?;
        let mut sql = Sqlite::writer(path)?;
        sql.quick_check()?;
        store::migrate(&mut sql, store::MIGRATIONS)?;
        check_summary(&mut sql, options.summary.as_deref())?;
        let writer = Writer::open(Box::new(sql), Box::new(Sqlite::reader(path)?), options)?;
        let reader: Box<dyn Sql> = Box::new(Sqlite::reader(path)?);
        let desk = Arc::clone(&writer.desk);
        let thread = Thread::start(writer)?;
        Ok(Self(Arc::new(Inner {
            desk,
            _thread: thread,
            reader: Mutex::new(reader),
            _lock: lock,
            spec: spec.clone(),
            summary: options.summary.clone(),
        })))
    }

    /// Applies a batch, all or none. When it returns, the batch is decided: everyone sees it, and it is written in the
    /// order of decisions; wait for the [`Receipt`] to know it on the disk.
    ///
    /// # Errors
    /// [`Refused`] names the command and why; nothing was done.
    pub fn submit(&self, batch: &Batch) -> Result<Receipt, Refused> {
        self.0.desk.submit(batch)
    }

    /// Waits until everything decided so far is on the disk.
    ///
    /// # Errors
    /// As [`Receipt::wait_durable`].
    pub fn flush(&self, limit: Duration) -> Result<(), NotDurable> {
        let receipt = self.submit(&Batch { at_ms: 0, commands: Vec::new() });
        receipt.map_err(|refused| NotDurable::Lost(refused.to_string()))?.wait_durable(limit)
    }

    /// The account of a name.
    ///
    /// # Errors
    /// The store's.
    pub fn account(&self, name: &str) -> Result<Option<AccountId>, StoreError> {
        Ok(self.0.desk.lock().book.names.get(name).copied())
    }

    /// What an account was opened as.
    ///
    /// # Errors
    /// The store's.
    pub fn account_spec(&self, id: AccountId) -> Result<Option<Arc<AccountSpec>>, StoreError> {
        Ok(self.0.desk.lock().book.accounts.get(&id).map(|account| Arc::clone(&account.spec)))
    }

    /// What an account stands at, with all that is decided.
    ///
    /// # Errors
    /// The store's.
    pub fn balance(&self, id: AccountId) -> Result<Option<Balance>, StoreError> {
        Ok(self.0.desk.lock().book.accounts.get(&id).map(|account| account.balance))
    }

    /// All open holds.
    ///
    /// # Errors
    /// The store's.
    pub fn holds(&self) -> Result<Vec<Arc<Hold>>, StoreError> {
        Ok(self.0.desk.lock().book.holds.values().cloned().collect())
    }

    /// The latest version of each document of a kind, in the order in which they were put. Only what is on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn documents(&self, kind: u16) -> Result<Vec<Document>, StoreError> {
        store::documents(self.reader().as_mut(), kind, None)
    }

    /// All versions of one document, oldest first. Only what is on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn document_history(&self, kind: u16, key: &str) -> Result<Vec<Document>, StoreError> {
        store::documents(self.reader().as_mut(), kind, Some(key))
    }

    /// Up to `limit` (at most 10,000) entries from number `from` on. Only what is on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn entries(&self, from: u64, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let stored = store::entries(self.reader().as_mut(), from, limit.min(10_000).into())?;
        Ok(stored.into_iter().map(|stored| stored.entry).collect())
    }

    /// The entry of an id: a posting, the end of a hold, a document.
    ///
    /// # Errors
    /// The store's.
    pub fn entry_by_id(&self, id: EntryId) -> Result<Option<Entry>, StoreError> {
        let recent = self.0.desk.lock().book.recent.get(&id).cloned();
        match recent {
            Some(entry) => Ok(Some((*entry).clone())),
            None => Ok(store::entries_by_id(self.reader().as_mut(), &[id])?.pop()),
        }
    }

    /// Up to `limit` tallies with `from <= key < to`, in the order of keys. Only what is on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn tallies(&self, from: &[u8], to: &[u8], limit: u32) -> Result<Vec<Tally>, StoreError> {
        store::tallies(self.reader().as_mut(), from, to, limit.into())
    }

    /// Recomputes everything that is on the disk: see [`verify`]. Takes its own connection and disturbs nobody.
    ///
    /// # Errors
    /// The first fault found.
    pub fn verify(&self) -> Result<Report, Fault> {
        verify(&self.0.spec, self.0.summary.as_deref())
    }

    fn reader(&self) -> MutexGuard<'_, Box<dyn Sql>> {
        self.0.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the tallies anew when they are of another summary.
pub(crate) fn check_summary(sql: &mut dyn Sql, summary: Option<&dyn Summary>) -> Result<(), StoreError> {
    let version = summary.map_or(0, Summary::version);
    if store::meta(sql, "summary")? == version.into() {
        return Ok(());
    }
    sql.run("BEGIN")?;
    sql.run("DELETE FROM tally")?;
    if let Some(summary) = summary {
        let mut next = 1;
        loop {
            let mut sums = group::Sums::new();
            let page = store::entries(sql, next, store::PAGE)?;
            let Some(last) = page.last() else { break };
            next = last.entry.seq.saturating_add(1);
            page.iter().for_each(|stored| group::tally(summary, &stored.entry, &mut sums));
            group::add_sums(sql, &sums)?;
        }
    }
    sql.put(&META, &[Value::Text("summary".into()), whole(version.into())])?;
    sql.run("COMMIT")
}
