//! Invoices: every charge stands on one, and what is final stays.

use proptest::prelude::*;

use super::*;
use crate::books::invoices::FINAL_AFTER_MS;
use crate::invoice::{Invoice, Item, Line, State};
use crate::window::Calendar;

/// 1 December 2026, 00:00 UTC.
const DECEMBER: i64 = NOW + 15 * DAY_MS + DAY_MS / 2;

fn zoned(zone: &str, anchor_day: u8) -> Plan {
    Plan { calendar: Calendar { zone: zone.into(), anchor_day }, ..Plan::plain("basic") }
}

impl Plant {
    fn admit_at(&self, input: u64, now_ms: i64) -> Ticket {
        let identity = &self.books.identify("tw_one", "", now_ms).unwrap();
        let (id, tag, user) = (next_id(), "", "");
        self.books
            .admit(Admission {
                id,
                identity,
                model: MODEL,
                base: None,
                input,
                max_output: 8,
                tag,
                user,
                metadata: Metadata::NONE,
                now_ms,
            })
            .unwrap()
    }

    fn charge_at(&self, input: u64, now_ms: i64) -> EntryId {
        let mut ticket = self.admit_at(input, now_ms);
        ticket.settle(&used(input, 0), End::Stop, now_ms).unwrap().receipt.wait_durable(DURABLE_WAIT).unwrap();
        ticket.id()
    }

    fn invoice(&self, id: &str, now_ms: i64) -> Invoice {
        self.books.invoice("acme", id, now_ms).unwrap().unwrap_or_else(|| panic!("no invoice {id}"))
    }

    /// Label, state and total of all invoices.
    fn listed(&self, now_ms: i64) -> Vec<(String, State, i64)> {
        let invoices = self.books.invoices("acme", now_ms).unwrap();
        for invoice in &invoices {
            assert_eq!(self.invoice(&invoice.window.label, now_ms), *invoice);
        }
        invoices.into_iter().map(|invoice| (invoice.window.label, invoice.state, invoice.total.0)).collect()
    }
}

fn exact(invoice: &Invoice) -> i64 {
    let lines = invoice.lines.iter().filter(|line| line.item != Item::Rounding);
    lines.map(|line| line.amount.0).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn all_charges_and_credit_notes_stand_on_the_invoice(
        requests in prop::collection::vec((0..40_u64, 0..40_u64, 0..16_u64, any::<bool>()), 1..8),
        pool in 0..200_u64,
        discount_permille in 0..200_u16,
        pico in 1..9_999_999_i64,
    ) {
        let rate = |pico| Rate::from_pico(pico).unwrap();
        let tier = |volume_from, pico| Tier {
            volume_from, cached_input: Some(rate(pico / 3)), reasoning: Some(rate(pico * 2)), ..Tier::flat(rate(pico), rate(pico + 7))
        };
        let pool = (pool > 50).then(|| Pool { tokens: pool, weights: Weights::default(), then: PoolEnd::Overage });
        let plan = Plan { pool, discount_permille, ..Plan::plain("basic") };
        let plant = plant_with(vec![tier(0, pico), tier(60, pico / 2)], plan, Bounds::default());
        let (mut charged, mut used, mut credited) = (0, Quantities::default(), 0);
        for (uncached, cached, output, refund) in requests {
            let mut ticket = plant.admit(uncached + cached, 16).unwrap();
            let quantities =
                Quantities { in_uncached: uncached, in_cached: cached, out_visible: output / 2, out_reasoning: output - output / 2 };
            let settled = ticket.settle(&quantities, End::Stop, NOW).unwrap();
            settled.receipt.wait_durable(DURABLE_WAIT).unwrap();
            let total = settled.charge.total();
            charged += total.0;
            for meter in crate::Meter::ALL {
                *used.get_mut(meter) += quantities.get(meter);
            }
            if refund && total > Nano::ZERO {
                plant.books.credit(ticket.id(), total, ("r", "late", "ops"), NOW).unwrap();
                credited += total.0;
            }
        }
        let invoice = plant.invoice("current", NOW);
        prop_assert_eq!(exact(&invoice), charged - credited);
        prop_assert_eq!(invoice.lines.iter().map(|line| line.amount.0).sum::<i64>(), invoice.total.0);
        prop_assert_eq!(plant.balance("org/acme/money").posted, credited - charged);
        let mut tokens = Quantities::default();
        for Line { item, .. } in &invoice.lines {
            if let Item::Usage { meter, tokens: count, .. } | Item::Included { meter, tokens: count, .. } = item {
                *tokens.get_mut(*meter) += count;
            }
        }
        prop_assert_eq!(tokens, used);
        plant.check();
    }
}

#[test]
fn a_final_invoice_never_changes() {
    let plant = plant(Bounds::default());
    let request = plant.charge_at(1_000, NOW);
    let mut late = plant.admit_at(100, DECEMBER - 1);
    let open = vec![("2026-11-01".to_owned(), State::Open, 1_000 * IN)];
    assert_eq!((plant.listed(NOW), plant.listed(DECEMBER)), (open.clone(), open), "a request of November still runs");
    let settled = late.settle(&used(100, 0), End::Stop, DECEMBER + 5).unwrap();
    settled.receipt.wait_durable(DURABLE_WAIT).unwrap();
    // Whoever read the time before the window's end may still be writing.
    let over = DECEMBER + FINAL_AFTER_MS;
    assert_eq!(plant.invoice("2026-11-01", over - 1).state, State::Open);
    let november = plant.invoice("2026-11-01", over);
    assert_eq!(
        (november.state, november.total, november.number().as_str()),
        (State::Final, Nano(1_100 * IN).rounded(plant.books.currency()), "acme-2026-11-01")
    );
    assert_eq!(november.lines.len(), 2, "one charge and its rounding: {:?}", november.lines);

    // A credit note, a new name, a new price, a new calendar: all of it is December's.
    let credit = |now_ms| plant.books.credit(request, Nano(300 * IN), ("c1", "太慢", "ops"), now_ms).unwrap();
    credit(DECEMBER + DAY_MS);
    plant
        .books
        .change(
            Record::Organisation(Organisation { name: "Acme Ltd".into(), ..organisation(None) }),
            "ops",
            DECEMBER + DAY_MS,
        )
        .unwrap();
    let price =
        PriceSpec { from: DECEMBER, ..PriceSpec::flat("standard", MODEL, "1 per 1K".parse().unwrap(), Rate::ZERO) };
    plant.books.change(Record::Price(price), "ops", DECEMBER + DAY_MS).unwrap();
    plant.books.change(Record::Plan(zoned("Asia/Shanghai", 1)), "ops", DECEMBER + 2 * DAY_MS).unwrap();
    plant.charge_at(1, DECEMBER + 3 * DAY_MS);
    let january = DECEMBER + 31 * DAY_MS;
    credit(january + DAY_MS);
    assert_eq!(plant.invoice("2026-11-01", january), november);
    let december = plant.invoice("2026-12-01", january);
    assert_eq!(
        (december.state, december.name.as_str(), december.window.zone.as_str()),
        (State::Final, "Acme Ltd", "Asia/Shanghai")
    );
    assert_eq!(exact(&december), 1_000_000 - 300 * IN);
    let note = december.lines.iter().find(|line| matches!(line.item, Item::Credit { .. })).unwrap();
    let item = Item::Credit { at_ms: DECEMBER + DAY_MS, request, reason: "太慢".into() };
    assert_eq!(*note, Line { item, amount: Nano(-300 * IN) });
    assert_eq!((november.name.as_str(), november.window.zone.as_str()), ("Acme", "UTC"));
    assert_eq!(
        plant.listed(january).iter().map(|(id, ..)| id.as_str()).collect::<Vec<_>>(),
        ["2026-12-01", "2026-11-01"]
    );
    plant.check();
}

#[test]
fn a_calendar_is_not_changed_back_into_a_window_that_is_over() {
    let plant = plant(Bounds::default());
    plant.charge_at(10, NOW);
    let change = |zone: &str, anchor, now_ms| plant.books.change(Record::Plan(zoned(zone, anchor)), "ops", now_ms);
    // In New York it is still November.
    let refused = change("America/New_York", 1, DECEMBER + 3_600_000).unwrap_err().to_string();
    assert!(
        refused.contains("`acme` would be in the window 2026-11-01 again")
            && refused.contains("2026-12-01T00:00:00-05:00"),
        "{refused}"
    );
    plant
        .books
        .change(Record::Plan(Plan { id: "other".into(), ..zoned("America/New_York", 1) }), "ops", DECEMBER)
        .unwrap();
    let moved = Organisation { plan: "other".into(), ..organisation(None) };
    let refused = plant.books.change(Record::Organisation(moved.clone()), "ops", DECEMBER + 3_600_000).unwrap_err();
    assert!(refused.to_string().contains("is over"), "{refused}");
    plant.books.change(Record::Organisation(moved), "ops", DECEMBER + 6 * 3_600_000).unwrap();
    change("UTC", 15, DECEMBER).unwrap();
}

#[test]
fn windows_of_two_calendars_that_begin_on_one_day_are_one_invoice() {
    let plant = plant(Bounds::default());
    plant.charge_at(10, NOW);
    plant.books.change(Record::Plan(zoned("Asia/Shanghai", 1)), "ops", NOW + DAY_MS).unwrap();
    plant.charge_at(20, NOW + 2 * DAY_MS);
    let invoices = plant.books.invoices("acme", NOW + 2 * DAY_MS).unwrap();
    assert_eq!((invoices.len(), exact(&invoices[0])), (1, 30 * IN));
    assert_eq!(invoices[0].window.local(invoices[0].window.start_ms), "2026-11-01T00:00:00+08:00");
}

#[test]
fn the_present_window_has_an_invoice_before_its_first_charge() {
    let plant = plant(Bounds::default());
    assert_eq!(plant.listed(NOW), []);
    let empty = plant.invoice("current", NOW);
    assert_eq!(
        (empty.lines.len(), empty.total, empty.state, empty.name.as_str()),
        (0, Nano::ZERO, State::Open, "Acme")
    );
    assert_eq!(plant.books.invoice("acme", "2026-10-01", NOW).unwrap(), None);
    assert!(plant.books.invoice("nobody", "current", NOW).unwrap_err().to_string().contains("no `nobody`"));
    assert!(plant.books.invoices("nobody", NOW).is_err());
}
