//! Requests as they went, as they are shown.

use metering::{FinishReason, UsageRecord};
use serde::Serialize;
use traces::{Content, Excerpt, Kept};
use utoipa::ToSchema;

use super::super::entries::LedgerEntry;
use crate::routes::outcomes::OutcomeEntry;

/// Requests, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RequestList {
    /// `list`.
    pub(crate) object: &'static str,
    /// Of this page.
    pub(crate) data: Vec<RequestSummary>,
    /// There are more that fit the filters.
    pub(crate) has_more: bool,
    /// `since` of what comes after this answer, within the organisation that was asked for or that the key belongs to; 0:
    /// nothing is kept yet.
    pub(crate) newest: u64,
    /// `before` of the next page; `null` on the last one.
    pub(crate) next_before: Option<u64>,
    /// Why requests that ended lately are missing: the file took none, or the thread that writes it has ended. `null`: it is
    /// written, but for what was dropped under load, which `tokenworks_traces_dropped_total` counts.
    pub(crate) trouble: Option<String>,
}

/// A request that has ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RequestSummary {
    /// Its place among all that were ever kept, in the order of their ends.
    pub(crate) number: u64,
    /// The id of its answer; of several prompts in one request that of each, with its number behind.
    pub(crate) id: String,
    /// When it was received, in milliseconds since the epoch.
    pub(crate) received_ms: i64,
    /// Who pays; empty without books.
    pub(crate) organisation: String,
    /// The project; empty without books.
    pub(crate) project: String,
    /// The key's id; empty without a key.
    pub(crate) key: String,
    /// The key's name.
    pub(crate) key_name: Option<String>,
    /// The request's `user` field.
    pub(crate) user: Option<String>,
    /// The model; of an adapter its full name.
    pub(crate) model: String,
    /// The model that the adapter changes.
    pub(crate) base: Option<String>,
    /// The route, e.g. `/v1/chat/completions`.
    pub(crate) route: String,
    /// Candidates asked for.
    pub(crate) candidates: u32,
    /// `ok`, `cancelled` or `failed`.
    pub(crate) outcome: &'static str,
    /// How each candidate ended: `stop`, `length`, `budget`, `cancelled` or `failed`.
    pub(crate) finish_reasons: Vec<&'static str>,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: u64,
    /// Of these, from the prefix cache.
    pub(crate) cached_tokens: u64,
    /// Tokens made and billed, all candidates together.
    pub(crate) completion_tokens: u64,
    /// From reception to the first step that worked on it.
    pub(crate) queue_ns: u64,
    /// From reception to the first token; `null`: none was made.
    pub(crate) ttft_ns: Option<u64>,
    /// From reception to the end.
    pub(crate) e2e_ns: u64,
    /// How often it was preempted.
    pub(crate) preemptions: u32,
    /// Whether its prompt and answers are kept.
    pub(crate) has_content: bool,
}

impl From<Kept> for RequestSummary {
    fn from(kept: Kept) -> Self {
        let Kept { number, received_ms, owner, candidates, record, error, has_content } = kept;
        let (prompt_tokens, completion_tokens) = (record.prompt_tokens(), record.completion_tokens());
        Self {
            number,
            received_ms,
            organisation: owner.organisation,
            project: owner.project,
            key: owner.key,
            candidates,
            outcome: record.outcome.as_str(),
            finish_reasons: record.finish_reasons.iter().copied().map(FinishReason::as_str).collect(),
            error,
            prompt_tokens,
            cached_tokens: record.input_cached_tokens,
            completion_tokens,
            queue_ns: record.queue_ns,
            ttft_ns: record.ttft_ns,
            e2e_ns: record.e2e_ns,
            preemptions: record.preemptions,
            has_content,
            id: record.request_id,
            key_name: record.key,
            user: record.user,
            model: record.model,
            base: record.base,
            route: record.route,
        }
    }
}

/// All that is known of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RequestTrace {
    /// `request`.
    pub(crate) object: &'static str,
    /// What the list shows.
    pub(crate) request: RequestSummary,
    /// What it used.
    pub(crate) usage: RequestUsage,
    /// Its life in the engine.
    pub(crate) timeline: RequestTimeline,
    /// What was charged for it; `null` without books, and until it is settled.
    pub(crate) charge: Option<RequestCharge>,
    /// Where its cost stands, for those who administer the plant.
    pub(crate) cost: Option<String>,
    /// Its entries of the ledger, oldest first, for those who administer the plant.
    pub(crate) entries: Option<Vec<LedgerEntry>>,
    /// The outcomes and the feedback that it has a part in, as `GET /v1/outcomes` shows them; without `comment` and
    /// `demonstration` where the key is of another project and does not administer this one.
    pub(crate) outcomes: Vec<OutcomeEntry>,
    /// Whether these are all; only the 2,000 outcomes of the project (or the plant) after it are looked through.
    pub(crate) outcomes_complete: bool,
    /// Its texts; `null`: they are not kept, or the caller may not read them.
    pub(crate) content: Option<RequestContent>,
    /// Whether the caller may read and delete the texts of this project.
    pub(crate) may_read_content: bool,
    /// For how many days its project keeps texts; `null`: it keeps none.
    pub(crate) content_days: Option<u32>,
}

/// What a request used, as the usage record has it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RequestUsage {
    /// Prompt tokens computed.
    pub(crate) input_uncached_tokens: u64,
    /// Prompt tokens from the prefix cache.
    pub(crate) input_cached_tokens: u64,
    /// Answer tokens made and billed outside reasoning.
    pub(crate) output_tokens: u64,
    /// Tokens made between the model's reasoning markers and billed; `null`: it declares none.
    pub(crate) reasoning_tokens: Option<u64>,
    /// Tokens made but cut off by a stop string: never billed.
    pub(crate) output_dropped_tokens: u64,
    /// Columns of prefill computed, those computed again included.
    pub(crate) prefill_columns: u64,
    /// Columns of decode computed, those of guessed tokens included.
    pub(crate) decode_columns: u64,
    /// Guessed tokens that were made.
    pub(crate) draft_accepted_tokens: u64,
    /// Guessed tokens that were not made.
    pub(crate) draft_rejected_tokens: u64,
    /// From reception to the first step that worked on it.
    pub(crate) queue_ns: u64,
    /// Steps that computed the prompt, until the first token.
    pub(crate) prefill_ns: u64,
    /// From the first token to the end.
    pub(crate) decode_ns: u64,
    /// From reception to the first token.
    pub(crate) ttft_ns: Option<u64>,
    /// From reception to the end.
    pub(crate) e2e_ns: u64,
    /// Gaps between successive tokens of one candidate.
    pub(crate) gap_count: u64,
    /// Their sum.
    pub(crate) gap_sum_ns: u64,
    /// The longest.
    pub(crate) gap_max_ns: u64,
    /// Sum over time of the KV blocks held.
    pub(crate) kv_block_ns: u64,
    /// How often it was preempted.
    pub(crate) preemptions: u32,
}

impl From<&UsageRecord> for RequestUsage {
    fn from(record: &UsageRecord) -> Self {
        Self {
            input_uncached_tokens: record.input_uncached_tokens,
            input_cached_tokens: record.input_cached_tokens,
            output_tokens: record.output_tokens,
            reasoning_tokens: record.reasoning_tokens,
            output_dropped_tokens: record.output_dropped_tokens,
            prefill_columns: record.prefill_columns,
            decode_columns: record.decode_columns,
            draft_accepted_tokens: record.draft_accepted_tokens,
            draft_rejected_tokens: record.draft_rejected_tokens,
            queue_ns: record.queue_ns,
            prefill_ns: record.prefill_ns,
            decode_ns: record.decode_ns,
            ttft_ns: record.ttft_ns,
            e2e_ns: record.e2e_ns,
            gap_count: record.gap_count,
            gap_sum_ns: record.gap_sum_ns,
            gap_max_ns: record.gap_max_ns,
            kv_block_ns: record.kv_block_ns,
            preemptions: record.preemptions,
        }
    }
}

/// A request's life in the engine. Times are nanoseconds since its reception; it waited until the first chunk of prefill.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RequestTimeline {
    /// Steps that computed positions of the prompt, or positions again after a preemption.
    pub(crate) prefill: Vec<PrefillSpan>,
    /// Such steps beyond the first 1024.
    pub(crate) more_prefill: u64,
    /// Tokens made, those that a stop string cut off included.
    pub(crate) tokens: Vec<TokenMark>,
    /// Tokens beyond the first 8192.
    pub(crate) more_tokens: u64,
    /// When a sequence of it was preempted; the first 256 times.
    pub(crate) preemptions_ns: Vec<u64>,
}

/// What a step did for the prompt.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PrefillSpan {
    /// When the step began.
    pub(crate) start_ns: u64,
    /// Until its forward pass was done; other requests' work in the same step included.
    pub(crate) length_ns: u64,
    /// Positions computed for this request.
    pub(crate) tokens: u64,
}

/// When a token was made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct TokenMark {
    /// When it came out of the sampler.
    pub(crate) at_ns: u64,
    /// Of which candidate it is.
    pub(crate) candidate: u32,
}

impl From<inference::Timeline> for RequestTimeline {
    fn from(timeline: inference::Timeline) -> Self {
        let inference::Timeline { prefill, more_prefill, tokens, more_tokens, preemptions_ns } = timeline;
        let span = |chunk: inference::PrefillChunk| {
            let inference::PrefillChunk { start_ns, length_ns, tokens } = chunk;
            PrefillSpan { start_ns, length_ns, tokens }
        };
        let mark = |token: inference::TokenTime| TokenMark { at_ns: token.at_ns, candidate: token.candidate };
        Self {
            prefill: prefill.into_iter().map(span).collect(),
            more_prefill,
            tokens: tokens.into_iter().map(mark).collect(),
            more_tokens,
            preemptions_ns,
        }
    }
}

/// What was charged for a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RequestCharge {
    /// In which amounts are.
    pub(crate) currency: String,
    /// By meter and tier of the price.
    pub(crate) lines: Vec<RequestChargeLine>,
    /// The sum of the lines.
    pub(crate) list: String,
    /// Taken off.
    pub(crate) discount: String,
    /// What is charged now, after what was given back.
    pub(crate) amount: String,
    /// Tokens taken from the plan's pool, by their weights.
    pub(crate) pool_tokens: String,
}

/// A line of a charge.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RequestChargeLine {
    /// What was counted.
    pub(crate) meter: &'static str,
    /// Which tier of the price, from 0.
    pub(crate) tier: u8,
    /// How many tokens.
    pub(crate) tokens: u64,
    /// The amount.
    pub(crate) amount: String,
}

/// The texts of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RequestContent {
    /// The prompt as the model read it, special tokens in their written form.
    pub(crate) prompt: RequestText,
    /// The answers as they were delivered, by candidate.
    pub(crate) answers: Vec<RequestText>,
}

/// A text, or its beginning.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct RequestText {
    /// At most 64 KiB of it.
    pub(crate) text: String,
    /// There was more.
    pub(crate) cut: bool,
}

impl From<Content> for RequestContent {
    fn from(content: Content) -> Self {
        let text = |Excerpt { text, cut }| RequestText { text, cut };
        Self { prompt: text(content.prompt), answers: content.answers.into_iter().map(text).collect() }
    }
}

/// What was deleted.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DeletedContent {
    /// Requests whose prompt and answers were deleted.
    pub(crate) deleted: u64,
}
