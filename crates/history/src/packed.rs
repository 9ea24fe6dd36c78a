//! Histograms as bytes: the sum and the counts as LEB128 numbers, trailing zeros left out; an empty one has no bytes.

use metering::Histogram;
use sidefile::numbers::{put, take};

/// A histogram as bytes.
pub(crate) fn pack(histogram: &Histogram) -> Vec<u8> {
    let counts = histogram.counts();
    let used = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    let mut bytes = Vec::new();
    if used > 0 {
        put(&mut bytes, u64::try_from(histogram.sum_ns()).unwrap_or(u64::MAX));
        counts.iter().take(used).for_each(|count| put(&mut bytes, *count));
    }
    bytes
}

/// Adds what `bytes` hold to an empty histogram; `None`: they are damaged.
pub(crate) fn unpack(mut bytes: &[u8], mut into: Histogram) -> Option<Histogram> {
    if bytes.is_empty() {
        return Some(into);
    }
    let sum_ns = take(&mut bytes)?;
    let mut counts = Vec::new();
    while !bytes.is_empty() {
        counts.push(take(&mut bytes)?);
    }
    if counts.len() > into.counts().len() {
        return None;
    }
    into.merge(&counts, sum_ns.into());
    Some(into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_come_back_as_they_were() {
        let empty = Histogram::of_durations;
        assert_eq!(pack(&empty()), []);
        let mut histogram = empty();
        for ns in [0, 5_000_000, 5_000_001, 127, 128, 900_000_000_000] {
            histogram.observe(ns);
        }
        histogram.merge(&[0, u64::MAX / 2], 3);
        let again = unpack(&pack(&histogram), empty()).unwrap();
        assert_eq!((again.counts(), again.sum_ns()), (histogram.counts(), histogram.sum_ns()));
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let empty = Histogram::of_gaps;
        // Cut off, a number beyond 64 bits, more buckets than there are.
        for bytes in
            [&[0x80][..], &[1, 0xff], &[0xff; 11], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2], &[1; 14]]
        {
            assert!(unpack(bytes, empty()).is_none(), "{bytes:?}");
        }
        assert_eq!(unpack(&[1; 13], empty()).unwrap().count(), 12);
    }

    #[test]
    fn the_buckets_are_those_of_this_version_of_the_file() {
        // Counts mean nothing with other bounds: whoever changes them raises the version of the file.
        let [durations, gaps] = [Histogram::of_durations(), Histogram::of_gaps()].map(|one| {
            (0..one.counts().len())
                .map(|bucket| {
                    let mut counts = vec![0; bucket + 1];
                    counts[bucket] = 1;
                    let mut histogram =
                        if one.counts().len() == 12 { Histogram::of_gaps() } else { Histogram::of_durations() };
                    histogram.merge(&counts, 0);
                    histogram.quantile(1000).unwrap() / 1_000_000
                })
                .collect::<Vec<u64>>()
        });
        assert_eq!(gaps, [5, 10, 20, 30, 50, 75, 100, 200, 500, 1000, 5000, 5000]);
        let milliseconds = [1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1000, 2500, 5000, 7500];
        let seconds = [10, 20, 40, 80, 160, 640, 640].map(|s| s * 1000);
        assert_eq!(durations, [&milliseconds[..], &seconds].concat());
    }
}
