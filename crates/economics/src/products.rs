//! What a plant brought forth in a period: tokens by model and kind at list prices, outcomes by kind.

use std::collections::{BTreeMap, HashMap};

use ledger::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::rollup::{KindSums, Tallies, UsageRow, Weigh, days_within, kind_rows, report};
use crate::window::DAY_MS;
use crate::{Meter, Nano, Quantities};

/// Tokens of one model and kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TokenClass {
    /// The model.
    pub model: String,
    /// The kind.
    pub meter: Meter,
    /// How many were charged.
    pub tokens: u64,
    /// What they are worth at list prices as they are at one instant; 0 without a price.
    pub list: Nano,
}

/// Outcomes of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct OutcomeClass {
    /// The kind.
    pub kind: String,
    /// How many, and their value.
    #[serde(flatten)]
    pub sums: KindSums,
}

/// What a plant brought forth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Products {
    /// In the order of model and kind; those that there are none of are left out.
    pub tokens: Vec<TokenClass>,
    /// In the order of their kinds.
    pub outcomes: Vec<OutcomeClass>,
}

impl Products {
    /// All outcomes.
    #[must_use]
    pub fn all_outcomes(&self) -> KindSums {
        self.outcomes.iter().fold(KindSums::default(), |mut sum, class| {
            sum.add(&class.sums);
            sum
        })
    }
}

/// What the days (UTC) that begin within `from_ms..to_ms` brought forth. `weigh` gives the prices. Only what is on the disk.
///
/// # Errors
/// The store's.
pub fn products(
    ledger: &dyn Tallies,
    organisations: &[String],
    (from_ms, to_ms): (i64, i64),
    weigh: Weigh<'_>,
) -> Result<Products, StoreError> {
    let mut sold = HashMap::<(String, String), Quantities>::new();
    for (day, next) in days_within(from_ms, to_ms) {
        for UsageRow { organisation, model, sums, .. } in report(ledger, day, next)? {
            sold.entry((organisation, model)).or_default().add(&sums.quantities);
        }
    }
    let mut classes = BTreeMap::<(String, Meter), (u64, i128)>::new();
    for ((organisation, model), quantities) in sold {
        let rates = weigh(&organisation, &model).map(|weights| weights.rates);
        for (place, meter) in Meter::ALL.into_iter().enumerate() {
            let tokens = quantities.get(meter);
            let rate = rates.and_then(|rates| rates.get(place).copied());
            let (sum, pico) = classes.entry((model.clone(), meter)).or_default();
            *sum = sum.saturating_add(tokens);
            *pico = pico.saturating_add(rate.map_or(0, |rate| rate.times(tokens)));
        }
    }
    let class = |((model, meter), (tokens, pico))| TokenClass { model, meter, tokens, list: Nano::from_pico(pico) };
    let tokens = classes.into_iter().filter(|(_, (tokens, _))| *tokens > 0).map(class).collect();
    let mut kinds = BTreeMap::<String, KindSums>::new();
    let days = (from_ms.div_euclid(DAY_MS), to_ms.saturating_add(DAY_MS - 1).div_euclid(DAY_MS));
    for organisation in organisations {
        kind_rows(ledger, organisation, days, |_, _, kind, sums| kinds.entry(kind).or_default().add(&sums))?;
    }
    let outcomes = kinds.into_iter().map(|(kind, sums)| OutcomeClass { kind, sums }).collect();
    Ok(Products { tokens, outcomes })
}
