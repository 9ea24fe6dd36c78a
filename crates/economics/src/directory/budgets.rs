//! Every budget that has an owner of its own.

use std::sync::Arc;

use super::Directory;
use super::record::Bounds;
use crate::limits::{Level, Subject};
use crate::plan::Budget;
use crate::window::Calendar;

/// Whose budget, which, and when its windows begin.
pub(crate) type Owned = (Subject, Budget, Calendar);

impl Directory {
    /// The budgets of all organisations, teams, projects, keys and end users that have bounds of their own.
    pub(crate) fn budgets(&self) -> Vec<Owned> {
        let organisation = |project: &str| self.projects.get(project).map(|project| project.organisation.as_str());
        let organisations =
            self.organisations.values().map(|r| (Level::Organisation, r.id.clone(), Some(r.id.as_str()), &r.bounds));
        let teams = self.teams.values().map(|r| (Level::Team, r.id.clone(), Some(r.organisation.as_str()), &r.bounds));
        let projects =
            self.projects.values().map(|r| (Level::Project, r.id.clone(), Some(r.organisation.as_str()), &r.bounds));
        let keys = self.keys.values().map(|r| (Level::Key, r.id.clone(), organisation(&r.project), &r.bounds));
        let end_users = self.end_users.values().map(|r| {
            (Level::EndUser, format!("{}/{}", r.organisation, r.user), Some(r.organisation.as_str()), &r.bounds)
        });
        let all = organisations.chain(teams).chain(projects).chain(keys).chain(end_users);
        all.filter_map(|(level, id, organisation, bounds)| self.owned(level, &id, organisation?, bounds)).collect()
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
        let plan = self.plans.get(&self.organisations.get(organisation)?.plan)?;
        Some((Subject { level, id: Arc::from(id) }, budget, plan.calendar.clone()))
    }
}
