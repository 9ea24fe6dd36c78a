//! How much is there, and holding as much of what is asked for as it pays for.

use ledger::{AccountId, Batch, Command, EntryId, Refusal, Refused, Reserve, StoreError};

use super::Books;
use super::detail::Accounts;
use crate::plan::PoolEnd;
use crate::terms::{Ask, Need};
use crate::{Nano, Terms};

/// How often a hold is tried while others change the same accounts.
const TRIES: u32 = 64;

/// What a request can draw on.
#[derive(Clone, Copy, Debug)]
struct Funds {
    pool: i64,
    money: Nano,
    /// The account that has no more money than this.
    tightest: AccountId,
    volume: u64,
}

/// What is held for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Tokens it covers.
    pub(super) ask: Ask,
    /// What they need at most.
    pub(super) need: Need,
}

/// Why nothing (more) was held.
#[derive(Clone, Debug)]
pub(super) enum Short {
    /// The money is spent; `later`: others hold some of it and may give it back.
    Spent { later: bool, account: String, left: Nano },
    /// The ledger's reason.
    Refused(Refusal),
    /// The store could not be read.
    Store(StoreError),
}

impl From<StoreError> for Short {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A new hold carries a detail and the time when it runs out.
pub(super) type NewHold = Option<(Vec<u8>, i64)>;

impl Books {
    /// Holds up to `ask` beyond `held`: all of it, or as many answer tokens as the money pays for, but at least `least`
    /// in all.
    pub(super) fn hold(
        &self,
        (id, accounts, terms): (EntryId, &Accounts, &Terms),
        held: Held,
        (ask, least): (Ask, u64),
        new: &NewHold,
        now_ms: i64,
    ) -> Result<Held, Short> {
        for _ in 0..TRIES {
            let free = self.funds(accounts, held.need, false)?;
            let affordable = terms.affordable_output(ask.input, ask.output, free.volume, free.pool, free.money);
            let Some(output) = affordable.filter(|output| *output >= least) else {
                let all = self.funds(accounts, held.need, true)?;
                let hoped = terms.affordable_output(ask.input, ask.output, all.volume, all.pool, all.money);
                let later = hoped.is_some_and(|output| output >= least);
                return self.spent(later, &free, accounts, terms);
            };
            let ask = Ask { output, ..ask };
            let Some(need) = terms.need(ask, free.volume, free.pool) else { continue };
            if need.money == Nano::MAX {
                return Err(Short::Refused(Refusal::Overflow));
            }
            let need = Need { pool: need.pool.max(held.need.pool), money: need.money.max(held.need.money) };
            let reserves = reserves(accounts, need.pool - held.need.pool, need.money.saturating_sub(held.need.money).0);
            let command = match new {
                Some((detail, expires_ms)) => {
                    Command::Hold { id, reserves, expires_ms: *expires_ms, detail: detail.clone() }
                }
                None => Command::Extend { id, reserves },
            };
            match self.ledger.submit(&Batch { at_ms: now_ms, commands: vec![command] }) {
                Ok(receipt) if receipt.outcomes.contains(&ledger::Outcome::Replayed) => {
                    return Err(Short::Refused(Refusal::Conflict(id)));
                }
                Ok(_) => return Ok(Held { ask, need }),
                // Others were quicker: look again at what is there.
                Err(Refused { refusal: Refusal::Insufficient { .. }, .. }) => {}
                Err(refused) => return Err(Short::Refused(refused.refusal)),
            }
        }
        let free = self.funds(accounts, held.need, false)?;
        self.spent(true, &free, accounts, terms)
    }

    /// Names the account that does not pay: the pool where its end is the end, else the one with the least money.
    fn spent(&self, later: bool, free: &Funds, accounts: &Accounts, terms: &Terms) -> Result<Held, Short> {
        let stops = terms.pool.is_some_and(|(_, then)| then == PoolEnd::Stop);
        let account = accounts.pool.filter(|_| stops).unwrap_or(free.tightest);
        let account = self.ledger.account_spec(account)?.map_or_else(String::new, |spec| spec.name.clone());
        Err(Short::Spent { later, account, left: if stops { Nano::ZERO } else { free.money.max(Nano::ZERO) } })
    }

    /// What is free for a request that holds `own` already; `all`: what would be if no other request held anything.
    fn funds(&self, accounts: &Accounts, own: Need, all: bool) -> Result<Funds, StoreError> {
        let free = |account: AccountId, own: i64| -> Result<i64, StoreError> {
            let Some(balance) = self.ledger.balance(account)? else { return Ok(0) };
            let Some(floor) = balance.floor else { return Ok(i64::MAX) };
            let held = if all { 0 } else { balance.held.saturating_sub(own) };
            Ok(balance.posted.saturating_sub(held).saturating_sub(floor))
        };
        let (mut money, mut tightest) = (free(accounts.money, own.money.0)?, accounts.money);
        for (account, _) in accounts.budgets.iter().filter(|(_, hard)| *hard) {
            let here = free(*account, own.money.0)?;
            if here < money {
                (money, tightest) = (here, *account);
            }
        }
        let pool = accounts.pool.map_or(Ok(0), |pool| free(pool, own.pool))?;
        Ok(Funds { pool: pool.max(own.pool), money: Nano(money), tightest, volume: self.volume(accounts)? })
    }

    /// Tokens of the model that the customer has used in the window.
    pub(super) fn volume(&self, accounts: &Accounts) -> Result<u64, StoreError> {
        let Some(account) = accounts.volume else { return Ok(0) };
        let posted = self.ledger.balance(account)?.map_or(0, |balance| balance.posted);
        Ok(u64::try_from(posted).unwrap_or(0))
    }

    /// Pool units that a settlement may take: what the request holds and what nobody holds.
    pub(super) fn pool_left(&self, accounts: &Accounts, own: i64) -> Result<i64, StoreError> {
        Ok(self.funds(accounts, Need { pool: own, money: Nano::ZERO }, false)?.pool)
    }
}

fn reserves(accounts: &Accounts, pool: i64, money: i64) -> Vec<Reserve> {
    let hard = accounts.budgets.iter().filter(|(_, hard)| *hard).map(|(account, _)| *account);
    let money = [accounts.money].into_iter().chain(hard).map(|account| Reserve { account, amount: money });
    let pool = accounts.pool.map(|account| Reserve { account, amount: pool });
    money.chain(pool).filter(|reserve| reserve.amount > 0).collect()
}
