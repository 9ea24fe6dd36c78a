//! Costs, margins and the plant's statement over HTTP: who may read them, that they add up, what is refused.

use std::time::{SystemTime, UNIX_EPOCH};

use economics::books::cost_detail::Traffic;
use economics::books::costs::{Accountant, Finished, Interval};
use economics::books::detail::{Context, Settlement};
use economics::plant::{Plant, PlantSheet};
use economics::{Currency, Nano};
use ledger::EntryId;
use metering::energy::{Energy, EnergySource};
use metering::intervals::{Holder, Taker, Usage};
use serde_json::{Value, json};
use service::entry_id;

use crate::books::{ADMIN, Shop};

const SECOND_NS: u64 = 1_000_000_000;

/// Posts what a second cost in which the answer `id` had half of the plant, a tenth of it for guesses that were rejected.
pub(crate) fn post_costs(shop: &Shop, id: &str) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_ms = i64::try_from(since.as_millis()).unwrap();
    let id = EntryId(entry_id(id));
    let settled = shop.books.ledger().entry_by_id(id).unwrap().unwrap();
    let settled = Settlement::read(&settled).unwrap();
    let context: Context = settled.context;
    let plant = Plant::new(PlantSheet::example(&Currency::of("USD").unwrap())).unwrap();
    let mut accountant = Accountant::open(&shop.books, (plant, 1), now_ms).unwrap();
    let holder = Holder { line: 0, request: 1 };
    let busy = [(1, 2 * SECOND_NS / 5), (2, SECOND_NS / 10)];
    let busy = busy.map(|(purpose, ns)| (Taker::Request(holder, purpose), ns)).to_vec();
    let energy = Energy {
        total_uj: 18_000_000,
        idle_uj: 8_000_000,
        active_uj: 10_000_000,
        interval_ns: SECOND_NS,
        busy_ns: SECOND_NS / 2,
        source: EnergySource::Estimated,
    };
    let traffic = Traffic { received: 300, sent: 2_000_000 };
    let finished = vec![Finished { holder, id, context, quantities: settled.quantities, traffic }];
    let usage = Usage { busy, ended: Vec::new() };
    for batch in accountant.close(Interval { from_ms: now_ms - 1_000, to_ms: now_ms, energy, usage, finished }) {
        shop.books.ledger().submit(&batch).unwrap();
    }
    shop.books.ledger().flush(std::time::Duration::from_secs(30)).unwrap();
}

pub(crate) fn nano(value: &Value) -> i64 {
    value.as_str().unwrap_or_else(|| panic!("{value} is no amount")).parse::<Nano>().unwrap().0
}

pub(crate) async fn read(shop: &Shop, path: &str) -> Value {
    let answer = shop.ask(ADMIN, "GET", path, &Value::Null).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// A customer, its key, and the answer it got.
pub(crate) async fn answered(shop: &Shop) -> (String, String) {
    let key = shop.customer().await;
    shop.admin("POST", "/payments", json!({"organisation": "acme", "amount": "5", "reference": "p"})).await;
    let answer = shop.complete(&key, 3).await.json();
    (key, answer["id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_a_request_cost_is_told_line_by_line_once_it_is_known() {
    let shop = Shop::open(true).await;
    let (_, id) = answered(&shop).await;
    let path = format!("/v1/costs/{id}");
    let early = shop.ask(ADMIN, "GET", &path, &Value::Null).await;
    assert_eq!(early.status, 404);
    assert!(early.error().message.contains("is not known yet"), "{}", early.text());
    let unknown = shop.ask(ADMIN, "GET", "/v1/costs/chatcmpl-1", &Value::Null).await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.error().message.contains("there is no request `chatcmpl-1`"), "{}", unknown.text());

    post_costs(&shop, &id);
    let cost = read(&shop, &path).await;
    assert_eq!(
        (&cost["organisation"], &cost["tag"], &cost["currency"]),
        (&json!("acme"), &json!("night"), &json!("USD"))
    );
    let lines = cost["lines"].as_array().unwrap();
    let words: Vec<_> = lines.iter().map(|line| line["purpose"].as_str().unwrap()).collect();
    assert_eq!(words, ["prefill", "decode", "rejected", "recomputed"]);
    assert_eq!(lines[1]["machine_ns"], 2 * SECOND_NS / 5);
    let sum: i64 = lines.iter().map(|line| nano(&line["marginal"]) + nano(&line["standing"])).sum();
    assert!(sum > 0);
    assert_eq!(nano(&cost["attributed"]), sum + nano(&cost["per_token"]) + nano(&cost["network"]));
    assert_eq!((&cost["bytes"]["sent"], nano(&cost["network"])), (&json!(2_000_000), 20_003));
    assert_eq!((nano(&cost["wasted"]), &cost["tokens"]["out_visible"]), (nano(&lines[2]["attributed"]), &json!(3)));
}

#[tokio::test]
async fn costs_margins_and_the_statement_agree() {
    let shop = Shop::open(true).await;
    let (_, id) = answered(&shop).await;
    post_costs(&shop, &id);
    let one = read(&shop, &format!("/v1/costs/{id}")).await;
    let costs = read(&shop, "/v1/costs?group_by=hour,key,organisation").await;
    let row = &costs["data"][0];
    assert_eq!((costs["object"].as_str(), costs["data"].as_array().unwrap().len()), (Some("costs"), 1));
    assert_eq!((&row["organisation"], &row["key"], &row["requests"]), (&json!("acme"), &json!("k1"), &json!(1)));
    assert_eq!((&row["attributed"], &row["wasted"]), (&one["attributed"], &one["wasted"]));
    assert_eq!(row["machine_ns"]["rejected"], SECOND_NS / 10);
    assert!(row["hour"].as_str().unwrap().ends_with(":00:00Z") && row.get("model").is_none(), "{row}");

    let margins = read(&shop, "/v1/margins?group_by=model,day").await;
    let row = &margins["data"][0];
    // Four prompt tokens at 0.00001 and three made at 0.00003.
    assert_eq!((&row["model"], nano(&row["billed"])), (&json!("tiny"), 130_000));
    assert_eq!(nano(&row["margin"]), 130_000 - nano(&one["attributed"]));
    let tokens = ["in_uncached", "out_visible"].map(|kind| row["charged_tokens"][kind].clone());
    assert_eq!((&row["charged_requests"], tokens), (&json!(1), [json!(4), json!(3)]));

    let statement = shop.admin("GET", "/statement", Value::Null).await;
    assert_eq!((&statement["revenue"], &statement["attributed"]), (&row["billed"], &one["attributed"]));
    let parts = ["attributed", "idle", "in_progress"].map(|field| nano(&statement[field]));
    assert_eq!(nano(&statement["cost"]), parts.iter().sum::<i64>());
    let sources = statement["sources"].as_array().unwrap();
    assert_eq!(sources.iter().map(|row| nano(&row["cost"])).sum::<i64>(), nano(&statement["cost"]));
    assert_eq!(nano(&statement["margin"]), 130_000 - nano(&statement["cost"]));
    assert_eq!((&statement["utilisation_permille"], &statement["energy_uj"]), (&json!(500), &json!(18_000_000)));
    assert_eq!(
        (&statement["uj_per_output_token"], &statement["models"][0]["model"]),
        (&json!(6_000_000), &json!("tiny"))
    );
    // Of exactly the last hour, from its entries; of the hour before it there are none.
    let now_s = i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap() + 2;
    let exactly = |from_s: i64, to_s: i64| format!("/statement?start_time={from_s}&end_time={to_s}&exact=true");
    let hour = shop.admin("GET", &exactly(now_s - 3_600, now_s), Value::Null).await;
    assert_eq!((&hour["exact"], &hour["start_time"]), (&json!(true), &json!(now_s - 3_600)));
    for field in ["revenue", "cost", "attributed", "models", "sheet", "products"] {
        assert_eq!(hour[field], statement[field], "{field}");
    }
    assert_eq!(hour["value"]["requests"], 1);
    let before = shop.admin("GET", &exactly(now_s - 7_200, now_s - 3_600), Value::Null).await;
    assert_eq!((&before["cost"], &before["value"]["requests"]), (&json!("0.00"), &json!(0)));
    let sheet = json!({"version": 1, "versions": [1], "example": true});
    let tfp = read(&shop, "/v1/tfp").await;
    for (answer, name) in
        [(&one, "one"), (&costs, "costs"), (&margins, "margins"), (&statement, "statement"), (&tfp, "tfp")]
    {
        assert_eq!(answer["sheet"], sheet, "{name}");
    }
    assert_eq!((&tfp["data"][0]["cost"], &tfp["data"][0]["costed"]), (&one["attributed"], &json!(1.0)));
    let span = |name: &str| statement[name].as_i64().unwrap();
    let index = read(
        &shop,
        &format!("/admin/v1/tfp-index?compare_start_time={}&compare_end_time={}", span("start_time"), span("end_time")),
    )
    .await;
    assert_eq!((&index["tfp"], &index["inputs"]["coverage"]), (&json!(1.0), &json!([1.0, 1.0])), "a period and itself");
    let speed = index["plant_value"]["compute_tokens_per_second"][0].as_f64().unwrap();
    assert!((speed - 14.0).abs() < 1e-9, "seven tokens in half a second: {index}");
    assert!(index["plant_value"]["reason"].as_str().unwrap().contains("outcomes"), "{index}");
    let none = shop.admin("GET", "/statement?start_time=0&end_time=86400", Value::Null).await;
    assert_eq!((&none["cost"], &none["per_million"]["full"]), (&json!("0.00"), &Value::Null));
}

#[tokio::test]
async fn customers_do_not_read_costs_and_wrong_words_are_named() {
    let shop = Shop::open(true).await;
    let (key, id) = answered(&shop).await;
    for path in ["/v1/costs", "/v1/margins", "/admin/v1/statement", &format!("/v1/costs/{id}")] {
        let answer = shop.ask(&key, "GET", path, &Value::Null).await;
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.error().message.contains("scope `plant`"), "{}", answer.text());
    }
    for (path, param, part) in [
        ("/v1/costs?group_by=price", "group_by", "organisation, team, project"),
        ("/v1/margins?start_time=5&end_time=4", "start_time", "before"),
        ("/v1/margins?since=1", "since", "unrecognized"),
        ("/admin/v1/statement?end_time=soon", "end_time", "Unix seconds"),
        ("/admin/v1/statement?group_by=day", "group_by", "unrecognized"),
    ] {
        let answer = shop.ask(ADMIN, "GET", path, &Value::Null).await;
        let error = answer.error();
        assert_eq!((answer.status, error.param.as_deref()), (400, Some(param)), "{path}");
        assert!(error.message.contains(part), "{}", error.message);
    }
}
