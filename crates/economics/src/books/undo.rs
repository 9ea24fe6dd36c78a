//! What must not be charged: answers that nobody got, holds whose request is gone.

use ledger::{Batch, Command, Entry, EntryId, Leg, Refusal, Refused, StoreError};

use super::accounts::credited_name;
use super::admin::PostError;
use super::detail::{CreditNote, Opening, Settlement, entry_kind};
use super::{Books, id_of, unit};
use crate::Nano;

/// How much longer a hold of another writer stays than one of this: only its own writer knows whether its request runs.
const FOREIGN_GRACE_MS: i64 = 24 * 3_600_000;

impl PostError {
    /// Whether the same may pass later: the store is full, failing or out of reach.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Invalid(_) => false,
            Self::Refused(refused) => is_temporary(&refused.refusal),
            Self::Store(_) | Self::NotDurable(_) => true,
        }
    }
}

pub(super) fn is_temporary(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Unavailable { .. } | Refusal::Changed { .. })
}

/// The id of the charge of a request whose hold had expired before.
pub(super) fn late_id(request: EntryId) -> EntryId {
    id_of(&["late", &request.to_string()])
}

/// The id of what gives back the charge of an answer that was not delivered.
pub(super) fn undelivered_id(request: EntryId) -> EntryId {
    id_of(&["undelivered", &request.to_string()])
}

/// What a request cost, after what was given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Money.
    pub amount: Nano,
    /// Of the pool.
    pub pool_units: i64,
}

impl Books {
    /// Leaves nothing of a request of which nothing was delivered, whatever became of it: its hold is void, its charge
    /// given back. May be called again, and for a request that the ledger does not know.
    ///
    /// # Errors
    /// The ledger does not take it now ([`PostError::is_temporary`]), or part of the charge was given back by other means.
    pub fn undo(&self, id: EntryId, now_ms: i64) -> Result<(), PostError> {
        match self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![Command::Void { id }] }) {
            Ok(_) | Err(Refused { refusal: Refusal::UnknownHold(_), .. }) => Ok(()),
            // It has ended otherwise.
            Err(Refused { refusal: Refusal::Conflict(_), .. }) => self.give_back(id, now_ms).map(drop),
            Err(refused) => Err(refused.into()),
        }
    }

    /// Gives back all that a request was charged, pool and budgets included. Its tokens count for the volume all the same:
    /// holds rely on it that no volume ever falls. Again: nothing. Gives whether there was a charge.
    pub(super) fn give_back(&self, request: EntryId, now_ms: i64) -> Result<bool, PostError> {
        let Some((entry, settled)) = self.charging_entry(request)? else { return Ok(false) };
        let amount = settled.list().saturating_sub(settled.discount);
        let earned = [self.plant.revenue, self.plant.discount];
        let mut legs = Vec::new();
        for leg in entry.legs.iter().filter(|leg| !earned.contains(&leg.account)) {
            let spec = self.ledger.account_spec(leg.account)?;
            if spec.is_none_or(|spec| spec.unit != unit::VOLUME) {
                legs.push(Leg { amount: leg.amount.saturating_neg(), ..*leg });
            }
        }
        if amount > Nano::ZERO {
            // Counted together with credit notes, so that no more than the charge is ever given back.
            let limit = self.credited_account(request, amount, now_ms)?;
            let given = amount.0.saturating_neg();
            legs.push(Leg { account: self.plant.refund, amount: given });
            legs.push(Leg { account: limit, amount: given });
            legs.push(Leg { account: self.plant.budget, amount: amount.0 });
        }
        if legs.is_empty() {
            return Ok(false);
        }
        let (reason, actor) = ("the answer was not delivered".to_owned(), "books".to_owned());
        let window_ms = self.present_window(&settled.context.organisation, now_ms)?.start_ms;
        let note = CreditNote { context: settled.context, window_ms, request: request.0, amount, reason, actor };
        self.post_once((undelivered_id(request), entry_kind::CREDITED), (legs, note.pack()), now_ms)?;
        Ok(true)
    }

    /// The charge of a request, also one that was posted late.
    pub(super) fn charge_of(&self, request: EntryId) -> Result<Option<Settlement>, StoreError> {
        Ok(self.charging_entry(request)?.map(|(_, settled)| settled))
    }

    /// With its entry.
    pub(super) fn charging_entry(&self, request: EntryId) -> Result<Option<(Entry, Settlement)>, StoreError> {
        for id in [request, late_id(request)] {
            if let Some(entry) = self.ledger.entry_by_id(id)?
                && let Some(settled) = Settlement::read(&entry)
            {
                return Ok(Some((entry, settled)));
            }
        }
        Ok(None)
    }

    /// What a request has cost until now; nothing where the ledger does not know it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn cost(&self, request: EntryId) -> Result<Cost, StoreError> {
        let Some(settled) = self.charge_of(request)? else { return Ok(Cost::default()) };
        if self.ledger.entry_by_id(undelivered_id(request))?.is_some() {
            return Ok(Cost::default());
        }
        let credited = self.ledger.account(&credited_name(request))?;
        let credited = credited.map_or(Ok(None), |account| self.ledger.balance(account))?;
        let credited = Nano(credited.map_or(0, |balance| balance.posted));
        let amount = settled.list().saturating_sub(settled.discount).saturating_add(credited);
        Ok(Cost { amount, pool_units: settled.pool_units })
    }

    /// Ends the holds whose time is over, of every writer: their servers are gone. `runs` tells of this process's own
    /// requests. Gives how many it ended.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn expire(&self, runs: impl Fn(EntryId) -> bool, now_ms: i64) -> Result<u64, StoreError> {
        let mut ended = 0;
        for hold in self.ledger.holds()? {
            let own = Opening::unpack(&hold.detail).is_some_and(|opening| opening.writer == self.writer);
            let end_ms = hold.expires_ms.saturating_add(if own { 0 } else { FOREIGN_GRACE_MS });
            if end_ms > now_ms || runs(hold.id) {
                continue;
            }
            // One that is refused has just ended, or is tried again with the next sweep.
            match self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![Command::Expire { id: hold.id }] }) {
                Ok(_) => ended += 1,
                Err(error) => tracing::debug!("hold {} was not ended: {error}", hold.id),
            }
        }
        Ok(ended)
    }
}
