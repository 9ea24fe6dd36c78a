//! What can go wrong, told apart by type.

use std::path::PathBuf;

use thiserror::Error;

use crate::types::{AccountId, EntryId, Unit};

/// Why a command, and with it its batch, was not applied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// An account would fall below its floor.
    #[error("account {name:?} has {available} left, {needed} are needed")]
    Insufficient {
        /// Which.
        account: AccountId,
        /// Its name.
        name: String,
        /// What could still be taken.
        available: i64,
        /// What was asked for.
        needed: i64,
    },
    /// There is no such hold and no entry with this id.
    #[error("there is no hold {0}")]
    UnknownHold(EntryId),
    /// There is no such account.
    #[error("there is no account {}", (.0).0)]
    UnknownAccount(AccountId),
    /// The id was used before with other content, or for a hold that has ended.
    #[error("id {0} was used before with other content")]
    Conflict(EntryId),
    /// An account of this name exists with another spec.
    #[error("account {0:?} exists with another kind, unit or floor")]
    AccountDiffers(String),
    /// The legs of a posting don't sum to zero.
    #[error("the legs sum to {sum} in unit {}, not to zero", unit.0)]
    Unbalanced {
        /// In which unit.
        unit: Unit,
        /// To what they sum.
        sum: i128,
    },
    /// A balance would leave the range of 64 bits.
    #[error("a balance would leave the range of 64 bits")]
    Overflow,
    /// Someone else put this document, or it has another version.
    #[error("document {key:?} is at version {current}, version {given} cannot follow")]
    BadVersion {
        /// Which document.
        key: String,
        /// Its version; 0 when it does not exist.
        current: u64,
        /// The version asked for.
        given: u64,
    },
    /// The hold's time is not over.
    #[error("hold {id} does not expire before {expires_ms} ms")]
    NotExpired {
        /// Which hold.
        id: EntryId,
        /// Its time.
        expires_ms: i64,
    },
    /// A balance is not what [`crate::Command::Expect`] says.
    #[error("account {} stands at {posted}", account.0)]
    Changed {
        /// Which.
        account: AccountId,
        /// Its posted balance.
        posted: i64,
    },
    /// Too many or too long.
    #[error("{what}: at most {max}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much may be.
        max: usize,
    },
    /// A field that makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// The store does not take new work: full, failing, overloaded or closed.
    #[error("the ledger takes no new work: {reason}")]
    Unavailable {
        /// What the store said.
        reason: String,
    },
}

/// A refused batch: nothing of it was done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("command {index}: {refusal}")]
pub struct Refused {
    /// Which command of the batch, from 0.
    pub index: usize,
    /// Why.
    pub refusal: Refusal,
}

/// Why a batch is not known to be on the disk. It was decided all the same.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotDurable {
    /// Not yet.
    #[error("not durable yet")]
    Timeout,
    /// Not yet, and the store has failed for a while.
    #[error("not durable yet: {0}")]
    Failing(String),
    /// The ledger was closed while its store failed; the batch is lost.
    #[error("lost: {0}")]
    Lost(String),
}

/// What a store says when it can't do something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// No space left.
    #[error("the store is full: {0}")]
    Full(String),
    /// The stored data contradicts itself.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The end of the stored data is missing: it was there once.
    #[error(
        "the store ends at entry {last}, and once it had entry {marked} on the disk: its last {turns} transactions are \
         missing, as when its `-wal` file is damaged, cut or deleted, or an older copy was put in its place"
    )]
    CutOff {
        /// The last entry that is there.
        last: u64,
        /// The last entry that was there.
        marked: u64,
        /// Transactions that are missing: entries, or holds only.
        turns: u64,
    },
    /// The mark beside the stored data, which says how far they go, cannot be read.
    #[error("{} cannot be read, so whether the last entries are there cannot be told", .0.display())]
    Unmarked(PathBuf),
    /// A large store is still being recomputed since it was opened.
    #[error("the ledger is still being recomputed since the start; ask again in a moment")]
    Unaudited,
    /// A newer program wrote it.
    #[error("the store has schema version {found}, this program knows up to {known}; use the newer program")]
    Newer {
        /// Version of the store.
        found: i64,
        /// Highest version this program knows.
        known: i64,
    },
    /// Anything else: an unreachable server, a failing disk.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// Why a ledger was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process (or another handle of this one) has it open.
    #[error("{} is in use by {by}", path.display())]
    InUse {
        /// Which store.
        path: PathBuf,
        /// Who says to have it open.
        by: String,
    },
    /// A newer program wrote it.
    #[error("the store has schema version {found}, this program knows up to {known}; use the newer program")]
    Newer {
        /// Version of the store.
        found: i64,
        /// Highest version this program knows.
        known: i64,
    },
    /// It can't be read, or contradicts itself.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Newer { found, known } => Self::Newer { found, known },
            other => Self::Store(other),
        }
    }
}
