//! How steps are shared, and how far what is predicted of them is from what is measured.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use inference::StepClass;
use serde_json::{Value, json};
use service::{Line, LineCalibration, SHARING_RULE};

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
    let data: Vec<Value> = lines.iter().map(|line| line_json(line.as_ref())).collect();
    Ok(Json(json!({ "object": "calibration", "rule": SHARING_RULE, "data": data })))
}

fn line_json(line: &dyn Line) -> Value {
    let LineCalibration { terms, started_from } = line.calibration();
    let terms = terms.iter().map(|term| json!({ "counts": term.counts, "ns": term.ns }));
    let classes = StepClass::ALL.iter().zip(line.status().counters.classes).map(|(class, time)| {
        json!({
            "class": class.as_str(), "steps": time.steps, "predicted_ns": time.predicted_ns, "busy_ns": time.busy_ns,
            "error_permille": time.error_permille(),
        })
    });
    json!({
        "model": line.card().id, "started_from": started_from, "terms": terms.collect::<Vec<_>>(),
        "classes": classes.collect::<Vec<_>>(),
    })
}
