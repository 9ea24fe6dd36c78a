//! What an organisation used and owes: usage by hour, standing, invoices, and OpenAI's usage and costs.
//!
//! Amounts are exact decimal numbers, as text; in OpenAI's costs as JSON numbers, which are exact too as they are written.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Answer of `GET /v1/usage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// Always `list`.
    pub object: String,
    /// Currency of the amounts, by ISO 4217.
    pub currency: String,
    /// The rows, in the order of time.
    pub data: Vec<UsageRow>,
}

/// What was used in one hour, by project, key, model and tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageRow {
    /// Start of the hour, in Unix milliseconds.
    pub from_ms: i64,
    /// The organisation's id.
    pub organisation: String,
    /// The team that the project belongs to now; empty: it has none.
    pub team: String,
    /// The project's id.
    pub project: String,
    /// The key's id; empty without keys.
    pub key: String,
    /// The model.
    pub model: String,
    /// The requests' `metadata.tag`; may be empty.
    pub tag: String,
    /// The sums.
    pub sums: UsageSums,
}

/// Sums over requests. What is to be paid: `list` - `discount` - `credited`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageSums {
    /// Charged requests.
    pub requests: i64,
    /// All tokens; none is counted twice.
    pub quantities: UsageQuantities,
    /// Those of them that the plan's pool paid.
    pub pooled_tokens: i64,
    /// What they took from the pool, in thousandths of a token of weight 1.
    pub pool_units: i64,
    /// The other tokens at list price.
    pub list: String,
    /// Taken off by the plan.
    pub discount: String,
    /// Given back by credit notes.
    pub credited: String,
}

/// Tokens by meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageQuantities {
    /// Prompt tokens computed.
    pub in_uncached: u64,
    /// Prompt tokens from the prefix cache.
    pub in_cached: u64,
    /// Answer tokens outside reasoning.
    pub out_visible: u64,
    /// Reasoning tokens.
    pub out_reasoning: u64,
}

/// Answer of `GET /v1/standing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Standing {
    /// The organisation's id.
    pub organisation: String,
    /// Currency of the amounts, by ISO 4217.
    pub currency: String,
    /// Payments and credit notes less charges.
    pub balance: String,
    /// What running requests hold of it.
    pub held: String,
    /// What further requests may hold: the balance, less `held`, down to the organisation's credit; `null` without bound.
    pub available: Option<String>,
    /// Tokens of weight 1 left in the plan's pool; `null` without a pool.
    pub pool_tokens_left: Option<String>,
    /// The window of the pool and the present invoice.
    pub period: BillingPeriod,
}

/// A window of accounting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BillingPeriod {
    /// Its first instant, RFC 3339 with the offset of the time zone.
    pub start: String,
    /// The first instant after it.
    pub end: String,
    /// The IANA name of the organisation's time zone.
    pub time_zone: String,
}

/// Whether an invoice can still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceState {
    /// The period is not over, or a request of it still runs.
    Open,
    /// Nothing will be added to it; later credit notes stand on later invoices.
    Final,
}

/// Answer of `GET /v1/invoices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceList {
    /// Always `list`.
    pub object: String,
    /// The invoices, newest first.
    pub data: Vec<InvoiceSummary>,
}

/// An invoice without its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceSummary {
    /// The first day of the period, e.g. `2026-11-01`.
    pub id: String,
    /// Always `invoice`.
    pub object: String,
    /// Unique within the plant.
    pub number: String,
    /// Whether it can still change.
    pub state: InvoiceState,
    /// When the requests were admitted and the credit notes given.
    pub period: BillingPeriod,
    /// Currency of the amounts, by ISO 4217.
    pub currency: String,
    /// What is to be paid, in whole minor units of the currency.
    pub total: String,
}

/// Answer of `GET /v1/invoices/{id}`. The amounts of the lines add up to the total exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invoice {
    /// The first day of the period, e.g. `2026-11-01`.
    pub id: String,
    /// Always `invoice`.
    pub object: String,
    /// Unique within the plant.
    pub number: String,
    /// Whether it can still change.
    pub state: InvoiceState,
    /// When the requests were admitted and the credit notes given.
    pub period: BillingPeriod,
    /// Who is paid.
    pub seller: String,
    /// Who pays.
    pub customer: InvoiceCustomer,
    /// Currency of the amounts, by ISO 4217.
    pub currency: String,
    /// Charges by price and meter, then discount, credit notes, rounding.
    pub lines: Vec<InvoiceLine>,
    /// The sum of the `usage` lines: the charges at list price.
    pub subtotal: String,
    /// What is to be paid, in whole minor units of the currency.
    pub total: String,
}

/// Who pays an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvoiceCustomer {
    /// The organisation's id.
    pub id: String,
    /// Its name at the end of the period.
    pub name: String,
}

/// What tokens are counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceMeter {
    /// Prompt tokens computed.
    InUncached,
    /// Prompt tokens from the prefix cache.
    InCached,
    /// Answer tokens outside reasoning.
    OutVisible,
    /// Reasoning tokens.
    OutReasoning,
}

/// One line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InvoiceLine {
    /// Tokens at one rate. Each request's part of the amount is rounded to 9 decimals.
    Usage {
        /// The model.
        model: String,
        /// The price list.
        price_list: String,
        /// The version of the model's price in the list.
        price_version: u32,
        /// What was counted.
        meter: InvoiceMeter,
        /// The price's tier, from 1, in the order of prompt length, then volume.
        tier: u32,
        /// How many.
        tokens: u64,
        /// Their price, e.g. `0.5 per 1M`.
        rate: String,
        /// What they cost.
        amount: String,
    },
    /// Tokens that the plan's pool paid.
    Included {
        /// The model.
        model: String,
        /// The price list.
        price_list: String,
        /// The version of the model's price in the list.
        price_version: u32,
        /// What was counted.
        meter: InvoiceMeter,
        /// How many.
        tokens: u64,
        /// Zero.
        amount: String,
    },
    /// What the plan takes off.
    Discount {
        /// Negative.
        amount: String,
    },
    /// A credit note.
    Credit {
        /// The day on which it was given.
        date: String,
        /// The request it is for: the 32 hexadecimal digits of its answer's id.
        request: String,
        /// Why.
        reason: String,
        /// Negative.
        amount: String,
    },
    /// To whole minor units of the currency.
    Rounding {
        /// At most half a minor unit.
        amount: String,
    },
}

/// Answer of `GET /v1/organization/usage/completions` and `GET /v1/organization/costs`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T: ToSchema> {
    /// Always `page`.
    pub object: String,
    /// The buckets, in the order of time; those without use are there too.
    pub data: Vec<Bucket<T>>,
    /// Whether there are later ones.
    pub has_more: bool,
    /// The `page` to ask for then.
    pub next_page: Option<String>,
}

/// A span of time.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Bucket<T: ToSchema> {
    /// Always `bucket`.
    pub object: String,
    /// Its start, in Unix seconds.
    pub start_time: i64,
    /// Its end (exclusive), in Unix seconds.
    pub end_time: i64,
    /// One for each group; none where nothing was used.
    pub results: Vec<T>,
}

/// Tokens of one group in a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompletionsUsage {
    /// Always `organization.usage.completions.result`.
    pub object: String,
    /// Prompt tokens, cached ones included.
    pub input_tokens: u64,
    /// Prompt tokens from the prefix cache.
    pub input_cached_tokens: u64,
    /// Answer tokens, reasoning included.
    pub output_tokens: u64,
    /// Always 0.
    pub input_audio_tokens: u64,
    /// Always 0.
    pub output_audio_tokens: u64,
    /// Requests.
    pub num_model_requests: i64,
    /// The project, when grouped by it.
    pub project_id: Option<String>,
    /// Always `null`.
    pub user_id: Option<String>,
    /// The key, when grouped by it.
    pub api_key_id: Option<String>,
    /// The model, when grouped by it.
    pub model: Option<String>,
    /// Always `null`.
    pub batch: Option<bool>,
}

/// Costs of one group in a bucket.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Cost {
    /// Always `organization.costs.result`.
    pub object: String,
    /// Charges less credit notes.
    pub amount: CostAmount,
    /// The model, when grouped by it.
    pub line_item: Option<String>,
    /// The project, when grouped by it.
    pub project_id: Option<String>,
    /// The key, when grouped by it.
    pub api_key_id: Option<String>,
}

/// An amount as OpenAI writes it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CostAmount {
    /// All decimals are written; read it as a decimal number to have it exactly.
    #[schema(value_type = f64)]
    pub value: Box<RawValue>,
    /// Its currency, by ISO 4217, in lower case.
    pub currency: String,
}
