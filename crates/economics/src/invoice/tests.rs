//! Tests of `invoice`: whatever was charged, the lines add up.

use proptest::prelude::*;

use super::*;
use crate::price::{PriceSpec, Tier};
use crate::rollup::{InvoiceLine, Sums};

fn prices() -> PriceBook {
    let tiers = (0..3).map(|index| Tier { volume_from: index * 100, ..Tier::flat(Rate::ZERO, Rate::ZERO) }).collect();
    let mut book = PriceBook::default();
    book.add(PriceSpec { tiers, ..PriceSpec::flat("standard", "m", Rate::ZERO, Rate::ZERO) }).unwrap();
    book
}

fn statement(charges: &[(usize, u8, u32, i64)], pooled: [u32; 4], discount: i64) -> Statement {
    let line = |&(meter, tier, tokens, nano): &(usize, u8, u32, i64)| InvoiceLine {
        meter: Meter::ALL[meter],
        tier,
        tokens: tokens.into(),
        nano: Nano(nano),
    };
    let lines: Vec<_> = charges.iter().map(line).collect();
    let mut quantities = Quantities::default();
    for (meter, pooled) in Meter::ALL.into_iter().zip(pooled) {
        *quantities.get_mut(meter) += u64::from(pooled);
    }
    for line in &lines {
        *quantities.get_mut(line.meter) += u64::try_from(line.tokens).unwrap();
    }
    let sums = Sums { requests: 1, quantities, discount: Nano(discount), ..Sums::default() };
    let model = InvoiceModel { list: "standard".into(), model: "m".into(), price_version: 1, sums, lines };
    Statement { models: vec![model], sums }
}

proptest! {
    #[test]
    fn lines_add_up_to_a_total_in_minor_units(
        charges in prop::collection::vec((0..4_usize, 0..3_u8, any::<u32>(), 0..1_000_000_000_000_i64), 0..8),
        pooled in any::<[u32; 4]>(),
        discount in 0..1_000_000_000_000_i64,
        credits in prop::collection::vec(1..1_000_000_000_000_i64, 0..4),
        code in prop::sample::select(vec!["USD", "JPY", "KWD"]),
    ) {
        let currency = Currency::of(code).unwrap();
        let notes = credits.iter().map(|nano| Credit {
            at_ms: 0, request: EntryId([1; 16]), reason: String::new(), amount: Nano(*nano)
        });
        let statements = [statement(&charges, pooled, discount)];
        let (lines, total) = lines(&statements, notes.collect(), &prices(), &currency).unwrap();

        prop_assert_eq!(lines.iter().map(|line| line.amount.0).sum::<i64>(), total.0);
        let unit = 10_i64.pow(9 - u32::from(currency.minor_digits));
        prop_assert_eq!(total.0 % unit, 0);
        let exact = charges.iter().map(|charge| charge.3).sum::<i64>() - discount - credits.iter().sum::<i64>();
        prop_assert!((total.0 - exact).abs() * 2 <= unit);
        let rounding: Vec<_> = lines.iter().filter(|line| line.item == Item::Rounding).collect();
        prop_assert_eq!(rounding.len(), usize::from(total.0 != exact));
        prop_assert!(rounding.iter().all(|line| Some(*line) == lines.last()));

        // Charged and included tokens together are all tokens.
        let mut tokens = Quantities::default();
        for line in &lines {
            if let Item::Usage { meter, tokens: count, .. } | Item::Included { meter, tokens: count, .. } = &line.item {
                *tokens.get_mut(*meter) += count;
            }
        }
        prop_assert_eq!(tokens, statements[0].sums.quantities);
    }
}

#[test]
fn a_price_that_is_not_there_is_named() {
    let mut unknown = statement(&[(0, 0, 1, 1)], [0; 4], 0);
    unknown.models[0].price_version = 7;
    let usd = Currency::of("USD").unwrap();
    let error = lines(&[unknown], Vec::new(), &prices(), &usd).unwrap_err().to_string();
    assert_eq!(error, "the price of `m` in list `standard` has no version 7");
}
