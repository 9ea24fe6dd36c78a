//! Samplers against exact distributions, and snapshots for fixed seeds.

use inference::Verdict;

use super::*;

/// Logits with a wide spread, some equal, out of order.
fn logits(len: u32) -> Vec<f32> {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let logit = |id: u32| ((id * 37 + 11) % 61) as f32 * 0.13 - 4.0;
    (0..len).map(logit).collect()
}

fn params() -> SamplingParams {
    SamplingParams::default()
}

fn choose(row: &[f32], params: &SamplingParams, uniform: f64) -> Result<TokenId, SampleError> {
    Sampler::default().choose(row, params, &TokenCounts::default(), None, uniform)
}

/// The exact distribution after the chain, by the plain textbook way: sort everything, in f64.
fn exact(logits: &[f32], params: &SamplingParams) -> Vec<f64> {
    let temperature = f64::from(params.temperature);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    let best = f64::from(logits[order[0]]);
    let weight = |id: usize| ((f64::from(logits[id]) - best) / temperature).exp();
    if params.top_k > 0 {
        order.truncate(params.top_k as usize);
    }
    if params.top_p < 1.0 {
        let total: f64 = order.iter().map(|id| weight(*id)).sum();
        let mut sum = 0.0;
        let reaches = |id: &usize| {
            sum += weight(*id);
            sum >= f64::from(params.top_p) * total
        };
        let last = order.iter().position(reaches).unwrap_or(order.len() - 1);
        order.truncate(last + 1);
    }
    order.retain(|id| weight(*id) >= f64::from(params.min_p));
    let total: f64 = order.iter().map(|id| weight(*id)).sum();
    let mut shares = vec![0.0; logits.len()];
    for id in order {
        shares[id] = weight(id) / total;
    }
    shares
}

/// Draws many tokens and compares their counts with the exact distribution by chi-square.
fn check_distribution(logits: &[f32], params: &SamplingParams) {
    const DRAWS: u32 = 20_000;
    let shares = exact(logits, params);
    let mut sampler = Sampler::default();
    let mut seen = vec![0_u32; logits.len()];
    for index in 0..DRAWS {
        let id = sampler.choose(logits, params, &TokenCounts::default(), None, draw(7, 0, index)).unwrap();
        seen[id as usize] += 1;
    }
    let (mut chi_square, mut degrees) = (0.0, -1.0);
    let (mut rest_expected, mut rest_seen) = (0.0, 0.0);
    for (share, seen) in shares.iter().zip(&seen) {
        if *share == 0.0 {
            assert_eq!(*seen, 0, "a token that was filtered out was drawn");
            continue;
        }
        let expected = share * f64::from(DRAWS);
        if expected < 5.0 {
            rest_expected += expected;
            rest_seen += f64::from(*seen);
            continue;
        }
        chi_square += (f64::from(*seen) - expected).powi(2) / expected;
        degrees += 1.0;
    }
    if rest_expected >= 5.0 {
        chi_square += (rest_seen - rest_expected).powi(2) / rest_expected;
        degrees += 1.0;
    }
    if degrees < 1.0 {
        return;
    }
    // Wilson and Hilferty: the cube root is nearly normal. 4 standard deviations.
    let spread = 2.0 / (9.0 * degrees);
    let normal = ((chi_square / degrees).cbrt() - (1.0 - spread)) / f64::sqrt(spread);
    assert!(normal < 4.0, "chi-square {chi_square} with {degrees} degrees for {params:?}");
}

#[test]
fn draws_follow_the_exact_distribution() {
    let row = logits(200);
    for temperature in [0.3, 1.0, 2.5] {
        for (top_k, top_p, min_p) in [
            (0, 1.0, 0.0),
            (5, 1.0, 0.0),
            (0, 0.7, 0.0),
            (0, 0.999, 0.0),
            (0, 1.0, 0.2),
            (0, 0.9, 0.3),
            (60, 0.8, 0.1),
            (150, 0.95, 0.0),
            (1, 0.1, 0.0),
        ] {
            check_distribution(&row, &SamplingParams { temperature, top_k, top_p, min_p, ..params() });
        }
    }
}

#[test]
fn a_large_vocabulary_is_filtered_exactly() {
    let row: Vec<f32> = (0..5000_u32).map(noise).collect();
    for (top_k, top_p, min_p) in [(0, 1.0, 0.0), (0, 0.5, 0.0), (1000, 0.9, 0.0), (0, 1.0, 0.4), (4999, 1.0, 0.0)] {
        let params = SamplingParams { top_k, top_p, min_p, ..params() };
        let shares = exact(&row, &params);
        let mut sampler = Sampler::default();
        for step in 0..2000_u32 {
            let uniform = f64::from(step) / 2000.0;
            let id = sampler.choose(&row, &params, &TokenCounts::default(), None, uniform).unwrap();
            assert!(shares[id as usize] > 0.0, "token {id} with {params:?}");
        }
    }
}

/// A fixed spread of logits without equal ones.
fn noise(id: u32) -> f32 {
    let bits = u16::try_from(id.wrapping_mul(2_654_435_761) >> 16).unwrap();
    f32::from(bits) / 6000.0
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let mut row = logits(100);
    row[40] = 9.0;
    row[17] = 9.0;
    let greedy = SamplingParams { temperature: 0.0, ..params() };
    assert_eq!(choose(&row, &greedy, 0.99), Ok(17));
}

#[test]
fn a_tiny_temperature_is_greedy() {
    let mut row = logits(100);
    row[40] = 9.0;
    assert_eq!(choose(&row, &SamplingParams { temperature: 1e-40, ..params() }, 0.999), Ok(40));
}

#[test]
fn top_k_keeps_the_lowest_of_equals() {
    let row = [1.0, 3.0, 3.0, 3.0];
    let params = SamplingParams { top_k: 2, ..params() };
    assert_eq!(choose(&row, &params, 0.0), Ok(1));
    assert_eq!(choose(&row, &params, 0.999), Ok(2));
}

#[test]
fn top_p_of_0_keeps_one() {
    let mut row = logits(100);
    row[40] = 9.0;
    assert_eq!(choose(&row, &SamplingParams { top_p: 0.0, ..params() }, 0.999), Ok(40));
}

#[test]
fn what_is_no_number_is_never_chosen() {
    let mut row = vec![f32::NAN; 10];
    row[4] = -2.0;
    for (temperature, top_k, top_p) in [(0.0, 0, 1.0), (1.0, 0, 1.0), (1.0, 3, 1.0), (1.0, 0, 0.5)] {
        let params = SamplingParams { temperature, top_k, top_p, ..params() };
        assert_eq!(choose(&row, &params, 0.999), Ok(4));
        assert_eq!(choose(&[f32::NAN; 10], &params, 0.5), Err(SampleError::NoLogits));
        assert_eq!(choose(&[f32::NEG_INFINITY; 10], &params, 0.5), Err(SampleError::NoLogits));
    }
    row[7] = f32::INFINITY;
    assert_eq!(choose(&row, &params(), 0.5), Ok(7));
}

#[test]
fn penalties_apply_as_documented() {
    let row = [2.0, -2.0, 2.0, 0.5];
    let params = SamplingParams { repetition_penalty: 2.0, frequency_penalty: 0.25, presence_penalty: 0.5, ..params() };
    let mut counts = TokenCounts::new(&[0, 1], &params);
    counts.note(2);
    counts.note(2);
    let mut altered = row.to_vec();
    counts.apply(&params, &mut altered);
    assert_eq!(altered, [1.0, -4.0, 0.0, 0.5], "prompt: repetition only; made twice: 2/2 - 2*0.25 - 0.5");
}

#[test]
fn bias_and_mask_decide_in_order() {
    let row = logits(100);
    let params = SamplingParams { temperature: 0.0, logit_bias: vec![(3, 100.0)], ..params() };
    let mut sampler = Sampler::default();
    let counts = TokenCounts::default();
    assert_eq!(sampler.choose(&row, &params, &counts, None, 0.5), Ok(3));
    assert_eq!(sampler.choose(&row, &params, &counts, Some(&mut Only(8)), 0.5), Ok(8), "the mask beats the bias");
    assert_eq!(sampler.choose(&row, &params, &counts, Some(&mut Only(150)), 0.5), Err(SampleError::NothingAllowed));
}

#[test]
fn logprobs_are_of_the_raw_logits() {
    let row = logits(300);
    let exact = |id: u32| {
        let norm = row.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
        f64::from(row[id as usize]) - norm
    };
    let found = Sampler::default().logprobs(&row, 42, 5).unwrap();
    assert!((f64::from(found.chosen.logprob) - exact(42)).abs() < 1e-5);
    let mut order: Vec<u32> = (0..300).collect();
    order.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b)));
    assert_eq!(found.top.iter().map(|top| top.id).collect::<Vec<_>>(), order[..5]);
    for top in found.top {
        assert!((f64::from(top.logprob) - exact(top.id)).abs() < 1e-5);
    }
    assert_eq!(Sampler::default().logprobs(&[f32::NAN; 4], 0, 2), Err(SampleError::NoLogits));
}

#[test]
fn random_numbers_depend_on_seed_stream_and_index() {
    let numbers: Vec<f64> = (0..4).map(|index| draw(42, 0, index)).collect();
    assert_eq!(numbers, (0..4).map(|index| draw(42, 0, index)).collect::<Vec<_>>());
    assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
    assert_ne!(draw(42, 1, 0), numbers[0]);
    assert_ne!(draw(43, 0, 0), numbers[0]);
    assert_ne!(numbers[0], numbers[1]);
}

#[test]
fn fixed_seeds_give_fixed_tokens() {
    let row = logits(200);
    let run = |params: &SamplingParams| -> Vec<TokenId> {
        (0..12).map(|index| choose(&row, params, draw(1234, 0, index)).unwrap()).collect()
    };
    let plain = run(&params());
    let top_k = run(&SamplingParams { top_k: 5, ..params() });
    let top_p = run(&SamplingParams { top_p: 0.5, temperature: 0.7, ..params() });
    assert_eq!([plain, top_k, top_p], SNAPSHOT);
}

const SNAPSHOT: [[TokenId; 12]; 3] = [
    [82, 199, 120, 62, 31, 72, 115, 31, 181, 31, 146, 87],
    [92, 120, 153, 92, 31, 92, 153, 31, 120, 31, 59, 92],
    [87, 21, 120, 59, 31, 87, 120, 31, 181, 31, 153, 92],
];

#[test]
fn the_distribution_is_that_of_the_draw() {
    let row: Vec<f32> = (0..700_u32).map(noise).collect();
    let total: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
    let counts = TokenCounts::default();
    for temperature in [0.0, 0.3, 1.0, 2.0] {
        for (top_k, top_p, min_p) in [(0, 1.0, 0.0), (1, 1.0, 0.0), (40, 0.9, 0.0), (0, 0.6, 0.0), (0, 0.95, 0.3)] {
            let asked = SamplingParams { temperature, top_k, top_p, min_p, distribution: Some(256), ..params() };
            let told = Sampler::default().choose_reporting(&row, &asked, &counts, None, 0.4).unwrap();
            let (id, Some(told)) = told else { panic!("no distribution") };
            assert_eq!((choose(&row, &asked, 0.4), told.chosen), (Ok(id), id));
            assert_eq!(told.best.len(), 256);
            assert!(told.best.is_sorted_by(|a, b| a.logit >= b.logit));
            let greedy = |id: TokenId| f64::from(u8::from(id == told.best[0].id));
            let shares = if temperature == 0.0 { Vec::new() } else { exact(&row, &asked) };
            for token in &told.best {
                let expected = shares.get(token.id as usize).copied().unwrap_or_else(|| greedy(token.id));
                assert!((token.drawn - expected).abs() < 1e-6, "{token:?}: {expected} with {asked:?}");
                assert!((token.raw - f64::from(token.logit).exp() / total).abs() < 1e-6, "{token:?}");
            }
            let sum = |of: fn(&inference::TokenChance) -> f64| told.best.iter().map(of).sum::<f64>();
            assert!((sum(|token| token.raw) + told.rest_raw - 1.0).abs() < 1e-9);
            assert!((sum(|token| token.drawn) + told.rest_drawn - 1.0).abs() < 1e-9);
            let possible = if temperature == 0.0 { 1 } else { shares.iter().filter(|share| **share > 0.0).count() };
            assert_eq!(told.possible as usize, possible, "{asked:?}");
        }
    }
    let none = Sampler::default().choose_reporting(&row, &params(), &counts, None, 0.4).unwrap().1;
    assert_eq!(none, None, "nobody asked");
}

/// Allows one token.
struct Only(TokenId);
impl Control for Only {
    fn masks(&self) -> bool {
        true
    }
    fn mask(&mut self, allowed: &mut Bits) {
        for id in 0..200 {
            if id != self.0 {
                allowed.remove(id);
            }
        }
    }
    fn commit(&mut self, _: TokenId) -> Verdict {
        Verdict::Continue
    }
}

#[test]
fn bias_and_mask_change_what_is_drawn_and_not_the_raw_figures() {
    let row = logits(100);
    let counts = TokenCounts::default();
    let told = |params: &SamplingParams, only: Option<TokenId>| {
        let asked = SamplingParams { distribution: Some(100), ..params.clone() };
        let mut only = only.map(Only);
        let control = only.as_mut().map(|control| control as &mut dyn Control);
        Sampler::default().choose_reporting(&row, &asked, &counts, control, 0.5).unwrap().1.unwrap()
    };
    let biased = SamplingParams { logit_bias: vec![(7, 3.0)], ..params() };
    let plain = told(&params(), None);
    for changed in [told(&biased, None), told(&biased, Some(8))] {
        let raw = |token: &inference::TokenChance| (token.id, token.logit, token.raw);
        assert!(changed.best.iter().map(raw).eq(plain.best.iter().map(raw)));
        assert_ne!(changed.best, plain.best, "as drawn it differs");
    }
    let masked = told(&biased, Some(8));
    assert!(masked.best.iter().all(|token| token.drawn == f64::from(u8::from(token.id == 8))), "{masked:?}");
    assert_eq!(masked.possible, 1);
}

#[test]
fn an_answer_that_goes_on_counts_as_made() {
    let row = [2.0, -2.0, 2.0, 0.5];
    let params = SamplingParams { frequency_penalty: 0.25, presence_penalty: 0.5, made_before: 2, ..params() };
    let mut altered = row.to_vec();
    TokenCounts::new(&[0, 1, 2, 2], &params).apply(&params, &mut altered);
    assert_eq!(altered, [2.0, -2.0, 1.0, 0.5], "the prompt's are not made, the answer's are, twice");
    let more_than_all = SamplingParams { made_before: 9, ..params };
    let mut altered = row.to_vec();
    TokenCounts::new(&[3], &more_than_all).apply(&more_than_all, &mut altered);
    assert_eq!(altered, [2.0, -2.0, 2.0, -0.25]);
}
