//! TFP: value of outcomes per token that was used, told apart by what the requests were for.

mod document;
mod shown;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::books::Books;
use economics::directory::record::{Kind, Scope};
use economics::rollup::{self, MAX_TFP_ROWS, TfpAsk, TfpBy, TfpError, TfpPeriod, TfpRow, TfpTable};
use economics::standard::StandardWeights;

use super::outcomes::refused;
use super::period::{Days, span};
use crate::app::{App, in_turn, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;
use crate::routes::admin::unreadable;
pub(super) use document::Productivity;
use document::{StandardTokenWeights, StandardTokens, TfpReport};
use shown::{Shown, figures, row};

const GROUPS: [&str; 11] =
    ["organisation", "team", "project", "end_user", "model", "prompt_version", "task", "tag", "day", "week", "month"];
/// What some are called too.
const SYNONYMS: [(&str, &str); 2] = [("customer", "organisation"), ("user", "end_user")];
const DENOMINATORS: [&str; 5] = ["total", "output", "input", "computed", "standard"];
/// End users with rows of their own, where nobody says otherwise.
const TOP: usize = 100;
const STANDARD_RULE: &str = "each token counts as its kind's list price over that of output (of `base`, if given): the price \
    list of the customer's plan, as in force at end_time, or now if that is earlier; of several tiers the first";

/// Value per million tokens of whole days (UTC), with its 95 % interval, how much of it is known, and what it cost.
#[utoipa::path(
    get,
    path = "/v1/tfp",
    operation_id = "getTfp",
    tag = "value",
    params(
        Days,
        ("group_by" = Option<String>, Query, description = "Some of `organisation` (or `customer`), `team`, `project`, `end_user`, `model`, `prompt_version`, `task`, `tag`, and one of `day`, `week`, `month`, with commas between them; one row when not given. `end_user` does not go with `prompt_version`, `task` and `tag`"),
        ("denominator" = Option<String>, Query, description = "Which tokens: `total` (input and output, the default), `output`, `input`, `computed` (without cached input), or `standard` (weighted by list price relative to output)"),
        ("base" = Option<String>, Query, description = "With `standard`: the model whose output price counts as one; each model's own when not given"),
        ("top" = Option<u32>, Query, description = "With `end_user`: how many rows they get of their own, those with most value; the others are summed up in the last row, `others` says of how many end users. 1 to 1000 [default: 100]")
    ),
    responses(
        (status = 200, body = TfpReport, description = "A row for each group. Requests count in the day in which they ended, and so does the value of their outcomes. Keys with the scope `plant` see what the requests cost too"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong, or there would be more than 1,000 rows"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not read usage")
    )
)]
pub(crate) async fn tfp(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<TfpReport>, ApiError> {
    let (books, own) = reader(&app, &caller, "TFP")?;
    let mut query = Query::of(&uri)?;
    let asked = Asked::read(&mut query)?;
    query.finish()?;
    let read = move || {
        let now_ms = unix_ms();
        books.match_outcomes(now_ms).map_err(refused)?;
        let organisations = own.clone().map_or_else(|| organisations(&books), |own| vec![own]);
        let table = asked.table(&books, &organisations, now_ms)?;
        let aside = books.outcomes_aside(own.as_deref(), None).map_err(|error| unreadable(&error))?;
        let shown = Shown { by: asked.by, denominator: &asked.denominator, with_cost: own.is_none() };
        let (from_s, to_s) = asked.span_s;
        let data = table.rows.iter().map(|told| row(told, &shown)).collect();
        let sheets = || rollup::sheets(books.ledger(), from_s.saturating_mul(1000), to_s.saturating_mul(1000));
        let sheet = own.is_none().then(sheets).transpose().map_err(|error| unreadable(&error))?;
        Ok(Json(TfpReport {
            object: "tfp",
            currency: books.currency().code.clone(),
            start_time: from_s,
            end_time: to_s,
            per_tokens: 1_000_000,
            aside,
            data,
            standard_tokens: (asked.denominator == "standard").then(|| standard_tokens(asked.base, table)),
            sheet,
            group_by: asked.told,
            denominator: asked.denominator,
        }))
    };
    in_turn(Arc::clone(&app.books_turns), read).await
}

/// The parameters.
struct Asked {
    span_s: (i64, i64),
    told: Vec<&'static str>,
    by: TfpBy,
    denominator: String,
    base: Option<String>,
    top: usize,
}

impl Asked {
    fn read(query: &mut Query) -> Result<Self, ApiError> {
        let span_s = span(query)?;
        let words: Vec<&str> = GROUPS.into_iter().chain(SYNONYMS.map(|(synonym, _)| synonym)).collect();
        let given = query.words("group_by", &words)?;
        let is_told = |group: &str| {
            let synonym = |(synonym, of): (&str, &str)| of == group && given.iter().any(|word| word == synonym);
            given.iter().any(|word| word == group) || SYNONYMS.into_iter().any(synonym)
        };
        let told: Vec<&'static str> = GROUPS.into_iter().filter(|group| is_told(group)).collect();
        let [organisation, team, project, end_user, model, prompt_version, task, tag, day, week, month] =
            GROUPS.map(|group| told.contains(&group));
        let period = match (day, week, month) {
            (false, false, false) => TfpPeriod::Whole,
            (true, false, false) => TfpPeriod::Day,
            (false, true, false) => TfpPeriod::Week,
            (false, false, true) => TfpPeriod::Month,
            _ => {
                return Err(ApiError::field(
                    "group_by",
                    "`group_by` has more than one of `day`, `week`, `month`; give one",
                ));
            }
        };
        if end_user && (prompt_version || task || tag) {
            let message = "`end_user` does not go with `prompt_version`, `task` and `tag`: those are not kept by end user; \
                leave them out";
            return Err(ApiError::field("group_by", message));
        }
        let by = TfpBy { organisation, team, project, end_user, model, prompt_version, task, tag, period };
        let denominator = query.word("denominator", &DENOMINATORS)?.unwrap_or_else(|| "total".to_owned());
        let base = query.text("base");
        if base.is_some() && denominator != "standard" {
            return Err(ApiError::field("base", "`base` goes with `denominator=standard` only; leave it out"));
        }
        let top: Option<usize> = query.integer("top", "from 1 to 1000", 1..=1_000)?;
        if top.is_some() && !end_user {
            return Err(ApiError::field("top", "`top` goes with `group_by=end_user` only; leave it out"));
        }
        Ok(Self { span_s, told, by, denominator, base, top: top.unwrap_or(TOP) })
    }

    fn table(&self, books: &Books, organisations: &[String], now_ms: i64) -> Result<TfpTable, ApiError> {
        if let Some(base) = &self.base
            && books.directory().prices().all().all(|(_, price)| price.model != *base)
        {
            return Err(ApiError::field("base", format!("no model `{base}` has a price; name one that has")));
        }
        let span_ms = (self.span_s.0.saturating_mul(1000), self.span_s.1.saturating_mul(1000));
        let prices_ms = now_ms.min(span_ms.1.saturating_sub(1));
        let weigh = |organisation: &str, model: &str| {
            StandardWeights::of(&books.directory(), (organisation, model), self.base.as_deref(), prices_ms)
        };
        let ask = TfpAsk {
            organisations,
            span_ms,
            by: self.by,
            now_ms,
            top: self.top,
            teams: &if self.by.team { books.directory().teams_of_projects() } else { HashMap::new() },
            weigh: (self.denominator == "standard").then_some(&weigh),
        };
        rollup::tfp(books.ledger(), &ask).map_err(|error| match error {
            TfpError::Store(error) => unreadable(&error),
            TfpError::Rows => {
                let message =
                    format!("this would be more than {MAX_TFP_ROWS} rows; tell less apart, or ask for less time");
                ApiError::field("group_by", message)
            }
            TfpError::EndUsers => ApiError::field("group_by", format!("{error}; ask for less time")),
        })
    }
}

/// The figures of the whole plant, by all tokens.
pub(super) fn plant_figures(row: &TfpRow) -> Productivity {
    figures(row, &Shown { by: TfpBy::default(), denominator: "total", with_cost: true })
}

fn standard_tokens(base: Option<String>, table: TfpTable) -> StandardTokens {
    let weights = table.weights.into_iter().map(|weights| {
        let [input, cached_input, output, reasoning] =
            weights.rates.map(|rate| rate.pico() as f64 / weights.base.pico() as f64);
        StandardTokenWeights { list: weights.list, model: weights.model, input, cached_input, output, reasoning }
    });
    let (weights, models_without_price) = (weights.collect(), table.without_price.into_iter().collect());
    StandardTokens { rule: STANDARD_RULE, base, weights, models_without_price }
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

pub(super) fn organisations(books: &Books) -> Vec<String> {
    books.directory().records(Kind::Organisation).iter().map(|record| record.key()).collect()
}
