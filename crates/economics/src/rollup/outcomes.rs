//! Which requests have outcomes, which outcomes there are, and which are kept aside.

use std::collections::VecDeque;

use ledger::{Add, EntryId, Ledger, StoreError, Tally};

use super::column;
use super::keys::{ASIDE_COUNTS, ASIDES, EPISODES, Key, OUTCOMES, OUTCOMES_OF, Parts, collect, visit};
use crate::books::outcome_detail::{Aside, Owner, Valued};

pub(super) fn episode_key(organisation: &str, project: &str, episode: &str) -> Key {
    Key::new(EPISODES).text(organisation).text(project).text(episode)
}

pub(super) fn of_request_key(request: [u8; 16]) -> Vec<u8> {
    let mut key = Key::new(OUTCOMES_OF).0;
    key.extend(request);
    key
}

/// `owner`: whose list; `None`: the plant's.
fn listed_key(list: u8, owner: Option<&Owner>, seq: u64) -> Vec<u8> {
    let (organisation, project) = owner.map_or(("", ""), |owner| (&owner.organisation, &owner.project));
    Key::new(list).text(organisation).text(project).number(seq.cast_signed()).0
}

/// The entry's number in a key of a list.
fn listed_seq(tally: &Tally) -> Option<u64> {
    let mut parts = Parts(tally.key.get(1..)?);
    let (_, _) = (parts.text()?, parts.text()?);
    parts.number()?.try_into().ok()
}

/// Lists an outcome that is counted; it is kept aside no more.
pub(super) fn tally_counted(valued: &Valued, seq: u64, add: &mut Add<'_>) {
    let Valued { owner, aside, .. } = valued;
    for listed in [None, Some(owner)] {
        add(&listed_key(OUTCOMES, listed, seq), 0, &[1]);
        if *aside > 0 {
            add(&listed_key(ASIDES, listed, *aside), 0, &[-1]);
        }
    }
    if *aside > 0 {
        add(&Key::new(ASIDE_COUNTS).text(&owner.organisation).text(&owner.project).0, 0, &[-1]);
    }
}

/// Lists an outcome that is kept aside.
pub(super) fn tally_aside(Aside { owner, .. }: &Aside, seq: u64, add: &mut Add<'_>) {
    for listed in [None, Some(owner)] {
        add(&listed_key(ASIDES, listed, seq), 0, &[1]);
    }
    add(&Key::new(ASIDE_COUNTS).text(&owner.organisation).text(&owner.project).0, 0, &[1]);
}

/// How many outcomes are kept aside: of a project, of an organisation, or of all. Only what is on the disk.
pub(crate) fn asides(ledger: &Ledger, organisation: Option<&str>, project: Option<&str>) -> Result<i64, StoreError> {
    let parts = organisation.into_iter().chain(organisation.and(project));
    let (from, to) = parts.fold(Key::new(ASIDE_COUNTS), Key::text).range();
    Ok(collect(ledger, &from, &to, |tally| Some(column(tally, 0)))?.into_iter().sum())
}

/// How many outcomes a request has, and how many that accept its output. Only what is on the disk.
pub(crate) fn outcomes_of(ledger: &Ledger, request: [u8; 16]) -> Result<(i64, i64), StoreError> {
    let key = of_request_key(request);
    let found = ledger.tallies(&key, &[key.as_slice(), &[0]].concat(), 1)?.pop();
    Ok(found.map_or((0, 0), |tally| (column(&tally, 0), column(&tally, 1))))
}

/// Up to `limit` charges of an episode's requests, from its beginning or from its end. Only what is on the disk.
pub(crate) fn episode(
    ledger: &Ledger,
    owner: &Owner,
    episode: &str,
    (last, limit): (bool, u32),
) -> Result<Vec<EntryId>, StoreError> {
    let key = |ms: i64| episode_key(&owner.organisation, &owner.project, episode).number(ms).0;
    let (from, to) = (key(i64::MIN), key(i64::MAX));
    let tallies = if last { ledger.last_tallies(&from, &to, limit)? } else { ledger.tallies(&from, &to, limit)? };
    let id = |tally: &Tally| tally.key.last_chunk().copied().map(EntryId);
    tallies.iter().map(id).collect::<Option<_>>().ok_or_else(|| unreadable("a request of an episode"))
}

/// Numbers of up to `limit` entries of outcomes (or of those kept aside that wait still) after the entry `after`; of the
/// plant when `owner` is `None`. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn outcomes(
    ledger: &Ledger,
    owner: Option<&Owner>,
    (aside, after): (bool, u64),
    limit: usize,
) -> Result<Vec<u64>, StoreError> {
    let list = if aside { ASIDES } else { OUTCOMES };
    let (from, to) = (listed_key(list, owner, after.saturating_add(1)), listed_key(list, owner, i64::MAX as u64));
    let mut found = Vec::new();
    visit(ledger, &from, &to, |tally| {
        if column(tally, 0) != 0 {
            found.push(listed_seq(tally)?);
        }
        Some(found.len() < limit)
    })?;
    Ok(found)
}

/// Numbers of the last entries, `most` of them, of outcomes that are kept aside, oldest first. Only what is on the disk.
pub(crate) fn last_asides(ledger: &Ledger, most: usize) -> Result<VecDeque<u64>, StoreError> {
    let mut found = VecDeque::new();
    visit(ledger, &listed_key(ASIDES, None, 0), &listed_key(ASIDES, None, i64::MAX as u64), |tally| {
        if column(tally, 0) != 0 {
            found.push_back(listed_seq(tally)?);
        }
        if found.len() > most {
            found.pop_front();
        }
        Some(true)
    })?;
    Ok(found)
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Damaged(format!("{what} cannot be read"))
}
