//! Maximum, exponentials and sums over a row of logits. Not-a-number counts as minus infinity, plus infinity as the
//! largest number.

use super::select::Candidate;

/// Independent sums, so that the processor works on several at once.
const LANES: usize = 8;
/// Numbers added up in `f32` before the sum moves on in `f64`.
const SPAN: usize = 256;
/// Below this, `exp` counts as 0.
const SMALLEST: f32 = -87.0;
/// Temperatures below this draw as if they were this: anything but the best token has weight 0 anyway.
const COLDEST: f32 = 1e-6;

/// The largest logit; `None` when there is no number above minus infinity.
pub(super) fn max(logits: &[f32]) -> Option<f32> {
    let mut best = [f32::NEG_INFINITY; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (best, logit) in best.iter_mut().zip(chunk) {
            *best = if *logit > *best { *logit } else { *best };
        }
    }
    let best = best.iter().chain(rest).fold(f32::NEG_INFINITY, |best, logit| if *logit > best { *logit } else { best });
    (best > f32::NEG_INFINITY).then(|| best.min(f32::MAX))
}

/// e^x for x <= 0 within 2e-7 of its value. Made of plain additions and multiplications, so it gives the same bits on
/// every machine and works on several numbers at once.
fn exp(x: f32) -> f32 {
    // Adding this leaves the nearest integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let bounded = if x > SMALLEST { x } else { SMALLEST };
    let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = bounded - whole * LN_2_HIGH - whole * LN_2_LOW;
    let tail = 1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0));
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * tail))));
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x > SMALLEST { series * power } else { 0.0 }
}

fn scaled(logit: f32, best: f32, rate: f32) -> f32 {
    // Not-a-number fails the comparison in `exp` and weighs nothing.
    (if logit < f32::MAX {
        logit
    } else if logit > 0.0 {
        f32::MAX
    } else {
        f32::NEG_INFINITY
    } - best)
        * rate
}

fn rate(temperature: f32) -> f32 {
    1.0 / temperature.max(COLDEST)
}

/// Weight of every token relative to the best one's, which is 1.
pub(super) fn weigh(logits: &[f32], best: f32, temperature: f32, weights: &mut Vec<f32>) {
    let rate = rate(temperature);
    weights.clear();
    weights.extend(logits.iter().map(|logit| exp(scaled(*logit, best, rate))));
}

/// Turns the logits of candidates into weights.
pub(super) fn weigh_candidates(candidates: &mut [Candidate], best: f32, temperature: f32) {
    let rate = rate(temperature);
    for candidate in candidates {
        candidate.value = exp(scaled(candidate.value, best, rate));
    }
}

/// Sum of weights.
pub(super) fn sum(weights: &[f32]) -> f64 {
    weights.chunks(SPAN).map(span_sum).sum()
}

fn span_sum(span: &[f32]) -> f64 {
    let mut sums = [0.0_f32; LANES];
    let chunks = span.chunks_exact(LANES);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (sum, weight) in sums.iter_mut().zip(chunk) {
            *sum += weight;
        }
    }
    f64::from(sums.iter().sum::<f32>() + rest)
}

/// Natural log of the sum of the exponentials of a row; `None` when it holds no number.
pub(super) fn log_sum_exp(logits: &[f32]) -> Option<f64> {
    let best = max(logits)?;
    let mut weights = [0.0_f32; SPAN];
    let mut total = 0.0_f64;
    for span in logits.chunks(SPAN) {
        for (weight, logit) in weights.iter_mut().zip(span) {
            *weight = exp(scaled(*logit, best, 1.0));
        }
        total += span_sum(&weights[..span.len()]);
    }
    Some(f64::from(best) + total.ln())
}

/// Natural log-probability of a logit under the norm of its row.
#[expect(clippy::cast_possible_truncation, reason = "a log-probability is reported as f32")]
pub(super) fn log_prob(logit: f32, norm: f64) -> f32 {
    if logit.is_nan() { f32::NEG_INFINITY } else { (f64::from(logit.min(f32::MAX)) - norm) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        let mut x = 0.0_f32;
        while x > SMALLEST {
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "exp({x})");
            x -= 0.001_7;
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::NAN), 0.0);
    }

    #[test]
    fn the_largest_ignores_what_is_no_number() {
        assert_eq!(max(&[]), None);
        assert_eq!(max(&[f32::NAN; 11]), None);
        assert_eq!(max(&[f32::NEG_INFINITY; 11]), None);
        let mut row = vec![f32::NAN; 21];
        row[20] = -3.0;
        assert_eq!(max(&row), Some(-3.0));
        row[3] = f32::INFINITY;
        assert_eq!(max(&row), Some(f32::MAX));
    }

    #[test]
    fn log_sum_exp_agrees_with_f64() {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let row: Vec<f32> = (0..3000_u32).map(|i| ((i * 7919) % 1000) as f32 * 0.03 - 20.0).collect();
        let exact = row.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
        assert!((log_sum_exp(&row).unwrap() - exact).abs() < 1e-6);
    }

    #[test]
    fn odd_numbers_weigh_as_documented() {
        let row = [f32::INFINITY, f32::NAN, f32::NEG_INFINITY, 0.0, f32::MAX];
        let mut weights = Vec::new();
        weigh(&row, max(&row).unwrap(), 1.0, &mut weights);
        assert_eq!(weights, [1.0, 0.0, 0.0, 0.0, 1.0]);
    }
}
