//! Tokens and value by day and by what TFP is told apart by, in random groups of clusters; which requests have outcomes;
//! which outcomes there are.
//!
//! Requests of one episode, else of one end user, hang together: they are one cluster, and a cluster is always in the same
//! of [`BUCKETS`] groups, by a hash. The groups are alike but for chance, so that a ratio over them has an interval, from
//! few rows however many requests there are.

use std::collections::VecDeque;

use ledger::{Entry, EntryId, Ledger, StoreError, Tally};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::keys::{ASIDES, EPISODES, Key, MATURITY, OUTCOMES, OUTCOMES_OF, Parts, VALUE, collect, visit};
use super::{DAY_MS, column, experiments};
use crate::books::detail::{Context, CreditNote, Settlement};
use crate::books::outcome_detail::{Aside, Counted, Owner, Subject, UnitPart, Valued};
use crate::experiment::WHOLE_PERMILLE;
use crate::outcome::Valuation;
use crate::{Nano, Quantities};

const BUCKET_COUNT: u8 = 64;
/// Groups of clusters.
pub const BUCKETS: usize = BUCKET_COUNT as usize;

/// Sums over requests and what they brought about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ValueSums {
    /// Charged requests.
    pub requests: i64,
    /// Prompt tokens that were computed.
    pub in_uncached: i64,
    /// Prompt tokens that were in the cache.
    pub in_cached: i64,
    /// Answer tokens.
    pub output: i64,
    /// What was charged for them, less credit notes.
    pub price: Nano,
    /// Value, in the order of [`Valuation::ALL`].
    pub value: [Nano; Valuation::ALL.len()],
    /// Thousandths of outcomes, feedback not counted.
    pub outcomes_milli: i64,
    /// Those of them that were accepted.
    pub accepted_milli: i64,
    /// Requests with an outcome or feedback.
    pub covered: i64,
    /// Answer tokens of requests whose output was accepted.
    pub adopted_output: i64,
}

const COLUMNS: usize = 13;

impl ValueSums {
    /// All tokens.
    #[must_use]
    pub fn tokens(&self) -> i64 {
        self.in_uncached.saturating_add(self.in_cached).saturating_add(self.output)
    }

    /// Value of one kind.
    #[must_use]
    pub fn of(&self, valuation: Valuation) -> Nano {
        self.value.get(usize::from(valuation.code())).copied().unwrap_or_default()
    }

    /// Value without proxies.
    #[must_use]
    pub fn total_value(&self) -> Nano {
        let counted = Valuation::ALL.iter().filter(|valuation| **valuation != Valuation::Proxy);
        counted.fold(Nano::ZERO, |sum, valuation| sum.saturating_add(self.of(*valuation)))
    }

    /// Those of requests come first: most keys have no others.
    fn columns(&self) -> [i64; COLUMNS] {
        let [measured, contracted, estimated, proxy] = self.value;
        [
            self.requests,
            self.in_uncached,
            self.in_cached,
            self.output,
            self.price.0,
            measured.0,
            contracted.0,
            estimated.0,
            proxy.0,
            self.outcomes_milli,
            self.accepted_milli,
            self.covered,
            self.adopted_output,
        ]
    }

    fn from_columns(at: impl Fn(usize) -> i64) -> Self {
        Self {
            requests: at(0),
            in_uncached: at(1),
            in_cached: at(2),
            output: at(3),
            price: Nano(at(4)),
            value: [5, 6, 7, 8].map(|place| Nano(at(place))),
            outcomes_milli: at(9),
            accepted_milli: at(10),
            covered: at(11),
            adopted_output: at(12),
        }
    }

    /// Adds `other` to it.
    pub fn add(&mut self, other: &Self) {
        let (mine, theirs) = (self.columns(), other.columns());
        *self = Self::from_columns(|place| mine[place].saturating_add(theirs[place]));
    }
}

/// Columns of a request alone.
const REQUEST_COLUMNS: usize = 5;

/// The group of a request's cluster. `request` is the entry of its charge.
pub(crate) fn bucket(context: &Context, request: EntryId) -> u8 {
    let Context { organisation, project, user, work, .. } = context;
    let request = request.to_string();
    let (kind, cluster) = match (work.episode.as_str(), user.as_str()) {
        ("", "") => ("request", request.as_str()),
        ("", user) => ("user", user),
        (episode, _) => ("episode", episode),
    };
    let mut hash = Sha256::new();
    for part in [organisation, project, kind, cluster] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().first().map_or(0, |byte| byte % BUCKET_COUNT)
}

/// The day of an instant, from the epoch.
pub(crate) fn day_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(DAY_MS)
}

fn value_key(subject: &Subject, day: i64, bucket: u8) -> Vec<u8> {
    let Subject { organisation, project, model, task, prompt_version, tag } = subject;
    let key = Key::new(VALUE).text(organisation).number(day).text(project).text(model);
    let mut key = key.text(task).text(prompt_version).text(tag);
    key.0.push(bucket);
    key.0
}

/// Adds a charged request to its group, and to its episode.
pub(super) fn tally_request(settled: &Settlement, entry: &Entry, add: &mut dyn FnMut(&[u8], &[i64])) {
    let Some(id) = entry.id else { return };
    let Settlement { context, quantities, .. } = settled;
    let Quantities { in_uncached, in_cached, .. } = *quantities;
    let whole = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    let sums = ValueSums {
        requests: 1,
        in_uncached: whole(in_uncached),
        in_cached: whole(in_cached),
        output: whole(quantities.output()),
        price: settled.list().saturating_sub(settled.discount),
        ..ValueSums::default()
    };
    let key = value_key(&Subject::of(context), day_of(entry.at_ms), bucket(context, id));
    add(&key, &sums.columns()[..REQUEST_COLUMNS]);
    if !context.work.episode.is_empty() {
        let mut key = episode_key(&context.organisation, &context.project, &context.work.episode).number(entry.at_ms);
        key.0.extend(id.0);
        add(&key.0, &[1]);
    }
    if let Some(member) = context.member().filter(|member| member.counts(entry.at_ms)) {
        experiments::tally_request(&member, quantities, add);
    }
}

/// Takes what was given back off the price.
pub(super) fn tally_credit(note: &CreditNote, at_ms: i64, add: &mut dyn FnMut(&[u8], &[i64])) {
    let sums = ValueSums { price: Nano(note.amount.0.saturating_neg()), ..ValueSums::default() };
    let key = value_key(&Subject::of(&note.context), day_of(at_ms), bucket(&note.context, EntryId(note.request)));
    add(&key, &sums.columns()[..REQUEST_COLUMNS]);
}

/// Adds an outcome to the groups of its requests, in place of the revision before.
pub(super) fn tally_outcome(valued: &Valued, seq: u64, add: &mut dyn FnMut(&[u8], &[i64])) {
    if let Some((_, undone)) = &valued.undone {
        tally_counted(undone, -1, add);
    }
    tally_counted(&valued.counted, 1, add);
    let Valued { owner, outcome, aside, .. } = valued;
    for owner in [None, Some(owner)] {
        add(&listed_key(OUTCOMES, owner, seq), &[1]);
        if *aside > 0 {
            add(&listed_key(ASIDES, owner, *aside), &[-1]);
        }
    }
    let key = Key::new(MATURITY).text(&owner.organisation).text(&owner.project).text(&outcome.kind);
    add(&key.number(outcome.maturity_days.into()).0, &[1]);
}

/// Lists an outcome that is kept aside.
pub(super) fn tally_aside(aside: &Aside, seq: u64, add: &mut dyn FnMut(&[u8], &[i64])) {
    for owner in [None, Some(&aside.owner)] {
        add(&listed_key(ASIDES, owner, seq), &[1]);
    }
}

fn tally_counted(counted: &Counted, sign: i64, add: &mut dyn FnMut(&[u8], &[i64])) {
    let accepted = i64::from(counted.accepted);
    for part in &counted.parts {
        let weight = sign * i64::from(part.weight) * i64::from(counted.unit);
        let mut sums = ValueSums {
            outcomes_milli: weight,
            accepted_milli: weight * accepted,
            covered: sign * i64::from(part.covers),
            adopted_output: if part.adopts { sign * i64::try_from(part.output).unwrap_or(i64::MAX) } else { 0 },
            ..ValueSums::default()
        };
        if let Some(value) = sums.value.get_mut(usize::from(counted.valuation.code())) {
            *value = Nano(sign * part.value.0);
        }
        add(&value_key(&part.subject, part.day, part.bucket), &sums.columns());
        add(&outcomes_of_key(part.request), &[sign, sign * accepted]);
        if let Some(member) = &part.member {
            experiments::tally_value(member, counted, (sign, part.weight, part.value), add);
        }
    }
    if let Some(UnitPart { member, value }) = &counted.unit_part {
        experiments::tally_value(member, counted, (sign, WHOLE_PERMILLE, *value), add);
    }
}

fn episode_key(organisation: &str, project: &str, episode: &str) -> Key {
    Key::new(EPISODES).text(organisation).text(project).text(episode)
}

fn outcomes_of_key(request: [u8; 16]) -> Vec<u8> {
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

/// Tokens and value of a day, a group of clusters, and what TFP is told apart by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueRow {
    /// From the epoch.
    pub day: i64,
    /// By what it is told apart.
    pub subject: Subject,
    /// The group of clusters, below [`BUCKETS`].
    pub bucket: u8,
    /// The sums.
    pub sums: ValueSums,
}

/// Gives `each` the rows of an organisation's days `from..to`. Only what is on the disk. `each` ends it by `false`.
///
/// # Errors
/// The store's.
pub fn value_rows(
    ledger: &Ledger,
    organisation: &str,
    (from, to): (i64, i64),
    mut each: impl FnMut(ValueRow) -> bool,
) -> Result<(), StoreError> {
    let key = |day: i64| Key::new(VALUE).text(organisation).number(day).0;
    visit(ledger, key(from), &key(to), |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let (organisation, day) = (parts.text()?, parts.number()?);
        let (project, model) = (parts.text()?, parts.text()?);
        let (task, prompt_version, tag) = (parts.text()?, parts.text()?, parts.text()?);
        let [bucket] = parts.0 else { return None };
        let subject = Subject { organisation, project, model, task, prompt_version, tag };
        let sums = ValueSums::from_columns(|place| column(tally, place));
        Some(each(ValueRow { day, subject, bucket: *bucket, sums }))
    })
}

/// How many outcomes a request has, and how many that accept its output. Only what is on the disk.
pub(crate) fn outcomes_of(ledger: &Ledger, request: [u8; 16]) -> Result<(i64, i64), StoreError> {
    let key = outcomes_of_key(request);
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
    visit(ledger, from, &to, |tally| {
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
    visit(ledger, listed_key(ASIDES, None, 0), &listed_key(ASIDES, None, i64::MAX as u64), |tally| {
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

/// The longest time, in days, in which an owner's outcomes come, by their kinds; `None`: there are none. Of all of an
/// organisation when `project` is empty.
///
/// # Errors
/// The store's.
pub fn maturity_days(ledger: &Ledger, organisation: &str, project: &str) -> Result<Option<i64>, StoreError> {
    let from = Key::new(MATURITY).text(organisation);
    let from = if project.is_empty() { from.0 } else { from.text(project).0 };
    let to = [from.as_slice(), &[0xff]].concat();
    let days = collect(ledger, from, &to, |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let (_, _, _) = (parts.text()?, parts.text()?, parts.text()?);
        parts.number()
    })?;
    Ok(days.into_iter().max())
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Damaged(format!("{what} cannot be read"))
}
