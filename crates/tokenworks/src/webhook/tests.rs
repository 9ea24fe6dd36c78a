//! Alerts on their way to a receiver that fails, hangs and comes back.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use economics::books::{Admission, BootstrapKey, Delivery, End, Metadata, Settings, Steps};
use economics::directory::record::{Bounds, Organisation, Record};
use economics::plan::Budget;
use economics::price::PriceSpec;
use economics::window::Period;
use economics::{Currency, Nano, Quantities, Rate};
use ledger::{EntryId, StoreSpec};

use super::*;

const WAIT: Duration = Duration::from_secs(60);
const KEY: [u8; 32] = [7; 32];

/// What the receiver does with a request, once it has read it.
enum Reply {
    Status(u16),
    Close,
    Hang,
}

struct Request {
    headers: HashMap<String, String>,
    body: String,
}

/// A receiver of webhooks on this machine: answers as told, then 204.
struct Endpoint {
    url: String,
    requests: Receiver<Request>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
}

impl Endpoint {
    fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook?team=1", listener.local_addr().unwrap());
        let replies = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let (sender, requests) = channel();
        let script = Arc::clone(&replies);
        std::thread::spawn(move || {
            let mut hanging = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read(&stream);
                let reply = script.lock().unwrap().pop_front().unwrap_or(Reply::Status(204));
                match reply {
                    Reply::Status(status) => write!(
                        stream,
                        "HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )
                    .unwrap(),
                    Reply::Close => {}
                    Reply::Hang => hanging.push(stream),
                }
                if sender.send(request).is_err() {
                    return;
                }
            }
        });
        Self { url, requests, replies }
    }

    fn next(&self) -> Request {
        self.requests.recv_timeout(WAIT).unwrap()
    }
}

fn read(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "POST /hook?team=1 HTTP/1.1\r\n");
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Request { headers, body: String::from_utf8(body).unwrap() }
}

/// HMAC-SHA256 and base64 written out once more, as RFC 2104 and RFC 4648 have them.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(chunk.get(i).copied().unwrap_or(0)));
        let digit = |i: usize| if i <= chunk.len() { char::from(DIGITS[bits >> (18 - 6 * i) & 63]) } else { '=' };
        (0..4).map(digit).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

fn signature(request: &Request) -> String {
    let headers = &request.headers;
    let content = format!("{}.{}.{}", headers["webhook-id"], headers["webhook-timestamp"], request.body);
    let mut padded = [0; 64];
    padded[..KEY.len()].copy_from_slice(&KEY);
    let inner = Sha256::digest([&padded.map(|byte| byte ^ 0x36), content.as_bytes()].concat());
    let outer = Sha256::digest([&padded.map(|byte| byte ^ 0x5c)[..], &inner].concat());
    format!("v1,{}", base64(&outer))
}

fn open(folder: &Path, writer: u32) -> Arc<Books> {
    let settings = Settings {
        store: StoreSpec::Sqlite(folder.join("books.db")),
        writer,
        currency: Currency::of("EUR").unwrap(),
        secret: b"plant".to_vec(),
        bootstrap: Vec::<BootstrapKey>::new(),
        steps: Steps::default(),
    };
    let books = Books::open(settings, now_ms()).unwrap();
    books.serve_models(&["m".to_owned()], now_ms()).unwrap();
    books
}

/// Gives the house a budget of 10 tokens at 1 each, with these alerts.
fn watch(books: &Books, alert_percent: &[u16]) {
    let budget =
        Budget { amount: Nano(10), period: Period::Forever, soft: true, alert_percent: alert_percent.to_vec() };
    let house = books.directory().organisation("house").unwrap().clone();
    let bounds = Bounds { budget: Some(budget), ..Bounds::default() };
    let rate = Rate::from_pico(1_000).unwrap();
    let price = PriceSpec { from: now_ms(), ..PriceSpec::flat("house", "m", rate, rate) };
    for record in [Record::Organisation(Organisation { bounds, ..house }), Record::Price(price)] {
        books.change(record, "admin", now_ms()).unwrap();
    }
}

fn spend(books: &Arc<Books>, tokens: u64) {
    let mut random = [0; 16];
    OsRng.try_fill_bytes(&mut random).unwrap();
    let identity = books.identify_house("").unwrap();
    let (id, identity, now_ms) = (EntryId(random), &identity, now_ms());
    let admission = Admission {
        id,
        identity,
        model: "m",
        base: None,
        input: 0,
        max_output: tokens,
        tag: "",
        user: "",
        metadata: Metadata::NONE,
        now_ms,
    };
    let used = Quantities { out_visible: tokens, ..Quantities::default() };
    books.admit(admission).unwrap().settle(&used, End::Stop, now_ms).unwrap();
}

fn times() -> Times {
    let first = Duration::from_millis(20);
    Times { first, longest: first, others: first, look: Duration::from_millis(200), ..Times::default() }
}

fn start(books: &Arc<Books>, endpoint: &Endpoint, times: Times) -> Webhook {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, format!("whsec_{}\n", base64(&KEY))).unwrap();
    Webhook::start(books, Post::new(&endpoint.url, Secret::load(&file).unwrap()), times).unwrap()
}

/// Waits until every alert has an end, and gives them, newest first.
fn ends(books: &Books) -> Vec<Delivery> {
    let begin = Instant::now();
    loop {
        let all: Vec<_> = books.alerts(99).unwrap().into_iter().map(|raised| raised.delivery).collect();
        if !all.is_empty() && !all.contains(&Delivery::Pending) {
            return all;
        }
        assert!(begin.elapsed() < WAIT, "{all:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_alert_is_signed_and_sent_until_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::new([Reply::Status(500), Reply::Close, Reply::Status(302)]);
    let books = open(folder.path(), 0);
    watch(&books, &[50, 100]);
    let webhook = start(&books, &endpoint, times());
    spend(&books, 6);
    let sent: Vec<Request> = (0..4).map(|_| endpoint.next()).collect();
    for request in &sent {
        assert_eq!(request.headers["webhook-signature"], signature(request));
        assert_eq!((&request.headers["webhook-id"], &request.body), (&sent[0].headers["webhook-id"], &sent[0].body));
        let age_s = now_ms() / 1000 - request.headers["webhook-timestamp"].parse::<i64>().unwrap();
        assert!((0..60).contains(&age_s), "{age_s}");
        assert_eq!(request.headers["content-type"], "application/json");
    }
    assert!(!sent[0].headers["webhook-id"].contains('.'));
    let body: serde_json::Value = serde_json::from_str(&sent[0].body).unwrap();
    assert_eq!(body["type"], "budget.threshold");
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'), "{body}");
    let data = serde_json::json!({
        "level": "organisation", "id": "house", "window": "all", "percent": 50, "amount": "0.00000001",
        "spent": "0.000000006", "currency": "EUR"
    });
    assert_eq!(body["data"], data);
    assert!(matches!(ends(&books)[..], [Delivery::Delivered { attempts: 4, .. }]));
    // A new start sends nothing twice, and goes on with what is new.
    drop((webhook, books));
    let books = open(folder.path(), 0);
    let _webhook = start(&books, &endpoint, times());
    spend(&books, 4);
    let next = endpoint.next();
    assert!(next.body.contains("\"percent\":100"), "{}", next.body);
    assert_ne!(next.headers["webhook-id"], sent[0].headers["webhook-id"]);
    let test = books.notifier().unwrap().test().unwrap();
    assert_eq!(test, "127.0.0.1 answered 204");
    let request = endpoint.next();
    assert_eq!(request.headers["webhook-signature"], signature(&request));
    assert!(request.body.contains("\"type\":\"webhook.test\""), "{}", request.body);
}

#[test]
fn what_was_not_delivered_is_found_by_the_next_start_and_by_another_server() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::new((0..1000).map(|_| Reply::Status(503)));
    let books = open(folder.path(), 0);
    watch(&books, &[50]);
    // Raised before anybody delivers.
    spend(&books, 6);
    let webhook = start(&books, &endpoint, times());
    let first = endpoint.next();
    drop((webhook, books));
    let books = open(folder.path(), 1);
    endpoint.replies.lock().unwrap().clear();
    let webhook = start(&books, &endpoint, times());
    assert!(matches!(ends(&books)[..], [Delivery::Delivered { .. }]));
    let last = std::iter::from_fn(|| endpoint.requests.try_recv().ok()).last().unwrap();
    assert_eq!((&last.headers["webhook-id"], &last.body), (&first.headers["webhook-id"], &first.body));
    drop(webhook);
    books.ledger().verify().unwrap();
}

#[test]
fn what_is_never_taken_is_given_up() {
    for (replies, give_up, part) in [
        (vec![Reply::Status(410)], Duration::from_secs(3600), "410"),
        ((0..1000).map(|_| Reply::Status(500)).collect(), Duration::from_millis(300), "it answered 500"),
        (Vec::new(), Duration::ZERO, "too old"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::new(replies);
        let books = open(folder.path(), 0);
        watch(&books, &[50]);
        let _webhook = start(&books, &endpoint, Times { give_up, ..times() });
        spend(&books, 6);
        let ends = ends(&books);
        assert!(matches!(&ends[..], [Delivery::GivenUp { reason, .. }] if reason.contains(part)), "{ends:?}");
    }
}

#[test]
fn a_receiver_that_hangs_does_not_hold_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::new([Reply::Hang]);
    let books = open(folder.path(), 0);
    watch(&books, &[50]);
    let webhook = start(&books, &endpoint, times());
    spend(&books, 6);
    endpoint.next();
    drop(webhook);
    // The books are closed although the thread still waits for the answer: another process may have them.
    drop(books);
    let books = open(folder.path(), 0);
    assert_eq!(books.alerts(9).unwrap()[0].delivery, Delivery::Pending);
}

#[test]
fn pauses_grow_to_their_most() {
    let times = Times::default();
    for (attempts, middle_s) in [(1, 5), (2, 10), (5, 80), (13, 20_480), (14, 21_600), (40, 21_600)] {
        let middle = Duration::from_secs(middle_s);
        for _ in 0..50 {
            let pause = times.pause(attempts);
            assert!(pause >= middle / 2 && pause <= middle * 3 / 2, "{attempts}: {pause:?}");
        }
    }
}
