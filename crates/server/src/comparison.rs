//! Where the change between two periods came from: statements as periods of `analysis::compare`, and its parts as amounts that
//! add up.

use analysis::compare::{Class, Measure, Parts, Period, compare};
use economics::income::{IncomeStatement, ModelIncome};
use economics::plant::Source;
use economics::{Invalid, Nano};
use serde::Serialize;
use utoipa::ToSchema;

use crate::routes::figures::{kwh, money, seconds};

const MEASURES: [Measure; 4] =
    [Measure::TotalCost, Measure::TotalMargin, Measure::CostPerMillion, Measure::MarginPerMillion];
const NANO: f64 = 1e9;

/// A change and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ComparedChange {
    /// What is compared.
    pub measure: Measure,
    /// In the earlier period.
    pub from: Nano,
    /// In the later one.
    pub to: Nano,
    /// `to` - `from`.
    pub change: Nano,
    /// Where it came from; together they are `change`, exactly.
    pub parts: ComparedParts,
}

/// The parts of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ComparedParts {
    /// More or fewer tokens (0 for measures per 1M).
    pub volume: Nano,
    /// Another share of models among the tokens.
    pub mix: Nano,
    /// Machine time and energy a token.
    pub efficiency: Nano,
    /// Standing cost over more or fewer tokens.
    pub utilisation: Nano,
    /// What a second of the plant and a unit of energy cost.
    pub input_price: Nano,
    /// What a token was sold for (0 for measures of cost).
    pub price: Nano,
}

/// Where the change of cost and margin, in all and per 1M tokens, came from.
///
/// # Errors
/// Names what a period has not: tokens, busy time.
pub fn changes(earlier: &IncomeStatement, later: &IncomeStatement) -> Result<Vec<ComparedChange>, Invalid> {
    let (earlier, later) = (period(earlier), period(later));
    let change = |measure| {
        let found = compare(&earlier, &later, measure).map_err(|error| {
            Invalid::new(
                error.field,
                error.problem,
                "compare periods in which the plant kept costs and served requests",
            )
        })?;
        let (from, to) = (nano(found.from), nano(found.to));
        let change = to.saturating_sub(from);
        Ok(ComparedChange { measure, from, to, change, parts: parts(&found.parts, change) })
    };
    MEASURES.into_iter().map(change).collect()
}

/// The parts in whole nano-units. What rounding leaves goes to the largest, so that they add up to `change`.
fn parts(found: &Parts, change: Nano) -> ComparedParts {
    let Parts { volume, mix, efficiency, utilisation, input_price, price } = *found;
    let mut amounts = [volume, mix, efficiency, utilisation, input_price, price].map(nano);
    let sum = amounts.iter().fold(Nano::ZERO, |sum, amount| sum.saturating_add(*amount));
    if let Some(largest) = amounts.iter_mut().max_by_key(|amount| amount.0.unsigned_abs()) {
        *largest = largest.saturating_add(change.saturating_sub(sum));
    }
    let [volume, mix, efficiency, utilisation, input_price, price] = amounts;
    ComparedParts { volume, mix, efficiency, utilisation, input_price, price }
}

#[expect(clippy::cast_possible_truncation, reason = "a figure of amounts of 64 bits; beyond them it is the largest")]
fn nano(amount: f64) -> Nano {
    Nano((amount * NANO).round() as i64)
}

/// A statement as a period to compare: models are its classes of work, and energy, at the period's mean price, is what they
/// use beyond time. All other cost, idle power included, accrues with time.
fn period(statement: &IncomeStatement) -> Period {
    let power = statement.sources.iter().find(|row| row.source == Source::Power).map_or(0.0, |row| money(row.cost));
    let kwh = kwh(statement.energy_uj);
    let unit_price = if kwh > 0.0 { power / kwh } else { 0.0 };
    let classes: Vec<Class> = statement.models.iter().map(class).collect();
    let of_units: f64 = classes.iter().map(|class| class.units * unit_price).sum();
    Period {
        // Requests that began in the period before may have used more energy than this one's hours.
        standing_cost: (money(statement.cost) - of_units).max(0.0),
        plant_seconds: seconds(statement.length_ns),
        unit_price,
        classes,
    }
}

fn class(model: &ModelIncome) -> Class {
    let charged = model.quantities.total();
    Class {
        name: model.model.clone(),
        // A request may be charged on one day and its cost be known on the next.
        tokens: if charged > 0 { charged } else { model.costed_tokens } as f64,
        busy_seconds: seconds(model.machine_ns),
        units: kwh(model.energy_uj),
        revenue: money(model.revenue),
    }
}

#[cfg(test)]
mod tests {
    use economics::Quantities;
    use economics::income::SourceCost;

    use super::*;

    fn amount(text: &str) -> Nano {
        text.parse().unwrap()
    }

    /// 2 of standing cost and 1 of power for 2 kWh, of which the model used one.
    fn statement(cost: &str, revenue: &str) -> IncomeStatement {
        let source =
            |source, cost: &str| SourceCost { source, cost: amount(cost), permille: None, usual_permille: None };
        IncomeStatement {
            cost: amount(cost),
            energy_uj: 7_200_000_000_000,
            length_ns: 100_000_000_000,
            sources: vec![source(Source::Power, "1.00"), source(Source::Rent, "2.00")],
            models: vec![ModelIncome {
                model: "tiny".to_owned(),
                quantities: Quantities { in_uncached: 600_000, out_visible: 400_000, ..Quantities::default() },
                costed_tokens: 7,
                machine_ns: 25_000_000_000,
                energy_uj: 3_600_000_000_000,
                attributed: Nano::ZERO,
                revenue: amount(revenue),
            }],
            ..IncomeStatement::default()
        }
    }

    #[test]
    fn a_statement_is_a_period_with_the_same_cost() {
        let period = period(&statement("3.00", "4.00"));
        assert_eq!((period.standing_cost, period.plant_seconds, period.unit_price), (2.5, 100.0, 0.5));
        let class = &period.classes[0];
        assert_eq!((class.tokens, class.busy_seconds, class.units, class.revenue), (1e6, 25.0, 1.0, 4.0));
    }

    #[test]
    fn a_change_of_price_is_told_from_one_of_cost() {
        let found = changes(&statement("3.00", "4.00"), &statement("5.00", "6.00")).unwrap();
        let [cost, margin, ..] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((cost.from, cost.to, cost.change), (amount("3"), amount("5"), amount("2")));
        assert_eq!((cost.parts.input_price, margin.parts.price), (amount("2"), amount("2")));
        assert_eq!((margin.change, margin.parts.input_price), (Nano::ZERO, amount("-2")));
    }

    #[test]
    fn the_parts_add_up_to_the_last_digit() {
        let mut later = statement("7.123456789", "6.000000001");
        later.models[0].machine_ns = 31_415_926_535;
        later.models.push(ModelIncome {
            model: "other".to_owned(),
            quantities: Quantities { in_cached: 333_333, ..Quantities::default() },
            machine_ns: 2_718_281_828,
            energy_uj: 1_618_033_988,
            revenue: amount("0.577215664"),
            ..ModelIncome::default()
        });
        for change in changes(&statement("3.000000001", "4.00"), &later).unwrap() {
            let ComparedParts { volume, mix, efficiency, utilisation, input_price, price } = change.parts;
            let sum: i64 = [volume, mix, efficiency, utilisation, input_price, price].iter().map(|part| part.0).sum();
            assert_eq!((sum, change.to.0 - change.from.0), (change.change.0, change.change.0), "{change:?}");
            assert!(mix != Nano::ZERO && efficiency != Nano::ZERO, "{change:?}");
        }
    }

    #[test]
    fn periods_without_work_are_refused_by_name() {
        let empty = IncomeStatement { models: Vec::new(), ..statement("3.00", "4.00") };
        let error = changes(&empty, &statement("3.00", "4.00")).unwrap_err();
        assert_eq!(error.field, "tokens of earlier");
        let error = changes(&statement("3.00", "4.00"), &empty).unwrap_err();
        assert_eq!(error.field, "tokens of later");
    }
}
