//! `experiments`: arms that are compared by what their tokens bring.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::Context;
use super::customers::{given, put};
use crate::cli::experiments::{Experiment, Experiments, Weights};
use crate::desk::{Books, part, there};
use crate::error::{Error, Result};
use crate::output::{grouped, table};

/// Runs `experiments`.
///
/// # Errors
/// The books' refusal.
pub fn run(context: &Context, command: &Experiments) -> Result<()> {
    let books = Books::open(context, matches!(command, Experiments::Add(_)))?;
    match command {
        Experiments::List { json: true } => context.output.json(&books.list("experiments")?),
        Experiments::List { json: false } => context.output.text(listed(&books.list("experiments")?)),
        Experiments::Show { id, json } => {
            let answer = books.get(&format!("/experiments/{}/results", part(id)))?;
            if *json { context.output.json(&answer) } else { context.output.text(shown(&answer)) }
        }
        Experiments::Add(args) => put(context, &books, ("experiments", &args.id), &args.fields, |known| match known {
            None => record(args),
            Some(_) => Err(Error::usage(format!("there is an experiment \"{}\" already", args.id))
                .hint(format!("change its weights: tokenworks experiments set {}", args.id))),
        }),
        Experiments::Set(args) => put(context, &books, ("experiments", &args.id), &args.fields, |known| {
            weighted(there(known, "experiments", &args.id)?, args)
        }),
        Experiments::Stop { id, winner } => {
            let path = format!("/experiments/{}/stop", part(id));
            let answer = books.send("POST", &path, &json!({"winner": winner}))?;
            context.output.json(answer.get("record").unwrap_or(&answer))
        }
    }
}

fn word(value: impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

fn record(args: &Experiment) -> Result<Map<String, Value>> {
    let mut record = Map::new();
    record.insert("id".to_owned(), args.id.as_str().into());
    record.insert("organisation".to_owned(), args.customer.as_str().into());
    given(&mut record, "project", args.project.as_deref());
    given(&mut record, "unit", word(args.unit));
    given(&mut record, "metric", args.metric.and_then(word));
    given(&mut record, "allocation", args.allocation.and_then(word));
    let arms: Vec<Value> = args.arms.iter().map(|text| arm(text)).collect::<Result<_>>()?;
    record.insert("arms".to_owned(), arms.into());
    Ok(record)
}

/// `NAME=WEIGHT` and what it sets; the books say what it may.
fn arm(text: &str) -> Result<Value> {
    let wrong = || {
        Error::usage(format!("--arm {text}: not NAME=WEIGHT[,FIELD=VALUE…]"))
            .hint("for example --arm warm=500,prompt_version=v2,temperature=0.7")
    };
    let mut parts = text.split(',');
    let (name, weight) = named_weight(parts.next().unwrap_or_default()).ok_or_else(wrong)?;
    let (mut arm, mut settings) = (Map::new(), Map::new());
    arm.insert("name".to_owned(), name.into());
    arm.insert("weight".to_owned(), weight.into());
    for part in parts {
        match part.split_once('=') {
            None if part == "held_out" => drop(arm.insert("held_out".to_owned(), true.into())),
            Some((field @ ("model" | "prompt_version"), value)) => {
                arm.insert(field.to_owned(), value.into());
            }
            Some((field, value)) => {
                let value = serde_json::from_str(value).unwrap_or_else(|_not_json| Value::from(value));
                settings.insert(field.to_owned(), value);
            }
            None => return Err(wrong()),
        }
    }
    if !settings.is_empty() {
        arm.insert("settings".to_owned(), Value::Object(settings));
    }
    Ok(Value::Object(arm))
}

fn named_weight(text: &str) -> Option<(&str, u16)> {
    let (name, weight) = text.rsplit_once('=')?;
    Some((name, weight.parse().ok()?))
}

fn weighted(mut record: Map<String, Value>, args: &Weights) -> Result<Map<String, Value>> {
    given(&mut record, "allocation", args.allocation.and_then(word));
    for text in &args.weights {
        let (name, weight) = named_weight(text).ok_or_else(|| {
            Error::usage(format!("--weight {text}: not ARM=WEIGHT")).hint("for example --weight warm=800")
        })?;
        let arms = record.get_mut("arms").and_then(Value::as_array_mut).into_iter().flatten();
        let arm = arms.filter_map(Value::as_object_mut).find(|arm| arm.get("name").is_some_and(|known| known == name));
        let arm = arm.ok_or_else(|| {
            Error::usage(format!("--weight {text}: there is no arm \"{name}\"")).hint("experiments list shows the arms")
        })?;
        arm.insert("weight".to_owned(), weight.into());
    }
    Ok(record)
}

fn listed(records: &[Value]) -> String {
    let heads = ["ID", "CUSTOMER", "UNIT", "METRIC", "STATE", "ARMS"].map(str::to_owned).to_vec();
    let text = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let rows = records.iter().map(|record| {
        let arms = record["arms"].as_array().into_iter().flatten();
        let arms: Vec<String> = arms.map(|arm| format!("{}={}", text(arm, "name"), arm["weight"])).collect();
        let mut row = ["id", "organisation", "unit", "metric", "state"].map(|name| text(record, name)).to_vec();
        row.push(arms.join(" "));
        row
    });
    table(&std::iter::once(heads).chain(rows).collect::<Vec<_>>())
}

/// Arms as a table, then what is said of them, a line each. What is not known is `-`.
fn shown(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let heads = ["ARM", "WEIGHT", "UNITS", "COMPARED", "REQUESTS", "TOKENS", "VALUE", "ACCEPTED", "METRIC"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for arm in answer["arms"].as_array().into_iter().flatten() {
        let count = |place: &str| arm.pointer(place).and_then(Value::as_u64).map_or_else(|| "-".to_owned(), grouped);
        let held_out = if arm["held_out"] == true { " (held out)" } else { "" };
        rows.push(vec![
            format!("{}{held_out}", text(&arm["name"])),
            count("/weight"),
            count("/units"),
            count("/compared_units"),
            count("/requests"),
            count("/tokens/total"),
            text(&arm["value"]),
            arm["accepted_outcomes"].to_string(),
            significant(&arm["metric"]),
        ]);
    }
    let mut lines = vec![table(&rows).trim_end().to_owned()];
    let experiment = &answer["experiment"];
    lines.push(format!(
        "{}, {}; {} in {}",
        text(&experiment["state"]),
        text(&answer["allocation"]["kind"]),
        text(&answer["metric_unit"]),
        text(&answer["currency"])
    ));
    for comparison in answer["comparisons"].as_array().into_iter().flatten() {
        let (arm, control) = (text(&comparison["arm"]), text(&answer["control"]));
        let said = match &comparison["difference"] {
            Value::Null => text(&comparison["reason"]),
            difference => {
                let decided = if comparison["decided"] == true { "they differ" } else { "not decided yet" };
                format!("{}: {decided}", interval(difference))
            }
        };
        lines.push(format!("{arm} - {control}: {said}"));
    }
    let ratio = &answer["sample_ratio"];
    let warning =
        if ratio["mismatch"] == true { ": units are lost or moved, do not believe the comparison" } else { "" };
    lines.push(format!("units as the weights say: p = {}{warning}", significant(&ratio["p_value"])));
    let incremental = &answer["incremental"];
    if incremental.is_object() {
        let tfp = &incremental["tfp"];
        let range = match &tfp["interval"] {
            Value::Null => text(if tfp.is_null() { &incremental["reason"] } else { &tfp["reason"] }),
            range => format!("{} to {}", significant(&range["low"]), significant(&range["high"])),
        };
        lines.push(format!("incremental value per 1M tokens: {} ({range})", significant(&tfp["estimate"])));
    }
    lines.push(text(&answer["maturity"]["remark"]));
    lines.join("\n") + "\n"
}

fn interval(change: &Value) -> String {
    let range = &change["interval"];
    format!("{} ({} to {})", significant(&change["estimate"]), significant(&range["low"]), significant(&range["high"]))
}

/// Four decimals; of the very small and the very large, four digits.
fn significant(number: &Value) -> String {
    number.as_f64().map_or_else(
        || "-".to_owned(),
        |number| match number.abs() {
            size if size == 0.0 || (1e-3..1e6).contains(&size) => format!("{number:.4}"),
            _ => format!("{number:.3e}"),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_are_read_from_words() {
        let read = arm("warm=500,model=m:a,prompt_version=v=2,temperature=0.7,max_tokens=5").unwrap();
        let expected = json!({"name": "warm", "weight": 500, "model": "m:a", "prompt_version": "v=2",
            "settings": {"temperature": 0.7, "max_tokens": 5}});
        assert_eq!(read, expected);
        assert_eq!(arm("none=100,held_out").unwrap(), json!({"name": "none", "weight": 100, "held_out": true}));
        for wrong in ["warm", "warm=x", "warm=500,held", "", "warm=70000"] {
            assert!(arm(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn results_are_a_table_and_a_line_for_each_comparison() {
        let answer = json!({
            "control": "plain", "currency": "USD", "metric_unit": "value per token", "experiment": {"state": "running"},
            "allocation": {"kind": "fixed"},
            "arms": [{"name": "plain", "weight": 500, "held_out": false, "units": 1200, "compared_units": 1100,
                "requests": 3, "tokens": {"total": 5}, "value": "2.50", "accepted_outcomes": 1.0, "metric": 0.00001},
                {"name": "none", "weight": 500, "held_out": true, "units": 1, "compared_units": 1, "requests": 0,
                "tokens": {"total": 0}, "value": "0.00", "accepted_outcomes": 0.0, "metric": null}],
            "comparisons": [{"arm": "warm", "difference": {"estimate": 0.5, "interval": {"low": 0.1, "high": 0.9}},
                "decided": true, "reason": null}],
            "sample_ratio": {"p_value": 0.001, "mismatch": true}, "incremental": null,
            "maturity": {"remark": "all are compared"}
        });
        let shown = shown(&answer);
        for part in [
            "plain            500     1,200  1,100     3         5       2.50   1.0       1.000e-5",
            "none (held out)",
            "warm - plain: 0.5000 (0.1000 to 0.9000): they differ",
            "p = 0.0010: units are lost",
            "all are compared\n",
        ] {
            assert!(shown.contains(part), "{part}\n{shown}");
        }
    }
}
