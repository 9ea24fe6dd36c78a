//! Tests of `experiments` over real books: arms alike raise no alarm, a better one is found and gets the next units.

use economics::books::outcome_detail::Owner;
use economics::books::{Admission, End, Metadata, Settings, Steps};
use economics::directory::HOUSE;
use economics::directory::record::{Kind, Record};
use economics::outcome::{Attribution, Outcome, Remarks, Valuation};
use economics::{Currency, Nano, Quantities};
use ledger::{EntryId, StoreSpec};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::results::Results;
use super::*;

const HOUR_MS: i64 = 3_600_000;
const NOW: i64 = 1_794_744_000_000;

struct Trial {
    books: Arc<Books>,
    identity: Identity,
    _folder: TempDir,
}

impl Trial {
    /// Books of a house with one experiment.
    fn of(change: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            store: StoreSpec::Sqlite(folder.path().join("books.db")),
            writer: 0,
            currency: Currency::of("USD").unwrap(),
            secret: b"sixteen bytes at least".to_vec(),
            bootstrap: Vec::new(),
            steps: Steps::default(),
        };
        let books = Books::open(settings, NOW).unwrap();
        books.serve_models(&["tiny".to_owned()], NOW).unwrap();
        let mut record = json!({"id": "trial", "organisation": HOUSE, "unit": "user", "salt": "1", "window_days": 0,
            "planned_units": 250, "arms": [{"name": "a", "weight": 500}, {"name": "b", "weight": 500}]});
        change.as_object().unwrap().iter().for_each(|(name, value)| record[name] = value.clone());
        books.change(Record::parse(Kind::Experiment, record).unwrap(), "test", NOW).unwrap();
        let identity = books.identify_house("").unwrap();
        Self { books, identity, _folder: folder }
    }

    /// A unit that comes, asks once, and is worth what `value` says of its number and its arm.
    fn unit(&self, n: i64, value: impl Fn(i64, usize) -> i64) -> usize {
        let user = format!("user {n}");
        let placed = place(&self.books, &self.identity, ("trial", &user)).unwrap();
        let metadata = Metadata { joined: placed.joined.ok(), ..Metadata::default() };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(n + 1).to_be_bytes());
        let (id, identity, input, output) = (EntryId(id), &self.identity, 50 + (n * 37 % 101).unsigned_abs(), 20);
        let (model, base, tag, user, metadata) = ("tiny", None, "", user.as_str(), &metadata);
        let (max_output, now_ms) = (output, NOW);
        let admission = Admission { id, identity, model, base, input, max_output, tag, user, metadata, now_ms };
        let mut ticket = self.books.admit(admission).unwrap();
        let used = Quantities { in_uncached: input, out_visible: output, ..Quantities::default() };
        ticket.settle(&used, End::Stop, NOW).unwrap();
        let outcome = Outcome {
            id: format!("o{n}"),
            revision: 1,
            kind: "sale".to_owned(),
            value: Nano(value(n, placed.arm) * 1_000_000_000),
            saved: None,
            valuation: Valuation::Measured,
            accepted: true,
            occurred_ms: None,
            attribution: Attribution::Requests(vec![(id, 1000)]),
            maturity_days: 7,
            remarks: Remarks::default(),
        };
        if outcome.value > Nano::ZERO {
            let owner = Owner { organisation: HOUSE.to_owned(), project: HOUSE.to_owned(), any: false };
            self.books.tell_outcome(&owner, &outcome, NOW).unwrap();
        }
        placed.arm
    }

    fn experiment(&self) -> Arc<Experiment> {
        Arc::clone(self.books.directory().experiment("trial").unwrap())
    }

    fn shown(&self) -> Value {
        self.books.ledger().flush(std::time::Duration::from_secs(30)).unwrap();
        let experiment = self.experiment();
        let results = Results::read(&self.books, &experiment, NOW).unwrap();
        serde_json::to_value(results.document(self.books.currency()).unwrap()).unwrap()
    }
}

/// Six of ten are worth something.
fn worth(n: i64) -> i64 {
    if n * 53 % 10 < 6 { 10 + n * 29 % 17 } else { 0 }
}

#[test]
fn arms_alike_raise_no_alarm_however_often_one_looks() {
    let trial = Trial::of(&json!({}));
    let mut looks = 0;
    for n in 0..240 {
        trial.unit(n, |n, _| worth(n));
        if n > 190 && n % 5 == 0 {
            let shown = trial.shown();
            looks += usize::from(shown["comparisons"][0]["difference"].is_object());
            assert_eq!(shown["comparisons"][0]["decided"], false, "{shown}");
            assert_eq!(shown["sample_ratio"]["mismatch"], false, "{shown}");
        }
    }
    assert!(looks > 3, "{looks} looks with an interval");
    let shown = trial.shown();
    let sum = |field: &str| shown["arms"][0][field].as_i64().unwrap() + shown["arms"][1][field].as_i64().unwrap();
    assert_eq!((sum("units"), sum("requests"), &shown["weighted_by_chance"]), (240, 240, &json!(false)));
    let value: f64 =
        [0, 1].map(|arm| shown["arms"][arm]["value"].as_str().unwrap().parse::<f64>().unwrap()).iter().sum();
    assert!((value - (0..240).map(worth).sum::<i64>() as f64).abs() < 1e-6, "{value}");
    trial.books.ledger().verify().unwrap();
}

#[test]
fn the_better_arm_is_found_and_gets_the_next_units_once_an_hour() {
    let trial = Trial::of(&json!({"allocation": "thompson", "floor_permille": 100}));
    let better = |n: i64, arm: usize| if arm == 1 { 3 * worth(n) } else { worth(n) };
    for n in 0..240 {
        trial.unit(n, better);
    }
    let shown = trial.shown();
    assert_eq!(shown["comparisons"][0]["decided"], true, "{shown}");
    assert!(shown["comparisons"][0]["lift"]["estimate"].as_f64().unwrap() > 1.0, "{shown}");
    let next = &shown["allocation"]["next"][1];
    assert_eq!((&next["arm"], &next["weight"]), (&json!("b"), &json!(900)), "{shown}");
    assert!(next["best"].as_f64().unwrap() > 0.999, "{shown}");
    // Not before the hour is over, and once.
    allocation::reallocate(&trial.books, NOW + HOUR_MS - 1);
    assert_eq!(trial.experiment().weights(), [500, 500]);
    for _ in 0..2 {
        allocation::reallocate(&trial.books, NOW + HOUR_MS);
        assert_eq!(trial.experiment().weights(), [100, 900]);
    }
    let arms: Vec<usize> = (240..300).map(|n| trial.unit(n, better)).collect();
    assert!(arms.iter().filter(|arm| **arm == 1).count() > 45, "{arms:?}");
    let shown = trial.shown();
    assert_eq!((&shown["version"], &shown["weighted_by_chance"]), (&json!(2), &json!(true)));
    assert_eq!(
        (&shown["sample_ratio"]["mismatch"], &shown["comparisons"][0]["decided"]),
        (&json!(false), &json!(true))
    );
    trial.books.ledger().verify().unwrap();
}
