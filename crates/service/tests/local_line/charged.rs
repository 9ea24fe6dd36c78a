//! Requests that are charged: real books over a ledger and a journal in a folder of their own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use economics::books::{AdmitError, Books, Metadata, Settings, Steps};
use economics::directory::key::KeyHash;
use economics::directory::record::{Bounds, Key, Organisation, Project, Record, Scope};
use economics::plan::{Budget, Plan};
use economics::price::{PriceSpec, Tier};
use economics::rollup::{Goodput, goodput};
use economics::window::Period;
use economics::{Charge, Currency, Nano, Rate};
use engine::EngineConfig;
use inference::FinishReason;
use ledger::StoreSpec;
use metering::{Journal, Objectives, Outcome};
use service::{Charging, ErrorKind, Generation, LineError, LineEvent, Payer, Reply, Waits};

use crate::plant::{PROMPT_LEN, Plant, Script, TEMPLATE, generation};

/// Nano per prompt token and per answer token.
pub(crate) const IN: i64 = 10_000;
pub(crate) const OUT: i64 = 30_000;
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn now_ms() -> i64 {
    i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

pub(crate) fn open(folder: &Path) -> (Arc<Books>, Journal, metering::Recovery) {
    open_store(folder, StoreSpec::Sqlite(folder.join("books.db")))
}

fn open_store(folder: &Path, store: StoreSpec) -> (Arc<Books>, Journal, metering::Recovery) {
    let settings = Settings {
        store,
        writer: 0,
        currency: Currency::of("USD").unwrap(),
        secret: b"plant".to_vec(),
        bootstrap: Vec::new(),
        steps: Steps { first: 8, next: 8 },
    };
    let books = Books::open(settings, now_ms()).unwrap();
    let (journal, recovery) = Journal::open(&folder.join("journal"), Duration::from_millis(5)).unwrap();
    (books, journal, recovery)
}

/// The same for all tokens of a kind.
pub(crate) fn flat() -> Tier {
    Tier::flat("0.01 per 1K".parse().unwrap(), "0.03 per 1K".parse().unwrap())
}

pub(crate) fn records(rates: Tier, budget: Option<i64>) -> Vec<Record> {
    let budget =
        budget.map(|nano| Budget { amount: Nano(nano), period: Period::Month, soft: false, alert_percent: vec![50] });
    let none = Bounds::default;
    vec![
        Record::Price(PriceSpec { tiers: vec![rates], ..PriceSpec::flat("standard", "m", Rate::ZERO, Rate::ZERO) }),
        Record::Plan(Plan::plain("basic")),
        Record::Organisation(Organisation {
            id: "acme".into(),
            name: "Acme".into(),
            plan: "basic".into(),
            credit: None,
            bounds: none(),
            end_user_bounds: none(),
            suspended: false,
        }),
        Record::Project(Project {
            id: "web".into(),
            organisation: "acme".into(),
            team: None,
            name: "Web".into(),
            bounds: none(),
            suspended: false,
            store_content: None,
        }),
        Record::Key(Key {
            id: "k1".into(),
            project: "web".into(),
            name: "web".into(),
            prefix: "tw_one".into(),
            hash: KeyHash::of(b"plant", "tw_one"),
            previous: None,
            scopes: [Scope::Inference].into(),
            owner: None,
            expires: None,
            revoked: false,
            bounds: Bounds { budget, ..none() },
            max_priority: 0,
        }),
    ]
}

pub(crate) struct Charged {
    pub(crate) plant: Plant,
    pub(crate) charging: Arc<Charging>,
    pub(crate) folder: tempfile::TempDir,
}

impl Charged {
    pub(crate) fn new(script: Script, budget: Option<i64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreSpec::Sqlite(folder.path().join("books.db"));
        Self::with(script, records(flat(), budget), (folder, store), (Waits::default(), |_| {}))
    }

    /// With other records and waits, over another store; `prepare` gets the journal before it is used.
    pub(crate) fn with(
        script: Script,
        records: Vec<Record>,
        (folder, store): (tempfile::TempDir, StoreSpec),
        (waits, prepare): (Waits, impl FnOnce(&Journal)),
    ) -> Self {
        let (books, journal, _) = open_store(folder.path(), store);
        for record in records {
            books.change(record, "admin", now_ms()).unwrap();
        }
        prepare(&journal);
        let objectives = Objectives { ttft_ns: Some(u64::MAX), ..Objectives::default() };
        let charging = Arc::new(Charging::with(books, journal, waits).unwrap().held_to(objectives));
        let plant = Plant::with(script, EngineConfig::default(), Some(TEMPLATE));
        let plant = Plant { line: plant.line.charged(Arc::clone(&charging)), ..plant };
        Self { plant, charging, folder }
    }

    pub(crate) fn asked(&self, number: u32, max_tokens: u32, streamed: bool) -> Generation {
        let identity = Arc::new(self.charging.books().identify("tw_one", "", now_ms()).unwrap());
        let tag = Some("t".to_owned());
        let payer = Some(Payer { identity, tag, metadata: Metadata::default(), streamed, traffic: None });
        Generation { id: format!("cmpl-{number:032x}"), payer, ..generation(max_tokens) }
    }

    pub(crate) fn balance(&self) -> i64 {
        balance(self.charging.books())
    }

    /// Of all days.
    fn goodput(&self) -> Goodput {
        goodput(self.charging.books().ledger(), 0, 2 * now_ms()).unwrap()
    }

    /// The ledger is in order and nothing is held, in a moment: releases are nobody's wait.
    pub(crate) fn check(&self) {
        let ledger = self.charging.books().ledger();
        let patience = Instant::now() + LIMIT;
        while self.charging.open_requests() > 0 && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        ledger.flush(LIMIT).unwrap();
        assert!(ledger.holds().unwrap().is_empty());
        assert_eq!(self.charging.open_requests(), 0, "no page stays open");
        ledger.verify().unwrap();
    }
}

pub(crate) fn balance(books: &Books) -> i64 {
    let account = books.ledger().account("org/acme/money").unwrap().unwrap();
    books.ledger().balance(account).unwrap().unwrap().posted
}

/// Text, the end, and the charge.
pub(crate) async fn read(reply: &mut Reply) -> (String, Option<FinishReason>, Option<Charge>) {
    let (mut text, mut end, mut charged) = (String::new(), None, None);
    while let Some(event) = reply.next().await {
        match event {
            LineEvent::Text { text: more, .. } => text.push_str(&more),
            LineEvent::Finished { reason, .. } => end = Some(reason),
            LineEvent::Done(_, charge) => charged = charge,
            LineEvent::Failed(error, _) => panic!("{error}"),
            LineEvent::Echo { .. } | LineEvent::Chances { .. } => {}
        }
    }
    (text, end, charged)
}

#[tokio::test]
async fn streamed_or_whole_the_charge_is_the_usage() {
    let charged = Charged::new(Script::default(), None);
    let mut totals = Vec::new();
    for (number, streamed) in [(1, true), (2, false)] {
        let mut reply = charged.plant.submit(charged.asked(number, 20, streamed)).await.unwrap();
        let (text, end, charge) = read(&mut reply).await;
        let charge = charge.unwrap();
        assert_eq!((text.len(), end), (20, Some(FinishReason::Length)));
        assert_eq!((charge.quantities.input(), charge.quantities.output()), (PROMPT_LEN as u64, 20));
        totals.push(charge.total().0);
    }
    let one = 4 * IN + 20 * OUT;
    assert_eq!(totals, [one, one]);
    assert_eq!(charged.balance(), -2 * one);
    charged.check();
    assert_eq!(charged.goodput(), Goodput { stated: 2, met: 2, output_tokens: 40 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_are_admitted_at_once_than_the_runtime_has_threads() {
    let charged = Arc::new(Charged::new(Script::default(), None));
    let tasks: Vec<_> = (1..=40)
        .map(|number| {
            let charged = Arc::clone(&charged);
            tokio::spawn(async move {
                let mut reply = charged.plant.submit(charged.asked(number, 3, true)).await.unwrap();
                read(&mut reply).await.2.unwrap().total().0
            })
        })
        .collect();
    let one = 4 * IN + 3 * OUT;
    for task in tasks {
        assert_eq!(task.await.unwrap(), one);
    }
    assert_eq!(charged.balance(), -40 * one);
    charged.check();
}

#[tokio::test]
async fn a_budget_ends_the_answer_at_the_exact_token() {
    let budget = 4 * IN + 13 * OUT;
    for left_over in [0, 1, OUT - 1] {
        let charged = Charged::new(Script::default(), Some(budget + left_over));
        let mut reply = charged.plant.submit(charged.asked(1, 100, true)).await.unwrap();
        let (text, end, charge) = read(&mut reply).await;
        assert_eq!((text.len(), end), (13, Some(FinishReason::Allowance)));
        assert_eq!(charge.unwrap().total(), Nano(budget));
        let refused = charged.plant.submit(charged.asked(2, 1, true)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unpaid);
        assert!(matches!(refused, LineError::Payment(AdmitError::Spent { .. })), "{refused}");
        charged.check();
    }
}

#[tokio::test]
async fn money_that_comes_free_is_used() {
    // Both want all of the budget; the second waits for what the first gives back.
    let script = Script { step: Duration::from_millis(2), ..Script::default() };
    let charged = Charged::new(script, Some(2 * (4 * IN + 16 * OUT)));
    let mut first = charged.plant.submit(charged.asked(1, 16, true)).await.unwrap();
    let mut second = charged.plant.submit(charged.asked(2, 16, true)).await.unwrap();
    let (one, two) = tokio::join!(read(&mut first), read(&mut second));
    assert_eq!((one.0.len(), two.0.len()), (16, 16), "no false end");
    assert_eq!(charged.balance(), -2 * (4 * IN + 16 * OUT));
    charged.check();
}

/// Each holds what another one would need, so that nobody can go on: they end after a moment, and all is spent.
#[tokio::test]
async fn those_who_wait_for_each_other_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreSpec::Sqlite(folder.path().join("books.db"));
    let (script, budget) = (Script { step: Duration::from_millis(2), ..Script::default() }, 4 * (4 * IN + 14 * OUT));
    let waits = Waits { extension: Duration::from_secs(3_600), held: Duration::from_millis(300), ..Waits::default() };
    let charged = Charged::with(script, records(flat(), Some(budget)), (folder, store), (waits, |_| {}));
    let mut replies = Vec::new();
    for number in 1..=4 {
        replies.push(charged.plant.submit(charged.asked(number, 100, true)).await.unwrap());
    }
    let [one, two, three, four] = replies.get_disjoint_mut([0, 1, 2, 3]).unwrap();
    let all = async { <[_; 4]>::from(tokio::join!(read(one), read(two), read(three), read(four))) };
    let ends = tokio::time::timeout(Duration::from_secs(20), all).await.expect("an end before the long wait is over");
    assert!(ends.iter().all(|(_, end, _)| *end == Some(FinishReason::Allowance)));
    assert_eq!(ends.iter().map(|(text, ..)| text.len()).sum::<usize>(), 4 * 14);
    assert_eq!(charged.balance(), -budget);
    charged.check();
}

#[tokio::test]
async fn cancelled_work_is_charged_for_what_was_made_and_failed_work_is_not() {
    let script = Script { step: Duration::from_millis(1), ..Script::default() };
    let charged = Charged::new(script, None);
    let mut reply = charged.plant.submit(charged.asked(1, 400, true)).await.unwrap();
    while !matches!(reply.next().await, Some(LineEvent::Text { .. })) {}
    drop(reply);
    charged.plant.until(|plant| plant.ended("cancelled") == 1).await;
    charged.plant.until(|_| charged.balance() < 0).await;
    let made = charged.plant.metric("tokenworks_output_tokens_total{model=\"m\",kind=\"visible\"}");
    assert_eq!(charged.balance(), -(4 * IN + i64::try_from(made).unwrap() * OUT));
    charged.check();
    assert_eq!(charged.goodput(), Goodput { stated: 1, ..Goodput::default() }, "it was not completed");

    let failing = Script { fails_at: Some(0), ..Script::default() };
    let charged = Charged::new(failing, None);
    let mut reply = charged.plant.submit(charged.asked(1, 5, true)).await.unwrap();
    let Some(LineEvent::Failed(_, record)) = reply.next().await else { panic!("it must fail") };
    assert_eq!(record.outcome, Outcome::Failed);
    assert_eq!(charged.balance(), 0);
    charged.check();
}

#[tokio::test]
async fn a_request_that_the_engine_refuses_leaves_nothing_held() {
    let charged = Charged::new(Script::default(), None);
    inference::Engine::close(charged.plant.engine.as_ref());
    let refused = charged.plant.submit(charged.asked(1, 5, true)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    assert_eq!(charged.balance(), 0);
    charged.check();
}

#[tokio::test]
async fn a_crash_charges_what_was_delivered() {
    let script = Script { step: Duration::from_millis(1), ..Script::default() };
    let charged = Charged::new(script, None);
    let whole = charged.plant.submit(charged.asked(1, 400, false)).await.unwrap();
    let mut reply = charged.plant.submit(charged.asked(2, 400, true)).await.unwrap();
    let mut received = 0;
    while received < 5 {
        if let Some(LineEvent::Text { text, .. }) = reply.next().await {
            received += text.len();
        }
    }
    // What a process that starts now would find: the files as they are, with both holds.
    charged.charging.books().ledger().flush(LIMIT).unwrap();
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("journal")).unwrap();
    for name in ["books.db", "books.db-wal"] {
        std::fs::copy(charged.folder.path().join(name), copy.path().join(name)).unwrap();
    }
    for entry in std::fs::read_dir(charged.folder.path().join("journal")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join("journal").join(entry.file_name())).unwrap();
    }
    let (books, journal, recovery) = open(copy.path());
    let recovered = books.recover(&recovery.unfinished, now_ms()).unwrap();
    assert_eq!((recovered.settled, recovered.failed.len()), (1, 0), "the whole answer was not delivered");
    let charge = 4 * IN + i64::try_from(received).unwrap() * OUT;
    assert_eq!((balance(&books), recovered.charged), (-charge, Nano(charge)));
    // A crash during recovery: nothing is charged twice.
    let again = books.recover(&recovery.unfinished, now_ms()).unwrap();
    // The other request's hold may have been on the disk.
    assert_eq!((again.settled, again.already, balance(&books)), (0, 1 + recovered.voided, -charge));
    books.ledger().verify().unwrap();
    drop((journal, whole, reply));
    charged.plant.idle().await;
}
