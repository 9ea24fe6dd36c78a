//! What one request used, measured where it happened.

use std::collections::BTreeMap;

use crate::{MachineTime, Timeline};

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
    /// How many gaps are how long, in nanoseconds rounded up to two significant digits.
    pub gap_lengths: BTreeMap<u64, u64>,
    /// Sum over time of the KV blocks held (a block shared by n sequences counts 1/n for each).
    pub kv_block_ns: u64,
    /// How often the request was preempted.
    pub preemptions: u32,
    /// Its share of the steps that worked for it.
    pub machine: MachineTime,
    /// When its prompt was read and its tokens were made.
    pub timeline: Timeline,
}

impl Usage {
    /// Counts one gap between successive tokens of a candidate.
    pub fn note_gap(&mut self, gap_ns: u64) {
        self.gap_count += 1;
        self.gap_sum_ns += gap_ns;
        self.gap_max_ns = self.gap_max_ns.max(gap_ns);
        // Of two digits there are only so many, however long the answer.
        let unit = 10_u64.pow(gap_ns.checked_ilog10().unwrap_or(0).saturating_sub(1));
        *self.gap_lengths.entry(gap_ns.div_ceil(unit).saturating_mul(unit)).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_by_two_digits_of_their_length() {
        let mut usage = Usage::default();
        [0, 9, 99, 100, 101, 110, 20_000_001, 20_999_999, u64::MAX / 2].into_iter().for_each(|gap| usage.note_gap(gap));
        let counts = [(0, 1), (9, 1), (99, 1), (100, 1), (110, 2), (21_000_000, 2), (9_300_000_000_000_000_000, 1)];
        assert_eq!(usage.gap_lengths.into_iter().collect::<Vec<_>>(), counts);
        assert_eq!((usage.gap_count, usage.gap_max_ns), (9, u64::MAX / 2));
        assert_eq!(usage.gap_sum_ns, u64::MAX / 2 + 41_000_419);
    }
}
