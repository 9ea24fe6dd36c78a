//! What became of the work that tokens were used for: its value, or what people said of it.

use ledger::EntryId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::experiment::UNIT_BYTES;
use crate::money::divide_half_even;
use crate::window::DAY_MS;
use crate::{Invalid, Nano};

/// The kind of an outcome that says what people think of an answer. It is no unit of work.
pub const FEEDBACK: &str = "feedback";
/// Requests that one outcome may be attributed to.
pub const MAX_REQUESTS: usize = 64;
/// All of an outcome, or of an experiment's units, in thousandths.
pub const WHOLE_PERMILLE: u16 = 1_000;
/// Days after a request in which outcomes of a kind come, where nobody says otherwise.
pub const MATURITY_DAYS: u16 = 7;
/// Longest id of an outcome, and longest category, in bytes.
pub const ID_BYTES: usize = 120;
/// Longest kind of an outcome in bytes.
pub const KIND_BYTES: usize = 64;
/// Longest comment, and longest demonstration, in bytes.
pub const COMMENT_BYTES: usize = 4 * 1024;

const MAX_MATURITY_DAYS: u16 = 365;
const MAX_REVISION: u32 = 10_000;
/// How far the caller's clock may be ahead.
pub(crate) const CLOCK_SKEW_MS: i64 = 5 * 60_000;
/// Older outcomes are slips of the calendar.
const OLDEST_MS: i64 = 10 * 366 * DAY_MS;
const MINUTES_PER_HOUR: i128 = 60;
const MILLI: i128 = 1_000;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$each])* $variant),* }

        impl $name {
            /// All of them; their places are how they are kept.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The words for them, in the same order.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// The one that a word is for.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }

            pub(crate) fn code(self) -> u8 {
                Self::ALL.iter().zip(0..).find(|(known, _)| **known == self).map_or(0, |(_, code)| code)
            }

            pub(crate) fn from_code(code: u8) -> Option<Self> {
                Self::ALL.get(usize::from(code)).copied()
            }
        }
    };
}

words! {
    /// How a value is known.
    Valuation {
        /// Money that was earned or saved, as counted.
        Measured = "measured",
        /// As agreed with who pays for it.
        Contracted = "contracted",
        /// As somebody reckons.
        Estimated = "estimated",
        /// Something else that goes along with value; never added to the others.
        Proxy = "proxy",
    }
}

words! {
    /// Which requests of an episode an outcome is attributed to.
    Rule {
        /// All to the last one.
        Last = "last",
        /// All to the first one.
        First = "first",
        /// To all alike.
        Even = "even",
    }
}

/// Which requests brought an outcome about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// These, each with its permille of the outcome; together 1000.
    Requests(Vec<(EntryId, u16)>),
    /// Those of an episode that have ended, by a rule.
    Episode {
        /// The requests' `metadata.episode`.
        episode: String,
        /// Which of them.
        rule: Rule,
    },
    /// A unit of an experiment as a whole, whether it has requests or not.
    Unit {
        /// The experiment.
        experiment: String,
        /// The unit: a `user` or `metadata.episode`.
        unit: String,
    },
}

/// Time that somebody did not need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeSaved {
    /// Thousandths of minutes.
    pub milli_minutes: u64,
    /// What an hour costs.
    pub rate_per_hour: Nano,
}

impl TimeSaved {
    /// What it is worth, rounded half-even.
    #[must_use]
    pub fn value(self) -> Nano {
        let product = i128::from(self.milli_minutes).saturating_mul(i128::from(self.rate_per_hour.0));
        Nano::saturating(divide_half_even(product, MINUTES_PER_HOUR * MILLI))
    }
}

/// What people said; all of it may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// A number, as it was written.
    pub number: String,
    /// A word for what was right or wrong.
    pub category: String,
    /// In their own words.
    pub comment: String,
    /// What the answer should have been.
    pub demonstration: String,
}

/// What became of some requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The caller's, unique in the project: the same again changes nothing.
    pub id: String,
    /// From 1; a later one takes the place of the one before.
    pub revision: u32,
    /// What kind of work was done, e.g. `ticket_resolved`; or [`FEEDBACK`].
    pub kind: String,
    /// What it was worth, 0 or more.
    pub value: Nano,
    /// Where the value comes from time saved.
    pub saved: Option<TimeSaved>,
    /// How the value is known.
    pub valuation: Valuation,
    /// Whether the output was used.
    pub accepted: bool,
    /// When it occurred, in milliseconds since the epoch; when it was told if absent.
    pub occurred_ms: Option<i64>,
    /// Which requests brought it about.
    pub attribution: Attribution,
    /// Days after a request in which outcomes of this kind come.
    pub maturity_days: u16,
    /// What people said.
    pub remarks: Remarks,
}

impl Outcome {
    /// Whether it is a piece of work that was done, rather than what people said of one.
    #[must_use]
    pub fn is_unit(&self) -> bool {
        self.kind != FEEDBACK
    }

    /// What is wrong with it.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self, now_ms: i64) -> Result<(), Invalid> {
        word("id", &self.id, ID_BYTES)?;
        word("kind", &self.kind, KIND_BYTES)?;
        let Remarks { number, category, comment, demonstration } = &self.remarks;
        for (field, text, most) in [
            ("number", number, KIND_BYTES),
            ("category", category, ID_BYTES),
            ("comment", comment, COMMENT_BYTES),
            ("demonstration", demonstration, COMMENT_BYTES),
        ] {
            if text.len() > most {
                return Err(Invalid::new(field, format!("longer than {most} bytes"), "shorten it"));
            }
        }
        if !(1..=MAX_REVISION).contains(&self.revision) {
            return Err(Invalid::new("revision", "out of range", format!("count from 1 to {MAX_REVISION}")));
        }
        if self.value < Nano::ZERO {
            let fix = "give 0 or more; to correct an outcome send its next `revision` with the right value";
            return Err(Invalid::new("value", "below zero", fix));
        }
        if self.maturity_days > MAX_MATURITY_DAYS {
            let fix = format!("give 0 to {MAX_MATURITY_DAYS} days");
            return Err(Invalid::new("maturity_days", "too long", fix));
        }
        let occurred_ms = self.occurred_ms.unwrap_or(now_ms);
        if occurred_ms > now_ms.saturating_add(CLOCK_SKEW_MS) {
            let fix = "give Unix seconds of when it occurred; clocks may differ by 5 minutes";
            return Err(Invalid::new("occurred_at", "in the future", fix));
        }
        if occurred_ms < now_ms.saturating_sub(OLDEST_MS) {
            return Err(Invalid::new("occurred_at", "more than 10 years ago", "give Unix seconds of when it occurred"));
        }
        self.attribution.check()
    }
}

impl Attribution {
    fn check(&self) -> Result<(), Invalid> {
        let requests = match self {
            Self::Episode { episode, .. } => return word("episode", episode, ID_BYTES),
            Self::Unit { experiment, unit } => {
                return word("experiment", experiment, ID_BYTES).and_then(|()| word("unit", unit, UNIT_BYTES));
            }
            Self::Requests(requests) => requests,
        };
        if !(1..=MAX_REQUESTS).contains(&requests.len()) {
            let problem = format!("names {} requests", requests.len());
            return Err(Invalid::new("requests", problem, format!("name 1 to {MAX_REQUESTS}")));
        }
        for (place, (id, weight)) in requests.iter().enumerate() {
            if *weight == 0 {
                let fix = "give 1 to 1000, or leave the request out";
                return Err(Invalid::new(format!("requests[{place}].weight"), "is 0", fix));
            }
            if requests.iter().take(place).any(|(other, _)| other == id) {
                return Err(Invalid::new(format!("requests[{place}].id"), "is named twice", "name it once"));
            }
        }
        let sum: u64 = requests.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if sum != u64::from(WHOLE_PERMILLE) {
            let problem = format!("the weights add up to {sum}");
            return Err(Invalid::new("requests", problem, "give parts of 1000 that add up to 1000"));
        }
        Ok(())
    }
}

fn word(field: &str, text: &str, most: usize) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > most || text.chars().any(char::is_control) {
        let fix = format!("give 1 to {most} bytes without control characters");
        return Err(Invalid::new(field, "empty, too long or with control characters", fix));
    }
    Ok(())
}
