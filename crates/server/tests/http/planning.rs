//! The planner, comparisons and settings over HTTP.

use economics::Currency;
use economics::plant::{Milli, PlantSheet};
use serde_json::{Value, json};

use crate::books::{ADMIN, Shop};
use crate::costs::{answered, post_costs, read};

/// A plan that gives all figures.
fn asked() -> Value {
    json!({
        "machines": 2, "line": {"tokens_per_second": 1000}, "load": {"utilisation": 0.5}, "input_share": 0.75,
        "price": {"input": "16 per 1M", "output": "32 per 1M"},
        "plant": {"rent_per_hour": "3.6", "fixed_per_month": "73", "operations_per_month": "0", "idle_watts": 0,
                  "full_watts": "100", "per_kwh": "0.30"},
    })
}

#[tokio::test]
async fn a_plan_rests_on_the_sheet_in_force_and_on_what_was_measured() {
    let shop = Shop::open(true).await;
    let near = |found: &Value, expected: f64| {
        let found = found.as_f64().unwrap_or_else(|| panic!("{found} is not {expected}"));
        assert!((found / expected - 1.0).abs() < 1e-6, "{found} is not {expected}");
    };
    let plan = shop.admin("POST", "/plan", asked()).await;
    assert_eq!((&plan["sheet"], &plan["measured"]), (&json!({"version": null, "example": true}), &json!(false)));
    near(&plan["price_per_million"], 20.0);
    near(&plan["plant"]["machine_per_second"], 0.001);
    near(&plan["month"]["tokens"], 1000.0 * 2_628_000.0);
    near(&plan["marginal_cost_per_million"], 100.0 * 0.30 / 3.6e6 * 1000.0);
    assert_eq!(plan["curve"].as_array().unwrap().len(), 21);
    assert_eq!((&plan["curve"][10], &plan["one_more_machine"]["machines"]), (&plan["month"], &json!(3)));

    // Without a speed it takes the measured one: seven tokens in half a second.
    let mut measured = asked();
    measured["line"] = json!({});
    let refused = shop.ask(ADMIN, "POST", "/admin/v1/plan", &measured).await;
    assert_eq!((refused.status, refused.error().param.as_deref()), (400, Some("line.tokens_per_second")));
    assert!(refused.error().message.contains("none measured in the last 30 days"), "{}", refused.text());
    let (_, id) = answered(&shop).await;
    post_costs(&shop, &id);
    let mut sheet = PlantSheet::example(&Currency::of("USD").unwrap());
    sheet.idle_watts = Milli(9_000);
    assert_eq!(shop.books.take_plant_sheet(&sheet, 1).unwrap(), 1);
    let plan = shop.admin("POST", "/plan", measured).await;
    near(&plan["tokens_per_second"], 14.0);
    assert_eq!((&plan["sheet"]["version"], &plan["measured"]), (&json!(1), &json!(true)));
    let statement = shop.admin("GET", "/statement", Value::Null).await;
    assert_eq!(statement["machine_tokens_per_second"], plan["tokens_per_second"]);
}

#[tokio::test]
async fn a_plan_that_cannot_be_is_refused_by_the_field() {
    let shop = Shop::open(true).await;
    for (place, value, param, part) in [
        ("/machines", json!(0), "machines", "0 cannot be planned"),
        ("/machines", json!(1.5), "machines", "a whole number"),
        ("/input_share", json!(2), "input_share", "2 is not a share"),
        ("/load", json!({"utilisation": -1}), "load.utilisation", "-1 is negative"),
        ("/load", json!({"share": 1}), "load", "unknown variant"),
        ("/line/tokens_per_second", json!(0), "line.tokens_per_second", "not greater than 0"),
        ("/line", json!({"peak_tflops": 3}), "line.gflop_per_token", "missing"),
        ("/price/input", json!("cheap"), "price.input", "per"),
        ("/price", json!({"input": "1 per 1M"}), "price.output", "is missing"),
        ("/plant/rent_per_hour", json!("-1"), "plant.rent_per_hour", "is negative"),
        ("/plant/idle_watts", json!(200), "plant.full_watts", "are less than `idle_watts`"),
        ("/plant/fixed_per_month", json!("-1000"), "plant.fixed_per_month", "is negative"),
        ("/plant/per_kwh", json!("-1"), "plant.per_kwh", "is negative"),
        ("/plant", json!({"rent": "1"}), "plant.rent", "unknown field"),
    ] {
        let mut plan = asked();
        *plan.pointer_mut(place).unwrap() = value.clone();
        let answer = shop.ask(ADMIN, "POST", "/admin/v1/plan", &plan).await;
        let error = answer.error();
        assert_eq!((answer.status, error.param.as_deref()), (400, Some(param)), "{place} {value}: {}", answer.text());
        assert!(error.message.contains(part), "{}", error.message);
    }
    let key = shop.customer().await;
    for (method, path) in [("POST", "/admin/v1/plan"), ("GET", "/admin/v1/comparison"), ("GET", "/admin/v1/settings")] {
        let body = if method == "POST" { asked() } else { Value::Null };
        assert_eq!(shop.ask(&key, method, path, &body).await.status, 403, "{path}");
    }
}

#[tokio::test]
async fn periods_are_compared_and_empty_ones_refused() {
    let shop = Shop::open(true).await;
    let (_, id) = answered(&shop).await;
    post_costs(&shop, &id);
    let statement = shop.admin("GET", "/statement", Value::Null).await;
    let span = |name: &str| statement[name].as_i64().unwrap();
    let (from, to) = (span("start_time"), span("end_time"));
    let path = format!("/admin/v1/comparison?start_time={from}&end_time={to}");
    let same = read(&shop, &format!("{path}&compare_start_time={from}&compare_end_time={to}")).await;
    assert_eq!(same["earlier"], same["later"]);
    for field in ["revenue", "cost", "margin", "sheet", "utilisation_permille"] {
        assert_eq!(same["later"][field], statement[field], "{field}");
    }
    assert_eq!((&same["later"]["tokens"], &same["later"]["requests"]), (&json!(7), &json!(1)));
    let measures = ["total_cost", "total_margin", "cost_per_million", "margin_per_million"];
    for (change, measure) in same["changes"].as_array().unwrap().iter().zip(measures) {
        assert_eq!((&change["measure"], &change["change"]), (&json!(measure), &json!("0.00")));
    }
    assert_eq!(same["changes"][0]["to"], statement["cost"]);
    for (query, param, part) in [
        (format!("compare_start_time={}&compare_end_time={}", from - 86_400, from), "compare_start_time", "earlier"),
        (format!("compare_start_time={from}"), "compare_end_time", "is missing"),
        (format!("compare_start_time={to}&compare_end_time={from}"), "compare_start_time", "before the end"),
    ] {
        let answer = shop.ask(ADMIN, "GET", &format!("{path}&{query}"), &Value::Null).await;
        let error = answer.error();
        assert_eq!((answer.status, error.param.as_deref()), (400, Some(param)), "{query}");
        assert!(error.message.contains(part), "{}", error.message);
    }
}

#[tokio::test]
async fn settings_are_the_sheet_in_force_and_the_objectives() {
    let shop = Shop::open(true).await;
    let none = shop.admin("GET", "/settings", Value::Null).await;
    assert_eq!((&none["plant"], &none["versions"]), (&Value::Null, &json!([])));
    assert_eq!(none["objectives"], Value::Null);
    let example = PlantSheet::example(&Currency::of("USD").unwrap());
    shop.books.take_plant_sheet(&example, 1_000).unwrap();
    // As its operator would write it, it is the example no more.
    let own: Value = json!({"idle_watts": 10, "full_watts": 30, "pue": 1.2, "carbon_g_per_kwh": 400, "tariff": [{"per_kwh": "0.20"}],
                            "equipment": [{"name": "node", "rent_per_hour": "2"}], "operations": {"per_month": "730.5"}});
    let own = PlantSheet::read(own).unwrap();
    shop.books.take_plant_sheet(&own, 2_000).unwrap();
    shop.books.take_plant_sheet(&own, 3_000).unwrap();
    let settings = shop.admin("GET", "/settings", Value::Null).await;
    assert_eq!(
        settings["versions"],
        json!([{"version": 2, "at_ms": 2_000, "example": false}, {"version": 1, "at_ms": 1_000, "example": true}])
    );
    let plant = &settings["plant"];
    assert_eq!((&plant["version"], &plant["example"], &plant["per_kwh"]), (&json!(2), &json!(false), &json!("0.20")));
    assert_eq!((&plant["sheet"]["pue"], &plant["sheet"]["equipment"][0]["name"]), (&json!("1.2"), &json!("node")));
    let hourly = |source: &str| {
        let rows = plant["standing_per_hour"].as_array().unwrap();
        rows.iter().find(|row| row["source"] == source).unwrap()["cost"].clone()
    };
    assert_eq!((hourly("rent"), hourly("operations"), hourly("fixed")), (json!("2.00"), json!("1.00"), json!("0.00")));
}
