//! Scales for a run of weights, chosen so that the sum of squared errors is small.
//!
//! For given codes the best scale (and minimum) is a least-squares fit; for given scales the best codes are the nearest.
//! A few starting scales around the plain one are tried, each rounded to codes and fitted once; the best fit is kept.
//! Each value counts by its own size beside the run's root mean square: an error in a large weight does more harm.

/// Starting scales tried to each side of the plain one.
const TRIES: i16 = 10;
/// How far neighbouring ones are apart, in codes at the far end of the range.
const TRY_STEP: f32 = 0.1;
/// Values in the longest run.
const RUN_MAX: usize = 32;

/// A run of weights as `scale * code + min`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Affine {
    pub(super) scale: f32,
    pub(super) min: f32,
}

/// The nearest integer, ties to even; for magnitudes below 2^22 (faster than `round_ties_even` without SSE 4.1).
pub(super) fn nearest(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// How much each value's error counts.
pub(super) fn weights(x: &[f32]) -> [f32; RUN_MAX] {
    #[expect(clippy::cast_precision_loss, reason = "at most 32")]
    let mean_square = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    let mut weights = [0.0; RUN_MAX];
    for (weight, x) in weights.iter_mut().zip(x) {
        *weight = mean_square.sqrt() + x.abs();
    }
    weights
}

/// Scale and minimum of codes `0 ..= max`; the minimum is at most `min_most` (0 where the format subtracts it, infinity
/// where it has a sign).
pub(super) fn affine(x: &[f32], max: u8, min_most: f32) -> Affine {
    let low = x.iter().copied().fold(f32::INFINITY, f32::min).min(min_most);
    let high = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let max = f32::from(max);
    if high <= low {
        return Affine { scale: 0.0, min: low };
    }
    let weights = weights(x);
    let plain = Affine { scale: (high - low) / max, min: low };
    let mut best = (plain, f32::INFINITY);
    for step in -TRIES..=TRIES {
        let inverse = (max + TRY_STEP * f32::from(step)) / (high - low);
        let code = |x: f32| nearest((x - low) * inverse).clamp(0.0, max);
        let fitted = if step == 0 { Some(plain) } else { least_squares(x, &weights, code, min_most) };
        for fit in fitted.into_iter().filter(|fit| fit.scale > 0.0 && fit.scale.is_finite()) {
            let error = affine_error(x, &weights, fit, max);
            if error < best.1 {
                best = (fit, error);
            }
        }
    }
    best.0
}

/// Scale and minimum that fit the values to their codes best.
fn least_squares(x: &[f32], weights: &[f32], code: impl Fn(f32) -> f32, min_most: f32) -> Option<Affine> {
    let [mut w, mut wl, mut wll, mut wx, mut wlx] = [0.0_f32; 5];
    for (&x, &weight) in x.iter().zip(weights) {
        let code = code(x);
        w += weight;
        wl += weight * code;
        wll += weight * code * code;
        wx += weight * x;
        wlx += weight * code * x;
    }
    let determinant = w * wll - wl * wl;
    if determinant > 0.0 {
        let min = (wll * wx - wl * wlx) / determinant;
        if min <= min_most {
            return Some(Affine { scale: (w * wlx - wl * wx) / determinant, min });
        }
    }
    // The minimum stays at its bound.
    (min_most.is_finite() && wll > 0.0).then(|| Affine { scale: (wlx - min_most * wl) / wll, min: min_most })
}

/// The weighted sum of squared errors of codes `0 ..= max`.
pub(super) fn affine_error(x: &[f32], weights: &[f32], Affine { scale, min }: Affine, max: f32) -> f32 {
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let error = |x: f32| scale * nearest((x - min) * inverse).clamp(0.0, max) + min - x;
    x.iter().zip(weights).map(|(&x, weight)| weight * error(x) * error(x)).sum()
}

/// The scale (of either sign) of codes `-half ..= half - 1`: the value with the largest magnitude is to meet `-half`,
/// which has no counterpart.
pub(super) fn symmetric(x: &[f32], half: u8) -> f32 {
    let extreme = x.iter().copied().fold(0.0, |best: f32, x| if x.abs() > best.abs() { x } else { best });
    if extreme == 0.0 {
        return 0.0;
    }
    let (weights, half) = (weights(x), f32::from(half));
    let mut best = (extreme / -half, f32::NEG_INFINITY);
    for step in -TRIES..=TRIES {
        let inverse = -(half + TRY_STEP * f32::from(step)) / extreme;
        if !inverse.is_finite() {
            continue;
        }
        let [mut wlx, mut wll] = [0.0_f32; 2];
        for (&x, &weight) in x.iter().zip(&weights) {
            let code = nearest(x * inverse).clamp(-half, half - 1.0);
            wlx += weight * code * x;
            wll += weight * code * code;
        }
        // The error of the fitted scale is the sum of the weighted squares less this.
        let explained = wlx * wlx / wll;
        if wll > 0.0 && explained > best.1 {
            best = (wlx / wll, explained);
        }
    }
    best.0
}
