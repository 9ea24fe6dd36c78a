//! Who may use the plant: organisations, teams, projects, keys, end users and members, with plans and prices.
//!
//! The directory is a fold over the ledger's documents, rebuilt at start. A change is checked, written to the ledger,
//! then applied; what it was before, who changed it and when stays readable there.

pub mod authority;
pub(crate) mod budgets;
pub mod key;
mod parse;
pub mod record;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::limits::{Level, Limits, Subject};
use crate::plan::Budget;
use crate::price::PriceSpec;
use crate::{Invalid, Plan, PriceBook, Rate};
use key::KeyHash;
use record::{Bounds, EndUser, Key, Kind, Member, Organisation, Project, Record, Scope, Team};

/// Id of the organisation, project, plan and price list of this machine's own use, at explicit zero prices.
pub const HOUSE: &str = "house";

/// Who acts through the socket or the files of the data folder.
const OPERATOR: &str = "server/operator";

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

/// All records, folded.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    plans: BTreeMap<String, Arc<Plan>>,
    prices: PriceBook,
    organisations: BTreeMap<String, Organisation>,
    teams: BTreeMap<String, Team>,
    projects: BTreeMap<String, Project>,
    keys: BTreeMap<String, Key>,
    end_users: BTreeMap<(String, String), EndUser>,
    members: BTreeMap<(String, String), Member>,
    by_hash: HashMap<u64, Vec<(KeyHash, String)>>,
}

impl Directory {
    /// All prices.
    #[must_use]
    pub fn prices(&self) -> &PriceBook {
        &self.prices
    }

    /// All plans.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.plans.values().map(AsRef::as_ref)
    }

    /// All organisations.
    pub fn organisations(&self) -> impl Iterator<Item = &Organisation> {
        self.organisations.values()
    }

    /// The teams of an organisation.
    pub fn teams<'a>(&'a self, organisation: &'a str) -> impl Iterator<Item = &'a Team> {
        self.teams.values().filter(move |team| team.organisation == organisation)
    }

    /// The projects of an organisation.
    pub fn projects<'a>(&'a self, organisation: &'a str) -> impl Iterator<Item = &'a Project> {
        self.projects.values().filter(move |project| project.organisation == organisation)
    }

    /// The keys of a project.
    pub fn keys<'a>(&'a self, project: &'a str) -> impl Iterator<Item = &'a Key> {
        self.keys.values().filter(move |key| key.project == project)
    }

    /// The members of an organisation.
    pub fn members<'a>(&'a self, organisation: &'a str) -> impl Iterator<Item = &'a Member> {
        self.members.values().filter(move |member| member.organisation == organisation)
    }

    /// All records of a kind as they are now; of prices every version.
    #[must_use]
    pub fn records(&self, kind: Kind) -> Vec<Record> {
        match kind {
            Kind::Organisation => self.organisations.values().cloned().map(Record::Organisation).collect(),
            Kind::Team => self.teams.values().cloned().map(Record::Team).collect(),
            Kind::Project => self.projects.values().cloned().map(Record::Project).collect(),
            Kind::Key => self.keys.values().cloned().map(Record::Key).collect(),
            Kind::EndUser => self.end_users.values().cloned().map(Record::EndUser).collect(),
            Kind::Member => self.members.values().cloned().map(Record::Member).collect(),
            Kind::Plan => self.plans.values().map(|plan| Record::Plan(Plan::clone(plan))).collect(),
            Kind::Price => self.prices.all().map(|(_, spec)| Record::Price(spec.clone())).collect(),
        }
    }

    /// The record with that key (see [`Record::key`]); of a price the latest version.
    #[must_use]
    pub fn record(&self, kind: Kind, key: &str) -> Option<Record> {
        // No id of an organisation and no name of a price list holds a `/`.
        let pair = || key.split_once('/').map(|(first, second)| (first.to_owned(), second.to_owned()));
        match kind {
            Kind::Organisation => self.organisations.get(key).cloned().map(Record::Organisation),
            Kind::Team => self.teams.get(key).cloned().map(Record::Team),
            Kind::Project => self.projects.get(key).cloned().map(Record::Project),
            Kind::Key => self.keys.get(key).cloned().map(Record::Key),
            Kind::EndUser => self.end_users.get(&pair()?).cloned().map(Record::EndUser),
            Kind::Member => self.members.get(&pair()?).cloned().map(Record::Member),
            Kind::Plan => self.plans.get(key).map(|plan| Record::Plan(Plan::clone(plan))),
            Kind::Price => {
                let (list, model) = pair()?;
                self.prices.versions(&list, &model).last().cloned().map(Record::Price)
            }
        }
    }

    /// The organisation that a record belongs to; `None`: the plant itself, or what it refers to is not there.
    #[must_use]
    pub fn organisation_of<'a>(&'a self, record: &'a Record) -> Option<&'a str> {
        match record {
            Record::Organisation(r) => Some(&r.id),
            Record::Team(Team { organisation, .. })
            | Record::Project(Project { organisation, .. })
            | Record::EndUser(EndUser { organisation, .. })
            | Record::Member(Member { organisation, .. }) => Some(organisation),
            Record::Key(key) => self.projects.get(&key.project).map(|project| project.organisation.as_str()),
            Record::Plan(_) | Record::Price(_) => None,
        }
    }

    /// How many records of a kind an organisation has.
    pub(crate) fn count_of(&self, organisation: &str, kind: Kind) -> usize {
        match kind {
            Kind::Team => self.teams(organisation).count(),
            Kind::Project => self.projects(organisation).count(),
            Kind::Key => {
                let own = |key: &&Key| self.projects.get(&key.project).is_some_and(|p| p.organisation == organisation);
                self.keys.values().filter(own).count()
            }
            Kind::EndUser => self.end_users.keys().filter(|(own, _)| own == organisation).count(),
            Kind::Member => self.members(organisation).count(),
            Kind::Organisation | Kind::Plan | Kind::Price => 0,
        }
    }

    /// Whether some key may administer the plant at `now_ms`, apart from those of the configuration.
    #[must_use]
    pub fn has_plant_key(&self, now_ms: i64) -> bool {
        self.keys.values().any(|key| {
            let alive = !key.revoked && key.expires.is_none_or(|expires| expires > now_ms);
            // No role allows this scope, so a key with an owner never has it.
            alive && key.owner.is_none() && key.scopes.contains(&Scope::Plant)
        })
    }

    /// One organisation.
    #[must_use]
    pub fn organisation(&self, id: &str) -> Option<&Organisation> {
        self.organisations.get(id)
    }

    /// One project.
    #[must_use]
    pub fn project(&self, id: &str) -> Option<&Project> {
        self.projects.get(id)
    }

    /// One key.
    #[must_use]
    pub fn key(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }

    /// Whether `record` could be applied: right by itself, and everything it refers to is there.
    ///
    /// # Errors
    /// Names the field, as it is called within the record, and the fix.
    pub fn check(&self, record: &Record) -> Result<(), Invalid> {
        record.check()?;
        match record {
            Record::Organisation(r) => exists("plan", &r.plan, self.plans.contains_key(&r.plan)),
            Record::Team(r) => {
                exists("organisation", &r.organisation, self.organisations.contains_key(&r.organisation))?;
                stays("organisation", self.teams.get(&r.id).map(|old| &old.organisation), &r.organisation)
            }
            Record::Project(r) => self.check_project(r),
            Record::Key(r) => self.check_key(r),
            Record::EndUser(EndUser { organisation, .. }) | Record::Member(Member { organisation, .. }) => {
                exists("organisation", organisation, self.organisations.contains_key(organisation))
            }
            Record::Plan(r) => r.check(&self.prices),
            Record::Price(r) => self.prices.check(r),
        }
    }

    fn check_project(&self, project: &Project) -> Result<(), Invalid> {
        exists("organisation", &project.organisation, self.organisations.contains_key(&project.organisation))?;
        if let Some(team) = &project.team {
            let of_same = self.teams.get(team).is_some_and(|team| team.organisation == project.organisation);
            exists("team", team, of_same)?;
        }
        stays("organisation", self.projects.get(&project.id).map(|old| &old.organisation), &project.organisation)
    }

    fn check_key(&self, key: &Key) -> Result<(), Invalid> {
        exists("project", &key.project, self.projects.contains_key(&key.project))?;
        if let Some(old) = self.keys.get(&key.id) {
            stays("project", Some(&old.project), &key.project)?;
            // Who rotates a key read it before: of two at one time, the second knows an old text.
            if key.hash != old.hash && key.previous.as_ref().map(|previous| previous.hash) != Some(old.hash) {
                return Err(Invalid::new("hash", "the key was rotated meanwhile", "look at it again, then rotate it"));
            }
            if old.revoked && (!key.revoked || key.hash != old.hash) {
                return Err(Invalid::new("revoked", "a revoked key stays revoked", "create a new key"));
            }
        }
        let taken = |hash: &KeyHash| self.find_hash(hash).is_some_and(|id| *id != key.id);
        if taken(&key.hash) || key.previous.as_ref().is_some_and(|previous| taken(&previous.hash)) {
            return Err(Invalid::new("hash", "another key has it", "create the key with fresh random bytes"));
        }
        if let Some(owner) = &key.owner {
            let role = self.role_in_project(&key.project, owner);
            exists("owner", owner, role.is_some())?;
            if let Some(scope) = key.scopes.iter().find(|scope| !role.is_some_and(|role| role.allows(**scope))) {
                let problem = format!("`{}` is more than the role of `{owner}` allows", scope.as_str());
                return Err(Invalid::new("scopes", problem, "change the role or leave out the scope"));
            }
        }
        Ok(())
    }

    fn role_in_project(&self, project: &str, person: &str) -> Option<record::Role> {
        let organisation = &self.projects.get(project)?.organisation;
        self.members.get(&(organisation.clone(), person.to_owned()))?.role
    }

    /// Takes a record in.
    ///
    /// # Errors
    /// As [`Directory::check`]; nothing is changed then.
    pub fn apply(&mut self, record: Record) -> Result<(), Invalid> {
        let place = || format!("{} {}", record.kind().word(), record.key());
        self.check(&record).map_err(|error| error.within(&place()))?;
        self.insert(record)
    }

    /// Takes in a record that was checked when it was written: what it refers to may come later.
    ///
    /// # Errors
    /// When a price contradicts the ones before.
    pub(crate) fn insert(&mut self, record: Record) -> Result<(), Invalid> {
        match record {
            Record::Organisation(r) => drop(self.organisations.insert(r.id.clone(), r)),
            Record::Team(r) => drop(self.teams.insert(r.id.clone(), r)),
            Record::Project(r) => drop(self.projects.insert(r.id.clone(), r)),
            Record::Key(r) => self.put_key(r),
            Record::EndUser(r) => drop(self.end_users.insert((r.organisation.clone(), r.user.clone()), r)),
            Record::Member(r) => drop(self.members.insert((r.organisation.clone(), r.person.clone()), r)),
            Record::Plan(r) => drop(self.plans.insert(r.id.clone(), Arc::new(r))),
            Record::Price(r) => {
                self.prices.add(r)?;
            }
        }
        Ok(())
    }

    fn put_key(&mut self, key: Key) {
        if let Some(old) = self.keys.get(&key.id) {
            for hash in old.hashes() {
                if let Some(hashes) = self.by_hash.get_mut(&hash.bucket()) {
                    hashes.retain(|(_, id)| *id != key.id);
                }
            }
        }
        for hash in key.hashes() {
            self.by_hash.entry(hash.bucket()).or_default().push((hash, key.id.clone()));
        }
        self.keys.insert(key.id.clone(), key);
    }

    fn find_hash(&self, hash: &KeyHash) -> Option<&String> {
        self.by_hash.get(&hash.bucket())?.iter().find(|(known, _)| known == hash).map(|(_, id)| id)
    }

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

    /// What is missing so that this machine can use `models` without keys: the house with an explicit zero price each.
    #[must_use]
    pub fn missing_house_records(&self, models: &[String]) -> Vec<Record> {
        let priced = |model: &str| self.prices.all().any(|(_, spec)| spec.list == HOUSE && spec.model == model);
        let free = |model: &String| Record::Price(PriceSpec::flat(HOUSE, model, Rate::ZERO, Rate::ZERO));
        let mut missing: Vec<Record> = models.iter().filter(|model| !priced(model)).map(free).collect();
        if !self.plans.contains_key(HOUSE) && !models.is_empty() {
            missing.push(Record::Plan(Plan { price_list: HOUSE.to_owned(), ..Plan::plain(HOUSE) }));
        }
        if !self.organisations.contains_key(HOUSE) && !models.is_empty() {
            missing.push(Record::Organisation(house_organisation()));
        }
        if !self.projects.contains_key(HOUSE) && !models.is_empty() {
            missing.push(Record::Project(Project {
                id: HOUSE.to_owned(),
                organisation: HOUSE.to_owned(),
                team: None,
                name: "House".to_owned(),
                bounds: Bounds::default(),
                suspended: false,
            }));
        }
        missing
    }
}

fn house_organisation() -> Organisation {
    Organisation {
        id: HOUSE.to_owned(),
        name: "House".to_owned(),
        plan: HOUSE.to_owned(),
        credit: None,
        bounds: Bounds::default(),
        end_user_bounds: Bounds::default(),
        suspended: false,
    }
}

fn exists(field: &str, id: &str, found: bool) -> Result<(), Invalid> {
    if found { Ok(()) } else { Err(Invalid::new(field, format!("there is no `{id}`"), "create it first")) }
}

fn stays(field: &str, old: Option<&String>, new: &str) -> Result<(), Invalid> {
    match old {
        Some(old) if old != new => {
            Err(Invalid::new(field, format!("it belongs to `{old}`"), "create a new one there; accounts do not move"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
