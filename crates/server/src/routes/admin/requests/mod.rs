//! The last requests: listed, looked at one by one, their texts deleted.
//!
//! Whoever may watch the plant sees all of them; a key with the scope `usage` or `manage` those of its own organisation. Texts
//! are for those who may administer the project: scope `plant`, or `manage` for the own organisation.

pub(crate) mod document;
mod entries;

use std::sync::Arc;

use ::ledger::EntryId;
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use economics::books::outcome_detail::Owner;
use economics::directory::record::Scope;
use metering::Outcome;
use service::entry_id;
use traces::{Deletion, Filter, Page, Traces, TracesError, Whole};

use self::document::{DeletedContent, RequestList, RequestTrace};
use super::Admin;
use crate::app::{App, in_turn};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::query::Query;
use crate::routes::outcomes;
use crate::segments::Segments;

const LIMIT: usize = 100;
const MAX_LIMIT: i128 = 500;
/// Longest text that is looked for.
const MAX_SEARCH_BYTES: usize = 200;

/// Which requests a caller may see.
struct Reader {
    traces: Arc<Traces>,
    /// `None`: all.
    organisation: Option<String>,
    /// Its key's.
    project: Option<String>,
    /// Whether it may read texts.
    administers: bool,
}

impl Reader {
    fn of(app: &App, caller: &Caller) -> Result<Self, ApiError> {
        let traces = traces(app)?;
        let identity = caller.identity.as_ref();
        let project = identity.map(|identity| identity.project.clone());
        let has = |scope| identity.is_some_and(|identity| identity.scopes.contains(&scope));
        if app.may_watch(caller) {
            return Ok(Self { traces, organisation: None, project, administers: has(Scope::Plant) });
        }
        let own = identity.filter(|_| has(Scope::Usage) || has(Scope::Manage)).ok_or_else(|| {
            let message = "this key may not see requests: that needs the scope `usage` or `manage` (of its own \
                           organisation), or `plant`";
            ApiError::forbidden(message, "not_allowed")
        })?;
        let organisation = Some(own.organisation.id.clone());
        Ok(Self { traces, organisation, project, administers: has(Scope::Manage) })
    }

    /// Whether it may read what people wrote in the outcomes of this project: its own key may list them.
    fn reads_remarks(&self, project: &str) -> bool {
        self.administers || self.project.as_deref() == Some(project)
    }

    /// Whether it may see what belongs to this organisation.
    fn sees(&self, organisation: &str) -> bool {
        self.organisation.as_deref().is_none_or(|own| own == organisation)
    }
}

fn traces(app: &App) -> Result<Arc<Traces>, ApiError> {
    app.traces.clone().ok_or_else(|| {
        ApiError::forbidden("this server keeps no traces of requests (traces.enabled is false)", "no_traces")
    })
}

impl From<TracesError> for ApiError {
    fn from(error: TracesError) -> Self {
        match error {
            TracesError::Unusable { .. } => Self::unavailable(error.to_string(), "traces_closed"),
            TracesError::Busy => Self::unavailable(error.to_string(), "overloaded"),
        }
    }
}

/// The last requests that ended, newest first; those of the caller's own organisation, or of all for those who may watch the
/// plant. Requests that were turned away before the engine took them are not among them.
#[utoipa::path(
    get,
    path = "/admin/v1/requests",
    operation_id = "listRequests",
    tag = "administration",
    params(
        ("organisation" = Option<String>, Query, description = "Of this organisation"),
        ("project" = Option<String>, Query, description = "Of this project"),
        ("key" = Option<String>, Query, description = "By the key of this id"),
        ("model" = Option<String>, Query, description = "Of this model; of an adapter its full name"),
        ("outcome" = Option<String>, Query, description = "`ok`, `cancelled` or `failed`"),
        ("text" = Option<String>, Query, description = "This text, in any case, in id, organisation, project, key, model, user or error"),
        ("start_time" = Option<i64>, Query, description = "Received at this time or later, in Unix seconds"),
        ("end_time" = Option<i64>, Query, description = "Received before this time, in Unix seconds"),
        ("min_e2e_ms" = Option<u64>, Query, description = "That took at least so many milliseconds"),
        ("before" = Option<u64>, Query, description = "`next_before` of the page before"),
        ("since" = Option<u64>, Query, description = "Only what ended after an answer whose `newest` this is"),
        ("limit" = Option<u32>, Query, description = "1 to 500; 100 when not given")
    ),
    responses(
        (status = 200, body = RequestList, description = "The page"),
        (status = 400, body = protocol::ErrorBody, description = "A parameter is wrong; `param` names it"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not see them, or no traces are kept"),
        (status = 503, body = protocol::ErrorBody, description = "The file of the traces cannot be used")
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<RequestList>, ApiError> {
    let reader = Reader::of(&app, &caller)?;
    let mut query = Query::of(&uri)?;
    let (mut filter, page) = asked(&mut query)?;
    query.finish()?;
    if let Some(own) = &reader.organisation {
        if filter.organisation.as_ref().is_some_and(|asked| asked != own) {
            let message = format!("this key sees requests of `{own}` only; leave `organisation` out");
            return Err(ApiError::forbidden(message, "not_allowed").with_param("organisation"));
        }
        filter.organisation = Some(own.clone());
    }
    let read = move || {
        let listed = reader.traces.list(&filter, &page)?;
        let next_before = listed.requests.last().map(|kept| kept.number).filter(|_| listed.has_more);
        Ok(Json(RequestList {
            object: "list",
            has_more: listed.has_more,
            newest: listed.newest,
            next_before,
            data: listed.requests.into_iter().map(Into::into).collect(),
            trouble: reader.traces.trouble(),
        }))
    };
    in_turn(Arc::clone(&app.trace_turns), read).await
}

fn asked(query: &mut Query) -> Result<(Filter, Page), ApiError> {
    let words = Outcome::ALL.map(Outcome::as_str);
    let outcome = query.word("outcome", &words)?;
    let (from_s, to_s) = (query.time("start_time")?, query.time("end_time")?);
    let min_e2e_ms: Option<u64> = query.integer("min_e2e_ms", "milliseconds", 0..=i128::from(u32::MAX))?;
    let text = query.text("text").filter(|text| !text.is_empty());
    if text.as_ref().is_some_and(|text| text.len() > MAX_SEARCH_BYTES) {
        return Err(ApiError::field("text", format!("`text` is longer than {MAX_SEARCH_BYTES} bytes; shorten it")));
    }
    let filter = Filter {
        organisation: query.text("organisation"),
        project: query.text("project"),
        key: query.text("key"),
        model: query.text("model"),
        outcome: outcome.and_then(|word| Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == word)),
        text,
        from_ms: from_s.map(|seconds| seconds.saturating_mul(1000)),
        to_ms: to_s.map(|seconds| seconds.saturating_mul(1000)),
        min_e2e_ns: min_e2e_ms.map(|ms| ms.saturating_mul(1_000_000)),
    };
    let mut place = |name, what| query.integer(name, what, 0..=i128::from(i64::MAX));
    let before = place("before", "`next_before` of a page")?;
    let since = place("since", "`newest` of an answer")?;
    let limit = query.integer("limit", "a number from 1 to 500", 1..=MAX_LIMIT)?.unwrap_or(LIMIT);
    Ok((filter, Page { before, since, limit }))
}

/// One request: its life as a timeline, what it used and was charged, its outcomes; and for those who may administer its
/// project its texts, where they are kept.
#[utoipa::path(
    get,
    path = "/admin/v1/requests/{id}",
    operation_id = "getRequest",
    tag = "administration",
    params(("id" = String, Path, description = "The id of the answer, e.g. `chatcmpl-…`; of several prompts with `-n` behind")),
    responses(
        (status = 200, body = RequestTrace, description = "The request"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not see requests, or no traces are kept"),
        (status = 404, body = protocol::ErrorBody, description = "There is none that the caller may see, or it is kept no more"),
        (status = 503, body = protocol::ErrorBody, description = "The file of the traces cannot be used")
    )
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(id): Segments<String>,
) -> Result<Json<RequestTrace>, ApiError> {
    let reader = Reader::of(&app, &caller)?;
    let books = app.books.clone();
    let read = move || {
        let Whole { kept, timeline, content } = found(&reader, &id)?;
        // Entries of the ledger and costs are the plant's.
        let plant = reader.organisation.is_none() && reader.administers;
        let owner =
            Owner { organisation: kept.owner.organisation.clone(), project: kept.owner.project.clone(), any: false };
        let owner = (!plant).then_some(&owner);
        let told = books.as_ref().map(|books| entries::told(books, EntryId(entry_id(&id)), owner)).transpose()?;
        let has_books = told.is_some();
        let mut told = told.unwrap_or_default();
        if !reader.reads_remarks(&kept.owner.project) {
            told.outcomes.iter_mut().for_each(outcomes::hide_texts);
        }
        let may_read_content = reader.administers;
        Ok(Json(RequestTrace {
            object: "request",
            usage: (&kept.record).into(),
            timeline: timeline.into(),
            charge: told.charge,
            cost: (plant && has_books).then(|| format!("/v1/costs/{id}")),
            entries: (plant && has_books).then_some(told.entries),
            outcomes: told.outcomes,
            outcomes_complete: told.outcomes_complete,
            content: content.filter(|_| may_read_content).map(Into::into),
            may_read_content,
            content_days: reader.traces.content_days(&kept.owner.project),
            request: kept.into(),
        }))
    };
    in_turn(Arc::clone(&app.trace_turns), read).await
}

/// The request of this id, if the caller may see it: others' are as if they were not there.
fn found(reader: &Reader, id: &str) -> Result<Whole, ApiError> {
    let found = reader.traces.find(id)?.filter(|whole| reader.sees(&whole.kept.owner.organisation));
    found.ok_or_else(|| {
        let message = format!(
            "there is no request `{id}` among those that are kept; GET /admin/v1/requests lists them, a moment after their end"
        );
        ApiError::not_found(message)
    })
}

/// Deletes prompt and answers of a request, for good.
#[utoipa::path(
    delete,
    path = "/admin/v1/requests/{id}/content",
    operation_id = "deleteRequestContent",
    tag = "administration",
    params(("id" = String, Path, description = "The id of the answer")),
    responses(
        (status = 200, body = DeletedContent, description = "They are gone; 0: there were none"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not administer the project"),
        (status = 404, body = protocol::ErrorBody, description = "There is no such request that the caller may see"),
        (status = 503, body = protocol::ErrorBody, description = "The file of the traces cannot be used")
    )
)]
pub(crate) async fn delete_content(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(id): Segments<String>,
) -> Result<Json<DeletedContent>, ApiError> {
    let admin = Admin::of(&app, &caller)?;
    let reader = Reader::of(&app, &caller)?;
    let delete = move || {
        let number = found(&reader, &id)?.kept.number;
        let deleted = reader.traces.delete(Deletion::Request(number))?;
        tracing::info!(request_id = id, actor = admin.actor(), deleted, "prompt and answers were deleted");
        Ok(Json(DeletedContent { deleted: deleted as u64 }))
    };
    in_turn(Arc::clone(&app.trace_turns), delete).await
}

/// Deletes prompts and answers of all requests of a project, for good. Whether it keeps those of later ones says its
/// `store_content`.
#[utoipa::path(
    delete,
    path = "/admin/v1/projects/{id}/content",
    operation_id = "deleteProjectContent",
    tag = "administration",
    params(("id" = String, Path, description = "The project")),
    responses(
        (status = 200, body = DeletedContent, description = "They are gone; of how many requests"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not administer the project"),
        (status = 404, body = protocol::ErrorBody, description = "There is no such project that the caller may see"),
        (status = 503, body = protocol::ErrorBody, description = "The file of the traces cannot be used")
    )
)]
pub(crate) async fn delete_project_content(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(project): Segments<String>,
) -> Result<Json<DeletedContent>, ApiError> {
    let admin = Admin::of(&app, &caller)?;
    let traces = traces(&app)?;
    let own = {
        let directory = admin.books.directory();
        let reaches = |own: &str| admin.authority().organisation().is_none_or(|reach| reach == own);
        directory.project(&project).is_some_and(|record| reaches(&record.organisation))
    };
    if !own {
        let message = format!("there is no project `{project}`; GET /admin/v1/projects lists them");
        return Err(ApiError::not_found(message));
    }
    let delete = move || {
        let deleted = traces.delete(Deletion::Project(project.clone()))?;
        tracing::info!(project, actor = admin.actor(), deleted, "prompts and answers of a project were deleted");
        Ok(Json(DeletedContent { deleted: deleted as u64 }))
    };
    in_turn(Arc::clone(&app.trace_turns), delete).await
}
