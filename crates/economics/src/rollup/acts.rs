//! Acts of administration and alerts: which entries they are, by their numbers.

use ledger::{Entry, Ledger, StoreError, Tally};

use super::keys::{ACTS, ALERTS, Key, Parts};
use crate::books::detail::{CreditNote, Payment};
use crate::books::{MODEL_KIND, SECRET_KIND, SHEET_KIND};
use crate::directory::record::Kind;

/// Most alerts read at one time.
const MAX_ALERTS: u32 = 10_000;

pub(super) fn alert_key(seq: i64) -> Vec<u8> {
    Key::new(ALERTS).number(seq).0
}

/// Numbers of up to `limit` (at most 10,000) entries that raised the last alerts, newest first. Only what is on the disk.
pub(crate) fn last_alerts(ledger: &Ledger, limit: u32) -> Result<Vec<u64>, StoreError> {
    let tallies = ledger.last_tallies(&alert_key(0), &alert_key(i64::MAX), limit.min(MAX_ALERTS))?;
    let number = |tally: &Tally| u64::try_from(Parts(tally.key.get(1..)?).number()?).ok();
    let damaged = || StoreError::Damaged("an alert has no number".to_owned());
    tallies.iter().map(|tally| number(tally).ok_or_else(damaged)).collect()
}

/// Whose acts of administration are listed. Acts on keys are listed by project, because their documents name no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ActSubject {
    /// The plant's: all of them.
    All,
    /// Those on an organisation and what belongs to it, without keys.
    Organisation(String),
    /// Those on the keys of a project.
    Project(String),
}

impl ActSubject {
    pub(super) fn key(&self, seq: u64) -> Vec<u8> {
        let (kind, id) = match self {
            Self::All => ("", ""),
            Self::Organisation(id) => ("o", id.as_str()),
            Self::Project(id) => ("p", id.as_str()),
        };
        Key::new(ACTS).text(kind).text(id).number(i64::try_from(seq).unwrap_or(i64::MAX)).0
    }
}

/// Where an entry that is an act of administration belongs. Reads no more of a document than never changes its form.
pub(super) fn act_subject(entry: &Entry) -> Option<ActSubject> {
    if let Some(note) = CreditNote::read(entry) {
        return Some(ActSubject::Organisation(note.context.organisation));
    }
    if let Some(payment) = Payment::read(entry) {
        return Some(ActSubject::Organisation(payment.organisation));
    }
    let document = entry.document()?;
    if document.kind == SECRET_KIND {
        // The first came with the books.
        return (document.version > 1).then_some(ActSubject::All);
    }
    if matches!(document.kind, MODEL_KIND | SHEET_KIND) {
        return Some(ActSubject::All);
    }
    let field = |name: &str| {
        let body: serde_json::Value = serde_json::from_slice(&document.body).ok()?;
        body.get(name)?.as_str().map(str::to_owned)
    };
    let subject = match Kind::from_code(document.kind)? {
        Kind::Organisation => Some(ActSubject::Organisation(document.key.clone())),
        Kind::Team | Kind::Project | Kind::EndUser | Kind::Member | Kind::Experiment => {
            field("organisation").map(ActSubject::Organisation)
        }
        Kind::Key => field("project").map(ActSubject::Project),
        Kind::Plan | Kind::Price => None,
    };
    Some(subject.unwrap_or(ActSubject::All))
}

/// Numbers of up to `limit` entries that are acts on `subject` and follow the entry `after`, oldest or newest first.
pub(crate) fn acts_of(
    ledger: &Ledger,
    subject: &ActSubject,
    (after, newest_first): (Option<u64>, bool),
    limit: u32,
) -> Result<Vec<u64>, StoreError> {
    let range = |from: u64, to: u64| (subject.key(from), subject.key(to));
    let tallies = if newest_first {
        let (from, to) = range(0, after.unwrap_or(u64::MAX));
        ledger.last_tallies(&from, &to, limit)?
    } else {
        let (from, to) = range(after.map_or(0, |after| after.saturating_add(1)), u64::MAX);
        ledger.tallies(&from, &to, limit)?
    };
    let number = |tally: &Tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let (_, _) = (parts.text()?, parts.text()?);
        u64::try_from(parts.number()?).ok()
    };
    tallies
        .iter()
        .map(number)
        .collect::<Option<_>>()
        .ok_or_else(|| StoreError::Damaged("an act has no number".to_owned()))
}
