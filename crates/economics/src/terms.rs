//! What one customer pays for one model, fixed at admission: price, pool weights, discount. Ceilings for holds, the last
//! affordable token, and the charge at the end all follow from here.

use serde::Serialize;

use crate::money::divide_half_even;
use crate::plan::{PoolEnd, Weights};
use crate::{FrozenPrice, Meter, Nano, Plan, Quantities, Rate};

/// The terms of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The price at admission.
    pub price: FrozenPrice,
    /// The plan's pool, if it has one.
    pub pool: Option<(Weights, PoolEnd)>,
    /// Taken off the list price, in thousandths (at most 1000).
    pub discount_permille: u16,
}

/// Tokens a hold shall cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Prompt tokens.
    pub input: u64,
    /// Answer tokens.
    pub output: u64,
}

/// What a hold takes: whatever of the asked tokens turns out to be cached, visible or reasoning, it is enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Pool units.
    pub pool: i64,
    /// Money.
    pub money: Nano,
}

/// One line of a charge at list price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ChargeLine {
    /// What was counted.
    pub meter: Meter,
    /// Index of the price's tier.
    pub tier: u8,
    /// How many tokens.
    pub tokens: u64,
    /// Pico-units per token.
    pub rate: Rate,
    /// `tokens * rate`, rounded half-even.
    pub nano: Nano,
}

/// What a request costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Charge {
    /// All tokens.
    pub quantities: Quantities,
    /// Those the pool paid.
    pub pooled: Quantities,
    /// Pool units taken.
    pub pool_units: i64,
    /// The rest, line by line.
    pub lines: Vec<ChargeLine>,
    /// Sum of the lines.
    pub list: Nano,
    /// Taken off.
    pub discount: Nano,
}

impl Charge {
    /// What the customer pays in money.
    #[must_use]
    pub fn total(&self) -> Nano {
        self.list.saturating_sub(self.discount)
    }
}

impl Terms {
    /// The terms of `plan` for a frozen price.
    #[must_use]
    pub fn new(price: FrozenPrice, plan: &Plan) -> Self {
        let pool = plan.pool.map(|pool| (pool.weights, pool.then));
        Self { price, pool, discount_permille: plan.discount_permille.min(1_000) }
    }

    /// Amount taken off a list price; the rest never falls when the price rises.
    fn discount_on(&self, list: Nano) -> Nano {
        Nano::saturating(divide_half_even(i128::from(list.0) * i128::from(self.discount_permille), 1_000))
    }

    /// Most that `ask` can take while `pool_left` pool units and a volume of at least `volume` are there. `None`: the
    /// plan stops at the pool's end and the pool is too small.
    #[must_use]
    pub fn need(&self, ask: Ask, volume: u64, pool_left: i64) -> Option<Need> {
        let heavy = |a, b| self.pool.map(|(weights, _)| weights.get(a).max(weights.get(b))).unwrap_or_default();
        let dearest = Quantities { in_uncached: ask.input, out_visible: ask.output, ..Quantities::default() };
        let (mut rest, mut pool) = (dearest, 0);
        if let Some((_, then)) = self.pool {
            let weights = Weights {
                input: heavy(Meter::InUncached, Meter::InCached),
                cached_input: 0,
                output: heavy(Meter::OutVisible, Meter::OutReasoning),
                reasoning: 0,
            };
            let (covered, units) = weights.cover(&dearest, pool_left);
            (rest, pool) = (dearest.minus(&covered), units);
            if then == PoolEnd::Stop && rest.total() > 0 {
                return None;
            }
        }
        let list = self.price.ceiling(ask.input, (rest.in_uncached, rest.out_visible), volume);
        Some(Need { pool, money: list.saturating_sub(self.discount_on(list)) })
    }

    /// The most answer tokens, up to `most`, that `money` and `pool_left` pay for together with the prompt, whatever they
    /// turn out to be. `None` when not even the prompt is paid for.
    #[must_use]
    pub fn affordable_output(&self, input: u64, most: u64, volume: u64, pool_left: i64, money: Nano) -> Option<u64> {
        let pays = |output| {
            self.need(Ask { input, output }, volume, pool_left).is_some_and(|need| need.money <= money.max(Nano::ZERO))
        };
        if !pays(0) {
            return None;
        }
        // The need never falls with more tokens, so the border is found by halving.
        let (mut paid, mut unpaid) = (0, most.saturating_add(1));
        while unpaid - paid > 1 {
            let middle = paid + (unpaid - paid) / 2;
            if pays(middle) { paid = middle } else { unpaid = middle }
        }
        Some(paid)
    }

    /// What `quantities` cost, with `volume_before` tokens of the model used before in the window and `pool_left` units
    /// in the pool. Pooled tokens count for the volume ahead of the others. A plan that stops at the pool's end never
    /// charges money: tokens beyond it are not billed.
    #[must_use]
    pub fn charge(&self, quantities: &Quantities, volume_before: u64, pool_left: i64) -> Charge {
        let (pooled, pool_units) =
            self.pool.map(|(weights, _)| weights.cover(quantities, pool_left)).unwrap_or_default();
        let mut charge = Charge { quantities: *quantities, pooled, pool_units, ..Charge::default() };
        if self.pool.is_some_and(|(_, then)| then == PoolEnd::Stop) {
            return charge;
        }
        let (rest, mut volume) = (quantities.minus(&pooled), volume_before.saturating_add(pooled.total()));
        for meter in Meter::ALL {
            for run in self.price.runs(quantities.input(), meter, rest.get(meter), volume) {
                let nano = Nano::from_pico(run.rate.times(run.tokens));
                charge.lines.push(ChargeLine { meter, tier: run.tier, tokens: run.tokens, rate: run.rate, nano });
                charge.list = charge.list.saturating_add(nano);
                volume = volume.saturating_add(run.tokens);
            }
        }
        charge.discount = self.discount_on(charge.list);
        charge
    }
}

#[cfg(test)]
mod tests;
