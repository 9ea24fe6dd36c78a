//! The disjoint token meters of one request.

use metering::UsageRecord;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Invalid;

/// What is counted; no token is in two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TokenMeter)]
pub enum Meter {
    /// Prompt tokens computed.
    InUncached,
    /// Prompt tokens from the prefix cache.
    InCached,
    /// Answer tokens outside reasoning.
    OutVisible,
    /// Reasoning tokens.
    OutReasoning,
}

impl Meter {
    /// In the order in which a request's tokens count: input first.
    pub const ALL: [Self; 4] = [Self::InUncached, Self::InCached, Self::OutVisible, Self::OutReasoning];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InUncached => "in_uncached",
            Self::InCached => "in_cached",
            Self::OutVisible => "out_visible",
            Self::OutReasoning => "out_reasoning",
        }
    }
}

/// Token counts of one request by meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[schema(as = TokenQuantities)]
pub struct Quantities {
    /// Prompt tokens computed.
    pub in_uncached: u64,
    /// Prompt tokens from the prefix cache.
    pub in_cached: u64,
    /// Answer tokens outside reasoning.
    pub out_visible: u64,
    /// Reasoning tokens.
    pub out_reasoning: u64,
}

impl Quantities {
    /// Most tokens of one request in all; more is a fault of the counting, not usage.
    pub const MAX_TOKENS: u64 = 1 << 40;

    /// Refuses sums beyond [`Quantities::MAX_TOKENS`].
    ///
    /// # Errors
    /// When the sum is larger.
    pub fn check(&self) -> Result<(), Invalid> {
        let sum = Meter::ALL.into_iter().try_fold(0_u64, |sum, meter| sum.checked_add(self.get(meter)));
        match sum {
            Some(sum) if sum <= Self::MAX_TOKENS => Ok(()),
            _ => Err(Invalid::new(
                "quantities",
                format!("{self:?} is more than {} tokens", Self::MAX_TOKENS),
                "check the source of the counts",
            )),
        }
    }

    /// The count of one meter.
    #[must_use]
    pub fn get(&self, meter: Meter) -> u64 {
        match meter {
            Meter::InUncached => self.in_uncached,
            Meter::InCached => self.in_cached,
            Meter::OutVisible => self.out_visible,
            Meter::OutReasoning => self.out_reasoning,
        }
    }

    /// The count of one meter, to be changed.
    pub fn get_mut(&mut self, meter: Meter) -> &mut u64 {
        match meter {
            Meter::InUncached => &mut self.in_uncached,
            Meter::InCached => &mut self.in_cached,
            Meter::OutVisible => &mut self.out_visible,
            Meter::OutReasoning => &mut self.out_reasoning,
        }
    }

    /// Adds `more` to it, meter by meter.
    pub fn add(&mut self, more: &Self) {
        for meter in Meter::ALL {
            let count = self.get_mut(meter);
            *count = count.saturating_add(more.get(meter));
        }
    }

    /// All prompt tokens.
    #[must_use]
    pub fn input(&self) -> u64 {
        self.in_uncached.saturating_add(self.in_cached)
    }

    /// All answer tokens.
    #[must_use]
    pub fn output(&self) -> u64 {
        self.out_visible.saturating_add(self.out_reasoning)
    }

    /// All tokens.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.input().saturating_add(self.output())
    }

    /// Meter by meter what is left after `part` is taken away.
    #[must_use]
    pub fn minus(&self, part: &Self) -> Self {
        let mut rest = *self;
        for meter in Meter::ALL {
            let count = rest.get_mut(meter);
            *count = count.saturating_sub(part.get(meter));
        }
        rest
    }
}

impl From<&UsageRecord> for Quantities {
    fn from(usage: &UsageRecord) -> Self {
        Self {
            in_uncached: usage.input_uncached_tokens,
            in_cached: usage.input_cached_tokens,
            out_visible: usage.output_tokens,
            out_reasoning: usage.reasoning_tokens.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_with_the_usage_record() {
        let usage = UsageRecord {
            input_uncached_tokens: 7,
            input_cached_tokens: 5,
            output_tokens: 3,
            reasoning_tokens: Some(2),
            ..UsageRecord::default()
        };
        let quantities = Quantities::from(&usage);
        assert_eq!(quantities.input(), usage.prompt_tokens());
        assert_eq!(quantities.output(), usage.completion_tokens());
        assert_eq!(quantities.total(), usage.total_tokens());
    }

    #[test]
    fn absurd_counts_are_refused() {
        let most = Quantities { in_uncached: Quantities::MAX_TOKENS, ..Quantities::default() };
        assert!(most.check().is_ok());
        assert!(Quantities { out_visible: 1, ..most }.check().is_err());
        assert!(Quantities { in_uncached: u64::MAX, in_cached: 1, ..Quantities::default() }.check().is_err());
    }
}
