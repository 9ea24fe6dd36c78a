//! Histograms of durations with fixed buckets, exact in integer nanoseconds.

use crate::GAP_BOUNDS_NS;

/// Upper bounds of whole-request durations (TTFT, queue, prefill, decode, end to end), in nanoseconds.
pub(crate) const DURATION_BOUNDS_NS: [u64; 21] = [
    1_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    40_000_000,
    60_000_000,
    80_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    750_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    7_500_000_000,
    10_000_000_000,
    20_000_000_000,
    40_000_000_000,
    80_000_000_000,
    160_000_000_000,
    640_000_000_000,
];

/// Counts of durations by length, with their exact sum.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// Ascending upper bounds, inclusive; one more bucket holds the rest.
    bounds_ns: &'static [u64],
    /// One count for each bound and one for the rest, not cumulated.
    counts: Vec<u64>,
    sum_ns: u128,
}

impl Histogram {
    /// An empty histogram of what whole requests take: time to the first token, end to end.
    #[must_use]
    pub fn of_durations() -> Self {
        Self::new(&DURATION_BOUNDS_NS)
    }

    /// An empty histogram of gaps between tokens.
    #[must_use]
    pub fn of_gaps() -> Self {
        Self::new(&GAP_BOUNDS_NS)
    }

    /// An empty histogram; `bounds_ns` ascends.
    #[must_use]
    pub fn new(bounds_ns: &'static [u64]) -> Self {
        Self { bounds_ns, counts: vec![0; bounds_ns.len() + 1], sum_ns: 0 }
    }

    /// Counts one duration.
    pub fn observe(&mut self, ns: u64) {
        let bucket = self.bounds_ns.partition_point(|&bound| bound < ns);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_ns += u128::from(ns);
    }

    /// Adds durations that were counted elsewhere by the same bounds. Buckets beyond this histogram's own are counted
    /// as "the rest".
    pub fn merge(&mut self, counts: &[u64], sum_ns: u128) {
        let last = self.counts.len() - 1;
        for (i, &count) in counts.iter().enumerate() {
            if let Some(own) = self.counts.get_mut(i.min(last)) {
                *own = own.saturating_add(count);
            }
        }
        self.sum_ns = self.sum_ns.saturating_add(sum_ns);
    }

    /// One count for each bucket, in the order of the bounds and the rest at the end; what [`merge`](Self::merge) takes.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Number of durations counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// Their sum in nanoseconds.
    #[must_use]
    pub fn sum_ns(&self) -> u128 {
        self.sum_ns
    }

    /// What was counted since `earlier`, a copy of this histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().enumerate();
        let counts = counts.map(|(i, now)| now.saturating_sub(earlier.counts.get(i).copied().unwrap_or(0)));
        let sum_ns = self.sum_ns.saturating_sub(earlier.sum_ns);
        Self { bounds_ns: self.bounds_ns, counts: counts.collect(), sum_ns }
    }

    /// Adds what another one by the same bounds has counted.
    pub fn add(&mut self, other: &Self) {
        self.merge(&other.counts, other.sum_ns);
    }

    /// The duration that `permille` thousandths of those counted do not exceed, in nanoseconds; linear within a bucket. Of
    /// durations beyond the last bound all that is known is that bound. `None`: nothing was counted.
    #[must_use]
    pub fn quantile(&self, permille: u16) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (u128::from(count) * u128::from(permille.min(1000))).div_ceil(1000).max(1);
        let (mut below, mut lower) = (0_u128, 0_u64);
        for (&upper, &inside) in self.bounds_ns.iter().zip(&self.counts) {
            let inside = u128::from(inside);
            if below + inside >= rank {
                let part = u128::from(upper - lower) * (rank - below) / inside;
                return Some(lower + u64::try_from(part).unwrap_or(u64::MAX));
            }
            (below, lower) = (below + inside, upper);
        }
        Some(lower)
    }

    /// The bounds with the number of durations at or below each.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let sums = self.counts.iter().scan(0_u64, |sum, &count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds_ns.iter().copied().zip(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [u64; 3] = [10, 20, 30];

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let mut histogram = Histogram::new(&BOUNDS);
        for ns in [0, 10, 11, 20, 30, 31, u64::MAX] {
            histogram.observe(ns);
        }
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(10, 2), (20, 4), (30, 5)]);
        assert_eq!(histogram.count(), 7);
        assert_eq!(histogram.sum_ns(), 10 + 11 + 20 + 30 + 31 + u128::from(u64::MAX));
    }

    #[test]
    fn merging_equals_observing() {
        let (mut merged, mut observed) = (Histogram::new(&BOUNDS), Histogram::new(&BOUNDS));
        for ns in [5, 15, 15, 99] {
            observed.observe(ns);
        }
        merged.merge(&[1, 2, 0, 1], 5 + 15 + 15 + 99);
        assert_eq!(merged.cumulative().collect::<Vec<_>>(), observed.cumulative().collect::<Vec<_>>());
        assert_eq!((merged.count(), merged.sum_ns()), (observed.count(), observed.sum_ns()));
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let mut histogram = Histogram::new(&BOUNDS);
        assert_eq!(histogram.quantile(500), None);
        for ns in [1, 11, 12, 13, 14, 29] {
            histogram.observe(ns);
        }
        assert_eq!([0, 100, 500, 833, 1000].map(|p| histogram.quantile(p)), [10, 10, 15, 20, 30].map(Some));
        histogram.observe(1_000);
        assert_eq!(histogram.quantile(999), Some(30), "beyond the last bound");
    }

    #[test]
    fn what_was_counted_since_is_the_difference() {
        let mut histogram = Histogram::new(&BOUNDS);
        histogram.observe(5);
        let earlier = histogram.clone();
        histogram.observe(15);
        let since = histogram.since(&earlier);
        assert_eq!((since.count(), since.sum_ns(), since.quantile(1000)), (1, 15, Some(20)));
        let mut sum = earlier;
        sum.add(&since);
        assert_eq!((sum.count(), sum.sum_ns()), (2, 20));
    }

    #[test]
    fn request_bounds_ascend() {
        assert!(DURATION_BOUNDS_NS.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(GAP_BOUNDS_NS.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
