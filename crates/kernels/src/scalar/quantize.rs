//! Activations to 8 bits.

use crate::activations::BlockScale;
use crate::panel::BLOCK;

/// Quantizes blocks of 32: `x` and `codes` hold `scales.len() * 32` values.
pub(crate) fn quantize_blocks(x: &[f32], codes: &mut [i8], scales: &mut [BlockScale]) {
    for ((x, codes), scale) in x.chunks_exact(BLOCK).zip(codes.chunks_exact_mut(BLOCK)).zip(scales) {
        let max = x.iter().fold(0.0f32, |max, v| if v.abs() > max { v.abs() } else { max });
        if !max.is_finite() || x.iter().any(|v| v.is_nan()) {
            // Kept visible: whatever is made of this block becomes NaN.
            codes.fill(0);
            *scale = BlockScale { d: f32::NAN, scaled_sum: f32::NAN, half_sums: [0; 2] };
            continue;
        }
        let (d, inverse) = scale_of(max);
        let mut half_sums = [0i32; 2];
        for (i, (code, v)) in codes.iter_mut().zip(x).enumerate() {
            *code = round_code(v * inverse);
            half_sums[i / 16] += i32::from(*code);
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 32 * 127: exact")]
        let sum = (half_sums[0] + half_sums[1]) as f32;
        *scale = BlockScale { d, scaled_sum: d * sum, half_sums };
    }
}

/// Scale of a block whose largest magnitude is `max`, and its inverse. Blocks too small for a normal inverse are zero.
pub(crate) fn scale_of(max: f32) -> (f32, f32) {
    if max < 1e-30 { (0.0, 0.0) } else { (max / 127.0, 127.0 / max) }
}

/// Nearest integer, half to even.
#[expect(clippy::cast_possible_truncation, reason = "clamped to the range of i8")]
fn round_code(v: f32) -> i8 {
    v.round_ties_even().clamp(-127.0, 127.0) as i8
}
