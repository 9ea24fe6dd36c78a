//! The accounts that outcomes are posted to.

use ledger::{AccountId, AccountKind, Leg, Refused};

use crate::books::Books;
use crate::books::accounts::{self, unit};
use crate::books::outcome_detail::Counted;
use crate::outcome::Valuation;

/// What one organisation's outcomes are posted to: its values are its own, so that none can fill a balance that others need.
#[derive(Clone, Copy)]
pub(super) struct Accounts {
    /// By valuation.
    values: [AccountId; Valuation::ALL.len()],
    contra: AccountId,
    /// Counts outcomes, so that no two are decided on the same state.
    pub(super) outcomes: AccountId,
    outcomes_contra: AccountId,
}

impl Accounts {
    pub(super) fn open(books: &Books, organisation: &str, now_ms: i64) -> Result<Self, Refused> {
        let spec = |name: &str, kind, unit| accounts::spec(format!("plant/value/{name}"), kind, unit, None);
        let own = |name: &str, kind| spec(&format!("{organisation}/{name}"), kind, unit::VALUE);
        let value = |place: usize| own(Valuation::WORDS[place], AccountKind::Value);
        let values: [_; Valuation::ALL.len()] = std::array::from_fn(value);
        let others = [
            own("contra", AccountKind::Contra),
            spec("outcomes", AccountKind::Value, unit::OUTCOMES),
            spec("outcomes-contra", AccountKind::Contra, unit::OUTCOMES),
        ];
        let values = accounts::open(&books.ledger, values, now_ms)?;
        let [contra, outcomes, outcomes_contra] = accounts::open(&books.ledger, others, now_ms)?;
        Ok(Self { values, contra, outcomes, outcomes_contra })
    }

    /// One more outcome; its value, in place of that of the revision before.
    pub(super) fn legs(&self, counted: Option<&Counted>, undone: Option<&Counted>) -> Vec<Leg> {
        let mut legs =
            vec![Leg { account: self.outcomes, amount: 1 }, Leg { account: self.outcomes_contra, amount: -1 }];
        let undone = undone.map(|counted| (counted, counted.value().0.saturating_neg()));
        for (counted, amount) in undone.into_iter().chain(counted.map(|counted| (counted, counted.value().0))) {
            let account = self.values.get(usize::from(counted.valuation.code())).filter(|_| amount != 0);
            if let Some(account) = account {
                legs.push(Leg { account: *account, amount });
                legs.push(Leg { account: self.contra, amount: amount.saturating_neg() });
            }
        }
        legs
    }
}
