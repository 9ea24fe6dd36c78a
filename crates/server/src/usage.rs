//! From usage records to the usage of a reply.

use economics::books::unit;
use economics::{Charge, Currency, Nano};
use metering::UsageRecord;
use protocol::{Charged, CompletionTokensDetails, Measured, PromptTokensDetails, Usage};

use crate::routes::figures::seconds;

/// Adds one generation's record to the usage of its request.
pub(crate) fn add(total: &mut Usage, record: &UsageRecord) {
    total.prompt_tokens += record.prompt_tokens();
    total.completion_tokens += record.completion_tokens();
    total.total_tokens += record.total_tokens();
    total.prompt_tokens_details.get_or_insert_default().cached_tokens += record.input_cached_tokens;
    let details: &mut CompletionTokensDetails = total.completion_tokens_details.get_or_insert_default();
    details.accepted_prediction_tokens += record.draft_accepted_tokens;
    details.rejected_prediction_tokens += record.draft_rejected_tokens;
    if let Some(reasoning) = record.reasoning_tokens {
        *details.reasoning_tokens.get_or_insert_default() += reasoning;
    }
    let measured: &mut Measured = total.measured.get_or_insert_default();
    measured.queue_seconds = measured.queue_seconds.max(seconds(record.queue_ns));
    measured.prefill_seconds += seconds(record.prefill_ns);
    measured.decode_seconds += seconds(record.decode_ns);
    if let Some(ttft) = record.ttft_ns {
        measured.ttft_seconds = Some(measured.ttft_seconds.unwrap_or(0.0).max(seconds(ttft)));
    }
    measured.e2e_seconds = measured.e2e_seconds.max(seconds(record.e2e_ns));
    measured.inter_token_count += record.gap_count;
    measured.inter_token_seconds_sum += seconds(record.gap_sum_ns);
    measured.inter_token_seconds_max = measured.inter_token_seconds_max.max(seconds(record.gap_max_ns));
    measured.kv_block_seconds += seconds(record.kv_block_ns);
    measured.dropped_tokens += record.output_dropped_tokens;
}

/// What the generations of one request were charged, all together.
#[derive(Default)]
pub(crate) struct Charges {
    total: Nano,
    pool_units: i64,
    any: bool,
}

impl Charges {
    pub(crate) fn add(&mut self, charge: &Charge) {
        self.total = self.total.saturating_add(charge.total());
        self.pool_units = self.pool_units.saturating_add(charge.pool_units);
        self.any = true;
    }

    /// Exact, as decimal text.
    pub(crate) fn shown(&self, currency: &Currency) -> Option<Charged> {
        let (amount, currency) = (self.total.to_string(), currency.code.clone());
        self.any.then(|| Charged { amount, currency, pool_tokens: unit::text(unit::POOL, self.pool_units) })
    }
}

/// The usage of a request that nothing was recorded for yet.
pub(crate) fn none() -> Usage {
    Usage {
        prompt_tokens_details: Some(PromptTokensDetails::default()),
        completion_tokens_details: Some(CompletionTokensDetails::default()),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_generations_add_up() {
        let mut total = none();
        let record = UsageRecord {
            input_uncached_tokens: 3,
            input_cached_tokens: 32,
            output_tokens: 5,
            output_dropped_tokens: 1,
            draft_accepted_tokens: 4,
            draft_rejected_tokens: 6,
            queue_ns: 1_000_000_000,
            prefill_ns: 2_000_000_000,
            ttft_ns: Some(3_000_000_000),
            ..UsageRecord::default()
        };
        add(&mut total, &record);
        add(&mut total, &UsageRecord { queue_ns: 500, reasoning_tokens: Some(2), ..record });
        assert_eq!((total.prompt_tokens, total.completion_tokens, total.total_tokens), (70, 12, 82));
        assert_eq!(total.prompt_tokens_details.unwrap().cached_tokens, 64);
        let details = total.completion_tokens_details.unwrap();
        assert_eq!(details.reasoning_tokens, Some(2));
        assert_eq!((details.accepted_prediction_tokens, details.rejected_prediction_tokens), (8, 12));
        let measured = total.measured.unwrap();
        assert_eq!((measured.queue_seconds, measured.prefill_seconds), (1.0, 4.0));
        assert_eq!((measured.ttft_seconds, measured.dropped_tokens), (Some(3.0), 2));
    }
}
