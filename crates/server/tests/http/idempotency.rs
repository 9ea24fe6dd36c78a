//! `Idempotency-Key`: the same answer again, once run and once charged, whatever happens in between.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inference::FinishReason;
use serde_json::{Value, json};
use server::{KeyConfig, ServerConfig, hash_key};
use service::{LineError, LineEvent};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Answer, JSON, read_until, request, send};
use crate::plant::{Plant, Script, ScriptedLine, done, eventually, finished, hello, record, text};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn prompt(stream: bool) -> Value {
    json!({"model": "scripted", "prompt": "a", "stream": stream})
}

fn header(key: &str) -> String {
    format!("Idempotency-Key: {key}")
}

async fn ask(address: SocketAddr, key: &str, body: &Value) -> Answer {
    send(address, "POST", COMPLETIONS, &[JSON, &header(key)], body.to_string().as_bytes()).await
}

fn code(answer: &Answer) -> (u16, Option<String>) {
    (answer.status, answer.error().code)
}

fn conflict(code: &str) -> (u16, Option<String>) {
    (409, Some(code.to_owned()))
}

fn submitted(plant: &Plant) -> usize {
    plant.line.submitted.lock().unwrap().len()
}

/// A request whose answer is not read to its end.
async fn begin(plant: &Plant, key: &str, body: &Value) -> TcpStream {
    let before = submitted(plant);
    let mut stream = TcpStream::connect(plant.address).await.unwrap();
    let bytes = request("localhost", "POST", COMPLETIONS, &[JSON, &header(key)], body.to_string().as_bytes());
    stream.write_all(&bytes).await.unwrap();
    eventually("submitted", || submitted(plant) > before).await;
    stream
}

/// Asks until the first request is no longer under way.
async fn settled(address: SocketAddr, key: &str, body: &Value) -> Answer {
    for _ in 0..1000 {
        let answer = ask(address, key, body).await;
        if answer.status != 409 || answer.error().code.as_deref() != Some("idempotency_in_flight") {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("always under way");
}

fn hangs() -> Arc<ScriptedLine> {
    ScriptedLine::new(|_| Script::Hang(vec![text(0, "first")]))
}

fn rest() -> Vec<LineEvent> {
    vec![text(0, " last"), finished(0, FinishReason::Stop), done()]
}

#[tokio::test]
async fn the_same_request_gets_the_same_bytes_and_runs_once() {
    let plant = Plant::hello().await;
    for (number, stream) in [(1, false), (2, true)] {
        let (key, body) = (format!("key-{number}"), prompt(stream));
        let first = ask(plant.address, &key, &body).await;
        assert_eq!((first.status, first.header("idempotent-replayed")), (200, None));
        for _ in 0..3 {
            let again = ask(plant.address, &key, &body).await;
            assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
            assert_eq!(again.text(), first.text());
            for name in ["content-type", "cache-control", "x-accel-buffering"] {
                assert_eq!(again.header(name), first.header(name), "{name}");
            }
            assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
        }
        assert_eq!(submitted(&plant), number);
    }
    let body = prompt(false).to_string();
    let plain = send(plant.address, "POST", COMPLETIONS, &[JSON], body.as_bytes()).await;
    assert_eq!((plain.status, submitted(&plant)), (200, 3), "without the header nothing is looked up");
}

#[tokio::test]
async fn a_key_names_one_body_of_one_caller_and_one_route() {
    let secret = b"an installation's secret";
    let plant = Plant::start(ScriptedLine::new(hello), |config| {
        config.key_secret = secret.to_vec();
        let key = |name: &str| KeyConfig { name: name.into(), hash: hash_key(secret, name), max_priority: 0 };
        config.keys = vec![key("one"), key("two")];
    })
    .await;
    let ask = async |caller: &str, path: &str, body: &Value| {
        let bearer = format!("Authorization: Bearer {caller}");
        send(plant.address, "POST", path, &[JSON, &bearer, &header("k")], body.to_string().as_bytes()).await
    };
    let first = ask("one", COMPLETIONS, &prompt(false)).await;
    let conflicting = ask("one", COMPLETIONS, &prompt(true)).await;
    assert_eq!(code(&conflicting), conflict("idempotency_conflict"));
    assert_eq!((conflicting.header("x-should-retry"), conflicting.header("retry-after")), (Some("false"), None));
    assert_eq!(submitted(&plant), 1);
    let other = ask("two", COMPLETIONS, &prompt(true)).await;
    assert_eq!((other.status, other.header("idempotent-replayed")), (200, None));
    let chat = json!({"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]});
    let chat = ask("one", CHAT, &chat).await;
    assert_eq!((chat.status, chat.header("idempotent-replayed")), (200, None));
    let again = ask("one", COMPLETIONS, &prompt(false)).await;
    assert_eq!(again.text(), first.text());
    assert_eq!(submitted(&plant), 3);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_by_the_name_of_the_header() {
    let plant = Plant::hello().await;
    let long = header(&"k".repeat(256));
    for headers in [
        vec!["Idempotency-Key:"],
        vec!["Idempotency-Key: two words"],
        vec!["Idempotency-Key: schlüssel"],
        vec![long.as_str()],
        vec!["Idempotency-Key: a", "Idempotency-Key: b"],
    ] {
        let headers: Vec<_> = [JSON].into_iter().chain(headers).collect();
        let answer = send(plant.address, "POST", COMPLETIONS, &headers, prompt(false).to_string().as_bytes()).await;
        assert_eq!((answer.status, answer.error().param.as_deref()), (400, Some("Idempotency-Key")), "{headers:?}");
        assert!(answer.error().message.contains("1 to 255 visible ASCII"), "{}", answer.error().message);
    }
    assert_eq!(ask(plant.address, &"k".repeat(255), &prompt(false)).await.status, 200);
    assert_eq!(submitted(&plant), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_runs() {
    let plant = Plant::hello().await;
    for round in 0..20 {
        let (address, key) = (plant.address, format!("round-{round}"));
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let key = key.clone();
            clients.spawn(async move { ask(address, &key, &prompt(true)).await });
        }
        let answers = clients.join_all().await;
        let (good, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
        assert_eq!(good.iter().filter(|answer| answer.header("idempotent-replayed").is_none()).count(), 1);
        assert!(good.iter().all(|answer| answer.body == good[0].body));
        for other in &others {
            assert_eq!(code(other), conflict("idempotency_in_flight"));
        }
        assert_eq!(submitted(&plant), round + 1);
    }
}

#[tokio::test]
async fn a_client_that_leaves_finds_the_whole_answer_later() {
    let plant = Plant::start(hangs(), |_| {}).await;
    for (number, stream) in [(0, true), (1, false)] {
        let (key, body) = (format!("key-{number}"), prompt(stream));
        let mut client = begin(&plant, &key, &body).await;
        if stream {
            read_until(&mut client, "first").await;
        }
        drop(client);
        let early = ask(plant.address, &key, &body).await;
        assert_eq!(code(&early), conflict("idempotency_in_flight"));
        assert!(early.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
        assert_eq!(early.header("x-should-retry"), None);
        assert_eq!(code(&ask(plant.address, &key, &prompt(!stream)).await), conflict("idempotency_conflict"));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!plant.line.cancels.lock().unwrap()[number].is_cancelled(), "it goes on");
        plant.line.feed(number, rest());
        let answer = settled(plant.address, &key, &body).await;
        assert_eq!((answer.status, answer.header("idempotent-replayed")), (200, Some("true")));
        if stream {
            let frames = answer.frames();
            assert_eq!(frames.last().unwrap(), "[DONE]");
            assert!(frames[0].contains("first") && frames[1].contains(" last"), "{frames:?}");
        } else {
            assert_eq!(answer.json()["choices"][0]["text"], "first last");
        }
        assert_eq!(submitted(&plant), number + 1);
    }
}

#[tokio::test]
async fn a_reader_that_sleeps_does_not_lose_the_answer() {
    let line = ScriptedLine::new(|_| {
        let mut events: Vec<_> = (0..780).map(|_| text(0, &"x".repeat(10_000))).collect();
        events.extend([finished(0, FinishReason::Stop), done()]);
        Script::Events(events)
    });
    let plant = Plant::start(line, |config| config.limits.reader_idle = Duration::from_millis(200)).await;
    let mut sleeper = begin(&plant, "k", &prompt(true)).await;
    read_until(&mut sleeper, "xxx").await;
    let answer = settled(plant.address, "k", &prompt(true)).await;
    assert_eq!((answer.status, submitted(&plant)), (200, 1));
    assert_eq!(answer.text().matches(&"x".repeat(10_000)).count(), 780);
    assert_eq!(answer.frames().last().unwrap(), "[DONE]");
    drop(sleeper);
}

#[tokio::test]
async fn an_answer_too_large_is_delivered_and_not_kept() {
    let line = ScriptedLine::new(|_| {
        Script::Events(vec![text(0, &"x".repeat(9 << 20)), finished(0, FinishReason::Stop), done()])
    });
    let plant = Plant::start(line, |_| {}).await;
    for (key, stream) in [("a", false), ("b", true)] {
        let first = ask(plant.address, key, &prompt(stream)).await;
        assert_eq!(first.status, 200);
        assert!(first.text().contains(&"x".repeat(9 << 20)));
        let again = ask(plant.address, key, &prompt(stream)).await;
        assert_eq!(code(&again), conflict("idempotency_not_kept"));
        assert!(again.error().message.contains("too large"), "{}", again.error().message);
    }
    assert_eq!(submitted(&plant), 2);
}

#[tokio::test]
async fn what_nobody_reads_and_nobody_keeps_is_cancelled() {
    let line = ScriptedLine::new(|_| Script::Hang((0..4000).map(|_| text(0, &"x".repeat(10_000))).collect()));
    let plant = Plant::start(line, |config| config.limits.reader_idle = Duration::from_millis(300)).await;
    let mut sleeper = begin(&plant, "k", &prompt(true)).await;
    read_until(&mut sleeper, "xxx").await;
    eventually("cancelled", || plant.line.cancelled() == 1).await;
    assert_eq!(code(&settled(plant.address, "k", &prompt(true)).await), conflict("idempotency_not_kept"));
}

#[tokio::test]
async fn what_was_refused_before_it_ran_may_run_later() {
    let tries = AtomicUsize::new(0);
    let line = ScriptedLine::new(move |generation| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => Script::Refuse(LineError::QueueFull { waiting: 8, retry_after: Duration::from_secs(1) }),
        1 => Script::Refuse(LineError::Closed),
        _ => hello(generation),
    });
    let plant = Plant::start(line, |_| {}).await;
    assert_eq!(ask(plant.address, "k", &json!({"model": "unknown", "prompt": "a"})).await.status, 404);
    assert_eq!(ask(plant.address, "k", &json!({"model": "scripted", "prompt": 1.5})).await.status, 400);
    for status in [429, 503, 200, 200] {
        assert_eq!(ask(plant.address, "k", &prompt(true)).await.status, status);
    }
    assert_eq!(submitted(&plant), 3);
}

#[tokio::test]
async fn failures_without_books_may_run_again() {
    let tries = AtomicUsize::new(0);
    let line = ScriptedLine::new(move |generation| match tries.fetch_add(1, Ordering::SeqCst) {
        0 | 2 => Script::Events(vec![
            text(0, "Hel"),
            LineEvent::Failed(LineError::Internal { message: "broken".into() }, record()),
        ]),
        _ => hello(generation),
    });
    let plant = Plant::start(line, |_| {}).await;
    let failed = ask(plant.address, "a", &prompt(true)).await;
    assert!(failed.frames().last().unwrap().contains("internal_error"));
    assert_eq!(ask(plant.address, "a", &prompt(true)).await.frames().last().unwrap(), "[DONE]");
    assert_eq!(ask(plant.address, "b", &prompt(false)).await.status, 500);
    assert_eq!(ask(plant.address, "b", &prompt(false)).await.status, 200);
}

#[tokio::test]
async fn a_bug_in_the_line_ends_one_request() {
    let plant = Plant::start(ScriptedLine::new(|_| Script::Panic), |_| {}).await;
    assert_eq!(code(&ask(plant.address, "k", &prompt(false)).await), (500, Some("internal_error".to_owned())));
    // Nobody knows how far it came.
    assert_eq!(code(&ask(plant.address, "k", &prompt(false)).await), conflict("idempotency_interrupted"));
}

async fn over(folder: &Path, line: Arc<ScriptedLine>, change: impl FnOnce(&mut ServerConfig)) -> Plant {
    Plant::start_over(line, Some(folder.join("answers.db")), None, change).await
}

#[tokio::test]
async fn answers_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = over(folder.path(), hangs(), |c| c.limits.drain_timeout = Duration::from_secs(3600)).await;
    let mut read = begin(&first, "read", &prompt(true)).await;
    first.line.feed(0, rest());
    let seen = read_until(&mut read, "[DONE]").await;
    // One whose client has gone is waited for, too.
    drop(begin(&first, "left", &prompt(false)).await);
    first.signal();
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.line.feed(1, rest());
    first.ended().await;
    let second = over(folder.path(), ScriptedLine::new(|_| Script::Panic), |_| {}).await;
    let again = ask(second.address, "read", &prompt(true)).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, Some("true")));
    for frame in again.frames() {
        assert!(seen.contains(&frame), "{frame}");
    }
    let left = ask(second.address, "left", &prompt(false)).await;
    assert_eq!((left.status, &left.json()["choices"][0]["text"]), (200, &json!("first last")));
    assert_eq!(submitted(&second), 0);
    let bytes = std::fs::read(folder.path().join("answers.db")).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("\"prompt\""), "no request is in the file");
}

#[tokio::test]
async fn what_a_crash_or_the_end_of_a_drain_interrupts_does_not_run_again() {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut plant = over(folder.path(), hangs(), |c| c.limits.drain_timeout = Duration::from_millis(100)).await;
    let mut streamed = begin(&plant, "streamed", &prompt(true)).await;
    read_until(&mut streamed, "first").await;
    let mut whole = begin(&plant, "whole", &prompt(false)).await;
    // What a process leaves that is killed now.
    for file in ["answers.db", "answers.db-wal"] {
        std::fs::copy(folder.path().join(file), crashed.path().join(file)).unwrap();
    }
    plant.signal();
    read_until(&mut streamed, "shutting_down").await;
    read_until(&mut whole, "shutting_down").await;
    plant.ended().await;
    for (folder, with_books) in [(folder, true), (crashed, false)] {
        let books = with_books.then(|| crate::books::open_books(folder.path(), Vec::new(), "scripted"));
        let (line, answers) = (ScriptedLine::new(hello), folder.path().join("answers.db"));
        let next = Plant::start_over(line, Some(answers), books, |_| {}).await;
        for (key, stream) in [("streamed", true), ("whole", false)] {
            let answer = ask(next.address, key, &prompt(stream)).await;
            assert_eq!(code(&answer), conflict("idempotency_interrupted"), "{key}");
            let message = answer.error().message;
            assert_eq!(message.contains("nothing has been charged for it"), with_books, "{message}");
            assert!(with_books || !message.contains("charge"), "{message}");
            assert_eq!(code(&ask(next.address, key, &prompt(!stream)).await), conflict("idempotency_conflict"));
        }
        assert_eq!((submitted(&next), ask(next.address, "new", &prompt(true)).await.status), (0, 200));
    }
}

#[tokio::test]
async fn a_damaged_file_does_not_stop_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answers.db");
    std::fs::write(&path, "not a database, whatever it was before").unwrap();
    let plant = over(folder.path(), ScriptedLine::new(hello), |_| {}).await;
    let first = ask(plant.address, "k", &prompt(true)).await;
    assert_eq!(ask(plant.address, "k", &prompt(true)).await.body, first.body);
    let aside = std::fs::read_to_string(folder.path().join("answers.db.damaged")).unwrap();
    assert!(aside.starts_with("not a database"));
    // A second server is told that the file is in use.
    let config = ServerConfig { port: 0, ..ServerConfig::default() };
    let second = server::Plant { answers: Some(path), ..server::Plant::new(vec![], Arc::default()) };
    let error = server::Server::bind(&config, second).await.err().unwrap().to_string();
    assert!(error.contains("answers.db") && error.contains("another server"), "{error}");
}

#[tokio::test]
async fn pages_of_allowed_origins_may_send_and_read_the_headers() {
    let plant = Plant::start(ScriptedLine::new(hello), |config| {
        config.cors_origins = vec!["https://app.example.com".into()];
    })
    .await;
    let origin = "Origin: https://app.example.com";
    let wanted = [origin, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: idempotency-key"];
    let preflight = send(plant.address, "OPTIONS", COMPLETIONS, &wanted, b"").await;
    assert_eq!(preflight.header("access-control-allow-headers"), Some("idempotency-key"));
    let body = prompt(false).to_string();
    let answer = send(plant.address, "POST", COMPLETIONS, &[JSON, origin, &header("k")], body.as_bytes()).await;
    assert!(answer.header("access-control-expose-headers").unwrap().contains("idempotent-replayed"));
}

mod with_books {
    use super::*;
    use crate::books::{Shop, open_books};

    async fn complete(shop: &Shop, caller: &str, key: &str, stream: bool) -> Answer {
        let body = json!({
            "model": "tiny", "prompt": [5, 6, 7, 8], "max_tokens": 3, "temperature": 0, "ignore_eos": true,
            "stream": stream
        });
        let bearer = format!("Authorization: Bearer {caller}");
        let headers = [JSON, &bearer, &header(key)];
        send(shop.address, "POST", COMPLETIONS, &headers, body.to_string().as_bytes()).await
    }

    #[tokio::test]
    async fn it_is_charged_once() {
        let shop = Shop::open(true).await;
        let caller = shop.customer().await;
        assert_eq!(complete(&shop, &caller, "k", false).await.status, 402);
        // Two answers of four and three tokens: 2 * (4 * 0.00001 + 3 * 0.00003).
        let payment = json!({"organisation": "acme", "amount": "0.00026", "reference": "p1"});
        shop.admin("POST", "/payments", payment).await;
        for (key, stream) in [("k", false), ("l", true)] {
            let first = complete(&shop, &caller, key, stream).await;
            assert_eq!(first.status, 200, "{}", first.text());
            assert!(first.header("x-ratelimit-limit-requests").is_some());
            // Neither the spent budget nor the limit of five a minute keeps the answer back.
            for _ in 0..5 {
                let again = complete(&shop, &caller, key, stream).await;
                assert_eq!((again.status, again.text()), (200, first.text()));
                assert_eq!(again.header("x-ratelimit-limit-requests"), None);
            }
        }
        assert_eq!(complete(&shop, &caller, "m", false).await.status, 402);
        let usage = shop.ask(&caller, "GET", "/v1/usage", &Value::Null).await.json();
        let sums = &usage["data"][0]["sums"];
        assert_eq!((&sums["requests"], &sums["list"]), (&json!(2), &json!("0.00026")), "{usage}");
        let standing = shop.ask(&caller, "GET", "/v1/standing", &Value::Null).await.json();
        assert_eq!((&standing["balance"], &standing["held"]), (&json!("0.00"), &json!("0.00")), "{standing}");
    }

    #[tokio::test]
    async fn a_failure_that_was_charged_is_told_and_not_run_again() {
        let folder = tempfile::tempdir().unwrap();
        let tries = AtomicUsize::new(0);
        let line = ScriptedLine::new(move |_| {
            let error = LineError::Internal { message: "the forward pass failed".into() };
            let mut events = vec![text(0, "Hel"), LineEvent::Failed(error, record())];
            // The first one fails before it says anything.
            events.drain(..usize::from(tries.fetch_add(1, Ordering::SeqCst) == 0));
            Script::Events(events)
        });
        let books = open_books(folder.path(), Vec::new(), "scripted");
        let plant = Plant::start_over(line, None, Some(books), |_| {}).await;
        // Nothing was delivered: it costs nothing and may run again.
        for tries in 1..=2 {
            assert!(ask(plant.address, "k", &prompt(true)).await.text().contains("the forward pass failed"));
            assert_eq!(ask(plant.address, &format!("whole-{tries}"), &prompt(false)).await.status, 500);
        }
        assert_eq!(ask(plant.address, "whole-1", &prompt(false)).await.status, 500, "it ran again");
        assert_eq!(submitted(&plant), 5);
        let told = ask(plant.address, "k", &prompt(true)).await;
        assert_eq!(code(&told), conflict("idempotency_failed"));
        let message = told.error().message;
        assert!(message.contains("the forward pass failed") && message.contains("was charged"), "{message}");
        assert_eq!((submitted(&plant), told.header("x-should-retry")), (5, Some("false")));
    }
}
