//! Models that come and go behind the server: what clients hear meanwhile, and what the operator sees and does.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use economics::books::{Books, BootstrapKey};
use metering::Meter;
use serde_json::{Value, json};
use server::{KeyConfig, Server, ServerConfig, hash_key};
use service::{AdapterStatus, Behind, BoxFuture, Fetching, Lease, Line, ModelPool, ModelState, ModelStatus, PoolError};

use crate::books::{ADMIN, Shop, open_books};
use crate::client::{Answer, JSON, get, post, send};
use crate::plant::{ScriptedLine, hello};

const SECRET: &[u8] = b"sixteen bytes at least";
const CHAT: &str = "/v1/chat/completions";

/// One model, which is loaded when it is asked for unless it is to be refused.
struct Fake {
    line: Arc<ScriptedLine>,
    state: Mutex<ModelState>,
    pinned: Mutex<bool>,
    refusal: Mutex<Option<PoolError>>,
    done: Mutex<Vec<String>>,
    adapters: Mutex<Vec<AdapterStatus>>,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            line: ScriptedLine::new(hello),
            state: Mutex::new(ModelState::Unloaded),
            pinned: Mutex::default(),
            refusal: Mutex::default(),
            done: Mutex::default(),
            adapters: Mutex::default(),
        })
    }

    fn status(&self) -> ModelStatus {
        let state = self.state.lock().unwrap().clone();
        let loaded = state == ModelState::Loaded;
        ModelStatus {
            id: "scripted".to_owned(),
            aliases: vec!["other/name".to_owned()],
            created: 7,
            context_len: loaded.then_some(2048),
            must_fetch: !loaded,
            fetching: (state == ModelState::Loading).then_some(Fetching { bytes: 30, total: Some(100) }),
            pinned: *self.pinned.lock().unwrap(),
            weight_bytes: if loaded { 100 } else { 0 },
            kv_bytes: if loaded { 20 } else { 0 },
            running: 0,
            waiting: 0,
            idle: loaded.then_some(Duration::from_secs(5)),
            adapters: self.adapters.lock().unwrap().clone(),
            state,
        }
    }

    fn refuse(&self, refusal: Option<PoolError>) {
        *self.refusal.lock().unwrap() = refusal;
    }

    fn change(&self, name: &str, act: &str, state: ModelState) -> Result<ModelStatus, PoolError> {
        if name != "scripted" && name != "other/name" {
            return Err(PoolError::Unknown { name: name.to_owned() });
        }
        if let Some(refusal) = self.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        self.done.lock().unwrap().push(format!("{act} {name}"));
        *self.state.lock().unwrap() = state;
        Ok(self.status())
    }
}

impl ModelPool for Fake {
    fn models(&self) -> Vec<ModelStatus> {
        vec![self.status()]
    }

    fn memory(&self) -> Option<u64> {
        Some(1000)
    }

    fn lines(&self) -> Vec<Arc<dyn Line>> {
        let loaded = *self.state.lock().unwrap() == ModelState::Loaded;
        if loaded { vec![Arc::clone(&self.line) as Arc<dyn Line>] } else { Vec::new() }
    }

    fn line<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Lease, PoolError>> {
        let loaded = self.change(name, "ask", ModelState::Loaded);
        let lease = loaded.map(|_| Lease::new(Arc::clone(&self.line) as Arc<dyn Line>, Arc::default()));
        Box::pin(async move {
            // As loading does, it lets others go on meanwhile.
            tokio::task::yield_now().await;
            lease
        })
    }

    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<ModelStatus, PoolError>> {
        Box::pin(std::future::ready(self.change(name, "load", ModelState::Loaded)))
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<ModelStatus, PoolError>> {
        Box::pin(std::future::ready(self.change(name, "unload", ModelState::Unloaded)))
    }

    fn load_adapter<'a>(
        &'a self,
        model: &'a str,
        adapter: &'a str,
        path: &'a Path,
    ) -> BoxFuture<'a, Result<ModelStatus, PoolError>> {
        let done = self.change(model, &format!("load {adapter} from {} into", path.display()), ModelState::Loaded);
        let state = ModelState::Loaded;
        let adapter = AdapterStatus { name: adapter.to_owned(), state, bytes: 10, created: Some(9) };
        let done = done.map(|_| {
            self.adapters.lock().unwrap().push(adapter);
            self.status()
        });
        Box::pin(std::future::ready(done))
    }

    fn unload_adapter<'a>(&'a self, model: &'a str, adapter: &'a str) -> BoxFuture<'a, Result<ModelStatus, PoolError>> {
        self.adapters.lock().unwrap().retain(|known| known.name != adapter);
        Box::pin(std::future::ready(self.change(model, &format!("unload {adapter} from"), ModelState::Loaded)))
    }

    fn pin(&self, _name: &str, pinned: bool) -> Result<ModelStatus, PoolError> {
        *self.pinned.lock().unwrap() = pinned;
        Ok(self.status())
    }

    fn not_ready(&self) -> Option<String> {
        let state = self.state.lock().unwrap().clone();
        matches!(state, ModelState::Loading).then(|| "`scripted` is loading".to_owned())
    }

    fn close(&self) {
        self.line.close();
    }
}

async fn serve(pool: &Arc<Fake>, books: Option<Arc<Books>>) -> SocketAddr {
    let mut config = ServerConfig { port: 0, ..ServerConfig::default() };
    if books.is_some() {
        config.keys = vec![KeyConfig { name: "ops".into(), hash: hash_key(SECRET, ADMIN), max_priority: 0 }];
        config.key_secret = SECRET.to_vec();
    }
    let plant = server::Plant {
        pool: Arc::clone(pool) as _,
        meter: Arc::new(Meter::new()),
        books,
        charging: None,
        answers: None,
        traces: None,
        history: None,
    };
    let server = Server::bind(&config, plant).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.run(std::future::pending()));
    address
}

async fn chat(address: SocketAddr, model: &str) -> Answer {
    post(address, CHAT, &json!({"model": model, "messages": [{"role": "user", "content": "Hi"}]})).await
}

#[tokio::test]
async fn a_model_is_listed_before_it_is_loaded_and_loaded_when_it_is_asked_for() {
    let pool = Fake::new();
    let address = serve(&pool, None).await;
    let listed = get(address, "/v1/models").await.json();
    assert_eq!((&listed["data"][0]["id"], listed["data"][0].get("max_model_len")), (&json!("scripted"), None));
    assert_eq!(get(address, "/v1/models/other/name").await.json()["created"], 7);
    assert_eq!(get(address, "/v1/models/none").await.status, 404);
    assert_eq!(get(address, "/ready").await.status, 200, "it need not be loaded");
    let metrics = get(address, "/metrics").await;
    assert!(!metrics.text().contains("scripted"), "{}", metrics.text());
    assert_eq!(pool.done.lock().unwrap().len(), 0, "looking loads nothing");

    assert_eq!(chat(address, "other/name").await.status, 200);
    assert_eq!(*pool.done.lock().unwrap(), ["ask other/name"]);
    assert_eq!(get(address, "/v1/models/scripted").await.json()["max_model_len"], 2048);
    assert!(get(address, "/metrics").await.text().contains("scripted"));
    let tokens = post(address, "/tokenize", &json!({"prompt": "ab"})).await;
    assert_eq!(tokens.status, 200, "the only model need not be named: {}", tokens.text());
    assert_eq!(chat(address, "none").await.error().code.as_deref(), Some("model_not_found"));

    *pool.state.lock().unwrap() = ModelState::Loading;
    let answer = get(address, "/ready").await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (503, Some("not_ready")));
    assert!(answer.error().message.contains("is loading"), "{}", answer.text());
}

#[tokio::test]
async fn a_model_that_cannot_be_had_is_told_with_a_time_to_come_back() {
    let pool = Fake::new();
    let address = serve(&pool, None).await;
    let model = || "scripted".to_owned();
    for (refusal, code, part) in [
        (PoolError::NoRoom { message: "it needs 5 of 3".to_owned() }, "model_does_not_fit", "it needs 5 of 3"),
        (PoolError::Loading { model: model(), behind: None }, "model_loading", "`scripted` is being loaded; try"),
        (
            PoolError::Loading {
                model: model(),
                behind: Some(Behind { model: "b".into(), state: ModelState::Draining }),
            },
            "model_loading",
            "`scripted` is not loaded yet: `b` is draining before it; try again",
        ),
        (PoolError::Full { waiting: 9 }, "overloaded", "9 requests wait"),
        (PoolError::Failed { model: model(), reason: "/secret/path".to_owned() }, "model_failed", "its operator"),
        (PoolError::Closed, "shutting_down", "shutting down"),
    ] {
        pool.refuse(Some(refusal));
        let answer = chat(address, "scripted").await;
        assert_eq!((answer.status, answer.error().code.as_deref()), (503, Some(code)), "{}", answer.text());
        assert!(answer.error().message.contains(part) && !answer.text().contains("/secret"), "{}", answer.text());
        assert!(answer.header("retry-after").is_some(), "{code}");
    }
    pool.refuse(None);
    assert_eq!(chat(address, "scripted").await.status, 200);
}

async fn admin(address: SocketAddr, method: &str, path: &str, body: Value) -> Answer {
    let bearer = format!("Authorization: Bearer {ADMIN}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    send(address, method, &format!("/admin/v1{path}"), &[JSON, &bearer], body.as_bytes()).await
}

/// A server whose books, in the folder, know the operator's key.
async fn serve_with_operator() -> (tempfile::TempDir, Arc<Fake>, SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let bootstrap =
        BootstrapKey { name: "ops".into(), hash: hash_key(SECRET, ADMIN).parse().unwrap(), max_priority: 0 };
    let books = open_books(folder.path(), vec![bootstrap], "scripted");
    let pool = Fake::new();
    let address = serve(&pool, Some(books)).await;
    (folder, pool, address)
}

#[tokio::test]
async fn the_operator_loads_unloads_and_pins() {
    let (_folder, pool, address) = serve_with_operator().await;
    let list = admin(address, "GET", "/models", Value::Null).await.json();
    assert_eq!((&list["data"][0]["state"], &list["data"][0]["idle_seconds"]), (&json!("unloaded"), &Value::Null));
    assert_eq!(list["memory"], json!({"taken": 0, "limit": 1000}));

    assert_eq!((&list["data"][0]["must_fetch"], &list["data"][0]["fetching"]), (&json!(true), &Value::Null));
    *pool.state.lock().unwrap() = ModelState::Loading;
    let list = admin(address, "GET", "/models", Value::Null).await.json();
    assert_eq!(list["data"][0]["fetching"], json!({"bytes": 30, "total": 100}));

    // By another of its names.
    let loaded = admin(address, "POST", "/models/other%2Fname/load", Value::Null).await;
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    let loaded = loaded.json();
    assert_eq!((&loaded["name"], &loaded["state"]), (&json!("scripted"), &json!("loaded")));
    assert_eq!((&loaded["must_fetch"], &loaded["fetching"]), (&json!(false), &Value::Null));
    assert_eq!(
        (&loaded["weight_bytes"], &loaded["kv_bytes"], &loaded["idle_seconds"]),
        (&json!(100), &json!(20), &json!(5))
    );
    let pinned = admin(address, "PUT", "/models/scripted/pin", json!({"pinned": true})).await.json();
    assert_eq!(pinned["pinned"], true);
    let wrong = admin(address, "PUT", "/models/scripted/pin", json!({"pinned": 1})).await;
    assert_eq!((wrong.status, wrong.error().param.as_deref()), (400, Some("pinned")));
    let list = admin(address, "GET", "/models", Value::Null).await.json();
    assert_eq!(list["memory"], json!({"taken": 120, "limit": 1000}));
    let unloaded = admin(address, "POST", "/models/scripted/unload", Value::Null).await.json();
    assert_eq!(unloaded["state"], "unloaded");
    assert_eq!(*pool.done.lock().unwrap(), ["load scripted", "unload scripted"]);

    pool.refuse(Some(PoolError::Failed { model: "scripted".to_owned(), reason: "the file is cut".to_owned() }));
    let failed = admin(address, "POST", "/models/scripted/load", Value::Null).await;
    assert_eq!(failed.status, 503);
    assert!(failed.error().message.contains("the file is cut"), "the operator hears why: {}", failed.text());
    let unknown = admin(address, "POST", "/models/none/load", Value::Null).await;
    assert_eq!((unknown.status, unknown.error().code.as_deref()), (404, Some("model_not_found")));

    for (method, path) in [
        ("POST", "/models/%ff/load"),
        ("PUT", "/models/%ff/pin"),
        ("DELETE", "/models/scripted/adapters/%ff"),
        ("GET", "/keys/%ff"),
        ("GET", "/%ff"),
        ("GET", "/organisations/%ff/standing"),
    ] {
        let answer = admin(address, method, path, Value::Null).await;
        assert_eq!((answer.status, answer.error().code.as_deref()), (404, Some("not_found")), "{path}");
        assert!(answer.error().message.contains(path), "{}", answer.text());
    }
    let audit = admin(address, "GET", "/audit?order=desc&limit=4", Value::Null).await.json();
    let acts: Vec<_> =
        audit["data"].as_array().unwrap().iter().map(|act| (&act["actor"], &act["record"], &act["after"])).collect();
    let (actor, record) = (json!("config/ops"), json!("model scripted"));
    let commands =
        [json!({"command": "load"}), json!({"command": "unload"}), json!({"pinned": true}), json!({"command": "load"})];
    let expected: Vec<_> = commands.iter().map(|command| (&actor, &record, command)).collect();
    assert_eq!(acts, expected);
}

#[tokio::test]
async fn adapters_are_loaded_listed_as_models_and_unloaded() {
    let (_folder, pool, address) = serve_with_operator().await;
    let path = "/models/other%2Fname/adapters";
    let loaded = admin(address, "POST", path, json!({"name": "legal", "path": "/srv/legal"})).await;
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    let adapter = json!({"name": "legal", "state": "loaded", "reason": null, "weight_bytes": 10});
    assert_eq!(loaded.json()["adapters"], json!([adapter]));
    assert_eq!(admin(address, "GET", path, Value::Null).await.json()["data"], json!([adapter]));
    for (body, field) in [
        (json!({"path": "/srv/legal"}), "name"),
        (json!({"name": "legal"}), "path"),
        (json!({"name": 1, "path": "/srv/legal"}), "name"),
        (json!({"name": "a", "path": "/srv/legal", "scale": 2}), "scale"),
    ] {
        let wrong = admin(address, "POST", path, body).await;
        assert_eq!((wrong.status, wrong.error().param.as_deref()), (400, Some(field)));
    }
    let bearer = format!("Authorization: Bearer {ADMIN}");
    let listed = send(address, "GET", "/v1/models", &[bearer.as_str()], b"").await.json();
    assert_eq!(
        (&listed["data"][1]["id"], &listed["data"][1]["parent"], &listed["data"][1]["aliases"]),
        (&json!("scripted:legal"), &json!("scripted"), &json!(["other/name:legal"]))
    );
    let unloaded = admin(address, "DELETE", "/models/scripted/adapters/legal", Value::Null).await.json();
    assert_eq!(unloaded["adapters"], json!([]));
    assert_eq!(*pool.done.lock().unwrap(), ["load legal from /srv/legal into scripted", "unload legal from scripted"]);
    let known = vec!["legal".to_owned(), "medical".to_owned()];
    let (model, adapter) = ("scripted".to_owned(), "none".to_owned());
    pool.refuse(Some(PoolError::UnknownAdapter { model, adapter, known }));
    let unknown = admin(address, "DELETE", "/models/scripted/adapters/none", Value::Null).await;
    assert_eq!((unknown.status, unknown.error().code.as_deref()), (404, Some("model_not_found")));
    assert!(unknown.error().message.contains("it has: legal, medical"), "{}", unknown.text());
}

#[tokio::test]
async fn models_that_are_fixed_take_no_commands_and_only_the_plants_keys_see_them() {
    let shop = Shop::open(true).await;
    let list = shop.admin("GET", "/models", Value::Null).await;
    assert_eq!((&list["data"][0]["name"], &list["data"][0]["state"]), (&json!("tiny"), &json!("loaded")));
    let answer = shop.ask(ADMIN, "POST", "/admin/v1/models/tiny/unload", &Value::Null).await;
    assert_eq!((answer.status, answer.error().code.as_deref()), (400, Some("models_are_fixed")));
    shop.customer().await;
    let scopes = json!(["inference", "manage"]);
    let made =
        shop.admin("POST", "/keys", json!({"id": "boss", "project": "web", "name": "ops", "scopes": scopes})).await;
    let boss = made["key"].as_str().unwrap();
    for (method, path) in [("GET", "/models"), ("POST", "/models/tiny/load"), ("POST", "/models/tiny/unload")] {
        let answer = shop.ask(boss, method, &format!("/admin/v1{path}"), &Value::Null).await;
        assert_eq!((answer.status, answer.error().code.as_deref()), (403, Some("not_allowed")), "{method} {path}");
    }
}
