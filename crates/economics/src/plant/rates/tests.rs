//! Tests of `plant::rates`.

use serde_json::{Value, json};

use super::*;
use crate::Currency;

/// A sheet of nothing but a tariff in `zone`.
fn with_tariff(zone: &str, tariff: Value) -> Plant {
    let sheet = json!({"zone": zone, "equipment": [], "idle_watts": 1, "full_watts": 2, "pue": 1.5, "tariff": tariff, "carbon_g_per_kwh": 1});
    Plant::new(PlantSheet::read(sheet).unwrap()).unwrap()
}

fn ms(text: &str) -> i64 {
    window::from_rfc3339(text).unwrap()
}

#[test]
fn each_source_accrues_what_the_sheet_says() {
    let sheet = json!({
        "equipment": [
            {"name": "a", "price": "3155.76", "salvage": "0.00", "life_years": 1},
            {"name": "b", "price": "3155.76", "salvage": "1577.88", "life_years": "0.5"},
            {"name": "c", "rent_per_hour": "0.36"},
            {"name": "d", "rent_per_hour": "0.72"},
        ],
        "idle_watts": 1, "full_watts": 2, "pue": 1.5, "tariff": [{"per_kwh": "0.15"}], "carbon_g_per_kwh": 1,
        "network": {"per_gb": "0.05", "per_month": "26.298"},
        "operations": {"per_month": "262.98"},
        "fixed": [
            {"name": "site", "amount": "31557.6", "over_years": 10},
            {"name": "training", "amount": "1000", "over_tokens": 3_000_000},
            {"name": "research", "amount": "500", "over_tokens": 1_000_000_000},
        ],
    });
    let rates = Plant::new(PlantSheet::read(sheet).unwrap()).unwrap().rates(0).unwrap();
    let per_second = |source| rates.atto_per_second(source);
    assert_eq!(per_second(Source::Depreciation), 200_000_000_000_000);
    assert_eq!(per_second(Source::Rent), 300_000_000_000_000);
    assert_eq!(per_second(Source::Network), 10_000_000_000_000);
    assert_eq!(per_second(Source::Operations), 100_000_000_000_000);
    assert_eq!(per_second(Source::Fixed), 100_000_000_000_000);
    assert_eq!(per_second(Source::Power), 0);
    assert_eq!(rates.atto_per_token(), 333_333_333_333_333 + 500_000_000_000);
    assert_eq!((rates.fixed(0), rates.fixed(3).to_string().as_str()), (Nano::ZERO, "0.0010015"));
    assert_eq!((rates.network(1), rates.network(30), rates.network(31)), (Nano(0), Nano(2), Nano(2)));
    assert_eq!(rates.network(1_000_000_000).to_string(), "0.05");
    assert_eq!((rates.network(u64::MAX), rates.fixed(u64::MAX)), (Nano(922_337_203_685_477_581), Nano::MAX));
    assert_eq!((rates.per_kwh, rates.next_change_ms), (Nano(150_000_000), i64::MAX));
    let hour = rates.standing_per_hour().map(|(_, cost)| cost).fold(Nano::ZERO, Nano::saturating_add);
    assert_eq!((hour.to_string().as_str(), rates.standing_per_hour().count()), ("2.556", 5));
    // 28 W at a PUE of 1.5: 0.042 kWh.
    assert_eq!(rates.power_per_hour(Milli(28_000)).to_string(), "0.0063");
    let dear = Rates { per_kwh: Nano::MAX, ..rates };
    assert_eq!(dear.power_per_hour(Milli(1_000_000_000)), Nano::MAX);
}

/// The tariff at `at` as (price, next change).
fn at(plant: &Plant, at: &str) -> (String, String) {
    let rates = plant.rates(ms(at)).unwrap();
    (rates.per_kwh.to_string(), window::to_rfc3339(rates.next_change_ms))
}

#[test]
fn the_tariff_follows_local_clocks_through_their_changes() {
    // Berlin's clocks go back from 03:00 to 02:00 on 25 October 2026 at 01:00 UTC, forward on 28 March 2027.
    let night = json!([{"per_kwh": "1", "hours": "22:00-02:30"}, {"per_kwh": "3", "hours": "02:30-22:00"}]);
    let plant = with_tariff("Europe/Berlin", night);
    for (time, price, change) in [
        ("2026-10-23T12:00:00Z", "3.00", "2026-10-23T20:00:00Z"),
        ("2026-10-23T19:59:59.999Z", "3.00", "2026-10-23T20:00:00Z"),
        ("2026-10-23T20:00:00Z", "1.00", "2026-10-24T00:30:00Z"),
        ("2026-10-25T00:29:00Z", "1.00", "2026-10-25T00:30:00Z"),
        ("2026-10-25T00:30:00Z", "3.00", "2026-10-25T01:00:00Z"), // 02:30, the first time
        ("2026-10-25T01:00:00Z", "1.00", "2026-10-25T01:30:00Z"), // 02:00, the second time
        ("2026-10-25T01:30:00Z", "3.00", "2026-10-25T21:00:00Z"),
        ("2027-03-28T00:59:59Z", "1.00", "2027-03-28T01:00:00Z"), // 02:30 does not come
        ("2027-03-28T01:00:00Z", "3.00", "2027-03-28T20:00:00Z"),
        ("1969-12-31T23:00:00.001Z", "1.00", "1970-01-01T01:30:00Z"),
    ] {
        assert_eq!(at(&plant, time), (price.to_owned(), change.to_owned()), "{time}");
    }
    // Monday begins in Shanghai while it is Sunday, 16:00, in UTC.
    let weekend = json!([{"per_kwh": "2", "days": "mon-fri"}, {"per_kwh": "1", "days": "sat,sun"}]);
    let plant = with_tariff("Asia/Shanghai", weekend);
    assert_eq!(at(&plant, "2026-11-29T15:59:00Z"), ("1.00".to_owned(), "2026-11-29T16:00:00Z".to_owned()));
    assert_eq!(at(&plant, "2026-11-29T16:00:00Z"), ("2.00".to_owned(), "2026-12-04T16:00:00Z".to_owned()));
}

/// Going from change to change gives the same price at each minute as asking for that minute.
#[test]
fn no_price_changes_before_the_next_change() {
    let odd = json!([
        {"per_kwh": "1", "hours": "22:00-02:30"}, {"per_kwh": "3", "hours": "02:30-12:15"}, {"per_kwh": "2", "hours": "12:15-22:00"},
    ]);
    // Lord Howe sets its clocks by half an hour, Apia left out a day, Kathmandu is 5:45 from UTC.
    for (zone, from) in [
        ("UTC", "2026-11-20T00:00:00Z"),
        ("Europe/Berlin", "2026-10-22T00:00:00Z"),
        ("Australia/Lord_Howe", "2026-04-02T00:00:00Z"),
        ("Pacific/Apia", "2011-12-27T00:00:00Z"),
        ("Asia/Kathmandu", "2026-11-20T00:00:00Z"),
    ] {
        let plant = with_tariff(zone, odd.clone());
        let mut held = plant.rates(ms(from)).unwrap();
        for minute in 0..8 * 1_440 {
            let at = ms(from) + minute * MINUTE_MS;
            if at >= held.next_change_ms {
                assert_eq!(at, held.next_change_ms, "{zone}: changes fall on whole minutes");
                held = plant.rates(at).unwrap();
            }
            assert_eq!(plant.rates(at).unwrap(), held, "{zone} {}", window::to_rfc3339(at));
        }
    }
}

#[test]
fn clocks_out_of_range_are_an_error_and_not_a_price() {
    let plant = Plant::new(PlantSheet::example(&Currency::of("USD").unwrap())).unwrap();
    assert!(plant.sheet().is_example());
    for at in [i64::MIN, i64::MAX] {
        assert!(plant.rates(at).unwrap_err().to_string().contains("clock"));
    }
}
