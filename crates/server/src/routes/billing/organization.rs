//! OpenAI's usage and costs of an organisation: buckets of hours or days, in UTC.
//!
//! Buckets are whole: the first one is the hour or day that holds `start_time`, the last one that which holds the last
//! second before `end_time`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::Nano;
use economics::rollup::{self, Sums, UsageRow};
use protocol::{Bucket, CompletionsUsage, Cost, CostAmount, ErrorBody, Page};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Reader, unreadable};
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::fields::short;
use crate::query::Query;
use crate::routes::admin;

pub(super) const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;

/// Tokens used by the caller's organisation, in buckets of time.
#[utoipa::path(
    get,
    path = "/v1/organization/usage/completions",
    operation_id = "listOrganizationUsage",
    tag = "billing",
    params(
        ("start_time" = i64, Query, description = "Unix seconds; the first bucket holds it"),
        ("end_time" = Option<i64>, Query, description = "Unix seconds, exclusive; now when absent"),
        ("bucket_width" = Option<String>, Query, description = "`1d` (the default) or `1h`; usage is not kept by the minute"),
        ("group_by" = Option<Vec<String>>, Query, description = "Of `project_id`, `api_key_id`, `model`; also written `group_by[]`"),
        ("project_ids" = Option<Vec<String>>, Query, description = "Only these projects; also written `project_ids[]`"),
        ("api_key_ids" = Option<Vec<String>>, Query, description = "Only these keys; also written `api_key_ids[]`"),
        ("models" = Option<Vec<String>>, Query, description = "Only these models; also written `models[]`"),
        ("limit" = Option<u32>, Query, description = "Buckets of one answer: of days 7, at most 31; of hours 24, at most 168"),
        ("page" = Option<String>, Query, description = "`next_page` of the answer before")
    ),
    responses(
        (status = 200, body = Page<CompletionsUsage>, description = "The buckets"),
        (status = 400, body = ErrorBody, description = "A parameter is wrong; `param` names it"),
        (status = 403, body = ErrorBody, description = "The key may not read usage")
    )
)]
pub(crate) async fn completions(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Page<CompletionsUsage>>, ApiError> {
    answer(&app, &caller, &uri, USAGE, |sums, group| {
        (sums.requests > 0).then(|| {
            let [project_id, api_key_id, model] = group;
            Ok(CompletionsUsage {
                object: "organization.usage.completions.result".to_owned(),
                input_tokens: sums.quantities.input(),
                input_cached_tokens: sums.quantities.in_cached,
                output_tokens: sums.quantities.output(),
                input_audio_tokens: 0,
                output_audio_tokens: 0,
                num_model_requests: sums.requests,
                project_id,
                user_id: None,
                api_key_id,
                model,
                batch: None,
            })
        })
    })
    .await
}

/// Charges of the caller's organisation less credit notes, in buckets of time.
#[utoipa::path(
    get,
    path = "/v1/organization/costs",
    operation_id = "listOrganizationCosts",
    tag = "billing",
    params(
        ("start_time" = i64, Query, description = "Unix seconds; the first bucket holds it"),
        ("end_time" = Option<i64>, Query, description = "Unix seconds, exclusive; now when absent"),
        ("bucket_width" = Option<String>, Query, description = "`1d` (the default) or `1h`"),
        ("group_by" = Option<Vec<String>>, Query, description = "Of `project_id`, `api_key_id`, `line_item` (the model); also written `group_by[]`"),
        ("project_ids" = Option<Vec<String>>, Query, description = "Only these projects; also written `project_ids[]`"),
        ("api_key_ids" = Option<Vec<String>>, Query, description = "Only these keys; also written `api_key_ids[]`"),
        ("models" = Option<Vec<String>>, Query, description = "Only these models; also written `models[]`"),
        ("limit" = Option<u32>, Query, description = "Buckets of one answer: 7, at most 180"),
        ("page" = Option<String>, Query, description = "`next_page` of the answer before")
    ),
    responses(
        (status = 200, body = Page<Cost>, description = "The buckets"),
        (status = 400, body = ErrorBody, description = "A parameter is wrong; `param` names it"),
        (status = 403, body = ErrorBody, description = "The key may not read usage")
    )
)]
pub(crate) async fn costs(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Page<Cost>>, ApiError> {
    let currency = app.books.as_ref().map(|books| books.currency().code.to_ascii_lowercase()).unwrap_or_default();
    answer(&app, &caller, &uri, COSTS, move |sums, group| {
        let [project_id, api_key_id, line_item] = group;
        Some(amount(sums.total()).map(|value| Cost {
            object: "organization.costs.result".to_owned(),
            amount: CostAmount { value, currency: currency.clone() },
            line_item,
            project_id,
            api_key_id,
        }))
    })
    .await
}

/// An amount as a JSON number with all its decimals; a float would lose some.
fn amount(nano: Nano) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(nano.to_string()).map_err(unreadable)
}

/// What the two reports differ in.
#[derive(Clone, Copy)]
struct Kind {
    /// What groups by project, key and model are called.
    groups: [&'static str; 3],
    /// Buckets of one answer by default and at most, of days and of hours.
    days: (i64, i64),
    hours: (i64, i64),
}

const USAGE: Kind = Kind { groups: ["project_id", "api_key_id", "model"], days: (7, 31), hours: (24, 168) };
const COSTS: Kind = Kind { groups: ["project_id", "api_key_id", "line_item"], days: (7, 180), hours: (7, 180) };

/// What is asked for. Times are Unix seconds.
#[derive(Debug, PartialEq, Eq)]
struct Ask {
    /// Of one bucket.
    width: i64,
    /// The buckets of this answer.
    from: i64,
    to: i64,
    /// Where the last bucket of all ends.
    end: i64,
    /// By project, key, model.
    grouped: [bool; 3],
    /// Only these projects, keys, models; all when empty.
    only: [Vec<String>; 3],
}

impl Ask {
    fn read(uri: &Uri, kind: Kind, now: i64) -> Result<Self, ApiError> {
        let mut query = Query::with_lists(uri, &["group_by", "project_ids", "api_key_ids", "models"])?;
        let start = query
            .time("start_time")?
            .ok_or_else(|| ApiError::field("start_time", "`start_time` is missing; it must be Unix seconds"))?;
        let end = query.time("end_time")?;
        if end.is_some_and(|end| end < start) {
            return Err(ApiError::field("end_time", "`end_time` is before `start_time`"));
        }
        let (width, (usual, most)) = match query.word("bucket_width", &["1d", "1h", "1m"])?.as_deref() {
            Some("1m") => {
                return Err(ApiError::unsupported("bucket_width", "usage is kept by the hour; use `1h` or `1d`"));
            }
            Some("1h") => (HOUR_S, kind.hours),
            _ => (DAY_S, kind.days),
        };
        let limit = query.integer("limit", &format!("from 1 to {most} for this `bucket_width`"), 1..=most.into())?;
        let mut grouped = [false; 3];
        for by in query.list("group_by") {
            let place = kind.groups.iter().position(|known| *known == by);
            *place.and_then(|place| grouped.get_mut(place)).ok_or_else(|| ungrouped(kind, &by))? = true;
        }
        let only = ["project_ids", "api_key_ids", "models"].map(|name| query.list(name));
        for name in ["user_ids", "user_ids[]", "batch"] {
            if query.text(name).is_some() {
                return Err(ApiError::unsupported(name, format!("`{name}`: usage is not kept by it; leave it out")));
            }
        }
        // Nothing is used after now.
        let end = end.unwrap_or(i64::MAX).min(now.saturating_add(1));
        let (first, end) = (start - start.rem_euclid(width), end.saturating_add((-end).rem_euclid(width)));
        let from = query.integer("page", "the `next_page` of an answer", 0..)?.unwrap_or(first);
        query.finish()?;
        if from < first || from.rem_euclid(width) != 0 {
            return Err(ApiError::field("page", "`page` is no `next_page` of this report; ask again without it"));
        }
        let to = from.saturating_add(limit.unwrap_or(usual).saturating_mul(width)).min(end);
        Ok(Self { width, from, to, end, grouped, only })
    }

    fn wants(&self, row: &UsageRow) -> bool {
        let parts = [&row.project, &row.key, &row.model];
        self.only.iter().zip(parts).all(|(only, part)| only.is_empty() || only.contains(part))
    }

    /// The group of a row: what it is not grouped by is not named, nor is a key where there was none.
    fn group(&self, row: &UsageRow) -> [Option<String>; 3] {
        let [project, key, model] = self.grouped;
        let named = |by: bool, text: &String| Some(text).filter(|text| by && !text.is_empty()).cloned();
        [named(project, &row.project), named(key, &row.key), named(model, &row.model)]
    }
}

fn ungrouped(kind: Kind, by: &str) -> ApiError {
    let [project, key, model] = kind.groups;
    let message = format!("`group_by` takes `{project}`, `{key}` and `{model}`; got `{}`", short(by));
    ApiError::unsupported("group_by", message)
}

/// Reads the rows of the page's time and makes a result of each group.
async fn answer<T: ToSchema + Send + 'static>(
    app: &App,
    caller: &Caller,
    uri: &Uri,
    kind: Kind,
    result: impl Fn(&Sums, [Option<String>; 3]) -> Option<Result<T, ApiError>> + Send + 'static,
) -> Result<Json<Page<T>>, ApiError> {
    let reader = Reader::own(app, caller)?;
    let ask = Ask::read(uri, kind, unix_ms() / 1000)?;
    let page = reader.read(move |books, organisation| {
        let ms = |seconds: i64| seconds.saturating_mul(1000);
        let rows = rollup::usage(books.ledger(), organisation, ms(ask.from), ms(ask.to));
        let rows = rows.map_err(|error| admin::unreadable(&error))?;
        let mut groups: BTreeMap<(i64, [Option<String>; 3]), Sums> = BTreeMap::new();
        for row in rows.iter().filter(|row| ask.wants(row)) {
            let second = row.from_ms.div_euclid(1000);
            groups.entry((second - second.rem_euclid(ask.width), ask.group(row))).or_default().add(&row.sums);
        }
        let mut data: Vec<Bucket<T>> = Vec::new();
        let mut start_time = ask.from;
        while start_time < ask.to {
            let end_time = start_time.saturating_add(ask.width);
            let of_bucket = groups.range((start_time, [None, None, None])..(end_time, [None, None, None]));
            let results = of_bucket.filter_map(|((_, group), sums)| result(sums, group.clone()));
            let results = results.collect::<Result<_, _>>()?;
            data.push(Bucket { object: "bucket".to_owned(), start_time, end_time, results });
            start_time = end_time;
        }
        let has_more = ask.to < ask.end;
        let next_page = has_more.then(|| ask.to.to_string());
        Ok(Page { object: "page".to_owned(), data, has_more, next_page })
    });
    Ok(Json(page.await?))
}

#[cfg(test)]
mod tests;
