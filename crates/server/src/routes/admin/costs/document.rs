//! The documents that costs and margins are shown by. Amounts are in units of the book currency.

use economics::books::cost_detail::{CostLine, Traffic};
use economics::rollup::Sheets;
use economics::{Nano, Quantities};
use serde::Serialize;
use utoipa::ToSchema;

/// What requests cost in whole days (UTC).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CostReport {
    /// Of which days it is.
    #[serde(flatten)]
    pub(super) head: CostReportHead,
    /// A row for each group of requests that ended in these days.
    pub(super) data: Vec<CostRow>,
}

/// What requests cost in whole days (UTC), and what is left of what was charged for them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MarginReport {
    /// Of which days it is.
    #[serde(flatten)]
    pub(super) head: CostReportHead,
    /// A row for each group.
    pub(super) data: Vec<MarginRow>,
}

/// Of which days a report is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CostReportHead {
    /// `costs` or `margins`.
    pub(super) object: &'static str,
    /// The book currency.
    pub(super) currency: String,
    /// When the first day begins, in Unix seconds.
    pub(super) start_time: i64,
    /// When the last day ends, in Unix seconds.
    pub(super) end_time: i64,
    /// By what rows are told apart.
    pub(super) group_by: Vec<&'static str>,
    /// The plant sheets that costs rest on. With `example` they are nobody's.
    pub(super) sheet: Sheets,
}

/// A group: what tells it from others, as far as was asked for, and what its requests cost.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CostRow {
    /// When the hour begins, as RFC 3339 text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) hour: Option<String>,
    /// The day (UTC), e.g. `2026-11-16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) day: Option<String>,
    /// The organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) organisation: Option<String>,
    /// The team that the project belongs to now; empty: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) team: Option<String>,
    /// The project.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) project: Option<String>,
    /// The key's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) key: Option<String>,
    /// The model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) model: Option<String>,
    /// The requests' tag; empty: they have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) tag: Option<String>,
    /// Requests whose cost is known: those that were charged after a crash, or before costs were kept, have none.
    pub(super) requests: i64,
    /// Their tokens.
    pub(super) tokens: Quantities,
    /// Machine time by purpose.
    pub(super) machine_ns: MachineTime,
    /// Energy at the device, in microjoules.
    pub(super) energy_uj: u64,
    /// Emissions in micrograms CO2e.
    pub(super) co2_ug: u64,
    /// What went over the network.
    pub(super) bytes: Traffic,
    /// What the plant would not have spent without them: energy above idle power, and traffic.
    pub(super) marginal: Nano,
    /// Their share, by busy time, of what the plant costs all the time.
    pub(super) standing: Nano,
    /// Fixed cost that is spread over tokens.
    pub(super) per_token: Nano,
    /// Cost of the traffic.
    pub(super) network: Nano,
    /// All of it together.
    pub(super) attributed: Nano,
    /// The part of it that served no one.
    pub(super) wasted: Nano,
    /// Attributed, and the share of the days' idle cost; `null` while one of the days (UTC) is open.
    #[schema(required = true)]
    pub(super) full: Option<Nano>,
}

/// The same with what was charged.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MarginRow {
    /// What it cost.
    #[serde(flatten)]
    pub(super) cost: CostRow,
    /// Requests charged in these days, those without a known cost included.
    pub(super) charged_requests: i64,
    /// Their tokens.
    pub(super) charged_tokens: Quantities,
    /// What was charged in these days, less discount and credits.
    pub(super) billed: Nano,
    /// `billed` less `attributed`.
    pub(super) margin: Nano,
}

/// Machine time by purpose, in nanoseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MachineTime {
    /// Prompts that were read.
    pub(super) prefill: u64,
    /// Answers that were made.
    pub(super) decode: u64,
    /// Guesses that were not made.
    pub(super) rejected: u64,
    /// What was computed again.
    pub(super) recomputed: u64,
}

/// What one request cost.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RequestCost {
    /// `cost`.
    pub(super) object: &'static str,
    /// The id of the answer.
    pub(super) id: String,
    /// The book currency.
    pub(super) currency: String,
    /// The organisation.
    pub(super) organisation: String,
    /// The project.
    pub(super) project: String,
    /// The key's id; empty without keys.
    pub(super) key: String,
    /// The model.
    pub(super) model: String,
    /// Its tag; may be empty.
    pub(super) tag: String,
    /// The plant sheets that it rests on. With `example` it is nobody's cost.
    pub(super) sheet: Sheets,
    /// All tokens.
    pub(super) tokens: Quantities,
    /// By purpose.
    pub(super) lines: Vec<RequestCostLine>,
    /// What went over the network.
    pub(super) bytes: Traffic,
    /// Cost of the traffic.
    pub(super) network: Nano,
    /// Fixed cost that is spread over tokens.
    pub(super) per_token: Nano,
    /// The sum of the lines, `per_token` and `network`.
    pub(super) attributed: Nano,
    /// The part of it that served no one.
    pub(super) wasted: Nano,
    /// Attributed, and its share of its day's idle cost; `null` while the day (UTC) is open.
    #[schema(required = true)]
    pub(super) full: Option<Nano>,
}

/// What a request took of the plant for one purpose.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RequestCostLine {
    /// `prefill`, `decode`, `rejected` or `recomputed`.
    pub(super) purpose: &'static str,
    /// Machine time, energy, emissions and cost.
    #[serde(flatten)]
    pub(super) line: CostLine,
    /// `marginal` and `standing` together.
    pub(super) attributed: Nano,
}
