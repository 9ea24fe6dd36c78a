//! The FOCUS export against the ledger's own accounts and statements: nothing is lost, doubled or rounded away.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::focus::{ExportError, Selection, export};
use crate::rollup;
use crate::window::Calendar;

const SELLER: Selection<'_> = Selection { seller: "=Tokens, \"Ltd\"", organisation: None, from_ms: None, to_ms: None };
/// Columns that the specification (1.2) makes mandatory.
const MANDATORY: [&str; 27] = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceId",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ServiceCategory",
    "ServiceName",
    // Conditional ones that apply here.
    "ListUnitPrice",
    "ContractedUnitPrice",
    "SkuId",
    "SkuPriceId",
    "SubAccountId",
];

type Fields = BTreeMap<String, String>;

/// Rows as a reader of CSV sees them.
fn read(text: &str) -> Vec<Fields> {
    let mut records = vec![vec![String::new()]];
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(char) = chars.next() {
        let record = records.last_mut().unwrap();
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => record.last_mut().unwrap().push(chars.next().unwrap()),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(String::new()),
            '\n' if !quoted => records.push(vec![String::new()]),
            other => record.last_mut().unwrap().push(other),
        }
    }
    assert_eq!(records.pop(), Some(vec![String::new()]), "the file ends with a line");
    let names = records.remove(0);
    let row = |record: Vec<String>| {
        assert_eq!(record.len(), names.len(), "{record:?}");
        names.iter().cloned().zip(record).collect()
    };
    records.into_iter().map(row).collect()
}

/// Decimal text in units of 10^-18, exactly.
fn atto(text: &str) -> i128 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    assert!(fraction.len() <= 18, "{text}");
    format!("{whole}{fraction:0<18}").parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

const NANO: i128 = 1_000_000_000;

impl Plant {
    fn focus(&self, selection: &Selection<'_>) -> Result<Vec<Fields>, ExportError> {
        self.books.ledger().flush(DURABLE_WAIT).unwrap();
        let (mut out, store) = (Vec::new(), settings(&self.folder.path().join("books.db")).store);
        let rows = export(&store, selection, &mut out)?;
        let read = read(&String::from_utf8(out).unwrap());
        assert_eq!(read.len() as u64, rows);
        Ok(read)
    }

    fn charge(&self, quantities: &Quantities, now_ms: i64) -> EntryId {
        let (input, max_output) = (quantities.input(), quantities.output());
        let identity = &self.books.identify("tw_one", "", now_ms).unwrap();
        let id = next_id();
        let (model, tag, user) = (MODEL, "night \"run\"", "u,1");
        let mut ticket = self
            .books
            .admit(Admission {
                id,
                identity,
                model,
                base: None,
                input,
                max_output,
                tag,
                user,
                metadata: Metadata::NONE,
                now_ms,
            })
            .unwrap();
        while let Extension::Granted(_) = ticket.extend(now_ms) {}
        ticket.settle(quantities, End::Stop, now_ms).unwrap();
        id
    }

    /// What a window of the customer comes to, by its statement.
    fn total(&self, window_ms: i64) -> i128 {
        let statement = rollup::statement(self.books.ledger(), "acme", window_ms).unwrap();
        i128::from(statement.sums.total().0) * NANO
    }
}

/// What the specification says of every row.
fn check_row(row: &Fields) {
    let get = |name: &str| row[name].as_str();
    let product = |price: &str| atto(get(price)).checked_mul(atto(get("PricingQuantity")) / 10_i128.pow(12)).unwrap();
    for name in MANDATORY {
        assert!(row.contains_key(name), "{name}");
    }
    for time in ["BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"] {
        assert!(get(time).len() == 20 && get(time).ends_with('Z'), "{}", get(time));
    }
    assert!(get("BillingPeriodStart") < get("BillingPeriodEnd"));
    assert!(get("ChargePeriodStart") < get("ChargePeriodEnd"));
    assert_eq!((get("BillingAccountId"), get("SubAccountId"), get("BillingCurrency")), ("acme", "web", "USD"));
    assert_eq!(get("EffectiveCost"), get("BilledCost"));
    assert_eq!(get("ProviderName"), "'=Tokens, \"Ltd\"");
    if get("ChargeCategory") == "Usage" {
        assert_eq!(product("ListUnitPrice"), atto(get("ListCost")) * 1_000_000);
        assert_eq!(product("ContractedUnitPrice"), atto(get("ContractedCost")) * 1_000_000);
        let tags: serde_json::Value = serde_json::from_str(get("Tags")).unwrap();
        assert_eq!(tags, serde_json::json!({"tag": "night \"run\""}));
        assert_eq!(get("PricingUnit"), "1000000 Tokens");
        assert_eq!(get("ChargeClass"), "");
    } else {
        assert_eq!(get("ChargeCategory"), "Credit");
        assert_eq!((get("ListCost"), get("ContractedCost")), (get("BilledCost"), get("BilledCost")));
        assert_eq!((get("ListUnitPrice"), get("PricingQuantity"), get("PricingUnit")), ("", "", ""));
        assert!(get("BilledCost").starts_with('-'));
    }
}

fn sum<'a>(rows: impl IntoIterator<Item = &'a Fields>, column: &str) -> i128 {
    rows.into_iter().map(|row| atto(&row[column])).sum()
}

fn plan() -> impl Strategy<Value = Plan> {
    let pool = (0..900_u64, prop::bool::ANY).prop_map(|(tokens, stop)| Pool {
        tokens,
        weights: Weights { cached_input: 500, output: 2_000, ..Weights::default() },
        then: if stop { PoolEnd::Stop } else { PoolEnd::Overage },
    });
    let zone = prop::sample::select(vec!["UTC", "Asia/Shanghai", "America/St_Johns"]);
    (prop::option::of(pool), 0..=1_000_u16, zone, 1..=31_u8).prop_map(|(pool, discount_permille, zone, anchor_day)| {
        let calendar = Calendar { zone: zone.to_owned(), anchor_day };
        Plan { pool, discount_permille, calendar, ..Plan::plain("basic") }
    })
}

/// Of every size, those below a nano-unit a token too.
fn tiers() -> impl Strategy<Value = Vec<Tier>> {
    let rate = || prop_oneof![0..2_000_i64, 0..50_000_000_i64].prop_map(|pico| Rate::from_pico(pico).unwrap());
    let tier = (rate(), rate(), prop::option::of(rate()));
    (tier.clone(), tier).prop_map(|((input, output, cached_input), (input_2, output_2, reasoning))| {
        let first = Tier { cached_input, ..Tier::flat(input, output) };
        vec![first, Tier { volume_from: 300, reasoning, ..Tier::flat(input_2, output_2) }]
    })
}

fn quantities() -> impl Strategy<Value = Quantities> {
    let count = || prop_oneof![Just(0_u64), 0..60_u64];
    (count(), count(), count(), count()).prop_map(|(in_uncached, in_cached, out_visible, out_reasoning)| Quantities {
        in_uncached,
        in_cached,
        out_visible,
        out_reasoning,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_sum_to_what_was_posted(
        plan in plan(), tiers in tiers(),
        charges in prop::collection::vec((quantities(), 0..60_i64, 0..4_u8), 1..12),
    ) {
        let stops = plan.pool.is_some_and(|pool| pool.then == PoolEnd::Stop);
        let calendar = plan.calendar.clone();
        let plant = plant_with(tiers, plan, Bounds::default());
        let mut used = Quantities::default();
        for (number, (quantities, day, credit)) in charges.iter().enumerate() {
            // A plan that stops refuses what its pool does not cover.
            let units = quantities.input() + 2 * quantities.output();
            let left = plant.books.standing("acme", NOW + day * DAY_MS).unwrap().pool_units_left;
            if quantities.total() == 0 || (stops && left.unwrap_or(0) < i64::try_from(units * 1_000).unwrap()) {
                continue;
            }
            let now_ms = NOW + day * DAY_MS + 999;
            let id = plant.charge(quantities, now_ms);
            for meter in crate::Meter::ALL {
                *used.get_mut(meter) += quantities.get(meter);
            }
            let charged = plant.books.ledger().entry_by_id(id).unwrap().unwrap();
            let charged = detail::Settlement::read(&charged).unwrap();
            let give = Nano((charged.list().0 - charged.discount.0) / 2);
            if *credit == 0 && give > Nano::ZERO {
                let words = (number.to_string(), "slow, \"sorry\"\nreally");
                plant.books.credit(id, give, (&words.0, words.1, "admin"), now_ms + 40 * DAY_MS).unwrap();
            }
        }
        let rows = plant.focus(&SELLER).unwrap();
        rows.iter().for_each(check_row);
        // The plant's accounts: revenue less discounts and refunds.
        let posted = |name| i128::from(plant.balance(name).posted) * NANO;
        let earned = posted("plant/revenue") + posted("plant/discount") + posted("plant/refund");
        prop_assert_eq!(sum(&rows, "BilledCost"), earned);
        let is_credit = |row: &&Fields| row["ChargeCategory"] == "Credit";
        prop_assert_eq!(sum(rows.iter().filter(is_credit), "BilledCost"), posted("plant/refund"));
        // Exact products differ from posted lines by half a nano-unit each at most.
        let usage: Vec<&Fields> = rows.iter().filter(|row| !is_credit(row)).collect();
        let list = sum(usage.iter().copied(), "ListCost");
        prop_assert!((list - posted("plant/revenue")).abs() <= usage.len() as i128 * NANO / 2);
        prop_assert_eq!(sum(usage.iter().copied(), "PricingQuantity"), i128::from(used.total()) * 10_i128.pow(12));
        for row in usage {
            prop_assert!((0..=atto(&row["ListCost"]) + NANO).contains(&atto(&row["BilledCost"])), "{row:?}");
        }
        // Each window is its statement.
        let mut windows: BTreeMap<&str, Vec<&Fields>> = BTreeMap::new();
        rows.iter().for_each(|row| windows.entry(&row["BillingPeriodStart"]).or_default().push(row));
        for (start, rows) in windows {
            let start_ms = start.parse::<jiff::Timestamp>().unwrap().as_millisecond();
            prop_assert_eq!(sum(rows.iter().copied(), "BilledCost"), plant.total(start_ms));
            let end = calendar.window(Period::Month, start_ms).unwrap().end_ms;
            prop_assert!(rows.iter().all(|row| row["BillingPeriodEnd"] == crate::window::to_rfc3339(end)));
            let number = format!("acme-{}", calendar.window(Period::Month, start_ms).unwrap().label);
            prop_assert!(rows.iter().all(|row| row["InvoiceId"] == number));
        }
        plant.check();
    }
}

#[test]
fn a_row_says_all_of_a_charge() {
    let pool = Pool { tokens: 4, weights: Weights::default(), then: PoolEnd::Overage };
    let plan = Plan { pool: Some(pool), discount_permille: 100, ..Plan::plain("basic") };
    let plant = plant_with(vec![example_tier()], plan, Bounds::default());
    let id = plant.charge(&used(10, 2), NOW + 1_234);
    plant.books.credit(id, Nano(7), ("c1", "late", "ops"), NOW + 20 * DAY_MS).unwrap();
    let rows = plant.focus(&SELLER).unwrap();
    let column = |name: &str| rows.iter().map(|row| row[name].as_str()).collect::<Vec<_>>();
    assert_eq!(column("BilledCost"), ["0.000054", "0.000054", "0.00", "-0.000000007"]);
    assert_eq!(column("ListCost"), ["0.00006", "0.00006", "0.00", "-0.000000007"]);
    assert_eq!(column("ContractedCost"), ["0.000054", "0.000054", "0.00", "-0.000000007"]);
    assert_eq!(column("ListUnitPrice"), ["10", "30", "0", ""]);
    assert_eq!(column("ContractedUnitPrice"), ["9", "27", "0", ""]);
    assert_eq!(column("PricingQuantity"), ["0.000006", "0.000002", "0.000004", ""]);
    assert_eq!(column("ConsumedQuantity"), ["6", "2", "4", ""]);
    assert_eq!(column("ChargePeriodStart")[..2], ["2026-11-15T12:00:01Z"; 2]);
    // The credit came after the end of the window in which the request was charged, and stands on the next invoice.
    assert_eq!(column("BillingPeriodEnd")[..3], ["2026-12-01T00:00:00Z"; 3]);
    assert_eq!(column("BillingPeriodEnd")[3], "2027-01-01T00:00:00Z");
    assert_eq!(column("ChargeClass"), ["", "", "", "Correction"]);
    assert_eq!(column("ChargeFrequency"), ["Usage-Based", "Usage-Based", "Usage-Based", "One-Time"]);
    assert_eq!(column("SkuId")[..2], ["gpt-4-turbo/in_uncached", "gpt-4-turbo/out_visible"]);
    assert_eq!(column("SkuPriceId")[2], "standard/gpt-4-turbo/v1/in_uncached/included");
    assert_eq!(
        column("ChargeDescription"),
        [
            "gpt-4-turbo: Prompt tokens, 10 per 1M less 10%".to_owned(),
            "gpt-4-turbo: Answer tokens, 30 per 1M less 10%".to_owned(),
            "gpt-4-turbo: Prompt tokens, included in the plan's pool".to_owned(),
            format!("Credit for request {id}: late"),
        ]
    );
    assert_eq!(column("x_RequestId"), vec![id.to_string(); 4]);
    assert_eq!(
        (column("ResourceId")[0], column("ResourceName")[0], column("ResourceType")[0]),
        ("k1", "web", "API Key")
    );
}

#[test]
fn names_are_those_of_the_time_of_the_charge_and_the_selection_selects() {
    let plant = plant(Bounds::default());
    plant.charge(&used(1, 0), NOW);
    let renamed = Organisation { name: "Acme 上海".into(), ..organisation(None) };
    plant.books.change(Record::Organisation(renamed), "admin", NOW).unwrap();
    plant.charge(&used(1, 0), NOW + 5_000);
    let names = |selection: &Selection<'_>| {
        let rows = plant.focus(selection).unwrap();
        rows.iter().map(|row| row["BillingAccountName"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&SELLER), ["Acme", "Acme 上海"]);
    assert_eq!(names(&Selection { from_ms: Some(NOW + 1), ..SELLER }), ["Acme 上海"]);
    assert_eq!(names(&Selection { to_ms: Some(NOW + 5_000), organisation: Some("acme"), ..SELLER }), ["Acme"]);
    for (bad, part) in [
        (Selection { organisation: Some("acme2"), ..SELLER }, "organisation: there is no `acme2`"),
        (Selection { from_ms: Some(5), to_ms: Some(5), ..SELLER }, "to: it is not after the begin"),
        (Selection { seller: " ", ..SELLER }, "seller: there is none"),
    ] {
        let error = plant.focus(&bad).unwrap_err().to_string();
        assert!(error.starts_with(part), "{error}");
    }
}
