//! What the plant works by: its sheet and its objectives.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use economics::Nano;
use economics::books::SheetVersion;
use economics::plant::{Plant, PlantSheet, Source};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, invalid, unreadable};
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::live::document::ObjectivesDocument;
use crate::live::sample::stated;

/// What the plant works by. A server takes both from its configuration when it starts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlantSettings {
    /// `settings`.
    object: &'static str,
    /// The book currency.
    currency: String,
    /// The sheet in force; `null` where no server of this number has kept costs.
    plant: Option<SheetInForce>,
    /// All versions of the sheet, newest first.
    versions: Vec<SheetTaken>,
    /// What requests shall keep to (`slo` of the configuration); `null`: nothing is stated.
    objectives: Option<ObjectivesDocument>,
}

/// The plant sheet in force.
#[derive(Debug, Serialize, ToSchema)]
struct SheetInForce {
    /// Its version.
    version: u64,
    /// Whether its figures are those of the example, which are nobody's.
    example: bool,
    /// The sheet, by the names of its file (`plant.sheet_file`).
    sheet: PlantSheet,
    /// What it comes to in an hour by source, but for power, which goes by energy.
    standing_per_hour: Vec<HourlyCost>,
    /// Price of a kilowatt-hour now.
    per_kwh: Nano,
}

/// Cost of an hour.
#[derive(Debug, Serialize, ToSchema)]
struct HourlyCost {
    /// Where it comes from.
    source: Source,
    /// Rounded half-even to a nano-unit.
    cost: Nano,
}

/// One version of the plant sheet.
#[derive(Debug, Serialize, ToSchema)]
struct SheetTaken {
    /// From 1.
    version: u64,
    /// When the server took it, in milliseconds since the epoch.
    at_ms: i64,
    /// Whether it is the example.
    example: bool,
}

/// The plant sheet in force, with all its versions, and the objectives of requests. They are changed in the configuration
/// (`plant.sheet_file`, `slo`), and a server takes them when it starts.
#[utoipa::path(
    get,
    path = "/admin/v1/settings",
    operation_id = "getSettings",
    tag = "administration",
    responses(
        (status = 200, body = PlantSettings, description = "The sheet and the objectives"),
        (status = 403, body = protocol::ErrorBody, description = "The key has not the scope `plant`")
    )
)]
pub(crate) async fn settings(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<PlantSettings>, ApiError> {
    let admin = Admin::of_plant(&app, &caller)?;
    let currency = admin.books.currency().code.clone();
    let read = |admin: &Admin| admin.books.plant_sheets().map_err(|error| unreadable(&error));
    let sheets = admin.run(read).await?;
    let taken =
        |one: &SheetVersion| SheetTaken { version: one.version, at_ms: one.at_ms, example: one.sheet.is_example() };
    let versions = sheets.iter().rev().map(taken).collect();
    let plant = sheets.into_iter().next_back().map(in_force).transpose()?;
    let objectives = stated(&app.meter.objectives());
    Ok(Json(PlantSettings { object: "settings", currency, plant, versions, objectives }))
}

fn in_force(one: SheetVersion) -> Result<SheetInForce, ApiError> {
    let plant = Plant::new(one.sheet.clone()).map_err(|error| invalid(&error))?;
    let rates = plant.rates(unix_ms()).map_err(|error| invalid(&error))?;
    Ok(SheetInForce {
        version: one.version,
        example: one.sheet.is_example(),
        sheet: one.sheet,
        standing_per_hour: rates.standing_per_hour().map(|(source, cost)| HourlyCost { source, cost }).collect(),
        per_kwh: rates.per_kwh,
    })
}
