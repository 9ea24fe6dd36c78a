//! Two servers over one engine: one with books, one without.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use economics::Currency;
use economics::books::{Books, Settings, Steps};
use economics::directory::record::Record;
use engine::{EngineConfig, LocalEngine, Runner};
use formats::gguf::Gguf;
use ledger::StoreSpec;
use metering::{Journal, Meter};
use serde_json::json;
use server::{KeyConfig, Server, ServerConfig, hash_key};
use service::{Charging, FixedPool, Line, LocalLine, LocalLineConfig};
use tempfile::TempDir;
use tokenizer::Tokenizer;
use tokio::runtime::Runtime;

pub(crate) const MODEL: &str = "m";
pub(crate) const KEY: &str = "tw-benchmark";
const SECRET: &[u8] = b"a secret of the benchmark alone";
/// As `serve` has it.
const SYNC_INTERVAL: Duration = Duration::from_millis(50);
const DISK_WAIT: Duration = Duration::from_secs(60);

/// Whether requests are charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    On,
    Off,
}

pub(crate) struct Side {
    pub(crate) line: Arc<LocalLine>,
    pub(crate) address: SocketAddr,
}

pub(crate) struct Plant {
    on: Side,
    off: Side,
    pub(crate) charging: Arc<Charging>,
    /// Named `server`, as are its threads.
    pub(crate) runtime: Runtime,
    _folder: TempDir,
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(crate) fn now_ms() -> i64 {
    i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

impl Plant {
    /// Over `runner`, with the tokenizer of `gguf`.
    pub(crate) fn start(runner: Box<dyn Runner>, gguf: &Gguf) -> Self {
        // Every request has the same prompt; with the cache the second one would be quicker.
        let config = EngineConfig { prefix_cache: false, ..EngineConfig::default() };
        let engine = Arc::new(LocalEngine::start(runner, config).unwrap());
        // On the disk of the target folder: the usual place for temporary files may be memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let charging = charging(folder.path());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores().clamp(1, 4))
            .thread_name("server")
            // Their processor time is read at the end, so none may go.
            .thread_keep_alive(Duration::from_secs(24 * 3600))
            .enable_all()
            .build()
            .unwrap();
        let line = || {
            let card = LocalLineConfig { id: MODEL.to_owned(), ..LocalLineConfig::default() };
            let (engine, meter) = (Arc::clone(&engine) as _, Arc::new(Meter::new()));
            LocalLine::new(card, Tokenizer::from_gguf(gguf).unwrap(), None, engine, meter)
        };
        let off = serve(&runtime, line(), None);
        let on = serve(&runtime, line().charged(Arc::clone(&charging)), Some(Arc::clone(charging.books())));
        Self { on, off, charging, runtime, _folder: folder }
    }

    pub(crate) fn side(&self, arm: Arm) -> &Side {
        match arm {
            Arm::On => &self.on,
            Arm::Off => &self.off,
        }
    }

    /// Everything decided is written.
    pub(crate) fn settle(&self) {
        self.charging.books().ledger().flush(DISK_WAIT).unwrap();
        assert_eq!(self.charging.open_requests(), 0, "a request is still open");
    }

    /// The books are in order, and it was the customer who paid.
    pub(crate) fn check(&self) {
        self.settle();
        let ledger = self.charging.books().ledger();
        ledger.verify().unwrap();
        let money = ledger.account("org/acme/money").unwrap().unwrap();
        assert!(ledger.balance(money).unwrap().unwrap().posted < 0, "nothing was charged");
    }
}

/// Books with a customer.
fn charging(folder: &Path) -> Arc<Charging> {
    let settings = Settings {
        store: StoreSpec::Sqlite(folder.join("books.db")),
        writer: 0,
        currency: Currency::of("USD").unwrap(),
        secret: SECRET.to_vec(),
        bootstrap: Vec::new(),
        steps: Steps::default(),
    };
    let books = Books::open(settings, now_ms()).unwrap();
    let budget = json!({"amount": "1000000"});
    let limits = json!({"requests_per_minute": 1_000_000, "total_tokens_per_minute": 1_000_000_000});
    // In the order in which they refer to each other; the numbers are those of the kinds of records.
    for (kind, record) in [
        (
            8,
            json!({
                "model": MODEL, "from": "2020-01-01T00:00:00Z",
                "tiers": [{"input": "10 per 1M", "output": "30 per 1M"}],
            }),
        ),
        (7, json!({"id": "basic"})),
        (1, json!({"id": "acme", "name": "Acme", "plan": "basic", "bounds": {"budget": budget}})),
        (3, json!({"id": "web", "organisation": "acme", "name": "Web", "bounds": {"budget": budget}})),
        (
            4,
            json!({
                "id": "k1", "project": "web", "name": "web", "prefix": "tw", "hash": hash_key(SECRET, KEY),
                "scopes": ["inference"], "bounds": {"limits": limits, "budget": budget},
            }),
        ),
    ] {
        let record = Record::read(kind, "", record.to_string().as_bytes()).unwrap();
        books.change(record, "benchmark", now_ms()).unwrap();
    }
    let (journal, _) = Journal::open(&folder.join("journal"), SYNC_INTERVAL).unwrap();
    Arc::new(Charging::start(books, journal).unwrap())
}

fn serve(runtime: &Runtime, line: LocalLine, books: Option<Arc<Books>>) -> Side {
    let line = Arc::new(line);
    let keys = vec![KeyConfig { name: "k1".into(), hash: hash_key(SECRET, KEY), max_priority: 0 }];
    // With books the customer's key is theirs; one of the configuration would be the house's.
    let keys = if books.is_none() { keys } else { Vec::new() };
    let config = ServerConfig { port: 0, keys, key_secret: SECRET.to_vec(), ..ServerConfig::default() };
    let lines = vec![Arc::clone(&line) as Arc<dyn Line>];
    let plant = server::Plant {
        pool: Arc::new(FixedPool::new(lines)),
        meter: Arc::new(Meter::new()),
        books,
        charging: None,
        answers: None,
        traces: None,
        history: None,
    };
    let server = runtime.block_on(Server::bind(&config, plant)).unwrap();
    let address = server.local_addr();
    runtime.spawn(server.run(std::future::pending()));
    Side { line, address }
}
