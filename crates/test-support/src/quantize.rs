//! Simple quantizers: floats to the blocks of a GGUF tensor.

use formats::gguf::TensorType;
use half::{bf16, f16};

/// What the codes of IQ4_NL stand for (llama.cpp, `kvalues_iq4nl`).
const IQ4_NL: [f32; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];
/// What the codes of MXFP4 stand for (OCP Microscaling Formats 1.0, E2M1).
const E2M1: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Encodes whole rows of `values` as a tensor of type `ty`; `None` for types that have no quantizer here (those of
/// super-blocks) and for values that are not whole blocks.
#[must_use]
pub fn quantize(ty: TensorType, values: &[f32]) -> Option<Vec<u8>> {
    let bytes = |encode: fn(f32) -> Vec<u8>| values.iter().flat_map(|&x| encode(x)).collect();
    let block: fn(&[f32; 32]) -> Vec<u8> = match ty {
        TensorType::F32 => return Some(bytes(|x| x.to_le_bytes().to_vec())),
        TensorType::F16 => return Some(bytes(|x| f16::from_f32(x).to_le_bytes().to_vec())),
        TensorType::BF16 => return Some(bytes(|x| bf16::from_f32(x).to_le_bytes().to_vec())),
        TensorType::Q4_0 => q4_0,
        TensorType::Q4_1 => q4_1,
        TensorType::Q5_0 => q5_0,
        TensorType::Q5_1 => q5_1,
        TensorType::Q8_0 => q8_0,
        TensorType::IQ4_NL => iq4_nl,
        TensorType::MXFP4 => mxfp4,
        TensorType::Q2_K
        | TensorType::Q3_K
        | TensorType::Q4_K
        | TensorType::Q5_K
        | TensorType::Q6_K
        | TensorType::IQ4_XS => return None,
    };
    let (blocks, rest) = values.as_chunks::<32>();
    rest.is_empty().then(|| blocks.iter().flat_map(block).collect())
}

/// The value with the largest magnitude, with its sign.
fn extreme(block: &[f32; 32]) -> f32 {
    block.iter().copied().fold(0.0, |best: f32, x| if x.abs() > best.abs() { x } else { best })
}

/// The nearest code from 0 to `max` for `x` in steps of `scale` above `low`.
fn code(x: f32, low: f32, scale: f32, max: u8) -> u8 {
    if scale == 0.0 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the codes")]
    let code = ((x - low) / scale).round().clamp(0.0, f32::from(max)) as u8;
    code
}

/// Low half of the bytes: the first 16 codes; high half: the others.
fn nibbles(codes: &[u8; 32]) -> impl Iterator<Item = u8> {
    (0..16).map(|i| (codes[i] & 15) | (codes[i + 16] & 15) << 4)
}

fn q4_0(block: &[f32; 32]) -> Vec<u8> {
    let scale = f16::from_f32(extreme(block) / -8.0);
    let d = scale.to_f32();
    let codes = block.map(|x| code(x, -8.0 * d, d, 15));
    scale.to_le_bytes().into_iter().chain(nibbles(&codes)).collect()
}

fn q4_1(block: &[f32; 32]) -> Vec<u8> {
    let (scales, codes) = with_minimum(block, 15);
    scales.into_iter().chain(nibbles(&codes)).collect()
}

fn q5_1(block: &[f32; 32]) -> Vec<u8> {
    let (scales, codes) = with_minimum(block, 31);
    scales.into_iter().chain(high_bits(&codes)).chain(nibbles(&codes)).collect()
}

/// Scale and minimum as bytes, and codes up to `max`.
fn with_minimum(block: &[f32; 32], max: u8) -> (Vec<u8>, [u8; 32]) {
    let low = block.iter().copied().fold(f32::INFINITY, f32::min);
    let high = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (scale, min) = (f16::from_f32((high - low) / f32::from(max)), f16::from_f32(low));
    let codes = block.map(|x| code(x, min.to_f32(), scale.to_f32(), max));
    ([scale.to_le_bytes(), min.to_le_bytes()].concat(), codes)
}

fn q5_0(block: &[f32; 32]) -> Vec<u8> {
    let scale = f16::from_f32(extreme(block) / -16.0);
    let d = scale.to_f32();
    let codes = block.map(|x| code(x, -16.0 * d, d, 31));
    scale.to_le_bytes().into_iter().chain(high_bits(&codes)).chain(nibbles(&codes)).collect()
}

/// The fifth bits of the codes.
fn high_bits(codes: &[u8; 32]) -> [u8; 4] {
    codes.iter().enumerate().fold(0u32, |bits, (i, c)| bits | u32::from(c >> 4) << i).to_le_bytes()
}

fn iq4_nl(block: &[f32; 32]) -> Vec<u8> {
    let scale = f16::from_f32(extreme(block) / -127.0);
    let codes = block.map(|x| nearest(x, scale.to_f32(), &IQ4_NL));
    scale.to_le_bytes().into_iter().chain(nibbles(&codes)).collect()
}

fn mxfp4(block: &[f32; 32]) -> Vec<u8> {
    // The largest value, 6, has the exponent 2.
    let exponent = (extreme(block).abs().to_bits() >> 23).saturating_sub(2).max(1);
    let d = f32::from_bits(exponent << 23);
    let codes = block.map(|x| nearest(x, d, &E2M1));
    std::iter::once(exponent.to_le_bytes()[0]).chain(nibbles(&codes)).collect()
}

/// The code whose value times `scale` is nearest to `x`.
fn nearest(x: f32, scale: f32, values: &[f32; 16]) -> u8 {
    let distance = |code: &u8| (values[usize::from(*code)] * scale - x).abs();
    (0..16).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

fn q8_0(block: &[f32; 32]) -> Vec<u8> {
    let scale = f16::from_f32(extreme(block).abs() / 127.0);
    let d = scale.to_f32();
    // Codes are signed: 0 stands in the middle.
    let codes = block.map(|x| code(x, -128.0 * d, d, 255).wrapping_sub(128));
    scale.to_le_bytes().into_iter().chain(codes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    fn half_at(bytes: &[u8], at: usize) -> f32 {
        f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
    }

    /// Decodes a block as the format describes it.
    fn decode(ty: TensorType, b: &[u8]) -> Vec<f32> {
        let nibble = |from: usize, i: usize| (b[from + i % 16] >> (i / 16 * 4)) & 15;
        (0..32)
            .map(|i| match ty {
                TensorType::Q4_0 => half_at(b, 0) * (f32::from(nibble(2, i)) - 8.0),
                TensorType::Q4_1 => half_at(b, 0) * f32::from(nibble(4, i)) + half_at(b, 2),
                TensorType::Q5_0 => {
                    let high = u32::from_le_bytes([b[2], b[3], b[4], b[5]]) >> i & 1;
                    half_at(b, 0) * (f32::from(nibble(6, i)) + 16.0 * high as f32 - 16.0)
                }
                TensorType::Q5_1 => {
                    let high = u32::from_le_bytes([b[4], b[5], b[6], b[7]]) >> i & 1;
                    half_at(b, 0) * (f32::from(nibble(8, i)) + 16.0 * high as f32) + half_at(b, 2)
                }
                TensorType::Q8_0 => half_at(b, 0) * f32::from(b[2 + i].cast_signed()),
                TensorType::IQ4_NL => half_at(b, 0) * IQ4_NL[usize::from(nibble(2, i))],
                TensorType::MXFP4 => 2f32.powi(i32::from(b[0]) - 127) * E2M1[usize::from(nibble(1, i))],
                _ => unreachable!("no block type"),
            })
            .collect()
    }

    #[test]
    fn blocks_decode_to_within_one_step() {
        let mut random = Random::new(5);
        // Of the uneven types the ends cost most: 113 stands for up to 127, and 6 for up to 8.
        for (ty, steps) in [
            (TensorType::Q4_0, 16.0),
            (TensorType::Q4_1, 15.0),
            (TensorType::Q5_0, 32.0),
            (TensorType::Q5_1, 31.0),
            (TensorType::Q8_0, 254.0),
            (TensorType::IQ4_NL, 16.0),
            (TensorType::MXFP4, 8.0),
        ] {
            for round in 0..200 {
                let values: Vec<f32> = (0..32).map(|_| if round == 0 { 0.0 } else { random.normal() }).collect();
                let bytes = quantize(ty, &values).unwrap();
                assert_eq!(bytes.len() as u64, ty.block_bytes());
                let range = 2.0 * values.iter().fold(0f32, |m, x| m.max(x.abs()));
                for (x, y) in values.iter().zip(decode(ty, &bytes)) {
                    // Half-float scales and the one-sided range of Q4_0 and Q5_0 cost up to another step.
                    assert!((x - y).abs() <= 1.1 * range / steps, "{ty} {x} {y}");
                }
            }
        }
    }

    #[test]
    fn floats_keep_their_bytes() {
        assert_eq!(quantize(TensorType::F32, &[1.5]), Some(1.5f32.to_le_bytes().to_vec()));
        assert_eq!(quantize(TensorType::F16, &[1.5]), Some(f16::from_f32(1.5).to_le_bytes().to_vec()));
        assert_eq!(quantize(TensorType::BF16, &[1.5]), Some(bf16::from_f32(1.5).to_le_bytes().to_vec()));
        assert_eq!(quantize(TensorType::Q8_0, &[1.5]), None);
        assert_eq!(quantize(TensorType::Q6_K, &[1.5; 256]), None);
    }
}
