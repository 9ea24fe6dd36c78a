//! What must not be charged.

use super::crash::page;
use super::*;

/// Everything that a charge moves: money, a budget, a pool and a volume, and what is left of them.
fn moved(plant: &Plant) -> [i64; 6] {
    [
        "org/acme/money",
        "budget/key/k1/month/2026-11-01",
        "org/acme/pool/2026-11-01",
        "org/acme/volume/standard/gpt-4-turbo/2026-11-01",
        "plant/pool",
        "plant/volume",
    ]
    .map(|name| plant.balance(name).posted)
}

fn pooled() -> Plant {
    let pool = Pool { tokens: 10, weights: Weights::default(), then: PoolEnd::Overage };
    let plan = Plan { pool: Some(pool), discount_permille: 100, ..Plan::plain("basic") };
    let later = Tier { volume_from: 15, ..Tier::flat(Rate::ZERO, Rate::ZERO) };
    plant_with(vec![example_tier(), later], plan, budget(1_000_000 * OUT))
}

#[test]
fn an_answer_that_nobody_got_leaves_nothing_whatever_became_of_it() {
    let plant = pooled();
    // Held; settled; not known at all.
    let mut settled = plant.admit(20, 10).unwrap();
    let mut held = plant.admit(20, 10).unwrap();
    settled.settle(&used(20, 5), End::Stop, NOW).unwrap();
    assert!(moved(&plant)[0] < 0 && moved(&plant)[2] == -10_000, "money and pool are charged");
    for _ in 0..2 {
        held.undo(NOW).unwrap();
        settled.undo(NOW).unwrap();
        plant.books.undo(next_id(), NOW).unwrap();
        // The tokens of what was charged still count for the volume.
        assert_eq!(moved(&plant), [0, 0, 0, 25, 0, -25]);
    }
    // No more than the charge: nothing is left for a credit note.
    let note = plant.books.credit(settled.id(), Nano(1), ("r", "again", "admin"), NOW);
    assert!(note.is_err_and(|error| !error.is_temporary()));
    plant.check();
}

#[test]
fn a_charge_that_was_credited_in_part_is_not_given_back_twice() {
    let plant = plant(Bounds::default());
    let mut ticket = plant.admit(20, 10).unwrap();
    ticket.settle(&used(20, 5), End::Stop, NOW).unwrap();
    plant.books.credit(ticket.id(), Nano(1), ("r", "a gift", "admin"), NOW).unwrap();
    assert!(ticket.undo(NOW).is_err_and(|error| !error.is_temporary()));
    assert_eq!(plant.balance("org/acme/money").posted, 1 - 20 * IN - 5 * OUT);
}

#[test]
fn a_refund_before_the_restart_stops_no_recovery() {
    let plant = plant(Bounds::default());
    let mut whole = plant.admit(20, 10).unwrap();
    let opened = page(&whole, None);
    whole.settle(&used(20, 5), End::Stop, NOW).unwrap();
    plant.books.credit(whole.id(), Nano(1), ("r", "a gift", "admin"), NOW).unwrap();
    let after = crash::image(&plant);
    for _ in 0..2 {
        let recovered = after.books.recover(std::slice::from_ref(&opened), NOW).unwrap();
        assert_eq!((recovered.given_back, recovered.kept().collect::<Vec<_>>()), (0, vec![whole.id()]));
        assert!(recovered.failed[0].1.starts_with("its charge cannot be given back: "), "{recovered:?}");
        assert_eq!(after.balance("org/acme/money").posted, 1 - 20 * IN - 5 * OUT);
    }
    after.check();
}

#[test]
fn what_is_given_back_raises_no_other_charge_above_its_hold() {
    let cheap = Tier { volume_from: 15, ..Tier::flat(Rate::ZERO, "0.001 per 1K".parse().unwrap()) };
    let plant = plant_with(vec![example_tier(), cheap], Plan::plain("basic"), budget(1_000 * OUT));
    let mut first = plant.admit(0, 16).unwrap();
    first.settle(&used(0, 16), End::Stop, NOW).unwrap();
    let mut second = plant.admit(0, 10).unwrap();
    first.undo(NOW).unwrap();
    let charge = second.settle(&used(0, 10), End::Stop, NOW).unwrap().charge;
    assert_eq!((charge.total(), second.held.need.money), (Nano(10 * 1_000), Nano(10 * 1_000)));
    plant.check();
}

#[test]
fn a_settlement_whose_answer_was_lost_is_found_again() {
    let plant = pooled();
    let mut ticket = plant.admit(20, 10).unwrap();
    let first = ticket.settle(&used(20, 5), End::Stop, NOW).unwrap();
    assert!(first.charge.total() > Nano::ZERO);
    // As after an answer that did not come: the same is asked again, the volume is another by now.
    ticket.ended = false;
    let second = ticket.settle(&used(20, 5), End::Stop, NOW).unwrap();
    assert_eq!((second.charge, second.receipt.outcomes.as_slice()), (first.charge, [].as_slice()));
    second.receipt.wait_durable(DURABLE_WAIT).unwrap();
    plant.check();
}

#[test]
fn holds_whose_time_is_over_are_ended() {
    let plant = plant(Bounds::default());
    let mut left = plant.admit(20, 10).unwrap();
    let running = plant.admit(20, 10).unwrap();
    left.leave();
    let runs = |id| id == running.id();
    let day = 24 * 3_600_000;
    assert_eq!(plant.books.expire(runs, NOW + day - 1).unwrap(), 0);
    assert_eq!(plant.books.expire(runs, NOW + day).unwrap(), 1);
    assert_eq!(plant.balance("org/acme/money").held, 20 * IN + 10 * OUT, "the running one stays");
    drop((left, running));
    plant.check();
    // Another writer's may still run there: a day longer.
    let mut foreign = plant.admit(20, 10).unwrap();
    foreign.leave();
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let other = crash::image_of(&plant, 7);
    assert_eq!(other.books.expire(|_| false, NOW + 2 * day - 1).unwrap(), 0);
    assert_eq!(other.books.expire(|_| false, NOW + 2 * day).unwrap(), 1);
    other.check();
}

#[test]
fn recovery_gives_back_what_was_settled_and_never_left() {
    let plant = plant(Bounds::default());
    let mut whole = plant.admit(20, 10).unwrap();
    let opened = page(&whole, None);
    whole.settle(&used(20, 5), End::Stop, NOW).unwrap();
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let after = crash::image(&plant);
    for given_back in [1, 1] {
        let recovered = after.books.recover(std::slice::from_ref(&opened), NOW).unwrap();
        assert_eq!((recovered.already, recovered.given_back), (1, given_back));
        assert_eq!(after.books.cost(whole.id()).unwrap(), Cost::default());
        assert_eq!(after.balance("org/acme/money").posted, 0);
    }
    after.check();
}

#[test]
fn pages_of_another_writer_are_left_to_it() {
    let plant = plant(Bounds::default());
    let mut ticket = plant.admit(20, 10).unwrap();
    let progress = ticket.progress(&used(20, 5));
    let opened = page(&ticket, Some(progress));
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let other = crash::image_of(&plant, 7);
    let recovered = other.books.recover(std::slice::from_ref(&opened), NOW).unwrap();
    assert_eq!((recovered.settled, recovered.voided, recovered.foreign.as_slice()), (0, 0, [ticket.id()].as_slice()));
    let own = crash::image(&other);
    let recovered = own.books.recover(std::slice::from_ref(&opened), NOW).unwrap();
    assert_eq!((recovered.settled, recovered.charged), (1, Nano(20 * IN + 5 * OUT)));
    own.check();
}

#[test]
fn what_was_delivered_is_charged_though_another_server_ended_its_hold() {
    let plant = plant(Bounds::default());
    let mut ticket = plant.admit(20, 10).unwrap();
    let progress = ticket.progress(&used(20, 5));
    let opened = page(&ticket, Some(progress));
    ticket.leave();
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let other = crash::image_of(&plant, 7);
    let later = NOW + 48 * 3_600_000;
    assert_eq!(other.books.expire(|_| false, later).unwrap(), 1);
    other.books.ledger().flush(DURABLE_WAIT).unwrap();
    let own = crash::image(&other);
    for (settled, already) in [(1, 0), (0, 1)] {
        let recovered = own.books.recover(std::slice::from_ref(&opened), later).unwrap();
        assert_eq!((recovered.settled, recovered.already, recovered.failed), (settled, already, Vec::new()));
        assert_eq!(own.balance("org/acme/money").posted, -20 * IN - 5 * OUT);
    }
    own.books.credit(ticket.id(), Nano(1), ("r", "by the request's id", "admin"), later).unwrap();
    own.check();
}

#[test]
fn what_was_released_uncharged_is_named_by_every_recovery() {
    let plant = plant(Bounds::default());
    let mut ticket = plant.admit(20, 10).unwrap();
    let progress = ticket.progress(&used(20, 5));
    let opened = page(&ticket, Some(progress));
    ticket.void(NOW).unwrap();
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let after = crash::image(&plant);
    for _ in 0..2 {
        let recovered = after.books.recover(std::slice::from_ref(&opened), NOW).unwrap();
        assert_eq!((recovered.already, recovered.kept().collect::<Vec<_>>()), (0, vec![ticket.id()]));
        assert_eq!(after.balance("org/acme/money").posted, 0);
    }
    after.check();
}

/// As another server does that takes the one running request for gone.
fn expire_running(plant: &Plant, later: i64) {
    assert_eq!(plant.books.expire(|_| false, later).unwrap(), 1);
}

#[test]
fn a_request_that_still_runs_is_charged_once_though_another_server_ended_its_hold() {
    let plant = pooled();
    let later = NOW + 48 * 3_600_000;
    let mut ticket = plant.admit(20, 100).unwrap();
    let progress = ticket.progress(&used(20, 5));
    let opened = page(&ticket, Some(progress));
    expire_running(&plant, later);
    assert_eq!((plant.balance("org/acme/money").held, ticket.extend(later)), (0, Extension::Ended));
    assert_eq!(ticket.allowance(), 16, "no more than was paid for");
    let first = ticket.settle(&used(20, 100), End::Failed, later).unwrap();
    let after = moved(&plant);
    assert_eq!((first.charge.quantities, after[0]), (used(20, 16), -first.charge.total().0));
    assert_eq!((after[2], after[3]), (-10_000, 36), "pool and volume count");
    // Once more, as after an answer of the store that did not come.
    ticket.ended = false;
    let second = ticket.settle(&used(20, 100), End::Failed, later).unwrap();
    assert_eq!((second.charge, moved(&plant)), (first.charge, after));
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let own = crash::image(&plant);
    let recovered = own.books.recover(std::slice::from_ref(&opened), later).unwrap();
    assert_eq!((recovered.settled, recovered.already, recovered.failed), (0, 1, Vec::new()));
    assert_eq!(moved(&own), after);
    plant.check();
    own.check();
}

#[test]
fn a_late_charge_is_given_back_like_any_other() {
    let plant = pooled();
    let later = NOW + 48 * 3_600_000;
    let mut ticket = plant.admit(20, 10).unwrap();
    let opened = page(&ticket, None);
    expire_running(&plant, later);
    ticket.settle(&used(20, 5), End::Stop, later).unwrap();
    assert!(moved(&plant)[0] < 0);
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let own = crash::image(&plant);
    let recovered = own.books.recover(std::slice::from_ref(&opened), later).unwrap();
    assert_eq!((recovered.already, recovered.given_back), (1, 1));
    for plant in [&plant, &own] {
        plant.books.undo(ticket.id(), later).unwrap();
        assert_eq!(moved(plant), [0, 0, 0, 25, 0, -25]);
        plant.check();
    }
}

#[test]
fn a_late_charge_is_refused_where_nothing_is_left_and_holds_nothing() {
    let plant = plant(budget(20 * OUT));
    let later = NOW + 48 * 3_600_000;
    let mut ticket = plant.admit(0, 16).unwrap();
    expire_running(&plant, later);
    let mut other = plant.admit(0, 16).unwrap();
    other.settle(&used(0, 16), End::Stop, NOW).unwrap();
    let error = ticket.settle(&used(0, 16), End::Stop, later).unwrap_err();
    assert!(!error.is_temporary(), "{error}");
    ticket.undo(later).unwrap();
    assert_eq!(plant.balance("budget/key/k1/month/2026-11-01").posted, -16 * OUT);
    plant.check();
}

#[test]
fn a_late_charge_changes_no_final_invoice() {
    let plant = plant(Bounds::default());
    let mut first = plant.admit(20, 10).unwrap();
    first.settle(&used(20, 5), End::Stop, NOW).unwrap();
    let mut ticket = plant.admit(20, 10).unwrap();
    let later = NOW + 20 * 24 * 3_600_000;
    expire_running(&plant, later);
    let invoice = |id: &str| plant.books.invoice("acme", id, later).unwrap().unwrap();
    let over = invoice("2026-11-01");
    ticket.settle(&used(20, 5), End::Stop, later).unwrap();
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    assert_eq!(invoice("2026-11-01").total, over.total);
    assert_eq!(invoice("2026-12-01").total, over.total);
    plant.check();
}
