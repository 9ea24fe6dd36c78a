//! The handle of an open ledger.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::audit::{self, Audit};
use crate::book::Account;
use crate::embedded::{Desk, Thread, Writer};
use crate::error::{NotDurable, OpenError, Refused, StoreError};
use crate::export::{Format, export};
use crate::group;
use crate::mark::{self, Mark, Marked};
use crate::patient::{ANSWER_LIMIT, Patient};
use crate::postgres::Postgres;
use crate::receipt::Receipt;
use crate::shared::Shared;
use crate::sqlite::{Lock, Sqlite, copy};
use crate::store::{self, Head, META, Pairs, Sql, Value, whole};
use crate::tally::{Summary, Sums, Tally};
use crate::types::{AccountId, AccountSpec, Balance, Batch, Document, Entry, EntryId, Hold};
use crate::verify::{Fault, Report, verify};

/// Where a ledger is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSpec {
    /// A file of this process alone, and its `.lock` and `-wal` beside it; made when it is not there.
    Sqlite(PathBuf),
    /// A database that several writers, each with its own number, may share: a connection string or URL, without TLS.
    /// Every call may block on the network, so none may be made on the thread of an async runtime.
    Postgres(String),
}

/// Tallies read at one time; each may have 256 parts.
const TALLY_PAGE: u32 = 1_000;

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
    /// Up to so many entries are recomputed before the store is used.
    pub audit_at_once: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            writer: 0,
            summary: None,
            queue_bytes: 64 * 1024 * 1024,
            linger: Duration::from_millis(10),
            audit_at_once: 100_000,
        }
    }
}

/// An open ledger. Clones are the same ledger; the last one dropped closes it, after all decided batches are written.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    audit: Option<Audit>,
    engine: Engine,
    reader: Mutex<Box<dyn Sql>>,
    spec: StoreSpec,
    summary: Option<Arc<dyn Summary>>,
    // The last to be dropped: others may open the file then.
    _lock: Option<Lock>,
}

/// Who decides.
enum Engine {
    Embedded { desk: Arc<Desk>, _thread: Thread },
    Shared(Shared),
}

impl Ledger {
    /// Opens or makes a ledger and checks it. Embedded: that its end is there, then all that [`Ledger::verify`] does; when
    /// that takes long, the file's structure, every account and hold and the end of the chain at once, and the whole on
    /// a thread beside the work: see [`Ledger::sound`]. (Over PostgreSQL: the end of the chain; rows are checked as they
    /// are read.)
    ///
    /// # Errors
    /// See [`OpenError`]: in use, newer, damaged, not to be read.
    pub fn open(spec: &StoreSpec, options: &Options) -> Result<Self, OpenError> {
        let (engine, audit, lock) = match spec {
            StoreSpec::Sqlite(path) => {
                let (engine, audit, lock) = embedded(path, options)?;
                (engine, audit, Some(lock))
            }
            StoreSpec::Postgres(url) => {
                let mut sql = Postgres::connect(url, Some(options.writer))?;
                sql.rows("SELECT pg_advisory_lock($1)", &[Value::Int(PREPARE_LOCK)])?;
                let prepared = prepare(&mut sql, options);
                let unlocked = sql.rows("SELECT pg_advisory_unlock($1)", &[Value::Int(PREPARE_LOCK)]);
                prepared?;
                unlocked?;
                (Engine::Shared(Shared::open(Box::new(sql), options)?), None, None)
            }
        };
        let (reader, summary) = (Mutex::new(reader(spec)?), options.summary.clone());
        Ok(Self(Arc::new(Inner { audit, engine, reader, spec: spec.clone(), summary, _lock: lock })))
    }

    /// Why nothing comes to the disk now, if so: a full disk, a failing one.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.desk().and_then(Desk::trouble)
    }

    /// That nothing was found wrong with the store since it was opened.
    ///
    /// # Errors
    /// What was found. New work is refused then, and nothing is read any more.
    pub fn sound(&self) -> Result<(), StoreError> {
        self.desk().map_or(Ok(()), Desk::sound)
    }

    /// Applies a batch, all or none. When it returns, the batch is decided: everyone sees it, and it is written in the
    /// order of decisions; wait for the [`Receipt`] to know it on the disk.
    ///
    /// # Errors
    /// [`Refused`] names the command and why; nothing was done.
    pub fn submit(&self, batch: &Batch) -> Result<Receipt, Refused> {
        match &self.0.engine {
            Engine::Embedded { desk, .. } => desk.submit(batch),
            Engine::Shared(shared) => shared.submit(batch),
        }
    }

    /// Waits until everything decided so far is on the disk.
    ///
    /// # Errors
    /// As [`Receipt::wait_durable`]; [`NotDurable::Failing`] before `limit` is over when the store goes on failing.
    pub fn flush(&self, limit: Duration) -> Result<(), NotDurable> {
        let receipt = self.submit(&Batch { at_ms: 0, commands: Vec::new() });
        let receipt = receipt.map_err(|refused| NotDurable::Lost(refused.to_string()))?;
        receipt.wait_unless_failing(limit, || self.desk().and_then(Desk::trouble))
    }

    /// The account of a name.
    ///
    /// # Errors
    /// The store's.
    pub fn account(&self, name: &str) -> Result<Option<AccountId>, StoreError> {
        match self.desk() {
            Some(desk) => Ok(desk.lock().book.names.get(name).copied()),
            None => Ok(self.stored_account(1, &Value::Text(name.into()))?.map(|(id, _)| id)),
        }
    }

    /// What an account was opened as.
    ///
    /// # Errors
    /// The store's.
    pub fn account_spec(&self, id: AccountId) -> Result<Option<Arc<AccountSpec>>, StoreError> {
        Ok(self.account_state(id)?.map(|account| account.spec))
    }

    /// What an account stands at, with all that is decided.
    ///
    /// # Errors
    /// The store's.
    pub fn balance(&self, id: AccountId) -> Result<Option<Balance>, StoreError> {
        Ok(self.account_state(id)?.map(|account| account.balance))
    }

    /// What accounts stand at, all at one moment; those that are not there are left out.
    ///
    /// # Errors
    /// The store's.
    pub fn balances(&self, ids: &[AccountId]) -> Result<Vec<(AccountId, Balance)>, StoreError> {
        Ok(self.accounts(ids)?.into_iter().map(|(id, _, balance)| (id, balance)).collect())
    }

    /// What accounts were opened as and stand at, all at one moment; those that are not there are left out.
    ///
    /// # Errors
    /// The store's.
    pub fn accounts(&self, ids: &[AccountId]) -> Result<Vec<(AccountId, Arc<AccountSpec>, Balance)>, StoreError> {
        if let Some(desk) = self.desk() {
            desk.sound()?;
            let state = desk.lock();
            let account = |id: &AccountId| {
                let Account { spec, balance } = state.book.accounts.get(id)?;
                Some((*id, Arc::clone(spec), *balance))
            };
            return Ok(ids.iter().filter_map(account).collect());
        }
        let keys: Vec<_> = ids.iter().map(|id| whole(id.0)).collect();
        let rows = self.reader()?.find(&store::ACCOUNT, 0, &keys)?;
        rows.iter().map(|row| store::account(row).map(|(id, Account { spec, balance })| (id, spec, balance))).collect()
    }

    /// All open holds.
    ///
    /// # Errors
    /// The store's.
    pub fn holds(&self) -> Result<Vec<Arc<Hold>>, StoreError> {
        match self.desk() {
            Some(desk) => Ok(desk.lock().book.holds.values().cloned().collect()),
            None => Ok(store::holds(self.reader()?.as_mut())?.into_iter().map(Arc::new).collect()),
        }
    }

    /// The latest version of each document of a kind, in the order in which they were put. Only what is on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn documents(&self, kind: u16) -> Result<Vec<Document>, StoreError> {
        store::documents(self.reader()?.as_mut(), kind, None)
    }

    /// All versions of one document, oldest first. Only what is on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn document_history(&self, kind: u16, key: &str) -> Result<Vec<Document>, StoreError> {
        store::documents(self.reader()?.as_mut(), kind, Some(key))
    }

    /// Up to `limit` (at most 10,000) versions of documents of every kind that were put after entry `after`, oldest
    /// first: what is new, for whoever follows. Costs next to nothing when nothing is. Only what is on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn documents_after(&self, after: u64, limit: u32) -> Result<Vec<Document>, StoreError> {
        store::documents_after(self.reader()?.as_mut(), after, limit.min(10_000).into())
    }

    /// The number of the last entry that is on the disk; 0: none.
    ///
    /// # Errors
    /// The store's.
    pub fn last_seq(&self) -> Result<u64, StoreError> {
        store::meta(self.reader()?.as_mut(), "seq")
    }

    /// Whether other processes may write to the same store.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.0.engine, Engine::Shared(_))
    }

    /// Up to `limit` (at most 10,000) entries from number `from` on. Only what is on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn entries(&self, from: u64, limit: u32) -> Result<Vec<Entry>, StoreError> {
        let stored = store::entries(self.reader()?.as_mut(), from, limit.min(10_000).into())?;
        Ok(stored.into_iter().map(|stored| stored.entry).collect())
    }

    /// The entry of an id: a posting, the end of a hold, a document.
    ///
    /// # Errors
    /// The store's.
    pub fn entry_by_id(&self, id: EntryId) -> Result<Option<Entry>, StoreError> {
        let recent = self.desk().and_then(|desk| desk.lock().book.recent.get(&id).cloned());
        match recent {
            Some(entry) => Ok(Some((*entry).clone())),
            None => Ok(store::entries_by_id(self.reader()?.as_mut(), &[id])?.pop()),
        }
    }

    /// Up to `limit` tallies with `from <= key < to`, in the order of keys. Only what is on the disk.
    ///
    /// # Errors
    /// The store's; [`StoreError::Unaudited`] while a large store is still recomputed: tallies are what money is reported by.
    pub fn tallies(&self, from: &[u8], to: &[u8], limit: u32) -> Result<Vec<Tally>, StoreError> {
        self.check_tallies()?;
        owned(&self.tally_page((from, to), store::End::First, limit)?)
    }

    /// As [`Ledger::tallies`], but the last ones, from the end of the range backwards.
    ///
    /// # Errors
    /// The store's.
    pub fn last_tallies(&self, from: &[u8], to: &[u8], limit: u32) -> Result<Vec<Tally>, StoreError> {
        owned(&self.tally_page((from, to), store::End::Last, limit)?)
    }

    /// Shows `each` the tallies with `from <= key < to`, in the order of keys, until it gives `false`. Others may read
    /// meanwhile.
    ///
    /// # Errors
    /// As of [`Ledger::tallies`].
    pub fn visit_tallies(
        &self,
        from: &[u8],
        to: &[u8],
        each: &mut dyn FnMut(&Tally) -> bool,
    ) -> Result<(), StoreError> {
        self.check_tallies()?;
        let mut from = from.to_vec();
        loop {
            let page = self.tally_page((&from, to), store::End::First, TALLY_PAGE)?;
            let mut last = Vec::new();
            let all = store::each_tally(&page, &mut |tally| {
                last.clone_from(&tally.key);
                each(tally)
            })?;
            if !all || page.len() < usize::try_from(TALLY_PAGE).unwrap_or(usize::MAX) {
                return Ok(());
            }
            last.push(0);
            from = last;
        }
    }

    fn check_tallies(&self) -> Result<(), StoreError> {
        if self.0.audit.as_ref().is_some_and(|audit| !audit.is_done()) {
            return Err(StoreError::Unaudited);
        }
        Ok(())
    }

    fn tally_page(&self, range: (&[u8], &[u8]), end: store::End, limit: u32) -> Result<Pairs, StoreError> {
        store::tallies(self.reader()?.as_mut(), range, end, limit.into())
    }

    /// Recomputes everything that is on the disk: see [`verify`]. Takes its own connection and disturbs nobody. What is found
    /// wrong closes the ledger: see [`Ledger::sound`].
    ///
    /// # Errors
    /// The first fault found.
    pub fn verify(&self) -> Result<Report, Fault> {
        let found = verify(&self.0.spec, self.0.summary.as_deref());
        if let (Err(fault), Some(desk)) = (&found, self.desk()) {
            audit::tell(desk, fault);
        }
        found
    }

    /// Copies one state of the embedded store to a new file, while it goes on working. What is decided and not yet on
    /// the disk may be missing: [`Ledger::flush`] first.
    ///
    /// # Errors
    /// The store's; that `to` exists; that the store is a database, which has its own tools.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        backup(&self.0.spec, to)
    }

    /// Writes all entries that are on the disk: see [`export`].
    ///
    /// # Errors
    /// As [`export`].
    pub fn export(&self, format: Format, out: &mut dyn Write) -> Result<u64, StoreError> {
        export(&self.0.spec, format, out)
    }

    /// Where decisions are made in memory.
    fn desk(&self) -> Option<&Desk> {
        match &self.0.engine {
            Engine::Embedded { desk, .. } => Some(desk),
            Engine::Shared(_) => None,
        }
    }

    fn account_state(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.sound()?;
        match self.desk() {
            Some(desk) => Ok(desk.lock().book.accounts.get(&id).cloned()),
            None => Ok(self.stored_account(0, &whole(id.0))?.map(|(_, account)| account)),
        }
    }

    fn stored_account(&self, column: usize, key: &Value<'_>) -> Result<Option<(AccountId, Account)>, StoreError> {
        let rows = self.reader()?.find(&store::ACCOUNT, column, std::slice::from_ref(key))?;
        rows.first().map(store::account).transpose()
    }

    fn reader(&self) -> Result<MutexGuard<'_, Box<dyn Sql>>, StoreError> {
        self.sound()?;
        Ok(self.0.reader.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Copies one state of an embedded store, open or not, to a new file.
///
/// # Errors
/// As [`Ledger::backup`].
pub fn backup(spec: &StoreSpec, to: &Path) -> Result<(), StoreError> {
    match spec {
        StoreSpec::Sqlite(from) => {
            reader(spec)?;
            copy(from, to)
        }
        StoreSpec::Postgres(_) => Err(StoreError::Failed("back up a PostgreSQL database with pg_dump".to_owned())),
    }
}

/// Makes a store of a backup, after verifying it. `to` must not exist.
///
/// # Errors
/// What is wrong with the backup, or why `to` could not be made.
pub fn restore(from: &Path, to: &Path, summary: Option<&dyn Summary>) -> Result<Report, Fault> {
    let _lock = Lock::take(to).map_err(|error| match error {
        OpenError::Store(error) => error,
        other => StoreError::Failed(other.to_string()),
    })?;
    let report = verify(&StoreSpec::Sqlite(from.to_owned()), summary)?;
    copy(from, to)?;
    // It told of the store that was here before.
    mark::remove(to).map_err(|error| StoreError::Failed(format!("the mark of {}: {error}", to.display())))?;
    Ok(report)
}

/// Opens the file at `path` for this process alone.
fn embedded(path: &Path, options: &Options) -> Result<(Engine, Option<Audit>, Lock), OpenError> {
    let mut lock = Lock::take(path)?;
    let marked = Marked::read(path)?;
    // Nothing is begun anew in the place of what is missing.
    if let Some(marked) = marked.filter(|_| !path.exists()) {
        return Err(marked.cut_off(&Head::default()).into());
    }
    let mut sql = Sqlite::writer(path)?;
    lock.hold(path)?;
    if let Some(marked) = marked {
        marked.check(&mut sql)?;
    }
    let large = !sql.is_new()? && store::meta(&mut sql, "seq")? > options.audit_at_once;
    if large {
        sql.quick_check()?;
    }
    prepare(&mut sql, options)?;
    if !large {
        audit::at_once(&mut sql, options.summary.as_deref())?;
    }
    sql.checked()?;
    let history = Sqlite::reader(path)?;
    history.checked()?;
    let writer = Writer::open(Box::new(sql), Box::new(history), Mark::open(path)?, options)?;
    let desk = Arc::clone(&writer.desk);
    let audit = large.then(|| Audit::start(path, options.summary.clone(), Arc::clone(&desk))).transpose()?;
    Ok((Engine::Embedded { desk, _thread: Thread::start(writer)? }, audit, lock))
}

/// One at a time brings a shared database up to date.
const PREPARE_LOCK: i64 = 0x5477_4c62;

/// Schema and tallies of this program's versions.
fn prepare(sql: &mut dyn Sql, options: &Options) -> Result<(), StoreError> {
    store::migrate(sql, store::MIGRATIONS)?;
    check_summary(sql, options.summary.as_deref())
}

/// A connection that only reads, to a store that this program knows how to read and whose end is there.
pub(crate) fn reader(spec: &StoreSpec) -> Result<Box<dyn Sql>, StoreError> {
    let mut sql: Box<dyn Sql> = match spec {
        StoreSpec::Sqlite(path) => {
            // The mark first: the store is never older.
            let marked = Marked::read(path)?;
            let mut sql = Sqlite::reader(path)?;
            if let Some(marked) = marked {
                marked.check(&mut sql)?;
            }
            sql.checked()?;
            Box::new(sql)
        }
        StoreSpec::Postgres(url) => {
            let url = url.clone();
            Box::new(Patient::start(move || Postgres::connect(&url, None), ANSWER_LIMIT)?)
        }
    };
    store::schema(sql.as_mut(), store::MIGRATIONS)?;
    Ok(sql)
}

fn owned(pairs: &Pairs) -> Result<Vec<Tally>, StoreError> {
    let mut all = Vec::with_capacity(pairs.len());
    store::each_tally(pairs, &mut |tally| {
        all.push(tally.clone());
        true
    })?;
    Ok(all)
}

/// Makes the tallies anew when they are of another summary.
pub(crate) fn check_summary(sql: &mut dyn Sql, summary: Option<&dyn Summary>) -> Result<(), StoreError> {
    let version = summary.map_or(0, Summary::version);
    if store::meta(sql, "summary")? == u64::from(version) {
        return Ok(());
    }
    sql.run("BEGIN IMMEDIATE")?;
    sql.run("DELETE FROM tally")?;
    if let Some(summary) = summary {
        let mut next = 1;
        loop {
            let mut sums = Sums::default();
            let page = store::entries(sql, next, store::PAGE)?;
            let Some(last) = page.last() else { break };
            next = last.entry.seq.saturating_add(1);
            page.iter().for_each(|stored| sums.take(summary, &stored.entry));
            group::add_sums(sql, &sums)?;
        }
    }
    sql.put(&META, &[Value::Text("summary".into()), whole(version.into())])?;
    sql.run("COMMIT")
}
