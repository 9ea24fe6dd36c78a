//! An admitted request, from its hold to its charge.

use std::sync::Arc;

use ledger::{AccountId, Batch, Command, EntryId, Leg, Receipt, Refusal, Refused, StoreError, kind};

use super::accounts::Watch;
use super::detail::{Accounts, Context, End, Opening, Service, Settlement, entry_kind, pack_progress};
use super::funds::{Held, Short};
use super::undo::{is_temporary, late_id};
use super::{Alert, Books, PostError};
use crate::limits::{Admitted, Demand, Standings};
use crate::terms::Ask;
use crate::{Charge, Quantities, Terms};

/// How often a settlement is tried while others change the same accounts; then it takes from the pool only what it holds.
const TRIES: u32 = 64;

/// What an extension brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// So many answer tokens may be made in all.
    Granted(u64),
    /// Nothing more: what is left is held by other requests, which may give some back.
    Held,
    /// Nothing more: the money is spent, or `max_output` is reached. Stop at the allowance.
    Spent,
    /// Nothing more: another server took the request for gone and ended its hold. Stop at the allowance; what was used of
    /// it is charged all the same.
    Ended,
    /// The ledger takes no new work now.
    Unavailable(String),
}

/// Why a settlement was not decided. The hold stays and can be settled again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// It was ended before.
    #[error("the request was settled or voided before")]
    Ended,
    /// The ledger's reason.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SettleError {
    /// Whether the same may pass later: the store is full, failing or out of reach.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Ended => false,
            Self::Refused(refused) => is_temporary(&refused.refusal),
            Self::Store(_) => true,
        }
    }
}

/// The bytes to journal before a piece of an answer is delivered: what will have been used with it.
#[must_use]
pub fn progress(used: &Quantities) -> Vec<u8> {
    pack_progress(used)
}

/// A decided settlement.
#[derive(Debug)]
pub struct Settled {
    /// What was charged.
    pub charge: Charge,
    /// Alerts that it raised.
    pub alerts: Vec<Alert>,
    /// Tells when it is on the disk, and with it the alerts: until then the journal's page is not to be closed.
    pub receipt: Receipt,
}

/// An admitted request. Dropped without an end it is charged for what was journaled, or voided when nothing was.
pub struct Ticket {
    books: Arc<Books>,
    id: EntryId,
    opening: Opening,
    terms: Terms,
    watches: Vec<Watch>,
    pub(super) held: Held,
    max_output: u64,
    limit: Admitted,
    used: Option<Quantities>,
    service: Service,
    last_ms: i64,
    pub(super) ended: bool,
}

impl Ticket {
    pub(super) fn new(
        books: Arc<Books>,
        (id, opening, terms): (EntryId, Opening, Terms),
        watches: Vec<Watch>,
        (held, max_output): (Held, u64),
        limit: Admitted,
    ) -> Self {
        let (used, service) = (None, Service::default());
        Self { books, id, opening, terms, watches, held, max_output, limit, used, service, last_ms: 0, ended: false }
    }

    pub(super) fn at(mut self, now_ms: i64) -> Self {
        self.last_ms = now_ms;
        self
    }

    /// The request's id.
    #[must_use]
    pub fn id(&self) -> EntryId {
        self.id
    }

    /// Who asked for what.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.opening.context
    }

    /// How many answer tokens are paid for, all candidates together.
    #[must_use]
    pub fn allowance(&self) -> u64 {
        self.held.ask.output
    }

    /// How the rate limits stand.
    #[must_use]
    pub fn standings(&self) -> Standings {
        self.limit.standings
    }

    /// What the journal's page of this request begins with; [`Books::recover`] reads it.
    #[must_use]
    pub fn page(&self) -> Vec<u8> {
        self.opening.pack()
    }

    /// Notes what will have been used once the next piece is delivered, and gives the bytes to journal before.
    #[must_use]
    pub fn progress(&mut self, used: &Quantities) -> Vec<u8> {
        self.used = Some(*used);
        progress(used)
    }

    /// Holds the next answer tokens. When not all are paid for, exactly as many as are.
    pub fn extend(&mut self, now_ms: i64) -> Extension {
        self.last_ms = now_ms;
        let before = self.held.ask.output;
        let output = before.saturating_add(self.books.steps.next).min(self.max_output);
        if self.ended || output <= before {
            return Extension::Spent;
        }
        let ask = Ask { output, ..self.held.ask };
        let parts = (self.id, &self.opening.accounts, &self.terms);
        match self.books.hold(parts, self.held, (ask, before + 1), &None, now_ms) {
            Ok(held) => {
                self.held = held;
                self.limit.count_output(now_ms, held.ask.output - before);
                Extension::Granted(held.ask.output)
            }
            Err(Short::Spent { later: true, .. }) => Extension::Held,
            Err(Short::Spent { later: false, account, .. }) => {
                self.watches
                    .iter_mut()
                    .filter(|watch| watch.name() == account)
                    .for_each(|watch| watch.exhausted = true);
                Extension::Spent
            }
            Err(Short::Refused(Refusal::UnknownHold(_))) => Extension::Ended,
            Err(Short::Refused(refusal)) => Extension::Unavailable(refusal.to_string()),
            Err(Short::Store(error)) => Extension::Unavailable(error.to_string()),
        }
    }

    /// Notes whether the request met the objectives that are stated for it, for its settlement.
    pub fn note_service(&mut self, service: Service) {
        self.service = service;
    }

    /// Ends the request: posts what it used and releases the rest, in one entry. Tokens beyond the prompt's length or
    /// the allowance were never paid for and are not charged.
    ///
    /// # Errors
    /// The ledger did not take it; the hold is still there, and it may be tried again.
    pub fn settle(&mut self, used: &Quantities, end: End, now_ms: i64) -> Result<Settled, SettleError> {
        self.last_ms = now_ms;
        if self.ended {
            return Err(SettleError::Ended);
        }
        let used = cap(used, self.held.ask);
        self.limit.settle(now_ms, Demand { input: used.input(), output: used.output() });
        let (opened, ended) = ((&self.opening, &self.terms, self.held.need.pool), (&used, end, self.service));
        let settled = self.books.settle(self.id, opened, ended, now_ms)?;
        self.ended = true;
        let (alerts, last) = self.books.raise(&self.watches, now_ms);
        Ok(Settled { alerts, receipt: last.unwrap_or(settled.receipt), ..settled })
    }

    /// Ends the request without a charge: nothing of it was delivered.
    ///
    /// # Errors
    /// As [`Ticket::settle`].
    pub fn void(&mut self, now_ms: i64) -> Result<Receipt, SettleError> {
        if self.ended {
            return Err(SettleError::Ended);
        }
        let void = Command::Void { id: self.id };
        let receipt = self.books.ledger.submit(&Batch { at_ms: now_ms, commands: vec![void] })?;
        self.limit.settle(now_ms, Demand::default());
        self.ended = true;
        Ok(receipt)
    }

    /// Leaves nothing of the request, whether it was settled or not: nothing of it was delivered.
    ///
    /// # Errors
    /// As [`Books::undo`]; it may be tried again.
    pub fn undo(&mut self, now_ms: i64) -> Result<(), PostError> {
        self.books.undo(self.id, now_ms)?;
        if !std::mem::replace(&mut self.ended, true) {
            self.limit.settle(now_ms, Demand::default());
        }
        Ok(())
    }

    /// Leaves the request to the journal: dropping the ticket asks nothing of the ledger any more.
    pub fn leave(&mut self) {
        self.ended = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // What fails here stays held; the journal's page, still open, settles it at the next start.
        let _ = match self.used {
            Some(used) => self.settle(&used, End::Failed, self.last_ms).map(|settled| settled.receipt),
            None => self.void(self.last_ms),
        };
    }
}

/// `used`, cut to what is held.
fn cap(used: &Quantities, held: Ask) -> Quantities {
    let in_cached = used.in_cached.min(held.input);
    let out_visible = used.out_visible.min(held.output);
    Quantities {
        in_cached,
        in_uncached: used.in_uncached.min(held.input - in_cached),
        out_visible,
        out_reasoning: used.out_reasoning.min(held.output - out_visible),
    }
}

/// Where a charge is posted.
struct Place {
    /// Of its entry.
    id: EntryId,
    /// Pool units that its hold has.
    own_pool: i64,
    context: Context,
    /// Opened with it, where the request's own is gone.
    hold: Option<Command>,
}

/// A hold of nothing, for a charge whose own hold is gone.
pub(super) fn empty_hold(id: EntryId, opening: &Opening) -> Command {
    Command::Hold { id, reserves: Vec::new(), expires_ms: i64::MAX, detail: opening.pack() }
}

impl Books {
    /// Rates and posts what a request used. The volume before it is that of the ledger's order: when another settlement
    /// comes in between, this one is rated anew. Where the request's hold has expired, it is charged under the late id.
    pub(super) fn settle(
        &self,
        request: EntryId,
        (opening, terms, held_pool): (&Opening, &Terms, i64),
        (used, end, service): (&Quantities, End, Service),
        now_ms: i64,
    ) -> Result<Settled, SettleError> {
        let accounts = &opening.accounts;
        let (mut tries, mut lifted) = (0, Vec::new());
        let mut place = Place { id: request, own_pool: held_pool, context: opening.context.clone(), hold: None };
        loop {
            tries += 1;
            let Place { id, own_pool, .. } = place;
            let pool = if tries < TRIES { self.pool_left(accounts, own_pool)? } else { own_pool };
            let volume = self.volume(accounts)?;
            let charge = terms.charge(used, volume, pool);
            let expect = accounts.volume.map(|account| Command::Expect { account, posted: volume.cast_signed() });
            let detail = Settlement::new(place.context.clone(), (end, service), &charge).pack();
            let settle = Command::Settle { id, kind: entry_kind::SETTLED, legs: self.legs(accounts, &charge), detail };
            let commands = expect.into_iter().chain(place.hold.clone()).chain([settle]).collect();
            match self.submit_over(&lifted, commands, now_ms)? {
                Ok(receipt) => {
                    self.outcomes.settled(request, &opening.context);
                    return Ok(Settled { charge, alerts: Vec::new(), receipt });
                }
                // A quicker settlement means progress, so this ends.
                Err(Refused { refusal: Refusal::Changed { .. }, .. }) => {}
                // It has become hard since: what was never reserved refuses no settlement.
                Err(Refused { refusal: Refusal::Insufficient { account, .. }, .. })
                    if accounts.budgets.contains(&(account, false)) && !lifted.contains(&account) =>
                {
                    lifted.push(account);
                }
                Err(Refused { refusal: Refusal::Insufficient { .. }, .. }) if tries < TRIES => {}
                Err(Refused { refusal: Refusal::Conflict(_), index }) => {
                    let refused = Refused { refusal: Refusal::Conflict(id), index };
                    if place.hold.is_some() || !self.has_expired(request)? {
                        return self.settled_before(id, terms, now_ms)?.ok_or(refused.into());
                    }
                    place = self.late_place(request, opening, now_ms);
                }
                Err(refused) => return Err(refused.into()),
            }
        }
    }

    /// Submits commands with no floor under `accounts`: those they have are there again after it, in the same batch.
    fn submit_over(
        &self,
        accounts: &[AccountId],
        mut commands: Vec<Command>,
        now_ms: i64,
    ) -> Result<Result<Receipt, Refused>, StoreError> {
        // Nobody else changes a floor meanwhile. Whoever has the turn never settles.
        let _turn = (!accounts.is_empty()).then(|| self.changes.turn());
        for &account in accounts {
            let floor = self.ledger.balance(account)?.and_then(|balance| balance.floor);
            commands.insert(0, Command::SetFloor { account, floor: None });
            commands.push(Command::SetFloor { account, floor });
        }
        Ok(self.ledger.submit(&Batch { at_ms: now_ms, commands }))
    }

    /// Where a request is charged whose hold has expired: others may have what it held, and the invoice of its window may
    /// be final.
    fn late_place(&self, request: EntryId, opening: &Opening, now_ms: i64) -> Place {
        let (id, mut context) = (late_id(request), opening.context.clone());
        if let Ok(present) = self.present_window(&context.organisation, now_ms) {
            context.window_ms = present.start_ms;
        }
        Place { id, own_pool: 0, context, hold: Some(empty_hold(id, opening)) }
    }

    /// Whether another server took a request for gone and ended its hold.
    fn has_expired(&self, id: EntryId) -> Result<bool, StoreError> {
        Ok(self.ledger.entry_by_id(id)?.is_some_and(|entry| entry.kind == kind::EXPIRED))
    }

    /// The settlement of which an earlier try never heard: a store that other processes share may lose its answer.
    fn settled_before(&self, id: EntryId, terms: &Terms, now_ms: i64) -> Result<Option<Settled>, SettleError> {
        let entry = self.ledger.entry_by_id(id)?;
        let Some(settlement) = entry.as_ref().and_then(Settlement::read) else { return Ok(None) };
        let receipt = self.ledger.submit(&Batch { at_ms: now_ms, commands: Vec::new() })?;
        Ok(Some(Settled { charge: settlement.charge(terms), alerts: Vec::new(), receipt }))
    }

    /// The postings of a charge.
    fn legs(&self, accounts: &Accounts, charge: &Charge) -> Vec<Leg> {
        let (total, plant) = (charge.total().0, &self.plant);
        let tokens = i64::try_from(charge.quantities.total()).unwrap_or(i64::MAX);
        let mut legs = Vec::new();
        let mut post = |account: AccountId, amount: i64| {
            if amount != 0 {
                legs.push(Leg { account, amount });
            }
        };
        post(accounts.money, -total);
        post(plant.revenue, charge.list.0);
        post(plant.discount, -charge.discount.0);
        for (account, _) in &accounts.budgets {
            post(*account, -total);
        }
        let budgets = i64::try_from(accounts.budgets.len()).unwrap_or(i64::MAX);
        post(plant.budget, total.saturating_mul(budgets));
        if let Some(account) = accounts.pool {
            post(account, -charge.pool_units);
            post(plant.pool, charge.pool_units);
        }
        if let Some(account) = accounts.volume {
            post(account, tokens);
            post(plant.volume, -tokens);
        }
        legs
    }
}
