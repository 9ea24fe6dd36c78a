//! Where a change between two periods came from: volume, mix, efficiency, utilisation, the price of inputs, the price asked.
//!
//! What a period costs is, over its classes of work (a model and kind of token, say),
//! `tokens x sum of mix x (busy seconds per token x price of a plant second / utilisation + units per token x unit price)`,
//! and its revenue is `tokens x sum of mix x price asked`. The change is shared out by **Shapley's** value (the mean over all
//! orders in which the factors may change; Shorrocks, J. Econ. Inequal. 11, 2013). It is exact; it takes zeros and losses, where
//! the logarithmic means of LMDI need positive terms; and it is linear, so that the parts of a margin are those of revenue
//! less those of cost.
//!
//! A class that only one period has takes its figures per token from that one, so that all it does counts as mix.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;

use crate::invalid::{self, Invalid};

/// One class of work in one period.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Class {
    /// Its name, the same in both periods.
    pub name: String,
    /// Tokens made or read.
    pub tokens: f64,
    /// Seconds of the plant that it kept busy.
    pub busy_seconds: f64,
    /// What it used beyond time, in a unit with one price: kWh above idle, say.
    pub units: f64,
    /// What was charged for it.
    pub revenue: f64,
}

/// One period.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Period {
    /// Cost that accrues with time: depreciation or rent, operations, idle power.
    pub standing_cost: f64,
    /// Seconds that the plant could have been busy, all machines together.
    pub plant_seconds: f64,
    /// Price of one unit of [`Class::units`].
    pub unit_price: f64,
    /// Its work.
    pub classes: Vec<Class>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ComparedMeasure)]
pub enum Measure {
    /// Cost of the period.
    TotalCost,
    /// Revenue less cost of the period.
    TotalMargin,
    /// Cost per 1M tokens.
    CostPerMillion,
    /// Margin per 1M tokens.
    MarginPerMillion,
}

/// The parts of a change, in the unit of the measure; they add up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Parts {
    /// More or fewer tokens (0 for measures per 1M).
    pub volume: f64,
    /// Another share of classes among the tokens.
    pub mix: f64,
    /// Busy seconds and units per token.
    pub efficiency: f64,
    /// Share of the plant's seconds that were busy.
    pub utilisation: f64,
    /// What a plant second and a unit cost.
    pub input_price: f64,
    /// What was charged per token (0 for measures of cost).
    pub price: f64,
}

/// A change and its parts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What was compared.
    pub measure: Measure,
    /// In the earlier period.
    pub from: f64,
    /// In the later one.
    pub to: f64,
    /// `to - from`.
    pub change: f64,
    /// Where it came from.
    pub parts: Parts,
}

/// Number of factors, in the order of the fields of [`Parts`].
const FACTORS: usize = 6;

/// One class seen in both periods: figures per token, of [earlier, later].
struct Rates {
    mix: [f64; 2],
    seconds: [f64; 2],
    units: [f64; 2],
    revenue: [f64; 2],
}

/// Both periods, factor by factor.
struct Factors {
    tokens: [f64; 2],
    second_price: [f64; 2],
    unit_price: [f64; 2],
    utilisation: [f64; 2],
    classes: Vec<Rates>,
}

/// Where the change of `measure` from `earlier` to `later` came from.
///
/// # Errors
/// Names what cannot be in a period: negative or missing numbers, a class that stands twice, no tokens, no busy second.
pub fn compare(earlier: &Period, later: &Period, measure: Measure) -> Result<Change, Invalid> {
    check(earlier, "earlier")?;
    check(later, "later")?;
    let factors = Factors::of([earlier, later]);
    let value = |set: usize| factors.value(measure, set);
    let all = (1 << FACTORS) - 1;
    let (from, to) = (value(0), value(all));
    let [volume, mix, efficiency, utilisation, input_price, price] = shapley(value);
    let parts = Parts { volume, mix, efficiency, utilisation, input_price, price };
    Ok(Change { measure, from, to, change: to - from, parts })
}

/// Refuses what a period cannot be.
fn check(period: &Period, name: &str) -> Result<(), Invalid> {
    invalid::not_negative(&format!("{name}.standing_cost"), period.standing_cost)?;
    invalid::not_negative(&format!("{name}.unit_price"), period.unit_price)?;
    invalid::positive(&format!("{name}.plant_seconds"), period.plant_seconds)?;
    let mut names = BTreeSet::new();
    for class in &period.classes {
        let at = format!("{name}.classes {}", class.name);
        if !names.insert(&class.name) {
            return Err(Invalid::new(at, "it stands there twice", "add its figures up"));
        }
        let figures = [
            ("tokens", class.tokens),
            ("busy_seconds", class.busy_seconds),
            ("units", class.units),
            ("revenue", class.revenue),
        ];
        for (field, figure) in figures {
            invalid::not_negative(&format!("{at}: {field}"), figure)?;
            if class.tokens == 0.0 && figure > 0.0 {
                let fix = "add it to the class whose tokens it belongs to";
                return Err(Invalid::new(format!("{at}: {field}"), format!("{figure} without any tokens"), fix));
            }
        }
    }
    invalid::positive(&format!("tokens of {name}"), period.classes.iter().map(|class| class.tokens).sum())?;
    let busy = invalid::positive(&format!("busy_seconds of {name}"), busy(period))?;
    if busy > period.plant_seconds * (1.0 + 1e-9) {
        let problem = format!("{busy} are more than the {} there were", period.plant_seconds);
        return Err(Invalid::new(format!("busy_seconds of {name}"), problem, "check plant_seconds, or the classes"));
    }
    Ok(())
}

/// Busy seconds of all classes.
fn busy(period: &Period) -> f64 {
    period.classes.iter().map(|class| class.busy_seconds).sum()
}

impl Factors {
    fn of(periods: [&Period; 2]) -> Self {
        let tokens = periods.map(|period| period.classes.iter().map(|class| class.tokens).sum::<f64>());
        let names: BTreeSet<&str> =
            periods.iter().flat_map(|period| &period.classes).map(|class| class.name.as_str()).collect();
        let rates = |name: &str| {
            let found =
                periods.map(|period| period.classes.iter().find(|class| class.name == name && class.tokens > 0.0));
            let [earlier, later] = [found[0].or(found[1])?, found[1].or(found[0])?];
            let per_token =
                |figure: fn(&Class) -> f64| [figure(earlier) / earlier.tokens, figure(later) / later.tokens];
            Some(Rates {
                mix: [0, 1].map(|period| found[period].map_or(0.0, |class| class.tokens / tokens[period])),
                seconds: per_token(|class| class.busy_seconds),
                units: per_token(|class| class.units),
                revenue: per_token(|class| class.revenue),
            })
        };
        Self {
            tokens,
            second_price: periods.map(|period| period.standing_cost / period.plant_seconds),
            unit_price: periods.map(|period| period.unit_price),
            utilisation: periods.map(|period| busy(period) / period.plant_seconds),
            classes: names.into_iter().filter_map(rates).collect(),
        }
    }

    /// The measure, with the factors whose bits are set in `set` as they were later, the others as they were earlier.
    fn value(&self, measure: Measure, set: usize) -> f64 {
        let [volume, mix, efficiency, utilisation, input_price, price] =
            std::array::from_fn(|factor| (set >> factor) & 1);
        let second = self.second_price[input_price] / self.utilisation[utilisation];
        let cost =
            |class: &Rates| class.seconds[efficiency] * second + class.units[efficiency] * self.unit_price[input_price];
        let each = |class: &Rates| match measure {
            Measure::TotalCost | Measure::CostPerMillion => cost(class),
            Measure::TotalMargin | Measure::MarginPerMillion => class.revenue[price] - cost(class),
        };
        let tokens = match measure {
            Measure::TotalCost | Measure::TotalMargin => self.tokens[volume],
            Measure::CostPerMillion | Measure::MarginPerMillion => 1e6,
        };
        tokens * self.classes.iter().map(|class| class.mix[mix] * each(class)).sum::<f64>()
    }
}

/// Each factor's mean effect over all orders: over the sets without it, weighted by |set|! (n - |set| - 1)! / n!.
fn shapley(value: impl Fn(usize) -> f64) -> [f64; FACTORS] {
    let factorial = |n: usize| (1..=n).product::<usize>() as f64;
    let values: Vec<f64> = (0..1 << FACTORS).map(value).collect();
    std::array::from_fn(|factor| {
        let without = (0..values.len()).filter(|set| (set >> factor) & 1 == 0);
        let effect = |set: usize| {
            let size = set.count_ones() as usize;
            let weight = factorial(size) * factorial(FACTORS - size - 1) / factorial(FACTORS);
            weight * (values[set | 1 << factor] - values[set])
        };
        without.map(effect).sum()
    })
}

#[cfg(test)]
mod tests;
