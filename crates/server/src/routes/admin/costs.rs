//! What requests cost, and what is left of what was charged for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use ::ledger::EntryId;
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::Nano;
use economics::books::HOLD_MS;
use economics::books::cost_detail::{CostLine, PURPOSE_WORDS, RequestCost};
use economics::books::costs::cost_id;
use economics::rollup::{CostGroups, CostSums, MAX_REPORT_ROWS, MarginRow, full_cost, grouped_costs, sheets};
use economics::window::to_rfc3339;
use serde_json::{Map, Value, json};
use service::entry_id;

use super::{Admin, Answer, shown, unreadable};
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;
use crate::routes::period::{DAY_MS, Days, date, span};
use crate::segments::Segments;

/// What rows tell apart.
const GROUPS: [&str; 7] = ["organisation", "project", "key", "model", "tag", "hour", "day"];

/// What requests cost in whole days (UTC), summed up: machine time by purpose, energy, emissions, money.
#[utoipa::path(
    get,
    path = "/v1/costs",
    operation_id = "listCosts",
    tag = "administration",
    params(
        Days,
        ("group_by" = Option<String>, Query, description = "Some of `organisation`, `project`, `key`, `model`, `tag`, `hour`, `day`, with commas between them; one row when not given")
    ),
    responses(
        (status = 200, body = Object, description = "`data`: rows of requests that ended in these days; `full`: attributed, and the share of the days' idle cost, null while one of the days (UTC) is open. `sheet.example`: they rest on the example sheet and are nobody's costs"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or there would be more than 100,000 rows"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`")
    )
)]
pub(crate) async fn costs(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>, uri: Uri) -> Answer {
    rows(&app, &caller, &uri, false).await
}

/// The same with what was charged in these days, and the margin: what is left of it.
#[utoipa::path(
    get,
    path = "/v1/margins",
    operation_id = "listMargins",
    tag = "administration",
    params(
        Days,
        ("group_by" = Option<String>, Query, description = "Some of `organisation`, `project`, `key`, `model`, `tag`, `hour`, `day`, with commas between them; one row when not given")
    ),
    responses(
        (status = 200, body = Object, description = "`data`: rows; `margin` is `billed` less `attributed`"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or there would be more than 100,000 rows"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`")
    )
)]
pub(crate) async fn margins(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>, uri: Uri) -> Answer {
    rows(&app, &caller, &uri, true).await
}

async fn rows(app: &App, caller: &Caller, uri: &Uri, margins: bool) -> Answer {
    let admin = Admin::of_plant(app, caller)?;
    let mut query = Query::of(uri)?;
    let (from_s, to_s) = span(&mut query)?;
    let told: BTreeSet<String> = query.words("group_by", &GROUPS)?.into_iter().collect();
    query.finish()?;
    let [organisation, project, key, model, tag, hour, day] = GROUPS.map(|group| told.contains(group));
    let by = CostGroups { organisation, project, key, model, tag, hour, day };
    let currency = admin.books.currency().code.clone();
    let span_ms = (from_s.saturating_mul(1000), to_s.saturating_mul(1000));
    let read = move |admin: &Admin| {
        let rows = grouped_costs(admin.books.ledger(), span_ms, by, margins, unix_ms());
        let rows = rows.map_err(|error| unreadable(&error))?;
        Ok((rows, sheets(admin.books.ledger(), span_ms.0, span_ms.1).map_err(|error| unreadable(&error))?))
    };
    let (rows, sheets) = admin.run(read).await?;
    let rows = rows.ok_or_else(|| {
        let message = format!("this would be more than {MAX_REPORT_ROWS} rows; tell less apart, or ask for less time");
        ApiError::field("group_by", message)
    })?;
    let data = rows.iter().map(|row| row_json(row, by, margins)).collect::<Result<Vec<_>, _>>()?;
    let told: Vec<&str> = GROUPS.into_iter().filter(|group| told.contains(*group)).collect();
    Ok(Json(json!({
        "object": if margins { "margins" } else { "costs" }, "currency": currency, "start_time": from_s,
        "end_time": to_s, "group_by": told, "sheet": shown(&sheets)?, "data": data,
    })))
}

fn row_json(row: &MarginRow, by: CostGroups, margins: bool) -> Result<Value, ApiError> {
    let mut fields = Map::new();
    if by.hour {
        fields.insert("hour".into(), to_rfc3339(row.from_ms).into());
    }
    if by.day {
        fields.insert("day".into(), date(row.from_ms).into());
    }
    let names = [
        ("organisation", by.organisation, &row.organisation),
        ("project", by.project, &row.project),
        ("key", by.key, &row.key),
        ("model", by.model, &row.model),
        ("tag", by.tag, &row.tag),
    ];
    for (name, _, text) in names.into_iter().filter(|(_, told, _)| *told) {
        fields.insert(name.into(), text.clone().into());
    }
    fields.extend(sums_json(&row.cost)?);
    fields.insert("full".into(), shown(row.full)?);
    if margins {
        let billed = row.sold.total();
        fields.insert("billed".into(), shown(billed)?);
        fields.insert("margin".into(), shown(billed.saturating_sub(row.cost.costs.attributed()))?);
    }
    Ok(Value::Object(fields))
}

fn sums_json(sums: &CostSums) -> Result<Map<String, Value>, ApiError> {
    let machine =
        PURPOSE_WORDS.iter().zip(&sums.costs.lines).map(|(word, line)| ((*word).to_owned(), line.machine_ns.into()));
    let CostLine { energy_uj, co2_ug, standing, .. } = sums.costs.sum();
    let mut fields = Map::new();
    fields.insert("requests".into(), sums.requests.into());
    fields.insert("tokens".into(), shown(sums.quantities)?);
    fields.insert("machine_ns".into(), Value::Object(machine.collect()));
    fields.insert("energy_uj".into(), energy_uj.into());
    fields.insert("co2_ug".into(), co2_ug.into());
    fields.insert("bytes".into(), shown(sums.traffic)?);
    let amounts: [(&str, Nano); 6] = [
        ("marginal", sums.costs.marginal()),
        ("standing", standing),
        ("per_token", sums.costs.per_token),
        ("network", sums.costs.network),
        ("attributed", sums.costs.attributed()),
        ("wasted", sums.costs.wasted()),
    ];
    for (name, amount) in amounts {
        fields.insert(name.into(), shown(amount)?);
    }
    Ok(fields)
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
        (status = 200, body = Object, description = "`lines` by purpose; `attributed`: their sum, `per_token` and `network` (the cost of `bytes`); `wasted`: the part of it that served no one; `full`: attributed, and its share of its day's idle cost, null while the day (UTC) is open"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`"),
        (status = 404, body = protocol::ErrorBody, description = "No such request, or its cost is not known yet")
    )
)]
pub(crate) async fn cost(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(id): Segments<String>,
) -> Answer {
    let admin = Admin::of_plant(&app, &caller)?;
    let currency = admin.books.currency().code.clone();
    let entry = EntryId(entry_id(&id));
    let read = move |admin: &Admin| {
        let found = |id| admin.books.ledger().entry_by_id(id).map_err(|error| unreadable(&error));
        let costed = found(cost_id(entry))?;
        let cost = costed.as_ref().and_then(|entry| Some((entry.at_ms, RequestCost::read(entry)?)));
        let Some((at_ms, cost)) = cost else { return Ok((None, found(entry)?.is_some())) };
        let full = full_cost(admin.books.ledger(), cost.costs.attributed(), at_ms, unix_ms());
        let full = full.map_err(|error| unreadable(&error))?;
        // The days on which it may have run: its hold lasted no longer.
        let day = |ms: i64| ms - ms.rem_euclid(DAY_MS);
        let sheets = sheets(admin.books.ledger(), day(at_ms - HOLD_MS), at_ms.saturating_add(1));
        Ok((Some((cost, full, sheets.map_err(|error| unreadable(&error))?)), true))
    };
    let (cost, charged) = admin.run(read).await?;
    let Some((cost, full, sheets)) = cost else {
        let message = if charged {
            format!(
                "the cost of `{id}` is not known yet: it is a second or two after its end; earlier requests, of \
                     before the plant kept costs, have none"
            )
        } else {
            format!("there is no request `{id}`; write the `id` of its answer, e.g. `chatcmpl-…`")
        };
        return Err(ApiError::not_found(message));
    };
    let lines = PURPOSE_WORDS.iter().zip(&cost.costs.lines).map(|(word, line)| {
        let mut value = shown(line)?;
        value["purpose"] = (*word).into();
        value["attributed"] = shown(line.attributed())?;
        Ok(value)
    });
    let context = &cost.context;
    Ok(Json(json!({
        "object": "cost", "id": id, "currency": currency, "organisation": context.organisation,
        "project": context.project, "key": context.key, "model": context.model, "tag": context.tag,
        "sheet": shown(&sheets)?, "tokens": shown(cost.quantities)?, "lines": lines.collect::<Result<Vec<Value>, ApiError>>()?,
        "bytes": shown(cost.traffic)?, "network": shown(cost.costs.network)?,
        "per_token": shown(cost.costs.per_token)?, "attributed": shown(cost.costs.attributed())?, "wasted": shown(cost.costs.wasted())?,
        "full": shown(full)?,
    })))
}
