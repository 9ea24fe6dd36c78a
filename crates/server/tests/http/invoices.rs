//! What is charged is what the reply says, the usage report, the costs and the invoice; and who may read it.

use std::time::{Duration, SystemTime};

use economics::Nano;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::books::{ADMIN, Shop};
use crate::client::{JSON, read_until, request, send};

const COMPLETIONS: &str = "/v1/completions";
/// The id of the byte `x`, and of the token that ends an answer.
const X: &str = "125";
const END: &str = "2";

fn nano(value: &Value) -> i64 {
    value.as_str().unwrap_or_else(|| panic!("no amount: {value}")).parse::<Nano>().unwrap().0
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

impl Shop {
    /// A model with a price that rounds each line, and a plan with a discount.
    async fn sell(&self, plan: Value) {
        let tiers = json!([{"input": "1.234567 per 1M", "cached_input": "0.1 per 1M", "output": "7.654321 per 1M"}]);
        self.admin("PUT", "/prices", json!({"model": "tiny", "from": "2020-01-01T00:00:00Z", "tiers": tiers})).await;
        self.admin("PUT", "/plans", plan).await;
    }

    /// An organisation of its own that has paid `money`; gives its key.
    async fn open_account(&self, id: &str, name: &str, money: &str) -> String {
        self.admin("PUT", "/organisations", json!({"id": id, "name": name, "plan": "basic", "credit": "0"})).await;
        self.admin("PUT", "/projects", json!({"id": id, "organisation": id, "name": id})).await;
        self.admin("POST", "/payments", json!({"organisation": id, "amount": money, "reference": "first"})).await;
        let made = self.admin("POST", "/keys", json!({"id": id, "project": id, "name": id})).await;
        made["key"].as_str().unwrap().to_owned()
    }

    async fn read(&self, key: &str, path: &str) -> Value {
        let answer = self.ask(key, "GET", path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// What all reports agree was charged: (nano, prompt tokens, answer tokens, requests).
    async fn agreed(&self, key: &str, paid: i64) -> (i64, u64, u64, i64) {
        let usage = self.read(key, "/v1/usage").await;
        let (mut charged, mut input, mut output, mut requests) = (0, 0, 0, 0);
        for row in usage["data"].as_array().unwrap() {
            let sums = &row["sums"];
            let count = |meter: &str| sums["quantities"][meter].as_u64().unwrap();
            charged += nano(&sums["list"]) - nano(&sums["discount"]) - nano(&sums["credited"]);
            input += count("in_uncached") + count("in_cached");
            output += count("out_visible") + count("out_reasoning");
            requests += sums["requests"].as_i64().unwrap();
        }
        let invoice = self.read(key, "/v1/invoices/current").await;
        let lines = invoice["lines"].as_array().unwrap();
        let sum = |lines: &mut dyn Iterator<Item = &Value>| lines.map(|line| nano(&line["amount"])).sum::<i64>();
        assert_eq!(sum(&mut lines.iter().filter(|line| line["kind"] != "rounding")), charged, "{invoice}");
        assert_eq!(sum(&mut lines.iter()), nano(&invoice["total"]), "{invoice}");
        assert_eq!(nano(&invoice["total"]) % 10_000_000, 0, "whole cents: {invoice}");
        let tokens: u64 = lines.iter().filter_map(|line| line["tokens"].as_u64()).sum();
        assert_eq!(tokens, input + output, "{invoice}");

        let start = unix_seconds() - 3_600;
        let path = format!("/v1/organization/usage/completions?start_time={start}&bucket_width=1h");
        let hours = self.read(key, &path).await;
        let results = || hours["data"].as_array().unwrap().iter().flat_map(|hour| hour["results"].as_array().unwrap());
        let total = |field: &str| results().map(|result| result[field].as_u64().unwrap()).sum::<u64>();
        assert_eq!((total("input_tokens"), total("output_tokens")), (input, output), "{hours}");
        let costs = self.ask(key, "GET", &format!("/v1/organization/costs?start_time={start}"), &Value::Null).await;
        let numbers = costs.text().split("\"value\":").skip(1).map(|rest| rest.split(',').next().unwrap());
        assert_eq!(numbers.map(|number| number.parse::<Nano>().unwrap().0).sum::<i64>(), charged, "{}", costs.text());

        let standing = self.read(key, "/v1/standing").await;
        assert_eq!((nano(&standing["balance"]), nano(&standing["held"])), (paid - charged, 0), "{standing}");
        (charged, input, output, requests)
    }
}

/// A completion that ends as the scenario says: its last chunk's choice and the usage, whole or streamed.
async fn complete(shop: &Shop, key: &str, (first, mut body): (u32, Value), streamed: bool) -> (Value, Value) {
    body["model"] = json!("tiny");
    body["prompt"] = json!([first, 6, 7, 8]);
    body["temperature"] = json!(0);
    if streamed {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    let answer = shop.ask(key, "POST", COMPLETIONS, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    if !streamed {
        let whole = answer.json();
        return (whole["choices"][0].clone(), whole["usage"].clone());
    }
    let frames: Vec<Value> = answer.frames().iter().filter_map(|frame| serde_json::from_str(frame).ok()).collect();
    let ended = |frame: &&Value| !frame["choices"][0]["finish_reason"].is_null();
    let choice = frames.iter().find(ended).unwrap()["choices"][0].clone();
    (choice, frames.last().unwrap()["usage"].clone())
}

#[tokio::test]
async fn reply_usage_costs_and_invoice_say_the_same_however_an_answer_ends() {
    let shop = Shop::open(true).await;
    shop.sell(json!({"id": "basic", "discount_permille": 125})).await;
    let always_x = json!({X: 100});
    // Prompts begin with a token of their own, so that none finds another's in the prefix cache.
    let mut first = 20;
    for (name, money, body, finish, stop) in [
        ("stop", "1", json!({"max_tokens": 9, "logit_bias": {END: 100}}), "stop", Value::Null),
        ("length", "1", json!({"max_tokens": 9, "ignore_eos": true}), "length", Value::Null),
        ("string", "1", json!({"max_tokens": 40, "logit_bias": always_x, "stop": "xxxxx"}), "stop", Value::Null),
        ("budget", "0.00005", json!({"max_tokens": 100, "ignore_eos": true}), "length", json!("budget")),
    ] {
        let mut charges = Vec::new();
        for streamed in [false, true] {
            let id = format!("{name}-{streamed}");
            let key = shop.open_account(&id, name, money).await;
            first += 1;
            let (choice, usage) = complete(&shop, &key, (first, body.clone()), streamed).await;
            assert_eq!((&choice["finish_reason"], &choice["tokenworks"]["stop"]), (&json!(finish), &stop), "{id}");
            let agreed = shop.agreed(&key, money.parse::<Nano>().unwrap().0).await;
            let said = (
                nano(&usage["charged"]["amount"]),
                usage["prompt_tokens"].as_u64().unwrap(),
                usage["completion_tokens"].as_u64().unwrap(),
                1,
            );
            assert_eq!(agreed, said, "{id}");
            assert!(said.0 > 0 && said.1 == 4, "{usage}");
            charges.push(said);
        }
        assert_eq!(charges[0], charges[1], "{name}: streamed and whole");
    }
}

#[tokio::test]
async fn who_goes_away_is_charged_what_the_reports_say() {
    let shop = Shop::open(true).await;
    shop.sell(json!({"id": "basic"})).await;
    let key = shop.open_account("gone", "Gone", "1").await;
    let body = json!({
        "model": "tiny", "prompt": [5, 6, 7, 8], "max_tokens": 1500, "temperature": 0, "logit_bias": {X: 100}, "stream": true
    });
    let bearer = format!("Authorization: Bearer {key}");
    let bytes = request("localhost", "POST", COMPLETIONS, &[JSON, &bearer], body.to_string().as_bytes());
    let mut stream = TcpStream::connect(shop.address).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let seen = read_until(&mut stream, "\"text\":\"x").await;
    let received = u64::try_from(seen.matches("\"text\":\"x").count()).unwrap();
    drop(stream);
    for _ in 0..2_000 {
        if shop.read(&key, "/v1/usage").await["data"] != json!([]) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (charged, input, output, requests) = shop.agreed(&key, 1_000_000_000).await;
    assert_eq!((input, requests), (4, 1));
    assert!(
        charged > 0 && received >= 1 && (received..1_500).contains(&output),
        "{received} received, {output} charged"
    );
}

#[tokio::test]
async fn an_invoice_is_json_and_pdf_for_the_customer_and_the_plant() {
    let shop = Shop::open(true).await;
    shop.sell(json!({"id": "basic", "pool": {"tokens": 6}, "calendar": {"zone": "Asia/Shanghai"}})).await;
    let key = shop.open_account("zhisuan", "上海智算科技有限公司", "1").await;
    let body = json!({"model": "tiny", "prompt": [5, 6, 7, 8], "max_tokens": 5, "temperature": 0, "ignore_eos": true});
    let answer = shop.ask(&key, "POST", COMPLETIONS, &body).await.json();
    assert_eq!(answer["usage"]["charged"]["pool_tokens"], "6");
    let credit = json!({"request": answer["id"], "amount": "0.00001", "reference": "c1", "reason": "太慢"});
    shop.admin("POST", "/credits", credit).await;

    let list = shop.read(&key, "/v1/invoices").await;
    let (first, all) = (&list["data"][0], list["data"].as_array().unwrap().len());
    let id = first["id"].as_str().unwrap();
    assert_eq!((all, &first["state"], &first["number"]), (1, &json!("open"), &json!(format!("zhisuan-{id}"))));
    assert_eq!(first["period"]["start"], format!("{id}T00:00:00+08:00"));
    let invoice = shop.read(&key, &format!("/v1/invoices/{id}")).await;
    assert_eq!(invoice, shop.read(&key, "/v1/invoices/current").await);
    assert_eq!(invoice, shop.admin("GET", &format!("/organisations/zhisuan/invoices/{id}"), Value::Null).await);
    assert_eq!(list, shop.admin("GET", "/organisations/zhisuan/invoices", Value::Null).await);
    assert_eq!((&invoice["seller"], &invoice["total"]), (&json!("Tokenworks plant"), &first["total"]));
    let kinds: Vec<_> =
        invoice["lines"].as_array().unwrap().iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["usage", "included", "included", "credit", "rounding"], "{invoice}");
    let (usage, credit) = (&invoice["lines"][0], &invoice["lines"][3]);
    // 3 * 7.654321 micro-units, rounded to nano-units.
    assert_eq!((&usage["rate"], &usage["amount"]), (&json!("7.654321 per 1M"), &json!("0.000022963")));
    assert_eq!((&credit["reason"], &credit["amount"]), (&json!("太慢"), &json!("-0.00001")));
    assert!(answer["id"].as_str().unwrap().ends_with(credit["request"].as_str().unwrap()));

    let bearer = format!("Authorization: Bearer {key}");
    for (path, accept) in [("/v1/invoices/current.pdf", "*/*"), ("/v1/invoices/current", "application/pdf")] {
        let pdf = send(shop.address, "GET", path, &[&bearer, &format!("Accept: {accept}")], b"").await;
        assert_eq!((pdf.status, pdf.header("content-type")), (200, Some("application/pdf")), "{path}");
        let name = format!("inline; filename=\"zhisuan-{id}.pdf\"");
        assert_eq!((pdf.header("content-disposition"), pdf.header("vary")), (Some(name.as_str()), Some("accept")));
        assert!(pdf.body.starts_with(b"%PDF-1.7"));
    }

    let by_key = format!("/v1/organization/usage/completions?start_time={}&group_by[]=api_key_id", unix_seconds() - 60);
    let page = shop.read(&key, &by_key).await;
    let last = page["data"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["results"][0]["api_key_id"], &last["results"][0]["model"]), (&json!("zhisuan"), &Value::Null));
    assert_eq!((&page["object"], &page["has_more"], &page["next_page"]), (&json!("page"), &json!(false), &Value::Null));
}

#[tokio::test]
async fn reports_are_for_those_who_may_read_them_and_refusals_say_why() {
    let shop = Shop::open(true).await;
    shop.sell(json!({"id": "basic"})).await;
    let key = shop.open_account("one", "One", "1").await;
    let asks = json!({"id": "blind", "project": "one", "name": "blind", "scopes": ["inference"]});
    let blind = shop.admin("POST", "/keys", asks).await["key"].as_str().unwrap().to_owned();
    let costs = format!("/v1/organization/costs?start_time={}", unix_seconds());
    for path in ["/v1/usage", "/v1/standing", "/v1/invoices", "/v1/invoices/current.pdf", &costs] {
        let answer = shop.ask(&blind, "GET", path, &Value::Null).await;
        assert_eq!((answer.status, answer.error().code.as_deref()), (403, Some("not_allowed")), "{path}");
        assert_eq!(shop.ask(&key, "GET", path, &Value::Null).await.status, 200, "{path}");
    }
    let admin = "/admin/v1/organisations";
    for (who, path, status, part) in [
        (&key[..], format!("{admin}/one/invoices"), 403, "scope `plant`"),
        (&key[..], format!("{admin}/house/invoices/current"), 403, "scope `plant`"),
        (ADMIN, format!("{admin}/none/invoices"), 404, "no organisation `none`"),
        (ADMIN, format!("{admin}/one/invoices/2020-01-01"), 404, "no invoice `2020-01-01`"),
        (&key[..], "/v1/invoices/2020-01-01.pdf".into(), 404, "no invoice `2020-01-01`"),
        (&key[..], "/v1/invoices/%ff".into(), 404, "there is no"),
        (&key[..], "/v1/statement".into(), 404, "there is no"),
        (&key[..], "/v1/organization/costs".into(), 400, "`start_time` is missing"),
        (&key[..], "/v1/organization/usage/completions?start_time=0&bucket_width=1m".into(), 400, "by the hour"),
        (&key[..], "/v1/organization/usage/completions?start_time=0&group_by=user_id".into(), 400, "user_id"),
    ] {
        let answer = shop.ask(who, "GET", &path, &Value::Null).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.error().message.contains(part), "{path}: {}", answer.text());
    }
    assert_eq!(shop.read(ADMIN, "/v1/invoices/current").await["customer"]["id"], "house");
}
