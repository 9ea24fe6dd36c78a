//! The document that the history is shown by.

use economics::Nano;
use history::Rollup;
use metering::Outcome;
use serde::Serialize;
use utoipa::ToSchema;

use crate::live::document::{Goodput, ObjectivesDocument, Percentiles};
use crate::live::sample::{MILLION, goodput, percentiles, scaled};
use crate::routes::figures::{seconds, share};

/// What the plant did from one time to another, in steps.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlantHistory {
    /// `history`.
    pub(super) object: &'static str,
    /// When the first step begins, in Unix seconds.
    pub(super) start_time: i64,
    /// When the last step ends.
    pub(super) end_time: i64,
    /// How long a step is, in seconds.
    pub(super) step: i64,
    /// When the earliest minute that is kept began; `null`: none is kept yet.
    pub(super) oldest_time: Option<i64>,
    /// Why the last minutes are missing; `null`: all is well.
    pub(super) trouble: Option<String>,
    /// Currency of the amounts; `null` without books.
    pub(super) currency: Option<String>,
    /// What requests are held to now; `null`: no objectives are stated.
    pub(super) objectives: Option<ObjectivesDocument>,
    /// All steps together.
    pub(super) total: HistoryPoint,
    /// The steps, the earliest first.
    pub(super) data: Vec<HistoryPoint>,
}

/// A step.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryPoint {
    /// When it begins, in Unix seconds.
    pub(super) time: i64,
    /// For how much of it a server ran.
    pub(super) seconds: f64,
    /// What was done then; `null`: no server ran, which is not the same as nothing to do.
    pub(super) figures: Option<HistoryFigures>,
}

/// What was done in a step. Rates, means and shares are those of the time in which a server ran. `null`: not known, or of
/// nothing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryFigures {
    /// Whole answers.
    pub(super) ok: u64,
    /// Answers whose readers left.
    pub(super) cancelled: u64,
    /// Answers that broke off.
    pub(super) failed: u64,
    /// Requests turned away.
    pub(super) rejected: u64,
    /// Prompt tokens, computed and taken from the prefix cache.
    pub(super) input_tokens: u64,
    /// Of these, taken from the prefix cache.
    pub(super) cached_tokens: u64,
    /// Tokens made.
    pub(super) output_tokens: u64,
    /// Answers that came to their end.
    pub(super) finished_per_second: Option<f64>,
    /// Prompt tokens.
    pub(super) input_tokens_per_second: Option<f64>,
    /// Tokens made.
    pub(super) output_tokens_per_second: Option<f64>,
    /// Sequences in the running batches, on average.
    pub(super) running: Option<f64>,
    /// Requests that wait for their turn, on average.
    pub(super) waiting: Option<f64>,
    /// KV blocks that sequences hold, on average.
    pub(super) kv_blocks_used: Option<f64>,
    /// KV blocks in all, on average.
    pub(super) kv_blocks_total: Option<f64>,
    /// Share of the time in which the plant computed.
    pub(super) utilisation: Option<f64>,
    /// Energy at the meter of the site.
    pub(super) energy_joules: Option<f64>,
    /// The same, over its time.
    pub(super) power_watts: Option<f64>,
    /// All cost, idle time included.
    pub(super) cost: Option<String>,
    /// What was charged.
    pub(super) revenue: Option<String>,
    /// What is left of it.
    pub(super) margin: Option<String>,
    /// All cost for a million tokens, read and made.
    pub(super) cost_per_million_tokens: Option<String>,
    /// Time to the first token.
    pub(super) ttft: Percentiles,
    /// Gaps between tokens.
    pub(super) itl: Percentiles,
    /// Whole requests.
    pub(super) e2e: Percentiles,
    /// Requests that met all objectives that were stated then.
    pub(super) goodput: Goodput,
}

/// The step that begins at `time`; `None`: no server ran.
pub(super) fn point(time: i64, rollup: Option<&Rollup>) -> HistoryPoint {
    HistoryPoint { time, seconds: rollup.map_or(0.0, |rollup| seconds(rollup.length_ns)), figures: rollup.map(figures) }
}

fn figures(rollup: &Rollup) -> HistoryFigures {
    let length_ns = rollup.length_ns as f64;
    let per_second = |count: u64| share(count as f64 * 1e9, length_ns);
    let mean = |over_time_us: u64| share(over_time_us as f64 * 1e3, length_ns);
    let of = |outcome: Outcome| rollup.requests.get(outcome as usize).copied().unwrap_or(0);
    let tokens = i128::from(rollup.input_tokens).saturating_add(i128::from(rollup.output_tokens));
    let cost = rollup.metered.map(|metered| Nano(metered.cost_nano));
    let revenue = rollup.charged_nano.map(Nano);
    let margin = revenue.zip(cost).map(|(revenue, cost)| revenue.saturating_sub(cost));
    let text = |amount: Option<Nano>| amount.map(|amount| amount.to_string());
    HistoryFigures {
        ok: of(Outcome::Ok),
        cancelled: of(Outcome::Cancelled),
        failed: of(Outcome::Failed),
        rejected: rollup.rejected,
        input_tokens: rollup.input_tokens,
        cached_tokens: rollup.cached_tokens,
        output_tokens: rollup.output_tokens,
        finished_per_second: per_second(rollup.requests.iter().sum()),
        input_tokens_per_second: per_second(rollup.input_tokens),
        output_tokens_per_second: per_second(rollup.output_tokens),
        running: mean(rollup.running_us),
        waiting: mean(rollup.waiting_us),
        kv_blocks_used: mean(rollup.kv_used_us),
        kv_blocks_total: mean(rollup.kv_total_us),
        utilisation: share(rollup.busy_ns as f64, length_ns).map(|share| share.min(1.0)),
        energy_joules: rollup.metered.map(|metered| metered.energy_uj as f64 / 1e6),
        // A microjoule in a nanosecond is a kilowatt.
        power_watts: rollup.metered.and_then(|metered| share(metered.energy_uj as f64 * 1e3, metered.length_ns as f64)),
        cost: text(cost),
        revenue: text(revenue),
        margin: text(margin),
        cost_per_million_tokens: text(cost.and_then(|cost| scaled(cost.0.into(), MILLION, tokens))),
        ttft: percentiles(&rollup.ttft),
        itl: percentiles(&rollup.gaps),
        e2e: percentiles(&rollup.e2e),
        goodput: goodput((rollup.stated, rollup.met), seconds(rollup.length_ns)),
    }
}
