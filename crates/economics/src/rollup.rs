//! Sums of settlements and credit notes, kept by the ledger with each entry: by hour for usage, by day for reports, by
//! window and line for invoices.

use std::collections::BTreeMap;

use ledger::{Entry, EntryId, Ledger, StoreError, Summary, Tally};
use serde::Serialize;

use crate::books::ALERT_KIND;
use crate::books::detail::{Context, CreditNote, Payment, Settlement};
use crate::directory::record::Kind;
use crate::{Meter, Nano, Quantities};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Rows read at one time.
const PAGE: u32 = 10_000;

const USAGE: u8 = b'u';
const DAYS: u8 = b'd';
const INVOICE: u8 = b'i';
const ACTS: u8 = b'a';
/// The credit notes of a window, each by its entry.
const CREDITS: u8 = b'c';
/// The alerts that were raised, each by its entry.
const ALERTS: u8 = b'w';

/// The summary given to the ledger.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rollup;

/// Sums over requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Charged requests.
    pub requests: i64,
    /// All tokens.
    pub quantities: Quantities,
    /// Tokens that pools paid.
    pub pooled_tokens: i64,
    /// Pool units taken.
    pub pool_units: i64,
    /// At list price.
    pub list: Nano,
    /// Taken off.
    pub discount: Nano,
    /// Given back by credit notes.
    pub credited: Nano,
}

impl Sums {
    /// What is to be paid.
    #[must_use]
    pub fn total(&self) -> Nano {
        self.list.saturating_sub(self.discount).saturating_sub(self.credited)
    }

    fn columns(&self) -> [i64; 10] {
        let tokens = |meter| i64::try_from(self.quantities.get(meter)).unwrap_or(i64::MAX);
        let [uncached, cached, visible, reasoning] = Meter::ALL.map(tokens);
        let (list, discount, credited) = (self.list.0, self.discount.0, self.credited.0);
        [
            self.requests,
            uncached,
            cached,
            visible,
            reasoning,
            self.pooled_tokens,
            self.pool_units,
            list,
            discount,
            credited,
        ]
    }

    fn read(tally: &Tally) -> Self {
        let column = |index: usize| {
            let sum = tally.sums.get(index).copied().unwrap_or(0);
            i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
        };
        let tokens = |index| u64::try_from(column(index)).unwrap_or(0);
        Self {
            requests: column(0),
            quantities: Quantities {
                in_uncached: tokens(1),
                in_cached: tokens(2),
                out_visible: tokens(3),
                out_reasoning: tokens(4),
            },
            pooled_tokens: column(5),
            pool_units: column(6),
            list: Nano(column(7)),
            discount: Nano(column(8)),
            credited: Nano(column(9)),
        }
    }

    /// Adds `other` to it.
    pub fn add(&mut self, other: &Self) {
        let sums =
            self.columns().into_iter().zip(other.columns()).map(|(a, b)| i128::from(a) + i128::from(b)).collect();
        *self = Self::read(&Tally { key: Vec::new(), sums });
    }
}

impl Summary for Rollup {
    fn version(&self) -> u32 {
        4
    }

    fn tally(&self, entry: &Entry, add: &mut dyn FnMut(&[u8], &[i64])) {
        if let Some(settled) = Settlement::read(entry) {
            let sums = Sums {
                requests: 1,
                quantities: settled.quantities,
                pooled_tokens: i64::try_from(settled.pooled.total()).unwrap_or(i64::MAX),
                pool_units: settled.pool_units,
                list: settled.list(),
                discount: settled.discount,
                credited: Nano::ZERO,
            };
            tally(&settled.context, entry.at_ms, &sums, add);
            for line in &settled.lines {
                let tokens = i64::try_from(line.tokens).unwrap_or(i64::MAX);
                add(&invoice_key(&settled.context, Some((line.meter, line.tier))), &[tokens, line.nano.0]);
            }
        } else if let Some(note) = CreditNote::read(entry) {
            let sums = Sums { credited: note.amount, ..Sums::default() };
            let context = note.billed();
            tally(&context, entry.at_ms, &sums, add);
            let Context { organisation, window_ms, .. } = &context;
            let key = Key::new(CREDITS).text(organisation).number(*window_ms).number(entry.seq.cast_signed());
            add(&key.0, &[note.amount.0]);
        }
        if let Some(own) = act_subject(entry) {
            add(&ActSubject::All.key(entry.seq), &[1]);
            if own != ActSubject::All {
                add(&own.key(entry.seq), &[1]);
            }
        } else if entry.document().is_some_and(|document| document.kind == ALERT_KIND && document.version == 1) {
            add(&alert_key(entry.seq.cast_signed()), &[1]);
        }
    }
}

fn alert_key(seq: i64) -> Vec<u8> {
    Key::new(ALERTS).number(seq).0
}

/// Numbers of up to `limit` (and 10,000) entries that raised the last alerts, newest first. Only what is on the disk.
pub(crate) fn last_alerts(ledger: &Ledger, limit: u32) -> Result<Vec<u64>, StoreError> {
    let tallies = ledger.last_tallies(&alert_key(0), &alert_key(i64::MAX), limit.min(PAGE))?;
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
    fn key(&self, seq: u64) -> Vec<u8> {
        let (kind, id) = match self {
            Self::All => ("", ""),
            Self::Organisation(id) => ("o", id.as_str()),
            Self::Project(id) => ("p", id.as_str()),
        };
        Key::new(ACTS).text(kind).text(id).number(i64::try_from(seq).unwrap_or(i64::MAX)).0
    }
}

/// Where an entry that is an act of administration belongs. Reads no more of a document than never changes its form.
fn act_subject(entry: &Entry) -> Option<ActSubject> {
    if let Some(note) = CreditNote::read(entry) {
        return Some(ActSubject::Organisation(note.context.organisation));
    }
    if let Some(payment) = Payment::read(entry) {
        return Some(ActSubject::Organisation(payment.organisation));
    }
    let document = entry.document()?;
    let field = |name: &str| {
        let body: serde_json::Value = serde_json::from_slice(&document.body).ok()?;
        body.get(name)?.as_str().map(str::to_owned)
    };
    let subject = match Kind::from_code(document.kind)? {
        Kind::Organisation => Some(ActSubject::Organisation(document.key.clone())),
        Kind::Team | Kind::Project | Kind::EndUser | Kind::Member => {
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

fn tally(context: &Context, at_ms: i64, sums: &Sums, add: &mut dyn FnMut(&[u8], &[i64])) {
    let Context { organisation, project, key, model, tag, .. } = context;
    let columns = sums.columns();
    let usage = Key::new(USAGE).text(organisation).number(at_ms.div_euclid(HOUR_MS));
    add(&usage.text(project).text(key).text(model).text(tag).0, &columns);
    add(&Key::new(DAYS).number(at_ms.div_euclid(DAY_MS)).text(organisation).text(model).text(tag).0, &columns);
    add(&invoice_key(context, None), &columns);
}

/// Without a line: the sums of the model in the window.
fn invoice_key(context: &Context, line: Option<(Meter, u8)>) -> Vec<u8> {
    let Context { organisation, window_ms, list, model, price_version, .. } = context;
    let mut key = Key::new(INVOICE).text(organisation).number(*window_ms).text(list).text(model);
    key = key.number((*price_version).into());
    if let Some((meter, tier)) = line {
        key.0.push(Meter::ALL.iter().zip(0..).find(|(known, _)| **known == meter).map_or(0, |(_, code)| code));
        key.0.push(tier);
    }
    key.0
}

/// A key whose byte order is the order of its parts.
struct Key(Vec<u8>);

impl Key {
    fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    fn number(mut self, number: i64) -> Self {
        self.0.extend((number ^ i64::MIN).to_be_bytes());
        self
    }

    /// Text has no zero byte, so the zero behind it keeps shorter ones first and tells parts apart.
    fn text(mut self, text: &str) -> Self {
        self.0.extend(text.bytes().filter(|byte| *byte != 0));
        self.0.push(0);
        self
    }
}

struct Parts<'a>(&'a [u8]);

impl Parts<'_> {
    fn number(&mut self) -> Option<i64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i64::from_be_bytes(*bytes) ^ i64::MIN)
    }

    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = rest.get(1..)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// One row of usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageRow {
    /// Start of the hour (usage) or day (report), UTC, in milliseconds.
    pub from_ms: i64,
    /// The organisation.
    pub organisation: String,
    /// The project; empty in reports.
    pub project: String,
    /// The key; empty in reports.
    pub key: String,
    /// The model.
    pub model: String,
    /// The tag.
    pub tag: String,
    /// The sums.
    pub sums: Sums,
}

/// Hours of one organisation that begin within `from_ms..to_ms`, in order. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn usage(ledger: &Ledger, organisation: &str, from_ms: i64, to_ms: i64) -> Result<Vec<UsageRow>, StoreError> {
    let key = |ms: i64| Key::new(USAGE).text(organisation).number(ceil(ms, HOUR_MS)).0;
    collect(ledger, key(from_ms), &key(to_ms), |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let organisation = parts.text()?;
        let from_ms = parts.number()?.saturating_mul(HOUR_MS);
        let (project, key, model, tag) = (parts.text()?, parts.text()?, parts.text()?, parts.text()?);
        Some(UsageRow { from_ms, organisation, project, key, model, tag, sums: Sums::read(tally) })
    })
}

/// Days of all organisations that begin within `from_ms..to_ms`, in order. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn report(ledger: &Ledger, from_ms: i64, to_ms: i64) -> Result<Vec<UsageRow>, StoreError> {
    let key = |ms: i64| Key::new(DAYS).number(ceil(ms, DAY_MS)).0;
    collect(ledger, key(from_ms), &key(to_ms), |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let from_ms = parts.number()?.saturating_mul(DAY_MS);
        let (organisation, model, tag) = (parts.text()?, parts.text()?, parts.text()?);
        let (project, key) = (String::new(), String::new());
        Some(UsageRow { from_ms, organisation, project, key, model, tag, sums: Sums::read(tally) })
    })
}

/// What a report tells apart; what it does not is summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupBy {
    /// By customer.
    pub organisation: bool,
    /// By model.
    pub model: bool,
    /// By the requests' tag.
    pub tag: bool,
    /// By day, UTC.
    pub day: bool,
}

/// Most rows of a report.
pub const MAX_REPORT_ROWS: usize = 100_000;

/// Days of all organisations that begin within `from_ms..to_ms`, summed up by what `by` tells apart, in its order: day,
/// organisation, model, tag. What is not told apart is empty, the time the beginning of the report. `None`: more than
/// [`MAX_REPORT_ROWS`]. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn grouped_report(
    ledger: &Ledger,
    (from_ms, to_ms): (i64, i64),
    by: GroupBy,
) -> Result<Option<Vec<UsageRow>>, StoreError> {
    let mut groups = BTreeMap::<_, Sums>::new();
    let mut day = from_ms;
    while day < to_ms && groups.len() <= MAX_REPORT_ROWS {
        let next = day.saturating_add(DAY_MS).min(to_ms);
        for row in report(ledger, day, next)? {
            let kept = |told: bool, text: String| if told { text } else { String::new() };
            let from_ms = if by.day { row.from_ms } else { from_ms };
            let group =
                (from_ms, kept(by.organisation, row.organisation), kept(by.model, row.model), kept(by.tag, row.tag));
            groups.entry(group).or_default().add(&row.sums);
        }
        day = next;
    }
    if groups.len() > MAX_REPORT_ROWS {
        return Ok(None);
    }
    let (project, key) = (String::new(), String::new());
    let rows = groups.into_iter().map(|((from_ms, organisation, model, tag), sums)| UsageRow {
        from_ms,
        organisation,
        project: project.clone(),
        key: key.clone(),
        model,
        tag,
        sums,
    });
    Ok(Some(rows.collect()))
}

/// One line of an invoice: tokens of one meter at one rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvoiceLine {
    /// What was counted.
    pub meter: Meter,
    /// Index of the price's tier.
    pub tier: u8,
    /// How many tokens.
    pub tokens: i64,
    /// The sum of the charges' lines.
    pub nano: Nano,
}

/// What one model cost in one window, under one version of its price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InvoiceModel {
    /// The price list.
    pub list: String,
    /// The model.
    pub model: String,
    /// The version of its price.
    pub price_version: u32,
    /// All of it; its `list` is the sum of the lines.
    pub sums: Sums,
    /// What was not paid by a pool.
    pub lines: Vec<InvoiceLine>,
}

/// What a window cost. The customer's total is the sum of the models' totals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// By list, model and version.
    pub models: Vec<InvoiceModel>,
    /// The sums of the models.
    pub sums: Sums,
}

/// The statement of an organisation for the window that starts at `window_ms`. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn statement(ledger: &Ledger, organisation: &str, window_ms: i64) -> Result<Statement, StoreError> {
    let key = |ms: i64| Key::new(INVOICE).text(organisation).number(ms).0;
    let rows = collect(ledger, key(window_ms), &key(window_ms.saturating_add(1)), |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let (_, _) = (parts.text()?, parts.number()?);
        let (list, model, version) = (parts.text()?, parts.text()?, parts.number()?);
        Some(((list, model, u32::try_from(version).ok()?), parts.0.to_vec(), tally.clone()))
    })?;
    let mut statement = Statement::default();
    for ((list, model, price_version), line, tally) in rows {
        if let [meter, tier] = line.as_slice() {
            // A line follows the sums of its model.
            let (Some(model), Some(meter)) = (statement.models.last_mut(), Meter::ALL.get(usize::from(*meter))) else {
                return Err(StoreError::Damaged("a line of an invoice has no model".to_owned()));
            };
            let sum = |index: usize| {
                let sum = tally.sums.get(index).copied().unwrap_or(0);
                i64::try_from(sum).unwrap_or(i64::MAX)
            };
            model.lines.push(InvoiceLine { meter: *meter, tier: *tier, tokens: sum(0), nano: Nano(sum(1)) });
        } else {
            let sums = Sums::read(&tally);
            statement.sums.add(&sums);
            statement.models.push(InvoiceModel { list, model, price_version, sums, lines: Vec::new() });
        }
    }
    Ok(statement)
}

/// A credit note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// When it was given.
    pub at_ms: i64,
    /// The request it is for.
    pub request: EntryId,
    /// Why.
    pub reason: String,
    /// What is given back.
    pub amount: Nano,
}

/// The credit notes that an organisation got in the window that starts at `window_ms`, oldest first. Only what is on the
/// disk.
///
/// # Errors
/// The store's.
pub fn credits(ledger: &Ledger, organisation: &str, window_ms: i64) -> Result<Vec<Credit>, StoreError> {
    let key = |ms: i64| Key::new(CREDITS).text(organisation).number(ms).0;
    let entries = collect(ledger, key(window_ms), &key(window_ms.saturating_add(1)), |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let (_, _) = (parts.text()?, parts.number()?);
        parts.number()
    })?;
    let read = |seq: i64| {
        let entry = ledger.entries(seq.cast_unsigned(), 1)?.pop();
        let note = entry.as_ref().and_then(|entry| Some((entry.at_ms, CreditNote::read(entry)?)));
        let (at_ms, note) = note.ok_or_else(|| StoreError::Damaged(format!("entry {seq} is no credit note")))?;
        Ok(Credit { at_ms, request: EntryId(note.request), reason: note.reason, amount: note.amount })
    };
    entries.into_iter().map(read).collect()
}

/// Starts of the windows in which an organisation has charges or credit notes, oldest first. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn windows(ledger: &Ledger, organisation: &str) -> Result<Vec<i64>, StoreError> {
    let key = |ms: i64| Key::new(INVOICE).text(organisation).number(ms).0;
    let (mut starts, mut from) = (Vec::new(), i64::MIN);
    while let Some(tally) = ledger.tallies(&key(from), &key(i64::MAX), 1)?.pop() {
        let mut parts = Parts(tally.key.get(1..).unwrap_or_default());
        let start = parts.text().and_then(|_| parts.number());
        let start = start.ok_or_else(|| StoreError::Damaged("a tally cannot be read".to_owned()))?;
        starts.push(start);
        from = start.saturating_add(1);
    }
    Ok(starts)
}

/// The first multiple's number at or after `ms`.
fn ceil(ms: i64, step: i64) -> i64 {
    ms.div_euclid(step).saturating_add(i64::from(ms.rem_euclid(step) != 0))
}

/// Reads a range of tallies page by page.
fn collect<T>(
    ledger: &Ledger,
    mut from: Vec<u8>,
    to: &[u8],
    read: impl Fn(&Tally) -> Option<T>,
) -> Result<Vec<T>, StoreError> {
    let mut rows = Vec::new();
    loop {
        let page = ledger.tallies(&from, to, PAGE)?;
        for tally in &page {
            rows.push(read(tally).ok_or_else(|| StoreError::Damaged("a tally cannot be read".to_owned()))?);
        }
        match page.last() {
            Some(last) if page.len() == PAGE as usize => from = [last.key.as_slice(), &[0]].concat(),
            _ => return Ok(rows),
        }
    }
}
