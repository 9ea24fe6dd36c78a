//! The plant's sheet, where its joules come from, and the keeper of its costs.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use economics::books::Books;
use economics::books::costs::Accountant;
use economics::plant::{Plant, PlantSheet};
use engine::DutyLimit;
use metering::energy::{PowerCap, PowerRange, Sampler};
use service::{Cap, Costing, CostingConfig};

use crate::books::now_ms;
use crate::commands::Context;
use crate::error::{Error, Result, chain};

/// Longest file of a sheet.
const MAX_SHEET_BYTES: u64 = 256 << 10;

/// The plant's sheet: the configured one, or the example.
///
/// # Errors
/// The file cannot be read, or the sheet has a field that cannot be.
pub fn sheet(context: &Context) -> Result<PlantSheet> {
    let Some(file) = &context.settings.plant.sheet_file else {
        return Ok(PlantSheet::example(&context.settings.books.currency));
    };
    let sheet = read_sheet(file)?;
    if sheet.from > now_ms() {
        return Err(unusable(file)
            .because("plant.from lies in the future")
            .hint("keep the sheet that is in force until then; a server takes its sheet when it starts"));
    }
    Ok(sheet)
}

/// The sheet in a file, whose fields stand at its top or in a table `[plant]`.
///
/// # Errors
/// The file cannot be read, or the sheet has a field that cannot be.
pub fn read_sheet(file: &Path) -> Result<PlantSheet> {
    let text = read(file).map_err(|e| {
        Error::usage(format!("cannot read {}", file.display()))
            .because(e)
            .hint("name a file of the form that `tokenworks plant example` shows")
    })?;
    let mut table: toml::Table = toml::from_str(&text).map_err(|e| unusable(file).because(e))?;
    let fields = table.remove("plant").unwrap_or(toml::Value::Table(table));
    let value = serde_json::to_value(fields).map_err(|e| unusable(file).because(e))?;
    PlantSheet::read(value)
        .map_err(|e| unusable(file).because(e).hint("`tokenworks plant example` shows a whole sheet"))
}

fn unusable(file: &Path) -> Error {
    Error::usage(format!("the plant sheet {} cannot be used", file.display()))
}

fn read(file: &Path) -> std::io::Result<String> {
    let length = std::fs::metadata(file)?.len();
    if length > MAX_SHEET_BYTES {
        return Err(std::io::Error::other(format!("{length} bytes are too many for a sheet")));
    }
    std::fs::read_to_string(file)
}

/// Starts to keep costs by the plant's sheet, which becomes its next version in the books when it is another than before.
/// Gives also the limit that holds the plant's power below its cap, for all engines.
///
/// # Errors
/// The sheet cannot be used, or the books do not take it.
pub fn cost(context: &Context, books: &Arc<Books>) -> Result<(Costing, DutyLimit)> {
    let sheet = sheet(context)?;
    let untaken = |cause: String| Error::failure("the books do not take the plant's costs").because(cause);
    let wrong = |cause: String| Error::usage("the plant sheet cannot be used").because(cause);
    let version = books.take_plant_sheet(&sheet, now_ms()).map_err(|e| untaken(chain(&e)))?;
    let (started, duty) = (Instant::now(), DutyLimit::default());
    let [idle_mw, full_mw] = [sheet.idle_watts, sheet.full_watts].map(|watts| u64::try_from(watts.0).unwrap_or(0));
    let power = PowerRange::new(idle_mw, full_mw).map_err(|e| wrong(e.to_string()))?;
    let cap = sheet.power_cap_watts.map(|watts| PowerCap::new(u64::try_from(watts.0).unwrap_or(0), power));
    let cap = cap.transpose().map_err(|e| wrong(e.to_string()))?.map(|cap| {
        duty.set(cap.permille());
        let duty = duty.clone();
        Cap { cap, tell: Box::new(move |permille| duty.set(permille)) }
    });
    let plant = Plant::new(sheet).map_err(|e| wrong(e.to_string()))?;
    let accountant = Accountant::open(books, (plant, version), now_ms()).map_err(|e| untaken(chain(&e)))?;
    let sampler = Sampler::powercap(&context.settings.plant.powercap_root, power, 0);
    let config = CostingConfig { accountant, sampler, started, cap };
    let costing = Costing::start(Arc::clone(books), config)
        .map_err(|e| Error::failure("cannot start the thread of costs").because(e))?;
    Ok((costing, duty))
}
