//! Who may use the plant: organisations, teams, projects, keys, end users and members, with plans and prices.
//!
//! The directory is a fold over the ledger's documents, rebuilt at start. A change is checked, written to the ledger,
//! then applied; what it was before, who changed it and when stays readable there.

pub mod authority;
pub(crate) mod budgets;
mod check;
mod identity;
pub mod key;
pub mod parse;
pub mod record;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::experiment::Experiment;
use crate::price::PriceSpec;
use crate::{Invalid, Plan, PriceBook, Rate};
pub(crate) use identity::OPERATOR;
pub use identity::{Identity, Unidentified};
use key::KeyHash;
use record::{Bounds, EndUser, Key, Kind, Member, Organisation, Project, Record, Scope, Team};

/// Id of the organisation, project, plan and price list of this machine's own use, at explicit zero prices.
pub const HOUSE: &str = "house";

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
    experiments: BTreeMap<String, Arc<Experiment>>,
    by_hash: HashMap<u64, Vec<(KeyHash, String)>>,
    /// Of the documents that the records were read from, by kind and key.
    versions: HashMap<(u16, String), u64>,
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

    /// The team of each project that has one.
    #[must_use]
    pub fn teams_of_projects(&self) -> HashMap<String, String> {
        self.projects.values().filter_map(|project| Some((project.id.clone(), project.team.clone()?))).collect()
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

    /// All experiments.
    pub fn experiments(&self) -> impl Iterator<Item = &Arc<Experiment>> {
        self.experiments.values()
    }

    /// One experiment.
    #[must_use]
    pub fn experiment(&self, id: &str) -> Option<&Arc<Experiment>> {
        self.experiments.get(id)
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
            Kind::Experiment => self.experiments.values().map(|r| Record::Experiment(Experiment::clone(r))).collect(),
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
            Kind::Experiment => self.experiments.get(key).map(|r| Record::Experiment(Experiment::clone(r))),
        }
    }

    /// The version of the record with that key; of a price: how many there are. 0: there is none.
    #[must_use]
    pub fn version(&self, kind: Kind, key: &str) -> u64 {
        self.versions.get(&(kind.code(), key.to_owned())).copied().unwrap_or(0)
    }

    /// The organisation that a record belongs to; `None`: the plant itself, or what it refers to is not there.
    #[must_use]
    pub fn organisation_of<'a>(&'a self, record: &'a Record) -> Option<&'a str> {
        match record {
            Record::Organisation(r) => Some(&r.id),
            Record::Team(Team { organisation, .. })
            | Record::Project(Project { organisation, .. })
            | Record::EndUser(EndUser { organisation, .. })
            | Record::Member(Member { organisation, .. })
            | Record::Experiment(Experiment { organisation, .. }) => Some(organisation),
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
            Kind::Experiment => self.experiments().filter(|own| own.organisation == organisation).count(),
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
            Record::Experiment(r) => drop(self.experiments.insert(r.id.clone(), Arc::new(r))),
        }
        Ok(())
    }

    /// As [`Directory::insert`]; it is this version of its document.
    pub(crate) fn insert_version(&mut self, record: Record, version: u64) -> Result<(), Invalid> {
        let place = (record.kind().code(), record.key());
        self.insert(record)?;
        self.versions.insert(place, version);
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
                store_content: None,
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

#[cfg(test)]
mod tests;
