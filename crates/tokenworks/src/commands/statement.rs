//! `report --statement`: the income statement of the plant, and where the change from another period came from.

use analysis::compare::{Change, Class, Measure, Period, compare};
use economics::window::from_rfc3339;
use serde_json::{Value, json};

use super::Context;
use super::report::span;
use crate::cli::books::Report;
use crate::desk::Books;
use crate::error::{Error, Result};
use shown::{changes_text, indices_text, statement_text};

mod shown;

const MEASURES: [Measure; 4] =
    [Measure::TotalCost, Measure::TotalMargin, Measure::CostPerMillion, Measure::MarginPerMillion];
const NS_PER_SECOND: f64 = 1e9;
const UJ_PER_KWH: f64 = 3.6e12;

/// Runs `report --statement`.
///
/// # Errors
/// The books' refusal; periods that cannot be compared.
pub fn run(context: &Context, args: &Report) -> Result<()> {
    let later = asked(("--from", args.from.as_deref()), ("--to", args.to.as_deref()))?;
    let earlier = compared(args)?;
    let books = Books::open(context, false)?;
    let read = |query: Vec<String>| books.get(&format!("/statement?{}", query.join("&")));
    let later = read(later)?;
    let Some(earlier) = earlier.map(read).transpose()? else {
        return if args.json { context.output.json(&later) } else { context.output.text(statement_text(&later)) };
    };
    let changes = changes(&earlier, &later)?;
    let indices = indices(&books, (&earlier, &later))?;
    if args.json {
        let answer = json!({"statement": later, "earlier": earlier, "changes": changes, "tfp_index": indices});
        return context.output.json(&answer);
    }
    let text = format!("{}\n{}", statement_text(&later), changes_text(&changes, &earlier));
    context.output.text(format!("{text}\n{}", indices_text(&indices)))
}

/// The parameters of the period to compare with.
fn compared(args: &Report) -> Result<Option<Vec<String>>> {
    if let Some(both) = &args.compare {
        let (from, to) = both.split_once("..").ok_or_else(|| {
            Error::usage(format!("--compare {both} is no period"))
                .hint("name its first and its last day, for example --compare 2026-10-01..2026-10-31")
        })?;
        return asked(("--compare", Some(from)), ("--compare", Some(to))).map(Some);
    }
    match (args.compare_from.as_deref(), args.compare_to.as_deref()) {
        (None, None) => Ok(None),
        (from, to) => asked(("--compare-from", from), ("--compare-to", to)).map(Some),
    }
}

/// The parameters of a period: whole days, or exactly from one time to another.
fn asked(from: (&str, Option<&str>), to: (&str, Option<&str>)) -> Result<Vec<String>> {
    let is_time = |text: Option<&str>| text.is_some_and(|text| text.contains('T'));
    if !is_time(from.1) && !is_time(to.1) {
        return span(from, to);
    }
    let second = |(option, text): (&str, Option<&str>)| {
        let missing = || {
            Error::usage(format!("{option} is missing, and the other end is a time"))
                .hint("give two times, or two days")
        };
        let text = text.ok_or_else(missing)?;
        from_rfc3339(text).ok().filter(|ms| *ms >= 0).map(|ms| ms.div_euclid(1000)).ok_or_else(|| {
            Error::usage(format!("{option} {text} is no time"))
                .hint(format!("where one end is a time, give both, for example {option} 2026-11-01T08:00:00Z"))
        })
    };
    Ok(vec![format!("start_time={}", second(from)?), format!("end_time={}", second(to)?), "exact=true".to_owned()])
}

/// The TFP index by tokens and by outcomes; where there is none, the reason.
fn indices(books: &Books, (earlier, later): (&Value, &Value)) -> Result<Value> {
    let second = |statement: &Value, field: &str| number(statement, field).map(|_| statement[field].clone());
    let exact = later["exact"] == true || earlier["exact"] == true;
    let query = format!(
        "start_time={}&end_time={}&compare_start_time={}&compare_end_time={}&exact={exact}",
        second(later, "start_time")?,
        second(later, "end_time")?,
        second(earlier, "start_time")?,
        second(earlier, "end_time")?
    );
    let index = |outputs: &str| match books.get(&format!("/tfp-index?{query}&outputs={outputs}")) {
        Ok(answer) => answer,
        Err(error) => json!({"reason": error.to_string()}),
    };
    Ok(json!({"tokens": index("tokens"), "outcomes": index("outcomes")}))
}

/// Tokens per second of machine time, of the requests whose cost is known: what the plant does at full load with their mix.
pub(super) fn measured_speed(statement: &Value) -> Result<Option<f64>> {
    let models = statement["models"].as_array().ok_or_else(|| unclear("models"))?;
    let sum = |field| models.iter().map(|model| number(model, field)).sum::<Result<f64>>();
    let (tokens, seconds) = (sum("costed_tokens")?, sum("machine_ns")? / NS_PER_SECOND);
    Ok((tokens > 0.0 && seconds > 0.0).then(|| tokens / seconds))
}

/// Where the change of each measure came from.
fn changes(earlier: &Value, later: &Value) -> Result<Vec<Change>> {
    let (earlier, later) = (period(earlier)?, period(later)?);
    let change = |measure| {
        compare(&earlier, &later, measure).map_err(|error| {
            Error::failure(format!("these periods cannot be compared: {}: {}", error.field, error.problem))
                .hint("compare periods in which the plant kept costs and served requests")
        })
    };
    MEASURES.into_iter().map(change).collect()
}

/// A statement as a period to compare: models are its classes of work, and energy, at the period's mean price, is what they
/// use beyond time. All other cost, idle power included, accrues with time.
fn period(statement: &Value) -> Result<Period> {
    let power = statement["sources"].as_array().into_iter().flatten().find(|row| row["source"] == "power");
    let power = power.map_or(Ok(0.0), |row| amount(row, "cost"))?;
    let kwh = number(statement, "energy_uj")? / UJ_PER_KWH;
    let unit_price = if kwh > 0.0 { power / kwh } else { 0.0 };
    let models = statement["models"].as_array().ok_or_else(|| unclear("models"))?;
    let classes = models.iter().map(class).collect::<Result<Vec<_>>>()?;
    let of_units: f64 = classes.iter().map(|class| class.units * unit_price).sum();
    Ok(Period {
        // Requests that began in the period before may have used more energy than this one's hours.
        standing_cost: (amount(statement, "cost")? - of_units).max(0.0),
        plant_seconds: number(statement, "length_ns")? / NS_PER_SECOND,
        unit_price,
        classes,
    })
}

fn class(model: &Value) -> Result<Class> {
    let quantities = model["quantities"].as_object().ok_or_else(|| unclear("quantities"))?;
    let charged: f64 = quantities.values().filter_map(Value::as_f64).sum();
    Ok(Class {
        name: model["model"].as_str().ok_or_else(|| unclear("model"))?.to_owned(),
        // A request may be charged on one day and its cost be known on the next.
        tokens: if charged > 0.0 { charged } else { number(model, "costed_tokens")? },
        busy_seconds: number(model, "machine_ns")? / NS_PER_SECOND,
        units: number(model, "energy_uj")? / UJ_PER_KWH,
        revenue: amount(model, "revenue")?,
    })
}

fn number(value: &Value, field: &str) -> Result<f64> {
    value[field].as_f64().ok_or_else(|| unclear(field))
}

/// Money, which is decimal text.
fn amount(value: &Value, field: &str) -> Result<f64> {
    value[field].as_str().and_then(|text| text.parse().ok()).ok_or_else(|| unclear(field))
}

fn unclear(field: &str) -> Error {
    Error::failure(format!("the server's statement has no `{field}`")).hint("use the same version for both")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 of standing cost and 1 of power for 2 kWh, of which the model used one.
    fn statement(cost: &str, revenue: &str) -> Value {
        json!({
            "cost": cost, "energy_uj": 7_200_000_000_000_u64, "length_ns": 100_000_000_000_u64,
            "sources": [{"source": "power", "cost": "1.00"}, {"source": "rent", "cost": "2.00"}],
            "models": [{
                "model": "tiny", "quantities": {"in_uncached": 600_000, "out_visible": 400_000}, "costed_tokens": 7,
                "machine_ns": 25_000_000_000_u64, "energy_uj": 3_600_000_000_000_u64, "revenue": revenue,
            }],
        })
    }

    #[test]
    fn a_statement_is_a_period_with_the_same_cost() {
        let period = period(&statement("3.00", "4.00")).unwrap();
        assert_eq!((period.standing_cost, period.plant_seconds, period.unit_price), (2.5, 100.0, 0.5));
        assert_eq!(measured_speed(&statement("3.00", "4.00")).unwrap(), Some(7.0 / 25.0));
        assert_eq!(measured_speed(&json!({"models": []})).unwrap(), None);
        let class = &period.classes[0];
        assert_eq!((class.tokens, class.busy_seconds, class.units, class.revenue), (1e6, 25.0, 1.0, 4.0));
    }

    #[test]
    fn a_change_of_price_is_told_from_one_of_cost() {
        let found = changes(&statement("3.00", "4.00"), &statement("5.00", "6.00")).unwrap();
        let [cost, margin, ..] = found.as_slice() else { panic!("{found:?}") };
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
        near(cost.from, 3.0);
        near(cost.to, 5.0);
        near(cost.parts.input_price, 2.0);
        near(margin.parts.price, 2.0);
        near(margin.change, 0.0);
    }

    #[test]
    fn periods_without_costs_are_refused_by_name() {
        let mut empty = statement("3.00", "4.00");
        empty["models"] = json!([]);
        let error = changes(&empty, &statement("3.00", "4.00")).unwrap_err().to_string();
        assert!(error.contains("tokens of earlier"), "{error}");
    }
}
