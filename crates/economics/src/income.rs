//! The income statement of the plant: what it sold, what that cost and where the cost came from, what is left.
//!
//! Integers only; shares in thousandths, quotients rounded half-even.

use std::collections::BTreeMap;

use ledger::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::money::divide_half_even;
use crate::plant::Source;
use crate::rollup::{
    CostRow, CostSums, PlantSums, Sums, Tallies, UsageRow, cost_days, days_within, plant_hours, report,
};
use crate::{Nano, Quantities};

const MILLION: i128 = 1_000_000;

/// Cost from one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SourceCost {
    /// The source.
    pub source: Source,
    /// Its cost.
    pub cost: Nano,
    /// Its share of all cost in thousandths; none when there is no cost.
    #[schema(required = true)]
    pub permille: Option<i64>,
    /// Range of the share, in thousandths, that the description of AI factories gives for plants at large; a yardstick,
    /// no limit. None where it gives none.
    #[schema(required = true)]
    pub usual_permille: Option<[u16; 2]>,
}

/// Amounts per million tokens; none without tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = AmountsPerMillion)]
pub struct PerMillion {
    /// Marginal cost / tokens whose cost is known.
    #[schema(required = true)]
    pub marginal: Option<Nano>,
    /// Attributed cost / the same tokens.
    #[schema(required = true)]
    pub attributed: Option<Nano>,
    /// Attributed and idle cost / the same tokens.
    #[schema(required = true)]
    pub full: Option<Nano>,
    /// Revenue / tokens charged.
    #[schema(required = true)]
    pub billed: Option<Nano>,
}

/// What one model took and brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ModelIncome {
    /// The model.
    pub model: String,
    /// Tokens charged.
    pub quantities: Quantities,
    /// Tokens of the requests whose cost is known.
    pub costed_tokens: u64,
    /// Machine time in nanoseconds.
    pub machine_ns: u64,
    /// Energy at the site's meter, in microjoules.
    pub energy_uj: u64,
    /// Attributed cost.
    pub attributed: Nano,
    /// What is to be paid for it.
    pub revenue: Nano,
}

/// The statement of a period. `cost = attributed + idle + in_progress`, exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct IncomeStatement {
    /// What was charged: tokens by kind, list price, discount, credits.
    pub sold: Sums,
    /// What is left of the list price.
    pub revenue: Nano,
    /// All that the plant cost.
    pub cost: Nano,
    /// The same by source.
    pub sources: Vec<SourceCost>,
    /// The part of it that is fixed cost spread over tokens.
    pub per_token: Nano,
    /// Cost of the requests that ended in the period.
    pub attributed: Nano,
    /// Cost that no request had.
    pub idle: Nano,
    /// What work under way at the end has cost, less what such work at the beginning had cost before it; negative where
    /// less is under way at the end.
    pub in_progress: Nano,
    /// Revenue - cost.
    pub margin: Nano,
    /// Amounts per million tokens.
    pub per_million: PerMillion,
    /// Attributed cost of guesses that were not made.
    pub rejected: Nano,
    /// Attributed cost of what was computed again.
    pub recomputed: Nano,
    /// Energy of the plant at the site's meter (equipment x PUE), in microjoules.
    pub energy_uj: u64,
    /// The same by token of output whose cost is known, in microjoules.
    #[schema(required = true)]
    pub uj_per_output_token: Option<i64>,
    /// Emissions in micrograms CO2e.
    pub co2_ug: u64,
    /// Share of the time whose energy was estimated, not counted, in thousandths.
    #[schema(required = true)]
    pub estimated_permille: Option<i64>,
    /// Time that is accounted for, in nanoseconds.
    pub length_ns: u64,
    /// Machine time used in it.
    pub busy_ns: u64,
    /// Busy time / all of it, in thousandths.
    #[schema(required = true)]
    pub utilisation_permille: Option<i64>,
    /// By model.
    pub models: Vec<ModelIncome>,
}

/// Shares of cost that the description of AI factories gives: power 60-80 %, depreciation 15-20 %, network and operations
/// 5-10 % each. Rent stands in the place of depreciation.
fn usual_permille(source: Source) -> Option<[u16; 2]> {
    match source {
        Source::Power => Some([600, 800]),
        Source::Depreciation => Some([150, 200]),
        Source::Network | Source::Operations => Some([50, 100]),
        Source::Rent | Source::Fixed => None,
    }
}

/// The statement of the days (UTC) that begin within `from_ms..to_ms`. Only what is on the disk.
///
/// An interval counts in the hour in which it began, a request in the day in which it ended.
///
/// # Errors
/// The store's.
pub fn income(ledger: &dyn Tallies, (from_ms, to_ms): (i64, i64)) -> Result<IncomeStatement, StoreError> {
    let (mut plant, mut sold, mut costs) = (PlantSums::default(), Sums::default(), CostSums::default());
    let mut models = BTreeMap::<String, ModelIncome>::new();
    for (day, next) in days_within(from_ms, to_ms) {
        plant_hours(ledger, day, next)?.values().for_each(|sums| plant.add(sums));
        for UsageRow { model, sums, .. } in report(ledger, day, next)? {
            sold.add(&sums);
            models.entry(model).or_default().sell(&sums);
        }
        for CostRow { model, sums, .. } in cost_days(ledger, day, next)? {
            costs.add(&sums);
            models.entry(model).or_default().take(&sums);
        }
    }
    let models = models.into_iter().map(|(model, income)| ModelIncome { model, ..income }).collect();
    Ok(IncomeStatement::of(&plant, &sold, &costs, models))
}

impl ModelIncome {
    fn sell(&mut self, sums: &Sums) {
        self.quantities.add(&sums.quantities);
        self.revenue = self.revenue.saturating_add(sums.total());
    }

    fn take(&mut self, sums: &CostSums) {
        let line = sums.costs.sum();
        self.costed_tokens = self.costed_tokens.saturating_add(sums.quantities.total());
        self.machine_ns = self.machine_ns.saturating_add(line.machine_ns);
        self.energy_uj = self.energy_uj.saturating_add(line.energy_uj);
        self.attributed = self.attributed.saturating_add(sums.costs.attributed());
    }
}

impl IncomeStatement {
    fn of(plant: &PlantSums, sold: &Sums, costs: &CostSums, models: Vec<ModelIncome>) -> Self {
        let cost = plant.total().saturating_add(costs.costs.per_token).saturating_add(costs.costs.network);
        let (revenue, attributed, idle) = (sold.total(), costs.costs.attributed(), plant.idle_cost());
        let done = costs.costs.sum().attributed();
        let in_progress = plant.used.attributed().saturating_sub(plant.lost.attributed()).saturating_sub(done);
        let [_, _, rejected, recomputed] = &costs.costs.lines;
        let sources = Source::ALL.into_iter().zip(plant.sources).map(|(source, nano)| {
            let of_requests = match source {
                Source::Fixed => costs.costs.per_token,
                Source::Network => costs.costs.network,
                _ => Nano::ZERO,
            };
            let of_source = nano.saturating_add(of_requests);
            let permille = quotient(i128::from(of_source.0) * 1_000, i128::from(cost.0));
            SourceCost { source, cost: of_source, permille, usual_permille: usual_permille(source) }
        });
        let tokens = costs.quantities.total();
        let per_million = PerMillion {
            marginal: per_million(costs.costs.marginal(), tokens),
            attributed: per_million(attributed, tokens),
            full: per_million(attributed.saturating_add(idle), tokens),
            billed: per_million(revenue, sold.quantities.total()),
        };
        let of_time = |ns: u64| quotient(i128::from(ns) * 1_000, plant.length_ns.into());
        Self {
            sold: *sold,
            revenue,
            cost,
            sources: sources.collect(),
            per_token: costs.costs.per_token,
            attributed,
            idle,
            in_progress,
            margin: revenue.saturating_sub(cost),
            per_million,
            rejected: rejected.attributed(),
            recomputed: recomputed.attributed(),
            energy_uj: plant.energy_uj(),
            uj_per_output_token: quotient(plant.energy_uj().into(), costs.quantities.output().into()),
            co2_ug: plant.idle.co2_ug.saturating_add(plant.used.co2_ug),
            estimated_permille: of_time(plant.estimated_ns),
            length_ns: plant.length_ns,
            busy_ns: plant.busy_ns,
            utilisation_permille: of_time(plant.busy_ns),
            models,
        }
    }
}

/// `n / d`, rounded half-even; none where `d` is not positive.
fn quotient(n: i128, d: i128) -> Option<i64> {
    (d > 0).then(|| i64::try_from(divide_half_even(n, d)).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX }))
}

fn per_million(amount: Nano, tokens: u64) -> Option<Nano> {
    quotient(i128::from(amount.0) * MILLION, tokens.into()).map(Nano)
}
