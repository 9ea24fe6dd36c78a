//! The TFP index between two periods, which no price change alone can move, and the plant value index.

use std::sync::Arc;

use analysis::index::{Good, Period, PlantValue, QuantityIndex, tornqvist};
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
use serde_json::{Value, json};

use super::{Admin, Answer, shown, unreadable};
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::plan::measured_speed;
use crate::query::Query;
use crate::routes::figures::{kwh, money, seconds, share, thousandths};
use crate::routes::period::{self, Days, date, exact};
use crate::routes::tfp::organisations;

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
        (status = 200, body = Object, description = "`tfp`: productivity of the later period / of the earlier; `outputs` and `inputs` with what they stand on; `plant_value`: compute x quality x utilisation, each with its change"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or the periods have no output or no input in common")
    )
)]
pub(crate) async fn tfp_index(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>, uri: Uri) -> Answer {
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
    index_json((&earlier, &later), (&outputs, &inputs)).map(Json)
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

    fn days(&self) -> Value {
        let (from_s, to_s) = self.period.ends_s;
        if self.period.exact {
            return json!({"from": to_rfc3339(from_s.saturating_mul(1000)), "to": to_rfc3339(to_s.saturating_mul(1000))});
        }
        let last = date(to_s.saturating_sub(1).saturating_mul(1000));
        json!({"first_day": date(from_s.saturating_mul(1000)), "last_day": last})
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

fn index_json((earlier, later): (&Basis, &Basis), (outputs, inputs): (&str, &str)) -> Result<Value, ApiError> {
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
    let Some(link) = links.first() else { return Err(ApiError::internal("an index has no link")) };
    let [before, after] = &periods;
    let weights = if priced { "list prices" } else { "tokens alike: there is no list price" };
    Ok(json!({
        "object": "tfp_index", "earlier": earlier.days(), "later": later.days(), "tfp": link.tfp,
        "outputs": side_json(outputs, &link.outputs, (&before.outputs, &after.outputs)),
        "inputs": side_json(inputs, &link.inputs, (&before.inputs, &after.inputs)),
        "token_weights": weights, "plant_value": plant_value_json(earlier, later),
        "sheet": {"earlier": shown(&earlier.sheets)?, "later": shown(&later.sheets)?},
    }))
}

fn side_json(of: &str, index: &QuantityIndex, (earlier, later): (&[Good], &[Good])) -> Value {
    let mut names: Vec<&str> = earlier.iter().chain(later).map(|good| good.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let figure =
        |side: &[Good], name: &str, read: fn(&Good) -> f64| side.iter().find(|g| g.name == name).map_or(0.0, read);
    let goods: Vec<Value> = names
        .into_iter()
        .map(|name| {
            let [quantities, values]: [fn(&Good) -> f64; 2] = [|good| good.quantity, |good| good.value];
            json!({
                "name": name, "quantity": [figure(earlier, name, quantities), figure(later, name, quantities)],
                "value": [figure(earlier, name, values), figure(later, name, values)],
            })
        })
        .collect();
    json!({"of": of, "index": index.index, "coverage": index.coverage, "left_out": index.left_out, "goods": goods})
}

fn plant_value_json(earlier: &Basis, later: &Basis) -> Value {
    let (before, after) = (earlier.value(), later.value());
    let factors = ["compute_tokens_per_second", "quality_accepted_share", "utilisation_busy_share"];
    let figures = |at: usize| json!([before.get(at).copied().flatten(), after.get(at).copied().flatten()]);
    let mut answer: Value = factors.iter().enumerate().map(|(at, name)| ((*name).to_owned(), figures(at))).collect();
    let whole = |[compute, quality, utilisation]: [Option<f64>; 3]| {
        Some(PlantValue { compute: compute?, quality: quality?, utilisation: utilisation? })
    };
    let change = match (whole(before), whole(after)) {
        (Some(before), Some(after)) => after.since(&before).map_err(|error| error.to_string()),
        _ => Err("not every factor was measured in both periods: requests whose cost is known, outcomes, busy time"
            .to_owned()),
    };
    match change {
        Ok(change) => {
            answer["index"] = change.index.into();
            for (name, factor) in
                [("compute", change.compute), ("quality", change.quality), ("utilisation", change.utilisation)]
            {
                answer[name] = factor.ratio.into();
            }
        }
        Err(reason) => answer["reason"] = reason.into(),
    }
    answer
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
