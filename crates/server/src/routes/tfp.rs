//! TFP: value of outcomes per token that was used, told apart by what the requests were for.

use std::sync::Arc;

use analysis::ratio::{self, Cluster, Estimate};
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::Nano;
use economics::books::Books;
use economics::directory::record::{Kind, Scope};
use economics::outcome::Valuation;
use economics::rollup::{self, MAX_TFP_ROWS, TfpBy, TfpRow, ValueSums};
use serde_json::{Map, Value, json};

use super::admin::report::{date, span};
use super::outcomes::refused;
use crate::app::{App, in_turn, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;
use crate::routes::admin::unreadable;

const GROUPS: [&str; 7] = ["organisation", "project", "model", "prompt_version", "task", "tag", "day"];
const DENOMINATORS: [&str; 4] = ["total", "output", "input", "computed"];
const LEVEL: f64 = 0.95;
/// The same figures for the same books.
const SEED: u64 = 0;
const DAY_MS: i64 = 86_400_000;

/// Value per million tokens of whole days (UTC), with its 95 % interval, how much of it is known, and what it cost.
#[utoipa::path(
    get,
    path = "/v1/tfp",
    operation_id = "getTfp",
    tag = "value",
    params(
        ("start_time" = Option<i64>, Query, description = "Unix seconds; its day counts whole. 30 days before the end when not given"),
        ("end_time" = Option<i64>, Query, description = "Unix seconds, exclusive; its day counts whole. Now when not given"),
        ("group_by" = Option<String>, Query, description = "Some of `organisation`, `project`, `model`, `prompt_version`, `task`, `tag`, `day`, with commas between them; one row when not given"),
        ("denominator" = Option<String>, Query, description = "Which tokens: `total` (input and output, the default), `output`, `input`, or `computed` (without cached input)")
    ),
    responses(
        (status = 200, body = Object, description = "`data`: a row for each group. Requests count in the day in which they ended, and so does the value of their outcomes"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or there would be more than 1,000 rows"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not read usage")
    )
)]
pub(crate) async fn tfp(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    let (books, own) = reader(&app, &caller, "TFP")?;
    let mut query = Query::of(&uri)?;
    let (from_s, to_s) = span(&mut query)?;
    let told = query.words("group_by", &GROUPS)?;
    let denominator = query.word("denominator", &DENOMINATORS)?.unwrap_or_else(|| "total".to_owned());
    query.finish()?;
    let told: Vec<&str> = GROUPS.into_iter().filter(|group| told.iter().any(|word| word == group)).collect();
    let [organisation, project, model, prompt_version, task, tag, day] = GROUPS.map(|group| told.contains(&group));
    let by = TfpBy { organisation, project, model, prompt_version, task, tag, day };
    let read = move || {
        let now_ms = unix_ms();
        books.match_outcomes(now_ms).map_err(refused)?;
        let organisations = own.map_or_else(|| organisations(&books), |own| vec![own]);
        let span_ms = (from_s.saturating_mul(1000), to_s.saturating_mul(1000));
        let rows = rollup::tfp(books.ledger(), &organisations, span_ms, (by, now_ms));
        let rows = rows.map_err(|error| unreadable(&error))?.ok_or_else(|| {
            let message = format!("this would be more than {MAX_TFP_ROWS} rows; tell less apart, or ask for less time");
            ApiError::field("group_by", message)
        })?;
        let data: Vec<Value> = rows.iter().map(|row| row_json(row, by, &denominator)).collect();
        Ok(Json(json!({
            "object": "tfp", "currency": books.currency().code, "start_time": from_s, "end_time": to_s,
            "group_by": told, "denominator": denominator, "per_tokens": 1_000_000, "data": data,
        })))
    };
    in_turn(Arc::clone(&app.books_turns), read).await
}

/// The books, and the only organisation whose `what` may be read; `None`: of all.
pub(super) fn reader(app: &App, caller: &Caller, what: &str) -> Result<(Arc<Books>, Option<String>), ApiError> {
    let books = app.books()?;
    let may = |scope| caller.identity.as_ref().filter(|identity| identity.scopes.contains(&scope));
    if may(Scope::Plant).is_some() {
        return Ok((books, None));
    }
    let identity = may(Scope::Usage).ok_or_else(|| {
        let message = format!("this key may not read {what}: that needs the scope `usage`");
        ApiError::forbidden(message, "not_allowed")
    })?;
    Ok((books, Some(identity.organisation.id.clone())))
}

fn organisations(books: &Books) -> Vec<String> {
    books.directory().records(Kind::Organisation).iter().map(|record| record.key()).collect()
}

fn row_json(row: &TfpRow, by: TfpBy, denominator: &str) -> Value {
    let sums = row.sums();
    let mut fields = Map::new();
    if by.day {
        fields.insert("day".into(), date(row.day.saturating_mul(DAY_MS)).into());
    }
    let subject = &row.subject;
    for (name, told, text) in [
        ("organisation", by.organisation, &subject.organisation),
        ("project", by.project, &subject.project),
        ("model", by.model, &subject.model),
        ("prompt_version", by.prompt_version, &subject.prompt_version),
        ("task", by.task, &subject.task),
        ("tag", by.tag, &subject.tag),
    ] {
        if told {
            fields.insert(name.into(), text.clone().into());
        }
    }
    let value: Map<String, Value> = Valuation::ALL
        .iter()
        .filter(|valuation| **valuation != Valuation::Proxy)
        .map(|valuation| (valuation.as_str().to_owned(), sums.of(*valuation).to_string().into()))
        .chain([("total".to_owned(), sums.total_value().to_string().into())])
        .collect();
    let per_value =
        |of: fn(&ValueSums) -> Nano| estimated(row, |sums| nano(of(sums)), |sums| tokens(sums, denominator));
    let others = json!({
        "requests": sums.requests,
        "tokens": {
            "input": sums.in_uncached.saturating_add(sums.in_cached), "cached_input": sums.in_cached,
            "output": sums.output, "total": sums.tokens(), "computed": sums.tokens().saturating_sub(sums.in_cached),
        },
        "value": value,
        "tfp": per_value(ValueSums::total_value),
        "proxy": sums.of(Valuation::Proxy).to_string(),
        "proxy_per_million": per_value(|sums| sums.of(Valuation::Proxy)),
        "price": sums.price.to_string(),
        "value_per_price": share(nano(sums.total_value()), nano(sums.price)),
        "outcomes": whole(sums.outcomes_milli) / 1000.0,
        "accepted_outcomes": whole(sums.accepted_milli) / 1000.0,
        "tokens_per_accepted_outcome": share(tokens(&sums, denominator) * 1000.0, whole(sums.accepted_milli)),
        "coverage": share(whole(sums.covered), whole(sums.requests)),
        "matured": share(whole(row.matured), whole(sums.requests)),
        "adoption_rate": share(whole(sums.adopted_output), whole(sums.output)),
    });
    if let Value::Object(others) = others {
        fields.extend(others);
    }
    Value::Object(fields)
}

/// A ratio over the groups of clusters, per million of the denominator; null where there is nothing to divide by.
fn estimated(row: &TfpRow, numerator: impl Fn(&ValueSums) -> f64, denominator: impl Fn(&ValueSums) -> f64) -> Value {
    let groups = row.groups.iter().filter(|group| **group != ValueSums::default());
    let clusters: Vec<Cluster> =
        groups.map(|group| Cluster { numerator: numerator(group), denominator: denominator(group).max(0.0) }).collect();
    let Ok(found) = ratio::estimate(&clusters, LEVEL, SEED) else { return Value::Null };
    let Estimate { estimate, standard_error, interval, method, clusters, effective_clusters, reason } =
        found.per_million();
    json!({
        "per_million": estimate, "standard_error": standard_error, "low": interval.map(|interval| interval.low),
        "high": interval.map(|interval| interval.high), "level": interval.map(|interval| interval.level),
        "method": method, "groups": clusters, "effective_groups": effective_clusters, "reason": reason,
    })
}

fn tokens(sums: &ValueSums, denominator: &str) -> f64 {
    whole(match denominator {
        "output" => sums.output,
        "input" => sums.in_uncached.saturating_add(sums.in_cached),
        "computed" => sums.tokens().saturating_sub(sums.in_cached),
        _ => sums.tokens(),
    })
}

fn share(part: f64, all: f64) -> Option<f64> {
    (all > 0.0).then(|| part / all)
}

/// In units of the currency.
fn nano(amount: Nano) -> f64 {
    whole(amount.0) / 1e9
}

fn whole(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use economics::books::outcome_detail::Subject;
    use economics::rollup::BUCKETS;

    use super::*;

    fn row(group: impl Fn(i64) -> ValueSums) -> TfpRow {
        TfpRow { day: 0, subject: Subject::default(), groups: (0..BUCKETS as i64).map(group).collect(), matured: 16 }
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
        let shown = row_json(&row(group), TfpBy::default(), "computed");
        let number = |place: &str| shown.pointer(place).and_then(Value::as_f64).unwrap();
        // 189 + 64 thousandths of a dollar for 64 times 900 tokens.
        let expected = 0.253 / (64.0 * 900.0) * 1e6;
        assert!((number("/tfp/per_million") - expected).abs() < 1e-9, "{shown}");
        assert!(number("/tfp/low") < expected && expected < number("/tfp/high"), "{shown}");
        assert_eq!((number("/tfp/level"), number("/tfp/groups")), (LEVEL, 64.0));
        assert_eq!((&shown["value"]["total"], &shown["proxy"]), (&json!("0.253"), &json!("320.00")));
        assert_eq!((number("/coverage"), number("/matured")), (0.5, 0.25));
        assert_eq!((&shown["value_per_price"], &shown["tokens_per_accepted_outcome"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn without_tokens_there_is_no_ratio() {
        let shown = row_json(&row(|_| ValueSums::default()), TfpBy::default(), "total");
        assert_eq!((&shown["tfp"], &shown["coverage"]), (&Value::Null, &Value::Null));
    }
}
