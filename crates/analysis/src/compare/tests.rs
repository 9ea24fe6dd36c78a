//! Comparison of periods: one factor at a time, all at once, zeros, and what is refused.

use super::*;

const MEASURES: [Measure; 4] =
    [Measure::TotalCost, Measure::TotalMargin, Measure::CostPerMillion, Measure::MarginPerMillion];

fn class(name: &str, tokens: f64, busy_seconds: f64, units: f64, revenue: f64) -> Class {
    Class { name: name.to_owned(), tokens, busy_seconds, units, revenue }
}

fn base() -> Period {
    let classes = vec![class("large", 1e6, 2000.0, 3.0, 40.0), class("small", 3e6, 1000.0, 1.0, 12.0)];
    Period { standing_cost: 20.0, plant_seconds: 10_000.0, unit_price: 0.2, classes }
}

fn sum(parts: &Parts) -> f64 {
    parts.volume + parts.mix + parts.efficiency + parts.utilisation + parts.input_price + parts.price
}

/// Changes the later period, and expects only the named parts of each measure to move, exactly by the change.
fn moves(change: impl Fn(&mut Period), only: fn(&Parts) -> f64) {
    let mut later = base();
    change(&mut later);
    for measure in MEASURES {
        let found = compare(&base(), &later, measure).unwrap();
        assert!((only(&found.parts) - found.change).abs() < 1e-9, "{found:?}");
        assert!((sum(&found.parts) - found.change).abs() < 1e-9, "{found:?}");
    }
}

#[test]
fn totals_are_those_of_the_period() {
    let found = compare(&base(), &base(), Measure::TotalCost).unwrap();
    // Standing cost and 4 units at 0.2.
    assert!((found.from - 20.8).abs() < 1e-12 && found.change == 0.0 && found.parts == Parts::default());
    let margin = compare(&base(), &base(), Measure::MarginPerMillion).unwrap();
    assert!((margin.from - (52.0 - 20.8) / 4.0).abs() < 1e-12);
}

#[test]
fn each_factor_alone_is_the_whole_change() {
    moves(|p| (p.standing_cost, p.unit_price) = (30.0, 0.3), |parts| parts.input_price);
    moves(|p| p.classes.iter_mut().for_each(|class| class.revenue *= 1.5), |parts| parts.price);
    // Another machine at the same price of a second.
    moves(|p| (p.standing_cost, p.plant_seconds) = (40.0, 20_000.0), |parts| parts.utilisation);
    // Twice of all on twice the plant.
    let twice = |p: &mut Period| {
        (p.standing_cost, p.plant_seconds) = (40.0, 20_000.0);
        for class in &mut p.classes {
            *class = self::class(
                &class.name,
                class.tokens * 2.0,
                class.busy_seconds * 2.0,
                class.units * 2.0,
                class.revenue * 2.0,
            );
        }
    };
    moves(twice, |parts| parts.volume);
    // Half the time and units for a token, on half the plant.
    let faster = |p: &mut Period| {
        (p.standing_cost, p.plant_seconds) = (10.0, 5000.0);
        for class in &mut p.classes {
            (class.busy_seconds, class.units) = (class.busy_seconds / 2.0, class.units / 2.0);
        }
    };
    moves(faster, |parts| parts.efficiency);
    // The same tokens of other classes; the plant as busy as before.
    let mixed = |p: &mut Period| {
        p.classes = vec![class("large", 2e6, 4000.0, 6.0, 80.0), class("small", 2e6, 2e3 / 3.0, 2.0 / 3.0, 8.0)];
        let seconds = (4000.0 + 2e3 / 3.0) / 0.3;
        (p.standing_cost, p.plant_seconds) = (seconds * 0.002, seconds);
    };
    moves(mixed, |parts| parts.mix);
}

#[test]
fn everything_at_once_adds_up_with_new_and_dropped_classes() {
    let later = Period {
        standing_cost: 33.0,
        plant_seconds: 9000.0,
        unit_price: 0.0,
        classes: vec![
            class("large", 5e6, 7000.0, 9.0, 0.0),
            class("new", 1e5, 800.0, 2.0, 900.0),
            class("small", 0.0, 0.0, 0.0, 0.0),
        ],
    };
    let found = MEASURES.map(|measure| compare(&base(), &later, measure).unwrap());
    for change in &found {
        assert!((sum(&change.parts) - change.change).abs() < 1e-9 * change.change.abs().max(1.0), "{change:?}");
        assert!(change.parts.mix != 0.0);
    }
    let [cost, margin, per_million, _] = found;
    assert!((cost.to - 33.0).abs() < 1e-9);
    assert!((margin.parts.utilisation + cost.parts.utilisation).abs() < 1e-9, "cost is the part of margin below zero");
    assert_eq!((per_million.parts.volume, per_million.parts.price, cost.parts.price), (0.0, 0.0, 0.0));
    // And back: the same parts with the other sign.
    let back = compare(&later, &base(), Measure::TotalCost).unwrap();
    assert!((back.parts.efficiency + cost.parts.efficiency).abs() < 1e-9);
}

#[test]
fn bad_periods_are_named() {
    let refused = |change: fn(&mut Period)| {
        let mut later = base();
        change(&mut later);
        compare(&base(), &later, Measure::TotalCost).unwrap_err().field
    };
    assert_eq!(refused(|p| p.standing_cost = -1.0), "later.standing_cost");
    assert_eq!(refused(|p| p.plant_seconds = 0.0), "later.plant_seconds");
    assert_eq!(refused(|p| p.plant_seconds = 2999.0), "busy_seconds of later");
    assert_eq!(refused(|p| p.classes[1].tokens = f64::NAN), "later.classes small: tokens");
    assert_eq!(refused(|p| p.classes[1].tokens = 0.0), "later.classes small: busy_seconds");
    assert_eq!(refused(|p| p.classes[1].name = "large".to_owned()), "later.classes large");
    assert_eq!(refused(|p| p.classes.clear()), "tokens of later");
}
