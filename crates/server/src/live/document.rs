//! The document that the plant is watched by.

use serde::Serialize;
use utoipa::ToSchema;

/// The plant at one moment, station by station. Rates are those of the last `rate_seconds`, percentiles and money those of
/// the last `window_seconds`, revenue of its part in which it is known what was sold. Where no history is kept both begin when
/// somebody begins to watch, and who asks now and then gets rates since the last time. `null`: not known, or nothing happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Snapshot {
    /// Names this snapshot; `/admin/v1/live/snapshot?id=` gives it again for a minute.
    pub(crate) id: String,
    /// When it was taken, in milliseconds since the epoch.
    pub(crate) time_ms: i64,
    /// What rates are taken over.
    pub(crate) rate_seconds: f64,
    /// What percentiles and money are taken over.
    pub(crate) window_seconds: f64,
    /// Requests come in and become tokens.
    pub(crate) tokenize: TokenizeStation,
    /// Prompts are read into the KV cache.
    pub(crate) context: ContextStation,
    /// The model computes.
    pub(crate) decode: DecodeStation,
    /// Tokens are chosen.
    pub(crate) sample: SampleStation,
    /// Answers leave.
    pub(crate) deliver: DeliverStation,
    /// Time to the first token.
    pub(crate) ttft: Percentiles,
    /// Gaps between tokens.
    pub(crate) itl: Percentiles,
    /// Whole requests.
    pub(crate) e2e: Percentiles,
    /// What requests are held to; `null`: no objectives are stated.
    pub(crate) objectives: Option<ObjectivesDocument>,
    /// Requests of the window that met them.
    pub(crate) goodput: Goodput,
    /// Energy and money.
    pub(crate) plant: PlantFigures,
    /// The models in memory.
    pub(crate) lines: Vec<LineSnapshot>,
}

/// Rates of the last five minutes, one a second, whether somebody watched or not.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RecentPlant {
    /// `recent`.
    pub(crate) object: &'static str,
    /// Rates in the order of time.
    pub(crate) data: Vec<RecentRates>,
}

/// Rates of the five seconds, or what there is of them, before a moment.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RecentRates {
    /// The moment, in milliseconds since the epoch.
    pub(crate) time_ms: i64,
    /// Tokens made.
    pub(crate) output_tokens_per_second: f64,
    /// Prompt tokens computed and taken from the prefix cache.
    pub(crate) input_tokens_per_second: f64,
    /// Power; `null`: not known.
    #[schema(required = true)]
    pub(crate) power_watts: Option<f64>,
    /// Share of the time in which the engines computed.
    pub(crate) utilisation: f64,
}

/// The first station.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TokenizeStation {
    /// HTTP requests for work under way.
    pub(crate) open_requests: u64,
    /// Most that may be.
    pub(crate) max_requests: u64,
    /// Requests that the engines took.
    pub(crate) requests_per_second: Option<f64>,
    /// Requests turned away.
    pub(crate) rejected_per_second: Option<f64>,
}

/// The second station.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ContextStation {
    /// Requests that wait for their turn.
    pub(crate) waiting: u64,
    /// Prompt tokens computed and taken from the prefix cache.
    pub(crate) input_tokens_per_second: Option<f64>,
    /// Of these, taken from the prefix cache.
    pub(crate) cached_tokens_per_second: Option<f64>,
    /// KV blocks that sequences hold.
    pub(crate) kv_blocks_used: u64,
    /// KV blocks kept to be shared by prompts that begin alike.
    pub(crate) kv_blocks_cached: u64,
    /// KV blocks in all.
    pub(crate) kv_blocks_total: u64,
}

/// The third station.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DecodeStation {
    /// Sequences in the running batches.
    pub(crate) running: u64,
    /// Steps of the engines.
    pub(crate) steps_per_second: Option<f64>,
    /// Columns that a step computes: one for each sequence that is answered, many for a prompt that is read.
    pub(crate) batch_columns: Option<f64>,
    /// Sequences set back to make room.
    pub(crate) preemptions_per_second: Option<f64>,
}

/// The fourth station.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SampleStation {
    /// Tokens made.
    pub(crate) output_tokens_per_second: Option<f64>,
    /// Of guessed tokens, the share that was right.
    pub(crate) guesses_right: Option<f64>,
}

/// The last station. Counts are those of the last `window_seconds`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DeliverStation {
    /// Answers that came to their end.
    pub(crate) finished_per_second: Option<f64>,
    /// Whole ones.
    pub(crate) ok: u64,
    /// Those whose readers left.
    pub(crate) cancelled: u64,
    /// Those that broke off.
    pub(crate) failed: u64,
}

/// How long things took: of requests that ended in the window. Percentiles are right to within 5 %.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Percentiles {
    /// How many were measured.
    pub(crate) count: u64,
    /// Half took no longer.
    pub(crate) p50_seconds: Option<f64>,
    /// 95 of 100 took no longer.
    pub(crate) p95_seconds: Option<f64>,
    /// 99 of 100 took no longer.
    pub(crate) p99_seconds: Option<f64>,
}

/// What every request shall keep to (`[slo]` of the configuration), as measured at the server. `null`: not asked.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ObjectivesDocument {
    /// Longest time to the first token.
    pub(crate) ttft_seconds: Option<f64>,
    /// Longest mean time per output token after the first.
    pub(crate) tpot_seconds: Option<f64>,
    /// Longest time to the end.
    pub(crate) e2e_seconds: Option<f64>,
}

/// Requests that met all stated objectives.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Goodput {
    /// Requests that ended under stated objectives.
    pub(crate) stated: u64,
    /// Of these, whole answers that met all of them.
    pub(crate) met: u64,
    /// `met` of `stated`.
    pub(crate) share: Option<f64>,
    /// `met` in a second.
    pub(crate) requests_per_second: Option<f64>,
}

/// Energy and money.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PlantFigures {
    /// Share of the time in which the plant computed.
    pub(crate) utilisation: Option<f64>,
    /// At the meter of the site.
    pub(crate) power_watts: Option<f64>,
    /// Currency of the amounts; `null` without books.
    pub(crate) currency: Option<String>,
    /// All cost, idle time included.
    pub(crate) cost_per_hour: Option<String>,
    /// What was charged.
    pub(crate) revenue_per_hour: Option<String>,
    /// What is left of it.
    pub(crate) margin_per_hour: Option<String>,
    /// All cost of the window for a million of its tokens, read and made.
    pub(crate) cost_per_million_tokens: Option<String>,
}

/// One model in memory.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct LineSnapshot {
    /// Its name.
    pub(crate) model: String,
    /// Whether it takes requests.
    pub(crate) ready: bool,
    /// Sequences in the running batch.
    pub(crate) running: u64,
    /// Requests that wait.
    pub(crate) waiting: u64,
    /// KV blocks that sequences hold.
    pub(crate) kv_blocks_used: u64,
    /// KV blocks kept to be shared.
    pub(crate) kv_blocks_cached: u64,
    /// KV blocks in all.
    pub(crate) kv_blocks_total: u64,
    /// Prompt tokens, computed and from the prefix cache.
    pub(crate) input_tokens_per_second: Option<f64>,
    /// Columns of answers, those of guessed tokens included.
    pub(crate) decode_columns_per_second: Option<f64>,
    /// Share of the time in its steps.
    pub(crate) utilisation: Option<f64>,
}
