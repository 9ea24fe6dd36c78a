//! Plans: the source's cases, a plan by hand, and what is refused.

use super::*;

fn near(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} is not {expected}");
}

/// 1,000 tokens/s; 5 of marginal cost, 20 of price for 1M tokens; 12,000 a month of standing cost.
fn scenario() -> Scenario {
    Scenario {
        machines: 2,
        line: LineProfile { tokens_per_second: Some(1000.0), ..LineProfile::default() },
        fixed_cost_per_month: 4000.0,
        machine_cost_per_month: 4000.0,
        cost_per_busy_second: 0.004,
        cost_per_million: 1.0,
        input_share: 0.75,
        input_price_per_million: 16.0,
        output_price_per_million: 32.0,
        load: Load::Utilisation(0.5),
    }
}

#[test]
fn the_source_s_speed_exceeds_the_peak() {
    let line = LineProfile {
        tokens_per_second: Some(1000.0),
        gflop_per_token: Some(350.0),
        peak_tflops: Some(312.0),
        peak_share: None,
    };
    let plan = Scenario { line, ..scenario() }.plan().unwrap();
    assert!((plan.tokens_per_second - 891.43).abs() < 0.01);
    assert_eq!(plan.warnings.len(), 1);
    assert_eq!(plan.warnings[0].field, "line.tokens_per_second");
    assert!(plan.warnings[0].text.starts_with("1000 tokens/s exceeds the peak"), "{:?}", plan.warnings);
    assert!(plan.warnings[0].text.contains("891 tokens/s at most"));
    // At 40 % of the peak, as lines reach it, and without a claim there is nothing to warn of.
    let real = LineProfile { tokens_per_second: None, peak_share: Some(0.4), ..line };
    let plan = Scenario { line: real, ..scenario() }.plan().unwrap();
    near(plan.tokens_per_second, 0.4 * 312e12 / 350e9);
    assert!(plan.warnings.is_empty());
}

#[test]
fn the_source_s_price_implies_a_rent() {
    near(rent_per_hour(0.0001, 1000.0).unwrap(), 360.0);
    assert!((rent_per_hour(0.0001, 312e12 / 350e9).unwrap() - 320.91).abs() < 0.01, "at the peak");
    assert_eq!(rent_per_hour(0.0001, -1.0).unwrap_err().field, "tokens_per_second");
}

#[test]
fn the_source_s_user() {
    assert!((return_per_dollar(100_000.0, 200.0).unwrap() - 41.7).abs() < 0.05);
    assert!((value_per_million(100_000.0, 1.7e9).unwrap() - 4.90).abs() < 0.005);
    assert_eq!(return_per_dollar(1.0, 0.0).unwrap_err().field, "price_per_month");
    assert_eq!(value_per_million(f64::NAN, 1.0).unwrap_err().field, "value_per_year");
}

#[test]
fn a_month_by_hand() {
    let plan = scenario().plan().unwrap();
    near(plan.capacity, 2.0 * 1000.0 * 2_628_000.0);
    near(plan.marginal_cost_per_million, 5.0);
    near(plan.price_per_million, 20.0);
    let millions = 2628.0;
    near(plan.month.tokens, millions * 1e6);
    near(plan.month.revenue, millions * 20.0);
    near(plan.month.margin, millions * 15.0 - 12_000.0);
    near(plan.month.full_cost_per_million.unwrap(), 5.0 + 12_000.0 / millions);
    let even = plan.break_even.unwrap();
    near(even.tokens, 800e6);
    near(even.utilisation, 800e6 / plan.capacity);
    // Asked for exactly that, the margin is nothing.
    let load = Load::TokensPerMonth(even.tokens);
    assert!(Scenario { load, ..scenario() }.plan().unwrap().month.margin.abs() < 1e-6);
    let [first, .., last] = plan.curve.as_slice() else { panic!("{:?}", plan.curve) };
    assert_eq!((plan.curve.len(), first.tokens, first.margin), (21, 0.0, -12_000.0));
    near(last.tokens, plan.capacity);
    assert_eq!(plan.curve[10], plan.month);
    let load = Load::TokensPerSecond(1000.0);
    assert_eq!(Scenario { load, ..scenario() }.plan().unwrap().month, plan.month);
}

#[test]
fn volume_spreads_fixed_cost() {
    let scale = scenario().plan().unwrap().scale;
    let machines: Vec<u32> = scale.iter().map(|month| month.machines).collect();
    assert_eq!(machines, [1, 1, 1, 1, 2, 4, 10]);
    let costs: Vec<f64> = scale.iter().filter_map(|month| month.full_cost_per_million).collect();
    assert!(costs.windows(2).all(|pair| pair[1] < pair[0]), "{costs:?}");
    // At full load a machine's cost does not shrink; the site's share does.
    near(costs[3], 5.0 + 8000.0 / 2628.0);
    near(costs[6], 5.0 + 44_000.0 / 26_280.0);
}

#[test]
fn one_more_machine_helps_only_where_demand_waits() {
    let idle = scenario().plan().unwrap();
    near(idle.month.margin - idle.one_more_machine.margin, 4000.0);
    let full = Scenario { load: Load::Utilisation(2.0), ..scenario() }.plan().unwrap();
    assert_eq!(full.warnings[0].field, "load");
    near(full.month.utilisation, 1.0);
    near(full.one_more_machine.margin - full.month.margin, 2628.0 * 15.0 - 4000.0);
}

#[test]
fn a_token_sold_below_its_cost_never_breaks_even() {
    let plan = Scenario { cost_per_million: 16.0, ..scenario() }.plan().unwrap();
    assert_eq!(plan.break_even, None);
    let none = Scenario { load: Load::TokensPerMonth(0.0), ..scenario() }.plan().unwrap();
    assert_eq!((none.month.full_cost_per_million, none.month.margin), (None, -12_000.0));
}

#[test]
fn bad_fields_are_named() {
    let refused = |change: fn(&mut Scenario)| {
        let mut scenario = scenario();
        change(&mut scenario);
        scenario.plan().unwrap_err().field
    };
    assert_eq!(refused(|s| s.machines = 0), "machines");
    assert_eq!(refused(|s| s.input_share = 1.1), "input_share");
    assert_eq!(refused(|s| s.cost_per_busy_second = -1.0), "cost_per_busy_second");
    assert_eq!(refused(|s| s.load = Load::TokensPerMonth(f64::NAN)), "load.tokens_per_month");
    assert_eq!(refused(|s| s.line.tokens_per_second = None), "line.tokens_per_second");
    assert_eq!(refused(|s| s.line.tokens_per_second = Some(0.0)), "line.tokens_per_second");
    assert_eq!(refused(|s| s.line.peak_tflops = Some(312.0)), "line.gflop_per_token");
    assert_eq!(refused(|s| s.line.gflop_per_token = Some(350.0)), "line.peak_tflops");
    let share = |s: &mut Scenario| {
        s.line = LineProfile { gflop_per_token: Some(1.0), peak_tflops: Some(1.0), peak_share: Some(1.5), ..s.line };
    };
    assert_eq!(refused(share), "line.peak_share");
}
