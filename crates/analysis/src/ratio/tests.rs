//! Ratios: by hand, in streams, and what is refused. Coverage is in `tests/coverage.rs`.

use super::*;
use crate::random::Random;

fn clusters(count: usize, seed: u64) -> Vec<Cluster> {
    let mut random = Random::new(seed);
    let mut one = || Cluster { numerator: random.log_normal(0.5), denominator: 1e3 * random.log_normal(0.5) };
    (0..count).map(|_| one()).collect()
}

#[test]
fn three_clusters_by_hand() {
    // Ratio 12 / 6 = 2; residuals 1, -1, 0; variance of their mean (1 + 1) / 2 / 3; mean denominator 2.
    let pairs = [(3.0, 1.0), (3.0, 2.0), (6.0, 3.0)];
    let mut moments = Moments::default();
    for (numerator, denominator) in pairs {
        moments.push(Cluster { numerator, denominator }).unwrap();
    }
    let found = moments.estimate(0.95).unwrap();
    assert!((found.estimate - 2.0).abs() < 1e-12);
    assert!((found.standard_error.unwrap() - (1.0_f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
    let interval = found.interval.unwrap();
    assert!((interval.high - 2.0 - 4.302_65 * found.standard_error.unwrap()).abs() < 1e-5);
    assert_eq!(found.method, Some(Method::LinearisedT));
    assert!((found.effective_clusters.unwrap() - 144.0 / 54.0).abs() < 1e-12);
    let million = found.per_million();
    assert!((million.estimate - 2e6).abs() < 1e-6 && million.clusters == 3);
    assert!((million.interval.unwrap().low - interval.low * 1e6).abs() < 1e-6);
}

#[test]
fn streams_and_parts_of_streams_give_the_same() {
    let all = clusters(500, 3);
    let mut whole = Moments::default();
    let mut parts = [Moments::default(); 3];
    for (place, cluster) in all.iter().enumerate() {
        whole.push(*cluster).unwrap();
        parts[place % 3].push(*cluster).unwrap();
    }
    let mut merged = Moments::default();
    parts.iter().for_each(|part| merged.merge(part));
    let (one, other) = (whole.estimate(0.9).unwrap(), merged.estimate(0.9).unwrap());
    assert!((one.estimate / other.estimate - 1.0).abs() < 1e-12);
    assert!((one.standard_error.unwrap() / other.standard_error.unwrap() - 1.0).abs() < 1e-9);
}

#[test]
fn few_clusters_take_the_bootstrap_and_repeat_with_the_seed() {
    let few = clusters(20, 5);
    let found = estimate(&few, 0.95, 1).unwrap();
    assert_eq!(found.method, Some(Method::BootstrapT));
    assert_eq!(found, estimate(&few, 0.95, 1).unwrap());
    assert_ne!(found.interval, estimate(&few, 0.95, 2).unwrap().interval);
    let wide = estimate(&few, 0.99, 1).unwrap().interval.unwrap();
    assert!(wide.low < found.interval.unwrap().low && found.interval.unwrap().contains(found.estimate));
    assert_eq!(estimate(&clusters(FEW_CLUSTERS, 5), 0.95, 1).unwrap().method, Some(Method::LinearisedT));
}

#[test]
fn many_clusters_of_which_few_have_value_take_the_bootstrap_too() {
    let mut all = vec![Cluster { numerator: 0.0, denominator: 1.0 }; 2000];
    all.iter_mut().step_by(200).for_each(|cluster| cluster.numerator = 5.0);
    let found = estimate(&all, 0.95, 1).unwrap();
    assert!((found.effective_clusters.unwrap() - 10.0).abs() < 1e-9);
    assert_eq!(found.method, Some(Method::BootstrapT));
    all.resize(BOOTSTRAP_CLUSTERS + 1, all[1]);
    assert_eq!(estimate(&all, 0.95, 1).unwrap().method, Some(Method::LinearisedT));
}

#[test]
fn no_interval_without_spread() {
    let one = estimate(&[Cluster { numerator: 5.0, denominator: 2.0 }], 0.95, 1).unwrap();
    assert_eq!((one.estimate, one.interval, one.standard_error), (2.5, None, None));
    assert!(one.reason.unwrap().contains("fewer than 2"));
    let none_accepted = estimate(&[Cluster { numerator: 0.0, denominator: 9.0 }; 40], 0.95, 1).unwrap();
    assert_eq!((none_accepted.estimate, none_accepted.interval, none_accepted.effective_clusters), (0.0, None, None));
    let same: Vec<Cluster> = clusters(40, 7).iter().map(|c| Cluster { numerator: 0.1 * c.denominator, ..*c }).collect();
    assert_eq!(estimate(&same, 0.95, 1).unwrap().standard_error, Some(0.0));
    // One of ten has value: a third of the samples have none at all.
    let mut rare = [Cluster { numerator: 0.0, denominator: 9.0 }; 10];
    rare[4].numerator = 100.0;
    let rare = estimate(&rare, 0.95, 1).unwrap();
    assert!((rare.effective_clusters.unwrap() - 1.0).abs() < 1e-12);
    assert!(rare.interval.is_none() && rare.standard_error.is_some());
    assert!(rare.reason.unwrap().contains("too few clusters"));
}

#[test]
fn bad_input_is_named() {
    let bad = [Cluster { numerator: 1.0, denominator: 1.0 }, Cluster { numerator: f64::NAN, denominator: 1.0 }];
    assert_eq!(estimate(&bad, 0.95, 1).unwrap_err().field, "clusters[1].numerator");
    let negative = [Cluster { numerator: 1.0, denominator: -1.0 }];
    assert!(estimate(&negative, 0.95, 1).unwrap_err().to_string().contains("clusters[0].denominator: -1"));
    assert_eq!(estimate(&[], 0.95, 1).unwrap_err().field, "denominators");
    for level in [0.0, 0.3, 1.0, f64::NAN] {
        assert_eq!(estimate(&clusters(5, 1), level, 1).unwrap_err().field, "level");
    }
    assert_eq!(Moments::default().push_weighted(Cluster::default(), 0.0).unwrap_err().field, "propensity");
}

#[test]
fn estimates_are_serialised_by_name() {
    let text = serde_json::to_value(estimate(&clusters(20, 5), 0.95, 1).unwrap()).unwrap();
    assert_eq!(text["method"], "bootstrap_t");
    assert_eq!(text["interval"]["level"], 0.95);
}
