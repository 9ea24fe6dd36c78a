//! What is used of budgets.

use ledger::{Balance, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use super::accounts::budget_name;
use super::alert::was_raised;
use super::{Books, PostError};
use crate::Nano;
use crate::directory::budgets::{Owned, Place};
use crate::limits::Level;
use crate::window::Period;

/// Most budgets of one page.
pub const MAX_BUDGETS: usize = 500;

/// A budget, and what is used of it in its present window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = BudgetStanding)]
pub struct BudgetStanding {
    /// The level of the budget.
    pub level: Level,
    /// Whose budget; `ORGANISATION/USER` of end users.
    pub id: String,
    /// The organisation that it belongs to.
    pub organisation: String,
    /// The budget.
    pub amount: Nano,
    /// How often it begins anew.
    pub period: Period,
    /// Only watched: nothing is refused.
    pub soft: bool,
    /// Percent of `amount` at which an alert is raised.
    pub alert_percent: Vec<u16>,
    /// The first day of its window, as alerts have it; `all` of a budget that never begins anew.
    pub window: String,
    /// What was charged in the window since there is a budget.
    pub spent: Nano,
    /// What running requests hold of it; nothing where it is only watched.
    pub held: Nano,
    /// `amount` less `spent` and `held`. Below 0 where it is only watched, or was more before.
    pub left: Nano,
    /// Which of `alert_percent` were raised in the window.
    pub raised: Vec<u16>,
}

impl Books {
    /// Budgets of those that have bounds of their own, with what is used of each at `now_ms`: of one organisation or of all,
    /// those behind `after` (level and id), organisations first, then teams, projects, keys and end users, each by id; at
    /// most `limit` and [`MAX_BUDGETS`]. Also whether more follow. What end users have by their organisation's
    /// `end_user_bounds` alone is not among them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn budgets(
        &self,
        organisation: Option<&str>,
        after: Option<(Level, &str)>,
        limit: usize,
        now_ms: i64,
    ) -> Result<(Vec<BudgetStanding>, bool), PostError> {
        let limit = limit.min(MAX_BUDGETS);
        let after = after.map(|(level, id)| Place::new(level, id));
        let found: Vec<(String, Owned)> = {
            let directory = self.directory();
            let found = directory.budgets_after(organisation, after).take(limit + 1);
            found.map(|(of, owned)| (of.to_owned(), owned)).collect()
        };
        let more = found.len() > limit;
        let page = found.into_iter().take(limit).map(|(of, owned)| self.budget_standing(of, owned, now_ms));
        Ok((page.collect::<Result<_, _>>()?, more))
    }

    fn budget_standing(
        &self,
        organisation: String,
        (subject, budget, calendar): Owned,
        now_ms: i64,
    ) -> Result<BudgetStanding, PostError> {
        let window = calendar.window(budget.period, now_ms)?;
        let name = budget_name(&subject, budget.period, &window);
        let account = self.ledger.account(&name)?;
        let balance = account.map_or(Ok(None), |account| self.ledger.balance(account))?;
        let Balance { posted, held, .. } = balance.unwrap_or(Balance { posted: 0, held: 0, floor: None });
        let (spent, held) = (Nano(posted.saturating_neg()), Nano(held));
        Ok(BudgetStanding {
            level: subject.level,
            id: subject.id.to_string(),
            organisation,
            amount: budget.amount,
            period: budget.period,
            soft: budget.soft,
            window: window.label,
            spent,
            held,
            left: budget.amount.saturating_sub(spent).saturating_sub(held),
            raised: self.raised_of(&name, &budget.alert_percent, spent)?,
            alert_percent: budget.alert_percent,
        })
    }

    /// Which thresholds of a budget's account were raised; none while nothing is spent.
    fn raised_of(&self, account: &str, thresholds: &[u16], spent: Nano) -> Result<Vec<u16>, StoreError> {
        let mut raised = Vec::new();
        for percent in thresholds.iter().filter(|_| spent > Nano::ZERO) {
            if was_raised(&self.ledger, account, *percent)? {
                raised.push(*percent);
            }
        }
        Ok(raised)
    }
}
