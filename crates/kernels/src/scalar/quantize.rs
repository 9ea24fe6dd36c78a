//! Activations to 8 bits.

use crate::activations::BlockScale;
use crate::panel::BLOCK;

/// Quantizes a block of 32.
pub(crate) fn quantize_block(x: &[f32; BLOCK], codes: &mut [i8; BLOCK]) -> BlockScale {
    let max = x.iter().fold(0.0f32, |max, v| if v.abs() > max { v.abs() } else { max });
    if !max.is_finite() || x.iter().any(|v| v.is_nan()) {
        codes.fill(0);
        return BlockScale::NOT_A_NUMBER;
    }
    let (d, inverse) = scale_of(max);
    let mut half_sums = [0i32; 2];
    for (i, (code, v)) in codes.iter_mut().zip(x).enumerate() {
        *code = round_code(v * inverse);
        half_sums[i / 16] += i32::from(*code);
    }
    BlockScale::new(d, half_sums)
}

/// Scale of a block whose largest magnitude is `max`, and its inverse. Blocks too small for a normal inverse are zero.
#[inline(always)]
pub(crate) fn scale_of(max: f32) -> (f32, f32) {
    if max < 1e-30 { (0.0, 0.0) } else { (max / 127.0, 127.0 / max) }
}

/// Nearest integer, half to even.
#[expect(clippy::cast_possible_truncation, reason = "clamped to the range of i8")]
fn round_code(v: f32) -> i8 {
    v.round_ties_even().clamp(-127.0, 127.0) as i8
}
