//! Simple quantizers: floats to the blocks of a GGUF tensor.

use formats::gguf::TensorType;
use half::{bf16, f16};

/// Encodes whole rows of `values` as a tensor of type `ty`; `None` for types that have no quantizer here (`Q4_K`,
/// `Q6_K`) and for values that are not whole blocks.
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
        TensorType::Q8_0 => q8_0,
        TensorType::Q4_K | TensorType::Q6_K => return None,
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
    let low = block.iter().copied().fold(f32::INFINITY, f32::min);
    let high = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (scale, min) = (f16::from_f32((high - low) / 15.0), f16::from_f32(low));
    let codes = block.map(|x| code(x, min.to_f32(), scale.to_f32(), 15));
    scale.to_le_bytes().into_iter().chain(min.to_le_bytes()).chain(nibbles(&codes)).collect()
}

fn q5_0(block: &[f32; 32]) -> Vec<u8> {
    let scale = f16::from_f32(extreme(block) / -16.0);
    let d = scale.to_f32();
    let codes = block.map(|x| code(x, -16.0 * d, d, 31));
    let high_bits = codes.iter().enumerate().fold(0u32, |bits, (i, c)| bits | u32::from(c >> 4) << i);
    scale.to_le_bytes().into_iter().chain(high_bits.to_le_bytes()).chain(nibbles(&codes)).collect()
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
                TensorType::Q8_0 => half_at(b, 0) * f32::from(b[2 + i].cast_signed()),
                _ => unreachable!("no block type"),
            })
            .collect()
    }

    #[test]
    fn blocks_decode_to_within_one_step() {
        let mut random = Random::new(5);
        for (ty, steps) in
            [(TensorType::Q4_0, 16.0), (TensorType::Q4_1, 15.0), (TensorType::Q5_0, 32.0), (TensorType::Q8_0, 254.0)]
        {
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
