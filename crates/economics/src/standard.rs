//! Standard tokens: tokens of each kind weighted by their list price relative to that of output, so that a prompt token that
//! is sold for a third of an answer token counts as a third of one.
//!
//! The prices are those in force at one instant, whenever the tokens were used: a price change moves no period against
//! another one of the same answer.

use serde::Serialize;

use crate::directory::Directory;
use crate::money::divide_half_even;
use crate::rollup::ValueSums;
use crate::{Meter, Rate};

/// What the tokens of a model count for an organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StandardWeights {
    /// The price list of its plan.
    pub list: String,
    /// The model.
    pub model: String,
    /// Prices of the kinds of tokens, in the order of [`Meter::ALL`]; of several tiers the first.
    pub rates: [Rate; Meter::ALL.len()],
    /// The price that counts as one: that of output of the model, or of the base.
    pub base: Rate,
}

impl StandardWeights {
    /// The prices of `model` in the list of the organisation's plan at `at_ms`, or, if none is in force then, those in force
    /// last; relative to the price of output of `base`, in the same list, or of the model itself. `None`: there is no such
    /// price, or output is free.
    #[must_use]
    pub fn of(
        directory: &Directory,
        (organisation, model): (&str, &str),
        base: Option<&str>,
        at_ms: i64,
    ) -> Option<Self> {
        let plan = &directory.organisation(organisation)?.plan;
        let list = &directory.plans().find(|known| known.id == *plan)?.price_list;
        let rates = |model: &str| {
            let begun = directory.prices().versions(list, model).filter(|spec| spec.from <= at_ms).last();
            let tier = begun?.tiers.first()?;
            Some(Meter::ALL.map(|meter| tier.rate(meter)))
        };
        let own = rates(model)?;
        let [_, _, output, _] = base.map_or(Some(own), rates)?;
        let weights = Self { list: list.clone(), model: model.to_owned(), rates: own, base: output };
        (output > Rate::ZERO).then_some(weights)
    }

    /// Standard tokens of these sums, in thousandths, rounded half-even.
    #[must_use]
    pub fn milli(&self, sums: &ValueSums) -> i64 {
        let priced = Meter::ALL.iter().zip(self.rates).fold(0_i128, |sum, (meter, rate)| {
            sum.saturating_add(i128::from(sums.of_meter(*meter)).saturating_mul(rate.pico().into()))
        });
        let milli = divide_half_even(priced.saturating_mul(1_000), self.base.pico().into());
        i64::try_from(milli).unwrap_or(i64::MAX)
    }
}
