//! Who calls: looked up by key, by the configuration, or by sitting at the machine.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::key::KeyHash;
use super::record::{Bounds, Organisation, Scope};
use super::{Directory, HOUSE, house_organisation};
use crate::Plan;
use crate::limits::{Level, Limits, Subject};
use crate::plan::Budget;

/// Who acts through the socket or the files of the data folder.
pub(crate) const OPERATOR: &str = "server/operator";

/// Why a caller is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// No such key.
    #[error("this API key is not known here")]
    Unknown,
    /// The key ran out.
    #[error("the API key `{0}` has expired")]
    Expired(String),
    /// The key was revoked.
    #[error("the API key `{0}` was revoked")]
    Revoked(String),
    /// The project or organisation is suspended.
    #[error("`{0}` is suspended: ask the operator of this server")]
    Suspended(String),
    /// The organisation does not serve this end user.
    #[error("the end user is blocked")]
    Blocked,
}

/// Who calls, with everything that bounds a request. Made anew for each request, so changes are effective at once.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The key's id; `None` without keys.
    pub key: Option<String>,
    /// The key's name.
    pub key_name: Option<String>,
    /// The project.
    pub project: String,
    /// The project's team.
    pub team: Option<String>,
    /// The organisation.
    pub organisation: Organisation,
    /// The person the key belongs to.
    pub owner: Option<String>,
    /// What the caller may do.
    pub scopes: BTreeSet<Scope>,
    /// The organisation's plan.
    pub plan: Arc<Plan>,
    /// Limits of all levels.
    pub limits: Vec<(Subject, Limits)>,
    /// Budgets of all levels.
    pub budgets: Vec<(Subject, Budget)>,
    /// Highest priority of its requests.
    pub max_priority: i32,
    /// When the key runs out.
    pub expires: Option<i64>,
    origin: Origin,
}

/// How a caller was known, so that it can be looked up again.
#[derive(Clone, Copy, Debug)]
enum Origin {
    House,
    Operator,
    Configured,
    Key(KeyHash),
}

impl Identity {
    /// Without a key, scopes and bounds.
    fn new(project: &str, organisation: Organisation, plan: Arc<Plan>) -> Self {
        Self {
            origin: Origin::House,
            key: None,
            key_name: None,
            project: project.to_owned(),
            team: None,
            organisation,
            owner: None,
            scopes: BTreeSet::new(),
            plan,
            limits: Vec::new(),
            budgets: Vec::new(),
            max_priority: 0,
            expires: None,
        }
    }

    fn bound(&mut self, level: Level, id: &str, bounds: &Bounds) {
        let subject = Subject { level, id: Arc::from(id) };
        if let Some(budget) = &bounds.budget {
            self.budgets.push((subject.clone(), budget.clone()));
        }
        self.limits.push((subject, bounds.limits));
    }
}

impl Directory {
    /// Who calls with a key of this hash, at `now_ms`.
    ///
    /// # Errors
    /// When the key is unknown, expired, revoked or suspended.
    pub fn identify(&self, hash: &KeyHash, now_ms: i64) -> Result<Identity, Unidentified> {
        let key = self.find_hash(hash).and_then(|id| self.keys.get(id)).ok_or(Unidentified::Unknown)?;
        if key.revoked {
            return Err(Unidentified::Revoked(key.name.clone()));
        }
        let old_text = key.hash != *hash;
        let graced = key.previous.as_ref().is_some_and(|previous| now_ms < previous.until);
        if (old_text && !graced) || key.expires.is_some_and(|expires| expires <= now_ms) {
            return Err(Unidentified::Expired(key.name.clone()));
        }
        let mut scopes = key.scopes.clone();
        let mut identity = match self.in_project(&key.project) {
            // A suspended house asks no models, and who administers the plant still can.
            Err(Unidentified::Suspended(_)) if key.project == HOUSE && scopes.contains(&Scope::Plant) => {
                scopes.remove(&Scope::Inference);
                self.operator()
            }
            found => found?,
        };
        let role = key.owner.as_ref().map(|owner| self.role_in_project(&key.project, owner));
        let allowed = |scope: &Scope| role.is_none_or(|role| role.is_some_and(|role| role.allows(*scope)));
        identity.scopes = scopes.into_iter().filter(allowed).collect();
        identity.key = Some(key.id.clone());
        identity.key_name = Some(key.name.clone());
        identity.owner.clone_from(&key.owner);
        identity.max_priority = key.max_priority;
        identity.expires = key.expires;
        identity.origin = Origin::Key(*hash);
        identity.bound(Level::Key, &key.id, &key.bounds);
        Ok(identity)
    }

    /// The house's own identity, for callers on this machine without keys and for the configuration's admin keys.
    ///
    /// # Errors
    /// When the house is suspended or was never set up.
    pub fn house(&self) -> Result<Identity, Unidentified> {
        let mut identity = self.in_project(HOUSE)?;
        identity.scopes = [Scope::Inference, Scope::Usage].into();
        Ok(identity)
    }

    /// The operator at the machine itself: may do everything, also before the house is set up or while it is suspended.
    #[must_use]
    pub fn operator(&self) -> Identity {
        let plan = self.plans.get(HOUSE).cloned().unwrap_or_else(|| Arc::new(Plan::plain(HOUSE)));
        let organisation = self.organisations.get(HOUSE).cloned().unwrap_or_else(house_organisation);
        Identity {
            key: Some(OPERATOR.to_owned()),
            key_name: Some(OPERATOR.to_owned()),
            scopes: Scope::ALL.into(),
            origin: Origin::Operator,
            ..Identity::new(HOUSE, organisation, plan)
        }
    }

    /// A key of the configuration: an admin of the plant. It asks models for the house, and while that is suspended or
    /// not set up it administers all the same.
    #[must_use]
    pub fn configured(&self, name: &str, max_priority: i32) -> Identity {
        let (house, scopes) = match self.house() {
            Ok(house) => (house, Scope::ALL.into()),
            Err(_) => (self.operator(), Scope::ALL.into_iter().filter(|scope| *scope != Scope::Inference).collect()),
        };
        let key = Some(format!("config/{name}"));
        Identity { key, key_name: Some(name.to_owned()), scopes, max_priority, origin: Origin::Configured, ..house }
    }

    /// The same caller as the directory says now, with the bounds of the end user `user` (empty: none). It may never do
    /// more than `known` may.
    ///
    /// # Errors
    /// As [`Directory::identify`] and [`Directory::for_end_user`].
    pub fn identify_again(&self, known: &Identity, user: &str, now_ms: i64) -> Result<Identity, Unidentified> {
        let mut identity = match &known.origin {
            Origin::House => self.house()?,
            Origin::Operator => self.operator(),
            Origin::Configured => self.configured(known.key_name.as_deref().unwrap_or_default(), known.max_priority),
            Origin::Key(hash) => self.identify(hash, now_ms)?,
        };
        identity.scopes.retain(|scope| known.scopes.contains(scope));
        if !user.is_empty() {
            self.for_end_user(&mut identity, user)?;
        }
        Ok(identity)
    }

    fn in_project(&self, id: &str) -> Result<Identity, Unidentified> {
        let project = self.projects.get(id).ok_or(Unidentified::Unknown)?;
        let organisation = self.organisations.get(&project.organisation).ok_or(Unidentified::Unknown)?;
        let plan = self.plans.get(&organisation.plan).ok_or(Unidentified::Unknown)?;
        if organisation.suspended || project.suspended {
            let which = if organisation.suspended { &organisation.name } else { &project.name };
            return Err(Unidentified::Suspended(which.clone()));
        }
        let mut identity = Identity::new(&project.id, organisation.clone(), Arc::clone(plan));
        identity.team.clone_from(&project.team);
        identity.bound(Level::Organisation, &organisation.id, &organisation.bounds);
        if let Some(team) = project.team.as_ref().and_then(|team| self.teams.get(team)) {
            identity.bound(Level::Team, &team.id, &team.bounds);
        }
        identity.bound(Level::Project, &project.id, &project.bounds);
        // The plan's limits are the organisation's too; under a name of their own both hold.
        let subject = Subject { level: Level::Organisation, id: Arc::from(format!("{}/plan", organisation.id)) };
        identity.limits.push((subject, plan.limits));
        Ok(identity)
    }

    /// Adds the bounds of the end user a request names.
    ///
    /// # Errors
    /// When the end user is blocked.
    pub fn for_end_user(&self, identity: &mut Identity, user: &str) -> Result<(), Unidentified> {
        let organisation = identity.organisation.id.clone();
        let known = self.end_users.get(&(organisation.clone(), user.to_owned()));
        if known.is_some_and(|known| known.blocked) {
            return Err(Unidentified::Blocked);
        }
        let bounds = known.map_or_else(|| identity.organisation.end_user_bounds.clone(), |known| known.bounds.clone());
        identity.bound(Level::EndUser, &format!("{organisation}/{user}"), &bounds);
        Ok(())
    }
}
