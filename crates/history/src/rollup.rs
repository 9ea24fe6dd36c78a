//! What happened in a stretch of time, as sums that add up to longer stretches exactly.

use metering::{Histogram, Outcome};

/// What happened in a stretch of time: a minute, a part of one, or several together.
#[derive(Clone, Debug, Default)]
pub struct Rollup {
    /// When it began, in milliseconds since the epoch.
    pub start_ms: i64,
    /// How much time is in it, by a clock that nobody sets; time in which no server ran is not.
    pub length_ns: u64,
    /// Requests that ended, in the order of [`Outcome::ALL`].
    pub requests: [u64; Outcome::ALL.len()],
    /// Requests turned away.
    pub rejected: u64,
    /// Requests that ended under stated objectives.
    pub stated: u64,
    /// Of these, the ones that met all of them.
    pub met: u64,
    /// Prompt tokens, computed and taken from the prefix cache.
    pub input_tokens: u64,
    /// Of these, taken from the prefix cache.
    pub cached_tokens: u64,
    /// Tokens made.
    pub output_tokens: u64,
    /// Time in steps, all models together.
    pub busy_ns: u64,
    /// Sequences in the running batches, summed over time: sequences × microseconds.
    pub running_us: u64,
    /// Requests that wait, summed over time.
    pub waiting_us: u64,
    /// KV blocks that sequences hold, summed over time.
    pub kv_used_us: u64,
    /// KV blocks that there are, summed over time.
    pub kv_total_us: u64,
    /// Energy and cost; `None`: nobody measured.
    pub metered: Option<Metered>,
    /// What was charged, in nano-units of the currency; `None`: not known.
    pub charged_nano: Option<i64>,
    /// Times to the first token.
    pub ttft: Histogram,
    /// Gaps between tokens.
    pub gaps: Histogram,
    /// Whole requests.
    pub e2e: Histogram,
}

/// Energy and cost of a stretch, by the clock that they are measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// The time that they are of.
    pub length_ns: u64,
    /// Energy at the meter of the site, in microjoules.
    pub energy_uj: u64,
    /// All cost, in nano-units of the currency.
    pub cost_nano: i64,
}

impl Rollup {
    /// A stretch that begins, in which nothing has happened.
    #[must_use]
    pub fn new(start_ms: i64) -> Self {
        Self { start_ms, ..Self::default() }
    }

    /// Adds another stretch. What is not known of one is taken from the other.
    pub fn add(&mut self, other: &Self) {
        for (own, count) in self.requests.iter_mut().zip(other.requests) {
            *own = own.saturating_add(count);
        }
        for (own, count) in self.counters_mut().into_iter().zip(other.counters()) {
            *own = own.saturating_add(count);
        }
        self.metered = match (self.metered, other.metered) {
            (Some(own), Some(other)) => Some(own.plus(other)),
            (own, other) => own.or(other),
        };
        self.charged_nano = match (self.charged_nano, other.charged_nano) {
            (Some(own), Some(other)) => Some(own.saturating_add(other)),
            (own, other) => own.or(other),
        };
        self.ttft.add(&other.ttft);
        self.gaps.add(&other.gaps);
        self.e2e.add(&other.e2e);
    }

    /// What is counted by a single number, in the order of [`counters_mut`](Self::counters_mut).
    pub(crate) fn counters(&self) -> [u64; 12] {
        [
            self.length_ns,
            self.rejected,
            self.stated,
            self.met,
            self.input_tokens,
            self.cached_tokens,
            self.output_tokens,
            self.busy_ns,
            self.running_us,
            self.waiting_us,
            self.kv_used_us,
            self.kv_total_us,
        ]
    }

    /// The same, to be changed.
    pub(crate) fn counters_mut(&mut self) -> [&mut u64; 12] {
        [
            &mut self.length_ns,
            &mut self.rejected,
            &mut self.stated,
            &mut self.met,
            &mut self.input_tokens,
            &mut self.cached_tokens,
            &mut self.output_tokens,
            &mut self.busy_ns,
            &mut self.running_us,
            &mut self.waiting_us,
            &mut self.kv_used_us,
            &mut self.kv_total_us,
        ]
    }
}

impl Metered {
    fn plus(self, other: Self) -> Self {
        Self {
            length_ns: self.length_ns.saturating_add(other.length_ns),
            energy_uj: self.energy_uj.saturating_add(other.energy_uj),
            cost_nano: self.cost_nano.saturating_add(other.cost_nano),
        }
    }
}
