//! Quantiles, and how far they can be trusted.

use test_support::Random;

/// Samples of the bootstrap.
const RESAMPLES: usize = 2_000;

/// A figure with its 95 % interval.
#[derive(Clone, Copy)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    from: f64,
    to: f64,
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} ({:.3} to {:.3})", self.value, self.from, self.to)
    }
}

/// The value below which `share` of them are.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a slice")]
    let place = (values.len().saturating_sub(1) as f64 * share).round() as usize;
    values[place]
}

/// `figure` of `items`, and the middle 95 % of it over samples of as many items drawn from them with replacement.
pub(crate) fn bootstrap<T: Copy>(items: &[T], random: &mut Random, figure: impl Fn(&[T]) -> f64) -> Estimate {
    let count = u32::try_from(items.len()).unwrap();
    let mut sample = items.to_vec();
    let mut figures: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            sample.iter_mut().for_each(|item| *item = items[random.below(count) as usize]);
            figure(&sample)
        })
        .collect();
    Estimate { value: figure(items), from: quantile(&mut figures, 0.025), to: quantile(&mut figures, 0.975) }
}
