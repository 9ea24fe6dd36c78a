//! The accounts that outcomes are posted to.

use ledger::{AccountId, AccountKind, AccountSpec, Batch, Command, Leg, Outcome as Done, Refusal, Refused};

use crate::books::Books;
use crate::books::accounts::unit;
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
        let spec =
            |name: &str, kind, unit| AccountSpec { name: format!("plant/value/{name}"), kind, unit, floor: None };
        let own = |name: &str, kind| spec(&format!("{organisation}/{name}"), kind, unit::VALUE);
        let values = Valuation::ALL.iter().map(|valuation| own(valuation.as_str(), AccountKind::Value));
        let others = [
            own("contra", AccountKind::Contra),
            spec("outcomes", AccountKind::Value, unit::OUTCOMES),
            spec("outcomes-contra", AccountKind::Contra, unit::OUTCOMES),
        ];
        let commands = values.chain(others).map(Command::Open).collect();
        let receipt = books.ledger.submit(&Batch { at_ms: now_ms, commands })?;
        let opened = |done: &Done| if let Done::Opened(id) = done { Some(*id) } else { None };
        let ids: Vec<AccountId> = receipt.outcomes.iter().filter_map(opened).collect();
        match ids.split_first_chunk() {
            Some((values, [contra, outcomes, outcomes_contra])) => {
                Ok(Self { values: *values, contra: *contra, outcomes: *outcomes, outcomes_contra: *outcomes_contra })
            }
            _ => Err(Refused { index: 0, refusal: Refusal::Invalid("the ledger did not open the accounts of value") }),
        }
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
