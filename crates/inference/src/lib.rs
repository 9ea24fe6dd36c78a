//! Shared words of the production line: plain data, the trait [`Engine`] and the hook [`Control`].
//!
//! Nothing here knows text, JSON, HTTP, async or money. A [`Request`] goes in with an [`EventSink`]; [`Event`]s come
//! out through that sink. The engine pushes and never waits: what it pushes for one request is bounded by the
//! request's `max_tokens` and `candidates`.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod allowance;
mod control;
mod engine;
mod event;
mod request;
mod timeline;
mod usage;
mod work;

pub use allowance::Allowance;
pub use control::{Bits, Control, Verdict};
pub use engine::{Counters, Engine, EngineLimits, Gauges, SubmitError};
pub use event::{
    Distribution, Event, EventSink, FinishReason, RequestFailure, TokenChance, TokenLogprob, TokenLogprobs,
};
pub use request::{Adapter, CancelToken, Request, RequestId, SamplingParams};
pub use timeline::{PrefillChunk, Timeline, TokenTime};
pub use usage::Usage;
pub use work::{ClassTime, MachineTime, Purpose, StepClass, StepTerm, StepWork, Work};

/// Index of a token in the model's vocabulary.
pub type TokenId = u32;
