//! Every budget that has an owner of its own.

use std::sync::Arc;

use super::Directory;
use super::record::{Bounds, Kind, Record};
use crate::limits::{Level, Subject};
use crate::plan::Budget;
use crate::window::Calendar;

/// Whose budget, which, and when its windows begin.
pub(crate) type Owned = (Subject, Budget, Calendar);

impl Directory {
    /// The budgets of all organisations, teams, projects, keys and end users that have bounds of their own.
    pub(crate) fn budgets(&self) -> Vec<Owned> {
        let kinds = [Kind::Organisation, Kind::Team, Kind::Project, Kind::Key, Kind::EndUser];
        let records = kinds.into_iter().flat_map(|kind| self.records(kind));
        records.filter_map(|record| self.budget_of(&record)).collect()
    }

    /// The budget of a record that has bounds.
    pub(crate) fn budget_of(&self, record: &Record) -> Option<Owned> {
        let (level, id, bounds) = bounded(record)?;
        self.owned(level, &id, self.organisation_of(record)?, bounds)
    }

    /// Who has bounds by a record, without a budget among them, and when the windows of one would begin.
    pub(crate) fn without_budget(&self, record: &Record) -> Option<(Subject, Calendar)> {
        let (level, id, bounds) = bounded(record)?;
        let calendar = self.calendar_of(self.organisation_of(record)?)?;
        bounds.budget.is_none().then(|| (Subject { level, id: Arc::from(id) }, calendar.clone()))
    }

    /// The budget that every end user of an organisation has who has no bounds of its own.
    pub(crate) fn end_user_budget(&self, organisation: &str, user: &str) -> Option<Owned> {
        let bounds = &self.organisations.get(organisation)?.end_user_bounds;
        let own = self.end_users.contains_key(&(organisation.to_owned(), user.to_owned()));
        let budget = self.owned(Level::EndUser, &format!("{organisation}/{user}"), organisation, bounds);
        budget.filter(|_| !own && !user.is_empty())
    }

    fn owned(&self, level: Level, id: &str, organisation: &str, bounds: &Bounds) -> Option<Owned> {
        let budget = bounds.budget.clone()?;
        Some((Subject { level, id: Arc::from(id) }, budget, self.calendar_of(organisation)?.clone()))
    }

    fn calendar_of(&self, organisation: &str) -> Option<&Calendar> {
        let plan = self.plans.get(&self.organisations.get(organisation)?.plan)?;
        Some(&plan.calendar)
    }
}

/// The level and the id of a record that has bounds, and these.
fn bounded(record: &Record) -> Option<(Level, String, &Bounds)> {
    match record {
        Record::Organisation(r) => Some((Level::Organisation, r.id.clone(), &r.bounds)),
        Record::Team(r) => Some((Level::Team, r.id.clone(), &r.bounds)),
        Record::Project(r) => Some((Level::Project, r.id.clone(), &r.bounds)),
        Record::Key(r) => Some((Level::Key, r.id.clone(), &r.bounds)),
        Record::EndUser(r) => Some((Level::EndUser, format!("{}/{}", r.organisation, r.user), &r.bounds)),
        Record::Member(_) | Record::Plan(_) | Record::Experiment(_) | Record::Price(_) => None,
    }
}
