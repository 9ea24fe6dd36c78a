//! The planner: the source's case, what the plant sheet and the options give, and wrong words.

use crate::support::{Sandbox, text};

const SOURCE: [&str; 8] =
    ["plan", "--tokens-per-second", "1000", "--gflop-per-token", "350", "--peak-tflops", "312", "--price"];

#[test]
fn the_source_s_speed_exceeds_the_peak_and_its_price_implies_a_rent() {
    let sandbox = Sandbox::new();
    let arguments = [&SOURCE[..], &["0.0001 per token"]].concat();
    let plan = sandbox.run(&[&arguments[..], &["--json"]].concat()).json();
    let near = |place: &str, expected: f64| {
        let found = plan.pointer(place).unwrap_or_else(|| panic!("{place}: {plan}")).as_f64().unwrap();
        assert!((found / expected - 1.0).abs() < 1e-4, "{place}: {found} is not {expected}");
    };
    near("/tokens_per_second", 891.43);
    near("/price_per_million", 100.0);
    near("/implied_rent/as_claimed", 360.0);
    near("/implied_rent/as_planned", 320.91);
    // Half of 891 tokens/s for 730 hours.
    near("/month/tokens", 312e12 / 350e9 * 730.0 * 3600.0 / 2.0);
    assert_eq!(
        (&plan["warnings"][0]["field"], plan["plant"]["example"].as_bool()),
        (&"line.tokens_per_second".into(), Some(true))
    );
    let shown = sandbox.run(&arguments).good();
    for part in [
        "1000 tokens/s exceeds the peak",
        "891 tokens/s at most",
        "EXAMPLE: costs that the command line does not give",
        "360.00",
        "320.91",
        "break-even, utilisation",
        "Economies of scale",
        "One more machine",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn figures_come_from_the_options_or_from_the_sheet_in_a_file() {
    let sandbox = Sandbox::new();
    let sheet = sandbox.write(
        "plant.toml",
        "[plant]\nidle_watts = 0\nfull_watts = 1000\npue = 1.5\ncarbon_g_per_kwh = 400\n\
         tariff = [{ per_kwh = \"0.20\" }]\nequipment = [{ name = \"node\", rent_per_hour = \"2\" }]\n",
    );
    let base =
        ["plan", "--tokens-per-second", "1000", "--input", "1 per 1M", "--output", "3 per 1M", "--json", "--plant"];
    let base = [&base[..], &[text(&sheet)]].concat();
    let plan = |more: &[&str]| sandbox.run(&[&base[..], more].concat()).json();
    let near = |found: &serde_json::Value, expected: f64| {
        assert!((found.as_f64().unwrap() / expected - 1.0).abs() < 1e-6, "{found} is not {expected}");
    };
    let own = plan(&["--load", "500", "--input-share", "0.5"]);
    assert_eq!((own["plant"]["example"].as_bool(), own["sheet"]["example"].as_bool()), (Some(false), Some(false)));
    near(&own["month"]["fixed_cost"], 1460.0);
    near(&own["month"]["utilisation"], 0.5);
    near(&own["price_per_million"], 2.0);
    // A kilowatt at 0.20 and PUE 1.5 for 1,000 s.
    near(&own["marginal_cost_per_million"], 0.3 / 3.6);
    near(&own["break_even"]["tokens"], 1460.0 / (2.0 - 0.3 / 3.6) * 1e6);
    near(&own["one_more_machine"]["fixed_cost"], 2920.0);
    let other = plan(&["--rent-per-hour", "1", "--fixed-per-month", "70", "--per-kwh", "0.40", "--machines", "2"]);
    near(&other["month"]["fixed_cost"], 2.0 * 730.0 + 70.0);
    near(&other["marginal_cost_per_million"], 0.6 / 3.6);
    assert_eq!(plan(&["--tokens-per-month", "1e12"])["warnings"][0]["field"], "load");
}

#[test]
fn wrong_words_name_the_option_and_the_fix() {
    let sandbox = Sandbox::new();
    sandbox.write("none.toml", "[server]\n");
    sandbox.write(
        "bad.toml",
        "[plant]\nidle_watts = 8\nfull_watts = 9\npue = 1\ncarbon_g_per_kwh = 1\ntariff = [{ per_kwh = \"0.20\" }]\n\
         equipment = [{ name = \"node\", price = \"2\", life_years = 0 }]\n",
    );
    for (arguments, part) in [
        (&["plan", "--price", "1 per 1M"][..], "no speed is given, and these books have none measured"),
        (&["plan", "--price", "1 per 1M"], "give --tokens-per-second, or --gflop-per-token and --peak-tflops"),
        (&["plan", "--tokens-per-second", "9"], "--price"),
        (&["plan", "--gflop-per-token", "350", "--price", "0"], "--peak-tflops"),
        (&["plan", "--tokens-per-second", "9", "--input", "1 per 1M"], "--output"),
    ] {
        let error = sandbox.run(arguments).bad(2);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    for (option, value, part) in [
        ("--tokens-per-second", "-1", "--tokens-per-second: -1 is not greater than 0"),
        ("--tokens-per-second", "NaN", "--tokens-per-second: NaN cannot be used"),
        ("--share", "1.5", "--share: 1.5 is more than all"),
        ("--gflop-per-token", "0", "--gflop-per-token: 0 is not greater than 0"),
        ("--machines", "0", "--machines: 0 cannot be planned"),
        ("--utilisation", "-0.1", "--utilisation: -0.1 is negative"),
        ("--load", "-3", "--load: -3 is negative"),
        ("--tokens-per-month", "inf", "--tokens-per-month: inf cannot be used"),
        ("--input-share", "2", "--input-share: 2 is not a share"),
        ("--rent-per-hour", "-1", "--rent-per-hour: -1.00 is negative"),
        ("--fixed-per-month", "-1", "--fixed-per-month: -"),
        ("--operations-per-month", "-1", "--operations-per-month: -1.00 is negative"),
        ("--full-watts", "1", "--full-watts: 1 W are less than `idle_watts`"),
        ("--idle-watts", "-1", "--idle-watts: -1 is not within 0"),
        ("--per-kwh", "-1", "--per-kwh: -1.00 is negative"),
        ("--per-kwh", "cheap", "'--per-kwh <AMOUNT>'"),
        ("--bytes-per-token", "-1", "--bytes-per-token: -"),
        ("--plant", "nowhere.toml", "cannot read nowhere.toml"),
        ("--plant", "none.toml", "the plant sheet none.toml cannot be used"),
        ("--plant", "bad.toml", "plant.equipment[0].life_years"),
    ] {
        let mut arguments = vec!["plan", option, value, "--price", "1 per 1M"];
        match option {
            "--tokens-per-second" => {}
            "--share" => arguments.extend(["--gflop-per-token", "350", "--peak-tflops", "312"]),
            "--gflop-per-token" => arguments.extend(["--peak-tflops", "312"]),
            _ => arguments.extend(["--tokens-per-second", "9"]),
        }
        let error = sandbox.run(&arguments).bad(2);
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
    let arguments = ["plan", "--tokens-per-second", "9", "--price", "10"];
    let error = sandbox.run(&arguments).bad(2);
    assert!(error.contains("--price") && error.contains("no `per`"), "{error}");
}
