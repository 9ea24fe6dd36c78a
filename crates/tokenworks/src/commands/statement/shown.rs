//! Statements and their changes as text.

use economics::window::to_rfc3339;
use serde_json::Value;

use crate::commands::tfp::example_remark;
use crate::output::{grouped, table};

/// The statement: what was sold, what it cost, what is left, and by what it was made.
pub(super) fn statement_text(statement: &Value) -> String {
    let currency = statement["currency"].as_str().unwrap_or_default();
    let mut text = format!("Income statement, {} (UTC), amounts in {currency}\n", days(statement));
    text.push_str(example_remark(&statement["sheet"]));
    for part in [sold(statement), costs(statement), result(statement), work(statement), value(statement)] {
        text.push('\n');
        text.push_str(&table(&part));
    }
    text
}

/// First and last day, or its two ends.
fn days(statement: &Value) -> String {
    let day =
        |seconds: i64| to_rfc3339(seconds.saturating_mul(1000)).chars().take_while(|c| *c != 'T').collect::<String>();
    let second = |field: &str| statement[field].as_i64().unwrap_or_default();
    if statement["exact"] == true {
        let time = |field: &str| to_rfc3339(second(field).saturating_mul(1000));
        return format!("{} to {}", time("start_time"), time("end_time"));
    }
    format!("{} to {}", day(second("start_time")), day(second("end_time").saturating_sub(1)))
}

fn row(name: &str, figure: String) -> Vec<String> {
    vec![name.to_owned(), figure]
}

fn amount(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn count(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".to_owned(), grouped)
}

/// Thousandths as a share.
fn share(value: &Value) -> String {
    value.as_i64().map_or_else(|| "-".to_owned(), |permille| format!("{:.1} %", permille as f64 / 10.0))
}

/// How long the intervals of cost are together.
fn accounted(statement: &Value) -> String {
    statement["length_ns"].as_u64().map_or_else(|| "-".to_owned(), |ns| format!("{:.1} s", ns as f64 / 1e9))
}

fn sold(statement: &Value) -> Vec<Vec<String>> {
    let sold = &statement["sold"];
    let tokens = &sold["quantities"];
    vec![
        row("requests", count(&sold["requests"])),
        row("input tokens", count(&tokens["in_uncached"])),
        row("cached input tokens", count(&tokens["in_cached"])),
        row("output tokens", count(&tokens["out_visible"])),
        row("reasoning tokens", count(&tokens["out_reasoning"])),
        row("list price", amount(&sold["list"])),
        row("discount", amount(&sold["discount"])),
        row("credited", amount(&sold["credited"])),
        row("revenue", amount(&statement["revenue"])),
    ]
}

/// Cost by source beside what is usual, and who bears it.
fn costs(statement: &Value) -> Vec<Vec<String>> {
    let heads = ["COST", "AMOUNT", "SHARE", "USUAL SHARE"].map(str::to_owned).to_vec();
    let mut rows = vec![heads];
    for source in statement["sources"].as_array().into_iter().flatten() {
        let usual = source["usual_permille"].as_array().map(|ends| ends.iter().filter_map(Value::as_u64));
        let usual = usual.map(|ends| ends.map(|permille| (permille / 10).to_string()).collect::<Vec<_>>().join("-"));
        rows.push(vec![
            source["source"].as_str().unwrap_or_default().to_owned(),
            amount(&source["cost"]),
            share(&source["permille"]),
            usual.map_or_else(|| "-".to_owned(), |range| format!("{range} %")),
        ]);
    }
    for (name, field) in
        [("all", "cost"), ("  attributed", "attributed"), ("  idle", "idle"), ("  in progress", "in_progress")]
    {
        rows.push(row(name, amount(&statement[field])));
    }
    rows
}

fn result(statement: &Value) -> Vec<Vec<String>> {
    let per_million = &statement["per_million"];
    vec![
        row("margin (revenue less cost)", amount(&statement["margin"])),
        row("per 1M tokens: marginal cost", amount(&per_million["marginal"])),
        row("per 1M tokens: attributed cost", amount(&per_million["attributed"])),
        row("per 1M tokens: full cost", amount(&per_million["full"])),
        row("per 1M tokens: billed", amount(&per_million["billed"])),
        row("wasted on rejected guesses", amount(&statement["rejected"])),
        row("wasted on computing again", amount(&statement["recomputed"])),
    ]
}

/// How the plant worked.
fn work(statement: &Value) -> Vec<Vec<String>> {
    let joules = statement["uj_per_output_token"].as_u64();
    let joules = joules.map_or_else(|| "-".to_owned(), |uj| format!("{:.6}", uj as f64 / 1e6));
    let estimated = share(&statement["estimated_permille"]);
    let goodput = &statement["goodput"];
    let goodput = match (goodput["share"].as_f64(), goodput["requests_per_second"].as_f64()) {
        (Some(share), Some(rate)) => format!(
            "{rate:.6} requests/s: {} of {} met all objectives ({:.1} %)",
            count(&goodput["met"]),
            count(&goodput["stated"]),
            share * 100.0
        ),
        _ => "- (no request with stated objectives: `slo.ttft_ms`, `slo.tpot_ms`, `slo.e2e_ms`)".to_owned(),
    };
    vec![
        row("J per output token (facility)", format!("{joules}, {estimated} of the time estimated")),
        row("time accounted for", accounted(statement)),
        row("utilisation", share(&statement["utilisation_permille"])),
        row("goodput", goodput),
    ]
}

/// What the tokens were worth to those who used them.
fn value(statement: &Value) -> Vec<Vec<String>> {
    let value = &statement["value"];
    let number = |place: &str| value.pointer(place).and_then(Value::as_f64);
    let decimal = |place: &str| number(place).map_or_else(|| "-".to_owned(), |number| format!("{number:.2}"));
    let percent = |place: &str| number(place).map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let interval = match (number("/tfp/low"), number("/tfp/high")) {
        (Some(low), Some(high)) => format!(", 95 % interval {low:.2} to {high:.2}"),
        _ => String::new(),
    };
    vec![
        row("value of outcomes (without proxies)", amount(&value["value"]["total"])),
        row("TFP per 1M tokens (input and output)", format!("{}{interval}", decimal("/tfp/per_million"))),
        row(
            "value per price, per attributed cost",
            format!("{}, {}", decimal("/value_per_price"), decimal("/value_per_cost")),
        ),
        row("tokens per accepted outcome", decimal("/tokens_per_accepted_outcome")),
        row(
            "with an outcome, matured, adopted",
            format!("{}, {}, {}", percent("/coverage"), percent("/matured"), percent("/adoption_rate")),
        ),
    ]
}

/// Indices between the periods.
pub(super) fn indices_text(indices: &Value) -> String {
    let figure = |value: &Value| value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.4}"));
    let mut rows = vec![["INDEX (earlier period = 1)", "ALL", "OUTPUTS", "INPUTS"].map(str::to_owned).to_vec()];
    for (name, found) in [
        ("TFP: tokens / machine time and energy", &indices["tokens"]),
        ("TFP: accepted outcomes / machine time and energy", &indices["outcomes"]),
    ] {
        let figures = [&found["tfp"], &found["outputs"]["index"], &found["inputs"]["index"]].map(figure);
        rows.push(std::iter::once(name.to_owned()).chain(figures).collect());
    }
    let mut text = format!("A change of prices or tariffs alone leaves TFP at 1\n{}", table(&rows));
    let plant = &indices["tokens"]["plant_value"];
    let heads = ["PLANT VALUE = COMPUTE x QUALITY x UTILISATION", "EARLIER", "LATER", "CHANGE"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (name, field, change) in [
        ("compute: tokens per second of machine time", "compute_tokens_per_second", "compute"),
        ("model quality: accepted share of outcomes", "quality_accepted_share", "quality"),
        ("utilisation: busy share of the time", "utilisation_busy_share", "utilisation"),
    ] {
        let figures = [&plant[field][0], &plant[field][1], &plant[change]].map(figure);
        rows.push(std::iter::once(name.to_owned()).chain(figures).collect());
    }
    rows.push(vec!["plant value index".to_owned(), String::new(), String::new(), figure(&plant["index"])]);
    text.push('\n');
    text.push_str(&table(&rows));
    for reason in [&indices["tokens"]["reason"], &indices["outcomes"]["reason"], &plant["reason"]] {
        text.extend(reason.as_str().map(|reason| format!("{reason}\n")));
    }
    text
}

/// Where changes from the earlier period came from.
pub(super) fn changes_text(changes: &Value, earlier: &Value) -> String {
    let heads =
        ["CHANGE OF", "FROM", "TO", "CHANGE", "VOLUME", "MIX", "EFFICIENCY", "UTILISATION", "INPUT PRICE", "PRICE"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for change in changes.as_array().into_iter().flatten() {
        let name = match change["measure"].as_str().unwrap_or_default() {
            "total_cost" => "cost",
            "total_margin" => "margin",
            "cost_per_million" => "cost per 1M",
            "margin_per_million" => "margin per 1M",
            other => other,
        };
        let figures = ["from", "to", "change"].map(|field| amount(&change[field]));
        let parts = ["volume", "mix", "efficiency", "utilisation", "input_price", "price"];
        let parts = parts.map(|part| amount(&change["parts"][part]));
        rows.push(std::iter::once(name.to_owned()).chain(figures).chain(parts).collect());
    }
    format!("Compared with {}: where each change came from\n{}", days(earlier), table(&rows))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_statement_says_what_is_not_measured_and_whose_figures_it_shows() {
        let empty =
            json!({"currency": "USD", "start_time": 0, "end_time": 86_400, "sheet": {"version": 1, "example": true}});
        let shown = statement_text(&empty);
        for part in [
            "Income statement, 1970-01-01 to 1970-01-01",
            "example sheet: these are nobody's costs",
            "goodput",
            "no request with stated objectives",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let mut whole = empty;
        whole["sheet"]["example"] = json!(false);
        whole["goodput"] = json!({"stated": 40, "met": 30, "share": 0.75, "requests_per_second": 0.5});
        whole["value"] = json!({"tfp": {"per_million": 4.9, "low": 4.0, "high": 6.0}, "value_per_price": 41.7, "value_per_cost": null});
        let shown = statement_text(&whole);
        for part in ["30 of 40 met all objectives (75.0 %)", "4.90, 95 % interval 4.00 to 6.00", "41.70, -"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("example"), "{shown}");
    }

    #[test]
    fn an_index_that_cannot_be_says_why() {
        let plant = json!({"compute_tokens_per_second": [10.0, 20.0], "quality_accepted_share": [null, 0.5], "reason": "not every factor"});
        let tokens = json!({"tfp": 1.25, "outputs": {"index": 2.5}, "inputs": {"index": 2.0}, "plant_value": plant});
        let shown = indices_text(&json!({"tokens": tokens, "outcomes": {"reason": "no outcomes in common"}}));
        for part in ["1.2500", "2.5000", "20.0000", "no outcomes in common", "not every factor"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
