//! Acts of administration: changes of the directory, payments, credit notes.

use ledger::{AccountSpec, Batch, Command, EntryId, Leg, NotDurable, Outcome, Refusal, Refused, StoreError};

use super::accounts::{AccountError, money_name, pool_name};
use super::detail::{CreditNote, Payment, entry_kind};
use super::opening::Underway;
use super::{Books, DURABLE_WAIT, id_of};
use crate::directory::authority::{Authority, Denied};
use crate::directory::record::{Record, check_text};
use crate::window::Period;
use crate::{Directory, Invalid, Nano, Plan, Window};

/// Bytes of what names a payment or a credit note.
const MAX_REFERENCE: usize = 200;
/// Bytes of the reason of a credit note.
const MAX_REASON: usize = 1_000;

/// Why a change of the directory was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The record is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It reaches beyond the caller's authority.
    #[error(transparent)]
    Forbidden(Invalid),
    /// The record that it replaces is not as expected: somebody else changed it.
    #[error("{}", stale(record, *present))]
    Stale {
        /// The kind's word and the key.
        record: String,
        /// Its version; 0: there is none.
        present: u64,
    },
    /// The ledger's reason.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is decided, but not known to be on the disk.
    #[error(transparent)]
    NotDurable(#[from] NotDurable),
}

fn stale(record: &str, present: u64) -> String {
    match present {
        0 => format!("there is no {record}"),
        _ => format!("{record} is at version {present} now"),
    }
}

/// What a change expects of the record that it replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: whatever is there is replaced.
    #[default]
    Anything,
    /// That there is none yet.
    Absent,
    /// That there is one.
    Present,
    /// That it has one of these versions.
    Versions(Vec<u64>),
}

impl Expected {
    /// Whether a record of this version (0: none) is as expected.
    pub(super) fn holds(&self, version: u64) -> bool {
        match self {
            Self::Anything => true,
            Self::Absent => version == 0,
            Self::Present => version > 0,
            Self::Versions(versions) => version > 0 && versions.contains(&version),
        }
    }
}

impl From<Denied> for ChangeError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Forbidden(error) => Self::Forbidden(error),
            Denied::NotThere(error) => Self::Invalid(error),
        }
    }
}

/// Why a payment or credit note was not posted.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The ledger's reason.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is decided, but not known to be on the disk.
    #[error(transparent)]
    NotDurable(#[from] NotDurable),
}

impl From<AccountError> for PostError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::Store(error) => Self::Store(error),
            AccountError::Refused(error) => Self::Refused(error),
            AccountError::NotDurable(error) => Self::NotDurable(error),
            AccountError::Invalid(error) => Self::Invalid(error),
            AccountError::Changing => {
                let refusal = Refusal::Unavailable { reason: error.to_string() };
                Self::Refused(Refused { index: 0, refusal })
            }
        }
    }
}

/// A payment or credit note in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Its entry.
    pub entry: EntryId,
    /// It stood there already: nothing was booked.
    pub repeated: bool,
}

/// What an organisation has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = CustomerStanding)]
pub struct Standing {
    /// Its money: payments and credit notes less charges.
    pub balance: Nano,
    /// What running requests hold of it.
    pub held: Nano,
    /// Units left in the pool of the present window; `None` without a pool.
    #[schema(required = true)]
    pub pool_units_left: Option<i64>,
}

impl Books {
    /// Changes the directory: checks the record, writes it as a document by `actor`, waits for the disk. Returns the
    /// document's version. Effective at once for new requests, and a budget for running ones too; prices and plans once
    /// they are on the disk, since what is charged under them must be found there after a crash. On other servers over
    /// the same ledger all is effective within a second.
    ///
    /// # Errors
    /// The record is wrong, or the ledger does not take it; nothing is changed then.
    pub fn change(&self, record: Record, actor: &str, now_ms: i64) -> Result<u64, ChangeError> {
        let anything = (Authority::Plant, &Expected::Anything);
        self.change_with(anything, actor, now_ms, |_| Ok(record.clone())).map(|(_, version)| version)
    }

    /// Changes the directory as [`Books::change`] does, within the caller's authority. `build` makes the record from the
    /// directory as it is, and nobody else changes it meanwhile; what it replaces has to be as `expected`.
    ///
    /// # Errors
    /// As [`Books::change`], those of `build`, what reaches beyond `authority`, and [`ChangeError::Stale`].
    pub fn change_with(
        &self,
        (authority, expected): (Authority<'_>, &Expected),
        actor: &str,
        now_ms: i64,
        build: impl Fn(&Directory) -> Result<Record, Invalid>,
    ) -> Result<(Record, u64), ChangeError> {
        let (record, version, receipt) = self.memory.change((authority, expected), build, (actor, now_ms))?;
        let floors = self.set_floors(&record, now_ms);
        receipt.wait_durable(DURABLE_WAIT)?;
        floors.map_or(Ok(()), Underway::wait)?;
        Ok((record, version))
    }

    /// Sets the floors of the accounts that a record bounds, so that running requests stop there too. What cannot be set
    /// now is set at the next admission: the change itself is made.
    fn set_floors(&self, record: &Record, now_ms: i64) -> Option<Underway> {
        let set = || -> Result<Underway, AccountError> {
            let turn = self.turn()?;
            // As it is now: the next change may have come first.
            let bounded = self.bounded_by(record.kind(), &record.key(), now_ms)?;
            let bounded: Vec<&AccountSpec> = bounded.iter().collect();
            self.change_accounts(&turn, &bounded, false, now_ms)
        };
        let (kind, key) = (record.kind().word(), record.key());
        let warn = |error: &AccountError| {
            tracing::warn!(
                "running requests do not heed the change of {kind} {key} before the next is admitted: {error}"
            );
        };
        set().inspect_err(warn).ok()
    }

    /// Books a payment of a customer (negative: paid out). The same reference again changes nothing.
    ///
    /// # Errors
    /// The organisation is unknown, the amount is 0, or the reference was used for another amount.
    pub fn pay(
        &self,
        organisation: &str,
        amount: Nano,
        (reference, actor): (&str, &str),
        now_ms: i64,
    ) -> Result<Posted, PostError> {
        check_text("reference", reference, MAX_REFERENCE)?;
        if amount == Nano::ZERO {
            return Err(Invalid::new("amount", "0 changes nothing", "write what was paid").into());
        }
        let account = self.money_of(organisation, now_ms)?;
        let id = id_of(&["payment", organisation, reference]);
        let legs = vec![
            Leg { account, amount: amount.0 },
            Leg { account: self.plant.received, amount: amount.0.saturating_neg() },
        ];
        let [organisation, reference, actor] = [organisation, reference, actor].map(str::to_owned);
        let payment = Payment { organisation, reference, actor };
        let new =
            self.post_once((id, entry_kind::PAID), (legs, payment.pack()), now_ms).map_err(|error| match error {
                PostError::Refused(Refused { refusal: Refusal::Insufficient { available, .. }, .. }) => {
                    let left = Nano(available);
                    let problem =
                        format!("{amount} is more than can be paid out: {left}, with the credit and without holds");
                    Invalid::new("amount", problem, "pay out less, or raise the organisation's `credit`").into()
                }
                PostError::Refused(Refused { refusal: Refusal::Overflow, .. }) => {
                    let problem =
                        format!("with {amount} more a balance would pass {}, the most that is kept", Nano::MAX);
                    Invalid::new("amount", problem, "check the decimal point; book less").into()
                }
                other => other,
            })?;
        Ok(Posted { entry: id, repeated: !new })
    }

    /// Gives back `amount` of what `request` was charged, in the window of now: what was invoiced stays. The same
    /// reference again changes nothing.
    ///
    /// # Errors
    /// The request has no charge, the amount is not within what is left of it, or the reference was used for another.
    pub fn credit(
        &self,
        request: EntryId,
        amount: Nano,
        (reference, reason, actor): (&str, &str, &str),
        now_ms: i64,
    ) -> Result<Posted, PostError> {
        check_text("reference", reference, MAX_REFERENCE)?;
        if reason.len() > MAX_REASON {
            let problem = format!("{} bytes, more than {MAX_REASON}", reason.len());
            return Err(Invalid::new("reason", problem, "shorten it").into());
        }
        let settled = self.charge_of(request)?.ok_or_else(|| {
            Invalid::new("request", "no request of this id was charged", "take the `id` of its answer")
        })?;
        let charged = settled.list().saturating_sub(settled.discount);
        if amount <= Nano::ZERO || amount > charged {
            let problem = format!("{amount} is not within the charge of {charged}");
            let fix = "give back at most what was charged; of a request with several prompts each is charged under an id of \
                       its own: the answer's with -0, -1 and so on behind it";
            return Err(Invalid::new("amount", problem, fix).into());
        }
        let account = self.money_of(&settled.context.organisation, now_ms)?;
        // What was credited for a request is an account of its own, so that it never exceeds the charge.
        let limit = self.credited_account(request, charged, now_ms)?;
        let id = id_of(&["credit", &request.to_string(), reference]);
        let window_ms = self.present_window(&settled.context.organisation, now_ms)?.start_ms;
        let (given, back) = (amount.0.saturating_neg(), amount.0);
        let legs = vec![
            Leg { account, amount: back },
            Leg { account: self.plant.refund, amount: given },
            Leg { account: limit, amount: given },
            Leg { account: self.plant.budget, amount: back },
        ];
        let (reason, actor) = (reason.to_owned(), actor.to_owned());
        let note = CreditNote { context: settled.context, window_ms, request: request.0, amount, reason, actor };
        let left = Nano(charged.0.saturating_add(self.ledger.balance(limit)?.map_or(0, |balance| balance.posted)));
        let new =
            self.post_once((id, entry_kind::CREDITED), (legs, note.pack()), now_ms).map_err(|error| match error {
                PostError::Refused(Refused { refusal: Refusal::Insufficient { account, .. }, .. })
                    if account == limit =>
                {
                    let problem = format!("{amount} is more than the {left} that is left of the charge of {charged}");
                    Invalid::new("amount", problem, "give back at most what is left").into()
                }
                other => other,
            })?;
        Ok(Posted { entry: id, repeated: !new })
    }

    /// Posts what `id` names, if that was not done before: whoever asks again, in whatever words, means the same act as
    /// long as the amounts are the same. Returns whether it is posted now for the first time.
    pub(super) fn post_once(
        &self,
        (id, kind): (EntryId, u16),
        (legs, detail): (Vec<Leg>, Vec<u8>),
        now_ms: i64,
    ) -> Result<bool, PostError> {
        let post = Command::Post { id, kind, legs: legs.clone(), detail };
        match self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![post] }) {
            Ok(receipt) => {
                receipt.wait_durable(DURABLE_WAIT)?;
                Ok(!receipt.outcomes.contains(&Outcome::Replayed))
            }
            Err(Refused { refusal: Refusal::Conflict(_), .. }) => match self.ledger.entry_by_id(id)? {
                Some(known) if known.kind == kind && known.legs == legs => {
                    self.ledger.flush(DURABLE_WAIT)?;
                    Ok(false)
                }
                known => {
                    let amount = known.and_then(|entry| entry.legs.first().map(|leg| Nano(leg.amount)));
                    let amount = amount.map_or_else(|| "another act".to_owned(), |amount| amount.to_string());
                    let problem = format!("it was used before, for {amount}");
                    Err(Invalid::new("reference", problem, "name another act by another reference").into())
                }
            },
            Err(refused) => Err(refused.into()),
        }
    }

    /// What an organisation has at `now_ms`.
    ///
    /// # Errors
    /// The organisation is unknown or the store cannot be read.
    pub fn standing(&self, organisation: &str, now_ms: i64) -> Result<Standing, PostError> {
        let plan = self.plan_of(organisation)?;
        let balance = |name: &str| -> Result<(i64, i64), StoreError> {
            let account = self.ledger.account(name)?;
            let balance = account.map_or(Ok(None), |account| self.ledger.balance(account))?;
            Ok(balance.map_or((0, 0), |balance| (balance.posted, balance.held)))
        };
        let (posted, held) = balance(&money_name(organisation))?;
        let window = plan.calendar.window(Period::Month, now_ms)?;
        let used = balance(&pool_name(organisation, &window))?.0;
        let pool_units_left = plan.pool.map(|pool| pool.units().saturating_add(used));
        Ok(Standing { balance: Nano(posted), held: Nano(held), pool_units_left })
    }

    /// The plan of an organisation now.
    pub(super) fn plan_of(&self, organisation: &str) -> Result<Plan, Invalid> {
        let directory = self.directory();
        let id = directory.organisation(organisation).map(|organisation| &organisation.plan);
        let plan = id.and_then(|id| directory.plans().find(|plan| plan.id == *id));
        plan.cloned().ok_or_else(|| unknown(organisation))
    }

    /// The monthly window in which an organisation is at `now_ms`.
    ///
    /// # Errors
    /// The organisation is unknown.
    pub fn present_window(&self, organisation: &str, now_ms: i64) -> Result<Window, Invalid> {
        self.plan_of(organisation)?.calendar.window(Period::Month, now_ms)
    }
}

pub(crate) fn unknown(organisation: &str) -> Invalid {
    Invalid::new("organisation", format!("there is no `{organisation}`"), "create it first")
}
