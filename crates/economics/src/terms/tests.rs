//! Tests of `terms`.

use proptest::prelude::*;

use super::*;
use crate::PriceBook;
use crate::price::{PriceSpec, STANDARD_LIST, Tier};

fn price(tiers: Vec<Tier>) -> FrozenPrice {
    let mut book = PriceBook::default();
    let flat = PriceSpec::flat(STANDARD_LIST, "m", Rate::ZERO, Rate::ZERO);
    book.add(PriceSpec { tiers, ..flat }).unwrap();
    book.freeze(STANDARD_LIST, "m", 0).unwrap()
}

fn rate(pico: i64) -> Rate {
    Rate::from_pico(pico).unwrap()
}

fn gpt4() -> Terms {
    let tier = Tier::flat("0.01 per 1K".parse().unwrap(), "0.03 per 1K".parse().unwrap());
    Terms { price: price(vec![tier]), pool: None, discount_permille: 0 }
}

#[test]
fn the_source_s_price_gives_the_source_s_charge() {
    let quantities = Quantities { in_uncached: 1_000, out_visible: 500, ..Quantities::default() };
    let charge = gpt4().charge(&quantities, 0, 0);
    assert_eq!(charge.total().to_string(), "0.025");
    assert_eq!(charge.lines.len(), 2);
    let discounted = Terms { discount_permille: 125, ..gpt4() }.charge(&quantities, 0, 0);
    assert_eq!((discounted.list.to_string(), discounted.total().to_string()), ("0.025".into(), "0.021875".into()));
}

#[test]
fn the_last_affordable_token_is_exact() {
    // Output costs 30,000 nano a token, the prompt of 10 tokens 100,000.
    let terms = gpt4();
    for (money, expected) in
        [(99_999, None), (100_000, Some(0)), (129_999, Some(0)), (130_000, Some(1)), (400_000, Some(10))]
    {
        assert_eq!(terms.affordable_output(10, 50, 0, 0, Nano(money)), expected, "{money} nano");
    }
    assert_eq!(terms.affordable_output(10, 50, 0, 0, Nano::MAX), Some(50));
    // A pool of 12 tokens pays the prompt and two tokens; money pays for one more.
    let pooled = Terms { pool: Some((Weights::default(), PoolEnd::Overage)), ..gpt4() };
    assert_eq!(pooled.affordable_output(10, 50, 0, 12_999, Nano(30_000)), Some(3));
    assert_eq!(pooled.affordable_output(10, 50, 0, 12_999, Nano(-7)), Some(2));
    let hard = Terms { pool: Some((Weights::default(), PoolEnd::Stop)), ..gpt4() };
    assert_eq!(hard.affordable_output(10, 50, 0, 12_999, Nano::MAX), Some(2));
    assert_eq!(hard.affordable_output(10, 50, 0, 9_999, Nano::MAX), None);
    assert_eq!(hard.charge(&Quantities { in_uncached: 10, ..Quantities::default() }, 0, 9_000).total(), Nano::ZERO);
}

fn any_rate() -> impl Strategy<Value = Rate> {
    prop_oneof![Just(0), 1..5_000_i64, (1..200_000_i64).prop_map(|nano| nano * 1_000), Just(Rate::MAX.pico())]
        .prop_map(rate)
}

fn any_tier() -> impl Strategy<Value = Tier> {
    let rates = (any_rate(), proptest::option::of(any_rate()), any_rate(), proptest::option::of(any_rate()));
    (prop_oneof![Just(0), 1..300_u64], prop_oneof![Just(0), 1..600_u64], rates).prop_map(
        |(prompt_from, volume_from, (input, cached_input, output, reasoning))| Tier {
            prompt_from,
            volume_from,
            input,
            cached_input,
            output,
            reasoning,
        },
    )
}

fn any_price() -> impl Strategy<Value = FrozenPrice> {
    proptest::collection::vec(any_tier(), 1..8).prop_map(|mut tiers| {
        // Make it whole: each band from volume 0, one band from prompt 0, no doubles.
        let bands: Vec<u64> = tiers.iter().map(|tier| tier.prompt_from).chain([0]).collect();
        let base = tiers.first().cloned().unwrap_or_else(|| Tier::flat(Rate::ZERO, Rate::ZERO));
        tiers.extend(bands.into_iter().map(|prompt_from| Tier { prompt_from, volume_from: 0, ..base.clone() }));
        tiers.sort_by_key(|tier| (tier.prompt_from, tier.volume_from));
        tiers.dedup_by_key(|tier| (tier.prompt_from, tier.volume_from));
        price(tiers)
    })
}

fn any_terms() -> impl Strategy<Value = Terms> {
    let weight = || prop_oneof![Just(0), Just(1_000), 1..5_000_u32];
    let weights = (weight(), weight(), weight(), weight())
        .prop_map(|(input, cached_input, output, reasoning)| Weights { input, cached_input, output, reasoning });
    let end = prop_oneof![4 => Just(PoolEnd::Overage), 1 => Just(PoolEnd::Stop)];
    let discount = prop_oneof![Just(0), 0..=1_000_u16];
    (any_price(), proptest::option::of((weights, end)), discount).prop_map(|(price, pool, discount_permille)| Terms {
        price,
        pool,
        discount_permille,
    })
}

fn any_quantities() -> impl Strategy<Value = Quantities> {
    (0..400_u64, 0..400_u64, 0..400_u64, 0..400_u64).prop_map(|(in_uncached, in_cached, out_visible, out_reasoning)| {
        Quantities { in_uncached, in_cached, out_visible, out_reasoning }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// No token is lost or doubled at the pool's border, a meter or a tier; the lines add up.
    #[test]
    fn lines_add_up(terms in any_terms(), quantities in any_quantities(), volume in 0..900_u64, pool in 0..2_000_000_i64) {
        let charge = terms.charge(&quantities, volume, pool);
        prop_assert!(charge.pool_units <= pool);
        let stops = matches!(terms.pool, Some((_, PoolEnd::Stop)));
        for meter in Meter::ALL {
            let lines: u64 = charge.lines.iter().filter(|line| line.meter == meter).map(|line| line.tokens).sum();
            prop_assert!(charge.pooled.get(meter) + lines == quantities.get(meter) || stops);
        }
        let units: u64 = Meter::ALL.into_iter()
            .map(|meter| charge.pooled.get(meter) * terms.pool.map_or(0, |(weights, _)| u64::from(weights.get(meter))))
            .sum();
        prop_assert_eq!(i64::try_from(units).unwrap(), charge.pool_units);
        let mut sum = 0;
        for line in &charge.lines {
            prop_assert_eq!(i128::from(line.nano.0), divide_half_even(line.rate.times(line.tokens), 1_000));
            sum += line.nano.0;
        }
        prop_assert_eq!(sum, charge.list.0);
        prop_assert!(charge.discount >= Nano::ZERO && charge.discount <= charge.list);
    }

    /// Whatever held tokens turn out to be, and however volume grew meanwhile, the hold pays for them.
    #[test]
    fn a_hold_covers_every_outcome(
        terms in any_terms(), actual in any_quantities(), spare in 0..300_u64,
        volume in 0..900_u64, later in 0..900_u64, pool in 0..2_000_000_i64,
    ) {
        let ask = Ask { input: actual.input(), output: actual.output() + spare };
        if let Some(need) = terms.need(ask, volume, pool) {
            prop_assert!(need.pool <= pool);
            let charge = terms.charge(&actual, volume + later, need.pool);
            prop_assert!(charge.total() <= need.money, "{charge:?} over {need:?}");
            prop_assert!(charge.pool_units <= need.pool);
            // More left in the pool at the end never makes it dearer.
            prop_assert!(terms.charge(&actual, volume + later, pool).pool_units >= charge.pool_units);
        }
    }

    /// The affordable number is payable and the next one is not.
    #[test]
    fn the_border_is_exact(
        terms in any_terms(), input in 0..400_u64, most in 0..500_u64, volume in 0..900_u64,
        pool in 0..2_000_000_i64, money in 0..40_000_000_i64,
    ) {
        let pays = |output| terms.need(Ask { input, output }, volume, pool).is_some_and(|need| need.money <= Nano(money));
        match terms.affordable_output(input, most, volume, pool, Nano(money)) {
            None => prop_assert!(!pays(0)),
            Some(output) => {
                prop_assert!(pays(output));
                prop_assert!(output == most || !pays(output + 1));
            }
        }
    }

    /// With rates of whole nano-units and one rate per side, the hold of what is used is exactly what is charged.
    #[test]
    fn flat_holds_are_exact(input in 0..500_000_i64, output in 0..500_000_i64, tokens in (0..4_000_u64, 0..4_000_u64)) {
        let tier = Tier::flat(rate(input * 1_000), rate(output * 1_000));
        let terms = Terms { price: price(vec![tier]), pool: None, discount_permille: 0 };
        let quantities = Quantities { in_uncached: tokens.0, out_visible: tokens.1, ..Quantities::default() };
        let need = terms.need(Ask { input: tokens.0, output: tokens.1 }, 0, 0).unwrap();
        prop_assert_eq!(terms.charge(&quantities, 0, 0).total(), need.money);
    }
}
