//! The plan as text.

use analysis::plan::Month;
use server::plan::PlanAnswer;

use crate::output::{grouped, table};

/// All of it.
pub(super) fn text(answer: &PlanAnswer) -> String {
    let PlanAnswer { currency, plan, plant, scenario, .. } = answer;
    let machines = scenario.machines;
    let noun = if machines == 1 { "machine" } else { "machines" };
    let mut text = format!(
        "{machines} {noun}, {:.2} tokens/s each at full load; amounts in {currency}, a month is 730 hours\n",
        plan.tokens_per_second
    );
    if answer.measured {
        text.push_str(
            "The speed is the one that these books measured in the last 30 days, with the tokens' mix of then.\n",
        );
    }
    if plant.example {
        text.push_str(
            "EXAMPLE: costs that the command line does not give are those of an example plant, not of yours; name its \
             sheet by --plant FILE\n",
        );
    }
    for warning in &plan.warnings {
        text.push_str(&format!("WARNING: {}\n", warning.text));
    }
    text.push('\n');
    text.push_str(&table(&figures(answer)));
    text.push_str("\nEconomies of scale: as many machines as it takes\n");
    text.push_str(&table(&months(&plan.scale)));
    text.push_str("\nOne more machine for the same demand\n");
    text.push_str(&table(&months(&[plan.month, plan.one_more_machine])));
    text
}

/// Names and figures.
fn figures(answer: &PlanAnswer) -> Vec<Vec<String>> {
    let PlanAnswer { plan, implied_rent, .. } = answer;
    let month = &plan.month;
    let mut rows = vec![
        ("tokens a month", tokens(month.tokens)),
        ("utilisation", percent(month.utilisation)),
        ("marginal cost per 1M tokens", money(plan.marginal_cost_per_million)),
        ("full cost per 1M tokens", month.full_cost_per_million.map_or_else(none, money)),
        ("price per 1M tokens", money(plan.price_per_million)),
        ("cost a month", money(month.fixed_cost + month.variable_cost)),
        ("revenue a month", money(month.revenue)),
        ("margin a month", money(month.margin)),
    ];
    match &plan.break_even {
        Some(even) => {
            rows.push(("break-even, tokens a month", tokens(even.tokens)));
            let beyond = if even.utilisation > 1.0 { ": more than these machines can do" } else { "" };
            rows.push(("break-even, utilisation", format!("{}{beyond}", percent(even.utilisation))));
        }
        None => rows.push(("break-even", "never: a token costs more than it brings".to_owned())),
    }
    if let Some(claimed) = implied_rent.as_claimed.filter(|claimed| *claimed > implied_rent.as_planned) {
        rows.push(("rent an hour that the price pays, at the speed given", money(claimed)));
    }
    rows.push(("rent an hour that the price pays, at full load", money(implied_rent.as_planned)));
    rows.into_iter().map(|(name, figure)| vec![name.to_owned(), figure]).collect()
}

/// Months as a table.
fn months(months: &[Month]) -> Vec<Vec<String>> {
    let heads = ["TOKENS", "MACHINES", "UTILISATION", "COST", "REVENUE", "MARGIN", "COST PER 1M"];
    let row = |month: &Month| {
        vec![
            tokens(month.tokens),
            month.machines.to_string(),
            percent(month.utilisation),
            money(month.fixed_cost + month.variable_cost),
            money(month.revenue),
            money(month.margin),
            month.full_cost_per_million.map_or_else(none, money),
        ]
    };
    let heads = heads.map(str::to_owned).to_vec();
    std::iter::once(heads).chain(months.iter().map(row)).collect()
}

fn none() -> String {
    "-".to_owned()
}

/// With cents, or with the digits that small amounts need.
fn money(amount: f64) -> String {
    if amount != 0.0 && amount.abs() < 1.0 { format!("{amount:.6}") } else { format!("{amount:.2}") }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Whole tokens in groups of three digits; more than any plant makes in powers of ten.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 10^18")]
fn tokens(count: f64) -> String {
    if (0.0..1e18).contains(&count) { grouped(count.round() as u64) } else { format!("{count:.4e}") }
}
