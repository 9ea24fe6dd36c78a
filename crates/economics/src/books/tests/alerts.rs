//! Budget alerts: raised once ever, not lost by a crash, their delivery recorded.

use metering::Unfinished;

use super::crash::image;
use super::*;
use crate::books::accounts::Watch;
use crate::limits::{Level, Subject};

fn percents(alerts: &[Alert]) -> Vec<u16> {
    alerts.iter().map(|alert| alert.percent).collect()
}

/// One request of so many answer tokens.
fn spend(plant: &Plant, tokens: u64) -> Settled {
    plant.admit(0, tokens).unwrap().settle(&used(0, tokens), End::Length, NOW).unwrap()
}

#[test]
fn an_alert_says_who_what_and_when_and_is_on_the_disk_with_its_settlement() {
    let plant = plant(budget(10 * OUT));
    assert!(spend(&plant, 4).alerts.is_empty());
    let settled = spend(&plant, 2);
    settled.receipt.wait_durable(DURABLE_WAIT).unwrap();
    let all = plant.books.alerts(9).unwrap();
    let alert = Alert {
        level: Level::Key,
        id: "k1".to_owned(),
        window: "2026-11-01".to_owned(),
        percent: 50,
        amount: Nano(10 * OUT),
        spent: Nano(6 * OUT),
    };
    assert_eq!(settled.alerts, std::slice::from_ref(&alert));
    let key = "budget/key/k1/month/2026-11-01/50%".to_owned();
    assert_eq!(all, [Raised { key, alert, at: NOW, writer: 0, delivery: Delivery::Pending }]);
    let shown = serde_json::to_value(&all[0]).unwrap();
    assert_eq!(
        (&shown["level"], &shown["spent"], &shown["delivery"]["state"]),
        (&"key".into(), &"0.00018".into(), &"pending".into())
    );
}

#[test]
fn a_budget_whose_rest_pays_for_no_token_is_told_of_as_spent() {
    let plant = plant(Bounds {
        budget: Some(Budget { alert_percent: vec![50, 100], ..budget(4 * OUT + OUT / 2).budget.unwrap() }),
        ..Bounds::default()
    });
    let mut ticket = plant.admit(0, 10).unwrap();
    assert_eq!(ticket.extend(NOW), Extension::Spent);
    let settled = ticket.settle(&used(0, 4), End::Budget, NOW).unwrap();
    assert_eq!(percents(&settled.alerts), [50, 100]);
    assert_eq!(settled.alerts[1].spent, Nano(4 * OUT), "what was spent, not the budget");
}

#[test]
fn no_start_raises_an_alert_again() {
    let plant = plant(budget(10 * OUT));
    assert_eq!(percents(&spend(&plant, 6).alerts), [50]);
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    for spent in [1, 3] {
        let again = image(&plant);
        // The new process knows of the alert by the ledger only.
        assert!(again.books.recover(&[], NOW).unwrap().alerts.is_empty());
        let expected: &[u16] = if spent == 1 { &[] } else { &[100] };
        drop(spend(&again, 1));
        assert_eq!(percents(&spend(&again, spent).alerts), expected);
        again.check();
    }
}

#[test]
fn what_a_crash_left_unraised_is_raised_at_the_start_once() {
    let end_users = Bounds {
        budget: Some(Budget { alert_percent: vec![10], ..budget(10 * OUT).budget.unwrap() }),
        ..Bounds::default()
    };
    let plant = plant(budget(10 * OUT));
    let organisation = Organisation { end_user_bounds: end_users, ..organisation(None) };
    plant.books.change(Record::Organisation(organisation), "admin", NOW).unwrap();
    let identity = plant.books.identify("tw_one", "ann", NOW).unwrap();
    let (id, identity) = (next_id(), &identity);
    let admission = Admission {
        id,
        identity,
        model: MODEL,
        base: None,
        input: 0,
        max_output: 10,
        tag: "",
        user: "ann",
        metadata: Metadata::NONE,
        now_ms: NOW,
    };
    let mut ticket = plant.books.admit(admission).unwrap();
    let progress = ticket.progress(&used(0, 6));
    let pages = [Unfinished { id: id.0, start: ticket.page(), progress: Some(progress) }];
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let after = image(&plant);
    let recovered = after.books.recover(&pages, NOW).unwrap();
    let found: Vec<_> = recovered.alerts.iter().map(|alert| (alert.id.as_str(), alert.percent)).collect();
    assert_eq!(found, [("k1", 50), ("acme/ann", 10)]);
    assert_eq!(after.books.recover(&pages, NOW).unwrap().alerts, []);
    assert_eq!(after.books.alerts(9).unwrap().len(), 2);
    // The crash took the alert and left the settlement: as if nobody had looked at the balance.
    let bounds = budget(20 * OUT);
    let more = Budget { alert_percent: vec![20, 50], ..bounds.budget.unwrap() };
    after.books.change(Record::Key(key(Bounds { budget: Some(more), ..Bounds::default() })), "admin", NOW).unwrap();
    assert_eq!(percents(&after.books.recover(&[], NOW).unwrap().alerts), [20]);
    // The next window has alerts of its own.
    assert_eq!(after.books.recover(&[], NOW + 40 * DAY_MS).unwrap().alerts, []);
    after.check();
}

#[test]
fn a_delivery_is_recorded_once_and_followed() {
    let plant = plant(budget(10 * OUT));
    assert_eq!(percents(&spend(&plant, 10).alerts), [50, 100]);
    let books = &plant.books;
    books.ledger().flush(DURABLE_WAIT).unwrap();
    let (raised, seen) = books.alerts_after(0, 500).unwrap();
    assert_eq!(raised.iter().map(|raised| raised.alert.percent).collect::<Vec<_>>(), [50, 100]);
    assert!(books.is_pending(&raised[0]).unwrap());
    let delivered = Delivery::Delivered { at: NOW + 5, attempts: 3 };
    books.end_alert(&raised[0], delivered.clone(), NOW + 5).unwrap();
    let given_up = Delivery::GivenUp { at: NOW, attempts: 1, reason: "late".into() };
    books.end_alert(&raised[0], given_up, NOW + 6).unwrap();
    books.ledger().flush(DURABLE_WAIT).unwrap();
    assert!(!books.is_pending(&raised[0]).unwrap() && books.is_pending(&raised[1]).unwrap());
    let (news, last) = books.alerts_after(seen, 500).unwrap();
    assert_eq!(news, [Raised { delivery: delivered.clone(), ..raised[0].clone() }]);
    assert_eq!(books.alerts_after(last, 500).unwrap(), (Vec::new(), last));
    let after = image(&plant);
    let states: Vec<_> = after.books.alerts(9).unwrap().into_iter().map(|raised| raised.delivery).collect();
    assert_eq!(states, [Delivery::Pending, delivered]);
    plant.check();
}

#[test]
fn what_could_not_be_raised_is_raised_with_the_next_settlement_of_anybody() {
    let plant = plant(budget(10 * OUT));
    let other = Key { id: "k2".into(), hash: KeyHash::of(b"plant", "tw_two"), ..key(Bounds::default()) };
    plant.books.change(Record::Key(other), "admin", NOW).unwrap();
    assert_eq!(percents(&spend(&plant, 10).alerts), [50, 100]);
    // As if the ledger had taken the settlement and then nothing more.
    let account = plant.books.ledger().account("budget/key/k1/month/2026-11-01").unwrap().unwrap();
    let window = Plan::plain("basic").calendar.window(Period::Month, NOW).unwrap();
    let budget = Budget { alert_percent: vec![90, 100], ..budget(10 * OUT).budget.unwrap() };
    let subject = Subject { level: Level::Key, id: "k1".into() };
    plant.books.known_alerts.delay(Watch { account, subject, budget, window, exhausted: false });
    let settle = || plant.admit_with("tw_two", 0, 1).unwrap().settle(&used(0, 1), End::Stop, NOW).unwrap();
    assert_eq!(percents(&settle().alerts), [90]);
    assert_eq!(settle().alerts, []);
}

#[test]
fn the_newest_alerts_are_listed_however_many_there_were() {
    let tenths: Vec<u16> = (1..=10).map(|tenth| tenth * 10).collect();
    let limit = Budget { alert_percent: tenths, ..budget(10 * OUT).budget.unwrap() };
    let plant = plant(Bounds { budget: Some(limit), ..Bounds::default() });
    for second in 0..10 {
        let at = NOW + second * 1_000;
        plant.admit_for(("tw_one", ""), (0, 1), at).unwrap().settle(&used(0, 1), End::Length, at).unwrap();
    }
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let listed =
        |limit| -> Vec<u16> { plant.books.alerts(limit).unwrap().iter().map(|raised| raised.alert.percent).collect() };
    assert_eq!((listed(0), listed(3)), (vec![], vec![100, 90, 80]));
    assert_eq!(listed(usize::MAX).len(), 10);
    plant.check();
}
