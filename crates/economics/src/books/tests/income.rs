//! The income statement, costs and margins over a small ledger whose figures can be worked out by hand.

use std::collections::HashMap;

use metering::energy::{Energy, EnergySource};
use metering::intervals::{Holder, Taker, Usage};

use super::*;
use crate::books::cost_detail::Traffic;
use crate::books::costs::{Accountant, Finished, Interval};
use crate::books::detail::Context;
use crate::income::income;
use crate::plant::{FixedCost, Milli, PlantSheet, Source};
use crate::rollup::{CostAsk, CostGroups, Excerpt, grouped_costs};

const HOUR: i64 = 3_600_000;
/// Midnight before [`NOW`].
const TODAY: i64 = NOW - DAY_MS / 2;
const SECOND_NS: u64 = 1_000_000_000;

/// Rented at 3.60 an hour, 1 W idle and 2 W full at 3.60 a kWh, 0.002 for each token: a second costs 0.001 of rent and a
/// microunit of each watt.
fn sheet() -> PlantSheet {
    let mut sheet = PlantSheet::example(&Currency::of("USD").unwrap());
    sheet.equipment[0].rent_per_hour = Some("3.60".parse().unwrap());
    (sheet.equipment[0].price, sheet.equipment[0].salvage, sheet.equipment[0].life_years) = (None, None, None);
    (sheet.idle_watts, sheet.full_watts) = (Milli(1_000), Milli(2_000));
    sheet.tariff[0].per_kwh = "3.60".parse().unwrap();
    sheet.network.per_month = Nano::ZERO;
    sheet.operations.per_month = Nano::ZERO;
    let amount = Nano(2_000_000_000);
    sheet.fixed = vec![FixedCost { name: "training".into(), amount, over_years: None, over_tokens: Some(1_000) }];
    sheet
}

const ACME: Holder = Holder { line: 0, request: 1 };
const OTHER: Holder = Holder { line: 0, request: 2 };

/// A second from `from_ms` on, busy for `busy` nanoseconds by holder and purpose.
fn second(from_ms: i64, busy: Vec<(Holder, usize, u64)>, finished: Vec<Finished>) -> Interval {
    let busy_ns: u64 = busy.iter().map(|(_, _, ns)| *ns).sum();
    let (idle_uj, active_uj) = (1_000_000, busy_ns / 1_000);
    let energy = Energy {
        total_uj: idle_uj + active_uj,
        idle_uj,
        active_uj,
        interval_ns: SECOND_NS,
        busy_ns,
        source: EnergySource::Estimated,
    };
    let busy = busy.into_iter().map(|(holder, purpose, ns)| (Taker::Request(holder, purpose), ns)).collect();
    let usage = Usage { busy, ended: Vec::new() };
    Interval { from_ms, to_ms: from_ms + 1_000, energy, usage, finished }
}

fn finished(holder: Holder, id: EntryId, organisation: &str, quantities: Quantities) -> Finished {
    let context = Context {
        organisation: organisation.into(),
        project: "web".into(),
        key: "k1".into(),
        model: MODEL.into(),
        tag: "test".into(),
        ..Context::default()
    };
    Finished { holder, id, context, quantities, traffic: Traffic::default() }
}

/// A request that is charged and costs half a second (a tenth of it for a rejected guess) in the first hour, one of another
/// customer that costs a quarter in the second hour and is not done, and a second in which nothing is done.
fn furnished() -> Plant {
    let plant = plant(Bounds::default());
    let mut ticket = plant.admit_for(("tw_one", ""), (6, 8), NOW).unwrap();
    ticket.settle(&used(6, 4), End::Stop, NOW).unwrap().receipt.wait_durable(DURABLE_WAIT).unwrap();
    let sheet = crate::plant::Plant::new(sheet()).unwrap();
    let mut accountant = Accountant::open(&plant.books, (sheet, 1), NOW).unwrap();
    let ended = vec![finished(ACME, ticket.id(), "acme", used(6, 4))];
    let tenth = SECOND_NS / 10;
    let intervals = [
        second(NOW, vec![(ACME, 0, tenth), (ACME, 1, 3 * tenth), (ACME, 2, tenth)], ended),
        second(NOW + HOUR, vec![(OTHER, 0, SECOND_NS / 4)], Vec::new()),
        second(NOW + HOUR + 1_000, Vec::new(), Vec::new()),
    ];
    for interval in intervals {
        for batch in accountant.close(interval) {
            plant.books.ledger().submit(&batch).unwrap();
        }
    }
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    plant
}

#[test]
fn the_statement_adds_up_and_is_what_was_worked_out() {
    let plant = furnished();
    let found = income(plant.books.ledger(), (TODAY, TODAY + DAY_MS)).unwrap();
    // Three seconds of rent at 1,000,000 and of 1 W at 1,000; 0.75 s of 1 W more at 1,000; ten tokens at 2,000,000.
    let (rent, power, fixed) = (3_000_000, 3_750, 20_000_000);
    let cost_of = |source| found.sources.iter().find(|row| row.source == source).unwrap();
    assert_eq!(cost_of(Source::Rent).cost, Nano(rent));
    assert_eq!(cost_of(Source::Power).cost, Nano(power));
    assert_eq!((cost_of(Source::Fixed).cost, cost_of(Source::Fixed).permille), (Nano(fixed), Some(869)));
    assert_eq!(cost_of(Source::Power).usual_permille, Some([600, 800]));
    assert_eq!(found.cost, Nano(rent + power + fixed));
    assert_eq!(found.attributed, Nano(501_000 + fixed));
    assert_eq!(found.in_progress, Nano(250_500));
    assert_eq!(found.idle, Nano(rent + power - 501_000 - 250_500));
    assert_eq!(found.attributed.saturating_add(found.idle).saturating_add(found.in_progress), found.cost);
    assert_eq!((found.rejected, found.recomputed), (Nano(100_200), Nano::ZERO));

    let revenue = 6 * IN + 4 * OUT;
    assert_eq!((found.revenue, found.margin), (Nano(revenue), Nano(revenue).saturating_sub(found.cost)));
    assert_eq!(found.per_million.marginal, Some(Nano(500 * 100_000)));
    assert_eq!(found.per_million.attributed, Some(Nano(found.attributed.0 * 100_000)));
    assert_eq!(found.per_million.full, Some(Nano((found.attributed.0 + found.idle.0) * 100_000)));
    assert_eq!(found.per_million.billed, Some(Nano(revenue * 100_000)));
    assert_eq!((found.energy_uj, found.uj_per_output_token), (3_750_000, Some(937_500)));
    assert_eq!((found.utilisation_permille, found.estimated_permille), (Some(250), Some(1_000)));
    let [model] = found.models.as_slice() else { panic!("{:?}", found.models) };
    assert_eq!((model.model.as_str(), model.quantities.total(), model.costed_tokens), (MODEL, 10, 10));
    assert_eq!((model.machine_ns, model.energy_uj, model.revenue), (SECOND_NS / 2, 1_000_000, Nano(revenue)));
    verify_costs(&plant.store()).unwrap();
}

#[test]
fn a_statement_of_any_period_is_made_from_its_entries() {
    let plant = furnished();
    let (ledger, day) = (plant.books.ledger(), (TODAY, TODAY + DAY_MS));
    let of = |from_ms, to_ms| income(&Excerpt::read(ledger, (from_ms, to_ms)).unwrap().unwrap(), day).unwrap();
    let whole = income(ledger, day).unwrap();
    assert_eq!(of(TODAY, TODAY + DAY_MS), whole);
    // The request that was charged and costed, and the two seconds in the hour after it: together the day.
    let (first, second) = (of(NOW - 1, NOW + HOUR), of(NOW + HOUR, NOW + 2 * HOUR));
    assert_eq!((first.revenue, second.revenue), (whole.revenue, Nano::ZERO));
    assert_eq!((first.length_ns, second.length_ns), (SECOND_NS, 2 * SECOND_NS));
    assert_eq!(first.attributed, whole.attributed);
    assert_eq!(first.cost.saturating_add(second.cost), whole.cost);
    assert_eq!(second.in_progress, Nano(250_500));
    for parts in [&first, &second] {
        assert_eq!(parts.attributed.saturating_add(parts.idle).saturating_add(parts.in_progress), parts.cost);
    }
    assert_eq!(of(NOW + 2 * HOUR, NOW + 3 * HOUR).cost, Nano::ZERO);
}

#[test]
fn a_day_without_anything_has_no_quotients() {
    let plant = furnished();
    let found = income(plant.books.ledger(), (TODAY - DAY_MS, TODAY)).unwrap();
    assert_eq!((found.cost, found.revenue, found.margin), (Nano::ZERO, Nano::ZERO, Nano::ZERO));
    assert_eq!((found.per_million.full, found.per_million.billed, found.uj_per_output_token), (None, None, None));
    assert_eq!((found.utilisation_permille, found.sources[0].permille), (None, None));
    assert!(found.models.is_empty());
}

#[test]
fn costs_and_margins_are_told_apart_as_asked() {
    let plant = furnished();
    let ledger = plant.books.ledger();
    let span = (TODAY, TODAY + DAY_MS);
    let teams = HashMap::from([("web".to_owned(), "growth".to_owned())]);
    let ask = |by, with_sales, now_ms| {
        grouped_costs(ledger, &CostAsk { span_ms: span, by, teams: &teams, with_sales, now_ms }).unwrap().unwrap()
    };
    let all = ask(CostGroups::default(), true, NOW);
    let [row] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((row.from_ms, row.organisation.as_str(), row.cost.requests, row.sold.requests), (TODAY, "", 1, 1));
    assert_eq!((row.cost.costs.attributed(), row.cost.costs.wasted()), (Nano(20_501_000), Nano(100_200)));
    for by in [
        CostGroups { hour: true, organisation: true, ..CostGroups::default() },
        CostGroups { day: true, project: true, key: true, ..CostGroups::default() },
        CostGroups { model: true, tag: true, ..CostGroups::default() },
        CostGroups { team: true, ..CostGroups::default() },
    ] {
        let rows = ask(by, true, NOW);
        let [found] = rows.as_slice() else { panic!("{by:?}: {rows:?}") };
        assert_eq!((found.cost, found.sold), (row.cost, row.sold), "{by:?}");
        assert_eq!(found.from_ms, if by.hour { NOW } else { TODAY });
        let name = |told: bool, name: &'static str| if told { name } else { "" };
        assert_eq!(
            [&found.organisation, &found.team, &found.project, &found.key, &found.model, &found.tag],
            [
                name(by.organisation, "acme"),
                name(by.team, "growth"),
                name(by.project, "web"),
                name(by.key, "k1"),
                name(by.model, MODEL),
                name(by.tag, "test")
            ],
        );
    }
    // Another customer is charged, whose cost is not in the books yet: while the day is open its full cost is unknown.
    for record in [
        Record::Organisation(Organisation { id: "beta".into(), ..organisation(None) }),
        Record::Project(Project { id: "shop".into(), organisation: "beta".into(), ..project() }),
        Record::Key(Key {
            id: "k2".into(),
            project: "shop".into(),
            hash: KeyHash::of(b"plant", "tw_two"),
            ..key(Bounds::default())
        }),
    ] {
        plant.books.change(record, "admin", NOW).unwrap();
    }
    let mut ticket = plant.admit_for(("tw_two", ""), (6, 8), NOW).unwrap();
    ticket.settle(&used(6, 4), End::Stop, NOW).unwrap().receipt.wait_durable(DURABLE_WAIT).unwrap();
    let by = CostGroups { organisation: true, ..CostGroups::default() };
    let full = |now_ms| {
        let rows = ask(by, true, now_ms);
        rows.into_iter().map(|row| (row.organisation, row.cost.requests, row.full)).collect::<Vec<_>>()
    };
    assert_eq!(full(NOW), [("acme".to_owned(), 1, None), ("beta".to_owned(), 0, None)]);
    // Projects without a team have one row together.
    let by_team = ask(CostGroups { team: true, ..CostGroups::default() }, true, NOW);
    let found = by_team.iter().map(|row| (row.team.as_str(), row.sold.requests)).collect::<Vec<_>>();
    assert_eq!(found, [("", 1), ("growth", 1)]);
    let closed = full(TODAY + 2 * DAY_MS);
    let idle = income(ledger, span).unwrap().idle;
    let all = row.cost.costs.attributed().saturating_add(idle);
    assert_eq!(closed, [("acme".to_owned(), 1, Some(all)), ("beta".to_owned(), 0, Some(Nano::ZERO))]);
    let unsold = ask(CostGroups::default(), false, NOW);
    assert_eq!((unsold[0].cost, unsold[0].sold.requests), (row.cost, 0));
}
