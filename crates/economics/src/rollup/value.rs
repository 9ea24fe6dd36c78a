//! Tokens, cost and value by day and by what TFP is told apart by, in random groups of clusters.
//!
//! Requests of one episode, else of one end user, hang together: they are one cluster, and a cluster is always in the same
//! of [`BUCKETS`] groups, by a hash. The groups are alike but for chance, so that a ratio over them has an interval, from
//! few rows however many requests there are. The groups of a day are the parts of one key: they are read together.

use std::collections::HashMap;

use ledger::{Add, Entry, EntryId, StoreError, Tally};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::keys::{KINDS, Key, MATURITY, Parts, TOTALS, USER_VALUE, VALUE, collect, visit};
use super::outcomes::episode_key;
use super::{DAY_MS, Tallies, column, experiments, outcomes, sum_at, users};
use crate::books::cost_detail::RequestCost;
use crate::books::detail::{Context, CreditNote, Settlement};
use crate::books::outcome_detail::{Counted, Subject, UnitPart, Valued};
use crate::outcome::{Valuation, WHOLE_PERMILLE};
use crate::{Meter, Nano, Quantities};

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
    /// Those of them that were reasoning.
    pub reasoning: i64,
    /// What was charged for them, less credit notes.
    pub price: Nano,
    /// What they cost the plant: attributed, as far as it is known.
    pub cost: Nano,
    /// Requests whose cost is known.
    pub costed: i64,
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

const COLUMNS: usize = 16;

impl ValueSums {
    /// Tokens of a kind.
    #[must_use]
    pub fn of_meter(&self, meter: Meter) -> i64 {
        match meter {
            Meter::InUncached => self.in_uncached,
            Meter::InCached => self.in_cached,
            Meter::OutVisible => self.output.saturating_sub(self.reasoning),
            Meter::OutReasoning => self.reasoning,
        }
    }

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
            self.reasoning,
            self.price.0,
            self.cost.0,
            self.costed,
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

    fn read(sums: &[i128]) -> Self {
        Self::from_columns(|place| sum_at(sums, place))
    }

    fn from_columns(at: impl Fn(usize) -> i64) -> Self {
        Self {
            requests: at(0),
            in_uncached: at(1),
            in_cached: at(2),
            output: at(3),
            reasoning: at(4),
            price: Nano(at(5)),
            cost: Nano(at(6)),
            costed: at(7),
            value: [8, 9, 10, 11].map(|place| Nano(at(place))),
            outcomes_milli: at(12),
            accepted_milli: at(13),
            covered: at(14),
            adopted_output: at(15),
        }
    }

    /// Adds `other` to it.
    pub fn add(&mut self, other: &Self) {
        let (mine, theirs) = (self.columns(), other.columns());
        *self = Self::from_columns(|place| mine[place].saturating_add(theirs[place]));
    }
}

/// Columns of a charge, and of what a request cost.
const CHARGE_COLUMNS: usize = 6;
const COST_COLUMNS: usize = 8;

/// The group of a request's cluster. `request` is the entry of its charge.
pub(crate) fn bucket(context: &Context, request: EntryId) -> u8 {
    let Context { organisation, project, user, metadata, .. } = context;
    let request = request.to_string();
    let (kind, cluster) = match (metadata.episode.as_str(), user.as_str()) {
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

/// All but the end user.
fn subject_key(kind: u8, subject: &Subject, day: i64) -> Key {
    let Subject { organisation, project, model, task, prompt_version, tag, user: _ } = subject;
    let key = Key::new(kind).text(organisation).number(day).text(project).text(model);
    key.text(task).text(prompt_version).text(tag)
}

/// Adds columns to a group of a day, and to that of the end user, if there is one.
fn add_value(subject: &Subject, (day, bucket): (i64, u8), columns: &[i64], add: &mut Add<'_>) {
    add(&subject_key(VALUE, subject, day).0, bucket, columns);
    let Subject { organisation, project, task, .. } = subject;
    add(&Key::new(TOTALS).text(organisation).number(day).text(project).text(task).0, bucket, columns);
    if !subject.user.is_empty() {
        add(&users::value_key(subject, day), bucket, columns);
    }
}

/// Adds a charged request to its group, and to its episode.
pub(super) fn tally_request(settled: &Settlement, entry: &Entry, add: &mut Add<'_>) {
    let Some(id) = entry.id else { return };
    let Settlement { context, quantities, .. } = settled;
    let Quantities { in_uncached, in_cached, .. } = *quantities;
    let whole = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    let sums = ValueSums {
        requests: 1,
        in_uncached: whole(in_uncached),
        in_cached: whole(in_cached),
        output: whole(quantities.output()),
        reasoning: whole(quantities.out_reasoning),
        price: settled.list().saturating_sub(settled.discount),
        ..ValueSums::default()
    };
    let (subject, day) = (Subject::of(context), day_of(entry.at_ms));
    add_value(&subject, (day, bucket(context, id)), &sums.columns()[..CHARGE_COLUMNS], add);
    add(&users::week_key(&subject, day), 0, &[1]);
    if !context.metadata.episode.is_empty() {
        let mut key =
            episode_key(&context.organisation, &context.project, &context.metadata.episode).number(entry.at_ms);
        key.0.extend(id.0);
        add(&key.0, 0, &[1]);
    }
    if let Some(member) = context.member().filter(|member| member.counts(entry.at_ms)) {
        experiments::tally_request(&member, quantities, add);
    }
}

/// Takes what was given back off the price.
pub(super) fn tally_credit(note: &CreditNote, at_ms: i64, add: &mut Add<'_>) {
    let sums = ValueSums { price: Nano(note.amount.0.saturating_neg()), ..ValueSums::default() };
    let group = (day_of(at_ms), bucket(&note.context, EntryId(note.request)));
    add_value(&Subject::of(&note.context), group, &sums.columns()[..CHARGE_COLUMNS], add);
}

/// Adds what a request cost. Its entry follows that of its charge, so that near midnight it may count for the next day.
pub(super) fn tally_cost(cost: &RequestCost, at_ms: i64, add: &mut Add<'_>) {
    let sums = ValueSums { cost: cost.costs.attributed(), costed: 1, ..ValueSums::default() };
    let group = (day_of(at_ms), bucket(&cost.context, EntryId(cost.request)));
    add_value(&Subject::of(&cost.context), group, &sums.columns()[..COST_COLUMNS], add);
}

/// Adds an outcome to the groups of its requests, in place of the revision before.
pub(super) fn tally_outcome(valued: &Valued, seq: u64, add: &mut Add<'_>) {
    if let Some((_, undone)) = &valued.undone {
        tally_counted(undone, -1, add);
    }
    tally_counted(&valued.counted, 1, add);
    outcomes::tally_counted(valued, seq, add);
    for part in &valued.counted.parts {
        let Subject { organisation, project, task, .. } = &part.subject;
        let key = Key::new(MATURITY).text(organisation).text(project).text(task).text(&valued.outcome.kind);
        add(&key.number(valued.outcome.maturity_days.into()).0, 0, &[1]);
    }
}

fn tally_counted(counted: &Counted, sign: i64, add: &mut Add<'_>) {
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
        add_value(&part.subject, (part.day, part.bucket), &sums.columns(), add);
        add(&outcomes::of_request_key(part.request), 0, &[sign, sign * accepted]);
        if counted.unit {
            let key = subject_key(KINDS, &part.subject, part.day).text(&counted.kind);
            add(&key.0, 0, &[weight, weight * accepted, sums.total_value().0]);
        }
        if let Some(member) = &part.member {
            experiments::tally_value(member, counted, (sign, part.weight, part.value), add);
        }
    }
    if let Some(UnitPart { member, value }) = &counted.unit_part {
        experiments::tally_value(member, counted, (sign, WHOLE_PERMILLE, *value), add);
    }
}

/// Outcomes of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct KindSums {
    /// Thousandths of outcomes.
    pub outcomes_milli: i64,
    /// Those of them that were accepted.
    pub accepted_milli: i64,
    /// Their value, proxies not counted.
    pub value: Nano,
}

impl KindSums {
    /// Adds `other` to it.
    pub fn add(&mut self, other: &Self) {
        self.outcomes_milli = self.outcomes_milli.saturating_add(other.outcomes_milli);
        self.accepted_milli = self.accepted_milli.saturating_add(other.accepted_milli);
        self.value = self.value.saturating_add(other.value);
    }
}

/// Tokens and value of a day and what TFP is told apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ValueRow {
    /// From the epoch.
    pub(super) day: i64,
    /// By what it is told apart.
    pub(super) subject: Subject,
    /// Groups of clusters, each below [`BUCKETS`], with their sums.
    pub(super) groups: Vec<(u8, ValueSums)>,
}

/// How far rows tell value apart: the less, the fewer they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueRows {
    /// By all but the end user.
    Subjects,
    /// By project and task: of these there are fewer.
    Totals,
    /// By project, end user and model, of the requests that name an end user.
    Users,
}

impl ValueRows {
    fn kind(self) -> u8 {
        match self {
            Self::Subjects => VALUE,
            Self::Totals => TOTALS,
            Self::Users => USER_VALUE,
        }
    }

    /// Takes what a key tells apart into the texts that are there.
    fn read(self, key: &[u8], row: &mut ValueRow) -> Option<()> {
        let Subject { organisation, project, model, task, prompt_version, tag, user } = &mut row.subject;
        let mut parts = Parts(key.get(1..)?);
        parts.text_into(organisation)?;
        row.day = parts.number()?;
        let texts: &mut [&mut String] = match self {
            Self::Subjects => &mut [project, model, task, prompt_version, tag],
            Self::Totals => &mut [project, task],
            Self::Users => &mut [project, user, model],
        };
        texts.iter_mut().try_for_each(|text| parts.text_into(text))
    }
}

/// Gives `each` the rows of an organisation's days `from..to`, told apart as `rows` says, until it gives `false`; `None`: the
/// row cannot be read. Only what is on the disk.
///
/// # Errors
/// The store's.
pub(super) fn value_rows(
    ledger: &dyn Tallies,
    rows: ValueRows,
    (organisation, (from, to)): (&str, (i64, i64)),
    mut each: impl FnMut(&ValueRow) -> Option<bool>,
) -> Result<(), StoreError> {
    let key = |day: i64| Key::new(rows.kind()).text(organisation).number(day).0;
    let mut row = ValueRow::default();
    visit(ledger, &key(from), &key(to), |tally| {
        rows.read(&tally.key, &mut row)?;
        row.groups.clear();
        row.groups.extend(tally.parts().map(|(bucket, sums)| (bucket, ValueSums::read(sums))));
        each(&row)
    })
}

/// Day, subject (without end user), and the rest of a key.
fn read_subject(tally: &Tally) -> Option<(i64, Subject, &[u8])> {
    let mut parts = Parts(tally.key.get(1..)?);
    let (organisation, day) = (parts.text()?, parts.number()?);
    let (project, model) = (parts.text()?, parts.text()?);
    let (task, prompt_version, tag) = (parts.text()?, parts.text()?, parts.text()?);
    let subject = Subject { organisation, project, model, task, prompt_version, tag, user: String::new() };
    Some((day, subject, parts.0))
}

/// Gives `each` the outcomes by kind of an organisation's days `from..to`, with day and subject. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn kind_rows(
    ledger: &dyn Tallies,
    organisation: &str,
    (from, to): (i64, i64),
    mut each: impl FnMut(i64, &Subject, String, KindSums),
) -> Result<(), StoreError> {
    let key = |day: i64| Key::new(KINDS).text(organisation).number(day).0;
    visit(ledger, &key(from), &key(to), |tally| {
        let (day, subject, rest) = read_subject(tally)?;
        let (outcomes_milli, accepted_milli) = (column(tally, 0), column(tally, 1));
        let sums = KindSums { outcomes_milli, accepted_milli, value: Nano(column(tally, 2)) };
        each(day, &subject, Parts(rest).text()?, sums);
        Some(true)
    })
}

/// In which time, in days, outcomes of an organisation's requests come, by project and task: the longest of the kinds that
/// such requests have got.
///
/// # Errors
/// The store's.
pub fn maturity_days(ledger: &dyn Tallies, organisation: &str) -> Result<HashMap<(String, String), i64>, StoreError> {
    let (from, to) = Key::new(MATURITY).text(organisation).range();
    let found = collect(ledger, &from, &to, |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let (_, project, task, _) = (parts.text()?, parts.text()?, parts.text()?, parts.text()?);
        Some(((project, task), parts.number()?))
    })?;
    let mut longest = HashMap::new();
    for (place, days) in found {
        let known = longest.entry(place).or_insert(days);
        *known = days.max(*known);
    }
    Ok(longest)
}
