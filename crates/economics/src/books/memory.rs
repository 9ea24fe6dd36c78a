//! The directory in memory: folded from the ledger's documents, changed here, and followed where other servers write too.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use ledger::{Batch, Command, Document, Ledger, Receipt, Refusal, Refused, StoreError};

use super::acts::document_id;
use super::invoices::check_windows;
use super::{BooksError, ChangeError, DURABLE_WAIT, Expected};
use crate::directory::authority::Authority;
use crate::directory::record::{Kind, Record};
use crate::{Directory, Invalid};

/// How often is looked for what other servers wrote. A change is effective everywhere this long after it was committed,
/// and the time of one small query.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// Documents read at a time.
const PAGE: u32 = 500;
/// How often a change is tried while other servers change the same record.
const TRIES: u32 = 64;

/// The directory and how far it has come.
pub(super) struct Memory {
    ledger: Ledger,
    directory: RwLock<Directory>,
    /// Locked for the whole of a change.
    known: Mutex<Known>,
}

/// Which documents are in the directory.
#[derive(Default)]
struct Known {
    /// The latest version of each, by kind and key.
    versions: HashMap<(u16, String), u64>,
    /// All up to this entry.
    seq: u64,
}

impl Memory {
    /// Folds the documents.
    pub(super) fn load(ledger: Ledger) -> Result<Self, BooksError> {
        // Read first: what others write meanwhile is followed, and what was read already is left out then.
        let seq = ledger.last_seq()?;
        let (mut directory, mut versions) = (Directory::default(), HashMap::new());
        for kind in Kind::ALL {
            let kind_code = kind.code();
            for latest in ledger.documents(kind_code)? {
                versions.insert((kind_code, latest.key.clone()), latest.version);
                // Of a price every version counts, of the others the latest.
                let is_price = *kind == Kind::Price;
                let all = if is_price { ledger.document_history(kind_code, &latest.key)? } else { vec![latest] };
                for document in all {
                    versions.insert((kind_code, document.key.clone()), document.version);
                    let record = Record::read(kind_code, &document.key, &document.body)?;
                    directory.insert_version(record, document.version)?;
                }
            }
        }
        Ok(Self { ledger, directory: RwLock::new(directory), known: Mutex::new(Known { versions, seq }) })
    }

    pub(super) fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, record: Record, version: u64) -> Result<(), Invalid> {
        self.directory.write().unwrap_or_else(PoisonError::into_inner).insert_version(record, version)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a record from the directory as it is, checks it within the caller's authority and writes it, if the one that
    /// it replaces is as expected. Gives it, its version, and what tells when it is on the disk.
    pub(super) fn change(
        &self,
        (authority, expected): (Authority<'_>, &Expected),
        build: impl Fn(&Directory) -> Result<Record, Invalid>,
        (actor, now_ms): (&str, i64),
    ) -> Result<(Record, u64, Receipt), ChangeError> {
        let mut known = self.known();
        let mut tries = 0;
        loop {
            tries += 1;
            if self.ledger.is_shared() {
                self.catch_up(&mut known)?;
            }
            let (record, present) = self.build((authority, expected), &build, &known, now_ms)?;
            let (kind, key, version) = (record.kind().code(), record.key(), present.saturating_add(1));
            let put = Command::Put {
                id: document_id(kind, &key, version),
                kind,
                key: key.clone(),
                version,
                actor: actor.to_owned(),
                body: record.body(),
            };
            match self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![put] }) {
                Ok(receipt) => {
                    known.versions.insert((kind, key), version);
                    // A request must not run under a price or plan that a crash would lose.
                    let late = matches!(record, Record::Price(_) | Record::Plan(_));
                    let durable = if late { receipt.wait_durable(DURABLE_WAIT) } else { Ok(()) };
                    // Also when the disk is slow, since the next change is checked against this one.
                    self.insert(record.clone(), version)?;
                    durable?;
                    return Ok((record, version, receipt));
                }
                // Another server was quicker: with its version taken in, this one is checked anew.
                Err(Refused { refusal: Refusal::BadVersion { .. } | Refusal::Conflict(_), .. })
                    if tries < TRIES && self.ledger.is_shared() => {}
                Err(refused) => return Err(refused.into()),
            }
        }
    }

    /// The record, and the version of the one that it replaces.
    fn build(
        &self,
        (authority, expected): (Authority<'_>, &Expected),
        build: &impl Fn(&Directory) -> Result<Record, Invalid>,
        known: &Known,
        now_ms: i64,
    ) -> Result<(Record, u64), ChangeError> {
        let directory = self.directory();
        let record = build(&directory)?.stamped(&directory, now_ms);
        authority.check(&directory, &record)?;
        // Not the directory's: it may lack what a newer program wrote.
        let (kind, key) = (record.kind(), record.key());
        let present = known.versions.get(&(kind.code(), key.clone())).copied().unwrap_or(0);
        if !expected.holds(present) {
            return Err(ChangeError::Stale { record: format!("{} `{key}`", kind.word()), present });
        }
        directory.check(&record)?;
        check_windows(&self.ledger, &directory, &record, now_ms)?;
        Ok((record, present))
    }

    /// Takes in what other servers wrote.
    pub(super) fn follow(&self) -> Result<(), StoreError> {
        self.catch_up(&mut self.known())
    }

    fn catch_up(&self, known: &mut Known) -> Result<(), StoreError> {
        loop {
            let page = self.ledger.documents_after(known.seq, PAGE)?;
            let Some(last) = page.last().map(|document| document.seq) else { return Ok(()) };
            for document in page {
                self.take(document, known);
            }
            known.seq = last;
        }
    }

    fn take(&self, document: Document, known: &mut Known) {
        let Document { kind, key, version, body, .. } = document;
        if Kind::from_code(kind).is_none() {
            return;
        }
        let before = known.versions.entry((kind, key.clone())).or_default();
        if version <= *before {
            return;
        }
        *before = version;
        // It was checked by the server that wrote it, so only a newer program's record is not understood.
        if let Err(error) = Record::read(kind, &key, &body).and_then(|record| self.insert(record, version)) {
            tracing::error!("what another server wrote is not in force here, update this one: {error}");
        }
    }
}

/// The thread that follows what other servers write. Dropped, it has ended.
pub(super) struct Follower {
    /// Dropped: the thread ends.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    pub(super) fn start(memory: Arc<Memory>) -> io::Result<Self> {
        let (stop, stopped) = sync_channel(0);
        let thread = std::thread::Builder::new().name("directory".to_owned()).spawn(move || run(&memory, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that follows the directory panicked");
        }
    }
}

fn run(memory: &Memory, stopped: &Receiver<()>) {
    let mut failing = false;
    while stopped.recv_timeout(FOLLOW_EVERY) == Err(RecvTimeoutError::Timeout) {
        let result = memory.follow();
        match &result {
            Err(error) if !failing => tracing::error!("changes by other servers are not seen now: {error}"),
            Ok(()) if failing => tracing::info!("changes by other servers are seen again"),
            _ => {}
        }
        failing = result.is_err();
    }
}
