//! How steps are shared, and how far what is predicted of them is from what is measured.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use inference::StepClass;
use serde_json::{Value, json};
use service::{LineStatus, SHARING_RULE};

use super::{Admin, Answer};
use crate::app::App;
use crate::auth::Caller;

/// By which time of each term steps are shared over requests, and predicted against measured busy time by class of work,
/// since each model was loaded.
#[utoipa::path(
    get,
    path = "/admin/v1/calibration",
    operation_id = "getCalibration",
    tag = "administration",
    responses(
        (status = 200, body = Object, description = "`rule`; `data`: for each model in memory what it started from, `terms` in ns, and `classes` with steps, predicted and measured time and the error in thousandths of the measured one, null without steps"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`")
    )
)]
pub(crate) async fn calibration(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    Admin::of_plant(&app, &caller)?;
    let lines = app.pool.lines();
    let data: Vec<Value> = lines.iter().map(|line| line_json(&line.card().id, &line.status())).collect();
    Ok(Json(json!({ "object": "calibration", "rule": SHARING_RULE, "data": data })))
}

fn line_json(model: &str, status: &LineStatus) -> Value {
    let terms = status.step_terms.iter().map(|term| json!({ "counts": term.counts, "ns": term.ns }));
    let classes = StepClass::ALL.iter().zip(status.counters.classes).map(|(class, time)| {
        let difference = i128::from(time.predicted_ns) - i128::from(time.busy_ns);
        let error = (difference * 1000).checked_div(i128::from(time.busy_ns));
        json!({
            "class": class.as_str(), "steps": time.steps, "predicted_ns": time.predicted_ns, "busy_ns": time.busy_ns,
            "error_permille": error.and_then(|error| i64::try_from(error).ok()),
        })
    });
    json!({
        "model": model, "started_from": status.calibration, "terms": terms.collect::<Vec<_>>(),
        "classes": classes.collect::<Vec<_>>(),
    })
}
