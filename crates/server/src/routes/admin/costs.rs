//! What requests cost, and what is left of what was charged for them.

mod document;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ::ledger::EntryId;
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::books::HOLD_MS;
use economics::books::cost_detail::{CostLine, PURPOSE_WORDS, RequestCost};
use economics::books::costs::cost_id;
use economics::rollup::{CostAsk, CostGroups, MAX_REPORT_ROWS, MarginRow, full_cost, grouped_costs, sheets};
use economics::window::to_rfc3339;
use service::entry_id;

use super::{Admin, unreadable};
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;
use crate::routes::period::{DAY_MS, Days, date, span};
use crate::segments::Segments;

use document::{CostReport, CostReportHead, CostRow, MachineTime, MarginReport, RequestCostLine};

/// What rows tell apart.
const GROUPS: [&str; 8] = ["organisation", "team", "project", "key", "model", "tag", "hour", "day"];
/// After so long the cost of a request that ended is in the books, if there is one.
const KNOWN_AFTER_MS: i64 = 60_000;

/// What requests cost in whole days (UTC), summed up: machine time by purpose, energy, emissions, money.
#[utoipa::path(
    get,
    path = "/v1/costs",
    operation_id = "listCosts",
    tag = "administration",
    params(
        Days,
        ("group_by" = Option<String>, Query, description = "Some of `organisation`, `team` (the one that a project belongs to now), `project`, `key`, `model`, `tag`, `hour`, `day`, with commas between them; one row when not given")
    ),
    responses(
        (status = 200, body = CostReport, description = "Rows of requests that ended in these days"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or there would be more than 100,000 rows"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`")
    )
)]
pub(crate) async fn costs(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<CostReport>, ApiError> {
    let Found { head, rows, by } = found(&app, &caller, &uri, false).await?;
    let data = rows.into_iter().map(|row| cost_row(row, by)).collect();
    Ok(Json(CostReport { head, data }))
}

/// The same with what was charged in these days, and the margin: what is left of it.
#[utoipa::path(
    get,
    path = "/v1/margins",
    operation_id = "listMargins",
    tag = "administration",
    params(
        Days,
        ("group_by" = Option<String>, Query, description = "Some of `organisation`, `team` (the one that a project belongs to now), `project`, `key`, `model`, `tag`, `hour`, `day`, with commas between them; one row when not given")
    ),
    responses(
        (status = 200, body = MarginReport, description = "Rows of what was charged, and of requests that ended, in these days"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or there would be more than 100,000 rows"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`")
    )
)]
pub(crate) async fn margins(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<MarginReport>, ApiError> {
    let Found { head, rows, by } = found(&app, &caller, &uri, true).await?;
    let row = |row: MarginRow| {
        let (sold, billed) = (row.sold, row.sold.total());
        let margin = billed.saturating_sub(row.cost.costs.attributed());
        let (charged_requests, charged_tokens) = (sold.requests, sold.quantities);
        document::MarginRow { cost: cost_row(row, by), charged_requests, charged_tokens, billed, margin }
    };
    Ok(Json(MarginReport { head, data: rows.into_iter().map(row).collect() }))
}

/// What was asked for.
struct Found {
    head: CostReportHead,
    rows: Vec<MarginRow>,
    by: CostGroups,
}

async fn found(app: &App, caller: &Caller, uri: &Uri, margins: bool) -> Result<Found, ApiError> {
    let admin = Admin::of_plant(app, caller)?;
    let mut query = Query::of(uri)?;
    let (start_time, end_time) = span(&mut query)?;
    let told: BTreeSet<String> = query.words("group_by", &GROUPS)?.into_iter().collect();
    query.finish()?;
    let [organisation, team, project, key, model, tag, hour, day] = GROUPS.map(|group| told.contains(group));
    let by = CostGroups { organisation, team, project, key, model, tag, hour, day };
    let currency = admin.books.currency().code.clone();
    let span_ms = (start_time.saturating_mul(1000), end_time.saturating_mul(1000));
    let read = move |admin: &Admin| {
        let teams = if by.team { admin.books.directory().teams_of_projects() } else { HashMap::new() };
        let ask = CostAsk { span_ms, by, teams: &teams, with_sales: margins, now_ms: unix_ms() };
        let rows = grouped_costs(admin.books.ledger(), &ask);
        let rows = rows.map_err(|error| unreadable(&error))?;
        Ok((rows, sheets(admin.books.ledger(), span_ms.0, span_ms.1).map_err(|error| unreadable(&error))?))
    };
    let (rows, sheet) = admin.run(read).await?;
    let rows = rows.ok_or_else(|| {
        let message = format!("this would be more than {MAX_REPORT_ROWS} rows; tell less apart, or ask for less time");
        ApiError::field("group_by", message)
    })?;
    let object = if margins { "margins" } else { "costs" };
    let group_by = GROUPS.into_iter().filter(|group| told.contains(*group)).collect();
    Ok(Found { head: CostReportHead { object, currency, start_time, end_time, group_by, sheet }, rows, by })
}

fn cost_row(row: MarginRow, by: CostGroups) -> CostRow {
    let (sums, costs) = (&row.cost, &row.cost.costs);
    let [prefill, decode, rejected, recomputed] = costs.lines.map(|line| line.machine_ns);
    let CostLine { energy_uj, co2_ug, standing, .. } = costs.sum();
    CostRow {
        requests: sums.requests,
        tokens: sums.quantities,
        machine_ns: MachineTime { prefill, decode, rejected, recomputed },
        energy_uj,
        co2_ug,
        bytes: sums.traffic,
        marginal: costs.marginal(),
        standing,
        per_token: costs.per_token,
        network: costs.network,
        attributed: costs.attributed(),
        wasted: costs.wasted(),
        full: row.full,
        hour: by.hour.then(|| to_rfc3339(row.from_ms)),
        day: by.day.then(|| date(row.from_ms)),
        organisation: by.organisation.then_some(row.organisation),
        team: by.team.then_some(row.team),
        project: by.project.then_some(row.project),
        key: by.key.then_some(row.key),
        model: by.model.then_some(row.model),
        tag: by.tag.then_some(row.tag),
    }
}

/// Why a request has no cost; `ended_ms`: when it ended, if it is in the books.
fn without_cost(id: &str, ended_ms: Option<i64>) -> ApiError {
    match ended_ms {
        None => {
            ApiError::not_found(format!("there is no request `{id}`; write the `id` of its answer, e.g. `chatcmpl-…`"))
        }
        Some(ended_ms) if unix_ms().saturating_sub(ended_ms) < KNOWN_AFTER_MS => {
            let message = format!("the cost of `{id}` is not known yet: it is a second or two after its end");
            ApiError::not_found(message).with_code("cost_pending")
        }
        Some(_) => {
            let message = format!(
                "`{id}` has no cost: no step of the plant worked on it, or the plant kept no costs when it ran"
            );
            ApiError::not_found(message).with_code("no_cost")
        }
    }
}

/// What one request cost, line by line: what it was read, what it was answered, guesses that were not made, and what was
/// computed again.
#[utoipa::path(
    get,
    path = "/v1/costs/{id}",
    operation_id = "getCost",
    tag = "administration",
    params(("id" = String, Path, description = "The id of the answer, e.g. `chatcmpl-…`")),
    responses(
        (status = 200, body = document::RequestCost, description = "The cost and its parts"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`"),
        (status = 404, body = protocol::ErrorBody, description = "No such request (`not_found`); its cost is not known yet (`cost_pending`); or it has none (`no_cost`): no step worked on it, or no costs were kept")
    )
)]
pub(crate) async fn cost(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(id): Segments<String>,
) -> Result<Json<document::RequestCost>, ApiError> {
    let admin = Admin::of_plant(&app, &caller)?;
    let currency = admin.books.currency().code.clone();
    let entry = EntryId(entry_id(&id));
    let read = move |admin: &Admin| {
        let found = |id| admin.books.ledger().entry_by_id(id).map_err(|error| unreadable(&error));
        let costed = found(cost_id(entry))?;
        let cost = costed.as_ref().and_then(|entry| Some((entry.at_ms, RequestCost::read(entry)?)));
        let Some((at_ms, cost)) = cost else {
            return Ok(Err(found(entry)?.map(|entry| entry.at_ms)));
        };
        let full = full_cost(admin.books.ledger(), cost.costs.attributed(), at_ms, unix_ms());
        let full = full.map_err(|error| unreadable(&error))?;
        // The days on which it may have run: its hold lasted no longer.
        let day = |ms: i64| ms - ms.rem_euclid(DAY_MS);
        let sheets = sheets(admin.books.ledger(), day(at_ms - HOLD_MS), at_ms.saturating_add(1));
        Ok(Ok((cost, full, sheets.map_err(|error| unreadable(&error))?)))
    };
    let (cost, full, sheet) = admin.run(read).await?.map_err(|ended_ms| without_cost(&id, ended_ms))?;
    let line =
        |(purpose, line): (&'static str, CostLine)| RequestCostLine { purpose, line, attributed: line.attributed() };
    let RequestCost { context, quantities, traffic, costs, .. } = cost;
    Ok(Json(document::RequestCost {
        object: "cost",
        id,
        currency,
        organisation: context.organisation,
        project: context.project,
        key: context.key,
        model: context.model,
        tag: context.tag,
        sheet,
        tokens: quantities,
        lines: PURPOSE_WORDS.into_iter().zip(costs.lines).map(line).collect(),
        bytes: traffic,
        network: costs.network,
        per_token: costs.per_token,
        attributed: costs.attributed(),
        wasted: costs.wasted(),
        full,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_there_is_no_cost_is_told() {
        let code = |ended_ms| without_cost("cmpl-1", ended_ms).body().error.code;
        let now = unix_ms();
        assert_eq!(code(None).as_deref(), Some("not_found"));
        assert_eq!(code(Some(now - 1_000)).as_deref(), Some("cost_pending"));
        assert_eq!(code(Some(now - KNOWN_AFTER_MS - 1_000)).as_deref(), Some("no_cost"));
    }
}
