//! The plant over time: what its minutes say agrees with its metrics, through restarts.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::history::History;
use engine::EngineConfig;
use metering::{Meter, Objectives};
use serde_json::{Value, json};
use server::{Server, ServerConfig};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::books::{ADMIN, Shop};
use crate::client::{get, post};
use crate::local::tiny_line_of;

const PROMPT: [u32; 4] = [5, 6, 7, 8];

/// A server over a real, tiny model that keeps a history in a folder.
struct Factory {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Factory {
    async fn start(folder: &Path, objectives: Objectives) -> Self {
        let meter = Arc::new(Meter::new().held_to(objectives));
        let line = tiny_line_of(EngineConfig::default(), false, &meter);
        let history = Some(Arc::new(History::open(&folder.join("history.sqlite"))));
        let plant = server::Plant { history, ..server::Plant::new(vec![Arc::new(line)], meter) };
        let config = ServerConfig { port: 0, ..ServerConfig::default() };
        let server = Server::bind(&config, plant).await.unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        Self { address, stop, task }
    }

    async fn complete(&self, prompt: &[u32], max_tokens: u32) -> u16 {
        let body = json!({
            "model": "tiny", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true
        });
        post(self.address, "/v1/completions", &body).await.status
    }

    /// What the metrics of one name say, all labels together.
    async fn metric(&self, name: &str) -> f64 {
        let text = get(self.address, "/metrics").await;
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let values =
            text.text().lines().filter(of_name).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        values.sum()
    }

    async fn history(&self) -> Value {
        let answer = get(self.address, "/admin/v1/history").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Ends as by a signal.
    async fn end(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(20), self.task).await.unwrap().unwrap();
    }
}

/// The figures of all of a history.
fn total(history: &Value) -> &Value {
    &history["total"]["figures"]
}

#[tokio::test]
async fn minutes_say_what_the_metrics_say_and_outlive_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let objectives = Objectives { e2e_ns: Some(3_600_000_000_000), ..Objectives::default() };
    let first = Factory::start(folder.path(), objectives).await;
    for tokens in [5, 7, 1] {
        assert_eq!(first.complete(&PROMPT, tokens).await, 200);
    }
    assert_eq!(first.complete(&[5; 100_000], 1).await, 400, "longer than the context");
    let mut counted = Vec::new();
    for (name, metric) in [
        ("ok", "tokenworks_requests_total"),
        ("rejected", "tokenworks_requests_rejected_total"),
        ("input_tokens", "tokenworks_input_tokens_total"),
        ("output_tokens", "tokenworks_output_tokens_total"),
        ("/ttft/count", "tokenworks_time_to_first_token_seconds_count"),
        ("/itl/count", "tokenworks_inter_token_latency_seconds_count"),
        ("/e2e/count", "tokenworks_request_duration_seconds_count"),
    ] {
        counted.push((name, first.metric(metric).await));
    }
    let busy_s = first.metric("tokenworks_busy_seconds_total").await;
    assert!(counted.iter().all(|(_, count)| *count > 0.0), "{counted:?}");
    first.end().await;

    // The part of a minute that the first one wrote at its end; the second one has no objectives.
    let second = Factory::start(folder.path(), Objectives::default()).await;
    let history = second.history().await;
    let figures = total(&history);
    for (name, count) in counted {
        let found = if name.starts_with('/') { figures.pointer(name).unwrap() } else { &figures[name] };
        assert_eq!(found.as_f64(), Some(count), "{name}: {figures}");
    }
    assert_eq!(figures["goodput"]["stated"], 3);
    assert_eq!((&figures["goodput"]["met"], &figures["goodput"]["share"]), (&json!(3), &json!(1.0)));
    assert_eq!(
        (&history["objectives"], &history["trouble"], &history["currency"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(
        (&figures["cost"], &figures["margin"], &figures["power_watts"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let seconds = history["total"]["seconds"].as_f64().unwrap();
    let busy = figures["utilisation"].as_f64().unwrap() * seconds;
    assert!((busy - busy_s).abs() < 1e-6 && 0.0 < busy && seconds < 60.0, "{busy} {busy_s} {seconds}");
    let rate = figures["output_tokens_per_second"].as_f64().unwrap();
    assert!((rate * seconds - 13.0).abs() < 1e-6, "{rate}");
    let points = history["data"].as_array().unwrap();
    let gaps = points.iter().filter(|point| point["figures"].is_null() && point["seconds"] == 0.0).count();
    assert!((60..=61).contains(&points.len()) && gaps >= points.len() - 2, "no server ran before: {gaps}");

    assert_eq!(second.complete(&PROMPT, 2).await, 200);
    second.end().await;
    let third = Factory::start(folder.path(), objectives).await;
    let history = third.history().await;
    assert_eq!((&total(&history)["ok"], &total(&history)["output_tokens"]), (&json!(4), &json!(15)));
    assert_eq!(total(&history)["goodput"]["stated"], 3, "the second one had none");
    assert_eq!(history["objectives"], json!({"ttft_seconds": null, "tpot_seconds": null, "e2e_seconds": 3600.0}));
    third.end().await;
}

#[tokio::test]
async fn goodput_is_the_same_in_the_metrics_the_snapshot_and_the_history() {
    let folder = tempfile::tempdir().unwrap();
    // One token has no time per token after the first, and meets whatever is asked of it; several never follow in a nanosecond.
    let objectives = Objectives { tpot_ns: Some(1), ..Objectives::default() };
    let factory = Factory::start(folder.path(), objectives).await;
    let snapshot = async || {
        let answer = get(factory.address, "/admin/v1/live/snapshot").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    // What is told of begins here.
    let before = snapshot().await;
    for tokens in [1, 5, 1, 3] {
        assert_eq!(factory.complete(&PROMPT, tokens).await, 200);
    }
    let stated = factory.metric("tokenworks_objectives_stated_total").await;
    let met = factory.metric("tokenworks_objectives_met_total").await;
    assert_eq!((stated, met), (4.0, 2.0));
    let mut live = before.clone();
    for _ in 0..100 {
        live = snapshot().await;
        if live["id"] != before["id"] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let counts = |goodput: &Value| (goodput["stated"].as_f64(), goodput["met"].as_f64());
    assert_eq!(counts(&live["goodput"]), (Some(stated), Some(met)), "{live}");
    // The last seconds are known to who comes later: all tokens are in their rates, each in those of five seconds at most.
    let made = async || {
        let recent = get(factory.address, "/admin/v1/live/recent").await.json();
        let rates = recent["data"].as_array().unwrap().clone();
        rates.iter().map(|one| one["output_tokens_per_second"].as_f64().unwrap()).fold(0.0, f64::max)
    };
    for _ in 0..100 {
        if made().await > 0.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(made().await > 0.0);
    factory.end().await;

    let later = Factory::start(folder.path(), objectives).await;
    let history = later.history().await;
    assert_eq!(counts(&total(&history)["goodput"]), (Some(stated), Some(met)), "{history}");
    later.end().await;
}

#[tokio::test]
async fn a_damaged_file_disturbs_no_request() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("history.sqlite"), "no database at all ".repeat(60)).unwrap();
    let factory = Factory::start(folder.path(), Objectives::default()).await;
    assert_eq!(factory.complete(&PROMPT, 3).await, 200);
    let answer = get(factory.address, "/admin/v1/history").await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (503, Some("history_closed")));
    assert!(answer.error().message.contains("history.sqlite"), "{}", answer.text());
    factory.end().await;
    assert!(std::fs::read_to_string(folder.path().join("history.sqlite")).unwrap().starts_with("no database"));
}

/// The history once this much was charged and made; the last one when that never comes.
async fn until(shop: &Shop, revenue: &str, output_tokens: u64) -> Value {
    let mut history = Value::Null;
    for _ in 0..200 {
        history = shop.admin("GET", "/history", Value::Null).await;
        if total(&history)["revenue"] == revenue && total(&history)["output_tokens"] == output_tokens {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    history
}

#[tokio::test]
async fn what_was_sold_stands_in_its_minute_for_who_may_watch() {
    let shop = Shop::open(true).await;
    let key = shop.customer().await;
    shop.admin("POST", "/payments", json!({"organisation": "acme", "amount": "5", "reference": "p1"})).await;
    // Once it is known what was sold before.
    until(&shop, "0.00", 0).await;
    for _ in 0..2 {
        assert_eq!(shop.complete(&key, 10).await.status, 200);
    }
    // Each 4 * 0.00001 + 10 * 0.00003.
    let history = until(&shop, "0.00068", 20).await;
    assert_eq!((&total(&history)["revenue"], &history["currency"]), (&json!("0.00068"), &json!("USD")), "{history}");
    assert_eq!(
        (&total(&history)["margin"], &total(&history)["output_tokens"]),
        (&Value::Null, &json!(20)),
        "no costs are kept"
    );

    let denied = shop.ask(&key, "GET", "/admin/v1/history", &Value::Null).await;
    assert_eq!((denied.status, denied.error().code.as_deref()), (403, Some("not_allowed")));
    for (query, param) in
        [("step=61", "step"), ("start_time=1", "start_time"), ("end_time=x", "end_time"), ("by=day", "by")]
    {
        let answer = shop.ask(ADMIN, "GET", &format!("/admin/v1/history?{query}"), &Value::Null).await;
        assert_eq!((answer.status, answer.error().param.as_deref()), (400, Some(param)), "{query}");
    }
}
