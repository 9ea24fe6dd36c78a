//! The books of a plant: who may ask, what it may cost, what it did cost, over one ledger.
//!
//! A request is admitted by one hold over all its accounts (money, pool, budgets of every level), extended while it
//! streams, and ends by one entry that posts what it used. See [`Books::admit`] and [`Ticket`].

mod accounts;
mod acts;
mod admin;
mod admit;
mod alert;
mod browse;
mod budgets;
mod cost_audit;
pub mod cost_detail;
pub mod costs;
pub mod detail;
mod experiments;
mod funds;
mod invoices;
mod memory;
mod opening;
pub mod outcome_detail;
mod outcomes;
mod recover;
mod request;
mod sheets;
mod ticket;
mod undo;

use std::sync::{Arc, OnceLock, RwLockReadGuard};
use std::time::Duration;

use ledger::{Batch, Command, EntryId, Ledger, NotDurable, OpenError, Options, Refused, StoreError, StoreSpec};
use sha2::{Digest, Sha256};

use crate::Nano;
use crate::directory::key::KeyHash;
use crate::directory::{Identity, OPERATOR, Unidentified};
use crate::limits::Limiter;
use crate::rollup::Rollup;
use crate::{Currency, Directory, Invalid};

use alert::KnownAlerts;
use memory::{Follower, Memory};

pub use accounts::unit;
pub use acts::{Act, ActsAfter};
pub(crate) use admin::unknown;
pub use admin::{ChangeError, Expected, PostError, Posted, Standing};
pub use admit::{Admission, AdmitError, HOLD_MS, InputQuote, METADATA_BYTES, USER_BYTES};
pub(crate) use alert::ALERT_KIND;
pub use alert::{Alert, Delivery, Notifier, Raised};
pub use browse::{EntriesBefore, EntryPage, MAX_LOOKED_AT, entry_kind_of, entry_word};
pub use budgets::{BudgetStanding, MAX_BUDGETS};
pub use cost_audit::{CostFault, CostReport, verify_costs};
pub use detail::{End, Joined, Metadata, Service};
pub use experiments::{NotCounted, Placement};
pub use opening::MAX_NEW_END_USERS;
pub use outcomes::{OutcomeError, Told};
pub use recover::{RecoverError, Recovered};
pub use sheets::SheetVersion;
pub use ticket::{Extension, SettleError, Settled, Ticket, progress};
pub use undo::Cost;

/// Who does what a plant does by itself when it starts. No id of a key holds a `/`.
const STARTED: &str = "server/start";
/// Document that names the book currency.
pub(crate) const CURRENCY_KIND: u16 = 100;
/// The document that marks the secret of the keys.
pub(crate) const SECRET_KIND: u16 = 102;
/// The document of a command on a model: loaded, unloaded, pinned.
pub(crate) const MODEL_KIND: u16 = 103;
/// The document of the plant's sheet.
pub(crate) const SHEET_KIND: u16 = 104;
/// How long an act of administration waits for the disk.
const DURABLE_WAIT: Duration = Duration::from_secs(30);

/// How many answer tokens are held at a time: small steps leave the money to others, large ones cost fewer extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Held at admission beside the whole prompt.
    pub first: u64,
    /// Further tokens of each extension.
    pub next: u64,
}

impl Default for Steps {
    fn default() -> Self {
        Self { first: 256, next: 256 }
    }
}

/// A key of the configuration: an admin of the plant that belongs to the house.
#[derive(Clone, Debug)]
pub struct BootstrapKey {
    /// Its name.
    pub name: String,
    /// The hash of its text.
    pub hash: KeyHash,
    /// Highest priority of its requests.
    pub max_priority: i32,
}

/// How to open the books.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the ledger is.
    pub store: StoreSpec,
    /// Number of this process among those that share the ledger.
    pub writer: u32,
    /// The book currency; must stay the same.
    pub currency: Currency,
    /// The plant's secret, under which keys are hashed.
    pub secret: Vec<u8>,
    /// Keys of the configuration.
    pub bootstrap: Vec<BootstrapKey>,
    /// Sizes of holds.
    pub steps: Steps,
}

/// Why the books were not opened.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    /// The ledger's reason.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The first entries could not be written.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The first entries are not on the disk.
    #[error(transparent)]
    NotDurable(#[from] NotDurable),
    /// A document cannot be read, or the configuration contradicts it.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// No thread to be had.
    #[error("no thread for the directory: {0}")]
    Thread(#[from] std::io::Error),
}

/// The open books. Shared by all requests.
pub struct Books {
    /// There where other servers write too. The first to end.
    _follower: Option<Follower>,
    ledger: Ledger,
    writer: u32,
    currency: Currency,
    secret: Vec<u8>,
    bootstrap: Vec<BootstrapKey>,
    steps: Steps,
    plant: accounts::Plant,
    memory: Arc<Memory>,
    changes: Arc<opening::AccountChanges>,
    limiter: Arc<Limiter>,
    known_alerts: KnownAlerts,
    outcomes: outcomes::OutcomeDesk,
    notifier: OnceLock<Arc<dyn Notifier>>,
}

impl Books {
    /// Opens the books and rebuilds the directory. Requests that a crash left open are not yet settled: see
    /// [`Books::recover`].
    ///
    /// # Errors
    /// The ledger cannot be opened, a document is damaged, or the currency or the secret is another than before.
    pub fn open(settings: Settings, now_ms: i64) -> Result<Arc<Self>, BooksError> {
        let audit_at_once = Options::default().audit_at_once;
        Self::open_with(settings, audit_at_once, now_ms)
    }

    /// As [`Books::open`], but however large the books are, all of them are recomputed before they are used: for whoever
    /// asks one thing and leaves.
    ///
    /// # Errors
    /// As [`Books::open`].
    pub fn open_audited(settings: Settings, now_ms: i64) -> Result<Arc<Self>, BooksError> {
        Self::open_with(settings, u64::MAX, now_ms)
    }

    /// Takes the secret of `settings` for that of the books from now on. No key that was made before is known any more
    /// until it gets a new text. The audit has it as an act of the operator. `false`: it was the books' secret before.
    ///
    /// # Errors
    /// As [`Books::open_audited`].
    pub fn take_secret(settings: &Settings, now_ms: i64) -> Result<bool, BooksError> {
        let ledger = open_ledger(settings, u64::MAX, now_ms)?;
        fix_secret(&ledger, &settings.secret, true, now_ms)
    }

    fn open_with(settings: Settings, audit_at_once: u64, now_ms: i64) -> Result<Arc<Self>, BooksError> {
        let ledger = open_ledger(&settings, audit_at_once, now_ms)?;
        fix_secret(&ledger, &settings.secret, false, now_ms)?;
        let plant = accounts::Plant::open(&ledger, now_ms)?;
        ledger.flush(DURABLE_WAIT)?;
        let memory = Arc::new(Memory::load(ledger.clone())?);
        let follower = ledger.is_shared().then(|| Follower::start(Arc::clone(&memory))).transpose()?;
        Ok(Arc::new(Self {
            _follower: follower,
            ledger,
            writer: settings.writer,
            currency: settings.currency,
            secret: settings.secret,
            bootstrap: settings.bootstrap,
            steps: Steps { first: settings.steps.first.max(1), next: settings.steps.next.max(1) },
            plant,
            memory,
            changes: Arc::default(),
            limiter: Arc::new(Limiter::default()),
            known_alerts: KnownAlerts::default(),
            outcomes: outcomes::OutcomeDesk::default(),
            notifier: OnceLock::new(),
        }))
    }

    /// The ledger below, for verification, export and backup.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Number of this process among those that share the ledger.
    #[must_use]
    pub fn writer(&self) -> u32 {
        self.writer
    }

    /// The book currency.
    #[must_use]
    pub fn currency(&self) -> &Currency {
        &self.currency
    }

    /// What the plant has sold since its books were begun: list prices less discounts and what was given back.
    ///
    /// # Errors
    /// The store's.
    pub fn sold(&self) -> Result<Nano, StoreError> {
        let accounts = [self.plant.revenue, self.plant.discount, self.plant.refund];
        let balances = self.ledger.balances(&accounts)?;
        Ok(balances.into_iter().fold(Nano::ZERO, |sum, (_, balance)| sum.saturating_add(Nano(balance.posted))))
    }

    /// The directory as it is now. Hold it briefly: changes wait.
    pub fn directory(&self) -> RwLockReadGuard<'_, Directory> {
        self.memory.directory()
    }

    /// The hash under which a key's text is kept.
    #[must_use]
    pub fn hash_key(&self, text: &str) -> KeyHash {
        KeyHash::of(&self.secret, text)
    }

    /// Who calls with the key `text`, on behalf of the end user `user` (empty: none).
    ///
    /// # Errors
    /// When the key is unknown, expired, revoked or suspended, or the end user is blocked.
    pub fn identify(&self, text: &str, user: &str, now_ms: i64) -> Result<Identity, Unidentified> {
        let hash = self.hash_key(text);
        // All are compared, each in constant time.
        let found = self.bootstrap.iter().fold(None, |found, key| if key.hash == hash { Some(key) } else { found });
        let directory = self.directory();
        let mut identity = match found {
            None => directory.identify(&hash, now_ms)?,
            Some(key) => directory.configured(&key.name, key.max_priority),
        };
        if !user.is_empty() {
            directory.for_end_user(&mut identity, user)?;
        }
        Ok(identity)
    }

    /// The house, for callers of this machine without keys.
    ///
    /// # Errors
    /// When the house is suspended or was never set up (see [`Books::serve_models`]).
    pub fn identify_house(&self, user: &str) -> Result<Identity, Unidentified> {
        let directory = self.directory();
        let mut identity = directory.house()?;
        if !user.is_empty() {
            directory.for_end_user(&mut identity, user)?;
        }
        Ok(identity)
    }

    /// Makes sure that the house has an explicit zero price for each of `models`.
    ///
    /// # Errors
    /// As [`Books::change`].
    pub fn serve_models(&self, models: &[String], now_ms: i64) -> Result<(), ChangeError> {
        let missing = self.directory().missing_house_records(models);
        missing.into_iter().try_for_each(|record| self.change(record, STARTED, now_ms).map(drop))
    }
}

/// The first 16 bytes of a hash over `parts`: the idempotency id of what they name.
fn id_of(parts: &[&str]) -> EntryId {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    EntryId(hash.finalize().first_chunk().copied().unwrap_or_default())
}

/// The currency of books, open or not, without opening them; `None`: nobody has used them yet.
///
/// # Errors
/// The store's.
pub fn currency_of(spec: &StoreSpec) -> Result<Option<String>, StoreError> {
    enum Stop {
        Found(String),
        Failed(StoreError),
    }
    impl From<StoreError> for Stop {
        fn from(error: StoreError) -> Self {
            Self::Failed(error)
        }
    }
    // It is among the first entries.
    let read = ledger::each_entry(spec, |entry| match entry.document() {
        Some(document) if document.kind == CURRENCY_KIND => {
            Err(Stop::Found(String::from_utf8_lossy(&document.body).into_owned()))
        }
        _ => Ok(()),
    });
    match read {
        Ok(_) => Ok(None),
        Err(Stop::Found(currency)) => Ok(Some(currency)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// The ledger of these books, in their currency. Up to `audit_at_once` entries are recomputed before it is used.
fn open_ledger(settings: &Settings, audit_at_once: u64, now_ms: i64) -> Result<Ledger, BooksError> {
    let summary = Some(Arc::new(Rollup) as Arc<dyn ledger::Summary>);
    let options = Options { writer: settings.writer, summary, audit_at_once, ..Options::default() };
    let ledger = Ledger::open(&settings.store, &options)?;
    fix_currency(&ledger, &settings.currency, now_ms)?;
    Ok(ledger)
}

/// Writes the currency at the first start; refuses another one later.
fn fix_currency(ledger: &Ledger, currency: &Currency, now_ms: i64) -> Result<(), BooksError> {
    if let Some(known) = ledger.documents(CURRENCY_KIND)?.pop() {
        if known.body != currency.code.as_bytes() {
            let problem = format!("the books are in {}, not {}", String::from_utf8_lossy(&known.body), currency.code);
            return Err(
                Invalid::new("currency", problem, "keep the currency, or begin new books in another file").into()
            );
        }
        return Ok(());
    }
    let put = Command::Put {
        id: id_of(&["currency"]),
        kind: CURRENCY_KIND,
        key: "currency".to_owned(),
        version: 1,
        actor: STARTED.to_owned(),
        body: currency.code.clone().into_bytes(),
    };
    ledger.submit(&Batch { at_ms: now_ms, commands: vec![put] })?.wait_durable(DURABLE_WAIT)?;
    Ok(())
}

/// The ledger's id of one mark of the secret.
fn secret_id(version: u64) -> EntryId {
    id_of(&["secret", &version.to_string()])
}

/// Keeps a mark of the secret that keys are hashed with, so that another one is found out: it would make every key wrong.
/// Says whether one was written.
fn fix_secret(ledger: &Ledger, secret: &[u8], new: bool, now_ms: i64) -> Result<bool, BooksError> {
    let mark = KeyHash::of(secret, "the secret of these books").to_string();
    let known = ledger.documents(SECRET_KIND)?.pop();
    match &known {
        Some(known) if known.body == mark.as_bytes() => return Ok(false),
        Some(_) if !new => {
            let problem = "the keys of these books are hashed with another secret";
            let fix = "copy it from where the books come from; if it is lost: `tokenworks keys reset-secret`";
            return Err(Invalid::new("server.key_secret_file", problem, fix).into());
        }
        _ => {}
    }
    // Only a person at the machine replaces one.
    let actor = if known.is_some() { OPERATOR } else { STARTED };
    let version = known.map_or(1, |known| known.version.saturating_add(1));
    let put = Command::Put {
        id: secret_id(version),
        kind: SECRET_KIND,
        key: "secret".to_owned(),
        version,
        actor: actor.to_owned(),
        body: mark.into_bytes(),
    };
    ledger.submit(&Batch { at_ms: now_ms, commands: vec![put] })?.wait_durable(DURABLE_WAIT)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
