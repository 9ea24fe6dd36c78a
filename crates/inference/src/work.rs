//! Machine time: what requests took of the plant's compute threads.

use crate::RequestId;

/// What machine time was spent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Prompt columns, computed for the first time.
    Prefill,
    /// Columns of tokens that were made.
    Decode,
    /// Columns of guessed tokens that were not made.
    Rejected,
    /// Columns computed again after a preemption.
    Recomputed,
}

impl Purpose {
    /// All of them, in the order of [`MachineTime`].
    pub const ALL: [Self; 4] = [Self::Prefill, Self::Decode, Self::Rejected, Self::Recomputed];
}

/// Nanoseconds of machine time by [`Purpose`]. A step's time is shared over the requests in it, so that the shares of all
/// requests add up to the time of all steps that worked for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineTime(pub [u64; Purpose::ALL.len()]);

impl MachineTime {
    /// The time for one purpose.
    #[must_use]
    pub fn get(&self, purpose: Purpose) -> u64 {
        self.0[purpose as usize]
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, ns| sum.saturating_add(*ns))
    }

    /// Adds `more` to it.
    pub fn add(&mut self, more: &Self) {
        for (ns, more) in self.0.iter_mut().zip(more.0) {
            *ns = ns.saturating_add(more);
        }
    }
}

/// One step, and who it worked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepWork {
    /// When it began, in nanoseconds of the engine's clock.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// The shares; they add up to its length.
    pub shares: Vec<(RequestId, MachineTime)>,
}

/// What an engine did since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// The engine's clock now, in nanoseconds.
    pub now_ns: u64,
    /// When the step that is under way began, if one is.
    pub step_since_ns: Option<u64>,
    /// The first step that ended; it may have begun before the engine was last asked.
    pub first: Option<StepWork>,
    /// The shares of all steps after it, together.
    pub others: Vec<(RequestId, MachineTime)>,
}

/// What kind of work a step did; its time is predicted and measured by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepClass {
    /// Prompt columns only.
    Prefill,
    /// Prompt columns that look back on 1024 positions or more on average.
    PrefillLong,
    /// One stream.
    DecodeAlone,
    /// 2 to 7 streams.
    DecodeFew,
    /// 8 streams or more.
    DecodeMany,
    /// Streams that look back on 1024 positions or more on average.
    DecodeLong,
    /// Streams with guessed tokens, and no prompt.
    Guessed,
    /// Prompt columns beside streams.
    Mixed,
}

impl StepClass {
    /// All of them, in the order in which they are declared.
    pub const ALL: [Self; 8] = [
        Self::Prefill,
        Self::PrefillLong,
        Self::DecodeAlone,
        Self::DecodeFew,
        Self::DecodeMany,
        Self::DecodeLong,
        Self::Guessed,
        Self::Mixed,
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::PrefillLong => "prefill_long",
            Self::DecodeAlone => "decode_alone",
            Self::DecodeFew => "decode_few",
            Self::DecodeMany => "decode_many",
            Self::DecodeLong => "decode_long",
            Self::Guessed => "guessed",
            Self::Mixed => "mixed",
        }
    }
}

/// Steps of one class: how long they were predicted to take before they ran, and how long they took. What a draft model took
/// is in neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassTime {
    /// Steps that were predicted.
    pub steps: u64,
    /// Their predicted time, in ns.
    pub predicted_ns: u64,
    /// Their measured time, in ns.
    pub busy_ns: u64,
}

impl ClassTime {
    /// Adds a step.
    pub fn add(&mut self, predicted_ns: u64, busy_ns: u64) {
        self.steps = self.steps.saturating_add(1);
        self.predicted_ns = self.predicted_ns.saturating_add(predicted_ns);
        self.busy_ns = self.busy_ns.saturating_add(busy_ns);
    }

    /// (predicted - measured) / measured time, in thousandths; `None` where no time was measured.
    #[must_use]
    pub fn error_permille(&self) -> Option<i64> {
        let difference = i128::from(self.predicted_ns) - i128::from(self.busy_ns);
        let error = (difference * 1000).checked_div(i128::from(self.busy_ns))?;
        Some(i64::try_from(error).unwrap_or(i64::MAX))
    }
}

/// A term of a step's predicted time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTerm {
    /// What it counts.
    pub counts: &'static str,
    /// The time of each, in ns.
    pub ns: f64,
}
