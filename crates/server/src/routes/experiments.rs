//! Experiments: which arm a unit gets, and what arms have shown.

mod allocation;
mod document;
mod join;
mod results;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use economics::Invalid;
use economics::books::{Books, Placement, PostError};
use economics::directory::Identity;
use economics::directory::record::Scope;
use economics::experiment::Experiment;
use economics::window::to_rfc3339;

use super::outcomes::refused;
use super::read;
use super::tfp::reader;
use crate::app::{App, in_turn, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::fields::missing;
use crate::segments::Segments;

pub(crate) use allocation::keep_allocating;
use document::{ExperimentAssignment, ExperimentList, ExperimentResults};
pub(super) use join::join;

/// The experiments of the caller's organisation; of the plant, for keys with the scope `plant`.
#[utoipa::path(
    get,
    path = "/v1/experiments",
    operation_id = "listExperiments",
    tag = "value",
    responses(
        (status = 200, body = ExperimentList, description = "The experiments"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not read usage, or there are no books")
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<ExperimentList>, ApiError> {
    let (books, own) = reader(&app, &caller, "experiments")?;
    let directory = books.directory();
    let seen = directory.experiments().filter(|one| own.as_ref().is_none_or(|own| one.organisation == *own));
    let data = seen.map(|one| Experiment::clone(one)).collect();
    Ok(Json(ExperimentList { object: "list", data }))
}

/// What the arms of an experiment have shown. One may look at any time, as often as one likes.
#[utoipa::path(
    get,
    path = "/v1/experiments/{id}",
    operation_id = "getExperiment",
    tag = "value",
    params(("id" = String, Path, description = "The experiment's id")),
    responses(
        (status = 200, body = ExperimentResults, description = "What was found so far"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not read usage, or there are no books"),
        (status = 404, body = protocol::ErrorBody, description = "There is none that the caller may see")
    )
)]
pub(crate) async fn results(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(id): Segments<String>,
) -> Result<Json<ExperimentResults>, ApiError> {
    let (books, own) = reader(&app, &caller, "experiments")?;
    let experiment = books.directory().experiment(&id).cloned();
    let seen = experiment.filter(|one| own.as_ref().is_none_or(|own| one.organisation == *own));
    let experiment = seen.ok_or_else(|| unknown(&id))?;
    let read = move || {
        let now_ms = unix_ms();
        books.match_outcomes(now_ms).map_err(refused)?;
        results::Results::read(&books, &experiment, now_ms)?.document(books.currency()).map(Json)
    };
    in_turn(Arc::clone(&app.books_turns), read).await
}

fn unknown(id: &str) -> ApiError {
    let id: String = id.chars().take(200).collect();
    ApiError::not_found(format!("there is no experiment `{id}`; GET /v1/experiments lists them"))
}

/// The arm of a unit: the same whenever it is asked for. For applications that serve the arms themselves, and for units that
/// may be held out.
#[utoipa::path(
    post,
    path = "/v1/experiments/{id}/assignments",
    operation_id = "createAssignment",
    tag = "value",
    params(("id" = String, Path, description = "The experiment's id")),
    request_body(content = Object, description = "`unit`: the end user or the episode", example = json!({"unit": "user-4711"})),
    responses(
        (status = 200, body = ExperimentAssignment, description = "Its arm; it is not counted once the experiment is stopped or full"),
        (status = 400, body = protocol::ErrorBody, description = "A field is wrong, or the project has no such experiment"),
        (status = 403, body = protocol::ErrorBody, description = "The key may not ask models, or there are no books")
    )
)]
pub(crate) async fn assign(
    State(app): State<Arc<App>>,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Json<ExperimentAssignment>, ApiError> {
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let books = app.books()?;
    let asker = caller.identity.filter(|identity| identity.scopes.contains(&Scope::Inference));
    let identity = asker.ok_or_else(|| {
        ApiError::forbidden(
            "assignments need a key with the scope `inference`, of the project that asks",
            "not_allowed",
        )
    })?;
    let unit = fields.string("unit")?.ok_or_else(|| missing("unit", "a string, the end user or the episode"))?;
    fields.finish()?;
    let named = unit.clone();
    let place = move || Ok(place(&books, &identity, (&id, &named))?);
    let Placement { experiment, arm, joined } = in_turn(Arc::clone(&app.assignments), place).await?;
    let Some(arm) = experiment.arms.get(arm) else { return Err(ApiError::internal("an arm is not there")) };
    let counted = joined.as_ref().ok();
    let until = counted.map(|joined| joined.until_ms).filter(|until_ms| *until_ms < i64::MAX);
    Ok(Json(ExperimentAssignment {
        object: "assignment",
        experiment: experiment.id.clone(),
        unit,
        arm: arm.name.clone(),
        held_out: arm.held_out,
        propensity: counted.map(|joined| share(joined.propensity_permille)),
        counted: counted.is_some(),
        reason: joined.as_ref().err().map(|reason| reason.as_str()),
        until: until.map(to_rfc3339),
        model: arm.model.clone(),
        prompt_version: arm.prompt_version.clone(),
        settings: arm.settings.clone(),
    }))
}

/// Permille as a share.
fn share(permille: u16) -> f64 {
    f64::from(permille) / 1000.0
}

/// The arm of a unit, drawn if it has none.
fn place(books: &Books, identity: &Identity, (experiment, unit): (&str, &str)) -> Result<Placement, PostError> {
    let draw = |experiment: &Experiment| {
        let weights: Vec<f64> = experiment.weights().into_iter().map(share).collect();
        let drawn = analysis::experiment::assign(&experiment.id, &experiment.salt, unit, &weights);
        drawn.map(|drawn| drawn.arm).map_err(|error| Invalid::new(error.field, error.problem, error.fix))
    };
    books.assign((&identity.organisation.id, &identity.project), (experiment, unit), draw, unix_ms())
}

#[cfg(test)]
mod tests;
