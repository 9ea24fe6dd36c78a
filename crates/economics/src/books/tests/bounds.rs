//! Money, pools and volume at their borders, alone and under many threads.

use super::*;

const BUDGET: &str = "budget/key/k1/month/2026-11-01";

/// Streams until the money ends or `want` tokens are made; uses every token of its allowance.
fn stream(plant: &Plant, input: u64, want: u64) -> Option<(u64, End)> {
    let mut ticket = loop {
        match plant.admit(input, want) {
            Ok(ticket) => break ticket,
            Err(AdmitError::Held) => std::thread::yield_now(),
            Err(AdmitError::Spent { .. }) => return None,
            Err(error) => panic!("{error}"),
        }
    };
    let mut patience = 50;
    let end = loop {
        if ticket.allowance() == want {
            break End::Length;
        }
        match ticket.extend(NOW) {
            Extension::Granted(_) => {}
            Extension::Held if patience > 0 => {
                patience -= 1;
                std::thread::yield_now();
            }
            Extension::Held | Extension::Spent => break End::Budget,
            other @ (Extension::Ended | Extension::Unavailable(_)) => panic!("{other:?}"),
        }
    };
    let made = ticket.allowance();
    ticket.settle(&used(input, made), end, NOW).unwrap();
    Some((made, end))
}

#[test]
fn an_absurd_amount_is_refused_before_it_leaves_the_range() {
    let plant = plant_with(vec![Tier::flat(Rate::MAX, Rate::MAX)], Plan::plain("basic"), Bounds::default());
    let refused = plant.admit(Quantities::MAX_TOKENS - 1, 1).map(drop).unwrap_err();
    assert!(refused.to_string().contains("range of 64 bits"), "{refused}");
    plant.check();
}

#[test]
fn a_budget_stops_at_the_very_token() {
    let plant = plant(budget(10 * IN + 40 * OUT + OUT - 1));
    assert_eq!(stream(&plant, 10, 1_000), Some((40, End::Budget)));
    assert_eq!(plant.balance(BUDGET).posted, -(10 * IN + 40 * OUT));
    assert_eq!(spent(plant.admit(1, 1)), BUDGET);
    // Money that is left still serves what it pays for.
    assert_eq!(plant.admit(2, 0).map(|ticket| ticket.allowance()).unwrap(), 0);
    plant.check();
}

#[test]
fn two_hundred_threads_use_one_budget_up_to_the_last_token_and_never_more() {
    for spare in [0, OUT - 1] {
        let amount = 150 * (7 * IN + 100 * OUT) + spare;
        let plant = plant(budget(amount));
        let made = AtomicU64::new(0);
        let watching = AtomicU64::new(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while watching.load(Ordering::Acquire) == 1 {
                    if let Ok(Some(account)) = plant.books.ledger().account(BUDGET) {
                        let balance = plant.books.ledger().balance(account).unwrap().unwrap();
                        assert!(balance.posted - balance.held >= -amount, "{balance:?}");
                    }
                    std::thread::yield_now();
                }
            });
            let streams: Vec<_> = (0..200)
                .map(|n| {
                    let (plant, made) = (&plant, &made);
                    scope.spawn(move || {
                        let streamed = stream(plant, 7, 60 + n);
                        made.fetch_add(streamed.map_or(0, |(tokens, _)| tokens), Ordering::Relaxed);
                    })
                })
                .collect();
            streams.into_iter().for_each(|stream| stream.join().unwrap());
            watching.store(0, Ordering::Release);
        });
        // Whoever comes last takes what is left, down to the last token.
        while stream(&plant, 0, 1_000).is_some() {}
        let spent = -plant.balance(BUDGET).posted;
        assert!(spent <= amount && amount - spent < OUT, "{spent} of {amount}");
        assert!(made.into_inner() > 0);
        plant.check();
    }
}

#[test]
fn no_false_refusal_when_settlement_gives_the_money_back() {
    // Ten requests that say they may need everything, but use little, one after the other and at one time.
    let plant = plant(budget(10 * (5 * IN + 20 * OUT)));
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut ticket = loop {
                    match plant.admit(5, 100_000) {
                        Ok(ticket) => break ticket,
                        Err(AdmitError::Held) => std::thread::yield_now(),
                        Err(error) => panic!("refused although the money is there: {error}"),
                    }
                };
                ticket.settle(&used(5, 2), End::Stop, NOW).unwrap();
            });
        }
    });
    assert_eq!(plant.balance(BUDGET).posted, -10 * (5 * IN + 2 * OUT));
    plant.check();
}

fn pool(tokens: u64, then: PoolEnd) -> Plan {
    let weights = Weights { output: 3_000, ..Weights::default() };
    Plan { pool: Some(Pool { tokens, weights, then }), ..Plan::plain("basic") }
}

#[test]
fn a_pool_pays_first_and_its_border_splits_the_request() {
    // 100 pool tokens: 40 prompt tokens and 20 answer tokens of weight 3; the budget pays for 5 more.
    let plant = plant_with(vec![example_tier()], pool(100, PoolEnd::Overage), budget(5 * OUT));
    assert_eq!(stream(&plant, 40, 500), Some((25, End::Budget)));
    assert_eq!(plant.balance(BUDGET).posted, -5 * OUT);
    assert_eq!(plant.books.standing("acme", NOW).unwrap().pool_units_left, Some(0));
    // December's window has a pool of its own.
    let december = NOW + 20 * DAY_MS;
    assert_eq!(plant.books.standing("acme", december).unwrap().pool_units_left, Some(100_000));
    let hard = plant_with(vec![example_tier()], pool(100, PoolEnd::Stop), Bounds::default());
    assert_eq!(stream(&hard, 40, 500), Some((20, End::Budget)));
    assert_eq!(spent(hard.admit(1, 1)), "org/acme/pool/2026-11-01");
    assert_eq!(hard.balance("org/acme/money").posted, 0);
    plant.check();
    hard.check();
}

#[test]
fn threads_share_a_pool_and_lose_no_unit() {
    let plant = plant_with(vec![example_tier()], pool(9_001, PoolEnd::Overage), budget(1_000 * OUT));
    std::thread::scope(|scope| {
        for n in 0..60 {
            let plant = &plant;
            scope.spawn(move || stream(plant, 3, 40 + n));
        }
    });
    while stream(&plant, 0, 500).is_some() {}
    let (pool, money) = (plant.balance("org/acme/pool/2026-11-01"), plant.balance(BUDGET));
    // Less than an answer token's weight is left in the pool, less than an answer token's price in the budget.
    assert!(pool.posted + 9_001_000 < 3_000 && pool.posted + 9_001_000 >= 0, "{pool:?}");
    assert!(money.posted + 1_000 * OUT < OUT && money.posted + 1_000 * OUT >= 0, "{money:?}");
    plant.check();
}

#[test]
fn volume_is_graduated_in_the_ledger_s_order_under_threads() {
    // Every sixty tokens the price changes between 5 and 9 nano.
    let rate = |nano: i64| Rate::from_pico(nano * 1_000).unwrap();
    let tier = |n: u64| {
        let nano = if n.is_multiple_of(2) { 5 } else { 9 };
        Tier { volume_from: n * 60, ..Tier::flat(rate(nano), rate(nano)) }
    };
    let plant = plant_with((0..60).map(tier).collect(), Plan::plain("basic"), Bounds::default());
    std::thread::scope(|scope| {
        for n in 0..8 {
            let plant = &plant;
            scope.spawn(move || {
                for _ in 0..100 {
                    stream(plant, n, 1).unwrap();
                }
            });
        }
    });
    // Whoever was first: the sum is that of all 3,600 tokens in one row.
    assert_eq!(plant.balance("org/acme/volume/standard/gpt-4-turbo/2026-11-01").posted, 3_600);
    assert_eq!(plant.balance("plant/revenue").posted, 30 * 60 * (5 + 9));
    plant.check();
}

#[test]
fn a_soft_budget_only_raises_alerts_each_once() {
    let mut bounds = budget(10 * OUT);
    if let Some(budget) = &mut bounds.budget {
        budget.soft = true;
    }
    let plant = plant(bounds);
    let mut percents = Vec::new();
    for _ in 0..6 {
        let mut ticket = plant.admit(0, 4).unwrap();
        let settled = ticket.settle(&used(0, 4), End::Length, NOW).unwrap();
        percents.push(settled.alerts.iter().map(|alert| alert.percent).collect::<Vec<_>>());
    }
    assert_eq!(percents, [vec![], vec![50], vec![100], vec![], vec![], vec![]]);
    assert_eq!(plant.balance(BUDGET).posted, -24 * OUT);
}

#[test]
fn threads_raise_each_alert_once() {
    let plant = plant(Bounds::default());
    let thresholds = [12, 25, 37, 50, 62, 75, 87, 100];
    for round in 0..40 {
        // Each of eight settlements at one time passes one threshold.
        let mut bounds = budget(8 * OUT);
        if let Some(budget) = &mut bounds.budget {
            budget.alert_percent = thresholds.to_vec();
        }
        let (text, id) = (format!("tw_{round}"), format!("k-{round}"));
        let fresh = Key { id, hash: KeyHash::of(b"plant", &text), ..key(bounds) };
        plant.books.change(Record::Key(fresh), "admin", NOW).unwrap();
        let start = std::sync::Barrier::new(8);
        let settle_one = || {
            let mut ticket = plant.admit_with(&text, 0, 1).unwrap();
            start.wait();
            ticket.settle(&used(0, 1), End::Length, NOW).unwrap().alerts
        };
        let mut alerts: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(settle_one)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).map(|alert| alert.percent).collect()
        });
        alerts.sort_unstable();
        assert_eq!(alerts, thresholds);
    }
    plant.books.ledger().flush(DURABLE_WAIT).unwrap();
    assert_eq!(plant.books.alerts(usize::MAX).unwrap().len(), 40 * thresholds.len());
    plant.check();
}

#[test]
fn a_changed_budget_holds_at_once() {
    let plant = plant(budget(10 * OUT));
    assert_eq!(stream(&plant, 0, 8), Some((8, End::Length)));
    plant.books.change(Record::Key(key(budget(3 * OUT))), "admin", NOW).unwrap();
    assert_eq!(spent(plant.admit(0, 1)), BUDGET);
    plant.books.change(Record::Key(key(budget(9 * OUT))), "admin", NOW).unwrap();
    assert_eq!(stream(&plant, 0, 8), Some((1, End::Budget)));
    plant.check();
}

#[test]
fn a_new_version_of_the_price_leaves_running_requests_alone() {
    let plant = plant(Bounds::default());
    let mut running = plant.admit(10, 10).unwrap();
    let free = PriceSpec { from: NOW, ..PriceSpec::flat("standard", MODEL, Rate::ZERO, Rate::ZERO) };
    plant.books.change(Record::Price(free), "admin", NOW).unwrap();
    assert_eq!(running.settle(&used(10, 10), End::Length, NOW).unwrap().charge.total(), Nano(10 * IN + 10 * OUT));
    let mut next = plant.admit(10, 10).unwrap();
    assert_eq!(next.settle(&used(10, 10), End::Length, NOW).unwrap().charge.total(), Nano::ZERO);
}

#[test]
fn the_steps_of_a_stream_do_not_change_its_charge() {
    let rate = |pico| Rate::from_pico(pico).unwrap();
    let tiers = [Tier::flat(rate(777), rate(3_333)), Tier { volume_from: 90, ..Tier::flat(rate(1_499), rate(2_501)) }];
    let charge = |piece: u64| {
        let plant = plant_with(tiers.to_vec(), pool(50, PoolEnd::Overage), Bounds::default());
        let mut ticket = plant.admit(33, 200).unwrap();
        let mut made = 0;
        while made < 121 {
            if made == ticket.allowance() {
                assert!(matches!(ticket.extend(NOW), Extension::Granted(_)));
            }
            made = (made + piece).min(ticket.allowance()).min(121);
            let _bytes = ticket.progress(&used(33, made));
        }
        let charge = ticket.settle(&used(33, made), End::Stop, NOW).unwrap().charge;
        plant.check();
        charge
    };
    let streamed = charge(1);
    assert!(streamed.lines.len() > 1 && streamed.pool_units > 0);
    assert_eq!(streamed, charge(7));
    assert_eq!(streamed, charge(1_000));
}
