//! Acts of administration: changes of the directory, payments, credit notes.

use ledger::{Batch, Command, EntryId, Leg, NotDurable, Outcome, Refused, StoreError};

use super::accounts::{AccountError, money_name, pool_name};
use super::detail::{CreditNote, Settlement, entry_kind};
use super::{Books, DURABLE_WAIT, id_of};
use crate::directory::record::Record;
use crate::pack::Pack;
use crate::window::Period;
use crate::{Invalid, Nano};

/// Why a change of the directory was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The record is wrong.
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
        }
    }
}

/// What an organisation has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Standing {
    /// Its money: payments and credit notes less charges.
    pub balance: Nano,
    /// What running requests hold of it.
    pub held: Nano,
    /// Units left in the pool of the present window; `None` without a pool.
    pub pool_units_left: Option<i64>,
}

/// One act of administration on the directory.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Act {
    /// The ledger's entry.
    pub seq: u64,
    /// When.
    pub at_ms: i64,
    /// Who.
    pub actor: String,
    /// On what: the kind's word and the key.
    pub record: String,
    /// The JSON before; `None`: it was new.
    pub before: Option<String>,
    /// The JSON after.
    pub after: String,
}

impl Books {
    /// All acts of administration on the directory after entry `after_seq`, oldest first, at most `limit`. Only what is
    /// on the disk.
    ///
    /// # Errors
    /// The store cannot be read or a document is damaged.
    pub fn acts(&self, after_seq: u64, limit: usize) -> Result<Vec<Act>, PostError> {
        let mut acts = Vec::new();
        for kind in Record::KINDS {
            for latest in self.ledger.documents(*kind)?.into_iter().filter(|latest| latest.seq > after_seq) {
                let mut before = None;
                for document in self.ledger.document_history(*kind, &latest.key)? {
                    let word = Record::read(*kind, &document.key, &document.body)?.word();
                    let after = String::from_utf8_lossy(&document.body).into_owned();
                    let before = before.replace(after.clone());
                    let (seq, at_ms, actor) = (document.seq, document.at_ms, document.actor);
                    acts.push(Act { seq, at_ms, actor, record: format!("{word} {}", document.key), before, after });
                }
            }
        }
        acts.retain(|act| act.seq > after_seq);
        acts.sort_by_key(|act| act.seq);
        acts.truncate(limit);
        Ok(acts)
    }

    /// Changes the directory: checks the record, writes it as a document by `actor`, waits for the disk. Effective at
    /// once for new requests, on other servers over the same ledger within a second. Returns the document's version.
    ///
    /// # Errors
    /// The record is wrong, or the ledger does not take it; nothing is changed then.
    pub fn change(&self, record: Record, actor: &str, now_ms: i64) -> Result<u64, ChangeError> {
        let (version, receipt) = self.memory.change(record, actor, now_ms)?;
        receipt.wait_durable(DURABLE_WAIT)?;
        Ok(version)
    }

    /// Books a payment of a customer (negative: paid out). The same reference again changes nothing.
    ///
    /// # Errors
    /// The organisation is unknown, or the reference was used for another amount.
    pub fn pay(
        &self,
        organisation: &str,
        amount: Nano,
        (reference, actor): (&str, &str),
        now_ms: i64,
    ) -> Result<EntryId, PostError> {
        let account = self.money_of(organisation, now_ms)?;
        let id = id_of(&["payment", organisation, reference]);
        let legs = vec![
            Leg { account, amount: amount.0 },
            Leg { account: self.plant.received, amount: amount.0.saturating_neg() },
        ];
        let mut detail = Pack::default();
        detail.byte(1).text(organisation).text(reference).text(actor);
        self.post((id, entry_kind::PAID), legs, detail.0, now_ms)?;
        Ok(id)
    }

    /// Gives back `amount` of what `request` was charged. The same reference again changes nothing.
    ///
    /// # Errors
    /// The request has no charge, the amount is not within what is left of it, or the reference was used for another.
    pub fn credit(
        &self,
        request: EntryId,
        amount: Nano,
        (reference, reason, actor): (&str, &str, &str),
        now_ms: i64,
    ) -> Result<EntryId, PostError> {
        let settled = self.ledger.entry_by_id(request)?.as_ref().and_then(Settlement::read);
        let settled = settled
            .ok_or_else(|| Invalid::new("request", format!("{request} has no charge"), "take its id from the usage"))?;
        let charged = settled.list().saturating_sub(settled.discount);
        if amount <= Nano::ZERO || amount > charged {
            let problem = format!("{amount} is not within the charge of {charged}");
            return Err(Invalid::new("amount", problem, "give back at most what was charged").into());
        }
        let account = self.money_of(&settled.context.organisation, now_ms)?;
        // What was credited for a request is an account of its own, so that it never exceeds the charge.
        let limit = self.credited_account(request, charged, now_ms)?;
        let id = id_of(&["credit", &request.to_string(), reference]);
        let (given, back) = (amount.0.saturating_neg(), amount.0);
        let legs = vec![
            Leg { account, amount: back },
            Leg { account: self.plant.refund, amount: given },
            Leg { account: limit, amount: given },
            Leg { account: self.plant.budget, amount: back },
        ];
        let (reason, actor) = (reason.to_owned(), actor.to_owned());
        let note = CreditNote { context: settled.context, request: request.0, amount, reason, actor };
        self.post((id, entry_kind::CREDITED), legs, note.pack(), now_ms)?;
        Ok(id)
    }

    fn post(
        &self,
        (id, kind): (EntryId, u16),
        legs: Vec<Leg>,
        detail: Vec<u8>,
        now_ms: i64,
    ) -> Result<Outcome, PostError> {
        let post = Command::Post { id, kind, legs, detail };
        let receipt = self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![post] })?;
        receipt.wait_durable(DURABLE_WAIT)?;
        Ok(receipt.outcomes.first().copied().unwrap_or(Outcome::Replayed))
    }

    /// What an organisation has at `now_ms`.
    ///
    /// # Errors
    /// The organisation is unknown or the store cannot be read.
    pub fn standing(&self, organisation: &str, now_ms: i64) -> Result<Standing, PostError> {
        let plan = {
            let directory = self.directory();
            let plan = directory.organisation(organisation).map(|organisation| organisation.plan.clone());
            plan.and_then(|id| directory.plans().find(|plan| plan.id == id).cloned())
        };
        let plan = plan.ok_or_else(|| unknown(organisation))?;
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
}

pub(crate) fn unknown(organisation: &str) -> Invalid {
    Invalid::new("organisation", format!("there is no `{organisation}`"), "create it first")
}
