//! How far an act of administration reaches: the whole plant, or one organisation's own affairs.

use super::record::{Key, Kind, Record, Scope};
use super::{Directory, Identity};
use crate::Invalid;

/// Most records of one kind that an organisation makes for itself: all of them are kept in memory.
pub const MAX_OWN_RECORDS: usize = 10_000;

/// What a caller may administer.
#[derive(Clone, Copy, Debug)]
pub enum Authority<'a> {
    /// Everything.
    Plant,
    /// The teams, projects, keys, end users and members of the caller's organisation.
    Organisation(&'a Identity),
}

/// Why a change is not made. Neither tells anything about other organisations than that an id cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It is more than the caller may do.
    #[error(transparent)]
    Forbidden(Invalid),
    /// It refers to what the caller's organisation does not have.
    #[error(transparent)]
    NotThere(Invalid),
}

impl<'a> Authority<'a> {
    /// By the caller's scopes; `None`: it may administer nothing.
    #[must_use]
    pub fn of(identity: &'a Identity) -> Option<Self> {
        if identity.scopes.contains(&Scope::Plant) {
            return Some(Self::Plant);
        }
        identity.scopes.contains(&Scope::Manage).then_some(Self::Organisation(identity))
    }

    /// The only organisation it reaches; `None`: all.
    #[must_use]
    pub fn organisation(self) -> Option<&'a str> {
        match self {
            Self::Plant => None,
            Self::Organisation(identity) => Some(&identity.organisation.id),
        }
    }

    /// Whether the caller may see a record.
    #[must_use]
    pub fn sees(self, directory: &Directory, record: &Record) -> bool {
        self.organisation().is_none_or(|own| directory.organisation_of(record) == Some(own))
    }

    /// Whether the caller may put `record`, a new one or in place of the one with its key.
    ///
    /// # Errors
    /// Names the field that reaches too far, and the fix.
    pub fn check(self, directory: &Directory, record: &Record) -> Result<(), Denied> {
        let Self::Organisation(identity) = self else { return Ok(()) };
        let own = identity.organisation.id.as_str();
        match record {
            Record::Organisation(_) | Record::Plan(_) | Record::Price(_) => {
                let problem = format!("a key of `{own}` may not change {}s", record.kind().word());
                return Err(Denied::Forbidden(Invalid::new("", problem, "use a key with the scope `plant`")));
            }
            Record::Team(_) | Record::Project(_) | Record::EndUser(_) | Record::Member(_) | Record::Experiment(_) => {
                let theirs = directory.organisation_of(record).unwrap_or_default();
                if theirs != own {
                    let problem = format!("this key changes `{own}` only, not `{theirs}`");
                    return Err(Denied::Forbidden(Invalid::new("organisation", problem, format!("write `{own}`"))));
                }
            }
            Record::Key(key) if directory.organisation_of(record) != Some(own) => {
                let problem = format!("`{own}` has no project `{}`", key.project);
                return Err(Denied::NotThere(Invalid::new("project", problem, "create it first")));
            }
            Record::Key(_) => {}
        }
        let old = directory.record(record.kind(), &record.key());
        match &old {
            Some(old) if directory.organisation_of(old) != Some(own) => {
                // Ids are unique in the plant, so it cannot be given. That it is there, whose and what it is, is not said.
                let problem = format!("`{}` cannot be used", record.key());
                return Err(Denied::NotThere(Invalid::new("id", problem, "choose another id")));
            }
            Some(_) => {}
            None => check_room(directory, own, record.kind())?,
        }
        match (record, &old) {
            (Record::Key(new), Some(Record::Key(old))) => check_grant(identity, Some(old), new),
            (Record::Key(new), _) => check_grant(identity, None, new),
            _ => Ok(()),
        }
    }
}

/// Nobody gives a key more than the own one has. What a key has already stays, but whoever puts a key may also learn its
/// new text: those above the caller's are left alone.
fn check_grant(identity: &Identity, old: Option<&Key>, new: &Key) -> Result<(), Denied> {
    let forbidden = |field: &str, problem: String, fix: &str| Err(Denied::Forbidden(Invalid::new(field, problem, fix)));
    let has = |scope: &Scope| old.is_some_and(|old| old.scopes.contains(scope));
    if has(&Scope::Plant) {
        return forbidden("id", "the key administers the plant".to_owned(), "use a key with the scope `plant`");
    }
    let new_text = old.is_none_or(|old| old.hash != new.hash);
    let more = |scope: &&Scope| (new_text || !has(scope)) && !identity.scopes.contains(scope);
    if let Some(scope) = new.scopes.iter().find(more) {
        let problem = format!("`{}` is more than this key may do itself", scope.as_str());
        return forbidden("scopes", problem, "leave it out, or use a key that has it");
    }
    let priority =
        old.filter(|_| !new_text).map_or(identity.max_priority, |old| old.max_priority.max(identity.max_priority));
    if new.max_priority > priority {
        let problem = format!("{} is above this key's own {}", new.max_priority, identity.max_priority);
        return forbidden("max_priority", problem, "use at most that");
    }
    let kept = old.is_some_and(|old| !new_text && old.owner == new.owner);
    if identity.owner.is_some() && new.owner != identity.owner && !kept {
        let problem = "a person's key makes keys of that person only, which end with the role".to_owned();
        return forbidden("owner", problem, "write the owner of this key");
    }
    let later = |than: i64| new.expires.is_none_or(|expires| expires > than);
    let unchanged = old.is_some_and(|old| !new_text && old.expires == new.expires);
    if identity.expires.is_some_and(later) && !unchanged {
        return forbidden(
            "expires",
            "the key would outlive this one".to_owned(),
            "give it a time before this key's own",
        );
    }
    Ok(())
}

fn check_room(directory: &Directory, organisation: &str, kind: Kind) -> Result<(), Denied> {
    if directory.count_of(organisation, kind) < MAX_OWN_RECORDS {
        return Ok(());
    }
    let problem = format!("`{organisation}` has {MAX_OWN_RECORDS} {}s already", kind.word());
    Err(Denied::Forbidden(Invalid::new("", problem, "change those that are there, or ask the plant's operator")))
}
