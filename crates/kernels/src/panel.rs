//! The panel layouts, and their scalar packing and unpacking.
//!
//! A panel holds eight rows. For each block of 32 columns it has the eight rows' scales, then the weights in groups of
//! four columns: byte `g * 32 + lane * 4 + j` belongs to column `g * 4 + j` of row `lane`. Nibbles: the low one is
//! column `g * 4 + j` (`g` below 4), the high one column `16 + g * 4 + j`. Types with super-blocks of 256 put what all
//! eight blocks share in a header before them. Every repack keeps the bits of the file, so nothing is lost.
//!
//! | type | header | scales of a block | high bits | weights |
//! |---|---|---|---|---|
//! | Q4_0 | | d f16 x 8 | | 128 nibble bytes |
//! | Q4_1 | | d, m f16 x 8 | | 128 |
//! | Q5_0 | | d f16 x 8 | 32: bit g low, bit 4 + g high half | 128 |
//! | Q8_0 | | d f16 x 8 | | 256 bytes |
//! | Q4K | d, dmin f16 x 8 | sc, m u8 x 8 | | 128 |
//! | Q6K | d f16 x 8 | sc i8 x 8 of each half | 2 x 32: bits 2g of each half | 128 |
//! | F32, F16, BF16 | | | | `[column][8 rows]` |

use half::{bf16, f16};

use crate::WeightType;

/// Rows in a panel.
pub(crate) const LANES: usize = 8;
/// Columns in a block.
pub(crate) const BLOCK: usize = 32;

/// Where things stand in a panel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) ty: WeightType,
    /// Blocks that share a header.
    pub(crate) super_blocks: usize,
    pub(crate) header_bytes: usize,
    /// Scales, high bits and weights of one block.
    pub(crate) block_bytes: usize,
}

impl Layout {
    pub(crate) fn of(ty: WeightType) -> Self {
        let (super_blocks, header_bytes, block_bytes) = match ty {
            WeightType::F32 => (1, 0, 4 * LANES),
            WeightType::F16 | WeightType::BF16 => (1, 0, 2 * LANES),
            WeightType::Q4_0 => (1, 0, 16 + 128),
            WeightType::Q4_1 => (1, 0, 32 + 128),
            WeightType::Q5_0 => (1, 0, 16 + 32 + 128),
            WeightType::Q8_0 => (1, 0, 16 + 256),
            WeightType::Q4K => (8, 32, 16 + 128),
            WeightType::Q6K => (8, 16, 16 + 64 + 128),
        };
        Self { ty, super_blocks, header_bytes, block_bytes }
    }

    /// Columns that one block covers.
    fn block_cols(self) -> usize {
        if self.ty.is_float() { 1 } else { BLOCK }
    }

    pub(crate) fn panel_bytes(self, cols: usize) -> usize {
        cols / self.block_cols() / self.super_blocks * self.super_bytes()
    }

    pub(crate) fn super_bytes(self) -> usize {
        self.header_bytes + self.super_blocks * self.block_bytes
    }

    /// Offsets of the header and of the block itself for block `b` of a panel.
    pub(crate) fn offsets(self, b: usize) -> (usize, usize) {
        let header = b / self.super_blocks * self.super_bytes();
        (header, header + self.header_bytes + b % self.super_blocks * self.block_bytes)
    }
}

/// One block of 32 weights of one row: the stored integers and scales, not yet multiplied.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LaneBlock {
    /// Unsigned codes (two's complement for Q8_0).
    pub(crate) codes: [u8; BLOCK],
    pub(crate) d: f32,
    /// Q4_1: the minimum. Q4K: dmin.
    pub(crate) m: f32,
    /// Q4K: scale and minimum. Q6K: the scales of both halves (two's complement).
    pub(crate) sub: [u8; 2],
}

impl LaneBlock {
    /// The weights as numbers.
    fn dequantize(&self, ty: WeightType, out: &mut [f32]) {
        let [sub0, sub1] = self.sub;
        for (k, (y, &code)) in out.iter_mut().zip(&self.codes).enumerate() {
            let q = f32::from(code);
            *y = match ty {
                WeightType::Q4_0 => self.d * (q - 8.0),
                WeightType::Q4_1 => self.d.mul_add(q, self.m),
                WeightType::Q5_0 => self.d * (q - 16.0),
                WeightType::Q4K => self.d * f32::from(sub0) * q - self.m * f32::from(sub1),
                WeightType::Q6K => {
                    let scale = if k < BLOCK / 2 { sub0 } else { sub1 };
                    self.d * f32::from(scale.cast_signed()) * (q - 32.0)
                }
                _ => self.d * f32::from(code.cast_signed()),
            };
        }
    }
}

fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Copies groups of four bytes to the group positions of one lane.
fn scatter_groups(src: &[u8], lane: usize, dst: &mut [u8]) {
    for (g, group) in src.chunks_exact(4).enumerate() {
        dst[g * 32 + lane * 4..][..4].copy_from_slice(group);
    }
}

fn gather_groups(src: &[u8], lane: usize, dst: &mut [u8]) {
    for (g, group) in dst.chunks_exact_mut(4).enumerate() {
        group.copy_from_slice(&src[g * 32 + lane * 4..][..4]);
    }
}

/// Packs codes of at most 6 bits: nibbles to `weights`, the bits above to `high` (one vector for 5 bits, two for 6).
fn pack_codes(codes: &[u8; BLOCK], lane: usize, high: &mut [u8], weights: &mut [u8]) {
    for g in 0..4 {
        for j in 0..4 {
            let (low, up) = (codes[g * 4 + j], codes[16 + g * 4 + j]);
            weights[g * 32 + lane * 4 + j] = (low & 15) | (up & 15) << 4;
            match high.len() {
                32 => high[lane * 4 + j] |= (low >> 4) << g | (up >> 4) << (4 + g),
                64 => {
                    high[lane * 4 + j] |= (low >> 4) << (2 * g);
                    high[32 + lane * 4 + j] |= (up >> 4) << (2 * g);
                }
                _ => {}
            }
        }
    }
}

fn unpack_codes(high: &[u8], weights: &[u8], lane: usize, codes: &mut [u8; BLOCK]) {
    for g in 0..4 {
        for j in 0..4 {
            let byte = weights[g * 32 + lane * 4 + j];
            let (above_low, above_up) = match high.len() {
                32 => ((high[lane * 4 + j] >> g) & 1, (high[lane * 4 + j] >> (4 + g)) & 1),
                64 => ((high[lane * 4 + j] >> (2 * g)) & 3, (high[32 + lane * 4 + j] >> (2 * g)) & 3),
                _ => (0, 0),
            };
            codes[g * 4 + j] = (byte & 15) | above_low << 4;
            codes[16 + g * 4 + j] = byte >> 4 | above_up << 4;
        }
    }
}

/// Scale and minimum of sub-block `j` of a Q4_K block's twelve scale bytes (6 bits each, as ggml packs them).
fn q4k_scale_min(scales: &[u8], j: usize) -> [u8; 2] {
    if j < 4 {
        [scales[j] & 63, scales[j + 4] & 63]
    } else {
        [(scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4, scales[j + 4] >> 4 | (scales[j] >> 6) << 4]
    }
}

/// Writes one GGUF row into lane `lane` of a zeroed panel.
pub(crate) fn pack_lane(layout: Layout, row: &[u8], lane: usize, panel: &mut [u8]) {
    let block_bytes = layout.ty.block_bytes();
    for (i, src) in row.chunks_exact(block_bytes).enumerate() {
        let (header, first) = layout.offsets(i * layout.super_blocks);
        match layout.ty {
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => {
                panel[first + lane * block_bytes..][..block_bytes].copy_from_slice(src);
            }
            WeightType::Q4_0 | WeightType::Q8_0 => {
                panel[first + lane * 2..][..2].copy_from_slice(&src[..2]);
                scatter_groups(&src[2..], lane, &mut panel[first + 16..]);
            }
            WeightType::Q4_1 => {
                panel[first + lane * 2..][..2].copy_from_slice(&src[..2]);
                panel[first + 16 + lane * 2..][..2].copy_from_slice(&src[2..4]);
                scatter_groups(&src[4..], lane, &mut panel[first + 32..]);
            }
            WeightType::Q5_0 => pack_q5_0(src, lane, &mut panel[first..first + layout.block_bytes]),
            WeightType::Q4K => {
                panel[header + lane * 2..][..2].copy_from_slice(&src[..2]);
                panel[header + 16 + lane * 2..][..2].copy_from_slice(&src[2..4]);
                for b in 0..8 {
                    pack_q4k(src, b, lane, &mut panel[first + b * layout.block_bytes..][..layout.block_bytes]);
                }
            }
            WeightType::Q6K => {
                panel[header + lane * 2..][..2].copy_from_slice(&src[208..210]);
                for b in 0..8 {
                    pack_q6k(src, b, lane, &mut panel[first + b * layout.block_bytes..][..layout.block_bytes]);
                }
            }
        }
    }
}

fn pack_q5_0(src: &[u8], lane: usize, block: &mut [u8]) {
    block[lane * 2..][..2].copy_from_slice(&src[..2]);
    let high = u32::from_le_bytes([src[2], src[3], src[4], src[5]]);
    let mut codes = [0; BLOCK];
    for (k, code) in codes.iter_mut().enumerate() {
        let nibble = if k < 16 { src[6 + k] & 15 } else { src[6 + k - 16] >> 4 };
        *code = nibble | u8::from(high >> k & 1 != 0) << 4;
    }
    let (high, weights) = block[16..].split_at_mut(32);
    pack_codes(&codes, lane, high, weights);
}

fn pack_q4k(src: &[u8], b: usize, lane: usize, block: &mut [u8]) {
    let [scale, min] = q4k_scale_min(&src[4..16], b);
    block[lane] = scale;
    block[8 + lane] = min;
    let mut codes = [0; BLOCK];
    for (k, code) in codes.iter_mut().enumerate() {
        let byte = src[16 + b / 2 * 32 + k];
        *code = if b.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
    }
    pack_codes(&codes, lane, &mut [], &mut block[16..]);
}

fn pack_q6k(src: &[u8], b: usize, lane: usize, block: &mut [u8]) {
    let (half, quarter) = (b / 4, b % 4);
    block[lane] = src[192 + 8 * half + 2 * quarter];
    block[8 + lane] = src[192 + 8 * half + 2 * quarter + 1];
    let mut codes = [0; BLOCK];
    for (k, code) in codes.iter_mut().enumerate() {
        let low = src[half * 64 + quarter % 2 * 32 + k];
        let nibble = if quarter < 2 { low & 15 } else { low >> 4 };
        *code = nibble | (src[128 + half * 32 + k] >> (2 * quarter) & 3) << 4;
    }
    let (high, weights) = block[16..].split_at_mut(64);
    pack_codes(&codes, lane, high, weights);
}

/// Reads block `b` of lane `lane` of a quantized panel.
pub(crate) fn lane_block(layout: Layout, panel: &[u8], b: usize, lane: usize) -> LaneBlock {
    let (header, at) = layout.offsets(b);
    let block = &panel[at..at + layout.block_bytes];
    let mut out = LaneBlock::default();
    match layout.ty {
        WeightType::Q4_1 => {
            out.d = f16_at(block, lane * 2);
            out.m = f16_at(block, 16 + lane * 2);
            unpack_codes(&[], &block[32..], lane, &mut out.codes);
        }
        WeightType::Q4_0 => {
            out.d = f16_at(block, lane * 2);
            unpack_codes(&[], &block[16..], lane, &mut out.codes);
        }
        WeightType::Q5_0 => {
            out.d = f16_at(block, lane * 2);
            unpack_codes(&block[16..48], &block[48..], lane, &mut out.codes);
        }
        WeightType::Q4K => {
            out.d = f16_at(panel, header + lane * 2);
            out.m = f16_at(panel, header + 16 + lane * 2);
            out.sub = [block[lane], block[8 + lane]];
            unpack_codes(&[], &block[16..], lane, &mut out.codes);
        }
        WeightType::Q6K => {
            out.d = f16_at(panel, header + lane * 2);
            out.sub = [block[lane], block[8 + lane]];
            unpack_codes(&block[16..80], &block[80..], lane, &mut out.codes);
        }
        _ => {
            out.d = f16_at(block, lane * 2);
            gather_groups(&block[16..], lane, &mut out.codes);
        }
    }
    out
}

/// Weight `k` of lane `lane` of a float panel.
pub(crate) fn lane_float(ty: WeightType, panel: &[u8], k: usize, lane: usize) -> f32 {
    let at = k * LANES + lane;
    match ty {
        WeightType::F32 => f32::from_le_bytes([panel[4 * at], panel[4 * at + 1], panel[4 * at + 2], panel[4 * at + 3]]),
        WeightType::F16 => f16_at(panel, 2 * at),
        _ => bf16::from_le_bytes([panel[2 * at], panel[2 * at + 1]]).to_f32(),
    }
}

/// Writes lane `lane` of a panel, dequantized, to `out`.
pub(crate) fn dequantize_lane(layout: Layout, panel: &[u8], lane: usize, out: &mut [f32]) {
    if layout.ty.is_float() {
        for (k, y) in out.iter_mut().enumerate() {
            *y = lane_float(layout.ty, panel, k, lane);
        }
    } else {
        for (b, y) in out.chunks_exact_mut(BLOCK).enumerate() {
            lane_block(layout, panel, b, lane).dequantize(layout.ty, y);
        }
    }
}
