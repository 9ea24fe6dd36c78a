//! Whole parts that add up to the whole.

use std::cmp::Reverse;

/// Splits `total` in proportion to `weights`: each part is the exact one rounded down or up, and together they are
/// `total`. Who is rounded up is decided by the largest remainder (Hamilton's method), among equals by order. A weight of 0
/// gets nothing, but all alike when all are 0. No weights, no parts.
#[must_use]
pub fn largest_remainder(total: u64, weights: &[u64]) -> Vec<u64> {
    let all: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    // (the weights, or one for each) and their sum.
    let (weight_of, all): (fn(u64) -> u64, u128) =
        if all == 0 { (|_| 1, weights.len() as u128) } else { (|weight| weight, all) };
    let exact = |weight: &u64| u128::from(total) * u128::from(weight_of(*weight));
    let mut parts: Vec<u64> = Vec::with_capacity(weights.len());
    let mut order: Vec<(Reverse<u128>, usize)> = Vec::with_capacity(weights.len());
    for (index, weight) in weights.iter().enumerate() {
        parts.push(u64::try_from(exact(weight) / all).unwrap_or(u64::MAX));
        order.push((Reverse(exact(weight) % all), index));
    }
    // Fewer than one for each remainder that is not 0.
    let left = total - parts.iter().sum::<u64>();
    order.sort_unstable();
    for (_, index) in order.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        parts[index] += 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn remainders_go_to_the_largest_first_then_by_order() {
        for (total, weights, expected) in [
            (10, vec![1, 1, 1], vec![4, 3, 3]),
            (10, vec![0, 3, 0, 1], vec![0, 8, 0, 2]), // 7.5 and 2.5: the first of equals
            (100, vec![15, 25, 60], vec![15, 25, 60]),
            (7, vec![10, 60, 30], vec![1, 4, 2]), // 0.7, 4.2, 2.1
            (5, vec![0, 0, 0], vec![2, 2, 1]),
            (0, vec![3, 4], vec![0, 0]),
            (9, vec![], vec![]),
            (u64::MAX, vec![u64::MAX, 0, u64::MAX], vec![u64::MAX / 2 + 1, 0, u64::MAX / 2]),
        ] {
            assert_eq!(largest_remainder(total, &weights), expected, "{total} by {weights:?}");
        }
    }

    fn any_weight() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 1..10_u64, any::<u64>()]
    }

    proptest! {
        #[test]
        fn parts_make_the_whole_and_are_within_one_of_the_exact_part(
            total in prop_oneof![0..100_u64, any::<u64>()],
            weights in proptest::collection::vec(any_weight(), 1..40),
        ) {
            let parts = largest_remainder(total, &weights);
            prop_assert_eq!(parts.iter().map(|part| u128::from(*part)).sum::<u128>(), u128::from(total));
            let all: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            for (part, weight) in parts.iter().zip(&weights) {
                // |part - total x weight / all| < 1, without division; products of 64 bits each fit into 128.
                let weight = if all == 0 { 1 } else { u128::from(*weight) };
                let all = if all == 0 { weights.len() as u128 } else { all };
                let floor = u128::from(total) * weight / all;
                let is_whole = u128::from(total) * weight % all == 0;
                let part = u128::from(*part);
                prop_assert!(part == floor || (part == floor + 1 && !is_whole), "{} for {}", part, weight);
            }
        }
    }
}
