//! Many at one time: accounts opened beside others, money shared by streams, refusals that leave nothing behind.

use std::sync::mpsc::channel;
use std::time::Duration;

use ledger::{AccountKind, AccountSpec};

use super::*;
use crate::limits::Limits;

const BUDGET: &str = "budget/key/k1/month/2026-11-01";
const LIMIT: Duration = Duration::from_secs(60);

/// Every end user has a budget.
fn with_end_users(bounds: Bounds) -> Plant {
    let plant = plant(bounds);
    let customer = Organisation { end_user_bounds: budget(1_000_000_000), ..organisation(None) };
    plant.books.change(Record::Organisation(customer), "admin", NOW).unwrap();
    plant
}

impl Plant {
    fn accounts(&self) -> u64 {
        self.books.ledger().flush(DURABLE_WAIT).unwrap();
        self.books.ledger().verify().unwrap().accounts
    }
}

#[test]
fn a_settlement_always_fits_the_longest_names_and_the_most_tiers_too() {
    let rate = |nano: u64| Rate::from_pico(i64::try_from(nano).unwrap() * 1_000).unwrap();
    let tiers = (0..64).map(|n| Tier { volume_from: n, ..Tier::flat(rate(n), rate(n + 1)) });
    let plant = plant_with(tiers.collect(), Plan::plain("basic"), budget(1_000_000));
    let (user, tag) = ("ü".repeat(128), "t".repeat(64));
    let identity = plant.books.identify("tw_one", &user, NOW).unwrap();
    let admission = Admission {
        id: next_id(),
        identity: &identity,
        model: MODEL,
        base: None,
        input: 40,
        max_output: 60,
        tag: &tag,
        user: &user,
        metadata: Metadata::NONE,
        now_ms: NOW,
    };
    let mut ticket = plant.books.admit(admission).unwrap();
    while let Extension::Granted(_) = ticket.extend(NOW) {}
    let all = Quantities { in_uncached: 20, in_cached: 20, out_visible: 30, out_reasoning: 30 };
    assert_eq!(ticket.settle(&all, End::Length, NOW).unwrap().charge.lines.len(), 65);
    drop(ticket);
    for user in ["u".repeat(257), "u".repeat(16_300), "a\nb".into()] {
        let refused = plant.books.admit(Admission { id: next_id(), user: &user, ..admission }).map(drop).unwrap_err();
        let AdmitError::Invalid(invalid) = refused else { panic!("{refused}") };
        assert_eq!(invalid.field, "user");
    }
    plant.check();
}

#[test]
fn refused_requests_open_no_accounts() {
    let limits = Limits { requests_per_minute: Some(2), ..Limits::default() };
    let plant = with_end_users(Bounds { limits, ..budget(10 * OUT) });
    let ask = |user: &str, output| plant.admit_for(("tw_one", user), (0, output), NOW).map(drop);
    ask("first", 1).unwrap();
    let before = plant.accounts();
    // Neither what is not paid for, nor what comes too often.
    for user in 0..20 {
        let refused = plant.admit_for(("tw_one", &format!("poor-{user}")), (100, 1), NOW).map(drop).unwrap_err();
        assert!(matches!(refused, AdmitError::Spent { .. }), "{refused}");
    }
    ask("second", 1).unwrap();
    for user in 0..20 {
        let refused = ask(&format!("eager-{user}"), 1).unwrap_err();
        assert!(matches!(refused, AdmitError::Limited(_)), "{refused}");
    }
    assert_eq!(plant.accounts(), before + 1);
}

#[test]
fn only_who_uses_an_account_waits_for_it() {
    let plant = with_end_users(Bounds::default());
    drop(plant.admit(1, 1).unwrap());
    drop(plant.admit_for(("tw_one", "ann"), (1, 1), NOW).unwrap());
    // A disk that never answers.
    let name = "budget/end-user/acme/ann/month/2026-11-01".to_owned();
    let underway = plant.books.changes.begin(vec![name, "org/other/money".to_owned()]);
    drop(plant.admit(1, 1).unwrap());
    drop(plant.admit_for(("tw_one", "new"), (1, 1), NOW).unwrap());
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let plant = &plant;
        scope.spawn(move || {
            let mut ticket = plant.admit_for(("tw_one", "ann"), (1, 1), NOW).unwrap();
            ticket.settle(&used(1, 1), End::Stop, NOW).unwrap();
            sender.send(()).unwrap();
        });
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err(), "it waits");
        drop(underway);
        receiver.recv_timeout(LIMIT).unwrap();
    });
    plant.check();
}

#[test]
fn what_the_disk_did_not_take_counts_neither_as_durable_nor_as_a_newcomer() {
    let plant = with_end_users(Bounds::default());
    drop(plant.admit_for(("tw_one", "ann"), (1, 1), NOW).unwrap());
    let newcomers = || plant.books.changes.turn().of("acme");
    assert_eq!(newcomers(), 1);
    let stuck = Stuck::of(&plant);
    let name = "org/late/money".to_owned();
    let spec = AccountSpec { name, kind: AccountKind::Customer, unit: unit::MONEY, floor: None };
    let turn = plant.books.changes.turn();
    let underway = plant.books.change_accounts(&turn, &[&spec], true, NOW).unwrap();
    drop(turn);
    // As after a wait that was given up.
    drop(underway);
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let (plant, name) = (&plant, spec.name.as_str());
        scope.spawn(move || sender.send(plant.books.changes.wait_for([name].into_iter())).unwrap());
        assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err(), "it waits for the disk");
        // Once the ledger has found out that the disk does not answer it takes nothing new.
        let failing = plant.books.ledger().flush(LIMIT);
        assert!(matches!(failing, Err(NotDurable::Failing(_))), "{failing:?}");
        let refused = plant.admit_for(("tw_one", "bob"), (1, 1), NOW).map(drop);
        assert!(matches!(refused, Err(AdmitError::Unavailable(_))), "{refused:?}");
        stuck.end();
        receiver.recv_timeout(LIMIT).unwrap().unwrap();
    });
    assert_eq!(newcomers(), 1);
    drop(plant.admit_for(("tw_one", "bob"), (1, 1), NOW).unwrap());
    assert_eq!(newcomers(), 2);
    plant.check();
}

#[test]
fn threads_open_the_same_accounts_once() {
    let plant = with_end_users(budget(1_000_000 * OUT));
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let plant = &plant;
            scope.spawn(move || {
                for user in 0..20 {
                    let user = format!("user-{}", (user + thread) % 20);
                    let mut ticket = plant.admit_for(("tw_one", &user), (0, 1), NOW).unwrap();
                    ticket.settle(&used(0, 1), End::Stop, NOW).unwrap();
                }
            });
        }
    });
    for user in 0..20 {
        let balance = plant.balance(&format!("budget/end-user/acme/user-{user}/month/2026-11-01"));
        assert_eq!((balance.posted, balance.floor), (-16 * OUT, Some(-1_000_000_000)));
    }
    plant.check();
}

#[test]
fn many_streams_share_the_rest_and_none_is_told_that_it_is_spent() {
    // 100 answer tokens are paid for; the first takes a whole step of 16, the others ever less.
    let plant = plant(budget(100 * OUT));
    let mut streams: Vec<Ticket> = (0..8).map(|_| plant.admit(0, 1_000).unwrap()).collect();
    let granted: Vec<u64> = streams.iter().map(Ticket::allowance).collect();
    assert_eq!(granted, [16, 16, 16, 13, 9, 7, 5, 4]);
    for _ in 0..40 {
        for stream in &mut streams {
            assert!(matches!(stream.extend(NOW), Extension::Granted(_) | Extension::Held));
        }
    }
    assert_eq!(streams.iter().map(Ticket::allowance).sum::<u64>(), 100, "all is given out");
    assert_eq!(plant.admit(0, 1).map(drop), Err(AdmitError::Held));
    // Who ends early gives the rest back, and the others go on.
    streams.remove(0).settle(&used(0, 3), End::Stop, NOW).unwrap();
    assert!(streams.iter_mut().all(|stream| matches!(stream.extend(NOW), Extension::Granted(_))));
    for mut stream in streams.drain(1..) {
        stream.settle(&used(0, 1), End::Stop, NOW).unwrap();
    }
    // The last one alone takes whole steps, to the very token.
    let mut last = streams.remove(0);
    while let Extension::Granted(_) = last.extend(NOW) {}
    assert_eq!(last.allowance(), 100 - 3 - 6);
    last.settle(&used(0, 91), End::Budget, NOW).unwrap();
    drop(last);
    assert_eq!(spent(plant.admit(0, 1)), BUDGET);
    plant.check();
}

#[test]
fn two_hundred_requests_of_one_key_at_one_time() {
    // Each says that it may need much more than it uses.
    let uses = |n: u64| 1 + n % 37;
    let amount = (0..200).map(|n| 3 * IN + i64::try_from(uses(n)).unwrap() * OUT).sum::<i64>() + 400 * OUT;
    let plant = plant(budget(amount));
    let refused = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for n in 0..200 {
            let (plant, refused) = (&plant, &refused);
            scope.spawn(move || {
                let began = std::time::Instant::now();
                let mut ticket = loop {
                    match plant.admit(3, 100_000) {
                        Ok(ticket) => break ticket,
                        Err(AdmitError::Held) if began.elapsed() < LIMIT => std::thread::yield_now(),
                        Err(_) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                    }
                };
                while ticket.allowance() < uses(n) {
                    let balance = plant.balance(BUDGET);
                    assert!(balance.posted - balance.held >= -amount, "{balance:?}");
                    match ticket.extend(NOW) {
                        Extension::Granted(_) => {}
                        Extension::Held if began.elapsed() < LIMIT => std::thread::yield_now(),
                        other => panic!("{other:?}"),
                    }
                }
                ticket.settle(&used(3, uses(n)), End::Stop, NOW).unwrap();
            });
        }
    });
    assert_eq!(refused.into_inner(), 0, "nobody is refused for what others only held");
    assert_eq!(plant.balance(BUDGET).posted, -amount + 400 * OUT);
    let mut rest = plant.admit(0, 1_000).unwrap();
    while let Extension::Granted(_) = rest.extend(NOW) {}
    assert_eq!(rest.allowance(), 400, "what is left can be spent");
    rest.settle(&used(0, 400), End::Budget, NOW).unwrap();
    drop(rest);
    assert_eq!(plant.balance(BUDGET).posted, -amount);
    plant.check();
}

#[test]
fn limits_below_a_step_refuse_nothing_and_all_is_given_back() {
    let limits = Limits { output_tokens_per_minute: Some(9), ..Limits::default() };
    let small = plant(Bounds { limits, ..Bounds::default() });
    assert_eq!(small.admit(1, 1_000).unwrap().allowance(), 9);
    let limits = Limits { output_tokens_per_minute: Some(1_000), ..Limits::default() };
    let plant = plant(Bounds { limits, ..Bounds::default() });
    let mut ticket = plant.admit(1, 1_000).unwrap();
    assert_eq!(ticket.extend(NOW), Extension::Granted(32));
    ticket.settle(&used(1, 9), End::Stop, NOW).unwrap();
    drop(ticket);
    let left = plant.admit(1, 1).unwrap().standings().tokens.unwrap().remaining;
    assert_eq!(left, 1_000 - 9 - 1);
}
