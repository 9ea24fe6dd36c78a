//! Value, cost and tokens of a period, summed up by what is told apart, each sum still in its groups of clusters.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ledger::StoreError;

use super::keys::{Key, Parts};
use super::users::{MAX_END_USER_ROWS, monday, week_of};
use super::value::{BUCKETS, KindSums, ValueRow, ValueRows, ValueSums, day_of, kind_rows, maturity_days, value_rows};
use super::{DAY_MS, Tallies};
use crate::books::outcome_detail::Subject;
use crate::outcome::MATURITY_DAYS;
use crate::standard::StandardWeights;
use crate::window::first_of_month;

/// Most rows of an answer: each has [`BUCKETS`] sums.
pub const MAX_TFP_ROWS: usize = 1_000;

/// By which time rows are told apart, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TfpPeriod {
    /// Not at all.
    #[default]
    Whole,
    /// By day.
    Day,
    /// By week, from Monday.
    Week,
    /// By month of the calendar.
    Month,
}

impl TfpPeriod {
    /// The first day of the period that a day lies in; 0 for the whole.
    fn first_day(self, day: i64) -> i64 {
        match self {
            Self::Whole => 0,
            Self::Day => day,
            Self::Week => monday(week_of(day)),
            Self::Month => first_of_month(day),
        }
    }
}

/// What TFP tells apart; what it does not is summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TfpBy {
    /// By customer.
    pub organisation: bool,
    /// By the team that a project belongs to now.
    pub team: bool,
    /// By project.
    pub project: bool,
    /// By end user, of the requests that name one; not together with task, version of prompt or tag.
    pub end_user: bool,
    /// By model.
    pub model: bool,
    /// By `metadata.prompt_version`.
    pub prompt_version: bool,
    /// By `metadata.task`.
    pub task: bool,
    /// By `metadata.tag`.
    pub tag: bool,
    /// By time.
    pub period: TfpPeriod,
}

/// Gives the prices by which an organisation's tokens of a model are weighed.
pub type Weigh<'a> = &'a dyn Fn(&str, &str) -> Option<StandardWeights>;

/// What is asked.
pub struct TfpAsk<'a> {
    /// Whose requests.
    pub organisations: &'a [String],
    /// The days that begin within it, in milliseconds.
    pub span_ms: (i64, i64),
    /// What is told apart.
    pub by: TfpBy,
    /// The present.
    pub now_ms: i64,
    /// How many rows end users get of their own; the others are summed up in one.
    pub top: usize,
    /// The team of each project that has one.
    pub teams: &'a HashMap<String, String>,
    /// If standard tokens are asked for.
    pub weigh: Option<Weigh<'a>>,
}

/// One group of clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TfpGroup {
    /// Its sums.
    pub sums: ValueSums,
    /// Its standard tokens in thousandths, if they are asked for.
    pub standard_milli: i64,
}

/// What tells a row apart: first day, team, subject, in bytes whose order is theirs.
type Place = Vec<u8>;

/// One row: what is not told apart is empty, the day 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TfpRow {
    /// The first day of its period, from the epoch.
    pub day: i64,
    /// The team.
    pub team: String,
    /// By what it is told apart.
    pub subject: Subject,
    /// How many end users it sums up in place of rows of their own; 0: it is a row of its own.
    pub others: u64,
    /// Each group of clusters.
    pub groups: Vec<TfpGroup>,
    /// Requests whose outcomes have had the time to come.
    pub matured: i64,
    /// Outcomes by kind; none by end user.
    pub kinds: BTreeMap<String, KindSums>,
    /// Whether tokens in it have no price to be weighed by.
    pub unpriced: bool,
}

impl TfpRow {
    fn new(others: u64) -> Self {
        Self { others, groups: vec![TfpGroup::default(); BUCKETS], ..Self::default() }
    }

    /// `None`: it is no place.
    fn at(place: &[u8]) -> Option<Self> {
        let mut parts = Parts(place);
        let (day, team) = (parts.number()?, parts.text()?);
        let mut row = Self { day, team, ..Self::new(0) };
        texts(&mut row.subject).into_iter().try_for_each(|text| parts.text_into(text))?;
        Some(row)
    }

    /// Of all groups.
    #[must_use]
    pub fn sums(&self) -> ValueSums {
        self.groups.iter().fold(ValueSums::default(), |mut sums, group| {
            sums.add(&group.sums);
            sums
        })
    }

    /// Standard tokens of all groups, in thousandths; `None`: some have no price.
    #[must_use]
    pub fn standard_milli(&self) -> Option<i64> {
        let sum = self.groups.iter().fold(0_i64, |sum, group| sum.saturating_add(group.standard_milli));
        (!self.unpriced).then_some(sum)
    }
}

/// The rows, and what standard tokens in them stand on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TfpTable {
    /// In the order of period, team and what else is told apart; the row of the other end users is the last.
    pub rows: Vec<TfpRow>,
    /// The weights that were used.
    pub weights: Vec<StandardWeights>,
    /// Models without a price to weigh by.
    pub without_price: BTreeSet<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TfpError {
    /// More than [`MAX_TFP_ROWS`].
    #[error("this would be more than {MAX_TFP_ROWS} rows")]
    Rows,
    /// More than [`MAX_END_USER_ROWS`].
    #[error("end users would be told apart in more than {MAX_END_USER_ROWS} rows")]
    EndUsers,
    /// The store's reason.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The rows of what is asked. Only what is on the disk.
///
/// A request is matured once its day is longer ago than the longest time in which outcomes come of those kinds that requests
/// of the same project and task (by end user: of the same project) have got so far; [`MATURITY_DAYS`] where they have got none.
///
/// # Errors
/// There is more than an answer holds; the store's.
pub fn tfp(ledger: &dyn Tallies, ask: &TfpAsk<'_>) -> Result<TfpTable, TfpError> {
    let chosen = if ask.by.end_user { Some(top_end_users(ledger, ask)?) } else { None };
    let mut table =
        Table { ask, chosen, rows: BTreeMap::new(), place: Place::new(), rest: None, weights: HashMap::new() };
    for organisation in ask.organisations {
        table.take(ledger, organisation)?;
    }
    Ok(table.done())
}

/// The rows of end users with most value, or with most tokens where that is alike, and how many end users the others are of.
struct Chosen {
    places: HashSet<Place>,
    others: u64,
}

fn top_end_users(ledger: &dyn Tallies, ask: &TfpAsk<'_>) -> Result<Chosen, TfpError> {
    let (mut totals, mut place) = (HashMap::<Place, (i64, i64)>::new(), Place::new());
    for organisation in ask.organisations {
        value_rows(ledger, ValueRows::Users, (organisation, ask.days()), |row| {
            ask.place(row.day, &row.subject, &mut place);
            if !totals.contains_key(&place) {
                totals.insert(place.clone(), (0, 0));
            }
            if let Some((value, tokens)) = totals.get_mut(&place) {
                for (_, sums) in &row.groups {
                    *value = value.saturating_add(sums.total_value().0);
                    *tokens = tokens.saturating_add(sums.tokens());
                }
            }
            Some(totals.len() <= MAX_END_USER_ROWS)
        })?;
    }
    if totals.len() > MAX_END_USER_ROWS {
        return Err(TfpError::EndUsers);
    }
    let mut ranked: Vec<((i64, i64), Place)> = totals.into_iter().map(|(place, sums)| (sums, place)).collect();
    ranked.sort_unstable_by(|(sums, place), (other, other_place)| other.cmp(sums).then_with(|| place.cmp(other_place)));
    let others = ranked.split_off(ask.top.min(ranked.len()));
    // One end user may have several: of several days, say.
    let others = others.iter().filter_map(|(_, place)| TfpRow::at(place));
    let others = others.map(|row| (row.subject.organisation, row.subject.user)).collect::<HashSet<_>>().len() as u64;
    Ok(Chosen { places: ranked.into_iter().map(|(_, place)| place).collect(), others })
}

impl TfpAsk<'_> {
    fn days(&self) -> (i64, i64) {
        let (from_ms, to_ms) = self.span_ms;
        (day_of(from_ms), day_of(to_ms.saturating_add(DAY_MS - 1)))
    }

    /// The fewest rows that tell enough apart.
    fn rows(&self) -> ValueRows {
        let by = self.by;
        if by.end_user {
            ValueRows::Users
        } else if by.model || by.prompt_version || by.tag || self.weigh.is_some() {
            ValueRows::Subjects
        } else {
            ValueRows::Totals
        }
    }

    /// Writes the place of what is told apart, in place of what `place` was.
    fn place(&self, day: i64, subject: &Subject, place: &mut Place) {
        let by = self.by;
        let Subject { organisation, project, model, task, prompt_version, tag, user } = subject;
        let team = if by.team { self.teams.get(project).map_or("", String::as_str) } else { "" };
        let mut key = Key(std::mem::take(place));
        key.0.clear();
        key = key.number(by.period.first_day(day)).text(team);
        let told = [
            // Two organisations' end users of one name are two.
            (by.organisation || by.end_user, organisation),
            (by.project, project),
            (by.model, model),
            (by.task, task),
            (by.prompt_version, prompt_version),
            (by.tag, tag),
            (by.end_user, user),
        ];
        for (told, text) in told {
            key = key.text(if told { text } else { "" });
        }
        *place = key.0;
    }
}

/// In the order of [`TfpAsk::place`], which is that of rows.
fn texts(subject: &mut Subject) -> [&mut String; 7] {
    let Subject { organisation, project, model, task, prompt_version, tag, user } = subject;
    [organisation, project, model, task, prompt_version, tag, user]
}

/// The rows as they grow.
struct Table<'a> {
    ask: &'a TfpAsk<'a>,
    chosen: Option<Chosen>,
    rows: BTreeMap<Place, TfpRow>,
    /// Where the last one stood.
    place: Place,
    /// The end users that are not chosen.
    rest: Option<TfpRow>,
    /// By organisation and model.
    weights: HashMap<(String, String), Option<StandardWeights>>,
}

impl Table<'_> {
    fn take(&mut self, ledger: &dyn Tallies, organisation: &str) -> Result<(), TfpError> {
        let (ask, today) = (self.ask, day_of(self.ask.now_ms));
        let mut maturity = maturity_days(ledger, organisation)?;
        if ask.by.end_user {
            maturity = by_project(maturity);
        }
        // Of the row before: many are alike in it.
        let mut known: Option<((String, String), i64)> = None;
        value_rows(ledger, ask.rows(), (organisation, ask.days()), |row| {
            let Subject { project, task, .. } = &row.subject;
            let same = known.as_ref().filter(|((of, for_what), _)| of == project && for_what == task);
            let days = same.map(|(_, days)| *days).unwrap_or_else(|| {
                let place = (project.clone(), task.clone());
                let days = maturity.get(&place).copied().unwrap_or_else(|| MATURITY_DAYS.into());
                known = Some((place, days));
                days
            });
            self.add(row, row.day < today.saturating_sub(days))
        })?;
        if self.rows.len() > MAX_TFP_ROWS {
            return Err(TfpError::Rows);
        }
        if !ask.by.end_user {
            kind_rows(ledger, organisation, ask.days(), |day, subject, kind, sums| {
                ask.place(day, subject, &mut self.place);
                if let Some(row) = self.rows.get_mut(&self.place) {
                    row.kinds.entry(kind).or_default().add(&sums);
                }
            })?;
        }
        Ok(())
    }

    /// `false`: there are too many rows.
    fn add(&mut self, row: &ValueRow, matured: bool) -> Option<bool> {
        let weights = self.ask.weigh.map(|weigh| weights_of(&mut self.weights, weigh, &row.subject));
        self.ask.place(row.day, &row.subject, &mut self.place);
        let others = self.chosen.as_ref().filter(|chosen| !chosen.places.contains(&self.place));
        let sum = if let Some(chosen) = others {
            self.rest.get_or_insert_with(|| TfpRow::new(chosen.others))
        } else {
            if !self.rows.contains_key(&self.place) {
                self.rows.insert(self.place.clone(), TfpRow::at(&self.place)?);
            }
            self.rows.get_mut(&self.place)?
        };
        for (bucket, sums) in &row.groups {
            if let Some(group) = sum.groups.get_mut(usize::from(*bucket)) {
                group.sums.add(sums);
                let milli = weights.flatten().map_or(0, |weights| weights.milli(sums));
                group.standard_milli = group.standard_milli.saturating_add(milli);
            }
            // Outcomes without tokens of their own need no price.
            sum.unpriced |= weights == Some(None) && sums.tokens() != 0;
            if matured {
                sum.matured = sum.matured.saturating_add(sums.requests);
            }
        }
        Some(self.rows.len() <= MAX_TFP_ROWS)
    }

    fn done(self) -> TfpTable {
        let (mut weights, mut without_price) = (Vec::new(), BTreeSet::new());
        for ((_, model), found) in self.weights {
            match found {
                Some(found) => weights.push(found),
                None => {
                    without_price.insert(model);
                }
            }
        }
        weights.sort_unstable_by(|a, b| (&a.list, &a.model).cmp(&(&b.list, &b.model)));
        weights.dedup();
        TfpTable { rows: self.rows.into_values().chain(self.rest).collect(), weights, without_price }
    }
}

fn weights_of<'w>(
    known: &'w mut HashMap<(String, String), Option<StandardWeights>>,
    weigh: Weigh<'_>,
    subject: &Subject,
) -> Option<&'w StandardWeights> {
    let Subject { organisation, model, .. } = subject;
    known.entry((organisation.clone(), model.clone())).or_insert_with(|| weigh(organisation, model)).as_ref()
}

/// The longest of each project's tasks, for rows that know no tasks.
fn by_project(maturity: HashMap<(String, String), i64>) -> HashMap<(String, String), i64> {
    let mut longest = HashMap::new();
    for ((project, _), days) in maturity {
        let known = longest.entry((project, String::new())).or_insert(days);
        *known = days.max(*known);
    }
    longest
}
