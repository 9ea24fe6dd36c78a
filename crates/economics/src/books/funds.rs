//! How much is there, and holding as much of what is asked for as it pays for.

use ledger::{AccountId, AccountSpec, Balance, Batch, Command, EntryId, Refusal, Refused, Reserve, StoreError};

use super::Books;
use super::detail::Accounts;
use crate::plan::PoolEnd;
use crate::terms::{Ask, Need};
use crate::{Nano, Terms};

/// How often a hold is tried while others change the same accounts.
const TRIES: u32 = 64;

/// An extension takes all that is asked for while others could take as much this many times; below that, and while others
/// hold some of the money, it takes this part of what is free, so that many share the rest.
const SHARES: u64 = 4;

/// What a request can draw on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Purse {
    pool: i64,
    money: Nano,
}

/// What is there for a request.
struct Funds<'a, A> {
    free: Purse,
    /// What would be free if no other request held anything.
    all: Purse,
    /// The account that has no more money than this.
    tightest: &'a A,
    volume: u64,
}

impl<'a, A> Funds<'a, A> {
    /// For a request that holds `own` already.
    fn of(
        accounts: &'a Accounts<A>,
        own: Need,
        balance: impl Fn(&A) -> Result<Option<Balance>, StoreError>,
    ) -> Result<Self, StoreError> {
        let purse = |account: &A, own: i64| -> Result<(i64, i64), StoreError> {
            let Some(Balance { posted, held, floor }) = balance(account)? else { return Ok((0, 0)) };
            let Some(floor) = floor else { return Ok((i64::MAX, i64::MAX)) };
            let others = held.saturating_sub(own);
            Ok((posted.saturating_sub(others).saturating_sub(floor), posted.saturating_sub(floor)))
        };
        let ((mut free, mut all), mut tightest) = (purse(&accounts.money, own.money.0)?, &accounts.money);
        for (account, _) in accounts.budgets.iter().filter(|(_, hard)| *hard) {
            let here = purse(account, own.money.0)?;
            if here.0 < free {
                (free, tightest) = (here.0, account);
            }
            all = all.min(here.1);
        }
        let pool = accounts.pool.as_ref().map_or(Ok((0, 0)), |pool| purse(pool, own.pool))?;
        let volume = accounts.volume.as_ref().map_or(Ok(None), &balance)?.map_or(0, |balance| balance.posted);
        Ok(Self {
            free: Purse { pool: pool.0.max(own.pool), money: Nano(free) },
            all: Purse { pool: pool.1.max(own.pool), money: Nano(all) },
            tightest,
            volume: u64::try_from(volume).unwrap_or(0),
        })
    }

    /// The most answer tokens, up to `ask.output`, that a purse pays for.
    fn pays(&self, purse: Purse, ask: Ask, terms: &Terms) -> Option<u64> {
        terms.affordable_output(ask.input, ask.output, self.volume, purse.pool, purse.money)
    }

    /// How many of the answer tokens `ask` to hold beyond `held` ones; at least `least` in all.
    fn share(&self, held: u64, (ask, least): (Ask, u64), terms: &Terms) -> Result<u64, Spent> {
        let Some(output) = self.pays(self.free, ask, terms).filter(|output| *output >= least) else {
            let later = self.pays(self.all, ask, terms).is_some_and(|output| output >= least);
            return Err(Spent { later });
        };
        let some = ask.output.saturating_sub(held).saturating_mul(SHARES);
        let more = Ask { output: held.saturating_add(some), ..ask };
        let left = self.pays(self.free, more, terms).map_or(0, |most| most.saturating_sub(held));
        if self.free == self.all || left >= some {
            return Ok(output);
        }
        Ok(output.min(held.saturating_add(left / SHARES).max(least)))
    }

    /// The account that does not pay: the pool where its end is the end, else the one with the least money; and what is
    /// left of it.
    fn short(&self, accounts: &'a Accounts<A>, terms: &Terms) -> (&'a A, Nano) {
        let stops = terms.pool.is_some_and(|(_, then)| then == PoolEnd::Stop);
        match accounts.pool.as_ref().filter(|_| stops) {
            Some(pool) => (pool, Nano::ZERO),
            None => (self.tightest, self.free.money.max(Nano::ZERO)),
        }
    }
}

/// What is free is not enough; `later`: with what others hold it would be.
struct Spent {
    later: bool,
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
            let funds = self.funds(accounts, held.need)?;
            let output = match funds.share(held.ask.output, (ask, least), terms) {
                Ok(output) => output,
                Err(Spent { later }) => return self.spent(later, &funds, accounts, terms),
            };
            let ask = Ask { output, ..ask };
            let Some(need) = terms.need(ask, funds.volume, funds.free.pool) else { continue };
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
        let funds = self.funds(accounts, held.need)?;
        self.spent(true, &funds, accounts, terms)
    }

    fn spent(
        &self,
        later: bool,
        funds: &Funds<'_, AccountId>,
        accounts: &Accounts,
        terms: &Terms,
    ) -> Result<Held, Short> {
        let (account, left) = funds.short(accounts, terms);
        let account = self.ledger.account_spec(*account)?.map_or_else(String::new, |spec| spec.name.clone());
        Err(Short::Spent { later, account, left })
    }

    /// Refuses what accounts would not pay for that are yet to be opened or changed.
    pub(super) fn check_paid(
        &self,
        accounts: &Accounts<AccountSpec>,
        terms: &Terms,
        (ask, least): (Ask, u64),
    ) -> Result<(), Short> {
        let funds = Funds::of(accounts, Need::default(), |spec| self.balance_as_wanted(spec))?;
        let Err(Spent { later }) = funds.share(0, (ask, least), terms) else { return Ok(()) };
        let (account, left) = funds.short(accounts, terms);
        Err(Short::Spent { later, account: account.name.clone(), left })
    }

    fn funds<'a>(&self, accounts: &'a Accounts, own: Need) -> Result<Funds<'a, AccountId>, StoreError> {
        let Accounts { money, pool, volume, budgets } = accounts;
        let hard = budgets.iter().filter(|(_, hard)| *hard).map(|(account, _)| *account);
        let ids: Vec<AccountId> = [*money].into_iter().chain(*pool).chain(*volume).chain(hard).collect();
        let known = self.ledger.balances(&ids)?;
        Funds::of(accounts, own, |account| Ok(known.iter().find(|(id, _)| id == account).map(|(_, balance)| *balance)))
    }

    /// Tokens of the model that the customer has used in the window.
    pub(super) fn volume(&self, accounts: &Accounts) -> Result<u64, StoreError> {
        let Some(account) = accounts.volume else { return Ok(0) };
        let posted = self.ledger.balance(account)?.map_or(0, |balance| balance.posted);
        Ok(u64::try_from(posted).unwrap_or(0))
    }

    /// Pool units that a settlement may take: what the request holds and what nobody holds.
    pub(super) fn pool_left(&self, accounts: &Accounts, own: i64) -> Result<i64, StoreError> {
        Ok(self.funds(accounts, Need { pool: own, money: Nano::ZERO })?.free.pool)
    }
}

fn reserves(accounts: &Accounts, pool: i64, money: i64) -> Vec<Reserve> {
    let hard = accounts.budgets.iter().filter(|(_, hard)| *hard).map(|(account, _)| *account);
    let money = [accounts.money].into_iter().chain(hard).map(|account| Reserve { account, amount: money });
    let pool = accounts.pool.map(|account| Reserve { account, amount: pool });
    money.chain(pool).filter(|reserve| reserve.amount > 0).collect()
}
