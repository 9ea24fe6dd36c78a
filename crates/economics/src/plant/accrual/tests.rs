//! Tests of `plant::accrual`.

use proptest::prelude::*;
use serde_json::json;

use super::super::{Plant, PlantSheet};
use super::*;

fn rates(sheet: serde_json::Value) -> Rates {
    Plant::new(PlantSheet::read(sheet).unwrap()).unwrap().rates(0).unwrap()
}

const YEAR_NS: u64 = 31_557_600_000_000_000;

/// A server that costs `price` over `years`, with a kWh at `per_kwh`.
fn server(price: &str, years: &str, per_kwh: &str) -> Rates {
    rates(json!({
        "equipment": [{"name": "server", "price": price, "life_years": years}],
        "idle_watts": 100, "full_watts": 400, "pue": 1.25, "tariff": [{"per_kwh": per_kwh}], "carbon_g_per_kwh": 400,
        "operations": {"per_month": "0.01"}, "fixed": [{"name": "site", "amount": "7", "over_years": "0.7"}],
    }))
}

#[test]
fn an_hour_costs_what_a_calculator_says() {
    // 100 W idle and 300 W above it for an hour: 0.1 and 0.3 kWh, times PUE 1.25.
    let interval = Interval { length_ns: 3_600_000_000_000, idle_uj: 360_000_000_000, active_uj: 1_080_000_000_000 };
    let amounts = Accrual::default().close(&server("87660", "10", "0.20"), &interval);
    assert_eq!(amounts.of(Source::Depreciation).to_string(), "0.999999999"); // 1.00, but for parts of an atto-unit
    assert_eq!(
        (amounts.active_power.to_string(), amounts.of(Source::Power).to_string()),
        ("0.075".into(), "0.10".into())
    );
    assert_eq!(amounts.idle, Footprint { energy_uj: 450_000_000_000, co2_ug: 50_000_000 });
    assert_eq!(amounts.active, Footprint { energy_uj: 1_350_000_000_000, co2_ug: 150_000_000 });
    assert_eq!(amounts.of(Source::Rent), Nano::ZERO);
    let sum: i64 = Source::ALL.iter().map(|source| amounts.of(*source).0).sum();
    assert_eq!((amounts.total(), amounts.standing()), (Nano(sum), Nano(sum - amounts.active_power.0)));
}

#[test]
fn seconds_add_up_to_the_years_they_make() {
    // A price that no second divides: 1,000 over 5 years is 6.337... nano-units a second.
    let rates = server("1000", "5", "0.20");
    let (mut by_second, mut at_once) = (Accrual::default(), Accrual::default());
    let second = Interval { length_ns: 1_000_000_000, idle_uj: 100_000_007, active_uj: 13 };
    let sums = (0..86_400).fold([0_i64; 6], |sums, _| {
        let amounts = by_second.close(&rates, &second);
        let mut sources = Source::ALL.iter();
        sums.map(|sum| sum + amounts.of(*sources.next().unwrap()).0)
    });
    let day = Interval { length_ns: 86_400_000_000_000, idle_uj: 8_640_000_604_800, active_uj: 1_123_200 };
    assert_eq!(sums, Source::ALL.map(|source| at_once.close_copy(&rates, &day).of(source).0));
    at_once.close(&rates, &day);
    assert_eq!(at_once, by_second, "the same is left over");
    assert_eq!(sums[1], 547_570_157, "1,000 x 86,400 / (5 x 31,557,600), rounded down to nano-units");
}

impl Accrual {
    /// What the interval would cost.
    fn close_copy(self, rates: &Rates, interval: &Interval) -> Amounts {
        let mut copy = self;
        copy.close(rates, interval)
    }
}

#[test]
fn the_dearest_plant_and_the_longest_interval_do_not_overflow() {
    // 1,000,000,000 over less than four months, for a year at once.
    let rates = server("1000000000", "0.3", "1");
    let year = Interval { length_ns: YEAR_NS, idle_uj: 3_155_760_000_000_000, active_uj: 0 };
    let amounts = Accrual::default().close(&rates, &year);
    let lost = i128::from(amounts.of(Source::Depreciation).0) - 3_333_333_333_333_333_333;
    assert!((-1..=0).contains(&lost), "{lost} nano-units");
    // Beyond what is meant, the ends of the range, and no panic.
    let most = Interval { length_ns: u64::MAX, idle_uj: u64::MAX, active_uj: u64::MAX };
    let amounts = Accrual::default().close(&rates, &most);
    assert_eq!((amounts.total(), amounts.active.energy_uj), (Nano::MAX, u64::MAX));
}

#[test]
fn what_is_carried_survives_a_restart() {
    let mut accrual = Accrual::default();
    accrual.close(&server("1000", "5", "0.2"), &Interval { length_ns: 123_456_789, idle_uj: 77, active_uj: 1_001 });
    let text = serde_json::to_string(&accrual).unwrap();
    assert_ne!(accrual, Accrual::default());
    assert_eq!(serde_json::from_str::<Accrual>(&text).unwrap(), accrual);
}

fn any_interval() -> impl Strategy<Value = Interval> {
    let energy = || prop_oneof![0..10_u64, 0..1_000_000_000_000_u64];
    (prop_oneof![0..10_u64, 0..3_000_000_000_u64], energy(), energy())
        .prop_map(|(length_ns, idle_uj, active_uj)| Interval { length_ns, idle_uj, active_uj })
}

fn any_rates() -> impl Strategy<Value = Rates> {
    let sheet = server("1", "1", "1");
    let (sources, watts) = (prop_oneof![0..9_i64, 0..1_000_000_000_000_000_000_i64], 1_000..=10_000_i64);
    (sources, 1..1_000_000_u128, prop_oneof![0..9_i64, 0..1_000_000_000_000_i64], watts, 0..=10_000_000_i64).prop_map(
        move |(price, years, per_kwh, pue, carbon)| {
            let mut rates = sheet;
            *rates.standing.get_mut(Source::Depreciation) = magnitude(Nano(price)) * 1_000_000_000 / years;
            (rates.per_kwh, rates.pue.0, rates.carbon_g_per_kwh.0) = (Nano(per_kwh), pue, carbon);
            rates
        },
    )
}

proptest! {
    /// Sheets and tariffs change within the run; the sums stay exact.
    #[test]
    fn any_run_of_intervals_sums_to_the_exact_amount_rounded_down(
        run in proptest::collection::vec((any_rates(), any_interval()), 1..60),
    ) {
        let (mut accrual, mut sums, mut exact) = (Accrual::default(), [0_u128; 11], [0_u128; 11]);
        for (rates, interval) in &run {
            let amounts = accrual.close(rates, interval);
            let money = Source::ALL.map(|source| amounts.standing.get(source));
            let footprints = [amounts.idle.energy_uj, amounts.active.energy_uj, amounts.idle.co2_ug, amounts.active.co2_ug];
            let made = money.into_iter().chain([amounts.active_power]).map(magnitude);
            sums.iter_mut().zip(made.chain(footprints.map(u128::from))).for_each(|(sum, made)| *sum += made);
            let pue = u128::try_from(rates.pue.0).unwrap();
            let carbon = u128::try_from(rates.carbon_g_per_kwh.0).unwrap();
            let energy = [interval.idle_uj, interval.active_uj].map(|uj| u128::from(uj) * pue);
            let mut parts = Source::ALL.map(|source| rates.atto_per_second(source) * u128::from(interval.length_ns)).to_vec();
            parts[0] = energy[0] * magnitude(rates.per_kwh);
            parts.push(energy[1] * magnitude(rates.per_kwh));
            parts.extend(energy.into_iter().chain(energy.map(|uj| uj * carbon)));
            exact.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
        }
        let (second, kwh) = (1_000_000_000_000_000_000, 3_600_000_000_000);
        let units = [kwh * 1_000, second, second, second, second, second, kwh * 1_000, 1_000, 1_000, kwh, kwh];
        for (index, unit) in units.into_iter().enumerate() {
            prop_assert_eq!(sums[index], exact[index] / unit, "amount {}", index);
        }
    }
}
