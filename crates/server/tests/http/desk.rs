//! The operator's desk: without a key, through a socket that only its owner may open.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use economics::Currency;
use economics::books::{Books, Settings, Steps};
use ledger::StoreSpec;
use metering::Meter;
use serde_json::{Value, json};
use server::{Desk, Plant, Server, ServerConfig};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Serves only books, until the sender is used; the second part ends then.
async fn serve(folder: &Path, socket: &Path) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let settings = Settings {
        store: StoreSpec::Sqlite(folder.join("books.db")),
        writer: 0,
        currency: Currency::of("USD").unwrap(),
        secret: b"sixteen bytes at least".to_vec(),
        bootstrap: Vec::new(),
        steps: Steps::default(),
    };
    let books = Books::open(settings, 0).unwrap();
    books.serve_models(&["tiny".to_owned()], 0).unwrap();
    let plant = Plant { books: Some(books), ..Plant::new(Vec::new(), Arc::new(Meter::new())) };
    let config = ServerConfig { port: 0, desk: Some(socket.to_owned()), ..ServerConfig::default() };
    let server = Server::bind(&config, plant).await.unwrap();
    let (end, ended) = oneshot::channel();
    let served = tokio::spawn(server.run(async { drop(ended.await) }));
    (end, served)
}

async fn ask(desk: &Desk, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let answer = desk.ask((method, path), None, Some(body.as_bytes())).await.unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

#[tokio::test]
async fn whoever_may_open_the_socket_administers() {
    let folder = tempfile::tempdir().unwrap();
    // A long path too, which sockets do not take by themselves.
    let long = folder.path().join("x".repeat(120));
    std::fs::create_dir(&long).unwrap();
    assert!(Desk::find(&folder.path().join("none.sock")).await.unwrap().is_none());
    for socket in [folder.path().join("desk.sock"), long.join("desk.sock")] {
        std::fs::write(&socket, "left by a dead server").unwrap();
        let (end, served) = serve(&long, &socket).await;
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        let desk = Desk::find(&socket).await.unwrap().unwrap();
        let plan = json!({"id": "gold", "price_list": "house"});
        assert_eq!(ask(&desk, "PUT", "/admin/v1/plans", &plan).await.0, 200);
        let (status, error) = ask(&desk, "PUT", "/admin/v1/plans", &json!({"id": "Gold"})).await;
        assert_eq!((status, &error["error"]["type"]), (400, &json!("invalid_request_error")));
        let (_, audit) = ask(&desk, "GET", "/admin/v1/audit", &Value::Null).await;
        let acts = audit["data"].as_array().unwrap();
        assert!(acts.iter().any(|act| act["record"] == "plan gold" && act["actor"] == "server/operator"), "{audit}");
        end.send(()).unwrap();
        served.await.unwrap();
        assert!(Desk::find(&socket).await.unwrap().is_none(), "the socket outlives its server");
    }
}
