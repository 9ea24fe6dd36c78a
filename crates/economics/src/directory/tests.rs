//! Tests of `directory`.

use super::record::StoreContent;
use super::*;
use crate::Nano;
use crate::limits::{Level, Limits};
use crate::plan::Budget;
use crate::window::Period;

fn rate() -> Rate {
    "10 per 1M".parse().unwrap()
}

fn organisation(id: &str) -> Organisation {
    Organisation {
        id: id.into(),
        name: "Acme 有限公司".into(),
        plan: "basic".into(),
        credit: Some(Nano::ZERO),
        bounds: Bounds::default(),
        end_user_bounds: Bounds::default(),
        suspended: false,
    }
}

fn project(id: &str, team: Option<&str>) -> Project {
    Project {
        id: id.into(),
        organisation: "acme".into(),
        team: team.map(Into::into),
        name: "Web".into(),
        bounds: Bounds::default(),
        suspended: false,
        store_content: None,
    }
}

fn hash(text: &str) -> KeyHash {
    KeyHash::of(b"plant", text)
}

fn key(id: &str, text: &str) -> Key {
    Key {
        id: id.into(),
        project: "web".into(),
        name: id.to_uppercase(),
        prefix: key::shown_prefix(text),
        hash: hash(text),
        previous: None,
        scopes: [Scope::Inference, Scope::Usage].into(),
        owner: None,
        expires: None,
        revoked: false,
        bounds: Bounds::default(),
        max_priority: 3,
    }
}

fn directory() -> Directory {
    let team = Team { id: "red".into(), organisation: "acme".into(), name: "Red".into(), bounds: Bounds::default() };
    let other = Team { id: "far".into(), organisation: "other".into(), name: "Far".into(), bounds: Bounds::default() };
    let mut directory = Directory::default();
    for record in [
        Record::Price(PriceSpec::flat("standard", "m", rate(), rate())),
        Record::Plan(Plan::plain("basic")),
        Record::Organisation(organisation("acme")),
        Record::Organisation(organisation("other")),
        Record::Team(team),
        Record::Team(other),
        Record::Project(project("web", Some("red"))),
        Record::Key(key("k1", "tw_one")),
    ] {
        directory.apply(record).unwrap();
    }
    directory
}

#[test]
fn a_key_leads_to_all_levels() {
    let mut directory = directory();
    let budget = Budget { amount: Nano(5), period: Period::Month, soft: false, alert_percent: vec![] };
    let mut changed = key("k1", "tw_one");
    changed.bounds.budget = Some(budget);
    directory.apply(Record::Key(changed)).unwrap();
    let mut identity = directory.identify(&hash("tw_one"), 0).unwrap();
    directory.for_end_user(&mut identity, "ann@example").unwrap();
    let levels: Vec<_> = identity.limits.iter().map(|(subject, _)| (subject.level, &*subject.id)).collect();
    assert_eq!(
        levels,
        [
            (Level::Organisation, "acme"),
            (Level::Team, "red"),
            (Level::Project, "web"),
            (Level::Organisation, "acme/plan"),
            (Level::Key, "k1"),
            (Level::EndUser, "acme/ann@example"),
        ]
    );
    assert_eq!(identity.budgets.len(), 1);
    assert_eq!((identity.key_name.as_deref(), identity.max_priority), (Some("K1"), 3));
}

#[test]
fn keys_expire_rotate_and_are_revoked_at_once() {
    let mut directory = directory();
    let rotated = key("k1", "tw_one").rotated("tw_two".into(), hash("tw_two"), 1_000);
    directory.apply(Record::Key(rotated.clone())).unwrap();
    assert!(directory.identify(&hash("tw_one"), 999).is_ok());
    assert_eq!(directory.identify(&hash("tw_one"), 1_000).unwrap_err(), Unidentified::Expired("K1".into()));
    assert!(directory.identify(&hash("tw_two"), 1_000).is_ok());
    directory.apply(Record::Key(Key { expires: Some(2_000), ..rotated.clone() })).unwrap();
    assert!(directory.identify(&hash("tw_two"), 1_999).is_ok());
    assert!(matches!(directory.identify(&hash("tw_two"), 2_000), Err(Unidentified::Expired(_))));
    directory.apply(Record::Key(Key { revoked: true, ..rotated.clone() })).unwrap();
    for text in ["tw_one", "tw_two"] {
        assert_eq!(directory.identify(&hash(text), 0).unwrap_err(), Unidentified::Revoked("K1".into()));
    }
    let error = directory.apply(Record::Key(rotated)).unwrap_err().to_string();
    assert!(error.contains("stays revoked"), "{error}");
    assert_eq!(directory.identify(&hash("tw_three"), 0).unwrap_err(), Unidentified::Unknown);
}

#[test]
fn a_role_bounds_the_keys_of_its_person() {
    let mut directory = directory();
    let member = |role| Record::Member(Member { organisation: "acme".into(), person: "ann".into(), role });
    let owned = |scopes: &[Scope]| {
        Record::Key(Key { owner: Some("ann".into()), scopes: scopes.iter().copied().collect(), ..key("k2", "tw_ann") })
    };
    assert!(directory.apply(owned(&[Scope::Usage])).unwrap_err().to_string().contains("owner: there is no `ann`"));
    directory.apply(member(Some(record::Role::Member))).unwrap();
    assert!(directory.apply(owned(&[Scope::Manage])).unwrap_err().to_string().contains("`manage` is more"));
    directory.apply(owned(&[Scope::Inference, Scope::Usage])).unwrap();
    let scopes = |directory: &Directory| directory.identify(&hash("tw_ann"), 0).unwrap().scopes;
    assert_eq!(scopes(&directory), [Scope::Inference, Scope::Usage].into());
    directory.apply(member(Some(record::Role::Viewer))).unwrap();
    assert_eq!(scopes(&directory), [Scope::Usage].into());
    directory.apply(member(None)).unwrap();
    assert_eq!(scopes(&directory), [].into());
}

#[test]
fn records_that_refer_to_nothing_are_refused() {
    let mut directory = directory();
    let before = format!("{directory:?}");
    for (bad, part) in [
        (
            Record::Organisation(Organisation { plan: "gold".into(), ..organisation("x") }),
            "organisation x.plan: there is no `gold`",
        ),
        (Record::Organisation(organisation("Ä")), "id: `Ä` is no id"),
        (
            Record::Organisation(Organisation { credit: Some(Nano(-1)), ..organisation("x") }),
            "credit: -0.000000001 is negative",
        ),
        (Record::Project(project("p", Some("blue"))), "team: there is no `blue`"),
        (Record::Project(project("p", Some("far"))), "team: there is no `far`"),
        (Record::Project(Project { organisation: "other".into(), ..project("web", None) }), "belongs to `acme`"),
        (Record::Key(Key { project: "p".into(), ..key("k9", "tw_x") }), "project: there is no `p`"),
        (Record::Key(key("k9", "tw_one")), "hash: another key has it"),
        (Record::Plan(Plan { price_list: "gold".into(), ..Plan::plain("g") }), "plan g.price_list"),
        (Record::Price(PriceSpec::flat("standard", "m", rate(), rate())), "overlaps version 1"),
        (
            Record::EndUser(EndUser {
                organisation: "acme".into(),
                user: "\n".into(),
                bounds: Bounds::default(),
                blocked: true,
            }),
            "user: `\\n` is empty",
        ),
    ] {
        let error = directory.apply(bad).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(format!("{directory:?}"), before);
}

#[test]
fn suspended_parties_and_blocked_users_are_refused() {
    let mut directory = directory();
    directory.apply(Record::Project(Project { suspended: true, ..project("web", Some("red")) })).unwrap();
    assert_eq!(directory.identify(&hash("tw_one"), 0).unwrap_err(), Unidentified::Suspended("Web".into()));
    directory.apply(Record::Project(project("web", None))).unwrap();
    let blocked = EndUser { organisation: "acme".into(), user: "bob".into(), bounds: Bounds::default(), blocked: true };
    directory.apply(Record::EndUser(blocked)).unwrap();
    let mut identity = directory.identify(&hash("tw_one"), 0).unwrap();
    assert_eq!(directory.for_end_user(&mut identity, "bob"), Err(Unidentified::Blocked));
    assert_eq!(directory.for_end_user(&mut identity, "ann"), Ok(()));
    directory.apply(Record::Organisation(Organisation { suspended: true, ..organisation("acme") })).unwrap();
    assert!(matches!(directory.identify(&hash("tw_one"), 0), Err(Unidentified::Suspended(_))));
}

#[test]
fn the_house_has_an_explicit_zero_price_for_each_model() {
    let mut directory = directory();
    assert_eq!(directory.house().unwrap_err(), Unidentified::Unknown);
    let models = ["a".to_owned(), "b".to_owned()];
    for record in directory.missing_house_records(&models) {
        directory.apply(record).unwrap();
    }
    let identity = directory.house().unwrap();
    assert_eq!(identity.organisation.id, HOUSE);
    for model in &models {
        let price = directory.prices().freeze(&identity.plan.price_list, model, 0).unwrap();
        assert_eq!(price.ceiling(9, (9, 9), 0), Nano::ZERO);
    }
    assert!(directory.prices().freeze("standard", "a", 0).is_err(), "free for the house alone");
    assert!(directory.missing_house_records(&models).is_empty());
    assert_eq!(directory.missing_house_records(&["c".to_owned()]).len(), 1);
}

#[test]
fn documents_round_trip_and_rebuild_the_directory() {
    let directory = directory();
    let mut records: Vec<Record> = directory.prices().all().map(|(_, spec)| Record::Price(spec.clone())).collect();
    records.extend(directory.plans().cloned().map(Record::Plan));
    records.extend(directory.organisations().cloned().map(Record::Organisation));
    records.extend(directory.organisations().flat_map(|o| directory.teams(&o.id)).cloned().map(Record::Team));
    records.extend(directory.projects("acme").cloned().map(Record::Project));
    records.extend(directory.keys("web").cloned().map(Record::Key));
    let mut rebuilt = Directory::default();
    for record in records {
        let read = Record::read(record.kind().code(), &record.key(), &record.body()).unwrap();
        assert_eq!(read, record);
        rebuilt.apply(read).unwrap();
    }
    assert_eq!(format!("{rebuilt:?}"), format!("{directory:?}"));
    assert!(Record::read(99, "x", b"{}").unwrap_err().to_string().contains("kind 99 is unknown"));
    let error = Record::read(7, "p", br#"{"id":"p","pool":{"tokens":-5}}"#).unwrap_err().to_string();
    assert!(error.starts_with("plan p.pool.tokens: ") && error.contains("-5"), "{error}");
}

/// The identity of a key of `acme` with these scopes.
fn manager(directory: &Directory, scopes: &[Scope]) -> Identity {
    let mut identity = directory.identify(&hash("tw_one"), 0).unwrap();
    identity.scopes = scopes.iter().copied().collect();
    identity
}

/// Two organisations with a project, a key, an end user and a member each.
fn neighbours() -> Directory {
    let mut directory = directory();
    let user = |organisation: &str, user: &str| EndUser {
        organisation: organisation.into(),
        user: user.into(),
        bounds: Bounds::default(),
        blocked: false,
    };
    let member = |organisation: &str, person: &str| Member {
        organisation: organisation.into(),
        person: person.into(),
        role: Some(record::Role::Admin),
    };
    let theirs = Project { organisation: "other".into(), ..project("theirs", Some("far")) };
    let plant = Key { scopes: Scope::ALL.into(), ..key("root", "tw_root") };
    for record in [
        Record::Project(theirs),
        Record::Key(Key { project: "theirs".into(), ..key("k2", "tw_two") }),
        Record::Key(plant),
        Record::EndUser(user("acme", "ann/b")),
        Record::EndUser(user("other", "ann")),
        Record::Member(member("acme", "other/eve")),
        Record::Member(member("other", "eve")),
    ] {
        directory.apply(record).unwrap();
    }
    directory
}

#[test]
fn a_managing_key_reaches_no_other_organisation() {
    let directory = neighbours();
    let identity = manager(&directory, &[Scope::Inference, Scope::Usage, Scope::Manage]);
    let authority = authority::Authority::of(&identity).unwrap();
    assert_eq!(authority.organisation(), Some("acme"));
    for kind in Kind::ALL {
        let seen: Vec<String> =
            directory.records(*kind).iter().filter(|r| authority.sees(&directory, r)).map(Record::key).collect();
        let expected: &[&str] = match kind {
            Kind::Organisation => &["acme"],
            Kind::Team => &["red"],
            Kind::Project => &["web"],
            Kind::Key => &["k1", "root"],
            Kind::EndUser => &["acme/ann/b"],
            Kind::Member => &["acme/other/eve"],
            Kind::Plan | Kind::Price | Kind::Experiment => &[],
        };
        assert_eq!(seen, expected, "{kind:?}");
        for record in directory.records(*kind) {
            assert_eq!(directory.record(*kind, &record.key()).as_ref(), Some(&record));
        }
    }
    let team = |id: &str, organisation: &str| {
        Record::Team(Team {
            id: id.into(),
            organisation: organisation.into(),
            name: "T".into(),
            bounds: Bounds::default(),
        })
    };
    for (record, part) in [
        (Record::Organisation(organisation("acme")), "a key of `acme` may not change organisations"),
        (Record::Plan(Plan::plain("basic")), "may not change plans"),
        (Record::Price(PriceSpec::flat("standard", "m", rate(), rate())), "may not change prices"),
        (team("new", "other"), "organisation: this key changes `acme` only"),
        (team("new", "acme/red"), "organisation: this key changes `acme` only"),
        (team("far", "acme"), "id: `far` cannot be used; choose another id"),
        (Record::Project(Project { organisation: "other".into(), ..project("web", None) }), "organisation: "),
        (Record::Project(project("theirs", None)), "id: `theirs` cannot be used; choose another id"),
        (Record::Key(Key { project: "theirs".into(), ..key("k9", "tw_x") }), "project: `acme` has no project `theirs`"),
        (Record::Key(Key { project: "none".into(), ..key("k9", "tw_x") }), "project: `acme` has no project `none`"),
        (Record::Key(key("k2", "tw_x")), "id: `k2` cannot be used; choose another id"),
        (
            Record::EndUser(EndUser {
                organisation: "other".into(),
                user: "ann".into(),
                bounds: Bounds::default(),
                blocked: true,
            }),
            "organisation: this key",
        ),
        (
            Record::Member(Member { organisation: "other".into(), person: "eve".into(), role: None }),
            "organisation: this key",
        ),
    ] {
        let error = authority.check(&directory, &record).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        authority::Authority::Plant.check(&directory, &record).unwrap();
    }
    for record in [team("new", "acme"), team("red", "acme"), Record::Project(project("mine", Some("red")))] {
        authority.check(&directory, &record).unwrap();
    }
    // A team of another organisation is refused as one that is not there.
    let error = directory.check(&Record::Project(project("mine", Some("far")))).unwrap_err().to_string();
    assert_eq!(error, "team: there is no `far`; create it first");
}

#[test]
fn no_key_gives_more_than_it_has() {
    let directory = neighbours();
    let mut identity = manager(&directory, &[Scope::Usage, Scope::Manage]);
    identity.expires = Some(1_000);
    let authority = authority::Authority::of(&identity).unwrap();
    let new = Key { scopes: [Scope::Usage].into(), expires: Some(999), ..key("new", "tw_new") };
    let old = directory.key("k1").unwrap().clone();
    for (record, part) in [
        (Key { scopes: [Scope::Plant].into(), ..new.clone() }, "scopes: `plant` is more"),
        (Key { scopes: [Scope::Inference].into(), ..new.clone() }, "scopes: `inference` is more"),
        (Key { max_priority: 4, ..new.clone() }, "max_priority: 4 is above this key's own 3"),
        (Key { expires: None, ..new.clone() }, "expires: the key would outlive"),
        (Key { expires: Some(1_001), ..new.clone() }, "expires: the key would outlive"),
        // `k1` may ask models, which this key may not: its text is not for it.
        (old.rotated("tw_x".into(), hash("tw_x"), 0), "scopes: `inference` is more"),
        (Key { scopes: [Scope::Manage, Scope::Plant].into(), ..old.clone() }, "scopes: `plant` is more"),
        (Key { expires: Some(5_000), ..old.clone() }, "expires: the key would outlive"),
        (Key { revoked: true, ..directory.key("root").unwrap().clone() }, "id: the key administers the plant"),
    ] {
        let error = authority.check(&directory, &Record::Key(record)).unwrap_err().to_string();
        assert!(error.starts_with(part), "{error}");
    }
    let tighter = Bounds { limits: Limits { requests_per_minute: Some(1), ..Limits::default() }, ..Bounds::default() };
    for record in [
        new.clone(),
        Key { revoked: true, ..old.clone() },
        Key { bounds: tighter, ..old.clone() },
        Key { scopes: [Scope::Usage, Scope::Manage].into(), expires: Some(1_000), ..old.clone() },
    ] {
        authority.check(&directory, &Record::Key(record)).unwrap();
    }
    for scopes in [&[Scope::Inference, Scope::Usage][..], &[]] {
        assert!(authority::Authority::of(&manager(&directory, scopes)).is_none());
    }
}

#[test]
fn a_persons_key_makes_keys_of_that_person_only() {
    let directory = neighbours();
    let mut identity = manager(&directory, &[Scope::Inference, Scope::Usage, Scope::Manage]);
    identity.owner = Some("ann".to_owned());
    let authority = authority::Authority::of(&identity).unwrap();
    let owner = |key: &Key, owner: Option<&str>| Record::Key(Key { owner: owner.map(str::to_owned), ..key.clone() });
    let new = Key { scopes: [Scope::Usage].into(), ..key("new", "tw_new") };
    let old = directory.key("k1").unwrap().clone();
    for refused in [owner(&new, None), owner(&new, Some("bob")), owner(&old, Some("bob"))] {
        let error = authority.check(&directory, &refused).unwrap_err().to_string();
        assert!(error.starts_with("owner: a person's key"), "{error}");
    }
    for allowed in [owner(&new, Some("ann")), owner(&old, None), owner(&old, Some("ann"))] {
        authority.check(&directory, &allowed).unwrap();
    }
}

#[test]
fn an_organisation_fills_the_memory_only_so_far() {
    let mut directory = neighbours();
    let identity = manager(&directory, &[Scope::Manage]);
    let user = |number: usize| {
        let user = number.to_string();
        Record::EndUser(EndUser { organisation: "acme".into(), user, bounds: Bounds::default(), blocked: false })
    };
    for number in 1..authority::MAX_OWN_RECORDS {
        directory.apply(user(number)).unwrap();
    }
    let authority = authority::Authority::of(&identity).unwrap();
    assert!(authority.check(&directory, &user(0)).unwrap_err().to_string().contains("has 10000 end users already"));
    authority.check(&directory, &user(1)).unwrap();
}

#[test]
fn a_plant_key_is_one_that_works() {
    let mut directory = neighbours();
    assert!(directory.has_plant_key(0));
    let root = directory.key("root").unwrap().clone();
    directory.apply(Record::Key(Key { expires: Some(50), ..root.clone() })).unwrap();
    assert!(directory.has_plant_key(49) && !directory.has_plant_key(50));
    directory.apply(Record::Key(Key { revoked: true, ..root })).unwrap();
    assert!(!directory.has_plant_key(0));
}

#[test]
fn texts_that_would_not_fit_the_ledger_are_refused() {
    let directory = directory();
    let long = "x".repeat(136);
    for (record, part) in [
        (Record::Project(Project { name: "a\u{7}".into(), ..project("p", None) }), "name: `a\\u{7}` is empty"),
        (Record::Project(Project { name: "a\u{202e}b".into(), ..project("p", None) }), "name: `a\\u{202e}b` is empty"),
        (Record::Project(Project { name: "x".repeat(201), ..project("p", None) }), "longer than 200 bytes"),
        (
            Record::Project(Project { store_content: Some(StoreContent { days: 0 }), ..project("p", None) }),
            "store_content.days: 0 is no such number of days; write 1 to 365",
        ),
        (
            Record::Member(Member { organisation: "acme".into(), person: long.clone(), role: None }),
            "longer than 135 bytes",
        ),
        (Record::Price(PriceSpec::flat(&"l".repeat(65), "m", rate(), rate())), "list: `lll"),
        (Record::Price(PriceSpec::flat("a/b", "m", rate(), rate())), "list: `a/b` is no name"),
        (Record::Price(PriceSpec::flat("a", &long, rate(), rate())), "model: "),
    ] {
        let error = directory.check(&record).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
