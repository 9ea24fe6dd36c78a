//! The document that the TFP index is shown by. Pairs are of the earlier and the later period.

use analysis::index::QuantityIndex;
use economics::rollup::Sheets;
use serde::Serialize;
use utoipa::ToSchema;

/// How productivity and the plant's value changed between two periods.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TfpIndex {
    /// `tfp_index`.
    pub(super) object: &'static str,
    /// The earlier period.
    pub(super) earlier: IndexedPeriod,
    /// The later period.
    pub(super) later: IndexedPeriod,
    /// Productivity of the later period / of the earlier.
    pub(super) tfp: f64,
    /// What came out.
    pub(super) outputs: IndexSide,
    /// What went in.
    pub(super) inputs: IndexSide,
    /// By what tokens are weighed, for people.
    pub(super) token_weights: &'static str,
    /// Compute x quality x utilisation.
    pub(super) plant_value: PlantValueIndex,
    /// The plant sheets that costs rest on.
    pub(super) sheet: IndexSheets,
}

/// One of the two periods.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum IndexedPeriod {
    /// Exactly from one time to another.
    Exact {
        /// Its beginning, as RFC 3339 text.
        from: String,
        /// Its end, as RFC 3339 text.
        to: String,
    },
    /// Whole days (UTC).
    Days {
        /// The first one, e.g. `2026-11-16`.
        first_day: String,
        /// The last one.
        last_day: String,
    },
}

/// Outputs or inputs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IndexSide {
    /// What they are: `tokens`, `outcomes` or `plant`.
    pub(super) of: String,
    /// How their quantity changed.
    #[serde(flatten)]
    pub(super) index: QuantityIndex,
    /// What it stands on.
    pub(super) goods: Vec<IndexedGood>,
}

/// One output or input.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IndexedGood {
    /// Its name, with its unit where it has one.
    pub(super) name: String,
    /// How much.
    pub(super) quantity: [f64; 2],
    /// What it was worth or cost, in units of the book currency.
    pub(super) value: [f64; 2],
}

/// What the plant was worth. Factors are `null` where nothing was measured.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlantValueIndex {
    /// Tokens of the requests whose cost is known per second of their machine time.
    pub(super) compute_tokens_per_second: [Option<f64>; 2],
    /// Accepted outcomes / outcomes.
    pub(super) quality_accepted_share: [Option<f64>; 2],
    /// Busy time / all of it.
    pub(super) utilisation_busy_share: [Option<f64>; 2],
    /// How it changed; not where there is a `reason`.
    #[serde(flatten)]
    pub(super) change: Option<PlantValueRatios>,
    /// Why there is no index.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) reason: Option<String>,
}

/// Later / earlier.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlantValueRatios {
    /// Of the product of the factors.
    pub(super) index: f64,
    /// Of compute.
    pub(super) compute: f64,
    /// Of quality.
    pub(super) quality: f64,
    /// Of utilisation.
    pub(super) utilisation: f64,
}

/// The plant sheets of both periods.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IndexSheets {
    /// Of the earlier period.
    pub(super) earlier: Sheets,
    /// Of the later period.
    pub(super) later: Sheets,
}
