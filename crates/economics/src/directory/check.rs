//! Whether a record fits into the directory.

use super::Directory;
use super::key::KeyHash;
use super::record::{EndUser, Key, Kind, Member, Project, Record, Role};
use crate::Invalid;
use crate::experiment::{Experiment, MAX_VERSIONS, State};

impl Directory {
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
            Record::Experiment(r) => self.check_experiment(r),
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

    fn check_experiment(&self, experiment: &Experiment) -> Result<(), Invalid> {
        let organisation = &experiment.organisation;
        exists("organisation", organisation, self.organisations.contains_key(organisation))?;
        if let Some(project) = &experiment.project {
            exists(
                "project",
                project,
                self.projects.get(project).is_some_and(|own| own.organisation == *organisation),
            )?;
        }
        if let Some(old) = self.experiments.get(&experiment.id) {
            experiment.check_change(old)?;
            let versions = self.version(Kind::Experiment, &experiment.id);
            if experiment.state == State::Running && versions >= MAX_VERSIONS {
                let fix = "stop it and make another one";
                return Err(Invalid::new("arms", format!("the experiment has {versions} versions already"), fix));
            }
            // Its models may have left the plan since.
            return Ok(());
        }
        let plan = self.organisations.get(organisation).and_then(|own| self.plans.get(&own.plan));
        for (place, arm) in experiment.arms.iter().enumerate() {
            let Some(model) = &arm.model else { continue };
            if !plan.is_some_and(|plan| plan.offers(model, &self.prices)) {
                let problem = format!("`{model}` is not in the plan of `{organisation}`, or has no price there");
                let fix = "name one of the organisation's models, or add its price first";
                return Err(Invalid::new(format!("arms[{place}].model"), problem, fix));
            }
        }
        Ok(())
    }

    pub(super) fn role_in_project(&self, project: &str, person: &str) -> Option<Role> {
        let organisation = &self.projects.get(project)?.organisation;
        self.members.get(&(organisation.clone(), person.to_owned()))?.role
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
