//! What the directory keeps: each change is one document of the ledger.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::key::KeyHash;
use super::{Directory, parse};
use crate::experiment::Experiment;
use crate::limits::Limits;
use crate::plan::Budget;
use crate::price::PriceSpec;
use crate::{Invalid, Nano, Plan, window};

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Ask models.
    Inference,
    /// Read usage and invoices of its organisation.
    Usage,
    /// Change teams, projects, keys and members of its organisation.
    Manage,
    /// Everything, for every organisation.
    Plant,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Inference, Self::Usage, Self::Manage, Self::Plant];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Usage => "usage",
            Self::Manage => "manage",
            Self::Plant => "plant",
        }
    }
}

/// What a person may do in an organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything within the organisation.
    Admin,
    /// Ask models and read usage.
    Member,
    /// Read usage.
    Viewer,
}

impl Role {
    /// Most that keys of a person in this role may do.
    #[must_use]
    pub fn allows(self, scope: Scope) -> bool {
        match self {
            Self::Admin => scope != Scope::Plant,
            Self::Member => matches!(scope, Scope::Inference | Scope::Usage),
            Self::Viewer => scope == Scope::Usage,
        }
    }
}

/// Bounds of one party.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Per minute and at one time.
    #[schema(required = true)]
    pub limits: Limits,
    /// Money per window.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub budget: Option<Budget>,
}

impl Bounds {
    fn check(&self) -> Result<(), Invalid> {
        self.limits.check().map_err(|error| error.within("limits"))?;
        self.budget.as_ref().map_or(Ok(()), Budget::check).map_err(|error| error.within("budget"))
    }

    /// The same, as seen from the record that they are a field of.
    fn check_inside(&self) -> Result<(), Invalid> {
        self.check().map_err(|error| error.within("bounds"))
    }
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// Its id.
    pub id: String,
    /// Its name on invoices.
    pub name: String,
    /// Its plan.
    pub plan: String,
    /// How far its money account may go below 0: "0" = prepaid; none = no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub credit: Option<Nano>,
    /// Bounds of all of it.
    #[serde(default)]
    #[schema(required = true)]
    pub bounds: Bounds,
    /// Bounds of each end user without its own.
    #[serde(default)]
    #[schema(required = true)]
    pub end_user_bounds: Bounds,
    /// Its keys are refused.
    #[serde(default)]
    #[schema(required = true)]
    pub suspended: bool,
}

/// A team of an organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Team {
    /// Its id.
    pub id: String,
    /// Its organisation.
    pub organisation: String,
    /// Its name.
    pub name: String,
    /// Its bounds.
    #[serde(default)]
    #[schema(required = true)]
    pub bounds: Bounds,
}

/// A project: what keys belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Its id.
    pub id: String,
    /// Its organisation.
    pub organisation: String,
    /// Its team, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub team: Option<String>,
    /// Its name.
    pub name: String,
    /// Its bounds.
    #[serde(default)]
    #[schema(required = true)]
    pub bounds: Bounds,
    /// Its keys are refused.
    #[serde(default)]
    #[schema(required = true)]
    pub suspended: bool,
    /// Whether prompts and answers of its requests are kept, for those who administer it; none = they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub store_content: Option<StoreContent>,
}

/// For how long prompts and answers are kept. It is for as long as the traces of their requests are kept, if that is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreContent {
    /// From the end of a request, 1 to [`MAX_CONTENT_DAYS`].
    pub days: u32,
}

impl StoreContent {
    fn check(&self) -> Result<(), Invalid> {
        if (1..=MAX_CONTENT_DAYS).contains(&self.days) {
            return Ok(());
        }
        let fix = format!("write 1 to {MAX_CONTENT_DAYS}, or leave `store_content` out to keep nothing");
        Err(Invalid::new("store_content.days", format!("{} is no such number of days", self.days), fix))
    }
}

/// The hash a key had before it was rotated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PreviousKey)]
pub struct Previous {
    /// The old hash.
    #[schema(ignore)]
    pub hash: KeyHash,
    /// It is valid until here (exclusive).
    #[serde(with = "window::rfc3339")]
    #[schema(value_type = String)]
    pub until: i64,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// Its project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// The readable beginning of its text.
    pub prefix: String,
    /// The hash of its text.
    #[schema(ignore)]
    pub hash: KeyHash,
    /// The hash before the last rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub previous: Option<Previous>,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// The person it belongs to; it never may do more than that person's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub owner: Option<String>,
    /// Refused from here.
    #[serde(default, with = "window::rfc3339_option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub expires: Option<i64>,
    /// Refused, at once and for good.
    #[serde(default)]
    #[schema(required = true)]
    pub revoked: bool,
    /// Its bounds.
    #[serde(default)]
    #[schema(required = true)]
    pub bounds: Bounds,
    /// Highest priority of its requests.
    #[serde(default)]
    #[schema(required = true)]
    pub max_priority: i32,
}

impl Key {
    /// The key with a new text; the old one stays valid until `grace_until_ms`.
    #[must_use]
    pub fn rotated(&self, prefix: String, hash: KeyHash, grace_until_ms: i64) -> Self {
        let previous = Some(Previous { hash: self.hash, until: grace_until_ms });
        Self { prefix, hash, previous, ..self.clone() }
    }

    /// Of its text, and of the one before.
    pub(super) fn hashes(&self) -> impl Iterator<Item = KeyHash> + use<> {
        [self.hash].into_iter().chain(self.previous.as_ref().map(|previous| previous.hash))
    }
}

/// An end user with bounds of its own, known by the `user` field of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndUser {
    /// The organisation whose requests name it.
    pub organisation: String,
    /// The text in the `user` field.
    pub user: String,
    /// Its bounds.
    #[serde(default)]
    #[schema(required = true)]
    pub bounds: Bounds,
    /// Its requests are refused.
    #[serde(default)]
    #[schema(required = true)]
    pub blocked: bool,
}

/// A person's role in an organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The organisation.
    pub organisation: String,
    /// The person's id, e.g. an e-mail address.
    pub person: String,
    /// What it may do; none = no longer a member.
    #[schema(required = true)]
    pub role: Option<Role>,
}

/// One document of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A customer.
    Organisation(Organisation),
    /// A team.
    Team(Team),
    /// A project.
    Project(Project),
    /// A key.
    Key(Key),
    /// An end user.
    EndUser(EndUser),
    /// A person's role.
    Member(Member),
    /// A plan.
    Plan(Plan),
    /// One version of a price.
    Price(PriceSpec),
    /// An experiment.
    Experiment(Experiment),
}

macro_rules! record_kinds {
    ($($kind:literal $variant:ident $word:literal |$record:ident| $key:expr;)*) => {
        /// The kinds of records.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = concat!("Of [`Record::", stringify!($variant), "`].")] $variant,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The number of its documents in the ledger.
            #[must_use]
            pub fn code(self) -> u16 {
                match self { $(Self::$variant => $kind),* }
            }

            /// The kind of documents with this number.
            #[must_use]
            pub fn from_code(code: u16) -> Option<Self> {
                match code { $($kind => Some(Self::$variant),)* _ => None }
            }

            /// The word for it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl Record {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant),* }
            }

            /// The key of its document, unique within the kind.
            #[must_use]
            pub fn key(&self) -> String {
                match self { $(Self::$variant($record) => $key),* }
            }

            /// The body of its document: JSON.
            #[must_use]
            pub fn body(&self) -> Vec<u8> {
                // Plain data with text keys always has a JSON form.
                match self { $(Self::$variant(record) => serde_json::to_vec(record).unwrap_or_default()),* }
            }

            /// Reads a document.
            ///
            /// # Errors
            /// When the kind is unknown or the body is not of that kind.
            pub fn read(kind: u16, key: &str, body: &[u8]) -> Result<Self, Invalid> {
                let unknown =
                    || Invalid::new(format!("document {key}"), format!("kind {kind} is unknown"), "use a newer program");
                let kind = Kind::from_code(kind).ok_or_else(unknown)?;
                let damaged = |error: serde_json::Error| {
                    Invalid::new(format!("{} {key}", kind.word()), error.to_string(), "use the program that wrote it")
                };
                let value = serde_json::from_slice(body).map_err(damaged)?;
                Self::parse(kind, value).map_err(|error| error.within(&format!("{} {key}", kind.word())))
            }

            /// Reads what a person or a program wrote.
            ///
            /// # Errors
            /// Names the field by its path, what was seen and the fix.
            pub fn parse(kind: Kind, value: Value) -> Result<Self, Invalid> {
                match kind { $(Kind::$variant => parse::value(value).map(Self::$variant)),* }
            }
        }
    };
}
record_kinds! {
    1 Organisation "organisation" |r| r.id.clone();
    2 Team "team" |r| r.id.clone();
    3 Project "project" |r| r.id.clone();
    4 Key "key" |r| r.id.clone();
    5 EndUser "end user" |r| format!("{}/{}", r.organisation, r.user);
    6 Member "member" |r| format!("{}/{}", r.organisation, r.person);
    7 Plan "plan" |r| r.id.clone();
    8 Price "price" |r| r.key();
    9 Experiment "experiment" |r| r.id.clone();
}

impl Record {
    /// The JSON of a document as it may be shown: without hashes of keys. `None` when the body is no JSON.
    #[must_use]
    pub fn shown(kind: Kind, body: &[u8]) -> Option<Value> {
        let mut value: Value = serde_json::from_slice(body).ok()?;
        if let (Kind::Key, Some(fields)) = (kind, value.as_object_mut()) {
            fields.remove("hash");
            if let Some(previous) = fields.get_mut("previous").and_then(Value::as_object_mut) {
                previous.remove("hash");
            }
        }
        Some(value)
    }

    /// The same as it is to be written at `now_ms`: with the times that the books set.
    pub(crate) fn stamped(self, directory: &Directory, now_ms: i64) -> Self {
        match self {
            Self::Experiment(r) => {
                let old = directory.experiment(&r.id).map(AsRef::as_ref);
                Self::Experiment(r.stamped(old, now_ms))
            }
            other => other,
        }
    }

    /// What is wrong with it by itself.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Organisation(r) => {
                check_id(&r.id)?;
                check_name(&r.name)?;
                if let Some(credit) = r.credit.filter(|credit| *credit < Nano::ZERO) {
                    return Err(Invalid::new("credit", format!("{credit} is negative"), "use 0 for prepaid customers"));
                }
                r.end_user_bounds.check().map_err(|error| error.within("end_user_bounds"))?;
                r.bounds.check_inside()
            }
            Self::Team(r) => check_id(&r.id).and_then(|()| check_name(&r.name)).and_then(|()| r.bounds.check_inside()),
            Self::Project(r) => {
                r.store_content.as_ref().map_or(Ok(()), StoreContent::check)?;
                check_id(&r.id).and_then(|()| check_name(&r.name)).and_then(|()| r.bounds.check_inside())
            }
            Self::Key(r) => check_id(&r.id).and_then(|()| check_name(&r.name)).and_then(|()| r.bounds.check_inside()),
            Self::EndUser(r) => check_text("user", &r.user, MAX_USER).and_then(|()| r.bounds.check_inside()),
            Self::Member(r) => check_text("person", &r.person, MAX_USER),
            Self::Plan(r) => check_id(&r.id),
            Self::Price(_) => Ok(()),
            Self::Experiment(r) => check_id(&r.id).and_then(|()| r.check()),
        }
    }
}

/// Most days for which prompts and answers are kept.
pub const MAX_CONTENT_DAYS: u32 = 365;
/// Bytes of an id.
const MAX_ID: usize = 64;
/// Bytes of a name.
const MAX_NAME: usize = 200;
/// Bytes of the id of an end user or a person: with the organisation's before it, it names a document of the ledger.
const MAX_USER: usize = ledger::limit::NAME - MAX_ID - 1;

fn check_id(id: &str) -> Result<(), Invalid> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(good) {
        let problem = format!("`{}` is no id", beginning(id));
        return Err(Invalid::new("id", problem, "use 1 to 64 of a-z, 0-9, `-`, `_`, `.`"));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Invalid> {
    check_text("name", name, MAX_NAME)
}

/// Refuses texts that are empty, too long, or would disturb a line they are shown in.
pub(crate) fn check_text(field: &str, text: &str, most: usize) -> Result<(), Invalid> {
    // Marks of direction would turn round what is shown behind them.
    let disturbs = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.trim().is_empty() || text.len() > most || text.chars().any(disturbs) {
        let what =
            format!("is empty, longer than {most} bytes, or has control characters or marks of writing direction");
        let problem = format!("`{}` {what}", beginning(text));
        return Err(Invalid::new(field, problem, format!("write 1 to {most} bytes of plain text")));
    }
    Ok(())
}

/// The beginning of a text, for errors; control characters are escaped.
fn beginning(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}
