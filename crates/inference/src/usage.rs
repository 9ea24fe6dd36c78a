//! What one request used, measured where it happened.

use crate::{MachineTime, Timeline};

/// Upper bounds, in nanoseconds, of the buckets of [`Usage::gap_buckets`]; one more bucket holds the rest.
pub const GAP_BOUNDS_NS: [u64; 11] = [
    5_000_000,
    10_000_000,
    20_000_000,
    30_000_000,
    50_000_000,
    75_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
];

/// Quantities of one request. All counters are exact; times are in nanoseconds of the engine's monotonic clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens computed for this request.
    pub input_uncached_tokens: u64,
    /// Prompt tokens whose KV came from the prefix cache. Uncached + cached = the prompt's length, once for all
    /// candidates, even when a preempted request computes some again.
    pub input_cached_tokens: u64,
    /// Tokens made and billed, all candidates together.
    pub output_tokens: u64,
    /// Tokens made but cut off by a stop string: never billed.
    pub output_dropped_tokens: u64,
    /// Columns of prefill computed for this request (recomputation after preemption included).
    pub prefill_columns: u64,
    /// Columns of decode computed for this request, those of guessed tokens included.
    pub decode_columns: u64,
    /// Guessed tokens that were made (a part of the output).
    pub draft_accepted_tokens: u64,
    /// Guessed tokens that were not made: columns computed in vain. They cost the plant, and are never billed.
    pub draft_rejected_tokens: u64,
    /// From `received` to the first step that worked on the request (or to its end, when none did).
    pub queue_ns: u64,
    /// Time of the steps that computed prompt columns of this request, until its first token.
    pub prefill_ns: u64,
    /// From the first token to the end.
    pub decode_ns: u64,
    /// From `received` to the first token; `None` when no token was made.
    pub ttft_ns: Option<u64>,
    /// From `received` to the end.
    pub e2e_ns: u64,
    /// Number of gaps between successive tokens of one candidate.
    pub gap_count: u64,
    /// Sum of those gaps.
    pub gap_sum_ns: u64,
    /// The longest of them.
    pub gap_max_ns: u64,
    /// Gaps by length: bucket `i` counts gaps <= `GAP_BOUNDS_NS[i]` (and above the bound before), the last one the rest.
    pub gap_buckets: [u64; GAP_BOUNDS_NS.len() + 1],
    /// Sum over time of the KV blocks held (a block shared by n sequences counts 1/n for each).
    pub kv_block_ns: u64,
    /// How often the request was preempted.
    pub preemptions: u32,
    /// Its share of the steps that worked for it.
    pub machine: MachineTime,
    /// When its prompt was read and its tokens were made.
    pub timeline: Timeline,
}
