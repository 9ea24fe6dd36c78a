//! Histograms of durations with fixed buckets, exact in integer nanoseconds.

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
    pub fn merge(&mut self, counts: &[u64], sum_ns: u64) {
        let last = self.counts.len() - 1;
        for (i, &count) in counts.iter().enumerate() {
            if let Some(own) = self.counts.get_mut(i.min(last)) {
                *own += count;
            }
        }
        self.sum_ns += u128::from(sum_ns);
    }

    /// Number of durations counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum in nanoseconds.
    #[must_use]
    pub fn sum_ns(&self) -> u128 {
        self.sum_ns
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
    fn request_bounds_ascend() {
        assert!(DURATION_BOUNDS_NS.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(crate::GAP_BOUNDS_NS.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
