//! Which accounts there are and what they are called.

use std::fmt::Write;

use ledger::{
    AccountId, AccountKind, AccountSpec, Balance, Batch, Command, EntryId, Ledger, NotDurable, Outcome, Refusal,
    Refused, StoreError, Unit,
};
use sha2::{Digest, Sha256};

use super::detail::Accounts;
use super::{Books, unknown};
use crate::directory::Identity;
use crate::directory::record::{Kind, Organisation, Record};
use crate::limits::{Level, Subject};
use crate::plan::{Budget, Plan, Pool};
use crate::window::Period;
use crate::{FrozenPrice, Invalid, Nano, Window};

/// How often accounts are looked for while others change them.
pub(super) const TRIES: u32 = 16;

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
    /// Microjoules.
    pub const ENERGY: Unit = Unit(4);
    /// Nano-units of the book currency that work was worth to those it was done for.
    pub const VALUE: Unit = Unit(5);
    /// Outcomes, each of their revisions.
    pub const OUTCOMES: Unit = Unit(6);
    /// Units of experiments.
    pub const EXPERIMENT_UNITS: Unit = Unit(7);

    /// The word for a unit, and how many decimals make one of it: money of `money`, `budget` and `value` is in units of the
    /// book currency.
    #[must_use]
    pub fn word(unit: Unit) -> (&'static str, u32) {
        match unit {
            MONEY => ("money", 9),
            POOL => ("pool_tokens", 3),
            BUDGET => ("budget", 9),
            VOLUME => ("tokens", 0),
            ENERGY => ("joules", 6),
            VALUE => ("value", 9),
            OUTCOMES => ("outcomes", 0),
            EXPERIMENT_UNITS => ("experiment_units", 0),
            _ => ("unknown", 0),
        }
    }

    /// An amount of a unit as exact decimal text.
    #[must_use]
    pub fn text(unit: Unit, amount: i64) -> String {
        crate::money::decimal(amount.into(), word(unit).1, 0)
    }
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
    #[error("others change the accounts all the time")]
    Changing,
}

impl Plant {
    pub(super) fn open(ledger: &Ledger, now_ms: i64) -> Result<Self, Refused> {
        let specs = [
            ("revenue", AccountKind::Revenue, unit::MONEY),
            ("discount", AccountKind::Discount, unit::MONEY),
            ("refund", AccountKind::Refund, unit::MONEY),
            ("received", AccountKind::Contra, unit::MONEY),
            ("pool", AccountKind::Contra, unit::POOL),
            ("budget", AccountKind::Contra, unit::BUDGET),
            ("volume", AccountKind::Contra, unit::VOLUME),
        ];
        let specs = specs.map(|(name, kind, unit)| spec(format!("plant/{name}"), kind, unit, None));
        let [revenue, discount, refund, received, pool, budget, volume] = open(ledger, specs, now_ms)?;
        Ok(Self { revenue, discount, refund, received, pool, budget, volume })
    }
}

pub(super) fn spec(name: String, kind: AccountKind, unit: Unit, floor: Option<i64>) -> AccountSpec {
    AccountSpec { name, kind, unit, floor }
}

/// The accounts of these specs; those that are not there are opened.
pub(super) fn open<const N: usize>(
    ledger: &Ledger,
    specs: [AccountSpec; N],
    now_ms: i64,
) -> Result<[AccountId; N], Refused> {
    let commands = specs.into_iter().map(Command::Open).collect();
    let receipt = ledger.submit(&Batch { at_ms: now_ms, commands })?;
    let opened = |done: &Outcome| if let Outcome::Opened(id) = done { Some(*id) } else { None };
    let ids: Vec<AccountId> = receipt.outcomes.iter().filter_map(opened).collect();
    let refusal = Refusal::Invalid("the ledger did not open an account");
    ids.try_into().map_err(|_other: Vec<AccountId>| Refused { index: 0, refusal })
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

/// The account that counts what was given back of a request's charge.
pub(super) fn credited_name(request: EntryId) -> String {
    format!("credited/{request}")
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

/// What people call the account of a name that [`money_name`], [`pool_name`] or [`budget_name`] made.
pub(super) fn spoken(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').collect();
    // What stands there as a hash is known to whoever is refused.
    let id = |parts: &[&str]| match parts.join("/") {
        id if id.contains('#') => String::new(),
        id => format!(" `{id}`"),
    };
    match parts.as_slice() {
        ["org", who, "money"] => format!("the account of{}", id(&[who])),
        ["org", who, "pool", from] => format!("the token pool of{} since {from}", id(&[who])),
        ["budget", level, who @ .., "ever", _] => format!("the budget of the {}{}", level.replace('-', " "), id(who)),
        ["budget", level, who @ .., period, from] => {
            format!("the budget of the {}{} for the {period} from {from}", level.replace('-', " "), id(who))
        }
        _ => format!("`{name}`"),
    }
}

fn volume_name(organisation: &str, price: &FrozenPrice, window: &Window) -> String {
    format!("org/{}/volume/{}/{}/{}", part(organisation), part(price.list()), part(price.model()), window.label)
}

fn money_spec(organisation: &Organisation) -> AccountSpec {
    let floor = organisation.credit.map(|credit| credit.0.saturating_neg());
    spec(money_name(&organisation.id), AccountKind::Customer, unit::MONEY, floor)
}

fn pool_spec(organisation: &str, pool: &Pool, window: &Window) -> AccountSpec {
    spec(pool_name(organisation, window), AccountKind::Pool, unit::POOL, Some(-pool.units()))
}

fn budget_spec(subject: &Subject, budget: &Budget, window: &Window) -> AccountSpec {
    let floor = (!budget.soft).then_some(budget.amount.0.saturating_neg());
    spec(budget_name(subject, budget.period, window), AccountKind::Budget, unit::BUDGET, floor)
}

/// A budget that watches a request, for its alerts.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) account: AccountId,
    pub(super) subject: Subject,
    pub(super) budget: Budget,
    pub(super) window: Window,
    /// What is left of it pays for no further token: as good as spent.
    pub(super) exhausted: bool,
}

impl Watch {
    /// The name of its account.
    pub(super) fn name(&self) -> String {
        budget_name(&self.subject, self.budget.period, &self.window)
    }
}

/// The accounts that a request needs, as the directory wants them to be.
pub(super) struct Wanted {
    pub(super) accounts: Accounts<AccountSpec>,
    /// The windows of its budgets.
    windows: Vec<Window>,
}

impl Wanted {
    pub(super) fn new(identity: &Identity, price: &FrozenPrice, window: &Window, now_ms: i64) -> Result<Self, Invalid> {
        let organisation = &identity.organisation.id;
        let pool = identity.plan.pool.map(|pool| pool_spec(organisation, &pool, window));
        let volume_name = || volume_name(organisation, price, window);
        let volume = price.by_volume().then(|| spec(volume_name(), AccountKind::Contra, unit::VOLUME, None));
        let (mut budgets, mut windows) = (Vec::new(), Vec::new());
        for (subject, budget) in &identity.budgets {
            let window = identity.plan.calendar.window(budget.period, now_ms)?;
            budgets.push((budget_spec(subject, budget, &window), !budget.soft));
            windows.push(window);
        }
        let money = money_spec(&identity.organisation);
        Ok(Self { accounts: Accounts { money, pool, volume, budgets }, windows })
    }

    /// What to watch, once the accounts are there.
    pub(super) fn watches(self, identity: &Identity, accounts: &Accounts) -> Vec<Watch> {
        let mut watches = Vec::new();
        for (((subject, budget), (account, _)), window) in
            identity.budgets.iter().zip(&accounts.budgets).zip(self.windows)
        {
            if !budget.alert_percent.is_empty() {
                let (subject, budget) = (subject.clone(), budget.clone());
                watches.push(Watch { account: *account, subject, budget, window, exhausted: false });
            }
        }
        watches
    }

    /// The end user's budget, if it has one, and its window.
    pub(super) fn end_user<'a>(&'a self, identity: &'a Identity) -> Option<(&'a AccountSpec, &'a Window)> {
        let at = identity.budgets.iter().position(|(subject, _)| subject.level == Level::EndUser)?;
        Some((&self.accounts.budgets.get(at)?.0, self.windows.get(at)?))
    }
}

impl Books {
    /// The accounts, if all are there as they are wanted to be. Those that others are just opening or changing are waited
    /// for until they are on the disk, so that what a crash leaves in the journal never names an account that was lost.
    pub(super) fn known_accounts(&self, wanted: &Accounts<AccountSpec>) -> Result<Option<Accounts>, AccountError> {
        let found = wanted.try_map(|spec| self.known_account(spec))?;
        let Ok(known) = found.try_map(|account| account.ok_or(())) else { return Ok(None) };
        // Asked after the accounts were found: who changes one has said so before.
        self.changes.wait_for(wanted.all().map(|spec| spec.name.as_str()))?;
        Ok(Some(known))
    }

    fn known_account(&self, spec: &AccountSpec) -> Result<Option<AccountId>, StoreError> {
        let Some(id) = self.ledger.account(&spec.name)? else { return Ok(None) };
        let floor = self.ledger.balance(id)?.and_then(|balance| balance.floor);
        Ok((floor == spec.floor).then_some(id))
    }

    /// What an account stands at, or will stand at once it is opened or its floor is changed.
    pub(super) fn balance_as_wanted(&self, spec: &AccountSpec) -> Result<Option<Balance>, StoreError> {
        let known = self.ledger.account(&spec.name)?.map_or(Ok(None), |account| self.ledger.balance(account))?;
        let known = known.unwrap_or(Balance { posted: 0, held: 0, floor: None });
        Ok(Some(Balance { floor: spec.floor, ..known }))
    }

    /// One account, opened at its first use.
    fn account(&self, spec: impl Fn() -> Result<AccountSpec, Invalid>, now_ms: i64) -> Result<AccountId, AccountError> {
        for _ in 0..TRIES {
            let wanted = Accounts { money: spec()?, pool: None, volume: None, budgets: Vec::new() };
            if let Some(known) = self.known_accounts(&wanted)? {
                return Ok(known.money);
            }
            let turn = self.turn()?;
            // Asked again in turn, as for a request.
            let underway = self.change_accounts(&turn, &[&spec()?], true, now_ms)?;
            drop(turn);
            underway.wait()?;
        }
        Err(AccountError::Changing)
    }

    /// The money account of an organisation by its id.
    pub(super) fn money_of(&self, organisation: &str, now_ms: i64) -> Result<AccountId, AccountError> {
        let spec = || self.directory().organisation(organisation).map(money_spec).ok_or_else(|| unknown(organisation));
        self.account(spec, now_ms)
    }

    /// Counts what was given back of a request's charge, never more than it.
    pub(super) fn credited_account(
        &self,
        request: EntryId,
        charged: Nano,
        now_ms: i64,
    ) -> Result<AccountId, AccountError> {
        let floor = Some(charged.0.saturating_neg());
        let spec = spec(credited_name(request), AccountKind::Contra, unit::BUDGET, floor);
        self.account(|| Ok(spec.clone()), now_ms)
    }

    /// The accounts whose floors follow from a record, as the directory has it now.
    pub(super) fn bounded_by(&self, kind: Kind, key: &str, now_ms: i64) -> Result<Vec<AccountSpec>, Invalid> {
        let directory = self.directory();
        let Some(record) = directory.record(kind, key) else { return Ok(Vec::new()) };
        let pool_of = |organisation: &Organisation, plan: &Plan| -> Result<Option<AccountSpec>, Invalid> {
            let window = plan.calendar.window(Period::Month, now_ms)?;
            Ok(plan.pool.map(|pool| pool_spec(&organisation.id, &pool, &window)))
        };
        let mut specs = Vec::new();
        if let Record::Plan(plan) = &record {
            for organisation in directory.organisations().filter(|organisation| organisation.plan == plan.id) {
                specs.extend(pool_of(organisation, plan)?);
            }
        }
        if let Record::Organisation(organisation) = &record {
            specs.push(money_spec(organisation));
            if let Some(Record::Plan(plan)) = directory.record(Kind::Plan, &organisation.plan) {
                specs.extend(pool_of(organisation, &plan)?);
            }
        }
        if let Some((subject, budget, calendar)) = directory.budget_of(&record) {
            specs.push(budget_spec(&subject, &budget, &calendar.window(budget.period, now_ms)?));
        }
        // Where a budget was taken away nothing stops running requests any more.
        if let Some((subject, calendar)) = directory.without_budget(&record) {
            for period in [Period::Day, Period::Month, Period::Forever] {
                let name = budget_name(&subject, period, &calendar.window(period, now_ms)?);
                specs.push(spec(name, AccountKind::Budget, unit::BUDGET, None));
            }
        }
        Ok(specs)
    }
}
