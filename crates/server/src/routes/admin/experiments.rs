//! Experiments: stopped by an administrator. They are made and changed as all records are.

use std::sync::Arc;

use axum::extract::{Request, State};
use economics::Invalid;
use economics::directory::record::{Kind, Record};
use economics::experiment::{Experiment, State as Stage};

use super::Admin;
use super::condition::{Condition, Tagged};
use super::records::ChangedRecord;
use crate::app::App;
use crate::routes::read;
use crate::segments::Segments;

/// Stops an experiment for good: from then on all units get the winner, else the control, and are not counted.
#[utoipa::path(
    post,
    path = "/admin/v1/experiments/{id}/stop",
    tag = "administration",
    params(
        ("id" = String, Path, description = "The experiment's id"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the experiment as it was read")
    ),
    request_body(content = Object, description = "`winner`: the arm that all get from now on; the control when not given", example = json!({"winner": "warm"})),
    responses(
        (status = 200, body = ChangedRecord, description = "The experiment as it is now, and its version"),
        (status = 400, body = protocol::ErrorBody, description = "It is stopped already, or there is no such arm"),
        (status = 404, body = protocol::ErrorBody, description = "There is none that the caller may see"),
        (status = 412, body = protocol::ErrorBody, description = "`If-Match` does not hold; nothing is changed")
    )
)]
pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    Segments(id): Segments<String>,
    request: Request,
) -> Tagged<ChangedRecord> {
    let condition = Condition::of(request.headers());
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let condition = condition?;
    let admin = Admin::of(&app, &caller)?;
    admin.known(Kind::Experiment, &id)?;
    let winner = fields.string("winner")?;
    fields.finish()?;
    let stop = move |admin: &Admin| {
        admin.change(&condition, |directory| {
            let known = directory.experiment(&id).ok_or_else(|| {
                Invalid::new("id", format!("there is no experiment `{id}`"), "see GET /admin/v1/experiments")
            })?;
            let (state, winner) = (Stage::Stopped, winner.clone());
            Ok(Record::Experiment(Experiment { state, winner, ..Experiment::clone(known) }))
        })
    };
    let (record, version) = admin.run(stop).await?;
    ChangedRecord::of(version, &record)
}
