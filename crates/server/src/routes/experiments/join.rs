//! A request joins an experiment by `metadata.experiment`: its unit's arm decides its model, settings and prompt version.

use std::sync::Arc;

use economics::Invalid;
use economics::books::{Joined, NotCounted, Placement, PostError};
use economics::experiment::{Arm, Unit};
use protocol::ExperimentNote;
use serde_json::Value;

use super::{place, share};
use crate::app::{App, in_turn};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::fields::{Fields, missing, wrong};
use crate::routes::admin::invalid;

/// Where a request belongs.
pub(in crate::routes) struct Membership {
    /// For the books; none when it is not counted.
    pub(in crate::routes) joined: Option<Joined>,
    /// For the answer.
    pub(in crate::routes) note: ExperimentNote,
}

/// Finds the arm of a request that names an experiment, and sets in its fields what the arm says; how long the answer may be
/// only where requests say that themselves (`sets_length`).
pub(in crate::routes) async fn join(
    app: &App,
    fields: &mut Fields,
    caller: &Caller,
    sets_length: bool,
) -> Result<Option<Membership>, ApiError> {
    let Some(named) = fields.peek("metadata").and_then(|metadata| metadata.get("experiment")) else {
        return Ok(None);
    };
    let Value::String(id) = named else {
        return Err(wrong("metadata.experiment", "a string, the id of an experiment", named));
    };
    let id = id.clone();
    let identity = caller.identity.clone();
    let (Some(books), Some(identity)) = (app.books.clone(), identity) else {
        let message = "`metadata.experiment` needs books, which this server does not keep; leave it out";
        return Err(ApiError::field("metadata.experiment", message));
    };
    let found = books.experiment_of((&identity.organisation.id, &identity.project), &id);
    let kind = found.map_err(|error| invalid(&named_here(error, Unit::User)))?.0.unit;
    let unit = unit(fields, kind)?;
    let place = move || {
        place(&books, &identity, (&id, &unit)).map_err(|error| match error {
            PostError::Invalid(error) => invalid(&named_here(error, kind)),
            other => other.into(),
        })
    };
    let Placement { experiment, arm, joined } = in_turn(Arc::clone(&app.assignments), place).await?;
    let Some(arm) = experiment.arms.get(arm) else { return Err(ApiError::internal("an arm is not there")) };
    if arm.held_out {
        let message = format!(
            "the {} is held out by the experiment `{}`: it gets no answers; ask POST /v1/experiments/{}/assignments first",
            kind.as_str(),
            experiment.id,
            experiment.id
        );
        return Err(ApiError::forbidden(message, "held_out").with_param("metadata.experiment"));
    }
    apply(arm, fields, joined.is_ok(), sets_length)?;
    let (joined, reason) = (joined.as_ref().ok().cloned(), joined.err().map(NotCounted::as_str));
    let note = ExperimentNote {
        id: experiment.id.clone(),
        arm: arm.name.clone(),
        propensity: joined.as_ref().map(|joined| share(joined.propensity_permille)),
        counted: joined.is_some(),
        reason: reason.map(str::to_owned),
    };
    Ok(Some(Membership { joined, note }))
}

/// The request's unit.
fn unit(fields: &Fields, kind: Unit) -> Result<String, ApiError> {
    let place = match kind {
        Unit::User => fields.peek("user"),
        Unit::Episode => fields.peek("metadata").and_then(|metadata| metadata.get("episode")),
    };
    match place {
        Some(Value::String(unit)) if !unit.is_empty() => Ok(unit.clone()),
        None => Err(missing(kind.field(), &format!("a string: the experiment assigns by {}", kind.as_str()))),
        Some(other) => Err(wrong(kind.field(), "a string that is not empty", other)),
    }
}

/// The fields as a request calls them.
fn named_here(error: Invalid, kind: Unit) -> Invalid {
    let field = match error.field.as_str() {
        "experiment" => "metadata.experiment",
        "unit" => kind.field(),
        other => other,
    };
    Invalid { field: field.to_owned(), ..error }
}

/// Sets what the arm says. Its prompt is the application's concern: a request that says another one would be counted wrong.
fn apply(arm: &Arm, fields: &mut Fields, counted: bool, sets_length: bool) -> Result<(), ApiError> {
    if let Some(model) = &arm.model {
        fields.set("model", model.as_str().into());
    }
    for (name, value) in &arm.settings {
        if name == "max_tokens" {
            if !sets_length {
                continue;
            }
            // The newer name of the same.
            fields.take("max_completion_tokens");
        }
        fields.set(name, value.clone());
    }
    let Some(label) = &arm.prompt_version else { return Ok(()) };
    let Some(Value::Object(mut metadata)) = fields.take("metadata") else { return Ok(()) };
    let said = metadata.get("prompt_version").and_then(Value::as_str);
    match said {
        Some(other) if counted && other != label => {
            let message = format!(
                "`metadata.prompt_version` is not `{label}`, the prompt of the arm `{}`; ask \
                 POST /v1/experiments/ID/assignments first and use the arm's prompt",
                arm.name
            );
            return Err(ApiError::field("metadata.prompt_version", message));
        }
        Some(_) => {}
        None => drop(metadata.insert("prompt_version".to_owned(), label.as_str().into())),
    }
    fields.set("metadata", Value::Object(metadata));
    Ok(())
}
