//! The audit: every act is in it once, page by page, and each organisation sees its own.

use super::*;
use crate::directory::record::{EndUser, Member, Role, Team};

fn acts(books: &Books, organisation: Option<&str>, after: Option<u64>, newest_first: bool, limit: u32) -> Vec<Act> {
    books.acts(ActsAfter { organisation, after, newest_first, limit }).unwrap()
}

fn all(books: &Books) -> Vec<Act> {
    acts(books, None, None, false, 1_000)
}

/// Two customers with records of every kind, a payment each and a credit note.
fn shop() -> Plant {
    let plant = plant(Bounds::default());
    let books = &plant.books;
    let other = Organisation { id: "other".into(), ..organisation(None) };
    let project = Project {
        id: "far".into(),
        organisation: "other".into(),
        team: None,
        name: "Far".into(),
        bounds: Bounds::default(),
        suspended: false,
        store_content: None,
    };
    let far =
        Key { id: "k2".into(), project: "far".into(), hash: KeyHash::of(b"plant", "tw_two"), ..key(Bounds::default()) };
    let team = Team { id: "red".into(), organisation: "acme".into(), name: "Red".into(), bounds: Bounds::default() };
    let member = Member { organisation: "other".into(), person: "a/b".into(), role: Some(Role::Viewer) };
    let user = EndUser { organisation: "acme".into(), user: "ann".into(), bounds: Bounds::default(), blocked: true };
    for record in [
        Record::Organisation(other),
        Record::Project(project),
        Record::Key(far),
        Record::Team(team),
        Record::Member(member),
        Record::EndUser(user),
    ] {
        books.change(record, "eve", NOW).unwrap();
    }
    assert!(!books.pay("acme", Nano(5_000_000), ("one", "eve"), NOW).unwrap().repeated);
    books.pay("other", Nano(7_000_000), ("one", "bob"), NOW).unwrap();
    let mut ticket = plant.admit(5, 5).unwrap();
    let request = ticket.id();
    ticket.settle(&used(5, 5), End::Stop, NOW).unwrap();
    books.credit(request, Nano(IN), ("c", "slow", "eve"), NOW).unwrap();
    plant
}

#[test]
fn every_act_is_listed_once_with_what_it_changed() {
    let plant = shop();
    let acts = all(&plant.books);
    let records: Vec<&str> = acts.iter().map(|act| act.record.as_str()).collect();
    let note = records.last().unwrap();
    assert!(note.starts_with("credit note acme/"), "{note}");
    assert_eq!(
        records[..records.len() - 1],
        [
            "price standard/gpt-4-turbo",
            "plan basic",
            "organisation acme",
            "project web",
            "key k1",
            "organisation other",
            "project far",
            "key k2",
            "team red",
            "member other/a/b",
            "end user acme/ann",
            "payment acme/one",
            "payment other/one",
        ]
    );
    let last = acts.last().unwrap();
    assert_eq!((last.actor.as_str(), last.at_ms), ("eve", NOW));
    assert_eq!((&last.after["amount"], &last.after["reason"]), (&"0.00001".into(), &"slow".into()));
    let paid = acts.iter().find(|act| act.record == "payment other/one").unwrap();
    assert_eq!((paid.actor.as_str(), &paid.after["amount"]), ("bob", &"0.007".into()));
    let revoked =
        Key { revoked: true, ..key(Bounds::default()).rotated("tw_new".into(), KeyHash::of(b"plant", "n"), 9) };
    plant.books.change(Record::Key(revoked), "mallory", NOW + 1).unwrap();
    let newest = self::acts(&plant.books, None, None, true, 1).pop().unwrap();
    assert_eq!((newest.actor.as_str(), newest.at_ms, newest.record.as_str()), ("mallory", NOW + 1, "key k1"));
    let (before, after) = (newest.before.unwrap(), newest.after);
    assert_eq!((&before["revoked"], &after["revoked"]), (&false.into(), &true.into()));
    assert_eq!(after["previous"], serde_json::json!({"until": "1970-01-01T00:00:00.009Z"}));
    for act in all(&plant.books) {
        let text = format!("{:?}{:?}", act.before, act.after);
        assert!(!text.contains("hash"), "{text}");
    }
    plant.check();
}

#[test]
fn pages_in_both_orders_reach_all_acts() {
    let plant = shop();
    let whole = all(&plant.books);
    for (newest_first, limit) in [(false, 1), (false, 4), (true, 3), (true, 14), (true, 100)] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = acts(&plant.books, None, after, newest_first, limit);
            assert!(page.len() <= limit as usize);
            let Some(last) = page.last() else { break };
            after = Some(last.seq);
            seen.extend(page);
        }
        if newest_first {
            seen.reverse();
        }
        assert_eq!(seen, whole, "{newest_first} {limit}");
    }
}

#[test]
fn an_organisation_sees_its_own_acts_and_no_other() {
    let plant = shop();
    let of = |id: &str| -> Vec<String> {
        acts(&plant.books, Some(id), None, false, 100).into_iter().map(|act| act.record).collect()
    };
    let own = of("acme");
    assert_eq!(
        own[..6],
        ["organisation acme", "project web", "key k1", "team red", "end user acme/ann", "payment acme/one"]
    );
    assert_eq!(own.len(), 7);
    assert_eq!(of("other"), ["organisation other", "project far", "key k2", "member other/a/b", "payment other/one"]);
    assert_eq!(acts(&plant.books, Some("acme"), None, true, 2).len(), 2);
    assert!(of("nobody").is_empty());
}

#[test]
fn a_reference_names_one_act() {
    let plant = shop();
    let books = &plant.books;
    let count = all(books).len();
    // By another person at another time: still the same payment.
    let again = books.pay("acme", Nano(5_000_000), ("one", "mallory"), NOW + 9).unwrap();
    assert!(again.repeated);
    // By the same person in the same words, too.
    assert!(books.pay("acme", Nano(5_000_000), ("one", "eve"), NOW).unwrap().repeated);
    let error = books.pay("acme", Nano(6_000_000), ("one", "eve"), NOW).unwrap_err().to_string();
    assert_eq!(error, "reference: it was used before, for 0.005; name another act by another reference");
    let error = books.pay("acme", Nano::ZERO, ("two", "eve"), NOW).unwrap_err().to_string();
    assert!(error.starts_with("amount: 0 changes nothing"), "{error}");
    for reference in ["", " ", "a\nb", &"x".repeat(201)] {
        let error = books.pay("acme", Nano(1), (reference, "eve"), NOW).unwrap_err().to_string();
        assert!(error.starts_with("reference: "), "{error}");
    }
    assert_eq!(all(books).len(), count);
    let standing = books.standing("acme", NOW).unwrap();
    assert_eq!(standing.balance, Nano(5_000_000 - 5 * (IN + OUT) + IN));
}

#[test]
fn another_secret_of_the_keys_is_an_act_of_the_operator() {
    let Plant { books, folder } = shop();
    let count = all(&books).len();
    drop(books);
    let with = |secret: &[u8]| Settings { secret: secret.to_vec(), ..settings(&folder.path().join("books.db")) };
    assert!(Books::take_secret(&with(b"another"), NOW + 1).unwrap());
    assert!(!Books::take_secret(&with(b"another"), NOW + 2).unwrap(), "the same once more changes nothing");
    assert!(Books::take_secret(&with(b"third"), NOW + 3).unwrap());
    let books = Books::open(with(b"third"), NOW + 4).unwrap();
    let acts = all(&books);
    let [.., first, second] = acts.as_slice() else { panic!("{acts:?}") };
    assert_eq!(acts.len(), count + 2);
    let mark =
        |secret: &[u8]| serde_json::json!({"mark": KeyHash::of(secret, "the secret of these books").to_string()});
    for (act, at_ms, [before, after]) in
        [(first, NOW + 1, [&b"plant"[..], b"another"]), (second, NOW + 3, [b"another", b"third"])]
    {
        assert_eq!(
            (act.actor.as_str(), act.record.as_str(), act.at_ms),
            ("server/operator", "secret of the keys", at_ms)
        );
        assert_eq!((&act.before, &act.after), (&Some(mark(before)), &mark(after)));
    }
    assert!(self::acts(&books, Some("acme"), None, false, 100).iter().all(|act| !act.record.contains("secret")));
    Plant { books, folder }.check();
}

#[test]
fn commands_on_models_are_acts_of_the_plant() {
    let plant = shop();
    let count = all(&plant.books).len();
    let load = serde_json::json!({"command": "load"});
    let unload = serde_json::json!({"command": "unload"});
    for (command, at_ms) in [(&load, NOW + 1), (&unload, NOW + 2), (&load, NOW + 3)] {
        plant.books.note_model("tiny", command, "ops", at_ms).unwrap();
    }
    plant.books.note_model("other", &load, "ops", NOW + 4).unwrap();
    let acts = all(&plant.books);
    assert_eq!(acts.len(), count + 4);
    let noted: Vec<_> = acts[count..].iter().map(|act| (act.record.as_str(), act.actor.as_str(), &act.after)).collect();
    let tiny = "model tiny";
    let expected = [(tiny, "ops", &load), (tiny, "ops", &unload), (tiny, "ops", &load), ("model other", "ops", &load)];
    assert_eq!(noted, expected);
    let own = self::acts(&plant.books, Some("acme"), None, false, 100);
    assert!(own.iter().all(|act| !act.record.starts_with("model")), "{own:?}");
    plant.check();
}
