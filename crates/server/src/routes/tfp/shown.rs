//! Rows of TFP as they are shown.

use analysis::ratio::{self, Cluster, Estimate};
use economics::Nano;
use economics::outcome::Valuation;
use economics::rollup::{KindSums, TfpBy, TfpGroup, TfpPeriod, TfpRow, ValueSums};

use super::document::{
    Productivity, ProductivityCost, ProductivityKind, ProductivityTokens, ProductivityValue, TfpCertainty, TfpEstimate,
    TfpReportRow,
};
use crate::routes::figures::{money, share, thousandths};
use crate::routes::period::{DAY_MS, date};

const LEVEL: f64 = 0.95;
/// The same figures for the same books.
const SEED: u64 = 0;
const UNPRICED: &str = "some of its tokens have no list price to be weighed by";

/// How rows are shown.
pub(super) struct Shown<'a> {
    pub(super) by: TfpBy,
    pub(super) denominator: &'a str,
    /// Customers do not see what they cost.
    pub(super) with_cost: bool,
}

pub(super) fn row(row: &TfpRow, shown: &Shown<'_>) -> TfpReportRow {
    let named = TfpReportRow { figures: figures(row, shown), ..TfpReportRow::default() };
    if row.others > 0 {
        return TfpReportRow { others: Some(row.others), ..named };
    }
    let (by, subject) = (shown.by, &row.subject);
    let first_day = date(row.day.saturating_mul(DAY_MS));
    let begins =
        |period: TfpPeriod, length: usize| (by.period == period).then(|| first_day.chars().take(length).collect());
    let told = |told: bool, text: &String| told.then(|| text.clone());
    TfpReportRow {
        day: begins(TfpPeriod::Day, "YYYY-MM-DD".len()),
        week: begins(TfpPeriod::Week, "YYYY-MM-DD".len()),
        month: begins(TfpPeriod::Month, "YYYY-MM".len()),
        organisation: told(by.organisation || by.end_user, &subject.organisation),
        team: told(by.team, &row.team),
        project: told(by.project, &subject.project),
        end_user: told(by.end_user, &subject.user),
        model: told(by.model, &subject.model),
        prompt_version: told(by.prompt_version, &subject.prompt_version),
        task: told(by.task, &subject.task),
        tag: told(by.tag, &subject.tag),
        ..named
    }
}

pub(super) fn figures(row: &TfpRow, shown: &Shown<'_>) -> Productivity {
    let (sums, denominator) = (row.sums(), shown.denominator);
    let proxy = sums.of(Valuation::Proxy);
    let consumed = consumed(row, denominator);
    let kinds = || row.kinds.iter().map(|(kind, sums)| of_kind(kind, sums, consumed)).collect();
    Productivity {
        denominator: denominator.to_owned(),
        requests: sums.requests,
        tokens: ProductivityTokens {
            input: sums.in_uncached.saturating_add(sums.in_cached),
            cached_input: sums.in_cached,
            output: sums.output,
            reasoning: sums.reasoning,
            total: sums.tokens(),
            computed: sums.tokens().saturating_sub(sums.in_cached),
            standard: (denominator == "standard").then(|| row.standard_milli().map(thousandths)),
        },
        value: ProductivityValue {
            measured: sums.of(Valuation::Measured),
            contracted: sums.of(Valuation::Contracted),
            estimated: sums.of(Valuation::Estimated),
            total: sums.total_value(),
        },
        tfp: estimated(row, denominator, ValueSums::total_value),
        proxy,
        proxy_per_million: (proxy != Nano::ZERO)
            .then(|| estimated(row, denominator, |sums| sums.of(Valuation::Proxy)))
            .flatten(),
        price: sums.price,
        value_per_price: share(money(sums.total_value()), money(sums.price)),
        outcomes: thousandths(sums.outcomes_milli),
        accepted_outcomes: thousandths(sums.accepted_milli),
        tokens_per_accepted_outcome: consumed.and_then(|tokens| share(tokens * 1000.0, whole(sums.accepted_milli))),
        coverage: share(whole(sums.covered), whole(sums.requests)),
        matured: share(whole(row.matured), whole(sums.requests)),
        adoption_rate: share(whole(sums.adopted_output), whole(sums.output)),
        kinds: (!shown.by.end_user).then(kinds),
        cost: shown.with_cost.then(|| ProductivityCost {
            cost: sums.cost,
            costed: share(whole(sums.costed), whole(sums.requests)),
            value_per_cost: share(money(sums.total_value()), money(sums.cost)),
        }),
    }
}

/// `consumed`: all tokens of the row, those of requests without an outcome included.
fn of_kind(kind: &str, sums: &KindSums, consumed: Option<f64>) -> ProductivityKind {
    ProductivityKind {
        kind: kind.to_owned(),
        outcomes: thousandths(sums.outcomes_milli),
        accepted: thousandths(sums.accepted_milli),
        value: sums.value,
        tokens_per_accepted: consumed.and_then(|tokens| share(tokens * 1000.0, whole(sums.accepted_milli))),
    }
}

/// Tokens of the row; `None`: some have no price to be weighed by.
fn consumed(row: &TfpRow, denominator: &str) -> Option<f64> {
    let sum = row.groups.iter().map(|group| tokens(group, denominator)).sum();
    (denominator != "standard" || !row.unpriced).then_some(sum)
}

/// A ratio over the groups of clusters, per million of the denominator; none where there is nothing to divide by.
fn estimated(row: &TfpRow, denominator: &str, numerator: impl Fn(&ValueSums) -> Nano) -> Option<TfpEstimate> {
    if consumed(row, denominator).is_none() {
        let (per_million, reason, certainty) = (None, Some(UNPRICED), None);
        return Some(TfpEstimate { denominator: denominator.to_owned(), per_million, reason, certainty });
    }
    let groups = row.groups.iter().filter(|group| **group != TfpGroup::default());
    let cluster = |group: &TfpGroup| Cluster {
        numerator: money(numerator(&group.sums)),
        denominator: tokens(group, denominator).max(0.0),
    };
    let clusters: Vec<Cluster> = groups.map(cluster).collect();
    let found = ratio::estimate(&clusters, LEVEL, SEED).ok()?;
    let Estimate { estimate, standard_error, interval, method, clusters, effective_clusters, reason } =
        found.per_million();
    let certainty = TfpCertainty {
        standard_error,
        low: interval.map(|interval| interval.low),
        high: interval.map(|interval| interval.high),
        level: interval.map(|interval| interval.level),
        method,
        groups: clusters,
        effective_groups: effective_clusters,
    };
    let (per_million, certainty) = (Some(estimate), Some(certainty));
    Some(TfpEstimate { denominator: denominator.to_owned(), per_million, reason, certainty })
}

fn tokens(group: &TfpGroup, denominator: &str) -> f64 {
    let sums = &group.sums;
    whole(match denominator {
        "output" => sums.output,
        "input" => sums.in_uncached.saturating_add(sums.in_cached),
        "computed" => sums.tokens().saturating_sub(sums.in_cached),
        "standard" => return thousandths(group.standard_milli),
        _ => sums.tokens(),
    })
}

fn whole(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use economics::rollup::BUCKETS;
    use serde_json::{Value, json};

    use super::*;

    fn row_json(told: &TfpRow, shown: &Shown<'_>) -> Value {
        serde_json::to_value(super::row(told, shown)).unwrap()
    }

    fn row(group: impl Fn(i64) -> ValueSums) -> TfpRow {
        let group = |n: i64| TfpGroup { sums: group(n), standard_milli: 500_000 };
        TfpRow { groups: (0..BUCKETS as i64).map(group).collect(), matured: 16, ..TfpRow::default() }
    }

    fn shown(denominator: &str) -> Shown<'_> {
        Shown { by: TfpBy::default(), denominator, with_cost: true }
    }

    #[test]
    fn the_interval_holds_the_ratio_and_proxies_stand_apart() {
        let group = |n: i64| ValueSums {
            requests: 1,
            in_uncached: 600,
            in_cached: 100,
            output: 300,
            value: [Nano((n % 7) * 1_000_000), Nano::ZERO, Nano(1_000_000), Nano(5_000_000_000)],
            covered: i64::from(n < 32),
            ..ValueSums::default()
        };
        let shown = row_json(&row(group), &shown("computed"));
        let number = |place: &str| shown.pointer(place).and_then(Value::as_f64).unwrap();
        // 189 + 64 thousandths of a dollar for 64 times 900 tokens.
        let expected = 0.253 / (64.0 * 900.0) * 1e6;
        assert!((number("/tfp/per_million") - expected).abs() < 1e-9, "{shown}");
        assert!(number("/tfp/low") < expected && expected < number("/tfp/high"), "{shown}");
        assert_eq!((number("/tfp/level"), number("/tfp/groups")), (LEVEL, 64.0));
        assert_eq!(
            (&shown["tfp"]["method"], &shown["tfp"]["denominator"]),
            (&json!("bootstrap_t"), &json!("computed"))
        );
        assert_eq!((&shown["value"]["total"], &shown["proxy"]), (&json!("0.253"), &json!("320.00")));
        assert_eq!((number("/coverage"), number("/matured")), (0.5, 0.25));
        assert_eq!((&shown["value_per_price"], &shown["tokens_per_accepted_outcome"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn figures_by_standard_tokens_cost_and_kind() {
        let group = |_| ValueSums {
            requests: 2,
            output: 1_000,
            value: [Nano(30_000_000), Nano::ZERO, Nano::ZERO, Nano::ZERO],
            cost: Nano(10_000_000),
            costed: 1,
            ..ValueSums::default()
        };
        let mut told = row(group);
        told.kinds.insert("case".into(), KindSums { outcomes_milli: 32_000, accepted_milli: 16_000, value: Nano(5) });
        let found = row_json(&told, &shown("standard"));
        let number = |place: &str| found.pointer(place).and_then(Value::as_f64).unwrap();
        assert!(number("/tokens/standard") == 32_000.0 && (number("/tfp/per_million") - 60.0).abs() < 1e-9, "{found}");
        assert!((number("/value_per_cost") - 3.0).abs() < 1e-12 && number("/costed") == 0.5, "{found}");
        assert_eq!((number("/kinds/0/accepted"), number("/kinds/0/tokens_per_accepted")), (16.0, 2_000.0));
        told.unpriced = true;
        let found = row_json(&told, &Shown { with_cost: false, ..shown("standard") });
        assert_eq!(
            (&found["tfp"]["per_million"], &found["kinds"][0]["tokens_per_accepted"]),
            (&Value::Null, &Value::Null)
        );
        assert!(found["tfp"]["reason"].as_str().unwrap().contains("no list price"), "{found}");
        assert!(found.get("cost").is_none() && found.get("value_per_cost").is_none(), "{found}");
    }

    #[test]
    fn without_tokens_there_is_no_ratio() {
        let shown = row_json(&row(|_| ValueSums::default()), &shown("total"));
        assert_eq!((&shown["tfp"], &shown["coverage"]), (&Value::Null, &Value::Null));
    }
}
