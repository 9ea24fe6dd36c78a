//! The documents that experiments are shown by.

use analysis::experiment::{Comparison, SampleRatio};
use analysis::ratio::Estimate;
use economics::Nano;
use economics::experiment::{Allocation, Experiment};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Experiments as they are written down.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExperimentList {
    /// `list`.
    pub(super) object: &'static str,
    /// The experiments.
    pub(super) data: Vec<Experiment>,
}

/// What the arms of an experiment have shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExperimentResults {
    /// `experiment`.
    pub(super) object: &'static str,
    /// The book currency.
    pub(super) currency: String,
    /// The version of the experiment that was read.
    pub(super) version: u64,
    /// As it is written down.
    pub(super) experiment: Experiment,
    /// The unit of the metric, for people.
    pub(super) metric_unit: &'static str,
    /// The arms, the control first.
    pub(super) arms: Vec<ExperimentArmResult>,
    /// The name of the control.
    pub(super) control: String,
    /// Units were assigned under several weights: each counts by the inverse of its chance.
    pub(super) weighted_by_chance: bool,
    /// Every other arm against the control.
    pub(super) comparisons: Vec<Comparison>,
    /// Whether units came to arms as the weights say.
    pub(super) sample_ratio: SampleRatio,
    /// How weights come about.
    pub(super) allocation: ExperimentAllocationResult,
    /// What answers were worth beyond what units without them reached; `null`: no arm is held out.
    #[schema(required = true)]
    pub(super) incremental: Option<ExperimentIncremental>,
    /// How many units are compared.
    pub(super) maturity: ExperimentMaturity,
}

/// What one arm has shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExperimentArmResult {
    /// Its name.
    pub(super) name: String,
    /// Permille of the units that come to it.
    pub(super) weight: u16,
    /// Its units get no answers of the plant.
    pub(super) held_out: bool,
    /// All its units.
    pub(super) units: i64,
    /// Units that are compared: whose days are over.
    pub(super) compared_units: i64,
    /// Charged requests.
    pub(super) requests: i64,
    /// Their tokens.
    pub(super) tokens: ExperimentTokens,
    /// Value without proxies, in units of the book currency.
    pub(super) value: Nano,
    /// Value of proxies.
    pub(super) proxy: Nano,
    /// Outcomes, feedback not counted.
    pub(super) outcomes: f64,
    /// Those of them that were accepted.
    pub(super) accepted_outcomes: f64,
    /// The metric over the units that are compared; `null`: there is nothing to divide by, or units that are held out have no
    /// such metric.
    #[schema(required = true)]
    pub(super) metric: Option<f64>,
}

/// Tokens of an arm.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExperimentTokens {
    /// Prompt tokens.
    pub(super) input: i64,
    /// Answer tokens.
    pub(super) output: i64,
    /// All of them.
    pub(super) total: i64,
}

/// How weights come about.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExperimentAllocationResult {
    /// `fixed` or `thompson`.
    pub(super) kind: Allocation,
    /// By Thompson's rule.
    #[serde(flatten)]
    pub(super) thompson: Option<ThompsonResult>,
}

/// What Thompson's rule says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ThompsonResult {
    /// Least weight of an arm.
    pub(super) floor_permille: u16,
    /// The weights for the next units; `null` while nothing can be said.
    #[schema(required = true)]
    pub(super) next: Option<Vec<NextArmWeight>>,
}

/// What Thompson's rule says of an arm.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NextArmWeight {
    /// The arm.
    pub(super) arm: String,
    /// Its chance to be the best.
    pub(super) best: f64,
    /// Its weight for the next units, in permille.
    pub(super) weight: u16,
}

/// What those with answers were worth beyond those held out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExperimentIncremental {
    /// Per million of their tokens, in units of the book currency; `null`: it cannot be estimated.
    #[schema(required = true)]
    pub(super) tfp: Option<Estimate>,
    /// Why it cannot be estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) reason: Option<String>,
    /// What it stands on.
    #[serde(flatten)]
    pub(super) means: Option<ExperimentMeans>,
}

/// Means over the units of both sides.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExperimentMeans {
    /// Mean value per treated unit.
    pub(super) treated_value: f64,
    /// Mean value per unit held out.
    pub(super) held_out_value: f64,
    /// Mean tokens per treated unit.
    pub(super) treated_tokens: f64,
    /// The estimate is per so many tokens.
    pub(super) per_tokens: u32,
}

/// How many units are compared.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExperimentMaturity {
    /// Days of a unit that count; 0: without an end.
    pub(super) window_days: u16,
    /// All units.
    pub(super) units: i64,
    /// Those whose days are over.
    pub(super) compared: i64,
    /// Those whose days are not over.
    pub(super) waiting: i64,
    /// What that means, for people.
    pub(super) remark: String,
}

/// The arm of a unit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExperimentAssignment {
    /// `assignment`.
    pub(super) object: &'static str,
    /// The experiment.
    pub(super) experiment: String,
    /// The unit.
    pub(super) unit: String,
    /// The name of its arm.
    pub(super) arm: String,
    /// It gets no answers of the plant.
    pub(super) held_out: bool,
    /// The chance with which it came to this arm; `null` where it is not counted.
    #[schema(required = true)]
    pub(super) propensity: Option<f64>,
    /// Whether what it uses and is worth counts.
    pub(super) counted: bool,
    /// Why it is not counted.
    #[schema(required = true)]
    pub(super) reason: Option<&'static str>,
    /// Until when it counts, as RFC 3339 text; `null`: without an end, or it is not counted.
    #[schema(required = true)]
    pub(super) until: Option<String>,
    /// The arm's model.
    #[schema(required = true)]
    pub(super) model: Option<String>,
    /// The arm's prompt.
    #[schema(required = true)]
    pub(super) prompt_version: Option<String>,
    /// Fields of requests that the arm sets.
    pub(super) settings: Map<String, Value>,
}
