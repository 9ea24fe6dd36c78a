//! The TFP index between two periods, which no price change alone can move, and the plant value index.

mod document;

use std::sync::Arc;

use analysis::index::{Good, Period, PlantValue, PlantValueChange, QuantityIndex, tornqvist};
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::income::{IncomeStatement, income};
use economics::plant::Source;
use economics::products::{Products, products};
use economics::rollup::{self, Tallies};
use economics::standard::StandardWeights;
use economics::window::to_rfc3339;
use economics::{Meter, Nano};

use super::{Admin, unreadable};
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::plan::measured_speed;
use crate::query::Query;
use crate::routes::figures::{kwh, money, seconds, share, thousandths};
use crate::routes::period::{self, Days, date, exact};
use crate::routes::tfp::organisations;
use document::{IndexSheets, IndexSide, IndexedGood, IndexedPeriod, PlantValueIndex, PlantValueRatios, TfpIndex};

const OUTPUTS: [&str; 2] = ["tokens", "outcomes"];
const INPUTS: [&str; 2] = ["plant", "tokens"];

/// How productivity and the plant's value changed from one period to another: quantities of outputs and inputs by their shares
/// of value and cost (Törnqvist), so that with the same quantities it is 1 whatever prices and tariffs do.
#[utoipa::path(
    get,
    path = "/admin/v1/tfp-index",
    tag = "administration",
    params(
        Days,
        ("compare_start_time" = i64, Query, description = "Unix seconds, in the first day of the earlier period"),
        ("compare_end_time" = i64, Query, description = "Unix seconds, exclusive, in the last day of the earlier period"),
        ("exact" = Option<bool>, Query, description = "`true`: both exactly, as of /admin/v1/statement"),
        ("outputs" = Option<String>, Query, description = "`tokens` (by model and kind, weighted by list prices at each period's end; the default), or `outcomes` (accepted ones by kind, weighted by value without proxies)"),
        ("inputs" = Option<String>, Query, description = "`plant` (machine time and energy, by their cost; the default), or `tokens` (with `outputs=outcomes` only)")
    ),
    responses(
        (status = 200, body = TfpIndex, description = "The index, with what it stands on"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or the periods have no output or no input in common")
    )
)]
pub(crate) async fn tfp_index(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<TfpIndex>, ApiError> {
    let admin = Admin::of_plant(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let exact = exact(&mut query)?;
    let later = period::Period::read(&mut query, exact)?;
    let earlier = period::Period::named(&mut query, exact, ("compare_start_time", "compare_end_time"))?;
    let outputs = query.word("outputs", &OUTPUTS)?.unwrap_or_else(|| "tokens".to_owned());
    let inputs = query.word("inputs", &INPUTS)?.unwrap_or_else(|| "plant".to_owned());
    query.finish()?;
    if outputs == inputs {
        let message = "`inputs=tokens` goes with `outputs=outcomes` only: tokens are no input of themselves";
        return Err(ApiError::field("inputs", message));
    }
    let read = move |admin: &Admin| {
        let basis = |asked: period::Period| {
            asked.sums(admin.books.ledger(), |sums, span_ms| Basis::of(admin, asked, (sums, span_ms)))
        };
        Ok((basis(earlier)?, basis(later)?))
    };
    let (earlier, later) = admin.run(read).await?;
    index((&earlier, &later), (&outputs, &inputs)).map(Json)
}

/// What one period's figures are made of.
pub(super) struct Basis {
    pub(super) period: period::Period,
    pub(super) income: IncomeStatement,
    pub(super) products: Products,
    pub(super) sheets: rollup::Sheets,
}

impl Basis {
    /// Products are weighed by the list prices at the end of the period, or now if that is earlier.
    pub(super) fn of(
        admin: &Admin,
        period: period::Period,
        (sums, span_ms): (&dyn Tallies, (i64, i64)),
    ) -> Result<Self, ApiError> {
        let books = &admin.books;
        let prices_ms = unix_ms().min(period.ends_s.1.saturating_mul(1000).saturating_sub(1));
        let weigh = |organisation: &str, model: &str| {
            StandardWeights::of(&books.directory(), (organisation, model), None, prices_ms)
        };
        let failed = |error| unreadable(&error);
        Ok(Self {
            period,
            income: income(sums, span_ms).map_err(failed)?,
            products: products(sums, &organisations(books), span_ms, &weigh).map_err(failed)?,
            sheets: rollup::sheets(sums, span_ms.0, span_ms.1).map_err(failed)?,
        })
    }

    fn days(&self) -> IndexedPeriod {
        let (from_s, to_s) = self.period.ends_s;
        let from_ms = from_s.saturating_mul(1000);
        if self.period.exact {
            return IndexedPeriod::Exact { from: to_rfc3339(from_ms), to: to_rfc3339(to_s.saturating_mul(1000)) };
        }
        let last_day = date(to_s.saturating_sub(1).saturating_mul(1000));
        IndexedPeriod::Days { first_day: date(from_ms), last_day }
    }

    /// Tokens by model and kind, by list price; all alike where nothing has a price.
    fn tokens(&self, priced: bool) -> Vec<Good> {
        let class = |class: &economics::products::TokenClass| {
            let quantity = class.tokens as f64;
            let value = if priced { money(class.list) } else { quantity };
            Good { name: format!("{} {}", class.model, kind(class.meter)), quantity, value }
        };
        self.products.tokens.iter().map(class).collect()
    }

    fn is_priced(&self) -> bool {
        self.products.tokens.iter().any(|class| class.list > Nano::ZERO)
    }

    /// Accepted outcomes by kind; those without a value weigh nothing.
    fn outcomes(&self) -> Vec<Good> {
        let outcomes = self.products.outcomes.iter().filter(|class| class.sums.accepted_milli > 0);
        let good = |class: &economics::products::OutcomeClass| Good {
            name: class.kind.clone(),
            quantity: thousandths(class.sums.accepted_milli),
            value: money(class.sums.value).max(0.0),
        };
        outcomes.map(good).collect()
    }

    /// Time of the plant, which all cost but power's accrues with; energy; and tokens, for fixed cost that is spread over them.
    fn plant(&self) -> Vec<Good> {
        let income = &self.income;
        let power = income.sources.iter().find(|row| row.source == Source::Power).map_or(Nano::ZERO, |row| row.cost);
        let per_token = income.per_token;
        let standing = income.cost.saturating_sub(power).saturating_sub(per_token);
        let costed: u64 = income.models.iter().map(|model| model.costed_tokens).sum();
        let goods = [
            ("machine time (s)", seconds(income.length_ns), standing),
            ("energy (kWh)", kwh(income.energy_uj), power),
            ("tokens of fixed cost", costed as f64, per_token),
        ];
        let good =
            |(name, quantity, value): (&str, f64, Nano)| Good { name: name.to_owned(), quantity, value: money(value) };
        goods.into_iter().filter(|(_, _, value)| *value > Nano::ZERO).map(good).collect()
    }

    /// Compute: tokens per second of machine time, of the requests whose cost is known. Quality: accepted outcomes / outcomes.
    /// Utilisation: busy time / all of it. Each is none where nothing was measured.
    fn value(&self) -> [Option<f64>; 3] {
        let (models, outcomes) = (&self.income.models, self.products.all_outcomes());
        [
            measured_speed(models),
            share(outcomes.accepted_milli as f64, outcomes.outcomes_milli as f64),
            share(self.income.busy_ns as f64, self.income.length_ns as f64),
        ]
    }
}

fn index((earlier, later): (&Basis, &Basis), (outputs, inputs): (&str, &str)) -> Result<TfpIndex, ApiError> {
    let priced = earlier.is_priced() || later.is_priced();
    let period = |basis: &Basis| Period {
        outputs: if outputs == "tokens" { basis.tokens(priced) } else { basis.outcomes() },
        inputs: if inputs == "plant" { basis.plant() } else { basis.tokens(priced) },
    };
    let periods = [period(earlier), period(later)];
    let links = tornqvist(&periods).map_err(|error| {
        let side = if error.field.ends_with("inputs") { inputs } else { outputs };
        let message =
            format!("there is no index of {outputs} / {inputs}: the periods have no {side} in common; {}", error.fix);
        ApiError::field("compare_start_time", message)
    })?;
    let Some(link) = links.into_iter().next() else { return Err(ApiError::internal("an index has no link")) };
    let [before, after] = &periods;
    Ok(TfpIndex {
        object: "tfp_index",
        earlier: earlier.days(),
        later: later.days(),
        tfp: link.tfp,
        outputs: side(outputs, link.outputs, (&before.outputs, &after.outputs)),
        inputs: side(inputs, link.inputs, (&before.inputs, &after.inputs)),
        token_weights: if priced { "list prices" } else { "tokens alike: there is no list price" },
        plant_value: plant_value(earlier, later),
        sheet: IndexSheets { earlier: earlier.sheets.clone(), later: later.sheets.clone() },
    })
}

fn side(of: &str, index: QuantityIndex, (earlier, later): (&[Good], &[Good])) -> IndexSide {
    let mut names: Vec<&str> = earlier.iter().chain(later).map(|good| good.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let both = |name: &str, read: fn(&Good) -> f64| {
        [earlier, later].map(|side| side.iter().find(|good| good.name == name).map_or(0.0, read))
    };
    let good = |name: &str| IndexedGood {
        name: name.to_owned(),
        quantity: both(name, |good| good.quantity),
        value: both(name, |good| good.value),
    };
    IndexSide { of: of.to_owned(), index, goods: names.into_iter().map(good).collect() }
}

fn plant_value(earlier: &Basis, later: &Basis) -> PlantValueIndex {
    let (before, after) = (earlier.value(), later.value());
    let whole = |[compute, quality, utilisation]: [Option<f64>; 3]| {
        Some(PlantValue { compute: compute?, quality: quality?, utilisation: utilisation? })
    };
    let change = match (whole(before), whole(after)) {
        (Some(before), Some(after)) => after.since(&before).map_err(|error| error.to_string()),
        _ => Err("not every factor was measured in both periods: requests whose cost is known, outcomes, busy time"
            .to_owned()),
    };
    let ratios = |change: &PlantValueChange| PlantValueRatios {
        index: change.index,
        compute: change.compute.ratio,
        quality: change.quality.ratio,
        utilisation: change.utilisation.ratio,
    };
    let ([compute, quality, utilisation], [compute_after, quality_after, utilisation_after]) = (before, after);
    PlantValueIndex {
        compute_tokens_per_second: [compute, compute_after],
        quality_accepted_share: [quality, quality_after],
        utilisation_busy_share: [utilisation, utilisation_after],
        change: change.as_ref().ok().map(ratios),
        reason: change.err(),
    }
}

fn kind(meter: Meter) -> &'static str {
    match meter {
        Meter::InUncached => "input",
        Meter::InCached => "cached input",
        Meter::OutVisible => "output",
        Meter::OutReasoning => "reasoning",
    }
}

#[cfg(test)]
mod tests {
    use economics::income::{ModelIncome, SourceCost};
    use economics::products::{OutcomeClass, TokenClass};
    use economics::rollup::KindSums;
    use serde_json::{Value, json};

    use super::*;

    /// A period with the same quantities whatever its prices: of tokens, of an outcome, and of what the plant takes.
    fn basis(token: i64, outcome: i64, standing: i64, power: i64) -> Basis {
        let source = |source, cost| SourceCost { source, cost: Nano(cost), permille: None, usual_permille: None };
        let model = ModelIncome {
            model: "tiny".into(),
            costed_tokens: 3_000,
            machine_ns: 2_000_000_000,
            ..ModelIncome::default()
        };
        let class = |meter, tokens: u32, price: i64| TokenClass {
            model: "tiny".into(),
            meter,
            tokens: tokens.into(),
            list: Nano(price * i64::from(tokens)),
        };
        let sums = |accepted_milli, value| KindSums { outcomes_milli: 4_000, accepted_milli, value: Nano(value) };
        Basis {
            period: period::Period::of((0, 86_400), false, "start_time").unwrap(),
            income: IncomeStatement {
                cost: Nano(standing + power),
                sources: vec![source(Source::Power, power), source(Source::Rent, standing)],
                energy_uj: 7_300_000_000_000,
                length_ns: 10_000_000_000,
                busy_ns: 2_000_000_000,
                models: vec![model],
                ..IncomeStatement::default()
            },
            products: Products {
                tokens: vec![
                    class(Meter::InUncached, 2_000, token),
                    class(Meter::OutVisible, 1_000, 3 * token * token),
                ],
                outcomes: vec![
                    OutcomeClass { kind: "case".into(), sums: sums(3_000, outcome) },
                    OutcomeClass { kind: "summary".into(), sums: sums(1_000, 5) },
                ],
            },
            sheets: rollup::Sheets::default(),
        }
    }

    fn index_json(of: (&Basis, &Basis), sides: (&str, &str)) -> Result<Value, ApiError> {
        super::index(of, sides).map(|found| serde_json::to_value(found).unwrap())
    }

    fn index(earlier: &Basis, later: &Basis, of: (&str, &str)) -> Value {
        index_json((earlier, later), of).unwrap()
    }

    #[test]
    fn a_price_change_alone_moves_nothing() {
        let before = basis(7, 900, 5_000, 300);
        for after in
            [basis(11, 900, 5_000, 300), basis(7, 1, 5_000, 300), basis(7, 900, 90_000, 1), basis(1, 7, 3, 9_000)]
        {
            for of in [("tokens", "plant"), ("outcomes", "plant"), ("outcomes", "tokens")] {
                let found = index(&before, &after, of);
                assert_eq!(
                    (&found["tfp"], &found["outputs"]["index"], &found["inputs"]["index"]),
                    (&json!(1.0), &json!(1.0), &json!(1.0))
                );
            }
            assert_eq!(index(&before, &after, ("tokens", "plant"))["plant_value"]["index"], 1.0);
        }
    }

    #[test]
    fn twice_the_tokens_by_the_same_plant_are_twice_the_productivity() {
        let before = basis(7, 900, 5_000, 300);
        let mut after = basis(9, 900, 700, 300);
        for class in &mut after.products.tokens {
            class.tokens *= 2;
        }
        after.income.models[0].costed_tokens *= 2;
        after.income.models[0].machine_ns *= 2;
        after.income.busy_ns *= 2;
        let found = index(&before, &after, ("tokens", "plant"));
        assert!((found["tfp"].as_f64().unwrap() - 2.0).abs() < 1e-12, "{found}");
        let value = &found["plant_value"];
        assert_eq!(
            (&value["compute"], &value["quality"], &value["utilisation"]),
            (&json!(1.0), &json!(1.0), &json!(2.0))
        );
        assert_eq!(
            (&value["compute_tokens_per_second"][0], &value["quality_accepted_share"][0]),
            (&json!(1500.0), &json!(0.5))
        );
        let found = index(&before, &after, ("outcomes", "tokens"));
        assert!((found["tfp"].as_f64().unwrap() - 0.5).abs() < 1e-12, "the same outcomes for twice the tokens");
    }

    #[test]
    fn without_prices_tokens_count_alike_and_without_outcomes_there_is_no_value() {
        let (mut before, mut after) = (basis(0, 0, 5_000, 300), basis(0, 0, 5_000, 300));
        after.products.tokens[1].tokens = 2_000;
        let found = index(&before, &after, ("tokens", "plant"));
        // Half and a third of the tokens are output: it doubled.
        let expected = ((1.0 / 3.0 + 0.5) / 2.0 * 2.0_f64.ln()).exp();
        assert!((found["tfp"].as_f64().unwrap() - expected).abs() < 1e-12, "{found}");
        assert!(found["token_weights"].as_str().unwrap().contains("alike"));
        before.products.outcomes.clear();
        let found = index(&before, &after, ("tokens", "plant"));
        assert!(found["plant_value"]["reason"].as_str().unwrap().contains("outcomes"), "{found}");
        let refused = index_json((&before, &after), ("outcomes", "plant")).unwrap_err().body().error;
        assert_eq!(refused.param.as_deref(), Some("compare_start_time"));
        assert!(refused.message.contains("no outcomes in common"), "{}", refused.message);
    }
}
