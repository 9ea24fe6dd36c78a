//! Retention by cohort: of the units (users, customers) first seen in a period, which share is seen again in later ones.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::distribution;
use crate::invalid::Invalid;
use crate::ratio::{self, Interval};

/// Most periods of a table.
pub const MAX_PERIODS: u32 = 120;
/// Most entries of activity.
pub const MAX_ACTIVITY: usize = 10_000_000;

/// A cohort at one age.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retained {
    /// Units seen.
    pub units: u32,
    /// Their share of the cohort.
    pub share: f64,
    /// Wilson's score interval (J. Am. Stat. Assoc. 22, 1927), which holds for few units and near 0 and 1 too.
    pub interval: Interval,
}

/// The units first seen in one period.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cohort {
    /// The period, from 0.
    pub period: u32,
    /// How many they are.
    pub units: u32,
    /// By age in periods, from 0 (all of them) to the last period of the table.
    pub ages: Vec<Retained>,
}

/// The table of cohorts that have units, the oldest first. `activity` names units and the periods, 0 to `periods` - 1, in
/// which they were active, in any order, as often as it may be. A unit that was active before period 0 counts as new where it is first seen.
///
/// # Errors
/// Names a period outside the table, too many periods or entries, or a level that cannot be.
pub fn cohorts<U: Ord>(activity: &[(U, u32)], periods: u32, level: f64) -> Result<Vec<Cohort>, Invalid> {
    ratio::check_level(level)?;
    if !(1..=MAX_PERIODS).contains(&periods) {
        return Err(Invalid::new("periods", format!("{periods} cannot be shown"), format!("give 1 to {MAX_PERIODS}")));
    }
    if activity.len() > MAX_ACTIVITY {
        let problem = format!("it has {} entries", activity.len());
        return Err(Invalid::new("activity", problem, format!("give at most {MAX_ACTIVITY}, one per unit and period")));
    }
    let mut seen: BTreeMap<&U, BTreeSet<u32>> = BTreeMap::new();
    for (place, (unit, period)) in activity.iter().enumerate() {
        if *period >= periods {
            let field = format!("activity[{place}].period");
            return Err(Invalid::new(
                field,
                format!("{period} is not in the table"),
                format!("give 0 to {}", periods - 1),
            ));
        }
        seen.entry(unit).or_default().insert(*period);
    }
    let mut counts: BTreeMap<u32, BTreeMap<u32, u32>> = BTreeMap::new();
    for active in seen.values() {
        let Some(first) = active.first() else { continue };
        let ages = counts.entry(*first).or_default();
        for period in active {
            *ages.entry(period - first).or_default() += 1;
        }
    }
    let cohort = |(period, counts): (u32, BTreeMap<u32, u32>)| {
        let at = |age: u32| counts.get(&age).copied().unwrap_or(0);
        let units = at(0);
        let retained = |age| Retained {
            units: at(age),
            share: f64::from(at(age)) / f64::from(units),
            interval: wilson(at(age), units, level),
        };
        Cohort { period, units, ages: (0..periods - period).map(retained).collect() }
    };
    Ok(counts.into_iter().map(cohort).collect())
}

/// Wilson's interval for `hits` of `trials` (at least 1).
fn wilson(hits: u32, trials: u32, level: f64) -> Interval {
    let square = distribution::normal_quantile(0.5 + level / 2.0).powi(2);
    let (count, share) = (f64::from(trials), f64::from(hits) / f64::from(trials));
    let centre = (share + square / (2.0 * count)) / (1.0 + square / count);
    let spread = share * (1.0 - share) / count + square / (4.0 * count * count);
    let Interval { low, high, level } =
        Interval::around(centre, (square * spread).sqrt() / (1.0 + square / count), level);
    // At 0 and all, rounding must not leave the truth out.
    Interval { low: if hits == 0 { 0.0 } else { low }, high: if hits == trials { 1.0 } else { high }, level }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cohorts_by_hand() {
        let activity = [
            ("ann", 0),
            ("ann", 1),
            ("ann", 1),
            ("ann", 3), //
            ("bob", 0), //
            ("eve", 2),
            ("eve", 3),
        ];
        let found = cohorts(&activity, 4, 0.95).unwrap();
        let counts: Vec<(u32, Vec<u32>)> =
            found.iter().map(|cohort| (cohort.period, cohort.ages.iter().map(|age| age.units).collect())).collect();
        assert_eq!(counts, [(0, vec![2, 1, 0, 1]), (2, vec![1, 1])], "nothing is said of ages that have not come");
        assert!((found[0].ages[1].share - 0.5).abs() < 1e-12);
        assert_eq!((found[0].ages[0].interval.high, found[0].ages[2].interval.low), (1.0, 0.0));
    }

    /// Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    #[test]
    fn wilson_agrees_with_published_figures() {
        for (hits, trials, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let found = wilson(hits, trials, 0.95);
            assert!((found.low - low).abs() < 6e-5 && (found.high - high).abs() < 6e-5, "{hits}/{trials}: {found:?}");
        }
    }

    #[test]
    fn bad_input_is_named() {
        let field = |activity: &[(u8, u32)], periods, level| cohorts(activity, periods, level).unwrap_err().field;
        assert_eq!(field(&[(1, 0), (1, 4)], 4, 0.95), "activity[1].period");
        assert_eq!(field(&[], 0, 0.95), "periods");
        assert_eq!(field(&[], MAX_PERIODS + 1, 0.95), "periods");
        assert_eq!(field(&[], 4, 1.0), "level");
        assert!(cohorts::<u8>(&[], 4, 0.95).unwrap().is_empty());
    }
}
