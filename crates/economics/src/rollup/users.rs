//! Keys of tokens, cost and value by end user, and the weeks in which projects and their end users asked.

use std::collections::HashMap;

use ledger::StoreError;

use super::Tallies;
use super::keys::{Key, Parts, USER_VALUE, WEEKS, visit};
use crate::books::outcome_detail::Subject;

/// Most rows of end users that one answer looks at.
pub const MAX_END_USER_ROWS: usize = 500_000;
/// Most weeks of units that one answer looks at.
pub const MAX_ACTIVITY: usize = 2_000_000;

const DAYS: i64 = 7;
/// The epoch was a Thursday: the Monday of its week is 3 days before it.
const MONDAY: i64 = 3;

/// The number of the week, from Monday (UTC), of a day from the epoch.
#[must_use]
pub fn week_of(day: i64) -> i64 {
    day.saturating_add(MONDAY).div_euclid(DAYS)
}

/// The first day of a week, from the epoch.
pub(super) fn monday(week: i64) -> i64 {
    week.saturating_mul(DAYS).saturating_sub(MONDAY)
}

pub(super) fn value_key(subject: &Subject, day: i64) -> Vec<u8> {
    let Subject { organisation, project, model, user, .. } = subject;
    Key::new(USER_VALUE).text(organisation).number(day).text(project).text(user).text(model).0
}

pub(super) fn week_key(subject: &Subject, day: i64) -> Vec<u8> {
    let Subject { organisation, project, user, .. } = subject;
    Key::new(WEEKS).text(organisation).number(week_of(day)).text(project).text(user).0
}

/// Whose return is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// End users of organisations.
    EndUser,
    /// Projects.
    Project,
}

/// In which weeks units were active.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Units by number, and weeks.
    pub weeks: Vec<(u32, i64)>,
    /// How many units there are.
    pub units: u32,
}

/// The weeks before the week `end` in which units of the organisations were active, from the beginning of the books on, so
/// that a unit's first week is its first. `None`: more than [`MAX_ACTIVITY`]. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn activity(
    ledger: &dyn Tallies,
    organisations: &[String],
    end: i64,
    unit: Unit,
) -> Result<Option<Activity>, StoreError> {
    let (mut found, mut looked_at) = (Activity::default(), 0_usize);
    for organisation in organisations {
        let mut numbers = HashMap::<String, u32>::new();
        let key = |week: i64| Key::new(WEEKS).text(organisation).number(week).0;
        visit(ledger, &key(i64::MIN), &key(end), |tally| {
            let mut parts = Parts(tally.key.get(1..)?);
            let (_, week, project, user) = (parts.text()?, parts.number()?, parts.text()?, parts.text()?);
            looked_at = looked_at.saturating_add(1);
            let name = match unit {
                Unit::EndUser => user,
                Unit::Project => project,
            };
            if !name.is_empty() {
                let number = *numbers.entry(name).or_insert_with(|| {
                    let number = found.units;
                    found.units = number.saturating_add(1);
                    number
                });
                // One after the other where a project has many end users.
                if found.weeks.last() != Some(&(number, week)) {
                    found.weeks.push((number, week));
                }
            }
            Some(looked_at <= MAX_ACTIVITY)
        })?;
        if looked_at > MAX_ACTIVITY {
            return Ok(None);
        }
    }
    Ok(Some(found))
}
