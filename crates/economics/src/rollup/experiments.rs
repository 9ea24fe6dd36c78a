//! What each unit of an experiment used and was worth. A unit is one row, of one arm, for good.

use ledger::{Add, Ledger, StoreError};
use serde::Serialize;

use super::column;
use super::keys::{EXPERIMENTS, Key, Parts, visit};
use crate::books::detail::{Assigned, Joined, Member};
use crate::books::outcome_detail::Counted;
use crate::outcome::Valuation;
use crate::{Nano, Quantities};

/// Sums of a unit, of what counts: see [`crate::experiment::Experiment::window_days`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnitSums {
    /// 1, once it is assigned.
    pub units: i64,
    /// Until when it counts; `i64::MAX`: without an end.
    pub until_ms: i64,
    /// Charged requests.
    pub requests: i64,
    /// Prompt tokens.
    pub input: i64,
    /// Answer tokens.
    pub output: i64,
    /// Value without proxies.
    pub value: Nano,
    /// Value of proxies.
    pub proxy: Nano,
    /// Thousandths of outcomes, feedback not counted.
    pub outcomes_milli: i64,
    /// Those of them that were accepted.
    pub accepted_milli: i64,
}

impl UnitSums {
    /// All tokens.
    #[must_use]
    pub fn tokens(&self) -> i64 {
        self.input.saturating_add(self.output)
    }

    fn columns(&self) -> [i64; 9] {
        let Self { units, until_ms, requests, input, output, value, proxy, outcomes_milli, accepted_milli } = *self;
        [units, until_ms, requests, input, output, value.0, proxy.0, outcomes_milli, accepted_milli]
    }

    fn from_columns(at: impl Fn(usize) -> i64) -> Self {
        Self {
            units: at(0),
            until_ms: at(1),
            requests: at(2),
            input: at(3),
            output: at(4),
            value: Nano(at(5)),
            proxy: Nano(at(6)),
            outcomes_milli: at(7),
            accepted_milli: at(8),
        }
    }

    /// Adds `other` to it; of both the later end.
    pub fn add(&mut self, other: &Self) {
        let (mine, theirs) = (self.columns(), other.columns());
        let until_ms = self.until_ms.max(other.until_ms);
        *self = Self { until_ms, ..Self::from_columns(|place| mine[place].saturating_add(theirs[place])) };
    }
}

/// One unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitRow {
    /// The place of its arm.
    pub arm: usize,
    /// The version of the experiment under whose weights it was assigned.
    pub stretch: u64,
    /// Its name.
    pub unit: String,
    /// Its sums.
    pub sums: UnitSums,
}

fn key(member: &Member) -> Vec<u8> {
    let Joined { experiment, arm, stretch, .. } = &member.joined;
    let key = Key::new(EXPERIMENTS).text(experiment).number((*arm).into());
    key.number(i64::try_from(*stretch).unwrap_or(i64::MAX)).text(&member.unit).0
}

/// A unit comes to its arm: once in all.
pub(super) fn tally_assigned(assigned: &Assigned, add: &mut Add<'_>) {
    let sums = UnitSums { units: 1, until_ms: assigned.member.joined.until_ms, ..UnitSums::default() };
    add(&key(&assigned.member), 0, &sums.columns());
}

/// Adds a charged request to its unit.
pub(super) fn tally_request(member: &Member, quantities: &Quantities, add: &mut Add<'_>) {
    let whole = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    let (input, output) = (whole(quantities.input()), whole(quantities.output()));
    add(&key(member), 0, &UnitSums { requests: 1, input, output, ..UnitSums::default() }.columns());
}

/// Adds a part of an outcome to its unit, or takes it back.
pub(super) fn tally_value(
    member: &Member,
    counted: &Counted,
    (sign, weight, value): (i64, u16, Nano),
    add: &mut Add<'_>,
) {
    let signed = Nano(sign * value.0);
    let is_proxy = counted.valuation == Valuation::Proxy;
    let outcomes_milli = sign * i64::from(weight) * i64::from(counted.unit);
    let sums = UnitSums {
        value: if is_proxy { Nano::ZERO } else { signed },
        proxy: if is_proxy { signed } else { Nano::ZERO },
        outcomes_milli,
        accepted_milli: outcomes_milli * i64::from(counted.accepted),
        ..UnitSums::default()
    };
    add(&key(member), 0, &sums.columns());
}

/// Gives `each` the units of an experiment, by arm, weights and name, until it gives `false`. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn experiment_units(
    ledger: &Ledger,
    experiment: &str,
    mut each: impl FnMut(UnitRow) -> bool,
) -> Result<(), StoreError> {
    let (from, to) = Key::new(EXPERIMENTS).text(experiment).range();
    visit(ledger, &from, &to, |tally| {
        let mut parts = Parts(tally.key.get(1..)?);
        let _experiment = parts.text()?;
        let (arm, stretch) = (parts.number()?.try_into().ok()?, parts.number()?.try_into().ok()?);
        let unit = parts.text()?;
        let sums = UnitSums::from_columns(|place| column(tally, place));
        Some(each(UnitRow { arm, stretch, unit, sums }))
    })
}
