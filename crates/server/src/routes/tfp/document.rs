//! The document that TFP is shown by.

use analysis::ratio::Method;
use economics::Nano;
use economics::rollup::Sheets;
use serde::Serialize;
use utoipa::ToSchema;

/// Value per million tokens of whole days (UTC), by group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TfpReport {
    /// `tfp`.
    pub(super) object: &'static str,
    /// The book currency.
    pub(super) currency: String,
    /// When the first day begins, in Unix seconds.
    pub(super) start_time: i64,
    /// When the last day ends, in Unix seconds.
    pub(super) end_time: i64,
    /// By what rows are told apart.
    pub(super) group_by: Vec<&'static str>,
    /// Which tokens count: `total`, `output`, `input`, `computed` or `standard`.
    pub(super) denominator: String,
    /// TFP is told per so many tokens.
    pub(super) per_tokens: u32,
    /// Outcomes whose requests are not in the books.
    pub(super) aside: i64,
    /// A row for each group.
    pub(super) data: Vec<TfpReportRow>,
    /// How tokens are weighed; with the denominator `standard` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) standard_tokens: Option<StandardTokens>,
    /// The plant sheets that costs rest on; for keys with the scope `plant` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) sheet: Option<Sheets>,
}

/// How tokens of each kind are weighed to be standard ones.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StandardTokens {
    /// The rule, for people.
    pub(super) rule: &'static str,
    /// The model whose output price counts as one; `null`: each model's own.
    #[schema(required = true)]
    pub(super) base: Option<String>,
    /// The weights that were used.
    pub(super) weights: Vec<StandardTokenWeights>,
    /// Models that have no price to be weighed by.
    pub(super) models_without_price: Vec<String>,
}

/// What a token of each kind counts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StandardTokenWeights {
    /// The price list.
    pub(super) list: String,
    /// The model.
    pub(super) model: String,
    /// A prompt token that was computed.
    pub(super) input: f64,
    /// A prompt token from the prefix cache.
    pub(super) cached_input: f64,
    /// An answer token.
    pub(super) output: f64,
    /// A reasoning token.
    pub(super) reasoning: f64,
}

/// A group: what tells it from others, as far as was asked for, and its figures. An empty name: none was given.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct TfpReportRow {
    /// How many end users it sums up; in the last row alone, which has no names then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) others: Option<u64>,
    /// The day (UTC), e.g. `2026-11-16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) day: Option<String>,
    /// The Monday of its week.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) week: Option<String>,
    /// The month, e.g. `2026-11`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) month: Option<String>,
    /// The organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) organisation: Option<String>,
    /// The team.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) team: Option<String>,
    /// The project.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) project: Option<String>,
    /// The `user` of the requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) end_user: Option<String>,
    /// The model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) model: Option<String>,
    /// The requests' `metadata.prompt_version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) prompt_version: Option<String>,
    /// Their `metadata.task`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) task: Option<String>,
    /// Their `metadata.tag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) tag: Option<String>,
    /// The figures.
    #[serde(flatten)]
    pub(super) figures: Productivity,
}

/// Requests, their tokens, and what these brought. Money in units of the book currency.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Productivity {
    /// Which tokens count.
    pub(super) denominator: String,
    /// Charged requests.
    pub(super) requests: i64,
    /// Their tokens.
    pub(super) tokens: ProductivityTokens,
    /// Value of their outcomes, proxies not counted.
    pub(super) value: ProductivityValue,
    /// Value per million tokens; `null`: there are no tokens.
    #[schema(required = true)]
    pub(super) tfp: Option<TfpEstimate>,
    /// Value of proxies, which is added to nothing.
    pub(super) proxy: Nano,
    /// The same per million tokens; `null` without proxies or tokens.
    #[schema(required = true)]
    pub(super) proxy_per_million: Option<TfpEstimate>,
    /// What was charged, less credit notes.
    pub(super) price: Nano,
    /// Value / price; `null` where nothing was charged.
    #[schema(required = true)]
    pub(super) value_per_price: Option<f64>,
    /// Outcomes, feedback not counted; one of several groups counts in parts.
    pub(super) outcomes: f64,
    /// Those of them that were accepted.
    pub(super) accepted_outcomes: f64,
    /// Tokens / accepted outcomes; `null` without any.
    #[schema(required = true)]
    pub(super) tokens_per_accepted_outcome: Option<f64>,
    /// Share of the requests that have an outcome or feedback.
    #[schema(required = true)]
    pub(super) coverage: Option<f64>,
    /// Share of the requests whose outcomes have had the time to come.
    #[schema(required = true)]
    pub(super) matured: Option<f64>,
    /// Share of the answer tokens whose output was accepted.
    #[schema(required = true)]
    pub(super) adoption_rate: Option<f64>,
    /// Outcomes by kind; not by end user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) kinds: Option<Vec<ProductivityKind>>,
    /// What they cost; for keys with the scope `plant` alone.
    #[serde(flatten)]
    pub(super) cost: Option<ProductivityCost>,
}

/// What the requests of a group cost the plant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductivityCost {
    /// Attributed cost, as far as it is known; for keys with the scope `plant` alone.
    pub(super) cost: Nano,
    /// Share of the requests whose cost is known; for keys with the scope `plant` alone.
    #[schema(required = true)]
    pub(super) costed: Option<f64>,
    /// Value / cost; for keys with the scope `plant` alone.
    #[schema(required = true)]
    pub(super) value_per_cost: Option<f64>,
}

/// Tokens of a group.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ProductivityTokens {
    /// Prompt tokens.
    pub(super) input: i64,
    /// Of these, from the prefix cache.
    pub(super) cached_input: i64,
    /// Answer tokens.
    pub(super) output: i64,
    /// Of these, reasoning.
    pub(super) reasoning: i64,
    /// All of them.
    pub(super) total: i64,
    /// All but those from the prefix cache.
    pub(super) computed: i64,
    /// Standard tokens, with this denominator alone; `null`: some have no price to be weighed by.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub(super) standard: Option<Option<f64>>,
}

/// Value by how it is known.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ProductivityValue {
    /// As counted.
    pub(super) measured: Nano,
    /// As agreed with who pays for it.
    pub(super) contracted: Nano,
    /// As somebody reckons.
    pub(super) estimated: Nano,
    /// Their sum.
    pub(super) total: Nano,
}

/// A ratio per million tokens, over groups of episodes and end users.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TfpEstimate {
    /// Which tokens count.
    pub(super) denominator: String,
    /// In units of the book currency; `null`: some tokens have no price to be weighed by.
    #[schema(required = true)]
    pub(super) per_million: Option<f64>,
    /// Why there is no interval, or no estimate.
    #[schema(required = true)]
    pub(super) reason: Option<&'static str>,
    /// How sure it is; not without an estimate.
    #[serde(flatten)]
    pub(super) certainty: Option<TfpCertainty>,
}

/// How sure an estimate is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TfpCertainty {
    /// Its standard error; `null` with fewer than 2 groups.
    #[schema(required = true)]
    pub(super) standard_error: Option<f64>,
    /// Lower end of its interval.
    #[schema(required = true)]
    pub(super) low: Option<f64>,
    /// Upper end of its interval.
    #[schema(required = true)]
    pub(super) high: Option<f64>,
    /// How often such an interval holds the truth, e.g. 0.95.
    #[schema(required = true)]
    pub(super) level: Option<f64>,
    /// How the interval was found.
    #[schema(required = true)]
    pub(super) method: Option<Method>,
    /// Groups of clusters that it stands on.
    pub(super) groups: u64,
    /// How many groups alike would carry the value as unevenly; `null` without value.
    #[schema(required = true)]
    pub(super) effective_groups: Option<f64>,
}

/// Outcomes of a kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProductivityKind {
    /// The kind.
    pub(super) kind: String,
    /// How many.
    pub(super) outcomes: f64,
    /// Those of them that were accepted.
    pub(super) accepted: f64,
    /// Their value.
    pub(super) value: Nano,
    /// Tokens of the group / those that were accepted; `null` without any.
    #[schema(required = true)]
    pub(super) tokens_per_accepted: Option<f64>,
}
