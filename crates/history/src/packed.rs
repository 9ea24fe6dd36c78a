//! Histograms as bytes, in LEB128 numbers: zero, the sum, then for each bucket how far its bound lies above the one before (the
//! zeros that this ends in are counted, not written) and its count. An empty one has no bytes. Version 1 of the file had buckets of its own and no zero in front.

use metering::Histogram;
use sidefile::numbers::{put, take};

/// Upper bounds of the buckets of version 1, in milliseconds, for times to the first token and to the end; one more held the rest.
pub(crate) const FORMER_DURATIONS_MS: [u64; 21] = [
    1, 5, 10, 20, 40, 60, 80, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000, 20_000, 40_000, 80_000, 160_000,
    640_000,
];
/// The same for gaps between tokens.
pub(crate) const FORMER_GAPS_MS: [u64; 11] = [5, 10, 20, 30, 50, 75, 100, 200, 500, 1000, 5000];
/// Numbers of zeros that are told apart, and the most that are left out.
const ZEROS: u64 = 20;
const MOST_ZEROS: u32 = 18;
/// In how many places the durations of one such bucket are taken to lie.
const PLACES: u64 = 32;

/// A histogram as bytes.
pub(crate) fn pack(histogram: &Histogram) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut before = 0;
    for (bound_ns, count) in histogram.counts() {
        if bytes.is_empty() {
            put(&mut bytes, 0);
            put(&mut bytes, u64::try_from(histogram.sum_ns()).unwrap_or(u64::MAX));
        }
        put(&mut bytes, without_zeros(bound_ns - before));
        put(&mut bytes, count);
        before = bound_ns;
    }
    bytes
}

/// The histogram that `bytes` hold; `None`: they are damaged. `former_bounds_ms`: what to read them by if they are of version 1.
pub(crate) fn unpack(mut bytes: &[u8], former_bounds_ms: &[u64]) -> Option<Histogram> {
    let mut histogram = Histogram::new();
    if bytes.is_empty() {
        return Some(histogram);
    }
    let sum_ns = match take(&mut bytes)? {
        0 => take(&mut bytes)?,
        sum_ns => {
            histogram.merge(former(bytes, former_bounds_ms)?, sum_ns.into());
            return Some(histogram);
        }
    };
    let mut bound_ns = 0_u64;
    let mut counts = Vec::new();
    while !bytes.is_empty() {
        bound_ns = bound_ns.checked_add(with_zeros(take(&mut bytes)?)?)?;
        counts.push((bound_ns, take(&mut bytes)?));
    }
    histogram.merge(counts, sum_ns.into());
    Some(histogram)
}

/// A number by its digits but the zeros at its end, and how many these are. Bounds have two digits: mostly one byte tells both.
fn without_zeros(number: u64) -> u64 {
    let zeros = (0..MOST_ZEROS).take_while(|zeros| number > 0 && number.is_multiple_of(10_u64.pow(zeros + 1))).count();
    let zeros = u32::try_from(zeros).unwrap_or(0);
    number / 10_u64.pow(zeros) * ZEROS + u64::from(zeros)
}

/// The number; `None`: it has more than 64 bits.
fn with_zeros(packed: u64) -> Option<u64> {
    let zeros = u32::try_from(packed % ZEROS).ok()?;
    (packed / ZEROS).checked_mul(10_u64.checked_pow(zeros)?)
}

/// Counts of version 1 as durations and how many there are of each: those of one bucket are spread evenly over it.
fn former(mut bytes: &[u8], bounds_ms: &[u64]) -> Option<Vec<(u64, u64)>> {
    let mut counts = Vec::new();
    let last = *bounds_ms.last()?;
    let mut uppers = bounds_ms.iter().copied().chain([last]);
    let mut lower = 0;
    while !bytes.is_empty() {
        let (upper, count) = (uppers.next()?, take(&mut bytes)?);
        let places = count.clamp(1, PLACES);
        counts.extend((0..places).map(|place| {
            let ns = lower * 1_000_000 + (upper - lower) * 1_000_000 * (2 * place + 1) / (2 * places);
            (ns, count / places + u64::from(place < count % places))
        }));
        lower = upper;
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_come_back_as_they_were() {
        assert_eq!(pack(&Histogram::new()), []);
        assert_eq!(unpack(&[], &FORMER_GAPS_MS), Some(Histogram::new()));
        let mut histogram = Histogram::new();
        for ns in [0, 5_000_000, 5_000_001, 127, 128, 900_000_000_000, u64::MAX] {
            histogram.observe(ns);
        }
        histogram.merge([(3000, u64::MAX / 2)], 3);
        // A sum has 64 bits in the file.
        histogram = histogram.since(&{
            let mut most = Histogram::new();
            most.observe(u64::MAX);
            most
        });
        assert_eq!(unpack(&pack(&histogram), &FORMER_GAPS_MS), Some(histogram));
    }

    #[test]
    fn what_is_damaged_is_refused() {
        // Cut off, a number beyond 64 bits, bounds beyond them, of version 1 more buckets than there were.
        let beyond = [&[0, 1][..], &[0xff; 9], &[1, 1, 1, 1]].concat();
        let long = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2];
        for bytes in [&[0x80][..], &[0], &[0, 1, 0xff], &[0, 1, 5], &[0xff; 11], &long, &beyond, &[1; 14]] {
            assert!(unpack(bytes, &FORMER_GAPS_MS).is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn minutes_of_version_1_are_still_told() {
        // One of up to 5 ms, three of up to 10, one longer than all bounds; the sum.
        let bytes = [100, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let histogram = unpack(&bytes, &FORMER_GAPS_MS).unwrap();
        assert_eq!((histogram.count(), histogram.sum_ns()), (5, 100));
        let milliseconds = |permille| histogram.quantile(permille).unwrap() as f64 / 1e6;
        for (permille, exact) in [(1, 2.5), (400, 5.83), (600, 7.5), (800, 9.17), (1000, 5000.0)] {
            assert!((milliseconds(permille) - exact).abs() < 0.05 * exact, "{permille}: {}", milliseconds(permille));
        }
        let many = [&[1][..], &[0xd1, 0x0f]].concat();
        let histogram = unpack(&many, &FORMER_DURATIONS_MS).unwrap();
        assert_eq!(histogram.count(), 2001);
        assert!(histogram.quantile(500).unwrap().abs_diff(500_000) < 25_000);
    }
}
