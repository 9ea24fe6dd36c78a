//! Tests of `plant::sheet`.

use serde_json::{Value, json};

use super::*;

/// A sheet with everything in it, as an operator writes it.
const TOML: &str = r#"
from = "2026-11-01T00:00:00Z"
zone = "Europe/Berlin"
idle_watts = 120
full_watts = 400.5
pue = "1.2"
carbon_g_per_kwh = 380.125
power_cap_watts = 350
tariff = [
  { per_kwh = "0.30", days = "mon-fri", hours = "07:00-22:00" },
  { per_kwh = "0.20", days = "mon-fri", hours = "22:00-07:00" },
  { per_kwh = "0.25", days = "sat", hours = "07:00-24:00" },
  { per_kwh = "0.25", days = "sun" },
  { per_kwh = "0.20", days = "mon", hours = "00:00-07:00" },
]
network = { per_gb = "0.02", per_month = "50" }
operations = { per_month = "800" }

[[equipment]]
name = "server"
price = "12000"
salvage = "2000"
life_years = 4.5

[[equipment]]
name = "rack"
rent_per_hour = "0.40"

[[fixed]]
name = "training"
amount = "1000000"
over_tokens = 1000000000000

[[fixed]]
name = "site"
amount = "30000"
over_years = 10
"#;

fn as_written() -> Value {
    toml::from_str(TOML).unwrap()
}

/// `TOML` with the value at `pointer` replaced, or removed for null.
fn changed(pointer: &str, value: Value) -> Value {
    let mut sheet = as_written();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = sheet.pointer_mut(parent).unwrap();
    match parent {
        Value::Object(fields) if value.is_null() => drop(fields.remove(name).unwrap()),
        Value::Object(fields) => drop(fields.insert(name.to_owned(), value)),
        list => list[name.parse::<usize>().unwrap()] = value,
    }
    sheet
}

#[test]
fn a_sheet_goes_through_toml_and_json_unchanged() {
    let sheet = PlantSheet::read(as_written()).unwrap();
    assert_eq!(toml::from_str::<PlantSheet>(TOML).unwrap(), sheet);
    assert_eq!(window::to_rfc3339(sheet.from), "2026-11-01T00:00:00Z");
    assert_eq!((sheet.full_watts, sheet.pue, sheet.carbon_g_per_kwh), (Milli(400_500), Milli(1_200), Milli(380_125)));
    assert_eq!(sheet.equipment[0].life_years, Some(Milli(4_500)));
    assert_eq!(toml::from_str::<PlantSheet>(&toml::to_string(&sheet).unwrap()).unwrap(), sheet);
    let json = serde_json::to_string(&sheet).unwrap();
    assert_eq!(PlantSheet::read(serde_json::from_str(&json).unwrap()).unwrap(), sheet);
}

#[test]
fn the_least_sheet_needs_no_more_than_machine_energy_and_air() {
    let least = json!({"equipment": [], "idle_watts": 5, "full_watts": 5, "pue": 1, "tariff": [{"per_kwh": "0"}], "carbon_g_per_kwh": 0});
    let sheet = PlantSheet::read(least).unwrap();
    assert_eq!((sheet.from, sheet.zone.as_str(), sheet.is_example()), (0, "UTC", false));
}

#[test]
fn the_example_is_whole_and_labelled_in_each_currency() {
    for (code, rent) in [("USD", "600.00"), ("JPY", "60000.00"), ("KWD", "60.00")] {
        let example = PlantSheet::example(&Currency::of(code).unwrap());
        example.check().unwrap();
        assert!(example.is_example());
        assert_eq!(example.equipment[0].price.unwrap().to_string(), rent);
        // Only the program says so: the label is neither written nor read.
        let mut written = serde_json::to_value(&example).unwrap();
        assert!(!PlantSheet::read(written.clone()).unwrap().is_example());
        written["is_example"] = json!(false);
        let error = PlantSheet::read(written).unwrap_err().to_string();
        assert!(error.starts_with("plant.is_example: unknown field"), "{error}");
    }
}

/// Each change of the sheet is refused with an error that begins like this.
fn refused(cases: Vec<(&str, Value, &str)>) {
    for (pointer, value, expected) in cases {
        let error = PlantSheet::read(changed(pointer, value)).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{pointer}: {error}");
    }
}

#[test]
fn bad_equipment_is_refused_by_name() {
    let many: Vec<Value> = vec![json!({"name": "x", "rent_per_hour": "1"}); MAX_ITEMS + 1];
    refused(vec![
        ("/equipment", Value::Null, "plant.equipment: is missing"),
        ("/equipment", json!(many), "plant.equipment: 257 entries; there may be 256"),
        ("/equipment/0/name", json!(" "), "plant.equipment[0].name: ` ` is empty"),
        ("/equipment/0/life_years", json!(0), "plant.equipment[0].life_years: 0 is not more than 0"),
        ("/equipment/0/life_years", json!(-2.5), "plant.equipment[0].life_years: -2.5 is not more than 0"),
        ("/equipment/0/life_years", json!(1000.001), "plant.equipment[0].life_years: 1000.001 is not"),
        ("/equipment/0/life_years", json!("four"), "plant.equipment[0].life_years: `four` is not a decimal number"),
        ("/equipment/0/life_years", json!(0.3333), "plant.equipment[0].life_years: `0.3333` has more digits"),
        ("/equipment/0/life_years", Value::Null, "plant.equipment[0].life_years: `server` has a price but no life"),
        ("/equipment/0/price", json!("-1"), "plant.equipment[0].price: -1.00 is negative"),
        ("/equipment/0/price", json!("1000000000.01"), "plant.equipment[0].price: 1000000000.01 is above 1000000000"),
        ("/equipment/0/price", json!(12000), "plant.equipment[0].price: invalid type: integer `12000`; write a string"),
        ("/equipment/0/price", Value::Null, "plant.equipment[0].price: `server` has neither a price nor a rent"),
        ("/equipment/0/salvage", json!("-5"), "plant.equipment[0].salvage: -5.00 is negative"),
        ("/equipment/0/salvage", json!("12000.01"), "plant.equipment[0].salvage: 12000.01 is more than the price"),
        ("/equipment/0/rent_per_hour", json!("1"), "plant.equipment[0].rent_per_hour: `server` is bought and rented"),
        ("/equipment/0/colour", json!(1), "plant.equipment[0].colour: unknown field"),
        ("/equipment/1/rent_per_hour", json!("-0.1"), "plant.equipment[1].rent_per_hour: -0.10 is negative"),
        ("/equipment/1/salvage", json!("1"), "plant.equipment[1].salvage: `rack` is rented"),
        ("/equipment/1/life_years", json!(4), "plant.equipment[1].life_years: `rack` is rented"),
    ]);
}

#[test]
fn bad_power_and_carbon_are_refused_by_name() {
    refused(vec![
        ("/idle_watts", Value::Null, "plant.idle_watts: is missing"),
        ("/idle_watts", json!(-1), "plant.idle_watts: -1 is not within 0 to 1000000000"),
        ("/full_watts", json!("-0.5"), "plant.full_watts: -0.5 is not within"),
        ("/full_watts", json!(1_000_000_001), "plant.full_watts: 1000000001 is not within"),
        ("/full_watts", json!(119.999), "plant.full_watts: 119.999 W are less than `idle_watts` (120 W)"),
        ("/full_watts", json!(true), "plant.full_watts: invalid type: boolean `true`; write a decimal number"),
        ("/pue", json!(0.9), "plant.pue: 0.9 is not within 1 to 10"),
        ("/pue", json!(10.001), "plant.pue: 10.001 is not within 1 to 10"),
        ("/carbon_g_per_kwh", json!(-1), "plant.carbon_g_per_kwh: -1 is not within 0 to 10000"),
        ("/carbon_g_per_kwh", json!(10_001), "plant.carbon_g_per_kwh: 10001 is not within"),
        ("/power_cap_watts", json!(120), "plant.power_cap_watts: 120 W are not above `idle_watts` (120 W)"),
        ("/power_cap_watts", json!(-3), "plant.power_cap_watts: -3 is not within"),
    ]);
}

#[test]
fn bad_tariffs_are_refused_by_day_and_time() {
    refused(vec![
        ("/tariff", json!([]), "plant.tariff: 0 rates; there must be 1 to 64"),
        ("/tariff", json!(vec![json!({"per_kwh": "1"}); 65]), "plant.tariff: 65 rates"),
        ("/tariff/0/per_kwh", json!("-0.1"), "plant.tariff[0].per_kwh: -0.10 is negative"),
        ("/tariff/0/per_kwh", json!("1000001"), "plant.tariff[0].per_kwh: 1000001.00 is above 1000000"),
        ("/tariff/0/hours", json!("07:30-22:00"), "plant.tariff: no rate holds on mon at 07:00"),
        ("/tariff/4/hours", json!("00:00-06:59"), "plant.tariff: no rate holds on mon at 06:59"),
        ("/tariff/2/hours", json!("06:59-24:00"), "plant.tariff[2]: on sat at 06:59 tariff[1] holds too"),
        ("/tariff/3/days", json!("sun-mon"), "plant.tariff[3]: on mon at 07:00 tariff[0] holds too"),
        ("/tariff/3/days", json!("funday"), "plant.tariff[3].days: days `funday` is no weekday"),
        ("/tariff/3/days", json!(""), "plant.tariff[3].days: days `` is no weekday"),
        ("/tariff/3/hours", json!("7-8"), "plant.tariff[3].hours: hours `7-8` is no span of local time"),
        ("/tariff/3/hours", json!("00:00-24:01"), "plant.tariff[3].hours: hours `00:00-24:01` is no span"),
        ("/tariff/3/hours", json!("08:00-08:00"), "plant.tariff[3].hours: hours `08:00-08:00` is empty"),
        ("/zone", json!("Mars/Olympus"), "plant.zone: "),
        ("/from", json!("soon"), "plant.from: `soon` is no time"),
    ]);
}

#[test]
fn bad_costs_of_network_staff_and_fixed_are_refused_by_name() {
    refused(vec![
        ("/network/per_gb", json!("-1"), "plant.network.per_gb: -1.00 is negative"),
        ("/network/per_month", json!("-1"), "plant.network.per_month: -1.00 is negative"),
        ("/network/per_year", json!("1"), "plant.network.per_year: unknown field"),
        ("/operations/per_month", json!("1000000001"), "plant.operations.per_month: 1000000001.00 is above"),
        ("/fixed", json!(vec![json!({"name": "x", "amount": "1", "over_years": 1}); 257]), "plant.fixed: 257 entries"),
        ("/fixed/0/name", json!("a\u{7}"), "plant.fixed[0].name: `a\\u{7}` is empty, longer"),
        ("/fixed/0/amount", json!("-1"), "plant.fixed[0].amount: -1.00 is negative"),
        ("/fixed/0/over_tokens", json!(0), "plant.fixed[0].over_tokens: 0 tokens carry no cost"),
        ("/fixed/0/over_tokens", json!(9_999), "plant.fixed[0].over_tokens: a token would carry more than"),
        ("/fixed/0/over_tokens", Value::Null, "plant.fixed[0].over_years: `training` is spread over nothing"),
        ("/fixed/0/over_years", json!(2), "plant.fixed[0].over_tokens: `training` is spread over years and over"),
        ("/fixed/1/over_years", json!(0), "plant.fixed[1].over_years: 0 is not more than 0"),
    ]);
}

#[test]
fn a_plant_that_costs_more_than_can_be_counted_is_refused() {
    let whole = "plant: under full load the plant costs more than 4000000000 a year; check the decimal points";
    refused(vec![
        ("/equipment/1/rent_per_hour", json!("456400"), whole),
        ("/tariff/0/per_kwh", json!("951000"), whole),
    ]);
    // 456,000 an hour is 3.997 thousand million a year.
    PlantSheet::read(changed("/equipment/1/rent_per_hour", json!("456000"))).unwrap();
}
