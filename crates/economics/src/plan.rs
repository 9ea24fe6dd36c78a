//! Plans: what a customer gets for a window, and where its limits are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::Limits;
use crate::price::STANDARD_LIST;
use crate::window::{Calendar, Period};
use crate::{Invalid, Meter, Nano, PriceBook, Quantities};

/// Pool units in one token of weight 1.
pub const POOL_UNITS_PER_TOKEN: i64 = 1_000;
/// Heaviest weight, in thousandths.
const MAX_WEIGHT: u32 = 1_000_000;
/// Largest pool, in tokens.
const MAX_POOL_TOKENS: u64 = 1 << 50;

fn one() -> u32 {
    1_000
}

/// What a token of each meter takes from the pool, in thousandths; 0 takes nothing and is never overage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PoolWeights)]
pub struct Weights {
    /// Prompt tokens computed.
    #[serde(default = "one")]
    #[schema(required = true)]
    pub input: u32,
    /// Prompt tokens from the prefix cache.
    #[serde(default = "one")]
    #[schema(required = true)]
    pub cached_input: u32,
    /// Answer tokens.
    #[serde(default = "one")]
    #[schema(required = true)]
    pub output: u32,
    /// Reasoning tokens.
    #[serde(default = "one")]
    #[schema(required = true)]
    pub reasoning: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { input: one(), cached_input: one(), output: one(), reasoning: one() }
    }
}

impl Weights {
    /// Thousandths for one meter.
    #[must_use]
    pub fn get(&self, meter: Meter) -> u32 {
        match meter {
            Meter::InUncached => self.input,
            Meter::InCached => self.cached_input,
            Meter::OutVisible => self.output,
            Meter::OutReasoning => self.reasoning,
        }
    }

    /// The part of `quantities` that `units` pool units cover, and the units it takes. Whole tokens only, in the order
    /// of [`Meter::ALL`]; at the first token that is not covered the pool ends (meters of weight 0 stay covered).
    #[must_use]
    pub fn cover(&self, quantities: &Quantities, units: i64) -> (Quantities, i64) {
        let (mut left, mut taken, mut covered) = (u64::try_from(units).unwrap_or(0), 0_u64, Quantities::default());
        for meter in Meter::ALL {
            let (tokens, weight) = (quantities.get(meter), u64::from(self.get(meter)));
            let here = left.checked_div(weight).map_or(tokens, |most| most.min(tokens));
            *covered.get_mut(meter) = here;
            taken += here * weight;
            left = if here < tokens { 0 } else { left - here * weight };
        }
        (covered, i64::try_from(taken).unwrap_or(i64::MAX))
    }
}

/// What happens when the pool is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PoolEnd {
    /// The rest is charged at the price list.
    #[default]
    Overage,
    /// The answer stops at the last covered token; further requests are refused.
    Stop,
}

/// Tokens included per window, shared by input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TokenPool)]
pub struct Pool {
    /// How many tokens of weight 1.
    pub tokens: u64,
    /// What each meter takes.
    #[serde(default)]
    #[schema(required = true)]
    pub weights: Weights,
    /// What happens at its border.
    #[serde(default)]
    #[schema(required = true)]
    pub then: PoolEnd,
}

impl Pool {
    /// Its size in pool units.
    #[must_use]
    pub fn units(&self) -> i64 {
        i64::try_from(self.tokens).unwrap_or(i64::MAX).saturating_mul(POOL_UNITS_PER_TOKEN)
    }
}

/// A bound on money per window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The bound.
    pub amount: Nano,
    /// How often it begins anew, by the calendar of the plan.
    #[serde(default)]
    #[schema(required = true)]
    pub period: Period,
    /// Only watch: alerts are raised, nothing is refused.
    #[serde(default)]
    #[schema(required = true)]
    pub soft: bool,
    /// Percent of `amount` at which an alert is raised.
    #[serde(default)]
    #[schema(required = true)]
    pub alert_percent: Vec<u16>,
}

impl Budget {
    /// Refuses negative amounts and absurd thresholds.
    ///
    /// # Errors
    /// Names the field and the fix.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.amount < Nano::ZERO {
            return Err(Invalid::new("amount", format!("{} is negative", self.amount), "use 0 to refuse everything"));
        }
        if self.alert_percent.len() > 16 || self.alert_percent.iter().any(|percent| !(1..=1000).contains(percent)) {
            return Err(Invalid::new(
                "alert_percent",
                "more than 16 or not within 1 to 1000",
                "use e.g. [50, 80, 100]",
            ));
        }
        Ok(())
    }

    /// The thresholds (in percent) that `spent` has reached, ascending; none while nothing is spent.
    #[must_use]
    pub fn reached(&self, spent: Nano) -> Vec<u16> {
        let is_reached = |percent: &u16| i128::from(spent.0) * 100 >= i128::from(self.amount.0) * i128::from(*percent);
        let mut reached: Vec<u16> = self.alert_percent.iter().copied().filter(is_reached).collect();
        reached.retain(|_| spent > Nano::ZERO);
        reached.sort_unstable();
        reached.dedup();
        reached
    }
}

/// What customers of a plan get and pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Its name; organisations refer to it.
    pub id: String,
    /// When its windows begin.
    #[serde(default)]
    #[schema(required = true)]
    pub calendar: Calendar,
    /// Which prices apply.
    #[serde(default = "standard_list")]
    #[schema(required = true)]
    pub price_list: String,
    /// Tokens included per month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pool: Option<Pool>,
    /// Taken off the list price, in thousandths.
    #[serde(default)]
    #[schema(required = true)]
    pub discount_permille: u16,
    /// Limits of the whole organisation.
    #[serde(default)]
    #[schema(required = true)]
    pub limits: Limits,
    /// Only these models (adapters by their full names); all with a price when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub models: Option<Vec<String>>,
}

fn standard_list() -> String {
    STANDARD_LIST.to_owned()
}

impl Plan {
    /// A plan without pool, discount or limits on the standard prices.
    #[must_use]
    pub fn plain(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            calendar: Calendar::default(),
            price_list: standard_list(),
            pool: None,
            discount_permille: 0,
            limits: Limits::default(),
            models: None,
        }
    }

    /// Refuses what cannot work, also references to prices that do not exist.
    ///
    /// # Errors
    /// Names the field and the fix.
    pub fn check(&self, prices: &PriceBook) -> Result<(), Invalid> {
        self.calendar.check().map_err(|error| error.within("calendar"))?;
        self.limits.check().map_err(|error| error.within("limits"))?;
        if self.discount_permille > 1_000 {
            let problem = format!("{} thousandths are more than the price", self.discount_permille);
            return Err(Invalid::new("discount_permille", problem, "use 0 to 1000"));
        }
        if let Some(pool) = &self.pool {
            if pool.tokens > MAX_POOL_TOKENS {
                return Err(Invalid::new("pool.tokens", format!("more than {MAX_POOL_TOKENS}"), "leave out the pool"));
            }
            if Meter::ALL.into_iter().any(|meter| pool.weights.get(meter) > MAX_WEIGHT) {
                let problem = format!("above {MAX_WEIGHT} thousandths");
                return Err(Invalid::new("pool.weights", problem, "1000 counts a token as one"));
            }
        }
        if let Some(model) = self.models.iter().flatten().find(|model| !self.is_priced(model, prices)) {
            let problem = format!("`{model}` has no price in list `{}`", self.price_list);
            return Err(Invalid::new("models", problem, "add its price first"));
        }
        if !prices.all().any(|(_, spec)| spec.list == self.price_list) {
            let problem = format!("there is no price list `{}`", self.price_list);
            return Err(Invalid::new("price_list", problem, "add prices to it first"));
        }
        Ok(())
    }

    /// Whether the model has a price here. An adapter, `BASE:ADAPTER`, pays its base's where it has none of its own.
    fn is_priced(&self, model: &str, prices: &PriceBook) -> bool {
        let priced = |model: &str| prices.versions(&self.price_list, model).next().is_some();
        priced(model) || model.rsplit_once(':').is_some_and(|(base, _)| priced(base))
    }

    /// Whether customers of the plan may ask the model.
    pub(crate) fn offers(&self, model: &str, prices: &PriceBook) -> bool {
        self.names(model) && self.is_priced(model, prices)
    }

    /// Whether the plan names the model, or leaves all open.
    pub(crate) fn names(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|known| known == model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rate;
    use crate::price::PriceSpec;

    #[test]
    fn plans_that_cannot_work_are_refused() {
        let mut prices = PriceBook::default();
        prices.add(PriceSpec::flat(STANDARD_LIST, "m", Rate::ZERO, Rate::ZERO)).unwrap();
        let plain = Plan::plain("p");
        plain.check(&prices).unwrap();
        let heavy = Weights { output: MAX_WEIGHT + 1, ..Weights::default() };
        for (bad, part) in [
            (Plan { price_list: "gold".into(), ..plain.clone() }, "price_list: there is no price list `gold`"),
            (Plan { models: Some(vec!["m".into(), "x".into()]), ..plain.clone() }, "models: `x` has no price"),
            (Plan { models: Some(vec!["m:a".into(), "x:a".into()]), ..plain.clone() }, "models: `x:a` has no price"),
            (Plan { discount_permille: 1001, ..plain.clone() }, "discount_permille"),
            (Plan { calendar: Calendar { zone: "X".into(), anchor_day: 1 }, ..plain.clone() }, "calendar.zone"),
            (
                Plan { pool: Some(Pool { tokens: 1, weights: heavy, then: PoolEnd::Stop }), ..plain.clone() },
                "pool.weights",
            ),
        ] {
            let error = bad.check(&prices).unwrap_err().to_string();
            assert!(error.starts_with(part) || error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_pool_covers_whole_tokens_input_first() {
        let weights = Weights { input: 1_000, cached_input: 0, output: 3_000, reasoning: 1_000 };
        let asked = Quantities { in_uncached: 2, in_cached: 5, out_visible: 2, out_reasoning: 4 };
        for (units, covered, taken) in [
            (-5, (0, 5, 0, 0), 0),
            (1_999, (1, 5, 0, 0), 1_000),
            (2_000, (2, 5, 0, 0), 2_000),
            (4_999, (2, 5, 0, 0), 2_000), // 2,999 units are left and the border is passed: reasoning does not slip in
            (5_000, (2, 5, 1, 0), 5_000),
            (8_000, (2, 5, 2, 0), 8_000),
            (99_000, (2, 5, 2, 4), 12_000),
        ] {
            let (part, units_taken) = weights.cover(&asked, units);
            let counts = (part.in_uncached, part.in_cached, part.out_visible, part.out_reasoning);
            assert_eq!((counts, units_taken), (covered, taken), "{units} units");
        }
    }

    #[test]
    fn thresholds_are_reached_exactly() {
        let alert_percent = vec![100, 50, 80, 50];
        let budget = Budget { amount: Nano(1_000), period: Period::Month, soft: false, alert_percent };
        budget.check().unwrap();
        for (spent, expected) in
            [(-1, vec![]), (499, vec![]), (500, vec![50]), (800, vec![50, 80]), (5_000, vec![50, 80, 100])]
        {
            assert_eq!(budget.reached(Nano(spent)), expected, "{spent}");
        }
        let nothing = Budget { amount: Nano::ZERO, ..budget.clone() };
        assert_eq!((nothing.reached(Nano(0)), nothing.reached(Nano(1))), (vec![], vec![50, 80, 100]));
        assert!(Budget { amount: Nano(-1), ..budget.clone() }.check().is_err());
        assert!(Budget { alert_percent: vec![0], ..budget }.check().is_err());
    }
}
