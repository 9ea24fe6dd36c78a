//! Opening accounts and changing their floors: decided one after the other, and waited for by those alone who use them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ledger::{AccountSpec, Batch, Command, NotDurable, Receipt, Refusal, Refused, StoreError, limit};

use super::accounts::AccountError;
use super::{Books, DURABLE_WAIT};
use crate::Window;
use crate::limits::Limited;

/// Most end users with a budget that one organisation brings into its books in a window of theirs (counted since the
/// start): each is an account for ever, of about 300 bytes of memory.
pub const MAX_NEW_END_USERS: u32 = 65_536;
/// Longest wait that a refusal names.
const RETRY_MS_MAX: u64 = 24 * 3_600_000;

/// Changes of accounts on their way to the disk.
#[derive(Default)]
pub(super) struct AccountChanges {
    /// How many batches: whoever finds none looks no further.
    running: AtomicUsize,
    /// By the names of the accounts, the last batch of each.
    pending: Mutex<HashMap<String, Arc<Pending>>>,
    /// Whoever has the turn reads the directory and decides what follows from it, so that an older state of the directory
    /// never comes after a newer one.
    turn: Mutex<Newcomers>,
}

/// One batch.
#[derive(Default)]
struct Pending {
    over: Mutex<bool>,
    wake: Condvar,
}

/// End users that came into the books: of each organisation, the window's first millisecond and how many.
#[derive(Default)]
pub(super) struct Newcomers(HashMap<String, (i64, u32)>);

impl Newcomers {
    /// Refuses one more where there are too many.
    pub(super) fn check(&self, organisation: &str, window: &Window, now_ms: i64) -> Result<(), Limited> {
        let known = self.0.get(organisation).filter(|(start_ms, _)| *start_ms == window.start_ms);
        if known.is_none_or(|(_, count)| *count < MAX_NEW_END_USERS) {
            return Ok(());
        }
        let left_ms = u64::try_from(window.end_ms.saturating_sub(now_ms)).unwrap_or(0);
        let retry_after_ms = left_ms.clamp(1_000, RETRY_MS_MAX);
        Err(Limited::Crowded { limit: MAX_NEW_END_USERS as usize, retry_after_ms })
    }

    /// Counts one more, once it is in the books.
    pub(super) fn add(&mut self, organisation: &str, window: &Window) {
        let (start_ms, count) = self.0.entry(organisation.to_owned()).or_default();
        if *start_ms != window.start_ms {
            (*start_ms, *count) = (window.start_ms, 0);
        }
        *count = count.saturating_add(1);
    }

    /// How many of an organisation were counted last.
    #[cfg(test)]
    pub(super) fn of(&self, organisation: &str) -> u32 {
        self.0.get(organisation).map_or(0, |(_, count)| *count)
    }
}

impl AccountChanges {
    pub(super) fn turn(&self) -> MutexGuard<'_, Newcomers> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<String, Arc<Pending>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what others are changing of these accounts is on the disk.
    pub(super) fn wait_for<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<(), NotDurable> {
        if self.running.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let batches: Vec<Arc<Pending>> = {
            let pending = self.pending();
            names.filter_map(|name| pending.get(name).cloned()).collect()
        };
        for batch in batches {
            let over = batch.over.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = batch.wake.wait_timeout_while(over, DURABLE_WAIT, |over| !*over);
            if !*waited.unwrap_or_else(PoisonError::into_inner).0 {
                return Err(NotDurable::Timeout);
            }
        }
        Ok(())
    }

    pub(super) fn begin(self: &Arc<Self>, names: Vec<String>) -> Underway {
        let batch = Arc::new(Pending::default());
        self.running.fetch_add(1, Ordering::SeqCst);
        self.pending().extend(names.iter().map(|name| (name.clone(), Arc::clone(&batch))));
        Underway { listed: Some(Listed { changes: Arc::clone(self), names, batch }), receipt: None }
    }
}

/// A batch from before it is decided until it is on the disk, or refused. Whoever gives up the wait leaves it to the
/// ledger to say when that is: until then nobody takes its accounts for durable.
pub(super) struct Underway {
    listed: Option<Listed>,
    receipt: Option<Receipt>,
}

impl Underway {
    /// Waits for the disk; the turn is better given back before.
    pub(super) fn wait(self) -> Result<(), NotDurable> {
        self.receipt.as_ref().map_or(Ok(()), |receipt| receipt.wait_durable(DURABLE_WAIT))
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let listed = self.listed.take();
        if let Some(receipt) = self.receipt.take() {
            receipt.on_durable(Box::new(move |_| drop(listed)));
        }
    }
}

/// The accounts of a batch among the pending ones; dropped when it is over.
struct Listed {
    changes: Arc<AccountChanges>,
    names: Vec<String>,
    batch: Arc<Pending>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut pending = self.changes.pending();
        for name in &self.names {
            if pending.get(name).is_some_and(|last| Arc::ptr_eq(last, &self.batch)) {
                pending.remove(name);
            }
        }
        drop(pending);
        self.changes.running.fetch_sub(1, Ordering::SeqCst);
        *self.batch.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.batch.wake.notify_all();
    }
}

impl Books {
    /// The turn. The directory is as all servers have written it, so that a floor never goes back to what it said before.
    pub(super) fn turn(&self) -> Result<MutexGuard<'_, Newcomers>, StoreError> {
        let turn = self.changes.turn();
        if self.ledger.is_shared() {
            self.memory.follow()?;
        }
        Ok(turn)
    }

    /// Decides in one batch what brings the accounts to where they are wanted: new ones are opened (if `open`), of the
    /// others the floor is changed.
    pub(super) fn change_accounts(
        &self,
        _turn: &MutexGuard<'_, Newcomers>,
        wanted: &[&AccountSpec],
        open: bool,
        now_ms: i64,
    ) -> Result<Underway, AccountError> {
        let (mut names, mut commands) = (Vec::new(), Vec::new());
        for spec in wanted {
            let command = match self.ledger.account(&spec.name)? {
                None if open => Command::Open(AccountSpec::clone(spec)),
                None => continue,
                Some(account) if self.ledger.balance(account)?.is_some_and(|known| known.floor == spec.floor) => {
                    continue;
                }
                Some(account) => Command::SetFloor { account, floor: spec.floor },
            };
            names.push(spec.name.clone());
            commands.push(command);
        }
        let mut underway = self.changes.begin(names);
        for commands in commands.chunks(limit::COMMANDS) {
            match self.ledger.submit(&Batch { at_ms: now_ms, commands: commands.to_vec() }) {
                Ok(receipt) => underway.receipt = Some(receipt),
                // Another server was quicker.
                Err(Refused { refusal: Refusal::AccountDiffers(_), .. }) => {}
                Err(refused) => return Err(refused.into()),
            }
        }
        Ok(underway)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{Calendar, Period};

    #[test]
    fn newcomers_are_bounded_by_organisation_and_window() {
        let window = |now_ms| Calendar::default().window(Period::Month, now_ms).unwrap();
        let mut newcomers = Newcomers::default();
        for _ in 0..MAX_NEW_END_USERS {
            newcomers.check("acme", &window(0), 0).unwrap();
            newcomers.add("acme", &window(0));
        }
        let refused = newcomers.check("acme", &window(0), 5).unwrap_err();
        assert_eq!(refused.retry_after_ms(), Some(RETRY_MS_MAX));
        let late = window(0).end_ms - 3_000;
        assert_eq!(newcomers.check("acme", &window(0), late).unwrap_err().retry_after_ms(), Some(3_000));
        newcomers.check("other", &window(0), 5).unwrap();
        let next = window(0).end_ms;
        newcomers.check("acme", &window(next), next).unwrap();
        newcomers.add("acme", &window(next));
        assert_eq!(newcomers.of("acme"), 1);
    }
}
