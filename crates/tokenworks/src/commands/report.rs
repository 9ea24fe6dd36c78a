//! `report`: tokens by kind and revenue, by customer, model and tag.

use economics::rollup::MAX_REPORT_DAYS;
use economics::window::from_rfc3339;
use serde_json::Value;

use super::Context;
use crate::books::now_ms;
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
    let mut query = span(args.from.as_deref(), args.to.as_deref())?;
    query.push(format!("group_by={}", args.by.iter().copied().map(field).collect::<Vec<_>>().join(",")));
    let answer = Books::open(context, false)?.get(&format!("/report?{}", query.join("&")))?;
    if args.json { context.output.json(&answer) } else { context.output.text(shown(&answer, &args.by)) }
}

/// The parameters of the span from the first day to the last one.
pub(super) fn span(from: Option<&str>, to: Option<&str>) -> Result<Vec<String>> {
    let start_s = from.map(|day| seconds("--from", day)).transpose()?;
    let end_s = to.map(|day| seconds("--to", day)).transpose()?.map(|start_s| start_s.saturating_add(DAY_S));
    if let (Some(from), Some(start_s)) = (from, start_s) {
        let days = end_s.unwrap_or(now_ms() / 1000).saturating_sub(start_s).div_euclid(DAY_S);
        if days < 0 || end_s == Some(start_s) {
            return Err(Error::usage(format!("--from {from} is after --to {}", to.unwrap_or("(today)")))
                .hint("name the first day by --from and the last one by --to"));
        }
        if days > MAX_REPORT_DAYS {
            return Err(Error::usage(format!("--from {from} is more than {MAX_REPORT_DAYS} days before the last day"))
                .hint("begin later, or name an earlier last day by --to"));
        }
    }
    let start = start_s.map(|start_s| format!("start_time={start_s}"));
    Ok(start.into_iter().chain(end_s.map(|end_s| format!("end_time={end_s}"))).collect())
}

/// Start of a day (UTC) in Unix seconds.
fn seconds(option: &str, day: &str) -> Result<i64> {
    let start = from_rfc3339(&format!("{day}T00:00:00Z")).ok().map(|ms| ms.div_euclid(1000));
    match start {
        Some(start_s) if start_s >= 0 => Ok(start_s),
        Some(_) => Err(Error::usage(format!("{option} {day} is before 1970"))
            .hint("no books are that old; leave the option out, or write a later day")),
        None => Err(Error::usage(format!("{option} {day} is no day")).hint(format!("for example {option} 2026-11-01"))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_option_and_the_fix() {
        assert_eq!(span(Some("1970-01-02"), Some("1970-01-02")).unwrap(), ["start_time=86400", "end_time=172800"]);
        assert_eq!(span(None, None).unwrap(), [""; 0]);
        for (from, to, part) in [
            (Some("0001-01-01"), None, "--from 0001-01-01 is before 1970"),
            (None, Some("1969-12-31"), "--to 1969-12-31 is before 1970"),
            (Some("yesterday"), None, "--from yesterday is no day"),
            (None, Some("2026-13-01"), "--to 2026-13-01 is no day"),
            (Some("2026-01-02"), Some("2026-01-01"), "--from 2026-01-02 is after --to 2026-01-01"),
            (Some("2026-01-03"), Some("2026-01-01"), "is after --to"),
            (Some("9999-01-01"), None, "is after --to (today)"),
            (Some("2010-01-01"), Some("2026-01-01"), "more than 3660 days before"),
            (Some("1970-01-01"), None, "more than 3660 days before"),
        ] {
            let error = span(from, to).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
