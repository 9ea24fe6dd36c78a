//! Statements and their changes as text.

use analysis::compare::{Change, Measure};
use economics::window::to_rfc3339;
use serde_json::Value;

use crate::output::{grouped, table};

/// The statement.
pub(super) fn statement_text(statement: &Value) -> String {
    let currency = statement["currency"].as_str().unwrap_or_default();
    let mut text = format!("Income statement, {} (UTC), amounts in {currency}\n\n", days(statement));
    text.push_str(&table(&sold(statement)));
    text.push('\n');
    text.push_str(&table(&costs(statement)));
    text.push('\n');
    text.push_str(&table(&result(statement)));
    text
}

/// First and last day.
fn days(statement: &Value) -> String {
    let day =
        |seconds: i64| to_rfc3339(seconds.saturating_mul(1000)).chars().take_while(|c| *c != 'T').collect::<String>();
    let second = |field: &str| statement[field].as_i64().unwrap_or_default();
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
    let joules = statement["uj_per_output_token"].as_u64();
    let joules = joules.map_or_else(|| "-".to_owned(), |uj| format!("{:.6}", uj as f64 / 1e6));
    let estimated = share(&statement["estimated_permille"]);
    vec![
        row("margin", amount(&statement["margin"])),
        row("per 1M tokens: marginal cost", amount(&per_million["marginal"])),
        row("per 1M tokens: attributed cost", amount(&per_million["attributed"])),
        row("per 1M tokens: full cost", amount(&per_million["full"])),
        row("per 1M tokens: billed", amount(&per_million["billed"])),
        row("wasted on rejected guesses", amount(&statement["rejected"])),
        row("wasted on computing again", amount(&statement["recomputed"])),
        row("utilisation", share(&statement["utilisation_permille"])),
        row("J per output token (facility)", format!("{joules}, {estimated} of the time estimated")),
    ]
}

/// Where changes from the earlier period came from.
pub(super) fn changes_text(changes: &[Change], earlier: &Value) -> String {
    let heads =
        ["CHANGE OF", "FROM", "TO", "CHANGE", "VOLUME", "MIX", "EFFICIENCY", "UTILISATION", "INPUT PRICE", "PRICE"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for change in changes {
        let parts = &change.parts;
        let figures = [
            change.from,
            change.to,
            change.change,
            parts.volume,
            parts.mix,
            parts.efficiency,
            parts.utilisation,
            parts.input_price,
            parts.price,
        ];
        let name = match change.measure {
            Measure::TotalCost => "cost",
            Measure::TotalMargin => "margin",
            Measure::CostPerMillion => "cost per 1M",
            Measure::MarginPerMillion => "margin per 1M",
        };
        rows.push(std::iter::once(name.to_owned()).chain(figures.map(|figure| format!("{figure:.6}"))).collect());
    }
    format!("Compared with {}: where each change came from\n{}", days(earlier), table(&rows))
}
