//! Experiments: assignment, comparison by hand, the check of sample ratios, allocation, holdouts. False alarms are in
//! `tests/false_alarms.rs`.

use super::*;
use crate::random::Random;
use crate::ratio::Cluster;

fn moments(units: u32, mut one: impl FnMut() -> Cluster) -> Moments {
    let mut moments = Moments::default();
    for _ in 0..units {
        moments.push(one()).unwrap();
    }
    moments
}

/// Units with the mean `mean` and the standard deviation 1.
fn arm(name: &str, mean: f64, units: u32, seed: u64) -> Arm {
    let mut random = Random::new(seed);
    let one = || Cluster { numerator: mean + random.normal(), denominator: 1.0 };
    Arm { name: name.to_owned(), moments: moments(units, one) }
}

#[test]
fn a_unit_keeps_its_arm_and_another_salt_draws_anew() {
    let weights = [1.0, 1.0];
    // Fixed for good, since a change would move units of running experiments; computed apart from this code with Python's
    // hashlib: int.from_bytes(sha256(b"".join(len(x).to_bytes(8, "big") + x for x in ids)).digest()[:8], "big") >> 63.
    let arms: Vec<usize> =
        (0..12).map(|unit| assign("exp", "s1", &format!("u{unit}"), &weights).unwrap().arm).collect();
    assert_eq!(arms, [1, 1, 0, 1, 0, 1, 1, 0, 1, 1, 1, 0]);
    let moved = (0..1000).filter(|unit| {
        let unit = unit.to_string();
        assign("exp", "s1", &unit, &weights).unwrap() != assign("exp", "s2", &unit, &weights).unwrap()
    });
    assert!((400..600).contains(&moved.count()), "independent of each other");
    assert_ne!(
        (0..64).map(|u| assign("ab", "c", &u.to_string(), &weights).unwrap().arm).collect::<Vec<_>>(),
        (0..64).map(|u| assign("a", "bc", &u.to_string(), &weights).unwrap().arm).collect::<Vec<_>>(),
        "ids do not run into each other"
    );
}

#[test]
fn assignment_follows_the_weights() {
    let weights = [5.0, 3.0, 0.0, 2.0];
    let mut counts = [0_u32; 4];
    for unit in 0..100_000 {
        let given = assign("weights", "", &format!("user-{unit}"), &weights).unwrap();
        assert!((given.propensity - weights[given.arm] / 10.0).abs() < 1e-12);
        counts[given.arm] += 1;
    }
    assert_eq!(counts[2], 0);
    let expected = [50_000.0, 30_000.0, 20_000.0];
    let squares = [counts[0], counts[1], counts[3]].into_iter().zip(expected);
    let chi_square: f64 = squares.map(|(count, expected)| (f64::from(count) - expected).powi(2) / expected).sum();
    // 99.9 % quantile of chi-square at 2 degrees (NIST/SEMATECH e-Handbook, 1.3.6.7.4).
    assert!(chi_square < 13.816, "{counts:?}");
}

#[test]
fn assignment_refuses_by_name() {
    let field = |weights: &[f64], unit: &str| assign("e", "s", unit, weights).unwrap_err().field;
    assert_eq!(field(&[1.0], "u"), "weights");
    assert_eq!(field(&[1.0, -1.0], "u"), "weights[1]");
    assert_eq!(field(&[0.0, 0.0], "u"), "weights");
    assert_eq!(field(&[1.0, 1.0], &"u".repeat(MAX_ID_BYTES + 1)), "unit");
    assert_eq!(field(&[1.0; MAX_ARMS + 1], "u"), "weights");
}

#[test]
fn a_true_difference_is_found_and_bracketed() {
    let arms = [arm("control", 1.0, 4000, 1), arm("better", 1.2, 4000, 2), arm("same", 1.0, 4000, 3)];
    let found = compare(&arms, Looking::new(0.05, 8000)).unwrap();
    let difference = found[0].difference.unwrap();
    assert!(found[0].decided && difference.interval.contains(0.2), "{found:?}");
    let lift = found[0].lift.unwrap();
    assert!(lift.interval.contains(0.2) && !lift.interval.contains(0.0));
    assert!(!found[1].decided);
    // Two comparisons share alpha: with one alone the interval is narrower.
    let alone = compare(&arms[..2], Looking::new(0.05, 8000)).unwrap()[0].difference.unwrap().interval;
    assert!(alone.high - alone.low < difference.interval.high - difference.interval.low);
}

#[test]
fn the_sequence_is_narrowest_where_planned() {
    let arms = |units| [arm("a", 1.0, units, 1), arm("b", 1.0, units, 2)];
    let width = |units, planned| {
        let interval = compare(&arms(units), Looking::new(0.05, planned)).unwrap()[0].difference.unwrap().interval;
        interval.high - interval.low
    };
    assert!(width(500, 1000) < width(500, 300) && width(500, 1000) < width(500, 5000));
    // At the planned time and alpha 5 %: x = t r^2 = -2 ln 0.05 + ln(1 - 2 ln 0.05) = 7.936, and the factor is
    // sqrt(2 (x + 1) / x ln(sqrt(x + 1) / 0.05)) = 3.035, where a single look would take 1.96.
    let error = (arms(500)[0].moments.standard_error().unwrap()).hypot(arms(500)[1].moments.standard_error().unwrap());
    let factor = width(500, 1000) / 2.0 / error;
    assert!((factor - 3.035209).abs() < 1e-6, "{factor}");
}

#[test]
fn too_few_units_or_no_spread_say_so() {
    let few = [arm("control", 1.0, 4000, 1), arm("new", 9.0, 99, 2)];
    let found = &compare(&few, Looking::new(0.05, 8000)).unwrap()[0];
    assert!(!found.decided && found.difference.is_none());
    assert_eq!(found.reason.as_deref(), Some("arm new has 99 of the 100 units it needs"));
    let still = || Cluster { numerator: 0.0, denominator: 1.0 };
    let flat = Arm { name: "flat".to_owned(), moments: moments(200, still) };
    let found = &compare(&[few[0].clone(), flat], Looking::new(0.05, 8000)).unwrap()[0];
    assert!(found.reason.as_deref().unwrap().contains("no spread"));
    let mut unit = 0;
    let rare = moments(1000, || {
        unit += 1;
        Cluster { numerator: f64::from(u8::from(unit % 200 == 0)), denominator: 1.0 }
    });
    let found = &compare(&[few[0].clone(), Arm { name: "rare".to_owned(), moments: rare }], Looking::new(0.05, 8000))
        .unwrap()[0];
    assert!(found.difference.is_some() && found.lift.is_none(), "five units of a thousand are no ground for a lift");
    let field = |looking| compare(&few, looking).unwrap_err().field;
    assert_eq!(field(Looking::new(1.0, 8000)), "alpha");
    assert_eq!(field(Looking::new(0.05, 10)), "planned_units");
    assert_eq!(field(Looking { minimum_units: 5, ..Looking::new(0.05, 8000) }), "minimum_units");
    assert_eq!(compare(&few[..1], Looking::new(0.05, 8000)).unwrap_err().field, "arms");
}

#[test]
fn a_wrong_sample_ratio_is_seen() {
    let check =
        |units: [u64; 2]| sample_ratio(&[Stretch { weights: vec![1.0, 1.0], units: units.to_vec() }], 0.05).unwrap();
    let fair = check([5050, 4950]);
    assert!(!fair.mismatch && fair.p_value > 0.5, "{fair:?}");
    assert_eq!(fair.expected, [5000.0, 5000.0]);
    assert!(check([5200, 4800]).mismatch);
    assert!(check([60, 40]).p_value > 0.05, "a hundred units say little");
    let lost = Stretch { weights: vec![1.0, 0.0], units: vec![10, 1] };
    assert_eq!(sample_ratio(&[lost], 0.05).unwrap().p_value, 0.0);
    // What was right while weights were 9 : 1 is not judged by those that followed.
    let stretch = |weights: [f64; 2], units: [u64; 2]| Stretch { weights: weights.to_vec(), units: units.to_vec() };
    let changed = [stretch([0.9, 0.1], [9000, 1000]), stretch([0.5, 0.5], [500, 500])];
    assert!(!sample_ratio(&changed, 0.05).unwrap().mismatch);
    let short = Stretch { weights: vec![1.0, 1.0], units: vec![1] };
    assert_eq!(sample_ratio(&[short], 0.05).unwrap_err().field, "stretches[0].units");
    assert_eq!(sample_ratio(&[], 0.05).unwrap_err().field, "stretches");
}

#[test]
fn thompson_gives_the_likely_best_more() {
    let arms = [arm("a", 1.0, 400, 1), arm("b", 1.0, 400, 1), arm("c", 1.5, 400, 3)].map(|arm| arm.moments);
    let found = allocate(&arms, Goal::Highest, 0.05).unwrap();
    assert!((found.iter().map(|arm| arm.weight).sum::<f64>() - 1.0).abs() < 1e-12);
    assert!(found[2].best.unwrap() > 0.999 && (found[0].weight - 0.05).abs() < 1e-3);
    let lowest = allocate(&arms, Goal::Lowest, 0.05).unwrap();
    assert!((lowest[0].best.unwrap() - 0.5).abs() < 1e-3, "two alike share: {lowest:?}");
    // Two normals: P(a > b) = Phi((mean a - mean b) / sqrt(var a + var b)).
    let pair = [arm("a", 1.0, 200, 8).moments, arm("b", 1.1, 300, 9).moments];
    let error = pair[0].standard_error().unwrap().hypot(pair[1].standard_error().unwrap());
    let exact = crate::distribution::normal_cdf((pair[0].ratio().unwrap() - pair[1].ratio().unwrap()) / error);
    assert!((allocate(&pair, Goal::Highest, 0.1).unwrap()[0].best.unwrap() - exact).abs() < 1e-3);
    let early = allocate(&[pair[0], arm("new", 5.0, 3, 1).moments], Goal::Highest, 0.1).unwrap();
    assert!(early.iter().all(|arm| arm.best.is_none() && (arm.weight - 0.5).abs() < 1e-12));
    assert_eq!(allocate(&pair, Goal::Highest, 0.6).unwrap_err().field, "floor");
}

#[test]
fn incremental_tfp_takes_off_what_comes_without_tokens() {
    let mut random = Random::new(4);
    let treated = moments(500, || Cluster { numerator: 3.0 + random.normal(), denominator: 1000.0 });
    let held_out = moments(400, || Cluster { numerator: 1.0 + random.normal(), denominator: 0.0 });
    let found = incremental(&treated, &held_out, 0.95).unwrap();
    assert!((found.tfp.estimate - 0.002).abs() < 3e-4);
    // Tokens do not vary, so it is the plain comparison of two means.
    let by_hand = (found.treated_value - found.held_out_value) / 1000.0;
    assert!((found.tfp.estimate - by_hand).abs() < 1e-15);
    assert!(found.tfp.interval.unwrap().contains(0.002));
    let few = moments(20, || Cluster { numerator: 1.0, denominator: 0.0 });
    assert!(incremental(&treated, &few, 0.95).unwrap().tfp.reason.unwrap().contains("30"));
    assert_eq!(incremental(&held_out, &treated, 0.95).unwrap_err().field, "tokens of the treated");
    assert_eq!(incremental(&treated, &Moments::default(), 0.95).unwrap_err().field, "held_out");
}

#[test]
fn incremental_intervals_cover() {
    let mut random = Random::new(9);
    let sets = 2000;
    let mut covered = 0;
    for _ in 0..sets {
        let treated = moments(100, || {
            let denominator = random.log_normal(0.8);
            let numerator = if random.happens(0.6) { denominator.sqrt() * random.log_normal(0.4) } else { 0.0 };
            Cluster { numerator: numerator + 0.2, denominator }
        });
        let held_out = moments(60, || Cluster { numerator: 0.4 * random.uniform(), denominator: 0.0 });
        let truth = 0.6 * (-0.8_f64 * 0.8 / 8.0).exp();
        covered += u32::from(incremental(&treated, &held_out, 0.95).unwrap().tfp.interval.unwrap().contains(truth));
    }
    let share = f64::from(covered) / f64::from(sets);
    assert!((0.93..=0.97).contains(&share), "{share}");
}
