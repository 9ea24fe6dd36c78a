//! The state machine: what a batch does to accounts, holds and documents. Pure: no storage, no time of its own.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::Arc;

use crate::error::{Refusal, Refused, StoreError};
use crate::pack;
use crate::types::{
    AccountId, AccountSpec, Balance, Batch, Command, Entry, EntryId, Hold, Leg, Outcome, Reserve, Unit, kind, limit,
};

/// An account's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// As opened.
    pub(crate) spec: Arc<AccountSpec>,
    pub(crate) balance: Balance,
}

/// Entries that the book no longer knows itself.
pub(crate) trait History {
    fn entry(&mut self, id: EntryId) -> Result<Option<Entry>, StoreError>;
}

/// What a batch did: outcomes for the caller, the rest for the store (states after the batch).
#[derive(Debug, Default)]
pub(crate) struct Decision {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) accounts: Vec<(AccountId, Account)>,
    pub(crate) holds: Vec<HoldChange>,
}

/// A hold that was opened, changed or ended.
#[derive(Debug)]
pub(crate) struct HoldChange {
    pub(crate) id: EntryId,
    /// It did not exist before the batch.
    pub(crate) fresh: bool,
    /// `None`: ended.
    pub(crate) now: Option<Arc<Hold>>,
}

/// What something was before the batch.
#[derive(Debug)]
enum Before {
    Account(AccountId, Option<Account>),
    Hold(EntryId, Option<Arc<Hold>>),
    Document(u16, String, Option<u64>),
    Entry(Arc<Entry>),
}

/// A change of one account by one command. Wider than a balance, so that only what it comes to must fit.
struct Move {
    account: AccountId,
    posted: i128,
    held: i128,
}

/// Accounts, open holds, versions of documents and the latest entries. Embedded it is the whole state; over a shared
/// database it holds what a group of batches touches.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) writer: u32,
    /// Number of the last entry.
    pub(crate) seq: u64,
    /// Number of accounts, known here or not.
    pub(crate) account_count: u64,
    pub(crate) accounts: HashMap<AccountId, Account>,
    pub(crate) names: HashMap<String, AccountId>,
    pub(crate) holds: HashMap<EntryId, Arc<Hold>>,
    /// Number of open holds that are not known here.
    pub(crate) holds_elsewhere: usize,
    pub(crate) documents: HashMap<(u16, String), u64>,
    /// Entries that [`History`] may not know yet.
    pub(crate) recent: HashMap<EntryId, Arc<Entry>>,
    undo: Vec<Before>,
}

impl Book {
    /// Empty, or to be filled with what is stored.
    pub(crate) fn new(writer: u32, seq: u64, account_count: u64) -> Self {
        Self { writer, seq, account_count, ..Self::default() }
    }

    /// Applies all commands or, when one is refused, none.
    pub(crate) fn apply(&mut self, batch: &Batch, history: &mut dyn History) -> Result<Decision, Refused> {
        if batch.commands.len() > limit::COMMANDS {
            let refusal = Refusal::Limit { what: "commands of a batch", max: limit::COMMANDS };
            return Err(Refused { index: limit::COMMANDS, refusal });
        }
        self.undo.clear();
        let mut outcomes = Vec::with_capacity(batch.commands.len());
        for (index, command) in batch.commands.iter().enumerate() {
            match self.command(batch.at_ms, command, history) {
                Ok(outcome) => outcomes.push(outcome),
                Err(refusal) => {
                    self.roll_back();
                    return Err(Refused { index, refusal });
                }
            }
        }
        Ok(self.decision(outcomes))
    }

    pub(crate) fn add_account(&mut self, id: AccountId, account: Account) {
        self.names.insert(account.spec.name.clone(), id);
        self.accounts.insert(id, account);
    }

    fn command(&mut self, at_ms: i64, command: &Command, history: &mut dyn History) -> Result<Outcome, Refusal> {
        match command {
            Command::Open(spec) => self.open(at_ms, spec),
            Command::SetFloor { account, floor } => self.set_floor(at_ms, *account, *floor),
            Command::Post { id, kind, legs, detail } => {
                if self.holds.contains_key(id) {
                    return Err(Refusal::Conflict(*id));
                }
                self.post(at_ms, (*id, *kind, legs, detail), None, history)
            }
            Command::Hold { id, reserves, expires_ms, detail } => {
                let asked = Hold {
                    id: *id,
                    at_ms,
                    expires_ms: *expires_ms,
                    asked: reserves.clone(),
                    reserves: Vec::new(),
                    detail: detail.clone(),
                };
                self.hold(asked, history)
            }
            Command::Extend { id, reserves } => {
                let hold = self.holds.get(id).cloned().ok_or(Refusal::UnknownHold(*id))?;
                self.reserve((*hold).clone(), reserves)?;
                Ok(Outcome::Extended)
            }
            Command::Settle { id, kind, legs, detail } => {
                let hold = self.holds.get(id).cloned();
                self.post(at_ms, (*id, *kind, legs, detail), Some(hold), history)
            }
            Command::Void { id } => self.end(at_ms, *id, kind::VOID, history),
            Command::Expire { id } => self.end(at_ms, *id, kind::EXPIRED, history),
            Command::Put { id, kind, key, version, actor, body } => {
                check_name("key of a document", key)?;
                check_length("bytes of an actor", actor.len(), limit::NAME)?;
                check_length("bytes of a document", body.len(), limit::BODY)?;
                let detail = pack::document(*kind, key, *version, actor, body);
                self.put(at_ms, *id, (*kind, key, *version), detail, history)
            }
            Command::Expect { account, posted } => {
                let found = self.account(*account)?.balance.posted;
                let matched = found == *posted;
                matched.then_some(Outcome::Matched).ok_or(Refusal::Changed { account: *account, posted: found })
            }
        }
    }

    fn open(&mut self, at_ms: i64, spec: &AccountSpec) -> Result<Outcome, Refusal> {
        check_name("name of an account", &spec.name)?;
        if let Some(&id) = self.names.get(&spec.name) {
            let same = *self.account(id)?.spec == *spec;
            return same.then_some(Outcome::Opened(id)).ok_or_else(|| Refusal::AccountDiffers(spec.name.clone()));
        }
        let id = AccountId(self.account_count);
        self.account_count = self.account_count.checked_add(1).ok_or(Refusal::Overflow)?;
        self.undo.push(Before::Account(id, None));
        let balance = Balance { posted: 0, held: 0, floor: spec.floor };
        self.add_account(id, Account { spec: Arc::new(spec.clone()), balance });
        self.append(at_ms, kind::OPENED, None, Vec::new(), pack::opened(id, spec))?;
        Ok(Outcome::Opened(id))
    }

    fn set_floor(&mut self, at_ms: i64, id: AccountId, floor: Option<i64>) -> Result<Outcome, Refusal> {
        let balance = Balance { floor, ..self.account(id)?.balance };
        self.set_balance(id, balance)?;
        self.append(at_ms, kind::FLOOR, None, Vec::new(), pack::floor(id, floor))
    }

    /// A posting, direct (`hold` is `None`) or as the end of a hold (that may not be there).
    fn post(
        &mut self,
        at_ms: i64,
        (id, kind, legs, detail): (EntryId, u16, &[Leg], &[u8]),
        hold: Option<Option<Arc<Hold>>>,
        history: &mut dyn History,
    ) -> Result<Outcome, Refusal> {
        let settled = hold.is_some();
        let hold = hold.flatten();
        if hold.is_none() {
            if let Some(entry) = self.entry(id, history)? {
                let same = entry.kind == kind && entry.legs == legs && entry.detail == detail;
                return same.then_some(Outcome::Replayed).ok_or(Refusal::Conflict(id));
            }
            if settled {
                return Err(Refusal::UnknownHold(id));
            }
        }
        if kind >= kind::RESERVED {
            return Err(Refusal::Invalid("the kind of a posting must be below 0xff00"));
        }
        if legs.is_empty() && !settled {
            return Err(Refusal::Invalid("a posting needs a leg"));
        }
        check_length("legs of a posting", legs.len(), limit::LEGS)?;
        check_length("bytes of a detail", detail.len(), limit::DETAIL)?;
        self.check_sums(legs)?;
        let mut moves = Vec::with_capacity(legs.len());
        for leg in legs {
            add_move(&mut moves, Move { account: leg.account, posted: leg.amount.into(), held: 0 })?;
        }
        if let Some(hold) = hold {
            self.release(&hold, &mut moves)?;
        }
        self.shift(&moves)?;
        self.append(at_ms, kind, Some(id), legs.to_vec(), detail.to_vec())
    }

    fn hold(&mut self, hold: Hold, history: &mut dyn History) -> Result<Outcome, Refusal> {
        check_length("bytes of a detail", hold.detail.len(), limit::DETAIL)?;
        if let Some(open) = self.holds.get(&hold.id) {
            let same = open.asked == hold.asked && open.expires_ms == hold.expires_ms && open.detail == hold.detail;
            return same.then_some(Outcome::Replayed).ok_or(Refusal::Conflict(hold.id));
        }
        if self.entry(hold.id, history)?.is_some() {
            return Err(Refusal::Conflict(hold.id));
        }
        let open = self.holds.len().saturating_add(self.holds_elsewhere);
        if open >= limit::HOLDS {
            return Err(Refusal::Limit { what: "open holds", max: limit::HOLDS });
        }
        let asked = hold.asked.clone();
        self.reserve(hold, &asked)?;
        Ok(Outcome::Held)
    }

    /// Puts more into a hold, new or open.
    fn reserve(&mut self, mut hold: Hold, more: &[Reserve]) -> Result<(), Refusal> {
        check_length("reserves of a hold", more.len(), limit::LEGS)?;
        let mut moves = Vec::with_capacity(more.len());
        for reserve in more {
            if reserve.amount < 0 {
                return Err(Refusal::Invalid("a reserve must not be negative"));
            }
            add_move(&mut moves, Move { account: reserve.account, posted: 0, held: reserve.amount.into() })?;
        }
        self.shift(&moves)?;
        for Move { account, held, .. } in moves {
            let held = in_range(held)?;
            match hold.reserves.iter_mut().find(|reserve| reserve.account == account) {
                Some(reserve) => reserve.amount = reserve.amount.checked_add(held).ok_or(Refusal::Overflow)?,
                None => hold.reserves.push(Reserve { account, amount: held }),
            }
        }
        check_length("reserves of a hold", hold.reserves.len(), limit::LEGS)?;
        let id = hold.id;
        let before = self.holds.insert(id, Arc::new(hold));
        self.undo.push(Before::Hold(id, before));
        Ok(())
    }

    /// Ends a hold without a posting.
    fn end(&mut self, at_ms: i64, id: EntryId, how: u16, history: &mut dyn History) -> Result<Outcome, Refusal> {
        let Some(hold) = self.holds.get(&id).cloned() else {
            let entry = self.entry(id, history)?.ok_or(Refusal::UnknownHold(id))?;
            return (entry.kind == how).then_some(Outcome::Replayed).ok_or(Refusal::Conflict(id));
        };
        if how == kind::EXPIRED && at_ms < hold.expires_ms {
            return Err(Refusal::NotExpired { id, expires_ms: hold.expires_ms });
        }
        let mut moves = Vec::with_capacity(hold.reserves.len());
        self.release(&hold, &mut moves)?;
        self.shift(&moves)?;
        self.append(at_ms, how, Some(id), Vec::new(), hold.detail.clone())
    }

    fn put(
        &mut self,
        at_ms: i64,
        id: EntryId,
        (kind, key, version): (u16, &str, u64),
        detail: Vec<u8>,
        history: &mut dyn History,
    ) -> Result<Outcome, Refusal> {
        if self.holds.contains_key(&id) {
            return Err(Refusal::Conflict(id));
        }
        if let Some(entry) = self.entry(id, history)? {
            let same = entry.kind == kind::DOCUMENT && entry.detail == detail;
            return same.then_some(Outcome::Replayed).ok_or(Refusal::Conflict(id));
        }
        let name = (kind, key.to_owned());
        let current = self.documents.get(&name).copied();
        if Some(version) != current.unwrap_or(0).checked_add(1) {
            return Err(Refusal::BadVersion { key: name.1, current: current.unwrap_or(0), given: version });
        }
        self.undo.push(Before::Document(kind, name.1.clone(), current));
        self.documents.insert(name, version);
        self.append(at_ms, kind::DOCUMENT, Some(id), Vec::new(), detail)
    }

    /// Takes a hold out of the open ones; its reserves go into `moves`.
    fn release(&mut self, hold: &Arc<Hold>, moves: &mut Vec<Move>) -> Result<(), Refusal> {
        for reserve in &hold.reserves {
            let held = i128::from(reserve.amount).checked_neg().ok_or(Refusal::Overflow)?;
            add_move(moves, Move { account: reserve.account, posted: 0, held })?;
        }
        self.holds.remove(&hold.id);
        self.undo.push(Before::Hold(hold.id, Some(Arc::clone(hold))));
        Ok(())
    }

    /// The one rule of floors: what can be spent may not fall, by one command, to where it is below the floor.
    fn shift(&mut self, moves: &[Move]) -> Result<(), Refusal> {
        for step in moves {
            let account = self.account(step.account)?;
            let old = account.balance;
            let posted = in_range(step.posted.saturating_add(old.posted.into()))?;
            let held = in_range(step.held.saturating_add(old.held.into()))?;
            let new = Balance { posted, held, floor: old.floor };
            if let (Some(before), Some(after)) = (spendable(&old), spendable(&new))
                && after < 0
                && after < before
            {
                // Of a settlement: its own reserves count as available.
                let available = before.max(0).saturating_add(step.held.min(0).saturating_neg());
                let needed = step.held.max(0).saturating_sub(step.posted);
                return Err(Refusal::Insufficient {
                    account: step.account,
                    name: account.spec.name.clone(),
                    available: clamp(available),
                    needed: clamp(needed),
                });
            }
            self.set_balance(step.account, new)?;
        }
        Ok(())
    }

    fn set_balance(&mut self, id: AccountId, balance: Balance) -> Result<(), Refusal> {
        let account = self.accounts.get_mut(&id).ok_or(Refusal::UnknownAccount(id))?;
        self.undo.push(Before::Account(id, Some(account.clone())));
        account.balance = balance;
        Ok(())
    }

    fn append(
        &mut self,
        at_ms: i64,
        kind: u16,
        id: Option<EntryId>,
        legs: Vec<Leg>,
        detail: Vec<u8>,
    ) -> Result<Outcome, Refusal> {
        let seq = self.seq.checked_add(1).ok_or(Refusal::Overflow)?;
        self.seq = seq;
        let entry = Arc::new(Entry { seq, writer: self.writer, at_ms, kind, id, legs, detail });
        if let Some(id) = id {
            self.recent.insert(id, Arc::clone(&entry));
        }
        self.undo.push(Before::Entry(entry));
        Ok(Outcome::Applied { seq })
    }

    fn account(&self, id: AccountId) -> Result<&Account, Refusal> {
        self.accounts.get(&id).ok_or(Refusal::UnknownAccount(id))
    }

    fn entry(&self, id: EntryId, history: &mut dyn History) -> Result<Option<Arc<Entry>>, Refusal> {
        if let Some(entry) = self.recent.get(&id) {
            return Ok(Some(Arc::clone(entry)));
        }
        let found = history.entry(id).map_err(|error| Refusal::Unavailable { reason: error.to_string() })?;
        Ok(found.map(Arc::new))
    }

    fn check_sums(&self, legs: &[Leg]) -> Result<(), Refusal> {
        let mut sums: Vec<(Unit, i128)> = Vec::new();
        for leg in legs {
            let unit = self.account(leg.account)?.spec.unit;
            match sums.iter_mut().find(|(other, _)| *other == unit) {
                Some((_, sum)) => *sum = sum.saturating_add(leg.amount.into()),
                None => sums.push((unit, leg.amount.into())),
            }
        }
        let wrong = sums.into_iter().find(|(_, sum)| *sum != 0);
        wrong.map_or(Ok(()), |(unit, sum)| Err(Refusal::Unbalanced { unit, sum }))
    }

    fn roll_back(&mut self) {
        while let Some(before) = self.undo.pop() {
            match before {
                Before::Account(id, Some(account)) => {
                    self.accounts.insert(id, account);
                }
                Before::Account(id, None) => {
                    if let Some(account) = self.accounts.remove(&id) {
                        self.names.remove(&account.spec.name);
                    }
                    self.account_count = id.0;
                }
                Before::Hold(id, hold) => restore(self.holds.entry(id), hold),
                Before::Document(kind, key, version) => restore(self.documents.entry((kind, key)), version),
                Before::Entry(entry) => {
                    self.seq = entry.seq.saturating_sub(1);
                    if let Some(id) = entry.id {
                        self.recent.remove(&id);
                    }
                }
            }
        }
    }

    /// What the store has to write: the present state of whatever the batch touched.
    fn decision(&mut self, outcomes: Vec<Outcome>) -> Decision {
        let mut decision = Decision { outcomes, ..Decision::default() };
        for before in self.undo.drain(..) {
            match before {
                Before::Account(id, _) => {
                    if let Some(account) = self.accounts.get(&id) {
                        decision.accounts.push((id, account.clone()));
                    }
                }
                Before::Hold(id, old) => {
                    let now = self.holds.get(&id).cloned();
                    decision.holds.push(HoldChange { id, fresh: old.is_none(), now });
                }
                Before::Document(..) => {}
                Before::Entry(entry) => decision.entries.push(entry),
            }
        }
        decision
    }
}

fn restore<K, V>(place: hash_map::Entry<'_, K, V>, before: Option<V>) {
    match (before, place) {
        (Some(value), place) => drop(place.insert_entry(value)),
        (None, hash_map::Entry::Occupied(place)) => drop(place.remove()),
        (None, hash_map::Entry::Vacant(_)) => {}
    }
}

/// How far above its floor an account is, holds taken off. `None`: no floor.
fn spendable(balance: &Balance) -> Option<i128> {
    let free = i128::from(balance.posted).checked_sub(balance.held.into())?;
    free.checked_sub(balance.floor?.into())
}

fn in_range(value: i128) -> Result<i64, Refusal> {
    i64::try_from(value).ok().ok_or(Refusal::Overflow)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value.max(0)).unwrap_or(i64::MAX)
}

fn add_move(moves: &mut Vec<Move>, step: Move) -> Result<(), Refusal> {
    let Some(same) = moves.iter_mut().find(|other| other.account == step.account) else {
        moves.push(step);
        return Ok(());
    };
    same.posted = same.posted.checked_add(step.posted).ok_or(Refusal::Overflow)?;
    same.held = same.held.checked_add(step.held).ok_or(Refusal::Overflow)?;
    Ok(())
}

fn check_length(what: &'static str, length: usize, max: usize) -> Result<(), Refusal> {
    if length > max { Err(Refusal::Limit { what, max }) } else { Ok(()) }
}

fn check_name(what: &'static str, name: &str) -> Result<(), Refusal> {
    check_length(what, name.len(), limit::NAME)?;
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Refusal::Invalid("a name must not be empty or hold control characters"));
    }
    Ok(())
}
