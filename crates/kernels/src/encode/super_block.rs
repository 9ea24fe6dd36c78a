//! The types with super-blocks of 256: the scales of their parts are integers in steps of the super-block's own.

use super::fit::{Affine, affine, affine_error, symmetric, weights};
use super::simple::{code, put_f16};

/// Largest 6-bit scale or minimum.
const SIX_BITS: u8 = 63;

/// Fits each part of 32, writes d and dmin (f16) and the twelve bytes of 6-bit scales and minimums, and gives each part's
/// scale and minimum as a reader sees them.
fn scales_and_minimums(x: &[f32], max: u8, out: &mut [u8]) -> [Affine; 8] {
    let mut fits = [Affine::default(); 8];
    for (fit, part) in fits.iter_mut().zip(x.chunks_exact(32)) {
        *fit = affine(part, max, 0.0);
    }
    let most = |value: fn(&Affine) -> f32| fits.iter().map(value).fold(0.0, f32::max) / f32::from(SIX_BITS);
    let (d, dmin) = (most(|fit| fit.scale), most(|fit| -fit.min));
    let (d, dmin) = (put_f16(d, &mut out[..2]), put_f16(dmin, &mut out[2..4]));
    let (mut scales, mut minimums) = ([0; 8], [0; 8]);
    for (j, (fit, x)) in fits.iter_mut().zip(x.chunks_exact(32)).enumerate() {
        let seen = |scale, minimum| Affine { scale: d * f32::from(scale), min: -dmin * f32::from(minimum) };
        let (scale, minimum) = (code(fit.scale, d, 0.0, SIX_BITS), code(-fit.min, dmin, 0.0, SIX_BITS));
        (*fit, scales[j], minimums[j]) = (seen(scale, minimum), scale, minimum);
        // Rounding one of the two can be made good by the other: their neighbours are tried too.
        let around = |code: u8| code.saturating_sub(1)..=SIX_BITS.min(code + 1);
        let (weights, mut least) = (weights(x), f32::INFINITY);
        for (scale, minimum) in around(scale).flat_map(|scale| around(minimum).map(move |minimum| (scale, minimum))) {
            let error = affine_error(x, &weights, seen(scale, minimum), f32::from(max));
            if error < least {
                (least, *fit, scales[j], minimums[j]) = (error, seen(scale, minimum), scale, minimum);
            }
        }
    }
    put_six_bits(&scales, &minimums, &mut out[4..16]);
    fits
}

/// Eight scales and eight minimums of 6 bits in twelve bytes: the first four of each whole, above them the two upper bits
/// of the others, whose lower bits share the last four bytes.
fn put_six_bits(scales: &[u8; 8], minimums: &[u8; 8], out: &mut [u8]) {
    for j in 0..4 {
        out[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        out[j + 4] = minimums[j] | (minimums[j + 4] >> 4) << 6;
        out[j + 8] = (scales[j + 4] & 15) | (minimums[j + 4] & 15) << 4;
    }
}

/// d, dmin f16, 12 bytes of scales, 128 nibble bytes: low halves are one part of 32, high halves the next.
pub(super) fn q4k(x: &[f32], out: &mut [u8]) {
    let fits = scales_and_minimums(x, 15, &mut out[..16]);
    for (part, (fit, x)) in fits.iter().zip(x.chunks_exact(32)).enumerate() {
        let bytes = &mut out[16 + part / 2 * 32..][..32];
        for (byte, &x) in bytes.iter_mut().zip(x) {
            *byte |= code(x, fit.scale, fit.min, 15) << (part % 2 * 4);
        }
    }
}

/// As Q4_K, with 32 bytes of fifth bits (bit p: that of part p) before the nibbles.
pub(super) fn q5k(x: &[f32], out: &mut [u8]) {
    let fits = scales_and_minimums(x, 31, &mut out[..16]);
    let (high, low) = out[16..].split_at_mut(32);
    for (part, (fit, x)) in fits.iter().zip(x.chunks_exact(32)).enumerate() {
        let bytes = &mut low[part / 2 * 32..][..32];
        for ((byte, high), &x) in bytes.iter_mut().zip(&mut *high).zip(x) {
            let code = code(x, fit.scale, fit.min, 31);
            *byte |= (code & 15) << (part % 2 * 4);
            *high |= (code >> 4) << part;
        }
    }
}

/// 128 bytes of low nibbles, 64 of the two bits above, 16 signed scales of parts of 16, d f16;
/// weight = d * scale * (code - 32).
pub(super) fn q6k(x: &[f32], out: &mut [u8]) {
    let (codes, scales) = out.split_at_mut(192);
    let mut fits = [0.0; 16];
    for (fit, part) in fits.iter_mut().zip(x.chunks_exact(16)) {
        *fit = symmetric(part, 32);
    }
    let extreme = fits.iter().copied().fold(0.0, |best: f32, x| if x.abs() > best.abs() { x } else { best });
    // The extreme scale becomes -128, which has no counterpart.
    let d = put_f16(extreme / -128.0, &mut scales[16..]);
    let (low, high) = codes.split_at_mut(128);
    for (part, (fit, x)) in fits.iter().zip(x.chunks_exact(16)).enumerate() {
        let scale = code(*fit, d, -128.0 * d, 255).wrapping_sub(128).cast_signed();
        scales[part] = scale.cast_unsigned();
        let step = d * f32::from(scale);
        // Halves of 128 weights have four quarters of 32: two share the nibble bytes, all four the bytes above.
        let (half, quarter, first) = (part / 8, part % 8 / 2, part % 2 * 16);
        let low = &mut low[half * 64 + quarter % 2 * 32 + first..][..16];
        let high = &mut high[half * 32 + first..][..16];
        for ((low, high), &x) in low.iter_mut().zip(high).zip(x) {
            let code = code(x, step, -32.0 * step, 63);
            *low |= (code & 15) << (quarter / 2 * 4);
            *high |= (code >> 4) << (2 * quarter);
        }
    }
}
