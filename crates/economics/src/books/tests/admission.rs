//! A request's way: admission, refusals, charge, usage, invoice, payments, changes.

use super::*;
use crate::limits::{Limited, Limits};
use crate::rollup;

#[test]
fn the_charge_is_the_same_in_reply_usage_report_and_invoice() {
    let plan = Plan { discount_permille: 100, ..Plan::plain("basic") };
    let plant = plant_with(vec![example_tier()], plan, Bounds::default());
    let mut ticket = plant.admit(100, 50).unwrap();
    assert_eq!(ticket.allowance(), 16);
    assert_eq!(ticket.extend(NOW), Extension::Granted(32));
    let quantities = Quantities { in_uncached: 60, in_cached: 40, out_visible: 20, out_reasoning: 3 };
    let settled = ticket.settle(&quantities, End::Stop, NOW + 5).unwrap();
    let list = 100 * IN + 23 * OUT;
    assert_eq!((settled.charge.list, settled.charge.discount), (Nano(list), Nano(list / 10)));
    settled.receipt.wait_durable(DURABLE_WAIT).unwrap();
    assert_eq!(ticket.settle(&quantities, End::Stop, NOW).unwrap_err(), SettleError::Ended);
    drop(ticket);

    let total = settled.charge.total();
    assert_eq!(plant.balance("org/acme/money").posted, -total.0);
    assert_eq!(plant.balance("plant/revenue").posted, list);
    assert_eq!(plant.balance("plant/discount").posted, -list / 10);
    let day = 86_400_000;
    let ledger = plant.books.ledger();
    let hours = rollup::usage(ledger, "acme", NOW - day, NOW + day).unwrap();
    let days = rollup::report(ledger, NOW - day, NOW + day).unwrap();
    let window = plant.books.directory().plans().next().unwrap().calendar.window(Period::Month, NOW).unwrap();
    let statement = rollup::statement(ledger, "acme", window.start_ms).unwrap();
    assert_eq!((hours.len(), days.len(), statement.models.len()), (1, 1, 1));
    assert_eq!((hours[0].key.as_str(), hours[0].tag.as_str(), hours[0].project.as_str()), ("k1", "test", "web"));
    for sums in [hours[0].sums, days[0].sums, statement.sums, statement.models[0].sums] {
        assert_eq!((sums.requests, sums.quantities, sums.total()), (1, quantities, total));
    }
    let lines: i64 = statement.models[0].lines.iter().map(|line| line.nano.0).sum();
    assert_eq!(lines, list);
    assert!(rollup::usage(ledger, "acm", 0, i64::MAX).unwrap().is_empty(), "a name is not the beginning of another");
    assert!(rollup::usage(ledger, "acme", NOW + day, NOW + 2 * day).unwrap().is_empty());
    plant.check();
}

#[test]
fn an_adapter_pays_its_own_price_or_its_bases() {
    let plan = Plan {
        models: Some(vec![MODEL.into(), "gpt-4-turbo:priced".into(), "gpt-4-turbo:plain".into()]),
        ..Plan::plain("basic")
    };
    let plant = plant_with(vec![example_tier()], plan, budget(1000 * IN + 1000 * OUT));
    let (input, output) = ("0.02 per 1K".parse().unwrap(), "0.06 per 1K".parse().unwrap());
    let own = PriceSpec::flat("standard", "gpt-4-turbo:priced", input, output);
    plant.books.change(Record::Price(own), "test", NOW).unwrap();
    let identity = plant.books.identify("tw_one", "", NOW).unwrap();
    let admit = |model, base| {
        let (identity, tag, user) = (&identity, "", "");
        let admission = Admission {
            id: next_id(),
            identity,
            model,
            base,
            input: 10,
            max_output: 1,
            tag,
            user,
            metadata: Metadata::NONE,
            now_ms: NOW,
        };
        plant.books.admit(admission)
    };
    assert!(matches!(admit("gpt-4-turbo:plain", None).map(drop), Err(AdmitError::UnknownPrice(_))));
    assert_eq!(
        admit("gpt-4-turbo:other", Some(MODEL)).map(drop).unwrap_err(),
        AdmitError::NotInPlan("gpt-4-turbo:other".into()),
        "each by its name"
    );
    for (model, paid) in [("gpt-4-turbo:plain", 10 * IN), ("gpt-4-turbo:priced", 20 * IN)] {
        let mut ticket = admit(model, Some(MODEL)).unwrap();
        let quantities = Quantities { in_uncached: 10, ..Quantities::default() };
        assert_eq!(ticket.settle(&quantities, End::Stop, NOW).unwrap().charge.list, Nano(paid), "{model}");
    }
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let day = 86_400_000;
    let report = rollup::report(plant.books.ledger(), NOW - day, NOW + day).unwrap();
    let named: Vec<&str> = report.iter().map(|row| row.model.as_str()).collect();
    assert!(
        named.contains(&MODEL) && named.contains(&"gpt-4-turbo:priced") && !named.contains(&"gpt-4-turbo:plain"),
        "{named:?}"
    );
    plant.check();
}

#[test]
fn what_cannot_run_is_refused_by_name_and_holds_nothing() {
    let plan = Plan { models: Some(vec![MODEL.into()]), ..Plan::plain("basic") };
    let plant = plant_with(vec![example_tier()], plan, budget(100 * IN + 3 * OUT));
    let identity = plant.books.identify("tw_one", "", NOW).unwrap();
    let base = Admission {
        id: next_id(),
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
    let refuse = |admission: Admission<'_>| plant.books.admit(admission).map(drop).unwrap_err();
    assert_eq!(refuse(Admission { model: "other", ..base }), AdmitError::NotInPlan("other".into()));
    assert!(matches!(refuse(Admission { now_ms: -1, ..base }), AdmitError::UnknownPrice(_)), "before the price begins");
    assert!(matches!(refuse(Admission { tag: "a\nb", ..base }), AdmitError::Invalid(_)));
    assert!(matches!(refuse(Admission { input: u64::MAX, ..base }), AdmitError::Invalid(_)));
    let refused = refuse(Admission { input: 110, max_output: 5, ..base });
    let AdmitError::Spent { account, left } = refused else { panic!("{refused}") };
    assert_eq!((account.as_str(), left), ("budget/key/k1/month/2026-11-01", Nano(100 * IN + 3 * OUT)));
    let mut reader = identity.clone();
    reader.scopes = [Scope::Usage].into();
    assert_eq!(refuse(Admission { identity: &reader, ..base }), AdmitError::Forbidden);
    let ticket = plant.books.admit(base).unwrap();
    assert_eq!(refuse(base), AdmitError::Duplicate, "while it runs");
    assert_eq!(refuse(Admission { input: 2, ..base }), AdmitError::Duplicate, "with another body");
    assert_eq!(refuse(Admission { id: next_id(), input: 103, max_output: 3, ..base }), AdmitError::Held);
    drop(ticket);
    assert_eq!(refuse(base), AdmitError::Duplicate, "after its end");
    assert_eq!(plant.balance("budget/key/k1/month/2026-11-01").posted, 0, "nothing was delivered, nothing charged");
    plant.check();
}

#[test]
fn rate_limits_are_given_back_when_the_hold_is_refused() {
    let limits = Limits { requests_per_minute: Some(2), ..Limits::default() };
    let plant = plant(Bounds { limits, ..budget(10 * IN + OUT) });
    for _ in 0..5 {
        spent(plant.admit(11, 1));
    }
    drop(plant.admit(1, 1).unwrap());
    drop(plant.admit(1, 1).unwrap());
    let refused = plant.admit(1, 1).map(drop).unwrap_err();
    assert!(matches!(refused, AdmitError::Limited(Limited::Rate { retry_after_ms: 1.., .. })), "{refused}");
}

#[test]
fn dropped_tickets_charge_what_was_journaled() {
    let plant = plant(Bounds::default());
    let mut ticket = plant.admit(10, 10).unwrap();
    let _bytes = ticket.progress(&used(10, 4));
    drop(ticket);
    assert_eq!(plant.balance("org/acme/money").posted, -(10 * IN + 4 * OUT));
    plant.check();
}

#[test]
fn tokens_beyond_the_allowance_are_not_charged() {
    let plant = plant(Bounds::default());
    let mut ticket = plant.admit(10, 3).unwrap();
    let more = Quantities { in_uncached: 8, in_cached: 5, out_visible: 2, out_reasoning: 9 };
    let charge = ticket.settle(&more, End::Stop, NOW).unwrap().charge;
    let capped = Quantities { in_uncached: 5, in_cached: 5, out_visible: 2, out_reasoning: 1 };
    assert_eq!((charge.quantities, charge.total()), (capped, Nano(10 * IN + 3 * OUT)));
}

#[test]
fn payments_and_credit_notes_are_entries_and_count_once() {
    let plant = plant(Bounds::default());
    plant.books.change(Record::Organisation(organisation(Some(Nano::ZERO))), "admin", NOW).unwrap();
    assert_eq!(spent(plant.admit(1, 1)), "org/acme/money", "prepaid and nothing paid");
    let paid = Nano(10 * IN + 2 * OUT);
    for _ in 0..2 {
        plant.books.pay("acme", paid, ("invoice 7", "admin"), NOW).unwrap();
    }
    assert!(plant.books.pay("acme", Nano(1), ("invoice 7", "admin"), NOW).is_err(), "another amount");
    assert!(plant.books.pay("nobody", Nano(1), ("x", "admin"), NOW).unwrap_err().to_string().contains("no `nobody`"));
    let mut ticket = plant.admit(10, 50).unwrap();
    assert_eq!(ticket.allowance(), 2, "exactly what is paid for");
    ticket.settle(&used(10, 2), End::Budget, NOW).unwrap();
    assert_eq!(plant.books.standing("acme", NOW).unwrap().balance, Nano::ZERO);
    let request = ticket.id();
    drop(ticket);
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let credit = |nano, reference| plant.books.credit(request, Nano(nano), (reference, "slow", "admin"), NOW);
    let cost = |amount| Cost { amount, pool_units: 0 };
    assert_eq!(plant.books.cost(request).unwrap(), cost(paid));
    for _ in 0..2 {
        credit(OUT, "c1").unwrap();
    }
    assert_eq!(plant.books.cost(request).unwrap(), cost(Nano(paid.0 - OUT)));
    assert_eq!(plant.books.cost(next_id()).unwrap(), cost(Nano::ZERO));
    for (nano, reference) in [(0, "c2"), (-5, "c2"), (paid.0 + 1, "c2"), (paid.0 - OUT + 1, "c2"), (7, "c1")] {
        assert!(credit(nano, reference).is_err(), "{nano} as {reference}");
    }
    credit(paid.0 - OUT, "c2").unwrap();
    assert!(plant.books.credit(next_id(), Nano(1), ("c3", "", "admin"), NOW).is_err());
    assert_eq!(plant.books.standing("acme", NOW).unwrap().balance, paid);
    let report = rollup::report(plant.books.ledger(), NOW - 86_400_000, NOW + 86_400_000).unwrap();
    assert_eq!((report[0].sums.credited, report[0].sums.total()), (paid, Nano::ZERO));
    plant.check();
}

#[test]
fn the_directory_comes_back_and_every_change_is_kept() {
    let plant = plant(Bounds::default());
    let revoked = Key { revoked: true, ..key(Bounds::default()) };
    assert_eq!(plant.books.change(Record::Key(revoked), "eve", NOW + 1).unwrap(), 2);
    assert!(plant.books.identify("tw_one", "", NOW).is_err(), "at once");
    let later = PriceSpec { from: NOW, ..PriceSpec::flat("standard", MODEL, Rate::ZERO, Rate::ZERO) };
    plant.books.change(Record::Price(later), "eve", NOW).unwrap();
    let refused =
        plant.books.change(Record::Organisation(Organisation { plan: "x".into(), ..organisation(None) }), "eve", NOW);
    assert!(matches!(refused, Err(ChangeError::Invalid(_))));
    plant.books.serve_models(&["tiny".to_owned()], NOW).unwrap();
    let before = records(&plant.books);
    let Plant { books, folder } = plant;
    drop(books);
    let path = folder.path().join("books.db");
    let other = Settings { currency: Currency::of("EUR").unwrap(), ..settings(&path) };
    let error = Books::open(other, NOW).map(drop).unwrap_err().to_string();
    assert!(error.contains("the books are in USD, not EUR"), "{error}");
    let books = Books::open(settings(&path), NOW).unwrap();
    let second = Books::open(settings(&path), NOW).map(drop).unwrap_err().to_string();
    assert!(second.contains("in use"), "{second}");
    assert_eq!(records(&books), before);
    assert!(books.identify("tw_one", "", NOW).is_err());
    assert_eq!(books.change(Record::Plan(Plan::plain("basic")), "admin", NOW).unwrap(), 2, "versions go on");
}

#[test]
fn the_house_and_the_configuration_s_keys_ask_for_nothing() {
    let plant = plant(Bounds::default());
    plant.books.serve_models(&["tiny".to_owned()], NOW).unwrap();
    plant.books.serve_models(&["tiny".to_owned()], NOW).unwrap();
    let ops = plant.books.identify("tw-config", "", NOW).unwrap();
    assert!(ops.scopes.contains(&Scope::Plant) && ops.max_priority == 9);
    for identity in [plant.books.identify_house("someone").unwrap(), ops] {
        let (id, identity) = (next_id(), &identity);
        let admission = Admission {
            id,
            identity,
            model: "tiny",
            base: None,
            input: 5,
            max_output: 500,
            tag: "",
            user: "",
            metadata: Metadata::NONE,
            now_ms: NOW,
        };
        let mut ticket = plant.books.admit(admission).unwrap();
        let charge = ticket.settle(&used(5, 9), End::Stop, NOW).unwrap().charge;
        assert_eq!((charge.total(), charge.lines.len()), (Nano::ZERO, 2));
    }
    assert!(plant.books.identify("tw-other", "", NOW).is_err());
    plant.check();
}
