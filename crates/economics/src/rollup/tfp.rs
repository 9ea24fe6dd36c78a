//! Value and tokens of a period, summed up by what is told apart, each sum still in its groups of clusters.

use std::collections::BTreeMap;

use ledger::{Ledger, StoreError};

use super::DAY_MS;
use super::value::{BUCKETS, ValueRow, ValueSums, day_of, maturity_days, value_rows};
use crate::books::outcome_detail::Subject;
use crate::outcome::MATURITY_DAYS;

/// Most rows of an answer: each has [`BUCKETS`] sums.
pub const MAX_TFP_ROWS: usize = 1_000;

/// What TFP tells apart; what it does not is summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TfpBy {
    /// By customer.
    pub organisation: bool,
    /// By project.
    pub project: bool,
    /// By model.
    pub model: bool,
    /// By `metadata.prompt_version`.
    pub prompt_version: bool,
    /// By `metadata.task`.
    pub task: bool,
    /// By `metadata.tag`.
    pub tag: bool,
    /// By day, UTC.
    pub day: bool,
}

impl TfpBy {
    fn of(self, row: &ValueRow) -> (i64, Subject) {
        let kept = |told: bool, text: &String| if told { text.clone() } else { String::new() };
        let Subject { organisation, project, model, task, prompt_version, tag } = &row.subject;
        let subject = Subject {
            organisation: kept(self.organisation, organisation),
            project: kept(self.project, project),
            model: kept(self.model, model),
            task: kept(self.task, task),
            prompt_version: kept(self.prompt_version, prompt_version),
            tag: kept(self.tag, tag),
        };
        (if self.day { row.day } else { 0 }, subject)
    }
}

/// One row: what is not told apart is empty, the day 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TfpRow {
    /// From the epoch.
    pub day: i64,
    /// By what it is told apart.
    pub subject: Subject,
    /// The sums of each group of clusters.
    pub groups: Vec<ValueSums>,
    /// Requests whose outcomes have had the time to come.
    pub matured: i64,
}

impl TfpRow {
    /// Of all groups.
    #[must_use]
    pub fn sums(&self) -> ValueSums {
        self.groups.iter().fold(ValueSums::default(), |mut sums, group| {
            sums.add(group);
            sums
        })
    }
}

/// The rows of the organisations' days that begin within `from_ms..to_ms`, by what `by` tells apart, in its order. `None`:
/// more than [`MAX_TFP_ROWS`]. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn tfp(
    ledger: &Ledger,
    organisations: &[String],
    (from_ms, to_ms): (i64, i64),
    (by, now_ms): (TfpBy, i64),
) -> Result<Option<Vec<TfpRow>>, StoreError> {
    let mut rows = BTreeMap::<_, (Vec<ValueSums>, i64)>::new();
    let days = (day_of(from_ms), day_of(to_ms.saturating_add(DAY_MS - 1)));
    for organisation in organisations {
        let maturity = maturity_days(ledger, organisation, "")?.unwrap_or_else(|| MATURITY_DAYS.into());
        // Of the days before it all outcomes have had the time to come.
        let immature = day_of(now_ms).saturating_sub(maturity);
        value_rows(ledger, organisation, days, |row| {
            let (groups, matured) = rows.entry(by.of(&row)).or_insert_with(|| (vec![ValueSums::default(); BUCKETS], 0));
            if let Some(group) = groups.get_mut(usize::from(row.bucket)) {
                group.add(&row.sums);
            }
            if row.day < immature {
                *matured += row.sums.requests;
            }
            rows.len() <= MAX_TFP_ROWS
        })?;
    }
    if rows.len() > MAX_TFP_ROWS {
        return Ok(None);
    }
    let row = |((day, subject), (groups, matured))| TfpRow { day, subject, groups, matured };
    Ok(Some(rows.into_iter().map(row).collect()))
}
