//! Roll-ups: counters and histograms per model over all finished requests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::histogram::Histogram;
use crate::render;
use crate::{FinishReason, Objectives, Outcome, UsageRecord};

/// Most models told apart; further ones are counted under [`OTHER_MODELS`].
const MAX_MODELS: usize = 128;
const OTHER_MODELS: &str = "(other)";

/// Why a request was turned away before any work was done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// The request itself was wrong.
    Invalid,
    /// Too many requests wait.
    QueueFull,
    /// The line drains or has stopped.
    Closed,
    /// A budget, pool or balance is spent.
    Unpaid,
    /// A rate limit is reached.
    RateLimited,
    /// The caller may not do it.
    Forbidden,
    /// Something broke.
    Internal,
}

impl Rejection {
    /// All of them, in the order they are shown.
    pub const ALL: [Self; 7] = [
        Self::Invalid,
        Self::QueueFull,
        Self::Closed,
        Self::Unpaid,
        Self::RateLimited,
        Self::Forbidden,
        Self::Internal,
    ];

    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::QueueFull => "queue_full",
            Self::Closed => "closed",
            Self::Unpaid => "unpaid",
            Self::RateLimited => "rate_limited",
            Self::Forbidden => "forbidden",
            Self::Internal => "internal",
        }
    }
}

/// The state of one line at the moment of rendering; never kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineGauges {
    /// The model's name.
    pub model: String,
    /// Whether new requests are taken.
    pub ready: bool,
    /// Sequences in the running batch.
    pub running: u64,
    /// Requests waiting.
    pub waiting: u64,
    /// KV blocks referenced by a sequence.
    pub kv_blocks_used: u64,
    /// KV blocks kept for the prefix cache only.
    pub kv_blocks_cached: u64,
    /// KV blocks in the pool.
    pub kv_blocks_total: u64,
    /// Steps run.
    pub steps: u64,
    /// Time spent inside steps.
    pub busy_ns: u64,
    /// The part of it that a draft model took.
    pub draft_ns: u64,
    /// Prompt columns computed.
    pub prefill_columns: u64,
    /// Decode columns computed, those of guessed tokens included.
    pub decode_columns: u64,
    /// Guessed tokens that were made.
    pub draft_accepted_tokens: u64,
    /// Guessed tokens that were not made.
    pub draft_rejected_tokens: u64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_queries_tokens: u64,
    /// Prompt tokens found there.
    pub prefix_hits_tokens: u64,
    /// Preemptions.
    pub preemptions: u64,
    /// Sum over time of KV blocks referenced.
    pub kv_block_ns: u64,
    /// Predicted and measured time of steps, by class of work.
    pub classes: Vec<ClassTime>,
}

/// Steps of one class: how long they were predicted to take, and how long they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassTime {
    /// The class's name.
    pub class: &'static str,
    /// Steps.
    pub steps: u64,
    /// Their predicted time.
    pub predicted_ns: u64,
    /// Their measured time.
    pub busy_ns: u64,
}

/// A family of metrics that is kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name, with its unit; counters end in `_total`.
    pub name: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Its samples.
    pub samples: Vec<Sample>,
}

/// A sample of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Labels, nothing that a client wrote.
    pub labels: Vec<(&'static str, String)>,
    /// Its value, in billionths; shown exactly.
    pub billionths: i128,
}

/// Sums over the finished requests of one model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) requests: [u64; Outcome::ALL.len()],
    pub(crate) finished: [u64; FinishReason::ALL.len()],
    pub(crate) stated: u64,
    pub(crate) met: u64,
    pub(crate) rejected: [u64; Rejection::ALL.len()],
    pub(crate) input_uncached_tokens: u64,
    pub(crate) input_cached_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) reasoning_tokens: u64,
    pub(crate) output_dropped_tokens: u64,
    pub(crate) kv_block_ns: u128,
    pub(crate) ttft: Histogram,
    pub(crate) gaps: Histogram,
    pub(crate) e2e: Histogram,
    pub(crate) queue: Histogram,
    pub(crate) prefill: Histogram,
    pub(crate) decode: Histogram,
}

impl Totals {
    /// `met`: whether it met its objectives, where some are stated.
    fn add(&mut self, record: &UsageRecord, met: Option<bool>) {
        self.requests[record.outcome as usize] += 1;
        self.stated += u64::from(met.is_some());
        self.met += u64::from(met == Some(true));
        for &reason in &record.finish_reasons {
            self.finished[reason as usize] += 1;
        }
        self.input_uncached_tokens += record.input_uncached_tokens;
        self.input_cached_tokens += record.input_cached_tokens;
        self.output_tokens += record.output_tokens;
        self.reasoning_tokens += record.reasoning_tokens.unwrap_or(0);
        self.output_dropped_tokens += record.output_dropped_tokens;
        self.kv_block_ns += u128::from(record.kv_block_ns);
        self.queue.observe(record.queue_ns);
        self.e2e.observe(record.e2e_ns);
        self.gaps.merge(record.gap_lengths.iter().map(|(ns, count)| (*ns, *count)), record.gap_sum_ns.into());
        // A request that ended before its prompt was touched, or before its first token, has no such time: a zero
        // would pull the distribution down.
        if record.prefill_ns > 0 {
            self.prefill.observe(record.prefill_ns);
        }
        if let Some(ttft_ns) = record.ttft_ns {
            self.ttft.observe(ttft_ns);
            self.decode.observe(record.decode_ns);
        }
    }
}

/// Sums over all models at one moment; they only grow.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// Finished requests, in the order of [`Outcome::ALL`].
    pub requests: [u64; Outcome::ALL.len()],
    /// Of these, the ones that ended under stated objectives.
    pub stated: u64,
    /// Of these, the ones that met all of them: the goodput.
    pub met: u64,
    /// Requests turned away.
    pub rejected: u64,
    /// Tokens that came out of the sampler, those of requests under way included.
    pub sampled_tokens: u64,
    /// Times to the first token.
    pub ttft: Histogram,
    /// Gaps between tokens.
    pub gaps: Histogram,
    /// Whole requests.
    pub e2e: Histogram,
}

impl Sums {
    fn new(sampled_tokens: u64) -> Self {
        Self { sampled_tokens, ..Self::default() }
    }

    fn add(&mut self, totals: &Totals) {
        for (own, count) in self.requests.iter_mut().zip(&totals.requests) {
            *own += count;
        }
        self.stated += totals.stated;
        self.met += totals.met;
        self.rejected += totals.rejected.iter().sum::<u64>();
        self.ttft.add(&totals.ttft);
        self.gaps.add(&totals.gaps);
        self.e2e.add(&totals.e2e);
    }
}

/// Counts finished requests, per model. Its size depends on the number of models alone: nothing a client writes
/// becomes a label.
#[derive(Debug, Default)]
pub struct Meter {
    totals: Mutex<BTreeMap<String, Totals>>,
    sampled_tokens: AtomicU64,
    objectives: Objectives,
}

impl Meter {
    /// A meter that has counted nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, which also counts the requests that met these.
    #[must_use]
    pub fn held_to(self, objectives: Objectives) -> Self {
        Self { objectives, ..self }
    }

    /// What requests are held to.
    #[must_use]
    pub fn objectives(&self) -> Objectives {
        self.objectives
    }

    /// Counts a finished request and writes it to the log (target `usage`). Call it once for each request.
    pub fn record(&self, record: &UsageRecord) {
        record.log();
        totals_of(&mut self.lock(), &record.model).add(record, self.objectives.met(record));
    }

    /// Counts a request that was turned away before any work was done for it. `model` is a name the plant serves, never
    /// one a client made up.
    pub fn reject(&self, model: &str, rejection: Rejection) {
        totals_of(&mut self.lock(), model).rejected[rejection as usize] += 1;
    }

    /// Counts a token that came out of a sampler.
    pub fn token_sampled(&self) {
        self.sampled_tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything counted so far, all models together.
    #[must_use]
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::new(self.sampled_tokens.load(Ordering::Relaxed));
        self.lock().values().for_each(|totals| sums.add(totals));
        sums
    }

    /// Everything as Prometheus text (format 0.0.4). `lines` are the lines' own values at this moment; models in them
    /// that finished no request yet show zeros.
    #[must_use]
    pub fn render(&self, lines: &[LineGauges]) -> String {
        // Copied out, so that requests don't wait for the writing.
        let totals = self.lock().clone();
        render::render(totals, lines)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Totals>> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is counted of a model. At most 128 are told apart, so that metrics stay few; further ones are counted together, as
/// `(other)`.
pub fn totals_of<'a, T: Default>(totals: &'a mut BTreeMap<String, T>, model: &str) -> &'a mut T {
    let known = totals.contains_key(model) || totals.len() < MAX_MODELS;
    totals.entry(if known { model } else { OTHER_MODELS }.to_owned()).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_models_is_bounded() {
        let meter = Meter::new();
        for i in 0..10 * MAX_MODELS {
            meter.record(&UsageRecord { model: format!("m{i}"), output_tokens: 1, ..UsageRecord::default() });
        }
        let totals = meter.lock();
        assert_eq!(totals.len(), MAX_MODELS + 1);
        assert_eq!(totals.values().map(|t| t.output_tokens).sum::<u64>(), 10 * MAX_MODELS as u64);
    }

    #[test]
    fn sums_are_those_of_all_models() {
        let meter = Meter::new().held_to(Objectives { ttft_ns: Some(7), ..Objectives::default() });
        for (model, outcome) in [("a", Outcome::Ok), ("b", Outcome::Failed), ("b", Outcome::Ok)] {
            let times = UsageRecord { ttft_ns: Some(7), e2e_ns: 9, ..UsageRecord::default() };
            meter.record(&UsageRecord { model: model.to_owned(), outcome, ..times });
        }
        meter.reject("a", Rejection::Unpaid);
        meter.token_sampled();
        let sums = meter.sums();
        assert_eq!(sums.requests.iter().sum::<u64>(), 3);
        assert_eq!((sums.rejected, sums.sampled_tokens), (1, 1));
        assert_eq!((sums.stated, sums.met), (3, 2), "one failed");
        let unstated = Meter::new();
        unstated.record(&UsageRecord { e2e_ns: 9, ..UsageRecord::default() });
        assert_eq!((unstated.sums().stated, unstated.sums().met), (0, 0));
        assert_eq!((sums.ttft.count(), sums.e2e.sum_ns()), (3, 27));
    }

    #[test]
    fn label_arrays_are_indexed_by_their_own_order() {
        assert!(Outcome::ALL.iter().enumerate().all(|(i, &value)| value as usize == i));
        assert!(FinishReason::ALL.iter().enumerate().all(|(i, &value)| value as usize == i));
        assert!(Rejection::ALL.iter().enumerate().all(|(i, &value)| value as usize == i));
    }
}
