//! `tfp`: the value of outcomes per million tokens, and how much of it is known.

mod retention;

use std::collections::BTreeSet;

use serde_json::Value;

use super::Context;
use super::report::span;
use crate::cli::tfp::Tfp;
use crate::desk::{Books, part};
use crate::error::Result;
use crate::output::{grouped, table};

/// Figures of a row.
const COLUMNS: usize = 13;

/// Runs `tfp`.
///
/// # Errors
/// The books' refusal.
pub fn run(context: &Context, args: &Tfp) -> Result<()> {
    if let Some(unit) = args.retention {
        let query = format!("/retention?of={}&weeks={}", unit.as_str(), args.weeks);
        let answer = Books::open(context, false)?.get(&query)?;
        return if args.json { context.output.json(&answer) } else { context.output.text(retention::shown(&answer)) };
    }
    let mut query = span(("--from", args.from.as_deref()), ("--to", args.to.as_deref()))?;
    let by: Vec<&str> = args.by.iter().map(|by| by.as_str()).collect();
    query.push(format!("group_by={}", by.join(",")));
    query.push(format!("denominator={}", args.denominator.as_str()));
    query.extend(args.base.iter().map(|base| format!("base={}", part(base))));
    query.extend(args.top.iter().map(|top| format!("top={top}")));
    let answer = Books::open(context, false)?.get(&format!("/tfp?{}", query.join("&")))?;
    if args.json { context.output.json(&answer) } else { context.output.text(shown(&answer)) }
}

/// Rows as a table. What is not known is `-`.
fn shown(answer: &Value) -> String {
    const HEADS: [&str; COLUMNS] = [
        "REQUESTS",
        "TOKENS",
        "VALUE",
        "TFP",
        "95% INTERVAL",
        "GROUPS",
        "PER PRICE",
        "PER COST",
        "TOKENS/UNIT",
        "COVERED",
        "MATURED",
        "ADOPTED",
        "PROXY",
    ];
    let by: Vec<&str> = answer["group_by"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let heads = by.iter().map(|by| by.to_uppercase());
    let mut rows = vec![heads.chain(HEADS.map(str::to_owned)).collect::<Vec<_>>()];
    for row in answer["data"].as_array().into_iter().flatten() {
        let others = row["others"].as_u64().map(|others| format!("{} others", grouped(others)));
        let named = |(place, by): (usize, &&str)| match &others {
            Some(others) if place == 0 => others.clone(),
            _ => row[*by].as_str().filter(|name| !name.is_empty()).unwrap_or("-").to_owned(),
        };
        rows.push(by.iter().enumerate().map(named).chain(cells(row)).collect());
    }
    let (currency, denominator) = (answer["currency"].as_str(), answer["denominator"].as_str());
    let (currency, denominator) = (currency.unwrap_or_default(), denominator.unwrap_or_default());
    let mut text = format!(
        "{}TFP in {currency} per 1M tokens ({denominator}), TOKENS/UNIT in tokens ({denominator}) per accepted outcome; value \
         without proxies, in {currency}; GROUPS of requests that the interval rests on; days in UTC\n",
        table(&rows)
    );
    text.push_str(&doubts(answer));
    text.push_str(&kinds(answer, denominator));
    if let Some(aside) = answer["aside"].as_i64().filter(|aside| *aside > 0) {
        text.push_str(&format!("outcomes kept aside, because their requests are not in the books: {aside}\n"));
    }
    let without: Vec<&str> = answer["standard_tokens"]["models_without_price"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !without.is_empty() {
        text.push_str(&format!("free, or without a list price to weigh tokens by: {}\n", without.join(", ")));
    }
    let partly = |row: &Value| row["costed"].as_f64().is_some_and(|share| share > 0.0 && share < 1.0);
    if answer["data"].as_array().into_iter().flatten().any(partly) {
        text.push_str(
            "the cost of some requests is not known: PER COST is too high by their share (`costed`, --json)\n",
        );
    }
    text.push_str(example_remark(&answer["sheet"]));
    text
}

/// Why some rows have no interval.
fn doubts(answer: &Value) -> String {
    let reason = |row: &Value| row.pointer("/tfp/reason").and_then(Value::as_str).map(str::to_owned);
    let reasons: BTreeSet<String> = answer["data"].as_array().into_iter().flatten().filter_map(reason).collect();
    reasons.iter().map(|reason| format!("no interval, where there is none: {reason}\n")).collect()
}

/// Tokens per accepted unit of work by kind, where rows have more than one kind.
fn kinds(answer: &Value, denominator: &str) -> String {
    let heads = ["OF", "KIND", "OUTCOMES", "ACCEPTED", "VALUE", "TOKENS/UNIT"].map(str::to_owned).to_vec();
    let by: Vec<&str> = answer["group_by"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut rows = vec![heads];
    for row in answer["data"].as_array().into_iter().flatten() {
        let kinds = row["kinds"].as_array().map(Vec::as_slice).unwrap_or_default();
        if kinds.len() < 2 {
            continue;
        }
        let name: Vec<&str> = by.iter().filter_map(|by| row[*by].as_str().filter(|name| !name.is_empty())).collect();
        let name = if name.is_empty() { "all".to_owned() } else { name.join(", ") };
        let decimal = |field: &Value| field.as_f64().map_or_else(unknown, |number| format!("{number:.2}"));
        let text = |field: &Value| field.as_str().map_or_else(unknown, str::to_owned);
        rows.extend(kinds.iter().map(|kind| {
            let counts = [&kind["outcomes"], &kind["accepted"]].map(decimal);
            let [outcomes, accepted] = counts;
            vec![
                name.clone(),
                text(&kind["kind"]),
                outcomes,
                accepted,
                text(&kind["value"]),
                decimal(&kind["tokens_per_accepted"]),
            ]
        }));
    }
    if rows.len() < 2 {
        String::new()
    } else {
        format!("\nBy kind of outcome, all tokens ({denominator}) of the row for each\n{}", table(&rows))
    }
}

/// What is said beside figures that rest on the example sheet.
pub(super) fn example_remark(sheet: &Value) -> &'static str {
    if sheet["example"] == true {
        "example sheet: these are nobody's costs; `tokenworks plant example` shows how to write your own\n"
    } else {
        ""
    }
}

fn cells(row: &Value) -> [String; COLUMNS] {
    let number = |place: &str| row.pointer(place).and_then(Value::as_f64);
    let count = |place: &str| row.pointer(place).and_then(Value::as_u64).map_or_else(unknown, grouped);
    let text = |place: &str| row.pointer(place).and_then(Value::as_str).map_or_else(unknown, str::to_owned);
    let decimal = |number: Option<f64>| number.map_or_else(unknown, |number| format!("{number:.2}"));
    let percent = |place: &str| number(place).map_or_else(unknown, |share| format!("{:.1}%", share * 100.0));
    let interval = number("/tfp/low").zip(number("/tfp/high"));
    [
        count("/requests"),
        count("/tokens/total"),
        text("/value/total"),
        decimal(number("/tfp/per_million")),
        interval.map_or_else(unknown, |(low, high)| format!("{low:.2} to {high:.2}")),
        number("/tfp/effective_groups").map_or_else(unknown, |groups| format!("{groups:.1}")),
        decimal(number("/value_per_price")),
        decimal(number("/value_per_cost")),
        decimal(number("/tokens_per_accepted_outcome")),
        percent("/coverage"),
        percent("/matured"),
        percent("/adoption_rate"),
        text("/proxy"),
    ]
}

fn unknown() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash() {
        let row = json!({
            "model": "tiny", "requests": 12, "tokens": {"total": 1_700_000}, "value": {"total": "8.33"}, "proxy": "0.00",
            "tfp": {"per_million": 4.9019, "low": 4.0, "high": 6.0, "effective_groups": 11.96}, "value_per_price": null, "value_per_cost": 2.5, "costed": 0.9, "coverage": 0.25,
            "matured": 0.0, "adoption_rate": null, "tokens_per_accepted_outcome": null
        });
        let kinds = json!([{"kind": "a", "accepted": 2.0, "tokens_per_accepted": 850_000.0}, {"kind": "b"}]);
        let few = json!({"per_million": 1.0, "reason": "fewer than 2 clusters show no spread"});
        let others = json!({"others": 1_204, "requests": 9, "kinds": kinds, "tfp": few});
        let sheet = json!({"version": 1, "example": true});
        let answer = json!({
            "group_by": ["model"], "denominator": "total", "currency": "USD", "aside": 3, "sheet": sheet, "data": [row, others]
        });
        let shown = shown(&answer);
        let cells: Vec<&str> =
            shown.lines().nth(1).unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        let expected = [
            "tiny",
            "12",
            "1,700,000",
            "8.33",
            "4.90",
            "4.00 to 6.00",
            "12.0",
            "-",
            "2.50",
            "-",
            "25.0%",
            "0.0%",
            "-",
            "0.00",
        ];
        assert_eq!(cells, expected, "{shown}");
        for part in [
            "1,204 others",
            "TFP in USD per 1M tokens (total), TOKENS/UNIT in tokens (total) per accepted outcome",
            "850000.00",
            "no interval, where there is none: fewer than 2 clusters show no spread",
            "outcomes kept aside, because their requests are not in the books: 3",
            "PER COST is too high",
            "example sheet: these are nobody's costs",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
