//! The planner as a route.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use economics::directory::parse;
use economics::income::income;
use economics::plant::PlantSheet;
use serde_json::Value;

use super::{Admin, invalid, unreadable};
use crate::app::{App, unix_ms};
use crate::error::ApiError;
use crate::plan::{Basis, PlanAnswer, PlanRequest, measured_speed};
use crate::routes::period::DAY_MS;
use crate::routes::read;

/// Days over which the speed of the line is measured.
const MEASURED_DAYS: i64 = 30;

/// What tokens would cost and bring at a load, a mix and a price; where the plant would break even; what one more machine would
/// do. Figures rest on the plant's sheet, but for what `plant` gives, and are those of `tokenworks plan`.
#[utoipa::path(
    post,
    path = "/admin/v1/plan",
    operation_id = "plan",
    tag = "administration",
    request_body(
        content = PlanRequest,
        example = json!({"machines": 2, "line": {"tokens_per_second": 1000}, "load": {"utilisation": 0.5}, "input_share": 0.75, "price": {"input": "1 per 1M", "output": "3 per 1M"}, "plant": {"rent_per_hour": "2.50"}})
    ),
    responses(
        (status = 200, body = PlanAnswer, description = "A month of 730 hours; money in units of `currency`, as numbers: nothing of it is in the books"),
        (status = 400, body = protocol::ErrorBody, description = "A field is wrong, by its path (`load.utilisation`); `line.tokens_per_second` where none is given and none was measured"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`")
    )
)]
pub(crate) async fn plan(State(app): State<Arc<App>>, request: Request) -> Result<Json<PlanAnswer>, ApiError> {
    let (_ticket, caller, fields) = read(&app, request).await?;
    let admin = Admin::of_plant(&app, &caller)?;
    let asked: PlanRequest = parse::value(Value::Object(fields.into_object())).map_err(|error| invalid(&error))?;
    let answer = admin.run(move |admin| {
        let basis = admin.basis(asked.takes_measured_speed())?;
        asked.answer(basis).map_err(|error| invalid(&error))
    });
    answer.await.map(Json)
}

impl Admin {
    /// The sheet in force, or the example where no server took one; the measured speed where it is wanted.
    fn basis(&self, wants_speed: bool) -> Result<Basis, ApiError> {
        let (books, now_ms) = (&self.books, unix_ms());
        let latest = books.plant_sheets().map_err(|error| unreadable(&error))?.pop();
        let (sheet, version) = match latest {
            Some(latest) => (latest.sheet, Some(latest.version)),
            None => (PlantSheet::example(books.currency()), None),
        };
        let measured = if wants_speed {
            let to_ms = (now_ms / DAY_MS + 1) * DAY_MS;
            let span_ms = (to_ms - (MEASURED_DAYS + 1) * DAY_MS, to_ms);
            measured_speed(&income(books.ledger(), span_ms).map_err(|error| unreadable(&error))?.models)
        } else {
            None
        };
        Ok(Basis { currency: books.currency().code.clone(), sheet, version, measured, now_ms })
    }
}
