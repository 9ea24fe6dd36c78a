//! What the directory says while requests run: changed budgets, revoked keys, rotations, a suspended house, new windows.

use super::crash::{image, page};
use super::*;
use crate::directory::authority::Authority;
use crate::window::Calendar;

const BUDGET: &str = "budget/key/k1/month/2026-11-01";

#[test]
fn a_request_begun_under_an_older_budget_never_brings_it_back() {
    let plant = plant(budget(10 * OUT));
    let stale = plant.books.identify("tw_one", "", NOW).unwrap();
    drop(plant.admit(0, 1).unwrap());
    plant.books.change(Record::Key(key(budget(3 * OUT))), "admin", NOW).unwrap();
    assert_eq!(plant.balance(BUDGET).floor, Some(-3 * OUT), "where it is changed");
    let admission = Admission {
        id: next_id(),
        identity: &stale,
        model: MODEL,
        base: None,
        input: 0,
        max_output: 8,
        tag: "",
        user: "",
        metadata: Metadata::NONE,
        now_ms: NOW,
    };
    let mut ticket = plant.books.admit(admission).unwrap();
    assert_eq!((ticket.allowance(), plant.balance(BUDGET).floor), (3, Some(-3 * OUT)));
    ticket.settle(&used(0, 3), End::Budget, NOW).unwrap();
    drop(ticket);
    plant.books.change(Record::Key(Key { revoked: true, ..key(budget(3 * OUT)) }), "admin", NOW).unwrap();
    let refused = plant.books.admit(Admission { id: next_id(), ..admission }).map(drop).unwrap_err();
    assert_eq!(refused, AdmitError::Unidentified(Unidentified::Revoked("web".into())));
    plant.check();
}

#[test]
fn a_soft_budget_that_becomes_hard_loses_no_charge() {
    let mut soft = budget(10 * OUT);
    if let Some(budget) = &mut soft.budget {
        budget.soft = true;
    }
    let plant = plant(soft);
    let mut running = plant.admit(0, 40).unwrap();
    while let Extension::Granted(_) = running.extend(NOW) {}
    let mut crashed = plant.admit(0, 16).unwrap();
    let progress = crashed.progress(&used(0, 16));
    let opened = page(&crashed, Some(progress));
    plant.books.change(Record::Key(key(budget(10 * OUT))), "admin", NOW).unwrap();
    running.settle(&used(0, 40), End::Length, NOW).unwrap();
    let stands = |posted| ledger::Balance { posted, held: 0, floor: Some(-10 * OUT) };
    assert_eq!(plant.balance(BUDGET), stands(-40 * OUT));
    assert_eq!(spent(plant.admit(0, 1)), BUDGET);
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let after = image(&plant);
    let recovered = after.books.recover(&[opened], NOW).unwrap();
    assert_eq!((recovered.settled, recovered.charged, recovered.failed), (1, Nano(16 * OUT), Vec::new()));
    assert_eq!(after.balance(BUDGET), stands(-56 * OUT));
    after.check();
    crashed.leave();
}

#[test]
fn a_lowered_bound_stops_what_runs() {
    let all = Pool { tokens: 1_000, weights: Weights::default(), then: PoolEnd::Stop };
    let with_pool = |tokens| Plan { pool: Some(Pool { tokens, ..all }), ..Plan::plain("basic") };
    let plant = plant_with(vec![example_tier()], with_pool(1_000), budget(OUT));
    let mut running = plant.admit(0, 500).unwrap();
    assert_eq!(running.extend(NOW), Extension::Granted(32));
    plant.books.change(Record::Plan(with_pool(40)), "admin", NOW).unwrap();
    assert_eq!(running.extend(NOW), Extension::Granted(40));
    assert_eq!(running.extend(NOW), Extension::Spent);
    let prepaid = Record::Organisation(organisation(Some(Nano(5))));
    plant.books.change(prepaid, "admin", NOW).unwrap();
    assert_eq!(plant.balance("org/acme/money").floor, Some(-5));
    running.settle(&used(0, 40), End::Budget, NOW).unwrap();
    plant.check();
}

#[test]
fn the_default_bounds_of_end_users_hold_from_their_next_request() {
    let plant = plant(Bounds::default());
    let bounds = |tokens: i64| {
        Record::Organisation(Organisation { end_user_bounds: budget(tokens * OUT), ..organisation(None) })
    };
    plant.books.change(bounds(9), "admin", NOW).unwrap();
    let allowance = || plant.admit_for(("tw_one", "ann"), (0, 16), NOW).map(|ticket| ticket.allowance());
    assert_eq!(allowance().unwrap(), 9);
    plant.books.change(bounds(4), "admin", NOW).unwrap();
    assert_eq!(allowance().unwrap(), 4);
}

#[test]
fn a_suspended_house_locks_no_administrator_out() {
    let plant = plant(Bounds::default());
    let ops = |plant: &Plant| plant.books.identify("tw-config", "", NOW).unwrap();
    assert!(ops(&plant).scopes.contains(&Scope::Plant), "before the house is set up");
    plant.books.serve_models(&["tiny".to_owned()], NOW).unwrap();
    let before = ops(&plant);
    let claimed = Key {
        id: "admin".into(),
        project: "house".into(),
        hash: KeyHash::of(b"plant", "tw_admin"),
        scopes: Scope::ALL.into(),
        ..key(Bounds::default())
    };
    plant.books.change(Record::Key(claimed), "claim", NOW).unwrap();
    let house = plant.books.directory().organisation("house").unwrap().clone();
    plant.books.change(Record::Organisation(Organisation { suspended: true, ..house }), "ops", NOW).unwrap();
    let after = ops(&plant);
    assert_eq!((after.key.as_deref(), after.max_priority), (Some("config/ops"), 9));
    assert_eq!(after.scopes, [Scope::Usage, Scope::Manage, Scope::Plant].into());
    let admin = plant.books.identify("tw_admin", "", NOW).unwrap();
    assert_eq!((admin.key.as_deref(), &admin.scopes), (Some("admin"), &after.scopes));
    for identity in [&before, &after, &admin] {
        let (id, tag, user) = (next_id(), "", "");
        let admission = Admission {
            id,
            identity,
            model: "tiny",
            base: None,
            input: 1,
            max_output: 1,
            tag,
            user,
            metadata: Metadata::NONE,
            now_ms: NOW,
        };
        assert_eq!(plant.books.admit(admission).map(drop), Err(AdmitError::Forbidden));
    }
}

#[test]
fn of_two_rotations_at_one_time_the_second_is_refused() {
    let plant = plant(Bounds::default());
    let read = plant.books.directory().key("k1").unwrap().clone();
    let rotate = |key: &Key, text: &str| {
        let rotated = key.rotated(text.into(), KeyHash::of(b"plant", text), NOW + 60_000);
        plant.books.change(Record::Key(rotated), "admin", NOW)
    };
    rotate(&read, "tw_a").unwrap();
    let refused = rotate(&read, "tw_b").unwrap_err().to_string();
    assert!(refused.contains("hash: the key was rotated meanwhile"), "{refused}");
    assert!(plant.books.identify("tw_a", "", NOW).is_ok() && plant.books.identify("tw_b", "", NOW).is_err());
    let rotated = plant.books.directory().key("k1").unwrap().clone();
    rotate(&rotated, "tw_b").unwrap();
    assert!(plant.books.identify("tw_a", "", NOW).is_ok() && plant.books.identify("tw_one", "", NOW).is_err());
    let revoked = Key { revoked: true, ..plant.books.directory().key("k1").unwrap().clone() };
    plant.books.change(Record::Key(revoked.clone()), "admin", NOW).unwrap();
    assert!(rotate(&revoked, "tw_c").unwrap_err().to_string().contains("a revoked key stays revoked"));
}

/// Days of 25 and 23 hours: on the border a new day begins, and a month of the calendar too.
#[test]
fn a_request_over_the_border_of_a_window_is_charged_where_it_began() {
    for (border, anchor_day, day, before) in [
        ("2026-10-25T23:00:00Z", 26, "2026-10-26", "2026-10-25"),
        ("2026-03-29T22:00:00Z", 30, "2026-03-30", "2026-03-29"),
    ] {
        let border = border.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let calendar = Calendar { zone: "Europe/Berlin".into(), anchor_day };
        let pool = Pool { tokens: 30, weights: Weights::default(), then: PoolEnd::Overage };
        let plan = Plan { calendar, pool: Some(pool), ..Plan::plain("basic") };
        let daily = Budget { amount: Nano(20 * OUT), period: Period::Day, soft: false, alert_percent: vec![] };
        let plant = plant_with(vec![example_tier()], plan, Bounds { budget: Some(daily), ..Bounds::default() });
        let spent = |day: &str| -plant.balance(&format!("budget/key/k1/day/{day}")).posted;
        // 30 tokens of the pool and 10 of the budget, half of them after the border.
        let mut ticket = plant.admit_for(("tw_one", ""), (0, 40), border - 1).unwrap();
        while let Extension::Granted(_) = ticket.extend(border + 5) {}
        assert_eq!(ticket.allowance(), 40);
        // The new window has a pool and a budget of its own, in full.
        let next = plant.admit_for(("tw_one", ""), (0, 1), border).unwrap();
        assert_eq!(plant.books.standing("acme", border).unwrap().pool_units_left, Some(30_000));
        let charge = ticket.settle(&used(0, 40), End::Length, border + 10).unwrap().charge;
        assert_eq!((charge.pool_units, charge.total()), (30_000, Nano(10 * OUT)));
        assert_eq!((spent(before), spent(day)), (10 * OUT, 0));
        drop(next);
        let mut next = plant.admit_for(("tw_one", ""), (31, 16), border).unwrap();
        let charge = next.settle(&used(31, 16), End::Length, border + 20).unwrap().charge;
        assert_eq!((charge.pool_units, charge.total()), (30_000, Nano(IN + 16 * OUT)));
        assert_eq!((spent(before), spent(day)), (10 * OUT, IN + 16 * OUT));
        let left = plant.admit_for(("tw_one", ""), (0, 16), border - 1).unwrap();
        assert_eq!(left.allowance(), 10, "the old window's budget is where it was");
        drop(left);
        plant.check();
    }
}

#[test]
fn a_change_says_what_it_expects_of_the_record() {
    let plant = plant(Bounds::default());
    let change = |expected: &Expected, id: &str| {
        let record =
            Record::Project(Project { id: id.into(), ..plant.books.directory().project("web").unwrap().clone() });
        plant.books.change_with((Authority::Plant, expected), "admin", NOW, |_| Ok(record.clone()))
    };
    let versions = |versions: &[u64]| Expected::Versions(versions.to_vec());
    for (expected, id, present) in [
        (Expected::Absent, "web", Some(1)),
        (Expected::Present, "new", Some(0)),
        (versions(&[0, 1]), "new", Some(0)),
        (versions(&[]), "web", Some(1)),
        (versions(&[2]), "web", Some(1)),
        (versions(&[7, 1]), "web", None),
        (versions(&[1]), "web", Some(2)),
        (Expected::Absent, "new", None),
        (Expected::Present, "new", None),
    ] {
        let before = plant.books.directory().version(Kind::Project, id);
        match (change(&expected, id), present) {
            (Ok((_, version)), None) => assert_eq!(version, before + 1),
            (Err(ChangeError::Stale { present: told, .. }), Some(present)) => {
                assert_eq!((told, before), (present, present))
            }
            (other, _) => panic!("{expected:?} {id}: {other:?}"),
        }
    }
    // All that is known of it is read again at the next start.
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let again = image(&plant);
    for (kind, key, version) in [
        (Kind::Project, "web", 2),
        (Kind::Project, "new", 2),
        (Kind::Price, "standard/gpt-4-turbo", 1),
        (Kind::Team, "x", 0),
    ] {
        assert_eq!(again.books.directory().version(kind, key), version, "{key}");
    }
}
