//! `report`: tokens by kind and revenue, by customer, model and tag.

use economics::window::from_rfc3339;
use serde_json::Value;

use super::Context;
use crate::cli::books::{By, Report};
use crate::desk::Books;
use crate::error::{Error, Result};
use crate::output::{grouped, table};

const DAY_S: i64 = 86_400;

/// Runs `report`.
///
/// # Errors
/// The books' refusal.
pub fn run(context: &Context, args: &Report) -> Result<()> {
    let mut query = Vec::new();
    if let Some(day) = &args.from {
        query.push(format!("start_time={}", seconds(day)?));
    }
    if let Some(day) = &args.to {
        query.push(format!("end_time={}", seconds(day)?.saturating_add(DAY_S)));
    }
    query.push(format!("group_by={}", args.by.iter().copied().map(field).collect::<Vec<_>>().join(",")));
    let answer = Books::open(context, false)?.get(&format!("/report?{}", query.join("&")))?;
    if args.json { context.output.json(&answer) } else { context.output.text(shown(&answer, &args.by)) }
}

/// Start of a day (UTC) in Unix seconds.
fn seconds(day: &str) -> Result<i64> {
    let start = from_rfc3339(&format!("{day}T00:00:00Z"));
    start.map(|ms| ms / 1000).map_err(|_no_day| Error::usage(format!("{day} is no day")).hint("for example 2026-11-01"))
}

/// The field of the admin API.
fn field(by: By) -> &'static str {
    match by {
        By::Customer => "organisation",
        By::Model => "model",
        By::Tag => "tag",
        By::Day => "day",
    }
}

/// Rows and their sum as a table.
fn shown(answer: &Value, by: &[By]) -> String {
    const COUNTS: [(&str, &str); 5] = [
        ("REQUESTS", "/requests"),
        ("INPUT", "/quantities/in_uncached"),
        ("CACHED", "/quantities/in_cached"),
        ("OUTPUT", "/quantities/out_visible"),
        ("REASONING", "/quantities/out_reasoning"),
    ];
    const AMOUNTS: [(&str, &str); 4] =
        [("LIST", "/list"), ("DISCOUNT", "/discount"), ("CREDITED", "/credited"), ("REVENUE", "/revenue")];
    let mut heads: Vec<String> = by.iter().map(|by| field(*by).to_uppercase()).collect();
    heads.extend(COUNTS.iter().chain(&AMOUNTS).map(|(head, _)| (*head).to_owned()));
    let cells = |row: &Value| {
        let count = |place: &str| row.pointer(place).and_then(Value::as_u64).map_or_else(String::new, grouped);
        let amount = |place: &str| row.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned();
        let counts: Vec<String> = COUNTS.iter().map(|(_, place)| count(place)).collect();
        counts.into_iter().chain(AMOUNTS.iter().map(|(_, place)| amount(place))).collect::<Vec<_>>()
    };
    let mut rows = vec![heads];
    for row in answer["data"].as_array().into_iter().flatten() {
        let names = by.iter().map(|by| match row[field(*by)].as_str() {
            None | Some("") => "-".to_owned(),
            Some(name) => name.to_owned(),
        });
        rows.push(names.chain(cells(row)).collect());
    }
    let mut total = vec!["TOTAL".to_owned(); by.len().min(1)];
    total.resize(by.len(), String::new());
    total.extend(cells(&answer["totals"]));
    rows.push(total);
    format!("{}amounts in {}\n", table(&rows), answer["currency"].as_str().unwrap_or_default())
}
