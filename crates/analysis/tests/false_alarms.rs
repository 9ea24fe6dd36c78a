//! 2,000 A/A experiments each, looked at after every unit: no more than alpha raise a false alarm.

#![expect(clippy::unwrap_used, reason = "a test's own function may fail the test")]

use analysis::simulation::{Shape, Trial, false_alarms};

const EXPERIMENTS: u32 = 2000;

fn holds(shape: Shape, trial: Trial) {
    let found = false_alarms(shape, trial, EXPERIMENTS, 1).unwrap();
    let most = trial.alpha * f64::from(EXPERIMENTS);
    for alarms in [found.difference, found.lift, found.sample_ratio] {
        assert!(f64::from(alarms) <= most, "{shape:?} {trial:?}: {found:?}");
    }
    // The looks do tempt: a test meant for one look fails at them.
    assert!(f64::from(found.single_look_test) > 2.0 * most, "{shape:?} {trial:?}: {found:?}");
}

#[test]
fn adopted() {
    holds(Shape::Adopted, Trial::EVERY_UNIT);
}

#[test]
fn value_grows_with_tokens() {
    holds(Shape::GrowsWithTokens, Trial::EVERY_UNIT);
}

#[test]
fn pareto_tail() {
    holds(Shape::ParetoTail, Trial::EVERY_UNIT);
}

#[test]
fn weights_nine_to_one() {
    holds(Shape::Adopted, Trial { control_weight: 0.9, ..Trial::EVERY_UNIT });
}

#[test]
fn weights_that_follow_the_data() {
    holds(Shape::GrowsWithTokens, Trial { adaptive: true, ..Trial::EVERY_UNIT });
}
