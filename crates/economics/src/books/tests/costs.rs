//! Costs: what the plant cost is idle, in progress or attributed, to the nano-unit and the microjoule.

use std::collections::HashMap;

use ledger::{AccountKind, EntryId};
use metering::energy::{Energy, EnergySource};
use metering::intervals::{Ended, Holder, Taker, Usage};
use proptest::prelude::*;

use super::*;
use crate::books::cost_detail::{CostLine, Costs, PlantInterval, RequestCost, Traffic};
use crate::books::costs::{Accountant, Finished, Interval, cost_id};
use crate::books::detail::Context;
use crate::plant::{Plant as PlantRates, PlantSheet};
use crate::rollup::{self, CostAsk, CostGroups, full_cost, grouped_costs};

const SECOND: u64 = 1_000_000_000;

fn accountant(books: &Books) -> Accountant {
    let sheet = PlantSheet::example(&Currency::of("USD").unwrap());
    let version = books.take_plant_sheet(&sheet, NOW).unwrap();
    Accountant::open(books, (PlantRates::new(sheet).unwrap(), version), NOW).unwrap()
}

fn energy(busy_ns: u64) -> Energy {
    // 8 W idle, 28 W when all of the second was busy.
    let active_uj = busy_ns.min(SECOND) / 50;
    Energy {
        total_uj: 8_000_000 + active_uj,
        idle_uj: 8_000_000,
        active_uj,
        interval_ns: SECOND,
        busy_ns,
        source: EnergySource::Estimated,
    }
}

fn holder(request: u64) -> Holder {
    Holder { line: 0, request }
}

fn finished(request: u64) -> Finished {
    let context = Context {
        organisation: format!("org{}", request % 3),
        project: "web".to_owned(),
        model: MODEL.to_owned(),
        tag: "t".to_owned(),
        ..Context::default()
    };
    let quantities = Quantities { in_uncached: 100, out_visible: 20, ..Quantities::default() };
    Finished { holder: holder(request), id: request_id(request), context, quantities, traffic: Traffic::default() }
}

/// With traffic that costs something.
fn delivered(request: u64) -> Finished {
    Finished { traffic: Traffic { received: 1_000 * request, sent: 90_000 }, ..finished(request) }
}

fn request_id(request: u64) -> EntryId {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&request.to_be_bytes());
    EntryId(id)
}

fn interval(second: i64, usage: Usage, finished: Vec<Finished>) -> Interval {
    let energy = energy(usage.busy_ns());
    Interval { from_ms: NOW + second * 1000, to_ms: NOW + (second + 1) * 1000, energy, usage, finished }
}

fn post(books: &Books, accountant: &mut Accountant, interval: Interval) {
    for batch in accountant.close(interval) {
        books.ledger().submit(&batch).unwrap();
    }
}

fn balances(books: &Books, kind: AccountKind) -> i64 {
    let ledger = books.ledger();
    let mut sum = 0;
    for name in
        ["idle", "in-progress/0", "attributed", "power", "depreciation", "rent", "network", "operations", "fixed"]
    {
        let id = ledger.account(&format!("plant/cost/{name}")).unwrap().unwrap();
        if ledger.account_spec(id).unwrap().unwrap().kind == kind {
            sum += ledger.balance(id).unwrap().unwrap().posted;
        }
    }
    sum
}

#[test]
fn a_request_bears_its_busy_time_and_the_rest_is_idle() {
    let plant = plant(Bounds::default());
    let books = &plant.books;
    let mut accountant = accountant(books);
    // A quarter of the first second by one request; then one alone, for all of the second.
    let quarter = Usage { busy: vec![(Taker::Request(holder(1), 0), SECOND / 4)], ended: Vec::new() };
    post(books, &mut accountant, interval(0, quarter, vec![finished(1)]));
    let whole = Usage { busy: vec![(Taker::Request(holder(2), 1), SECOND)], ended: Vec::new() };
    post(books, &mut accountant, interval(1, whole, vec![finished(2)]));
    books.ledger().flush(DURABLE_WAIT).unwrap();
    let cost = |request| RequestCost::read(&books.ledger().entry_by_id(cost_id(request_id(request))).unwrap().unwrap());
    let (first, second) = (cost(1).unwrap(), cost(2).unwrap());
    let entries = books.ledger().entries(1, 1000).unwrap();
    let intervals: Vec<PlantInterval> = entries.iter().filter_map(PlantInterval::read).collect();
    assert_eq!(first.costs.lines[0].energy_uj, 8_000_000 / 4 + 5_000_000);
    assert_eq!(intervals[0].idle.energy_uj, 8_000_000 / 4 * 3);
    assert_eq!(first.costs.attributed().0 + intervals[0].idle.attributed().0, intervals[0].total().0);
    assert_eq!((second.costs.lines[1].energy_uj, intervals[1].idle.energy_uj), (28_000_000, 0));
    assert_eq!(second.costs.attributed(), intervals[1].total());
    // 20 W for a quarter of a second at 0.15 a kWh: 5 J x 0.15 / 3.6e6 J = 208 nano-units.
    assert_eq!(first.costs.sum().marginal, Nano(208));
    assert_eq!(first.context.organisation, "org1");
    let report = verify_costs(&plant.store()).unwrap();
    assert_eq!((report.intervals, report.requests, report.in_progress), (2, 2, Nano::ZERO));
    assert_eq!(balances(books, AccountKind::Contra), -report.plant.0);
    books.ledger().verify().unwrap();
    let days = rollup::cost_days(books.ledger(), NOW - DAY_MS, NOW + DAY_MS).unwrap();
    assert_eq!(days.iter().map(|row| row.sums.costs.attributed().0).sum::<i64>(), report.attributed.0);
    let hours = rollup::plant_hours(books.ledger(), NOW - 3_600_000, NOW + 3_600_000).unwrap();
    let hour = hours.values().next().unwrap();
    assert_eq!((hour.total(), hour.idle_cost(), hour.busy_ns), (report.plant, report.idle, SECOND / 4 * 5));
}

#[test]
fn a_step_over_the_border_is_borne_by_those_it_worked_for() {
    let plant = plant(Bounds::default());
    let books = &plant.books;
    let mut accountant = accountant(books);
    let under_way = Usage { busy: vec![(Taker::UnderWay(0), SECOND / 2)], ended: Vec::new() };
    post(books, &mut accountant, interval(0, under_way, Vec::new()));
    let takers = vec![(holder(1), 0, 300), (holder(2), 3, 100)];
    let ended = Usage { busy: Vec::new(), ended: vec![Ended { line: 0, takers }] };
    post(books, &mut accountant, interval(1, ended, vec![finished(1), finished(2)]));
    // One that came to nothing.
    let under_way = Usage { busy: vec![(Taker::UnderWay(0), SECOND / 2)], ended: Vec::new() };
    post(books, &mut accountant, interval(2, under_way, Vec::new()));
    let nothing = Usage { busy: Vec::new(), ended: vec![Ended { line: 0, takers: Vec::new() }] };
    post(books, &mut accountant, interval(3, nothing, Vec::new()));
    books.ledger().flush(DURABLE_WAIT).unwrap();
    let cost = |request| RequestCost::read(&books.ledger().entry_by_id(cost_id(request_id(request))).unwrap().unwrap());
    let (first, second) = (cost(1).unwrap(), cost(2).unwrap());
    assert!(first.costs.sum().machine_ns == SECOND / 8 * 3 && second.costs.sum().machine_ns == SECOND / 8);
    assert_eq!(second.costs.wasted(), second.costs.attributed(), "computed again");
    let report = verify_costs(&plant.store()).unwrap();
    assert_eq!((report.requests, report.in_progress, report.in_progress_uj), (2, Nano::ZERO, 0));
}

#[test]
fn what_a_crash_leaves_in_progress_is_idle() {
    let plant = plant(Bounds::default());
    let books = &plant.books;
    let mut first = accountant(books);
    let usage = Usage { busy: vec![(Taker::Request(holder(1), 0), SECOND / 4)], ended: Vec::new() };
    post(books, &mut first, interval(0, usage, Vec::new()));
    books.ledger().flush(DURABLE_WAIT).unwrap();
    assert!(verify_costs(&plant.store()).unwrap().in_progress > Nano::ZERO);
    drop(first);
    let _ = accountant(books);
    let report = verify_costs(&plant.store()).unwrap();
    assert_eq!((report.in_progress, report.in_progress_uj), (Nano::ZERO, 0));
    assert_eq!(report.idle, report.plant);
    books.ledger().verify().unwrap();
}

#[test]
fn traffic_is_marginal_cost_of_its_request() {
    let plant = plant(Bounds::default());
    let books = &plant.books;
    let mut accountant = accountant(books);
    let usage = Usage { busy: vec![(Taker::Request(holder(1), 0), SECOND / 4)], ended: Vec::new() };
    let traffic = Traffic { received: 50_000, sent: 950_000 };
    post(books, &mut accountant, interval(0, usage, vec![Finished { traffic, ..finished(1) }]));
    books.ledger().flush(DURABLE_WAIT).unwrap();
    let entry = books.ledger().entry_by_id(cost_id(request_id(1))).unwrap().unwrap();
    let cost = RequestCost::read(&entry).unwrap();
    // A megabyte at 0.01 a gigabyte.
    assert_eq!((cost.traffic, cost.costs.network), (traffic, Nano(10_000)));
    assert_eq!(cost.costs.marginal(), Nano(10_208), "208 are its energy");
    assert_eq!(RequestCost::read_detail(entry.kind, &cost.pack()), Some(cost.clone()));
    let report = verify_costs(&plant.store()).unwrap();
    assert_eq!((report.attributed, report.in_progress), (cost.costs.attributed(), Nano::ZERO));
    assert_eq!(balances(books, AccountKind::Contra), -report.plant.0);
    // As it was written before traffic was known: shorter, and still read.
    let plain = RequestCost { traffic: Traffic::default(), costs: Costs { network: Nano::ZERO, ..cost.costs }, ..cost };
    assert!(plain.pack().len() < entry.detail.len() && plain.pack()[0] == 1);
    assert_eq!(RequestCost::read_detail(entry.kind, &plain.pack()), Some(plain));
}

#[test]
fn full_cost_of_a_closed_day_is_all_that_the_day_cost() {
    let plant = plant(Bounds::default());
    let books = &plant.books;
    let mut accountant = accountant(books);
    for request in 1..8 {
        let busy = vec![(Taker::Request(holder(request), 1), SECOND / 10 * request)];
        let usage = Usage { busy, ended: Vec::new() };
        post(books, &mut accountant, interval(request.cast_signed(), usage, vec![delivered(request)]));
    }
    for second in 8..4_000 {
        post(books, &mut accountant, interval(second, Usage::default(), Vec::new()));
    }
    books.ledger().flush(DURABLE_WAIT).unwrap();
    let ledger = books.ledger();
    let today = NOW - NOW.rem_euclid(DAY_MS);
    let report = verify_costs(&plant.store()).unwrap();
    let teams = HashMap::new();
    for by in [
        CostGroups::default(),
        CostGroups { organisation: true, ..CostGroups::default() },
        CostGroups { hour: true, key: true, ..CostGroups::default() },
    ] {
        let span_ms = (today, today + DAY_MS);
        let ask = |now_ms| CostAsk { span_ms, by, teams: &teams, with_sales: false, now_ms };
        let rows = |now_ms| grouped_costs(ledger, &ask(now_ms)).unwrap().unwrap();
        assert!(rows(today + DAY_MS + 119_999).iter().all(|row| row.full.is_none()), "the day is open");
        let full = rows(today + DAY_MS + 120_000).iter().map(|row| row.full.unwrap().0).sum::<i64>();
        assert_eq!(full, report.plant.0, "{by:?}");
    }
    let mut sum = 0;
    for request in 1..8 {
        let entry = ledger.entry_by_id(cost_id(request_id(request))).unwrap().unwrap();
        let attributed = RequestCost::read(&entry).unwrap().costs.attributed();
        assert_eq!(full_cost(ledger, attributed, entry.at_ms, NOW).unwrap(), None);
        sum += full_cost(ledger, attributed, entry.at_ms, today + 2 * DAY_MS).unwrap().unwrap().0;
    }
    assert!(sum.abs_diff(report.plant.0) <= 4, "each is rounded to a nano-unit: {sum} of {}", report.plant.0);
}

#[test]
fn a_sheet_is_a_version_when_it_changes() {
    let plant = plant(Bounds::default());
    let mut sheet = PlantSheet::example(&Currency::of("USD").unwrap());
    assert_eq!(plant.books.take_plant_sheet(&sheet, NOW).unwrap(), 1);
    assert_eq!(plant.books.take_plant_sheet(&sheet, NOW + 1).unwrap(), 1);
    sheet.idle_watts = crate::plant::Milli(9_000);
    assert_eq!(plant.books.take_plant_sheet(&sheet, NOW + 2).unwrap(), 2);
}

#[test]
fn a_cost_that_was_tampered_with_is_found() {
    // Another amount in the detail than in the legs.
    let detail = PlantInterval {
        from_ms: NOW,
        to_ms: NOW + 1000,
        idle: CostLine { standing: Nano(5), ..CostLine::default() },
        ..PlantInterval::default()
    };
    let plant = plant(Bounds::default());
    let mut accountant = accountant(&plant.books);
    post(&plant.books, &mut accountant, interval(0, Usage::default(), Vec::new()));
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    let entries = plant.books.ledger().entries(1, 1000).unwrap();
    let legs = entries.iter().rev().find_map(|entry| PlantInterval::read(entry).map(|_| entry.legs.clone())).unwrap();
    let post = Command::Post { id: request_id(9), kind: detail::entry_kind::ACCRUED, legs, detail: detail.pack() };
    plant.books.ledger().submit(&Batch { at_ms: NOW, commands: vec![post] }).unwrap();
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    assert!(
        matches!(verify_costs(&plant.store()), Err(CostFault::Entry { what, .. }) if what.contains("idle and used"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Intervals with any use: the whole adds up in the entries, in the balances and in the roll-ups.
    #[test]
    fn costs_add_up_whatever_happens(
        seconds in proptest::collection::vec(
            (proptest::collection::vec((0..6_u64, 0..4_usize, 0..400_000_000_u64), 0..8), 0..3_u8, any::<bool>()), 1..20,
        ),
    ) {
        let plant = plant(Bounds::default());
        let books = &plant.books;
        let mut accountant = accountant(books);
        let (mut under_way, mut next) = (false, 0);
        for (second, (busy, open, ends)) in (0..).zip(seconds) {
            let mut usage = Usage::default();
            if under_way {
                let takers = if ends { vec![(holder(next), 1, 3), (holder(next + 1), 2, 4)] } else { Vec::new() };
                usage.ended.push(Ended { line: 0, takers });
            }
            for (request, purpose, ns) in busy {
                usage.busy.push((Taker::Request(holder(next + request), purpose), ns));
            }
            under_way = open > 0;
            if under_way {
                usage.busy.push((Taker::UnderWay(0), u64::from(open) * 1_000_000));
            }
            let done = if ends { (next..next + 3).map(delivered).collect() } else { Vec::new() };
            next += if ends { 3 } else { 0 };
            post(books, &mut accountant, interval(second, usage, done));
        }
        books.ledger().flush(DURABLE_WAIT).unwrap();
        let report = verify_costs(&plant.store()).unwrap();
        prop_assert_eq!(report.plant.0, report.idle.0 + report.attributed.0 + report.in_progress.0);
        prop_assert_eq!(report.plant_uj, report.idle_uj + report.attributed_uj + report.in_progress_uj);
        prop_assert_eq!(balances(books, AccountKind::Contra), -report.plant.0);
        prop_assert_eq!(balances(books, AccountKind::Idle), report.idle.0);
        prop_assert_eq!(balances(books, AccountKind::Cost), report.attributed.0 + report.in_progress.0);
        let hours = rollup::plant_hours(books.ledger(), 0, NOW * 2).unwrap();
        let days = rollup::cost_days(books.ledger(), 0, NOW * 2).unwrap();
        let network: i64 = days.iter().map(|row| row.sums.costs.network.0).sum();
        prop_assert_eq!(hours.values().map(|sums| sums.total().0).sum::<i64>() + network, report.plant.0);
        prop_assert!(days.is_empty() || network > 0);
        prop_assert_eq!(days.iter().map(|row| row.sums.costs.attributed().0).sum::<i64>(), report.attributed.0);
        let hourly = rollup::cost_hours(books.ledger(), 0, NOW * 2).unwrap();
        prop_assert_eq!(hourly.iter().map(|row| row.sums.costs.sum().energy_uj.cast_signed()).sum::<i64>(), report.attributed_uj);
        books.ledger().verify().unwrap();
    }
}
