//! Which accounts there are and what they are called.

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger::{
    AccountId, AccountKind, AccountSpec, Batch, Command, EntryId, Ledger, NotDurable, Outcome, Refusal, Refused,
    StoreError, Unit,
};
use sha2::{Digest, Sha256};

use super::detail::Accounts;
use super::{Books, DURABLE_WAIT, unknown};
use crate::directory::Identity;
use crate::directory::record::Organisation;
use crate::limits::Subject;
use crate::plan::Budget;
use crate::window::Period;
use crate::{FrozenPrice, Invalid, Nano, Window};

/// Units of the accounts.
pub mod unit {
    use ledger::Unit;

    /// Nano-units of the book currency.
    pub const MONEY: Unit = Unit(0);
    /// Thousandths of a pool token.
    pub const POOL: Unit = Unit(1);
    /// Nano-units of the book currency, counted against budgets.
    pub const BUDGET: Unit = Unit(2);
    /// Tokens, counted for volume tiers.
    pub const VOLUME: Unit = Unit(3);
}

/// The plant's own accounts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plant {
    pub(super) revenue: AccountId,
    pub(super) discount: AccountId,
    pub(super) refund: AccountId,
    pub(super) received: AccountId,
    /// The other sides of pools, budgets and volumes.
    pub(super) pool: AccountId,
    pub(super) budget: AccountId,
    pub(super) volume: AccountId,
}

/// Changes of accounts on their way to the disk.
#[derive(Default)]
pub(super) struct AccountChanges {
    running: AtomicUsize,
    turn: Mutex<()>,
}

impl AccountChanges {
    fn one_by_one(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an account could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccountError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    NotDurable(#[from] NotDurable),
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

impl Plant {
    pub(super) fn open(ledger: &Ledger, now_ms: i64) -> Result<Self, Refused> {
        let open = |name: &str, kind, unit| open(ledger, &spec(format!("plant/{name}"), kind, unit, None), now_ms);
        Ok(Self {
            revenue: open("revenue", AccountKind::Revenue, unit::MONEY)?,
            discount: open("discount", AccountKind::Discount, unit::MONEY)?,
            refund: open("refund", AccountKind::Refund, unit::MONEY)?,
            received: open("received", AccountKind::Contra, unit::MONEY)?,
            pool: open("pool", AccountKind::Contra, unit::POOL)?,
            budget: open("budget", AccountKind::Contra, unit::BUDGET)?,
            volume: open("volume", AccountKind::Contra, unit::VOLUME)?,
        })
    }
}

fn spec(name: String, kind: AccountKind, unit: Unit, floor: Option<i64>) -> AccountSpec {
    AccountSpec { name, kind, unit, floor }
}

fn open(ledger: &Ledger, spec: &AccountSpec, now_ms: i64) -> Result<AccountId, Refused> {
    let receipt = ledger.submit(&Batch { at_ms: now_ms, commands: vec![Command::Open(spec.clone())] })?;
    match receipt.outcomes.first() {
        Some(Outcome::Opened(id)) => Ok(*id),
        _ => Err(Refused { index: 0, refusal: Refusal::Invalid("the ledger did not open an account") }),
    }
}

/// A part of an account's name: the text itself, or its hash where it is long or unusual.
fn part(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@' | b':');
    if !text.is_empty() && text.len() <= 40 && text.bytes().all(plain) {
        return text.to_owned();
    }
    let digest = Sha256::digest(text);
    digest.iter().take(16).fold("#".to_owned(), |mut name, byte| {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
        name
    })
}

pub(super) fn money_name(organisation: &str) -> String {
    format!("org/{}/money", part(organisation))
}

pub(super) fn pool_name(organisation: &str, window: &Window) -> String {
    format!("org/{}/pool/{}", part(organisation), window.label)
}

/// Budgets of different periods are different accounts, also when their windows begin on the same day.
pub(super) fn budget_name(subject: &Subject, period: Period, window: &Window) -> String {
    let period = match period {
        Period::Day => "day",
        Period::Month => "month",
        Period::Forever => "ever",
    };
    let level = subject.level.as_str().replace(' ', "-");
    let id: Vec<String> = subject.id.splitn(2, '/').map(part).collect();
    format!("budget/{level}/{}/{period}/{}", id.join("/"), window.label)
}

fn volume_name(organisation: &str, price: &FrozenPrice, window: &Window) -> String {
    format!("org/{}/volume/{}/{}/{}", part(organisation), part(price.list()), part(price.model()), window.label)
}

/// A budget that watches a request, for its alerts.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) account: AccountId,
    pub(super) subject: Subject,
    pub(super) budget: Budget,
    pub(super) window: Window,
}

impl Books {
    /// The account of that spec, opened at its first use; a floor that was changed meanwhile is changed in the ledger.
    /// Both wait for the disk, so that what a crash leaves in the journal never names an account that was lost.
    pub(super) fn account(&self, spec: &AccountSpec, now_ms: i64) -> Result<AccountId, AccountError> {
        if let Some(id) = self.known_account(spec)? {
            // Read after the account: who changed it has counted itself before.
            if self.account_changes.running.load(Ordering::SeqCst) > 0 {
                drop(self.account_changes.one_by_one());
            }
            return Ok(id);
        }
        self.account_changes.running.fetch_add(1, Ordering::SeqCst);
        let result = self.change_account(spec, now_ms);
        self.account_changes.running.fetch_sub(1, Ordering::SeqCst);
        result
    }

    fn known_account(&self, spec: &AccountSpec) -> Result<Option<AccountId>, AccountError> {
        let Some(id) = self.ledger.account(&spec.name)? else { return Ok(None) };
        let floor = self.ledger.balance(id)?.and_then(|balance| balance.floor);
        Ok((floor == spec.floor).then_some(id))
    }

    fn change_account(&self, spec: &AccountSpec, now_ms: i64) -> Result<AccountId, AccountError> {
        let _turn = self.account_changes.one_by_one();
        if let Some(id) = self.known_account(spec)? {
            return Ok(id); // Another request was quicker.
        }
        let id = match self.ledger.account(&spec.name)? {
            None => open(&self.ledger, spec, now_ms)?,
            Some(account) => {
                let command = Command::SetFloor { account, floor: spec.floor };
                self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![command] })?;
                account
            }
        };
        self.ledger.flush(DURABLE_WAIT)?;
        Ok(id)
    }

    fn money_account(&self, organisation: &Organisation, now_ms: i64) -> Result<AccountId, AccountError> {
        let floor = organisation.credit.map(|credit| credit.0.saturating_neg());
        let name = money_name(&organisation.id);
        self.account(&spec(name, AccountKind::Customer, unit::MONEY, floor), now_ms)
    }

    /// The money account of an organisation by its id.
    pub(super) fn money_of(&self, organisation: &str, now_ms: i64) -> Result<AccountId, AccountError> {
        let known = self.directory().organisation(organisation).cloned();
        self.money_account(&known.ok_or_else(|| unknown(organisation))?, now_ms)
    }

    /// Counts what was given back of a request's charge, never more than it.
    pub(super) fn credited_account(
        &self,
        request: EntryId,
        charged: Nano,
        now_ms: i64,
    ) -> Result<AccountId, AccountError> {
        let floor = Some(charged.0.saturating_neg());
        self.account(&spec(format!("credited/{request}"), AccountKind::Contra, unit::BUDGET, floor), now_ms)
    }

    /// All accounts of a request, those of its budgets with what to watch.
    pub(super) fn accounts(
        &self,
        identity: &Identity,
        price: &FrozenPrice,
        window: &Window,
        now_ms: i64,
    ) -> Result<(Accounts, Vec<Watch>), AccountError> {
        let organisation = &identity.organisation.id;
        let pool = identity.plan.pool.map(|pool| {
            let name = pool_name(organisation, window);
            self.account(&spec(name, AccountKind::Pool, unit::POOL, Some(-pool.units())), now_ms)
        });
        let volume = price.by_volume().then(|| {
            let name = volume_name(organisation, price, window);
            self.account(&spec(name, AccountKind::Contra, unit::VOLUME, None), now_ms)
        });
        let (mut budgets, mut watches) = (Vec::new(), Vec::new());
        for (subject, budget) in &identity.budgets {
            let window = identity.plan.calendar.window(budget.period, now_ms)?;
            let floor = (!budget.soft).then_some(budget.amount.0.saturating_neg());
            let name = budget_name(subject, budget.period, &window);
            let account = self.account(&spec(name, AccountKind::Budget, unit::BUDGET, floor), now_ms)?;
            budgets.push((account, !budget.soft));
            if !budget.alert_percent.is_empty() {
                let (subject, budget) = (subject.clone(), budget.clone());
                watches.push(Watch { account, subject, budget, window });
            }
        }
        let money = self.money_account(&identity.organisation, now_ms)?;
        Ok((Accounts { money, pool: pool.transpose()?, volume: volume.transpose()?, budgets }, watches))
    }
}
