//! How steps are shared, and how far what is predicted of them is from what is measured.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use inference::StepClass;
use serde::Serialize;
use service::{Line, LineCalibration, SHARING_RULE};
use utoipa::ToSchema;

use super::Admin;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiError;

/// How steps are shared over requests, of each model in memory.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CalibrationReport {
    /// `calibration`.
    object: &'static str,
    /// The rule, for people.
    rule: &'static str,
    /// The models in memory.
    data: Vec<ModelCalibration>,
}

/// How steps of one model are predicted, and by that shared.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelCalibration {
    /// The model.
    model: String,
    /// What its engine started from, for people.
    started_from: String,
    /// The terms of a step's time, as they are known now.
    terms: Vec<CalibratedTerm>,
    /// Predicted and measured time by class of work, since the model was loaded.
    classes: Vec<CalibratedClass>,
}

/// A term of a step's predicted time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CalibratedTerm {
    /// What it counts.
    counts: &'static str,
    /// The time of each, in nanoseconds.
    ns: f64,
}

/// Steps of one class of work.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CalibratedClass {
    /// The class.
    class: &'static str,
    /// How many steps.
    steps: u64,
    /// Their predicted time, in nanoseconds.
    predicted_ns: u64,
    /// Their measured time, in nanoseconds.
    busy_ns: u64,
    /// (predicted - measured) / measured time, in thousandths; `null` without steps.
    #[schema(required = true)]
    error_permille: Option<i64>,
}

/// By which time of each term steps are shared over requests, and predicted against measured busy time by class of work,
/// since each model was loaded.
#[utoipa::path(
    get,
    path = "/admin/v1/calibration",
    operation_id = "getCalibration",
    tag = "administration",
    responses(
        (status = 200, body = CalibrationReport, description = "What is known of each model in memory"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`")
    )
)]
pub(crate) async fn calibration(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<CalibrationReport>, ApiError> {
    Admin::of_plant(&app, &caller)?;
    let data = app.pool.lines().iter().map(|line| calibrated(line.as_ref())).collect();
    Ok(Json(CalibrationReport { object: "calibration", rule: SHARING_RULE, data }))
}

fn calibrated(line: &dyn Line) -> ModelCalibration {
    let LineCalibration { terms, started_from } = line.calibration();
    let classes = StepClass::ALL.iter().zip(line.status().counters.classes).map(|(class, time)| CalibratedClass {
        class: class.as_str(),
        steps: time.steps,
        predicted_ns: time.predicted_ns,
        busy_ns: time.busy_ns,
        error_permille: time.error_permille(),
    });
    ModelCalibration {
        model: line.card().id.clone(),
        started_from,
        terms: terms.iter().map(|term| CalibratedTerm { counts: term.counts, ns: term.ns }).collect(),
        classes: classes.collect(),
    }
}
