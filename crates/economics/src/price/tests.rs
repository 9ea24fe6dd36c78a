//! Tests of `price`.

use super::*;

fn tier(prompt_from: u64, volume_from: u64, input: i64, output: i64) -> Tier {
    let rate = |pico| Rate::from_pico(pico).unwrap();
    Tier { prompt_from, volume_from, ..Tier::flat(rate(input), rate(output)) }
}

fn spec(from: i64, to: Option<i64>, tiers: Vec<Tier>) -> PriceSpec {
    PriceSpec { list: standard_list(), model: "m".to_owned(), from, to, tiers }
}

fn frozen(tiers: Vec<Tier>) -> FrozenPrice {
    let mut book = PriceBook::default();
    book.add(spec(0, None, tiers)).unwrap();
    book.freeze(STANDARD_LIST, "m", 5).unwrap()
}

#[test]
fn the_version_in_force_is_frozen_and_unknown_ones_are_refused() {
    let flat = |rate| vec![tier(0, 0, rate, rate)];
    let mut book = PriceBook::default();
    book.add(spec(100, None, flat(1))).unwrap();
    book.add(spec(200, Some(300), flat(2))).unwrap();
    book.add(spec(400, None, flat(3))).unwrap();
    for (at, version) in
        [(99, None), (100, Some(1)), (199, Some(1)), (200, Some(2)), (299, Some(2)), (300, None), (400, Some(3))]
    {
        let found = book.freeze(STANDARD_LIST, "m", at).ok().map(|price| price.version());
        assert_eq!(found, version, "at {at}");
    }
    assert!(book.freeze(STANDARD_LIST, "other", 150).is_err());
    assert!(book.freeze("house", "m", 150).is_err());
    assert_eq!(book.version(STANDARD_LIST, "m", 2).unwrap().version(), 2);
    assert!(book.version(STANDARD_LIST, "m", 4).is_none());
}

#[test]
fn bad_prices_name_the_field_and_the_fix() {
    let mut book = PriceBook::default();
    book.add(spec(100, Some(200), vec![tier(0, 0, 1, 1)])).unwrap();
    for (bad, part) in [
        (spec(150, None, vec![tier(0, 0, 1, 1)]), "overlaps version 1"),
        (spec(100, None, vec![tier(0, 0, 1, 1)]), "begin at 1970-01-01T00:00:00.2Z or later"),
        (spec(300, Some(300), vec![tier(0, 0, 1, 1)]), "ends before it begins"),
        (spec(300, None, vec![]), "0 tiers"),
        (spec(300, None, vec![tier(1, 0, 1, 1)]), "short prompts have no price"),
        (
            spec(300, None, vec![tier(0, 0, 1, 1), tier(10, 5, 1, 1)]),
            "volumes below 5 have no price for prompts from 10",
        ),
        (spec(300, None, vec![tier(0, 0, 1, 1), tier(0, 0, 2, 2)]), "begins at the same"),
        (PriceSpec { list: "a/b".into(), ..spec(300, None, vec![tier(0, 0, 1, 1)]) }, "no name of a list"),
    ] {
        let error = book.add(bad).unwrap_err().to_string();
        assert!(error.starts_with("price ") && error.contains(part), "{error}");
    }
    assert_eq!(book.all().count(), 1, "refused prices leave nothing behind");
}

#[test]
fn runs_follow_prompt_length_and_volume() {
    let price = frozen(vec![tier(100, 0, 30, 60), tier(0, 1_000, 5, 7), tier(0, 0, 10, 20)]);
    let runs = |prompt, tokens, volume| -> Vec<(u8, u64, i64)> {
        let runs = price.runs(prompt, Meter::InUncached, tokens, volume);
        runs.iter().map(|run| (run.tier, run.tokens, run.rate.pico())).collect()
    };
    assert_eq!(runs(99, 99, 0), [(0, 99, 10)]);
    assert_eq!(runs(99, 99, 950), [(0, 50, 10), (1, 49, 5)]);
    assert_eq!(runs(99, 99, 1_000), [(1, 99, 5)]);
    assert_eq!(runs(100, 100, 5_000), [(2, 100, 30)]);
    assert_eq!(runs(0, 0, 0), []);
}

#[test]
fn the_ceiling_takes_the_dearest_reachable_rate() {
    // 1,000 pico = 1 nano a token.
    let price = frozen(vec![tier(0, 0, 9_000, 9_000), tier(0, 100, 5_000, 6_000), tier(0, 200, 7_000, 1_000)]);
    for (volume, expected) in [(0, 18), (99, 18), (100, 7 + 6), (200, 7 + 1)] {
        assert_eq!(price.ceiling(1, (1, 1), volume), Nano(expected), "volume {volume}");
    }
    // Rates below a nano: each line may round up by half a nano, and there are two lines (computed, cached) at most.
    let odd = frozen(vec![tier(0, 0, 500, 0)]);
    assert_eq!(odd.ceiling(3, (3, 0), 0), Nano(2));
    assert_eq!(odd.ceiling(0, (0, 0), 0), Nano(0));
}

#[test]
fn the_example_file_is_read_and_holds_the_prices_of_the_source() {
    let text = include_str!("../../../../examples/prices-2024.json");
    let usd = Currency::of("USD").unwrap();
    let file = PriceFile::read(text, &usd, &PriceBook::default()).unwrap();
    let rates: Vec<_> = file.prices.iter().map(|p| (p.model.as_str(), p.tiers[0].input, p.tiers[0].output)).collect();
    let per_1k = |text: &str| format!("{text} per 1K").parse::<Rate>().unwrap();
    assert_eq!(
        rates,
        [
            ("gpt-4-turbo", per_1k("0.01"), per_1k("0.03")),
            ("gpt-3.5-turbo", per_1k("0.0005"), per_1k("0.0015")),
            ("claude-3-opus", per_1k("0.015"), per_1k("0.075")),
        ]
    );
    let eur = Currency::of("EUR").unwrap();
    assert!(PriceFile::read(text, &eur, &PriceBook::default()).unwrap_err().to_string().contains("books are in EUR"));
    let twice = text.replace("gpt-3.5-turbo", "gpt-4-turbo");
    let error = PriceFile::read(&twice, &usd, &PriceBook::default()).unwrap_err().to_string();
    assert!(
        error.starts_with("prices[1].price standard/gpt-4-turbo.from: 2024-01-01T00:00:00Z overlaps version 1"),
        "{error}"
    );
    let negative = text.replace("0.0015 per", "-0.0015 per");
    let error = PriceFile::read(&negative, &usd, &PriceBook::default()).unwrap_err().to_string();
    assert!(error.contains("negative") && error.contains("line"), "{error}");
}
