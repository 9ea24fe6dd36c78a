//! Customers over HTTP: made, served, charged, stopped at the exact token, given back, revoked.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::history::History;
use economics::Currency;
use economics::books::{Books, BootstrapKey, Settings, Steps};
use engine::EngineConfig;
use ledger::StoreSpec;
use metering::Journal;
use serde_json::{Value, json};
use server::{KeyConfig, Server, ServerConfig, hash_key};
use service::{Charging, FixedPool};
use traces::Traces;

use crate::client::{Answer, JSON, send};
use crate::local::tiny_line;

const SECRET: &[u8] = b"sixteen bytes at least";
pub(crate) const ADMIN: &str = "tw-admin";

/// A server with books and a real, tiny model.
pub(crate) struct Shop {
    pub(crate) address: SocketAddr,
    /// Where the link of the first admin leads, without the address.
    pub(crate) claim: Option<String>,
    pub(crate) books: Arc<Books>,
    pub(crate) folder: tempfile::TempDir,
}

/// Books in a folder that sell one model.
pub(crate) fn open_books(folder: &Path, bootstrap: Vec<BootstrapKey>, model: &str) -> Arc<Books> {
    let settings = Settings {
        store: StoreSpec::Sqlite(folder.join("books.db")),
        writer: 0,
        currency: Currency::of("USD").unwrap(),
        secret: SECRET.to_vec(),
        bootstrap,
        steps: Steps::default(),
    };
    let books = Books::open(settings, 0).unwrap();
    books.serve_models(&[model.to_owned()], 0).unwrap();
    books
}

/// The last requests, with texts as the books say.
fn traces(folder: &Path, books: &Arc<Books>) -> Traces {
    let books = Arc::clone(books);
    let days = move |project: &str| Some(books.directory().project(project)?.store_content?.days);
    Traces::start(&folder.join("traces.sqlite"), traces::Settings { keep: 100, keep_days: 7 }, Arc::new(days))
}

impl Shop {
    /// With the key [`ADMIN`] in the configuration, or without keys.
    pub(crate) async fn open(keyed: bool) -> Self {
        Self::open_over(tempfile::tempdir().unwrap(), keyed).await
    }

    /// The same over a folder that is there.
    pub(crate) async fn open_over(folder: tempfile::TempDir, keyed: bool) -> Self {
        let hash = hash_key(SECRET, ADMIN);
        let bootstrap = BootstrapKey { name: "ops".into(), hash: hash.parse().unwrap(), max_priority: 0 };
        let books = open_books(folder.path(), if keyed { vec![bootstrap] } else { Vec::new() }, "tiny");
        let (journal, _) = Journal::open(&folder.path().join("journal"), Duration::from_millis(50)).unwrap();
        let charging = Arc::new(Charging::start(Arc::clone(&books), journal).unwrap());
        let (line, meter) = tiny_line(EngineConfig::default(), false);
        let mut config = ServerConfig { port: 0, ..ServerConfig::default() };
        if keyed {
            config.keys = vec![KeyConfig { name: "ops".into(), hash, max_priority: 0 }];
            config.key_secret = SECRET.to_vec();
        }
        let traces = Arc::new(traces(folder.path(), &books));
        let lines = vec![Arc::new(line.charged(Arc::clone(&charging)).traced(Arc::clone(&traces))) as _];
        let answers = Some(folder.path().join("answers.db"));
        let pool = Arc::new(FixedPool::new(lines));
        let history = History::open(&folder.path().join("history.sqlite")).with_length(Duration::from_millis(200));
        let plant = server::Plant {
            pool,
            meter,
            books: Some(Arc::clone(&books)),
            charging: Some(charging),
            answers,
            traces: Some(traces),
            history: Some(Arc::new(history)),
        };
        let server = Server::bind(&config, plant).await.unwrap();
        let address = server.local_addr();
        let claim = server.claim_link().unwrap().map(|link| link.strip_prefix(&server.url()).unwrap().to_owned());
        tokio::spawn(server.run(std::future::pending()));
        Self { address, claim, books, folder }
    }

    pub(crate) async fn ask(&self, key: &str, method: &str, path: &str, body: &Value) -> Answer {
        let bearer = format!("Authorization: Bearer {key}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        send(self.address, method, path, &[JSON, &bearer], body.as_bytes()).await
    }

    /// By the admin; it must be done.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.ask(ADMIN, method, &format!("/admin/v1{path}"), &body).await;
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()
    }

    /// A prepaid customer with a plan, a price and a key; gives the key.
    pub(crate) async fn customer(&self) -> String {
        let price = json!({
            "model": "tiny", "from": "2020-01-01T00:00:00Z", "tiers": [{"input": "10 per 1M", "output": "30 per 1M"}]
        });
        self.admin("PUT", "/prices", price).await;
        self.admin("PUT", "/plans", json!({"id": "basic"})).await;
        self.admin("PUT", "/organisations", json!({"id": "acme", "name": "Acme 智算", "plan": "basic", "credit": "0"}))
            .await;
        self.admin("PUT", "/projects", json!({"id": "web", "organisation": "acme", "name": "Web"})).await;
        let limits = json!({"limits": {"requests_per_minute": 5}});
        let made =
            self.admin("POST", "/keys", json!({"id": "k1", "project": "web", "name": "web", "bounds": limits})).await;
        assert!(made["record"].get("hash").is_none(), "{made}");
        made["key"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn complete(&self, key: &str, max_tokens: u32) -> Answer {
        let body = json!({
            "model": "tiny", "prompt": [5, 6, 7, 8], "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true,
            "metadata": {"tag": "night"}
        });
        self.ask(key, "POST", "/v1/completions", &body).await
    }
}

#[tokio::test]
async fn a_customer_is_served_charged_stopped_refunded_and_revoked() {
    let shop = Shop::open(true).await;
    let key = shop.customer().await;
    let refused = shop.complete(&key, 1).await;
    assert_eq!((refused.status, refused.error().code.as_deref()), (402, Some("insufficient_quota")));

    // Four prompt tokens and seven made: 4 * 0.00001 + 7 * 0.00003, and a little that pays for no token more.
    for repeated in [false, true] {
        let payment = json!({"organisation": "acme", "amount": "0.00026", "reference": "p1"});
        assert_eq!(shop.admin("POST", "/payments", payment).await["repeated"], repeated);
    }
    let answer = shop.complete(&key, 100).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("5"));
    let body = answer.json();
    assert_eq!(
        (&body["choices"][0]["finish_reason"], &body["choices"][0]["tokenworks"]["stop"]),
        (&json!("length"), &json!("budget"))
    );
    assert_eq!(body["usage"]["completion_tokens"], 7);
    assert_eq!(body["usage"]["charged"], json!({"amount": "0.00025", "currency": "USD", "pool_tokens": "0"}));
    assert_eq!(shop.complete(&key, 1).await.status, 402);

    let usage = shop.ask(&key, "GET", "/v1/usage", &Value::Null).await.json();
    let row = &usage["data"][0];
    assert_eq!((usage["data"].as_array().unwrap().len(), &row["tag"], &row["key"]), (1, &json!("night"), &json!("k1")));
    assert_eq!((&row["sums"]["list"], &row["sums"]["quantities"]["out_visible"]), (&json!("0.00025"), &json!(7)));
    let standing = shop.ask(&key, "GET", "/v1/standing", &Value::Null).await.json();
    assert_eq!((&standing["balance"], &standing["available"]), (&json!("0.00001"), &json!("0.00001")));

    let credit = json!({"request": body["id"], "amount": "0.00025", "reference": "c1", "reason": "slow"});
    shop.admin("POST", "/credits", credit.clone()).await;
    shop.admin("POST", "/credits", credit).await;
    let standing = shop.admin("GET", "/organisations/acme/standing", Value::Null).await;
    assert_eq!((&standing["balance"], &standing["held"]), (&json!("0.00026"), &json!("0.00")));

    let rotated = shop.admin("POST", "/keys/k1/rotate", json!({})).await["key"].as_str().unwrap().to_owned();
    assert_eq!(shop.complete(&key, 1).await.status, 401, "the old text");
    assert_eq!(shop.complete(&rotated, 1).await.status, 200);
    shop.admin("DELETE", "/keys/k1", Value::Null).await;
    assert_eq!(shop.complete(&rotated, 1).await.status, 401, "at once");

    let audit = shop.admin("GET", "/audit", Value::Null).await;
    let last = audit["data"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["actor"], &last["record"]), (&json!("config/ops"), &json!("key k1")));
    assert_eq!((&last["before"]["revoked"], &last["after"]["revoked"]), (&json!(false), &json!(true)));
    assert!(shop.admin("GET", "/verify", Value::Null).await["entries"].as_u64().unwrap() > 10);
}

#[tokio::test]
async fn limits_are_told_and_what_is_wrong_is_named() {
    let shop = Shop::open(true).await;
    let key = shop.customer().await;
    shop.admin("POST", "/payments", json!({"organisation": "acme", "amount": "5", "reference": "p1"})).await;
    for _ in 0..5 {
        assert_eq!(shop.complete(&key, 1).await.status, 200);
    }
    let limited = shop.complete(&key, 1).await;
    assert_eq!((limited.status, limited.error().code.as_deref()), (429, Some("rate_limit_exceeded")));
    assert_eq!(limited.header("x-ratelimit-remaining-requests"), Some("0"));
    assert!(limited.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);

    for (method, path, body, status, part) in [
        ("GET", "/customers", Value::Null, 404, "there is no"),
        ("PUT", "/plans", json!({"id": "Bad Id"}), 400, "id"),
        ("PUT", "/organisations", json!({"id": "b", "name": "B", "plan": "none"}), 400, "plan"),
        ("PUT", "/organisations", json!({"id": "b", "name": "B", "plan": "basic", "colour": 1}), 400, "colour"),
        (
            "PUT",
            "/prices",
            json!({"model": "tiny", "from": "2030-01-01T00:00:00Z", "tiers": [{"input": "-1 per 1M", "output": "1 per 1M"}]}),
            400,
            "negative",
        ),
        ("POST", "/keys", json!({"id": "k1", "project": "web", "name": "again"}), 400, "already"),
        ("POST", "/keys/none/rotate", json!({}), 404, "no key"),
        ("POST", "/payments", json!({"organisation": "acme", "amount": 5, "reference": "x"}), 400, "amount"),
        ("POST", "/payments", json!({"organisation": "nobody", "amount": "5", "reference": "x"}), 400, "nobody"),
        (
            "POST",
            "/credits",
            json!({"request": "cmpl-1", "amount": "1", "reference": "x"}),
            400,
            "no request of this id",
        ),
    ] {
        let answer = shop.ask(ADMIN, method, &format!("/admin/v1{path}"), &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        let error = answer.error();
        assert!(error.message.contains(part), "{method} {path}: {}", error.message);
    }
    let denied = shop.ask(&key, "GET", "/admin/v1/keys", &Value::Null).await;
    assert_eq!((denied.status, denied.error().code.as_deref()), (403, Some("not_allowed")));
    assert_eq!(shop.ask("tw_wrong", "GET", "/v1/usage", &Value::Null).await.status, 401);
}

#[tokio::test]
async fn without_keys_this_machine_is_the_house() {
    let shop = Shop::open(false).await;
    for key in ["anything", "sk-xyz"] {
        let answer = shop.complete(key, 2).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["usage"]["charged"]["amount"], "0.00");
    }
    assert_eq!(shop.complete("tw_nobodys", 2).await.status, 401, "a key of ours that is not known is no house key");
    let answer = shop.ask("x", "GET", "/admin/v1/keys", &Value::Null).await;
    assert_eq!(answer.status, 403);
    let usage = shop.ask("x", "GET", "/v1/usage", &Value::Null).await.json();
    assert_eq!(usage["data"][0]["sums"]["requests"], 2);
}
