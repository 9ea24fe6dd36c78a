//! After a crash: what was delivered is charged, what was not is void.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ledger::{Batch, Command, EntryId, Hold, NotDurable, Refusal, Refused, StoreError, kind};
use metering::Unfinished;

use super::detail::{End, Opening, Service, unpack_progress};
use super::ticket::{SettleError, empty_hold};
use super::undo::{is_temporary, late_id};
use super::{Alert, Books, PostError};
use crate::{Nano, Quantities, Terms};

/// How long recovery waits for the disk.
const DURABLE_WAIT: Duration = Duration::from_secs(60);

/// What recovery did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Charged for what the journal says was delivered.
    pub settled: u64,
    /// The sum of these charges.
    pub charged: Nano,
    /// Nothing was delivered: nothing is charged.
    pub voided: u64,
    /// Ended before the crash already.
    pub already: u64,
    /// Charged before the crash, but nothing of the answer had left: given back.
    pub given_back: u64,
    /// Begun by another writer: left for it to charge. Their pages must be kept.
    pub foreign: Vec<EntryId>,
    /// Could not be charged, or not given back, with the reason; nothing was posted for them. Their pages must be kept, as
    /// the only evidence: a later recovery names them again, and charges nothing twice.
    pub failed: Vec<(EntryId, String)>,
    /// Budget alerts that nobody had raised before the crash.
    pub alerts: Vec<Alert>,
}

impl Recovered {
    /// The requests whose pages must be kept.
    pub fn kept(&self) -> impl Iterator<Item = EntryId> {
        self.foreign.iter().copied().chain(self.failed.iter().map(|(id, _)| *id))
    }
}

/// Why recovery stopped. It may be run again: nothing is charged twice.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger took nothing more.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A charge could not be given back.
    #[error(transparent)]
    Post(#[from] PostError),
    /// What was decided is not on the disk.
    #[error(transparent)]
    NotDurable(#[from] NotDurable),
}

/// A page with something to charge.
struct Due {
    /// The request.
    page: EntryId,
    /// Of its hold and its charge: the request's, or another where the hold had expired.
    id: EntryId,
    opening: Opening,
    used: Quantities,
    /// Pool units its hold has; `None`: holds are written behind, and the crash lost this one.
    held_pool: Option<i64>,
}

impl Books {
    /// Settles the requests that the journal left unfinished, voids the other holds of this writer, and raises the alerts
    /// of all budgets that have reached a threshold of their present window. To be called before requests are admitted;
    /// the journal's files may go when it returns.
    ///
    /// # Errors
    /// The ledger cannot be read or written; run it again then.
    pub fn recover(&self, unfinished: &[Unfinished], now_ms: i64) -> Result<Recovered, RecoverError> {
        let mut recovered = Recovered::default();
        let holds: HashMap<EntryId, Arc<Hold>> = self.ledger.holds()?.into_iter().map(|hold| (hold.id, hold)).collect();
        let mut due = Vec::new();
        for page in unfinished {
            due.extend(self.read_page(page, &holds, now_ms, &mut recovered)?);
        }
        // Money that nobody needs is given back first.
        for hold in holds.values().filter(|hold| due.iter().all(|due| due.id != hold.id)) {
            if Opening::unpack(&hold.detail).is_some_and(|opening| opening.writer == self.writer) {
                self.void(hold.id, now_ms)?;
                recovered.voided += 1;
            }
        }
        // Requests without their hold come first, since they take only what the holds of the others leave.
        due.sort_by_key(|due| due.held_pool.is_some());
        loop {
            let before = due.len();
            let mut refused = Vec::new();
            for request in due {
                if let Some(reason) = self.charge_page(&request, now_ms, &mut recovered)? {
                    refused.push((request, reason));
                }
            }
            // What was refused may pass once others have given back what they held too much.
            if refused.is_empty() || refused.len() == before {
                for (request, reason) in refused {
                    self.void(request.id, now_ms)?;
                    recovered.failed.push((request.page, reason));
                }
                recovered.alerts = self.raise_all(&end_users(unfinished), now_ms)?;
                self.ledger.flush(DURABLE_WAIT)?;
                return Ok(recovered);
            }
            due = refused.into_iter().map(|(request, _)| request).collect();
        }
    }

    /// What a page has to charge, if anything.
    fn read_page(
        &self,
        page: &Unfinished,
        holds: &HashMap<EntryId, Arc<Hold>>,
        now_ms: i64,
        recovered: &mut Recovered,
    ) -> Result<Option<Due>, RecoverError> {
        let request = EntryId(page.id);
        let mut id = request;
        let mut entry = self.ledger.entry_by_id(id)?;
        if page.progress.is_none() && entry.is_some() {
            self.take_back(request, now_ms, recovered)?;
            return Ok(None);
        }
        // Another server took this one for gone, and its time was over.
        if entry.as_ref().is_some_and(|entry| entry.kind == kind::EXPIRED) {
            id = late_id(request);
            entry = self.ledger.entry_by_id(id)?;
        }
        match entry {
            Some(entry) if entry.kind == kind::VOID => {
                recovered.failed.push((request, "its hold was released without a charge".to_owned()));
                return Ok(None);
            }
            Some(_) => {
                recovered.already += 1;
                return Ok(None);
            }
            None => {}
        }
        let opening = Opening::unpack(&page.start);
        if opening.as_ref().is_some_and(|opening| opening.writer != self.writer) {
            recovered.foreign.push(request);
            return Ok(None);
        }
        let Some(progress) = &page.progress else { return Ok(None) };
        let (Some(opening), Some(used)) = (opening, unpack_progress(progress)) else {
            recovered.failed.push((request, "its page in the journal cannot be read".to_owned()));
            return Ok(None);
        };
        let held_pool = holds.get(&id).map(|hold| {
            let pool = hold.reserves.iter().find(|reserve| Some(reserve.account) == opening.accounts.pool);
            pool.map_or(0, |reserve| reserve.amount)
        });
        Ok(Some(Due { page: request, id, opening, used, held_pool }))
    }

    /// Gives back what a request was charged of which nothing had left: an answer that is not streamed leaves after its
    /// page has ended.
    fn take_back(&self, request: EntryId, now_ms: i64, recovered: &mut Recovered) -> Result<(), RecoverError> {
        recovered.already += 1;
        match self.give_back(request, now_ms) {
            Ok(given_back) => recovered.given_back += u64::from(given_back),
            Err(error) if error.is_temporary() => return Err(error.into()),
            // Part of it was given back by other means.
            Err(error) => recovered.failed.push((request, format!("its charge cannot be given back: {error}"))),
        }
        Ok(())
    }

    /// Charges one request; gives the reason when it is refused.
    fn charge_page(&self, due: &Due, now_ms: i64, recovered: &mut Recovered) -> Result<Option<String>, RecoverError> {
        let Due { page, id, opening, used, held_pool } = due;
        // In place of one that has expired the settlement opens another.
        if held_pool.is_none() && id == page {
            let hold = empty_hold(*id, opening);
            match self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![hold] }) {
                Err(refused) if is_temporary(&refused.refusal) => return Err(refused.into()),
                Err(refused) => return Ok(Some(refused.to_string())),
                Ok(_) => {}
            }
        }
        let context = &opening.context;
        let version = self.directory().prices().version(&context.list, &context.model, context.price_version);
        let Some(price) = version else {
            return Ok(Some(format!("the price of `{}` has no version {}", context.model, context.price_version)));
        };
        let terms = Terms { price, pool: opening.pool, discount_permille: opening.discount_permille };
        let own_pool = held_pool.unwrap_or(0);
        match self.settle(*page, (opening, &terms, own_pool), (used, End::Crashed, Service::Unstated), now_ms) {
            Ok(settled) => {
                recovered.settled += 1;
                recovered.charged = recovered.charged.saturating_add(settled.charge.total());
                Ok(None)
            }
            Err(SettleError::Refused(Refused { refusal: refusal @ Refusal::Unavailable { .. }, index })) => {
                Err(Refused { index, refusal }.into())
            }
            Err(SettleError::Store(error)) => Err(error.into()),
            Err(error) => Ok(Some(error.to_string())),
        }
    }

    fn void(&self, id: EntryId, now_ms: i64) -> Result<(), Refused> {
        match self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![Command::Void { id }] }) {
            // Another server may have ended it.
            Ok(_) | Err(Refused { refusal: Refusal::UnknownHold(_) | Refusal::Conflict(_), .. }) => Ok(()),
            Err(refused) => Err(refused),
        }
    }
}

/// Organisations and end users of these requests: who has no bounds of its own stands in no directory.
fn end_users(unfinished: &[Unfinished]) -> HashSet<(String, String)> {
    let contexts = unfinished.iter().filter_map(|page| Opening::unpack(&page.start)).map(|opening| opening.context);
    contexts.map(|context| (context.organisation, context.user)).collect()
}
