//! Every budget that has an owner of its own.

use std::sync::Arc;

use super::Directory;
use super::record::{Bounds, Record};
use crate::limits::{Level, Subject};
use crate::plan::Budget;
use crate::window::Calendar;

/// Whose budget, which, and when its windows begin.
pub(crate) type Owned = (Subject, Budget, Calendar);

/// Where a budget stands in the list of all: by level, then by id (of end users: organisation and user).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place<'a>(Level, (&'a str, &'a str));

impl<'a> Place<'a> {
    /// The place of a subject's id.
    pub(crate) fn new(level: Level, id: &'a str) -> Self {
        let pair = id.split_once('/').filter(|_| level == Level::EndUser);
        Self(level, pair.unwrap_or((id, "")))
    }

    fn id(self) -> String {
        let Self(level, (first, second)) = self;
        if level == Level::EndUser { format!("{first}/{second}") } else { first.to_owned() }
    }
}

impl Directory {
    /// The budgets of all organisations, teams, projects, keys and end users that have bounds of their own.
    pub(crate) fn budgets(&self) -> Vec<Owned> {
        self.budgets_after(None, None).map(|(_, owned)| owned).collect()
    }

    /// The same in the order of their places, each with its organisation: of one organisation (`None`: of all), and those
    /// behind a place.
    pub(crate) fn budgets_after<'a>(
        &'a self,
        organisation: Option<&'a str>,
        after: Option<Place<'a>>,
    ) -> impl Iterator<Item = (&'a str, Owned)> {
        self.all_bounds().filter_map(move |(place, of, bounds)| {
            let wanted = organisation.is_none_or(|own| own == of) && after.is_none_or(|after| place > after);
            if wanted && bounds.budget.is_some() {
                Some((of, self.owned(place.0, &place.id(), of, bounds)?))
            } else {
                None
            }
        })
    }

    /// All bounds in the order of their places, each with its organisation.
    fn all_bounds(&self) -> impl Iterator<Item = (Place<'_>, &str, &Bounds)> {
        let organisations =
            self.organisations.values().map(|r| (Place::new(Level::Organisation, &r.id), r.id.as_str(), &r.bounds));
        let teams = self.teams.values().map(|r| (Place::new(Level::Team, &r.id), r.organisation.as_str(), &r.bounds));
        let projects =
            self.projects.values().map(|r| (Place::new(Level::Project, &r.id), r.organisation.as_str(), &r.bounds));
        let keys = self.keys.values().filter_map(|r| {
            let project = self.projects.get(&r.project)?;
            Some((Place::new(Level::Key, &r.id), project.organisation.as_str(), &r.bounds))
        });
        let users = self.end_users.values().map(|r| {
            let organisation = r.organisation.as_str();
            (Place(Level::EndUser, (organisation, &r.user)), organisation, &r.bounds)
        });
        organisations.chain(teams).chain(projects).chain(keys).chain(users)
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
