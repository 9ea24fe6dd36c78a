//! 95 % intervals of a ratio cover the truth in 93 to 97 % of 2,000 data sets, at every shape that is said to hold.

#![expect(clippy::unwrap_used, reason = "a test's own function may fail the test")]

use analysis::simulation::{Shape, coverage};

const SETS: u32 = 2000;

fn holds(clusters: usize) {
    for shape in Shape::HELD {
        let found = coverage(shape, clusters, false, SETS, 1).unwrap();
        let share = found.share().unwrap();
        assert!((0.93..=0.97).contains(&share), "{found:?}: {share}");
        // Where no interval is given, one without bounds would be the honest one.
        let unbounded = f64::from(found.covered + found.without) / f64::from(SETS);
        assert!((0.93..=0.97).contains(&unbounded), "{found:?}: {unbounded}");
    }
}

#[test]
fn intervals_hold_at_10_clusters() {
    holds(10);
}

#[test]
fn intervals_hold_at_30_clusters() {
    holds(30);
}

#[test]
fn intervals_hold_at_200_clusters() {
    holds(200);
}

#[test]
fn intervals_hold_where_t_takes_over() {
    holds(analysis::ratio::FEW_CLUSTERS);
}

/// What the documentation says about the limits: if this no longer fails to cover, the text must change.
#[test]
fn the_limits_are_those_documented() {
    let plain = coverage(Shape::GrowsWithTokens, 10, true, SETS, 1).unwrap();
    assert!(plain.share().unwrap() < 0.92, "Student's t at 10 clusters: {plain:?}");
    let wide = coverage(Shape::WideAmounts, 10, false, SETS, 1).unwrap();
    assert!(wide.share().unwrap() < 0.93, "{wide:?}");
    let rare = coverage(Shape::RareAndLarge, 10, false, SETS, 1).unwrap();
    assert!(
        f64::from(rare.without) > 0.8 * f64::from(SETS),
        "one value among ten is no ground for an interval: {rare:?}"
    );
}
