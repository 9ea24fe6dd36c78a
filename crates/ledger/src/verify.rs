//! Recomputes a ledger from its entries and compares.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;

use crate::book::Account;
use crate::error::StoreError;
use crate::ledger::{self, StoreSpec};
use crate::pack::{self, Hash};
use crate::sqlite::Sqlite;
use crate::store::{self, Sql, Stored};
use crate::tally::{Summary, Sums};
use crate::types::{AccountId, Balance, Entry, Unit, kind};

/// What was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each hashed into its chain.
    pub entries: u64,
    /// Each equal to the fold of the entries.
    pub accounts: u64,
    /// Each on accounts that say so, and not ended.
    pub holds: u64,
    /// Versions of documents.
    pub documents: u64,
    /// Each recomputed; 0 without a summary.
    pub tallies: u64,
    /// The last hash of each writer's chain: who keeps these can tell later that nothing before was changed.
    pub heads: Vec<(u32, [u8; 32])>,
}

/// The first thing found wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// An entry.
    #[error("entry {seq}: {what}")]
    Entry {
        /// Its number.
        seq: u64,
        /// What is wrong.
        what: String,
    },
    /// Something else than an entry.
    #[error("{0}")]
    State(String),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Recomputes chain, balances, holds, documents and tallies of a store, open or not, from one state of it, and compares
/// its end with the mark beside an embedded one. Without the store's summary the tallies are not checked.
///
/// # Errors
/// The first fault found.
pub fn verify(spec: &StoreSpec, summary: Option<&dyn Summary>) -> Result<Report, Fault> {
    let mut sql = ledger::reader(spec)?;
    if let StoreSpec::Sqlite(path) = spec {
        Sqlite::reader(path)?.integrity_check()?;
    }
    check(sql.as_mut(), summary, &AtomicBool::new(false))
}

/// As [`verify`], until `stop`.
pub(crate) fn check(sql: &mut dyn Sql, summary: Option<&dyn Summary>, stop: &AtomicBool) -> Result<Report, Fault> {
    let mut fold = Fold::default();
    // Entries never change, so only what they are compared with must be of one moment: the store goes on meanwhile.
    fold.add_all(sql, summary, stop)?;
    sql.run("BEGIN")?;
    fold.add_all(sql, summary, stop)?;
    let mut report = Report { entries: fold.chains.seq, documents: fold.documents, ..Report::default() };
    fold.check_heads(sql)?;
    report.heads = fold.chains.heads.iter().map(|(&writer, &hash)| (writer, hash)).collect();
    report.heads.sort_unstable();
    report.accounts = fold.check_accounts(sql)?;
    report.holds = check_holds(sql)?;
    fold.check_documents(sql)?;
    if let Some(summary) = summary {
        report.tallies = fold.check_tallies(sql, summary)?;
    }
    sql.run("COMMIT")?;
    Ok(report)
}

/// Where the writers' chains have come to.
#[derive(Default)]
pub(crate) struct Chains {
    /// Number of the last entry.
    pub(crate) seq: u64,
    heads: HashMap<u32, Hash>,
}

impl Chains {
    /// Checks the next entry and goes on from it, whatever was found.
    pub(crate) fn add(&mut self, Stored { entry, hash }: &Stored) -> Result<(), String> {
        let expected = self.seq.saturating_add(1);
        self.seq = entry.seq;
        let head = self.heads.entry(entry.writer).or_default();
        let follows = pack::link(head, entry.seq, entry.id, &pack::entry(entry)) == *hash;
        *head = *hash;
        match (entry.seq == expected, follows) {
            (false, _) => Err("is missing".to_owned()),
            (true, false) => Err("its hash does not follow from its content and the entry before".to_owned()),
            (true, true) => Ok(()),
        }
    }
}

/// What the entries come to.
#[derive(Default)]
struct Fold {
    chains: Chains,
    accounts: Vec<Account>,
    /// Balances; between two legs of one entry they may be out of a balance's range.
    posted: Vec<i128>,
    versions: HashMap<(u16, String), u64>,
    documents: u64,
    sums: Sums,
}

impl Fold {
    /// Adds the entries that are there now.
    fn add_all(&mut self, sql: &mut dyn Sql, summary: Option<&dyn Summary>, stop: &AtomicBool) -> Result<(), Fault> {
        loop {
            let page = store::entries(sql, self.chains.seq.saturating_add(1), store::PAGE)?;
            if page.is_empty() {
                return Ok(());
            }
            if stop.load(Ordering::Relaxed) {
                return Err(StoreError::Failed("stopped".to_owned()).into());
            }
            for stored in &page {
                let seq = self.chains.seq.saturating_add(1);
                self.add(stored, summary).map_err(|what| Fault::Entry { seq, what })?;
            }
        }
    }

    fn add(&mut self, stored: &Stored, summary: Option<&dyn Summary>) -> Result<(), String> {
        self.chains.add(stored)?;
        let entry = &stored.entry;
        match entry.kind {
            kind::OPENED => self.open(entry)?,
            kind::FLOOR => {
                let (id, floor) = pack::unpack_floor(&entry.detail).ok_or("its detail cannot be read")?;
                self.account(id)?.balance.floor = floor;
            }
            kind::DOCUMENT => self.document(entry)?,
            _ => {}
        }
        self.post(entry)?;
        if let Some(summary) = summary {
            self.sums.take(summary, entry);
        }
        Ok(())
    }

    fn open(&mut self, entry: &Entry) -> Result<(), String> {
        let (id, spec) = pack::unpack_opened(&entry.detail).ok_or("its detail cannot be read")?;
        if usize::try_from(id.0) != Ok(self.accounts.len()) {
            return Err(format!("it opens account {} out of order", id.0));
        }
        let balance = Balance { posted: 0, held: 0, floor: spec.floor };
        self.accounts.push(Account { spec: Arc::new(spec), balance });
        self.posted.push(0);
        Ok(())
    }

    fn document(&mut self, entry: &Entry) -> Result<(), String> {
        let document = pack::unpack_document(entry).ok_or("its detail cannot be read")?;
        let version = self.versions.entry((document.kind, document.key)).or_default();
        if version.checked_add(1) != Some(document.version) {
            return Err(format!("it puts version {} after version {version}", document.version));
        }
        *version = document.version;
        self.documents = self.documents.saturating_add(1);
        Ok(())
    }

    fn post(&mut self, entry: &Entry) -> Result<(), String> {
        let mut sums: Vec<(Unit, i128)> = Vec::new();
        for leg in &entry.legs {
            let unit = self.account(leg.account)?.spec.unit;
            if let Some(posted) = usize::try_from(leg.account.0).ok().and_then(|place| self.posted.get_mut(place)) {
                *posted = posted.saturating_add(leg.amount.into());
            }
            match sums.iter_mut().find(|(other, _)| *other == unit) {
                Some((_, sum)) => *sum = sum.saturating_add(leg.amount.into()),
                None => sums.push((unit, leg.amount.into())),
            }
        }
        match sums.into_iter().find(|(_, sum)| *sum != 0) {
            Some((unit, sum)) => Err(format!("its legs sum to {sum} in unit {}, not to zero", unit.0)),
            None => Ok(()),
        }
    }

    fn account(&mut self, id: AccountId) -> Result<&mut Account, String> {
        let place = usize::try_from(id.0).unwrap_or(usize::MAX);
        self.accounts.get_mut(place).ok_or_else(|| format!("it names account {}, which does not exist", id.0))
    }

    fn check_heads(&self, sql: &mut dyn Sql) -> Result<(), Fault> {
        let stored = store::heads(sql)?;
        // A writer that has written holds only has no chain yet.
        for (writer, head) in &stored {
            if self.chains.heads.get(writer).copied().unwrap_or_default() != head.hash {
                return Err(Fault::State(format!("writer {writer}'s chain does not end where it should")));
            }
        }
        let known = |writer: &u32| stored.iter().any(|(other, _)| other == writer);
        if self.chains.heads.keys().all(known) && store::meta(sql, "seq")? == self.chains.seq {
            Ok(())
        } else {
            Err(Fault::State("the last entries are missing".to_owned()))
        }
    }

    fn check_accounts(&self, sql: &mut dyn Sql) -> Result<u64, Fault> {
        let book = store::load(sql, 0)?;
        for ((id, account), &posted) in (0..).map(AccountId).zip(&self.accounts).zip(&self.posted) {
            let same = |stored: &Account| {
                let floor = account.balance.floor;
                stored.spec == account.spec
                    && (i128::from(stored.balance.posted), stored.balance.floor) == (posted, floor)
            };
            if !book.accounts.get(&id).is_some_and(same) {
                let name = &account.spec.name;
                return Err(Fault::State(format!("account {name:?} is not what its entries come to")));
            }
        }
        if book.accounts.len() == self.accounts.len() {
            Ok(book.account_count)
        } else {
            Err(Fault::State("an account was never opened".to_owned()))
        }
    }

    fn check_documents(&mut self, sql: &mut dyn Sql) -> Result<(), Fault> {
        let rows = sql.rows("SELECT COUNT(*) FROM document", &[])?;
        let count = rows.first().map_or(Ok(0), |row| store::natural(row, 0))?;
        let query = "SELECT kind, key, MAX(version), COUNT(*) FROM document GROUP BY kind, key";
        for row in sql.rows(query, &[])? {
            let (newest, versions) = (store::natural(&row, 2)?, store::natural(&row, 3)?);
            let key = (store::number(&row, 0)?, store::text(&row, 1)?.to_owned());
            if self.versions.remove(&key) != Some(newest) || newest != versions {
                return Err(Fault::State(format!("the versions of document {:?} are not those of its entries", key.1)));
            }
        }
        if self.versions.is_empty() && count == self.documents {
            Ok(())
        } else {
            Err(Fault::State("documents are missing".to_owned()))
        }
    }

    fn check_tallies(&mut self, sql: &mut dyn Sql, summary: &dyn Summary) -> Result<u64, Fault> {
        if store::meta(sql, "summary")? != u64::from(summary.version()) {
            return Err(Fault::State("the tallies are of another version; open the ledger once".to_owned()));
        }
        let mut count = 0_u64;
        let query = "SELECT key, sums FROM tally WHERE key > $1 ORDER BY key LIMIT $2";
        let mut after = Vec::new();
        loop {
            let page = sql.pairs(query, &[store::Value::Bytes(after.into()), store::Value::Int(store::PAGE)])?;
            let mut last = Vec::new();
            let all = store::each_tally(&page, &mut |tally| {
                last.clone_from(&tally.key);
                count = count.saturating_add(1);
                self.sums.remove(tally)
            })?;
            if !all {
                let key = last.escape_ascii();
                return Err(Fault::State(format!("tally \"{key}\" is not what its entries come to")));
            }
            if page.len() == 0 {
                break;
            }
            after = last;
        }
        if self.sums.is_empty() { Ok(count) } else { Err(Fault::State("tallies are missing".to_owned())) }
    }
}

/// No hold is open that an entry has ended, and there are as many as were counted. That holds and accounts agree is checked with the accounts.
fn check_holds(sql: &mut dyn Sql) -> Result<u64, Fault> {
    let holds = store::holds(sql)?;
    for hold in &holds {
        if let Some(entry) = sql.find(&store::ENTRY, 1, &[store::id_value(hold.id)])?.first() {
            return Err(Fault::Entry {
                seq: store::natural(entry, 0)?,
                what: format!("hold {} is still open", hold.id),
            });
        }
    }
    let count = u64::try_from(holds.len()).unwrap_or(u64::MAX);
    // A store of an older schema has no count.
    let counted = sql.rows("SELECT value FROM meta WHERE name = 'holds'", &[])?;
    match counted.first() {
        Some(row) if store::natural(row, 0)? != count => {
            Err(Fault::State("open holds are not as many as counted".to_owned()))
        }
        _ => Ok(count),
    }
}
