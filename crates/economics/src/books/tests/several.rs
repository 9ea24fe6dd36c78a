//! Two servers over one PostgreSQL ledger.

use std::time::Instant;

use test_support::Cluster;

use super::*;
use crate::directory::Unidentified;
use crate::directory::authority::Authority;

/// Far above what is promised: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

fn open(url: &str, writer: u32) -> Arc<Books> {
    let store = StoreSpec::Postgres(url.to_owned());
    Books::open(Settings { store, writer, ..settings(Path::new("")) }, NOW).unwrap()
}

/// Waits until it is so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what} is not seen");
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("{what}: seen after {:?}", begin.elapsed());
}

#[test]
fn servers_over_one_ledger() {
    let cluster = Cluster::start();
    changes_are_seen_by_the_other(&cluster.database("seen"));
    changes_meet(&cluster.database("meet"));
    alerts_are_raised_by_one(&cluster.database("alerts"));
    a_stale_server_puts_no_floor_back(&cluster.database("floors"));
    a_request_taken_for_gone_is_charged_once(&cluster.database("late"));
    a_change_of_what_another_has_changed_is_refused(&cluster.database("stale"));
}

/// One server ends the hold of a request that still runs on the other.
fn a_request_taken_for_gone_is_charged_once(url: &str) {
    let (one, two) = (open(url, 0), open(url, 1));
    furnish(&one, vec![example_tier()], Plan::plain("basic"), budget(100 * OUT));
    let plant = Plant { books: one, folder: tempfile::tempdir().unwrap() };
    let later = NOW + 48 * 3_600_000;
    let mut ticket = plant.admit(0, 100).unwrap();
    assert_eq!(two.expire(|_| false, later).unwrap(), 1);
    assert_eq!(ticket.extend(later), Extension::Ended);
    for _ in 0..2 {
        ticket.ended = false;
        assert_eq!(ticket.settle(&used(0, 16), End::Failed, later).unwrap().charge.total(), Nano(16 * OUT));
        assert_eq!(plant.balance("org/acme/money").posted, -16 * OUT);
    }
    plant.check();
}

/// What one has changed a moment ago the other does not undo, however old its directory is.
fn a_stale_server_puts_no_floor_back(url: &str) {
    let (one, two) = (open(url, 0), open(url, 1));
    furnish(&one, vec![example_tier()], Plan::plain("basic"), budget(100 * OUT));
    until("the key", || two.identify("tw_one", "", NOW).is_ok());
    let plants = [one, two].map(|books| Plant { books, folder: tempfile::tempdir().unwrap() });
    let [one, two] = &plants;
    drop(two.admit(0, 1).unwrap());
    for tokens in 1..=10 {
        one.books.change(Record::Key(key(budget(tokens * OUT))), "admin", NOW).unwrap();
        drop(two.admit(0, 1).unwrap());
        assert_eq!(one.balance("budget/key/k1/month/2026-11-01").floor, Some(-tokens * OUT));
        let prepaid = organisation(Some(Nano(tokens * OUT)));
        one.books.change(Record::Organisation(prepaid), "admin", NOW).unwrap();
        two.books.pay("acme", Nano(1), (&tokens.to_string(), "admin"), NOW).unwrap();
        assert_eq!(one.balance("org/acme/money").floor, Some(-tokens * OUT));
    }
    one.check();
}

fn changes_are_seen_by_the_other(url: &str) {
    let (one, two) = (open(url, 0), open(url, 1));
    furnish(&one, vec![example_tier()], Plan::plain("basic"), Bounds::default());
    until("a new key", || two.identify("tw_one", "", NOW).is_ok());
    let identity = two.identify("tw_one", "", NOW).unwrap();
    let admission = |id| Admission {
        id,
        identity: &identity,
        model: MODEL,
        base: None,
        input: 1,
        max_output: 1,
        tag: "",
        user: "",
        metadata: Metadata::NONE,
        now_ms: NOW,
    };
    drop(two.admit(admission(next_id())).unwrap());
    let free = PriceSpec { from: NOW, ..PriceSpec::flat("standard", MODEL, Rate::ZERO, Rate::ZERO) };
    one.change(Record::Price(free), "admin", NOW).unwrap();
    until("a new price", || two.directory().prices().version("standard", MODEL, 2).is_some());
    let settled = two.admit(admission(next_id())).unwrap().settle(&used(1, 1), End::Stop, NOW).unwrap();
    assert_eq!(settled.charge.total(), Nano::ZERO);
    let plan = Plan { discount_permille: 100, ..Plan::plain("basic") };
    two.change(Record::Plan(plan.clone()), "admin", NOW).unwrap();
    until("a plan", || one.identify("tw_one", "", NOW).unwrap().plan.as_ref() == &plan);
    one.change(Record::Key(Key { revoked: true, ..key(Bounds::default()) }), "admin", NOW).unwrap();
    until("a revocation", || matches!(two.identify("tw_one", "", NOW), Err(Unidentified::Revoked(_))));
    // What one has heard of, the other can refer to at once, and a stale copy takes nothing back.
    let second = Project { id: "shop".into(), ..one.directory().project("web").unwrap().clone() };
    one.change(Record::Project(second), "admin", NOW).unwrap();
    let hash = KeyHash::of(b"plant", "tw_shop");
    let shop = Key { id: "k2".into(), project: "shop".into(), hash, ..key(Bounds::default()) };
    two.change(Record::Key(shop.clone()), "admin", NOW).unwrap();
    one.change(Record::Key(Key { revoked: true, ..shop.clone() }), "admin", NOW).unwrap();
    let stale = two.change(Record::Key(Key { name: "late".into(), ..shop }), "admin", NOW).unwrap_err();
    assert!(stale.to_string().contains("stays revoked"), "{stale}");
    assert_eq!(one.ledger().verify().unwrap().heads.len(), 2);
}

/// Both change the same record at one time: nobody fails, and all copies end alike.
fn changes_meet(url: &str) {
    const EACH: u64 = 20;
    let (one, two) = (open(url, 0), open(url, 1));
    furnish(&one, vec![example_tier()], Plan::plain("basic"), Bounds::default());
    let start = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for books in [&one, &two] {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                for n in 0..EACH {
                    let name = format!("{} of {}", n, books.writer());
                    books
                        .change(Record::Organisation(Organisation { name, ..organisation(None) }), "admin", NOW)
                        .unwrap();
                    let free = PriceSpec {
                        from: NOW + n.cast_signed(),
                        ..PriceSpec::flat("standard", &format!("m{}", n % 2), Rate::ZERO, Rate::ZERO)
                    };
                    // Two prices from one time on contradict each other: the second is refused, whoever it is from.
                    let _ = books.change(Record::Price(free), "admin", NOW);
                }
            });
        }
    });
    let history = one.ledger().document_history(1, "acme").unwrap();
    let versions: Vec<u64> = history.iter().map(|document| document.version).collect();
    assert_eq!(versions, (1..=2 * EACH + 1).collect::<Vec<_>>());
    let third = open(url, 2);
    for books in [&one, &two] {
        until("every change", || records(books) == records(&third));
    }
}

fn alerts_are_raised_by_one(url: &str) {
    const TOKENS: u64 = 24;
    let thresholds: Vec<u16> = (1..=10).map(|tenth| tenth * 10).collect();
    let (one, two) = (open(url, 0), open(url, 1));
    let mut bounds = budget(TOKENS.cast_signed() * OUT);
    if let Some(budget) = &mut bounds.budget {
        budget.alert_percent.clone_from(&thresholds);
    }
    furnish(&one, vec![example_tier()], Plan::plain("basic"), bounds);
    until("the key", || two.identify("tw_one", "", NOW).is_ok());
    let folder = || tempfile::tempdir().unwrap();
    let plants = [one, two].map(|books| Plant { books, folder: folder() });
    let mut raised: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = plants
            .iter()
            .flat_map(|plant| [plant; 3])
            .map(|plant| {
                scope.spawn(move || {
                    let settle = |_| plant.admit(0, 1).unwrap().settle(&used(0, 1), End::Length, NOW).unwrap().alerts;
                    (0..TOKENS / 6).flat_map(settle).map(|alert| alert.percent).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    raised.sort_unstable();
    assert_eq!(raised, thresholds);
    let kept: std::collections::BTreeSet<u16> =
        plants[0].books.alerts(99).unwrap().into_iter().map(|raised| raised.alert.percent).collect();
    assert_eq!(kept.into_iter().collect::<Vec<_>>(), thresholds);
    plants[1].check();
}

/// Of two changes of what both have read, the second is refused, whichever server it comes through.
fn a_change_of_what_another_has_changed_is_refused(url: &str) {
    let (one, two) = (open(url, 0), open(url, 1));
    furnish(&one, vec![example_tier()], Plan::plain("basic"), Bounds::default());
    until("the key", || two.identify("tw_one", "", NOW).is_ok());
    let version = two.directory().version(Kind::Organisation, "acme");
    let rename = |books: &Books, expected: Expected, name: &str| {
        let record = Record::Organisation(Organisation { name: name.to_owned(), ..organisation(None) });
        let changed = books.change_with((Authority::Plant, &expected), "admin", NOW, |_| Ok(record.clone()));
        changed.map(|(_, version)| version)
    };
    assert_eq!(rename(&one, Expected::Versions(vec![version]), "first").unwrap(), version + 1);
    let error = rename(&two, Expected::Versions(vec![version]), "second").unwrap_err();
    assert!(matches!(error, ChangeError::Stale { present, .. } if present == version + 1), "{error}");
    assert_eq!(two.directory().version(Kind::Organisation, "acme"), version + 1, "it is told what there is");
    let error = rename(&two, Expected::Absent, "second").unwrap_err();
    assert_eq!(error.to_string(), format!("organisation `acme` is at version {} now", version + 1));
    assert_eq!(rename(&two, Expected::Present, "third").unwrap(), version + 2);
    assert_eq!(rename(&one, Expected::Anything, "fourth").unwrap(), version + 3);
}
