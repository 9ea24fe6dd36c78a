//! The blocks of GGUF tensors, as llama.cpp's `ggml-common.h` lays them out: where the scales stand in them, and which code
//! each weight has.

use super::BLOCK;
use crate::WeightType;

/// Where the f16 scales of a block stand: d, then m or dmin if there is one.
pub(super) fn half_scales(ty: WeightType) -> &'static [usize] {
    match ty {
        WeightType::F32 | WeightType::F16 | WeightType::BF16 | WeightType::MXFP4 => &[],
        WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 | WeightType::IQ4NL | WeightType::IQ4XS => &[0],
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K => &[0, 2],
        WeightType::Q2K => &[80, 82],
        WeightType::Q3K => &[108],
        WeightType::Q6K => &[208],
    }
}

/// Whether all weights of a row are finite numbers: all floats, or the half floats that blocks are scaled with. Nothing ends
/// the loops over floats early, so that they run on vectors.
pub(crate) fn is_finite(ty: WeightType, row: &[u8]) -> bool {
    const F16: u16 = 0x7c00;
    const BF16: u16 = 0x7f80;
    const F32: u32 = 0x7f80_0000;
    // An exponent of ones alone.
    let is_broken = |half: [u8; 2], exponent: u16| u16::from_le_bytes(half) & exponent == exponent;
    let halves = |exponent| !row.as_chunks().0.iter().fold(false, |broken, &half| broken | is_broken(half, exponent));
    match ty {
        WeightType::F32 => {
            let floats = row.as_chunks().0.iter();
            !floats.fold(false, |broken, &float| broken | (u32::from_le_bytes(float) & F32 == F32))
        }
        WeightType::F16 => halves(F16),
        WeightType::BF16 => halves(BF16),
        _ => {
            let scales = half_scales(ty);
            let is_good = |block: &[u8]| scales.iter().all(|&at| !is_broken([block[at], block[at + 1]], F16));
            row.chunks_exact(ty.block_bytes()).all(is_good)
        }
    }
}

/// The scales of 32 weights, the `b`th of their block, that a panel keeps as bytes.
pub(super) fn byte_scales(ty: WeightType, src: &[u8], b: usize) -> [Option<u8>; 2] {
    match ty {
        WeightType::Q2K => [src[2 * b], src[2 * b + 1]].map(Some),
        WeightType::Q3K => [q3k_scale(&src[96..108], 2 * b), q3k_scale(&src[96..108], 2 * b + 1)].map(Some),
        WeightType::Q4K | WeightType::Q5K => q4k_scale_min(&src[4..16], b).map(Some),
        WeightType::Q6K => [src[192 + 2 * b], src[192 + 2 * b + 1]].map(Some),
        WeightType::IQ4XS => [Some(iq4xs_scale(&src[2..8], b)), None],
        WeightType::MXFP4 => [Some(src[0]), None],
        _ => [None; 2],
    }
}

/// Scale `j` (of 16 weights, signed) of a Q3_K block's twelve scale bytes: eight of low nibbles, four of high pairs.
fn q3k_scale(scales: &[u8], j: usize) -> u8 {
    let low = if j < 8 { scales[j] & 15 } else { scales[j - 8] >> 4 };
    let high = scales[8 + j % 4] >> (2 * (j / 4)) & 3;
    (low | high << 4).wrapping_sub(32)
}

/// Scale and minimum of sub-block `j` of a Q4_K block's twelve scale bytes (6 bits each, as ggml packs them).
fn q4k_scale_min(scales: &[u8], j: usize) -> [u8; 2] {
    if j < 4 {
        [scales[j] & 63, scales[j + 4] & 63]
    } else {
        [(scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4, scales[j + 4] >> 4 | (scales[j] >> 6) << 4]
    }
}

/// Scale `j` (signed) of an IQ4_XS block: two bytes of high pairs, four of low nibbles.
fn iq4xs_scale(scales: &[u8], j: usize) -> u8 {
    let low = scales[2 + j / 2] >> (4 * (j % 2)) & 15;
    let high = scales[j / 4] >> (2 * (j % 4)) & 3;
    (low | high << 4).wrapping_sub(32)
}

/// The bytes of 32 codes, the `b`th of their block, when a panel keeps them as they are: whole codes, or nibbles with the
/// first half of the codes in the low ones.
pub(super) fn plane_bytes(ty: WeightType, src: &[u8], b: usize) -> Option<&[u8]> {
    match ty {
        WeightType::Q4_0 | WeightType::Q8_0 | WeightType::IQ4NL => Some(&src[2..]),
        WeightType::Q4_1 => Some(&src[4..]),
        WeightType::MXFP4 => Some(&src[1..]),
        WeightType::IQ4XS => Some(&src[8 + 16 * b..][..16]),
        _ => None,
    }
}

/// The 32 codes, the `b`th of their block, of the other types.
pub(super) fn codes(ty: WeightType, src: &[u8], b: usize) -> [u8; BLOCK] {
    let (half, quarter) = (b / 4, b % 4);
    match ty {
        WeightType::Q5_0 => five_bits(&src[2..]),
        WeightType::Q5_1 => five_bits(&src[4..]),
        WeightType::Q2K => std::array::from_fn(|k| src[16 + half * 32 + k] >> (2 * quarter) & 3),
        WeightType::Q3K => {
            std::array::from_fn(|k| (src[32 + half * 32 + k] >> (2 * quarter) & 3) | (src[k] >> b & 1) << 2)
        }
        WeightType::Q4K => std::array::from_fn(|k| paired_nibble(&src[16..], b, k)),
        WeightType::Q5K => std::array::from_fn(|k| paired_nibble(&src[48..], b, k) | (src[16 + k] >> b & 1) << 4),
        WeightType::Q6K => std::array::from_fn(|k| {
            let low = src[half * 64 + quarter % 2 * 32 + k];
            let nibble = if quarter < 2 { low & 15 } else { low >> 4 };
            nibble | (src[128 + half * 32 + k] >> (2 * quarter) & 3) << 4
        }),
        _ => [0; BLOCK],
    }
}

/// Of 4 bytes with the high bits and 16 with the nibbles.
fn five_bits(src: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|k| {
        let nibble = if k < 16 { src[4 + k] & 15 } else { src[4 + k - 16] >> 4 };
        nibble | (src[k / 8] >> (k % 8) & 1) << 4
    })
}

/// Nibble `k` of the `b`th 32: two neighbouring 32 share 32 bytes.
fn paired_nibble(nibbles: &[u8], b: usize, k: usize) -> u8 {
    nibbles[b / 2 * 32 + k] >> (b % 2 * 4) & 15
}
