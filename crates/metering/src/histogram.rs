//! Histograms of durations, exact in integer nanoseconds up to two significant digits.

use std::collections::BTreeMap;

/// Up to here every number is a bucket of its own; from there on 90 buckets stand for ten times as much.
const EXACT: u64 = 100;
/// 28 years. What is longer counts as this.
const LONGEST: u64 = 900_000_000_000_000_000;
/// Numbers of two significant digits between one power of ten and the next.
const PER_DECADE: u64 = 90;

/// Counts of durations by length, with their exact sum. A bucket holds what is rounded up to one number of two significant
/// digits (21 ms: above 20 ms, up to 21 ms), so that a quantile is known to within 5 % whatever the durations are, and as
/// only buckets that hold something are kept, few numbers tell them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// By the index of the bucket.
    counts: BTreeMap<u16, u64>,
    sum_ns: u128,
}

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one duration.
    pub fn observe(&mut self, ns: u64) {
        self.count_at(index_of(ns), 1);
        self.sum_ns = self.sum_ns.saturating_add(ns.into());
    }

    /// Adds durations that were counted elsewhere: how many are as long as each, rounded up to two significant digits, and
    /// their exact sum.
    pub fn merge(&mut self, counts: impl IntoIterator<Item = (u64, u64)>, sum_ns: u128) {
        for (ns, count) in counts {
            self.count_at(index_of(ns), count);
        }
        self.sum_ns = self.sum_ns.saturating_add(sum_ns);
    }

    /// What [`merge`](Self::merge) takes: the largest duration of each bucket that holds something, and its count, ascending.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.counts.iter().map(|(&index, &count)| (bound_of(index), count))
    }

    /// Number of durations counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.values().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// Their sum in nanoseconds.
    #[must_use]
    pub fn sum_ns(&self) -> u128 {
        self.sum_ns
    }

    /// What was counted since `earlier`, a copy of this histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |index| earlier.counts.get(index).copied().unwrap_or(0);
        let counts = self.counts.iter().map(|(index, now)| (*index, now.saturating_sub(before(index))));
        let counts = counts.filter(|(_, count)| *count > 0).collect();
        Self { counts, sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns) }
    }

    /// Adds what another one has counted.
    pub fn add(&mut self, other: &Self) {
        other.counts.iter().for_each(|(&index, &count)| self.count_at(index, count));
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// The duration that `permille` thousandths of those counted do not exceed, in nanoseconds, to within 5 %: those of one
    /// bucket are taken as spread evenly over it. `None`: nothing was counted.
    #[must_use]
    pub fn quantile(&self, permille: u16) -> Option<u64> {
        let rank = (u128::from(self.count()) * u128::from(permille.min(1000))).div_ceil(1000).max(1);
        let mut below = 0_u128;
        for (&index, &count) in &self.counts {
            let inside = u128::from(count);
            if below + inside >= rank {
                let upper = bound_of(index);
                let lower = if u64::from(index) <= EXACT { upper } else { bound_of(index - 1) };
                // In the middle of its own part of the bucket: one alone stands in the middle.
                let part = u128::from(upper - lower) * (2 * (rank - below) - 1) / (2 * inside);
                return Some(lower.saturating_add(u64::try_from(part).unwrap_or(u64::MAX)));
            }
            below += inside;
        }
        None
    }

    /// How many durations are at or below each of these bounds, which ascend. Exact for bounds of two significant digits.
    pub(crate) fn cumulative<'a>(&'a self, bounds_ns: &'a [u64]) -> impl Iterator<Item = (u64, u64)> + 'a {
        let mut counts = self.counts.iter().peekable();
        let mut sum = 0_u64;
        bounds_ns.iter().map(move |&bound_ns| {
            let last = index_of(bound_ns);
            while let Some((_, count)) = counts.next_if(|(index, _)| **index <= last) {
                sum = sum.saturating_add(*count);
            }
            (bound_ns, sum)
        })
    }

    fn count_at(&mut self, index: u16, count: u64) {
        if count > 0 {
            let own = self.counts.entry(index).or_default();
            *own = own.saturating_add(count);
        }
    }
}

/// The bucket of a duration: of the smallest number of two significant digits that is no less.
fn index_of(ns: u64) -> u16 {
    let ns = ns.min(LONGEST);
    if ns < EXACT {
        return u16::try_from(ns).unwrap_or(u16::MAX);
    }
    let zeros = ns.ilog10() - 1;
    let digits = ns.div_ceil(10_u64.pow(zeros));
    // 100 of one decade are 10 of the next, and have the same index.
    let index = EXACT + PER_DECADE * u64::from(zeros - 1) + (digits - 10);
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// The largest duration of a bucket.
fn bound_of(index: u16) -> u64 {
    let index = u64::from(index);
    let Some(above) = index.checked_sub(EXACT) else { return index };
    let power = u32::try_from(1 + above / PER_DECADE).map_or(u64::MAX, |zeros| 10_u64.saturating_pow(zeros));
    (10 + above % PER_DECADE).saturating_mul(power)
}

#[cfg(test)]
mod tests {
    use std::iter::successors;

    use super::*;

    fn of(durations: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::new();
        durations.into_iter().for_each(|ns| histogram.observe(ns));
        histogram
    }

    #[test]
    fn a_bucket_ends_in_a_number_of_two_digits() {
        for (ns, bound) in [(0, 0), (7, 7), (99, 99), (100, 100), (101, 110), (990, 990), (991, 1000), (1001, 1100)] {
            assert_eq!(bound_of(index_of(ns)), bound, "{ns}");
        }
        assert_eq!(bound_of(index_of(20_000_001)), 21_000_000);
        assert_eq!(bound_of(index_of(u64::MAX)), LONGEST);
        let bounds: Vec<u64> = (0..=index_of(u64::MAX)).map(bound_of).collect();
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "they ascend");
        assert!(bounds.iter().enumerate().all(|(i, bound)| usize::from(index_of(*bound)) == i), "they are their own");
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let histogram = of([0, 10, 11, 20, 30, 31, u64::MAX]);
        assert_eq!(histogram.cumulative(&[10, 20, 30]).collect::<Vec<_>>(), [(10, 2), (20, 4), (30, 5)]);
        assert_eq!(histogram.count(), 7);
        assert_eq!(histogram.sum_ns(), 10 + 11 + 20 + 30 + 31 + u128::from(u64::MAX));
    }

    #[test]
    fn merging_equals_observing() {
        let mut merged = of([5]);
        merged.merge([(1500, 2), (99_000, 1), (7, 0)], 1450 + 1500 + 98_765);
        let observed = of([5, 1450, 1500, 98_765]);
        assert_eq!(merged, observed);
        assert_eq!(observed.counts().collect::<Vec<_>>(), [(5, 1), (1500, 2), (99_000, 1)]);
    }

    #[test]
    fn quantiles_are_right_to_within_a_twentieth() {
        assert_eq!(Histogram::new().quantile(500), None);
        // One alone, several alike, and lengths from a microsecond to some minutes.
        let spread: Vec<u64> = successors(Some(1000), |ns| Some(ns + ns / 200 + 1)).take(4000).collect();
        for durations in [vec![104_000_000], vec![40_000_001; 9], vec![1, 2, 3], spread] {
            let histogram = of(durations.iter().copied());
            for permille in [0, 1, 500, 950, 990, 999, 1000] {
                let rank = (durations.len() * usize::from(permille)).div_ceil(1000).max(1);
                let (exact, found) = (durations[rank - 1] as f64, histogram.quantile(permille).unwrap() as f64);
                assert!((found - exact).abs() <= 0.05 * exact, "{permille}: {found} for {exact}");
            }
        }
    }

    #[test]
    fn what_was_counted_since_is_the_difference() {
        let earlier = of([5]);
        let mut histogram = earlier.clone();
        histogram.observe(15);
        let since = histogram.since(&earlier);
        assert_eq!(since, of([15]));
        let mut sum = earlier;
        sum.add(&since);
        assert_eq!(sum, histogram);
    }
}
