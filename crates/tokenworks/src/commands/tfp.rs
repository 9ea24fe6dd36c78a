//! `tfp`: the value of outcomes per million tokens, and how much of it is known.

use serde_json::Value;

use super::Context;
use super::report::span;
use crate::cli::tfp::Tfp;
use crate::desk::Books;
use crate::error::Result;
use crate::output::{grouped, table};

/// Runs `tfp`.
///
/// # Errors
/// The books' refusal.
pub fn run(context: &Context, args: &Tfp) -> Result<()> {
    let mut query = span(("--from", args.from.as_deref()), ("--to", args.to.as_deref()))?;
    let by: Vec<&str> = args.by.iter().map(|by| by.as_str()).collect();
    query.push(format!("group_by={}", by.join(",")));
    query.push(format!("denominator={}", args.denominator.as_str()));
    let answer = Books::open(context, false)?.get(&format!("/tfp?{}", query.join("&")))?;
    if args.json { context.output.json(&answer) } else { context.output.text(shown(&answer)) }
}

/// Rows as a table. What is not known is `-`.
fn shown(answer: &Value) -> String {
    const HEADS: [&str; 11] = [
        "REQUESTS",
        "TOKENS",
        "VALUE",
        "TFP",
        "95% INTERVAL",
        "PER PRICE",
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
        let named = |by: &&str| row[*by].as_str().filter(|name| !name.is_empty()).unwrap_or("-").to_owned();
        rows.push(by.iter().map(named).chain(cells(row)).collect());
    }
    let (currency, denominator) = (answer["currency"].as_str(), answer["denominator"].as_str());
    let (currency, denominator) = (currency.unwrap_or_default(), denominator.unwrap_or_default());
    format!(
        "{}TFP in {currency} per 1M tokens ({denominator}); value without proxies, in {currency}; days in UTC\n",
        table(&rows)
    )
}

fn cells(row: &Value) -> [String; 11] {
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
        decimal(number("/value_per_price")),
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
            "tfp": {"per_million": 4.9019, "low": 4.0, "high": 6.0}, "value_per_price": null, "coverage": 0.25,
            "matured": 0.0, "adoption_rate": null, "tokens_per_accepted_outcome": null
        });
        let answer = json!({"group_by": ["model"], "denominator": "total", "currency": "USD", "data": [row]});
        let shown = shown(&answer);
        let cells: Vec<&str> =
            shown.lines().nth(1).unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        let expected =
            ["tiny", "12", "1,700,000", "8.33", "4.90", "4.00 to 6.00", "-", "-", "25.0%", "0.0%", "-", "0.00"];
        assert_eq!(cells, expected, "{shown}");
        assert!(shown.ends_with("TFP in USD per 1M tokens (total); value without proxies, in USD; days in UTC\n"));
    }
}
