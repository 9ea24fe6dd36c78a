//! The words of the ledger: what may be asked and what is kept.

use std::fmt;

/// The limits of one command; more is refused as [`crate::Refusal::Limit`].
pub mod limit {
    /// Commands of one batch.
    pub const COMMANDS: usize = 1_000;
    /// Legs of one posting, and reserves of one hold.
    pub const LEGS: usize = 64;
    /// Open holds.
    pub const HOLDS: usize = 1_000_000;
    /// Bytes of an account's name, of a document's key and of an actor.
    pub const NAME: usize = 200;
    /// Bytes of the detail of a hold or posting.
    pub const DETAIL: usize = 16 * 1024;
    /// Bytes of a document.
    pub const BODY: usize = 256 * 1024;
}

/// Kinds of entries. Callers number theirs below [`kind::RESERVED`].
pub mod kind {
    /// The ledger's own kinds start here.
    pub const RESERVED: u16 = 0xff00;
    /// An account was opened.
    pub const OPENED: u16 = 0xff01;
    /// An account got another floor.
    pub const FLOOR: u16 = 0xff02;
    /// A hold ended without a posting because its owner said so; the detail is the hold's.
    pub const VOID: u16 = 0xff03;
    /// A hold ended without a posting because its time was over; the detail is the hold's.
    pub const EXPIRED: u16 = 0xff04;
    /// A document was put: an act of administration.
    pub const DOCUMENT: u16 = 0xff05;
}

/// Number of an account: given by the ledger, dense, from 0, in the order of opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub u64);

/// What an account counts. 0 = nano of the book's currency; the caller defines the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unit(pub u16);

macro_rules! account_kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal),* $(,)?) => {
        /// What an account is for. The ledger treats all alike; reports tell them apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum AccountKind { $($(#[$doc])* $name),* }

        impl AccountKind {
            /// All of them, by their codes.
            pub const ALL: [Self; [$($code),*].len()] = [$(Self::$name),*];

            /// As stored.
            pub fn code(self) -> u8 {
                match self { $(Self::$name => $code),* }
            }

            /// From what is stored.
            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// Lower-case name for exports.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

account_kinds! {
    /// What a customer has left to spend.
    Customer = 1 "customer",
    /// A pool of tokens or credits.
    Pool = 2 "pool",
    /// What may still be spent in a window.
    Budget = 3 "budget",
    /// Earned.
    Revenue = 4 "revenue",
    /// Given up as a discount.
    Discount = 5 "discount",
    /// Given back.
    Refund = 6 "refund",
    /// Differences of rounding.
    Rounding = 7 "rounding",
    /// Cost that no request used.
    Idle = 8 "idle",
    /// Cost attributed to requests.
    Cost = 9 "cost",
    /// The other side of grants and counters.
    Contra = 10 "contra",
    /// What work was worth.
    Value = 11 "value",
}

/// An account as asked for in [`Command::Open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSpec {
    /// Unique and readable, 1 to [`limit::NAME`] bytes, no control characters.
    pub name: String,
    /// For reports.
    pub kind: AccountKind,
    /// What it counts.
    pub unit: Unit,
    /// The lowest balance, holds included, that a hold or debit may leave. `None`: no limit.
    pub floor: Option<i64>,
}

/// One line of a posting: more (credit) or less (debit) on an account. A posting's legs sum to zero per unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Whose balance changes.
    pub account: AccountId,
    /// In the account's unit.
    pub amount: i64,
}

/// A part of a hold: so much of an account can't be spent otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// What it is taken from.
    pub account: AccountId,
    /// In the account's unit; not negative.
    pub amount: i64,
}

/// The caller's idempotency id, unique over all entries and holds. Ids that begin with the time keep the index of a
/// large store small and quick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub [u8; 16]);

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Opens an account. The same name and spec again: the same account; another spec is refused.
    Open(AccountSpec),
    /// Changes what later holds and debits may leave. A floor above the balance only stops spending.
    SetFloor {
        /// Which.
        account: AccountId,
        /// The new floor.
        floor: Option<i64>,
    },
    /// Posts at once: grants, refunds, credit notes.
    Post {
        /// Idempotency id.
        id: EntryId,
        /// Below [`kind::RESERVED`].
        kind: u16,
        /// At least one; sum to zero per unit.
        legs: Vec<Leg>,
        /// The caller's own, opaque.
        detail: Vec<u8>,
    },
    /// Reserves on all accounts or none. Refused when one would fall below its floor.
    Hold {
        /// Idempotency id; its settlement has the same.
        id: EntryId,
        /// What is held.
        reserves: Vec<Reserve>,
        /// From this time [`Command::Expire`] may end it. Milliseconds since the epoch.
        expires_ms: i64,
        /// The caller's own, opaque; given back by [`crate::Ledger::holds`].
        detail: Vec<u8>,
    },
    /// Reserves more on an open hold, all or none.
    Extend {
        /// Which hold.
        id: EntryId,
        /// In addition.
        reserves: Vec<Reserve>,
    },
    /// Ends a hold: releases all it reserved and posts the legs. What stays within the reserves always passes.
    Settle {
        /// Which hold.
        id: EntryId,
        /// Below [`kind::RESERVED`].
        kind: u16,
        /// Sum to zero per unit.
        legs: Vec<Leg>,
        /// The caller's own, opaque.
        detail: Vec<u8>,
    },
    /// Ends a hold without a posting.
    Void {
        /// Which hold.
        id: EntryId,
    },
    /// Ends a hold without a posting; refused before its `expires_ms`.
    Expire {
        /// Which hold.
        id: EntryId,
    },
    /// Appends a version of a document.
    Put {
        /// Idempotency id.
        id: EntryId,
        /// What kind of document; the caller's numbers.
        kind: u16,
        /// Which one; 1 to [`limit::NAME`] bytes.
        key: String,
        /// The current version + 1; the first is 1.
        version: u64,
        /// Who did it.
        actor: String,
        /// The whole new content.
        body: Vec<u8>,
    },
    /// Refuses the batch as [`crate::Refusal::Changed`] when an account's posted balance is another than expected.
    Expect {
        /// Which account.
        account: AccountId,
        /// The balance the caller read.
        posted: i64,
    },
}

/// Commands applied all or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The time to write on the entries, in milliseconds since the epoch; it need not grow.
    pub at_ms: i64,
    /// At most [`limit::COMMANDS`].
    pub commands: Vec<Command>,
}

/// What a command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The account, new or already there.
    Opened(AccountId),
    /// An entry with this number was written.
    Applied {
        /// Its place in the ledger, from 1.
        seq: u64,
    },
    /// The hold is open.
    Held,
    /// The hold holds more.
    Extended,
    /// The balance was as expected.
    Matched,
    /// The same id with the same content was applied before; nothing was done now.
    Replayed,
}

/// One record of the append-only ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place in the ledger, from 1 without gaps.
    pub seq: u64,
    /// Which writer's chain of hashes it belongs to.
    pub writer: u32,
    /// From [`Batch::at_ms`].
    pub at_ms: i64,
    /// The caller's, or one of [`kind`].
    pub kind: u16,
    /// `None` for [`kind::OPENED`] and [`kind::FLOOR`].
    pub id: Option<EntryId>,
    /// Sum to zero per unit.
    pub legs: Vec<Leg>,
    /// The caller's, or packed by the ledger for its own kinds.
    pub detail: Vec<u8>,
}

impl Entry {
    /// The document that it put, if it is an act of administration.
    #[must_use]
    pub fn document(&self) -> Option<Document> {
        crate::pack::unpack_document(self)
    }
}

/// An open hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its settlement will have the same.
    pub id: EntryId,
    /// When it was taken.
    pub at_ms: i64,
    /// When it may be expired.
    pub expires_ms: i64,
    /// As asked for at first.
    pub asked: Vec<Reserve>,
    /// All that is held now, one reserve per account.
    pub reserves: Vec<Reserve>,
    /// The caller's own.
    pub detail: Vec<u8>,
}

/// What an account stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Sum of all legs.
    pub posted: i64,
    /// Sum of the reserves of open holds.
    pub held: i64,
    /// See [`AccountSpec::floor`].
    pub floor: Option<i64>,
}

/// One version of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The entry that put it.
    pub seq: u64,
    /// When it was put.
    pub at_ms: i64,
    /// The id of that entry.
    pub id: EntryId,
    /// What kind of document.
    pub kind: u16,
    /// Which one.
    pub key: String,
    /// From 1.
    pub version: u64,
    /// Who put it.
    pub actor: String,
    /// The whole content.
    pub body: Vec<u8>,
}
