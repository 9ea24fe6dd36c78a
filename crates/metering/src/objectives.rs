//! Service level objectives, and whether a request met them.

use crate::record::{Outcome, UsageRecord};

/// What every request shall keep to, in nanoseconds, as measured at the server; what is not stated is not asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objectives {
    /// From reception to the first token.
    pub ttft_ns: Option<u64>,
    /// Mean time per output token after the first: the mean gap between successive tokens of a candidate.
    pub tpot_ns: Option<u64>,
    /// From reception to the end.
    pub e2e_ns: Option<u64>,
}

impl Objectives {
    /// Whether a request was completed and met all of them; `None`: none are stated. One without a token has none in time; one
    /// with a single token has no gaps.
    #[must_use]
    pub fn met(&self, record: &UsageRecord) -> Option<bool> {
        if *self == Self::default() {
            return None;
        }
        let within = |limit: Option<u64>, found: u64| limit.is_none_or(|limit| found <= limit);
        let tpot_ns = record.gap_sum_ns.checked_div(record.gap_count).unwrap_or(0);
        let ttft = self.ttft_ns.is_none_or(|limit| record.ttft_ns.is_some_and(|found| found <= limit));
        let met = ttft && within(self.tpot_ns, tpot_ns) && within(self.e2e_ns, record.e2e_ns);
        Some(met && record.outcome == Outcome::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> UsageRecord {
        let outcome = Outcome::Ok;
        UsageRecord {
            outcome,
            ttft_ns: Some(100),
            e2e_ns: 1_000,
            gap_count: 9,
            gap_sum_ns: 900,
            ..UsageRecord::default()
        }
    }

    #[test]
    fn all_that_are_stated_must_be_met() {
        let all = Objectives { ttft_ns: Some(100), tpot_ns: Some(100), e2e_ns: Some(1_000) };
        assert_eq!(Objectives::default().met(&record()), None);
        assert_eq!(all.met(&record()), Some(true));
        for missed in [
            UsageRecord { ttft_ns: Some(101), ..record() },
            UsageRecord { ttft_ns: None, ..record() },
            UsageRecord { gap_sum_ns: 909, ..record() },
            UsageRecord { e2e_ns: 1_001, ..record() },
            UsageRecord { outcome: Outcome::Cancelled, ..record() },
            UsageRecord { outcome: Outcome::Failed, ..record() },
        ] {
            assert_eq!(all.met(&missed), Some(false), "{missed:?}");
        }
        let first = Objectives { ttft_ns: Some(100), ..Objectives::default() };
        assert_eq!(first.met(&UsageRecord { gap_sum_ns: u64::MAX, e2e_ns: u64::MAX, ..record() }), Some(true));
        assert_eq!(all.met(&UsageRecord { gap_count: 0, gap_sum_ns: 0, ..record() }), Some(true), "one token");
    }
}
