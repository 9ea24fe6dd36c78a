//! Floats, and the types with blocks of 32 and scales of their own.

use half::{bf16, f16};

use super::fit::{affine, nearest, symmetric};

/// The code from 0 to `max` that is nearest to `x` in steps of `scale` above `min`.
pub(super) fn code(x: f32, scale: f32, min: f32, max: u8) -> u8 {
    if scale == 0.0 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the codes")]
    let code = nearest(((x - min) / scale).clamp(0.0, f32::from(max))) as u8;
    code
}

/// Writes a scale as half float and gives what a reader sees; one too large for it becomes the largest.
pub(super) fn put_f16(value: f32, out: &mut [u8]) -> f32 {
    let half = f16::from_f32(value.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()));
    out.copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// One value as it is.
pub(super) fn f32(x: &[f32], out: &mut [u8]) {
    out.copy_from_slice(&x[0].to_le_bytes());
}

/// One value as half float.
pub(super) fn f16(x: &[f32], out: &mut [u8]) {
    put_f16(x[0], out);
}

/// One value, rounded to nearest.
pub(super) fn bf16(x: &[f32], out: &mut [u8]) {
    out.copy_from_slice(&bf16::from_f32(x[0]).to_le_bytes());
}

/// Writes nibbles: low halves are the first 16 codes, high halves the others.
fn put_nibbles(codes: &[u8; 32], out: &mut [u8]) {
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = (codes[i] & 15) | (codes[i + 16] & 15) << 4;
    }
}

/// Writes the fifth bits: bit `i` is that of code `i`.
fn put_fifth_bits(codes: &[u8; 32], out: &mut [u8]) {
    let bits = codes.iter().zip(0..).fold(0_u32, |bits, (code, i)| bits | u32::from(code >> 4) << i);
    out.copy_from_slice(&bits.to_le_bytes());
}

/// Codes of a block in steps of `scale` above `min`.
fn codes(x: &[f32], scale: f32, min: f32, max: u8) -> [u8; 32] {
    let mut codes = [0; 32];
    for (out, &x) in codes.iter_mut().zip(x) {
        *out = code(x, scale, min, max);
    }
    codes
}

/// d f16, 16 nibble bytes; weight = d * (code - 8).
pub(super) fn q4_0(x: &[f32], out: &mut [u8]) {
    let d = put_f16(symmetric(x, 8), &mut out[..2]);
    put_nibbles(&codes(x, d, -8.0 * d, 15), &mut out[2..]);
}

/// d f16, m f16, 16 nibble bytes; weight = d * code + m.
pub(super) fn q4_1(x: &[f32], out: &mut [u8]) {
    let fit = affine(x, 15, f32::INFINITY);
    let (d, m) = (put_f16(fit.scale, &mut out[..2]), put_f16(fit.min, &mut out[2..4]));
    put_nibbles(&codes(x, d, m, 15), &mut out[4..]);
}

/// d f16, 32 fifth bits, 16 nibble bytes; weight = d * (code - 16).
pub(super) fn q5_0(x: &[f32], out: &mut [u8]) {
    let d = put_f16(symmetric(x, 16), &mut out[..2]);
    let codes = codes(x, d, -16.0 * d, 31);
    put_fifth_bits(&codes, &mut out[2..6]);
    put_nibbles(&codes, &mut out[6..]);
}

/// d f16, m f16, 32 fifth bits, 16 nibble bytes; weight = d * code + m.
pub(super) fn q5_1(x: &[f32], out: &mut [u8]) {
    let fit = affine(x, 31, f32::INFINITY);
    let (d, m) = (put_f16(fit.scale, &mut out[..2]), put_f16(fit.min, &mut out[2..4]));
    let codes = codes(x, d, m, 31);
    put_fifth_bits(&codes, &mut out[4..8]);
    put_nibbles(&codes, &mut out[8..]);
}

/// d f16, 32 signed bytes; weight = d * code. The largest magnitude meets 127: with so many codes nothing else is gained.
pub(super) fn q8_0(x: &[f32], out: &mut [u8]) {
    let most = x.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let d = put_f16(most / 127.0, &mut out[..2]);
    for (byte, &x) in out[2..].iter_mut().zip(x) {
        // From -127 on, 0 in the middle.
        *byte = code(x, d, -127.0 * d, 254).wrapping_sub(127);
    }
}
