//! What TFP is told apart by: end users, teams, periods; costs, standard tokens and kinds of outcomes in it; whether objectives
//! were met; who comes back.

use std::collections::HashMap;

use metering::energy::{Energy, EnergySource};
use metering::intervals::{Holder, Taker, Usage};

use super::outcomes::{ask, outcome};
use super::*;
use crate::books::cost_detail::Traffic;
use crate::books::costs::{Accountant, Finished, Interval};
use crate::books::detail::Context;
use crate::outcome::Outcome;
use crate::plant::PlantSheet;
use crate::rollup::{self, KindSums, TfpAsk, TfpBy, TfpPeriod, TfpRow, Unit, activity, goodput, sheets, week_of};
use crate::standard::StandardWeights;

/// So many end users, each with as many tokens of output and outcomes of as much value as its number.
fn with_end_users(count: u64) -> Plant {
    let plant = plant(Bounds::default());
    for n in 1..=count {
        let id = next_id();
        plant.ended_for(&format!("user {n}"), id, Metadata::NONE, (10, n), NOW);
        plant.tell(&outcome(&format!("o{n}"), id, i64::try_from(n).unwrap())).unwrap();
    }
    plant.ended(next_id(), Metadata::NONE, (100, 1), NOW);
    plant
}

#[test]
fn end_users_with_most_value_have_rows_and_the_others_are_summed_up() {
    let plant = with_end_users(5);
    let by = TfpBy { end_user: true, ..TfpBy::default() };
    let rows = plant.table(&TfpAsk { by, top: 2, ..ask() }).rows;
    let told =
        |row: &TfpRow| (row.subject.user.clone(), row.sums().output, row.sums().total_value().to_string(), row.others);
    let expected = [("user 4", 4, "4.00", 0), ("user 5", 5, "5.00", 0), ("", 6, "6.00", 3)]
        .map(|(user, output, value, others)| (user.to_owned(), output, value.to_owned(), others));
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), expected, "who names none is in no row");
    let all = plant.table(&TfpAsk { by, ..ask() }).rows;
    // Of two days each: three rows of three end users are cut, one of whom has a row too.
    for (user, value) in [("user 1", 9), ("user 2", 1)] {
        let id = next_id();
        plant.ended_for(user, id, Metadata::NONE, (1, 1), NOW + DAY_MS);
        plant.tell(&outcome(&format!("next day {user}"), id, value)).unwrap();
    }
    let by_day = TfpBy { period: TfpPeriod::Day, ..by };
    let rows = plant.table(&TfpAsk { by: by_day, top: 3, ..ask() }).rows;
    let rows: Vec<_> = rows.iter().map(|row| (told(row).0, told(row).2, row.others)).collect();
    let expected = [("user 4", "4.00", 0), ("user 5", "5.00", 0), ("user 1", "9.00", 0), ("", "7.00", 3)];
    assert_eq!(rows, expected.map(|(user, value, others)| (user.to_owned(), value.to_owned(), others)));
    assert!(all.len() == 5 && all.iter().all(|row| row.others == 0 && row.subject.organisation == "acme"));
    // A correction takes its value from the end user too.
    let id = next_id();
    plant.ended_for("user 1", id, Metadata::NONE, (1, 1), NOW);
    plant.tell(&outcome("late", id, 100)).unwrap();
    plant.tell(&Outcome { revision: 2, ..outcome("late", id, 50) }).unwrap();
    let rows = plant.table(&TfpAsk { by, top: 1, ..ask() }).rows;
    assert_eq!((told(&rows[0]).2.as_str(), rows[1].others), ("60.00", 4), "1 + 9 + 50");
    plant.check();
}

#[test]
fn periods_and_teams_are_told_apart() {
    let plant = plant(Bounds::default());
    // Sunday 15, Monday 16, Monday 30 November, Tuesday 1 December.
    for day in [0, 1, 15, 16] {
        plant.ended(next_id(), Metadata::NONE, (1, 1), NOW + day * DAY_MS);
    }
    let first = |period| {
        let rows = plant.table(&TfpAsk { by: TfpBy { period, ..TfpBy::default() }, ..ask() }).rows;
        let date = |day: i64| crate::window::to_rfc3339(day * DAY_MS)[..10].to_owned();
        rows.iter().map(|row| (date(row.day), row.sums().requests)).collect::<Vec<_>>()
    };
    let days = |days: &[(&str, i64)]| days.iter().map(|(day, n)| ((*day).to_owned(), *n)).collect::<Vec<_>>();
    assert_eq!(first(TfpPeriod::Week), days(&[("2026-11-09", 1), ("2026-11-16", 1), ("2026-11-30", 2)]));
    assert_eq!(first(TfpPeriod::Month), days(&[("2026-11-01", 3), ("2026-12-01", 1)]));
    assert_eq!(first(TfpPeriod::Day).len(), 4);
    let teams = HashMap::from([("web".to_owned(), "research".to_owned())]);
    let by = TfpBy { team: true, ..TfpBy::default() };
    let rows = plant.table(&TfpAsk { by, teams: &teams, ..ask() }).rows;
    assert_eq!((rows.len(), rows[0].team.as_str(), rows[0].subject.project.as_str()), (1, "research", ""));
}

#[test]
fn what_requests_cost_is_beside_their_value() {
    let plant = plant(Bounds::default());
    let (id, idle) = (next_id(), next_id());
    plant.ended_for("ann", id, Metadata::NONE, (6, 4), NOW);
    plant.ended(idle, Metadata::NONE, (1, 1), NOW);
    let sheet = PlantSheet::example(&Currency::of("USD").unwrap());
    let version = plant.books.take_plant_sheet(&sheet, NOW).unwrap();
    let rates = crate::plant::Plant::new(sheet).unwrap();
    let mut accountant = Accountant::open(&plant.books, (rates, version), NOW).unwrap();
    let holder = Holder { line: 0, request: 1 };
    let context = Context {
        organisation: "acme".into(),
        project: "web".into(),
        model: MODEL.into(),
        user: "ann".into(),
        ..Context::default()
    };
    let second = 1_000_000_000;
    let energy = Energy {
        total_uj: 8_000_000,
        idle_uj: 8_000_000,
        active_uj: 0,
        interval_ns: second,
        busy_ns: second / 2,
        source: EnergySource::Estimated,
    };
    let usage = Usage { busy: vec![(Taker::Request(holder, 0), second / 2)], ended: Vec::new() };
    let finished = vec![Finished { holder, id, context, quantities: used(6, 4), traffic: Traffic::default() }];
    let interval = Interval { from_ms: NOW, to_ms: NOW + 1_000, energy, usage, finished };
    for batch in accountant.close(interval) {
        plant.books.ledger().submit(&batch).unwrap();
    }
    plant.check();
    let sums = plant.table(&ask()).rows[0].sums();
    let cost = rollup::cost_days(plant.books.ledger(), 0, NOW + DAY_MS).unwrap()[0].sums.costs.attributed();
    assert!(cost > Nano::ZERO);
    assert_eq!((sums.cost, sums.costed, sums.requests), (cost, 1, 2));
    let by = TfpBy { end_user: true, ..TfpBy::default() };
    assert_eq!(plant.table(&TfpAsk { by, ..ask() }).rows[0].sums().cost, cost);
    let found = sheets(plant.books.ledger(), NOW - DAY_MS, NOW + DAY_MS).unwrap();
    assert_eq!((found.version, found.versions.as_slice(), found.example), (Some(version), &[version][..], true));
    assert_eq!(sheets(plant.books.ledger(), NOW + DAY_MS, NOW + 2 * DAY_MS).unwrap(), rollup::Sheets::default());
}

#[test]
fn standard_tokens_count_by_list_price() {
    let plant = plant(Bounds::default());
    plant.ended(next_id(), Metadata::NONE, (300, 50), NOW);
    let standard = |base: Option<&str>, at_ms| {
        let weigh = |organisation: &str, model: &str| {
            StandardWeights::of(&plant.books.directory(), (organisation, model), base, at_ms)
        };
        plant.table(&TfpAsk { weigh: Some(&weigh), ..ask() })
    };
    // A prompt token at a third of the price of an answer token.
    let table = standard(None, NOW);
    assert_eq!(table.rows[0].standard_milli(), Some(150_000));
    assert_eq!((table.weights.len(), table.weights[0].list.as_str()), (1, "standard"));
    // Relative to a model at twice that price.
    let dear = PriceSpec::flat("standard", "dear", "0.02 per 1K".parse().unwrap(), "0.06 per 1K".parse().unwrap());
    plant.books.change(Record::Price(dear), "admin", NOW).unwrap();
    assert_eq!(standard(Some("dear"), NOW).rows[0].standard_milli(), Some(75_000));
    // Twice the price for input from tomorrow on.
    let spec = PriceSpec::flat("standard", MODEL, "0.02 per 1K".parse().unwrap(), "0.03 per 1K".parse().unwrap());
    plant.books.change(Record::Price(PriceSpec { from: NOW + DAY_MS, ..spec }), "admin", NOW).unwrap();
    assert_eq!(standard(None, NOW).rows[0].standard_milli(), Some(150_000));
    assert_eq!(standard(None, NOW + DAY_MS).rows[0].standard_milli(), Some(250_000));
    let none = standard(Some("nobody's"), NOW);
    assert_eq!((none.rows[0].standard_milli(), none.rows[0].unpriced), (None, true));
    assert!(none.weights.is_empty() && none.without_price.contains(MODEL));
}

#[test]
fn each_kind_of_outcome_has_its_own_count_and_its_own_time_to_come() {
    let plant = plant(Bounds::default());
    let of = |task: &str| Metadata { task: task.into(), ..Metadata::default() };
    let ids = [next_id(), next_id(), next_id()];
    for (id, task) in ids.iter().zip(["slow", "slow", "fast"]) {
        plant.ended(*id, &of(task), (10, 1), NOW);
    }
    plant.ended(next_id(), &of("other"), (10, 1), NOW);
    let slow = Outcome { kind: "renewal".into(), maturity_days: 30, ..outcome("r", ids[0], 7) };
    plant.tell(&slow).unwrap();
    plant.tell(&Outcome { kind: "click".into(), maturity_days: 1, ..outcome("c", ids[2], 1) }).unwrap();
    let by = TfpBy { task: true, ..TfpBy::default() };
    let matured = |days: i64| {
        let rows = plant.table(&TfpAsk { by, now_ms: NOW + days * DAY_MS, ..ask() }).rows;
        rows.iter().map(|row| (row.subject.task.clone(), row.matured)).collect::<Vec<_>>()
    };
    let expect = |rows: [(&str, i64); 3]| rows.map(|(task, matured)| (task.to_owned(), matured)).to_vec();
    assert_eq!(matured(1), expect([("fast", 0), ("other", 0), ("slow", 0)]));
    assert_eq!(matured(2), expect([("fast", 1), ("other", 0), ("slow", 0)]));
    assert_eq!(matured(8), expect([("fast", 1), ("other", 1), ("slow", 0)]), "a week where there were none");
    assert_eq!(matured(31), expect([("fast", 1), ("other", 1), ("slow", 2)]));
    // By end user the project's longest counts.
    assert_eq!(rollup::maturity_days(plant.books.ledger(), "acme").unwrap().len(), 2);

    // A correction may be of another kind.
    plant.tell(&Outcome { revision: 2, kind: "upgrade".into(), accepted: false, ..slow }).unwrap();
    let all = plant.table(&ask()).rows;
    let by_model = plant.table(&TfpAsk { by: TfpBy { model: true, ..TfpBy::default() }, ..ask() }).rows;
    assert_eq!((by_model.len(), &by_model[0].groups), (1, &all[0].groups), "the totals are those of all rows");
    let kind = |name: &str| all[0].kinds.get(name).copied().unwrap_or_default();
    assert_eq!(kind("renewal"), KindSums::default());
    assert_eq!(kind("upgrade"), KindSums { outcomes_milli: 1_000, accepted_milli: 0, value: Nano(7_000_000_000) });
    assert_eq!(kind("click").accepted_milli, 1_000);
    plant.check();
}

#[test]
fn objectives_that_were_met_are_counted_by_day() {
    let plant = plant(Bounds::default());
    for (service, output) in [(Service::Met, 5), (Service::Met, 3), (Service::Missed, 9), (Service::Unstated, 7)] {
        let mut ticket = plant.admit(1, 10).unwrap();
        ticket.note_service(service);
        ticket.settle(&used(1, output), End::Stop, NOW).unwrap().receipt.wait_durable(DURABLE_WAIT).unwrap();
    }
    let found = goodput(plant.books.ledger(), NOW - DAY_MS, NOW + DAY_MS).unwrap();
    assert_eq!((found.stated, found.met, found.output_tokens), (3, 2, 8));
    assert_eq!(goodput(plant.books.ledger(), NOW + DAY_MS, NOW + 2 * DAY_MS).unwrap().stated, 0);
    plant.check();
}

#[test]
fn activity_names_the_weeks_of_each_unit_once() {
    let plant = plant(Bounds::default());
    for (user, day) in [("ann", 0), ("ann", 0), ("bob", 0), ("ann", 7), ("", 7), ("bob", 21)] {
        plant.ended_for(user, next_id(), Metadata::NONE, (1, 1), NOW + day * DAY_MS);
    }
    let week = week_of(NOW / DAY_MS);
    let all = ["acme".to_owned()];
    let found = activity(plant.books.ledger(), &all, week + 2, Unit::EndUser).unwrap().unwrap();
    assert_eq!((found.units, found.weeks), (2, vec![(0, week), (1, week), (0, week + 1)]));
    let found = activity(plant.books.ledger(), &all, week + 9, Unit::Project).unwrap().unwrap();
    assert_eq!((found.units, found.weeks), (1, vec![(0, week), (0, week + 1), (0, week + 3)]));
}
