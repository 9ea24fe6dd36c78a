//! The panel layouts, and their scalar packing and unpacking.
//!
//! A panel holds eight rows. For each block of 32 columns it has the eight rows' scales, then the codes of their weights
//! in planes of vectors: byte `lane * 4 + j` of a vector belongs to row `lane`, and of the columns to `g * 4 + j` in the
//! first half of the block or `16 + g * 4 + j` in the last, for groups `g` below 4. The planes of a block come in this
//! order, which is that of falling significance in a code:
//!
//! | plane | vectors | in a byte |
//! |---|---|---|
//! | bits | 1 | bit g: first half; bit 4 + g: last half |
//! | pairs | 2: first half, last half | bits 2g and 2g + 1 |
//! | nibbles | 4: one for each g | low nibble: first half; high nibble: last half |
//! | bytes | 8: one for each g of the first half, then of the last | the code |
//!
//! Types with super-blocks of 256 put what all eight blocks share in a header before them. Every repack keeps the bits of
//! the file, so nothing is lost. Scales are f16 (d, m, dmin) or bytes, eight of each, one for each row:
//!
//! | type | header | scales of a block | planes | weight of code q |
//! |---|---|---|---|---|
//! | Q4_0 | | d | nibbles | d (q - 8) |
//! | Q4_1 | | d, m | nibbles | d q + m |
//! | Q5_0 | | d | bits, nibbles | d (q - 16) |
//! | Q5_1 | | d, m | bits, nibbles | d q + m |
//! | Q8_0 | | d | bytes | d q, q signed |
//! | Q2K | d, dmin | s + 16 t of each half | pairs | d s q - dmin t |
//! | Q3K | d | s i8 of each half | bits, pairs | d s (q - 4) |
//! | Q4K | d, dmin | s, t u8 | nibbles | d s q - dmin t |
//! | Q5K | d, dmin | s, t u8 | bits, nibbles | d s q - dmin t |
//! | Q6K | d | s i8 of each half | pairs, nibbles | d s (q - 32) |
//! | IQ4NL | | d | nibbles | d `IQ4[q]` |
//! | IQ4XS | d | s i8 | nibbles | d s `IQ4[q]` |
//! | MXFP4 | | e u8 | nibbles | 2^(e - 128) (`E2M1[q]` - 12) |
//! | F32, F16, BF16 | | | `[column][8 rows]` | |

mod blocks;
mod quantized;

use half::{bf16, f16};

pub(crate) use self::blocks::is_finite;
use crate::WeightType;
pub(crate) use quantized::{Quantized, kinds, with_quantized};

/// Rows in a panel.
pub(crate) const LANES: usize = 8;
/// Columns in a block.
pub(crate) const BLOCK: usize = 32;

/// What the codes of the IQ4 types stand for, as signed bytes: -127, -104, -83, -65, -49, -35, -22, -10, then 1, 13, 25,
/// 38, 53, 69, 89, 113 (llama.cpp, `kvalues_iq4nl`).
const IQ4: [u8; 16] = [129, 152, 173, 191, 207, 221, 234, 246, 1, 13, 25, 38, 53, 69, 89, 113];

/// What the codes of MXFP4 stand for (floats of 2 exponent bits and 1 mantissa bit; OCP Microscaling Formats 1.0), doubled
/// so that they are integers, and 12 more so that none is below 0. Code 8 is -0.
const E2M1: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

/// Which scales the blocks of a type have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleKind {
    /// None: the weights are floats.
    Float,
    /// `d` of the block.
    One,
    /// `d` of the block, as the byte of an exponent ([`exponent_scale`]).
    Exponent,
    /// `d` and the minimum of the block.
    Min,
    /// `d` of the super-block, a signed scale of the block.
    Sub,
    /// `d` of the super-block, a signed scale of each half of the block.
    SubHalves,
    /// `d` and `dmin` of the super-block, scale and minimum of the block.
    SubMin,
    /// `d` and `dmin` of the super-block, scale and minimum (low and high nibble) of each half of the block.
    SubHalvesMin,
}

impl ScaleKind {
    /// Bytes of the header of a super-block.
    const fn header_bytes(self) -> usize {
        match self {
            Self::Float | Self::One | Self::Exponent | Self::Min => 0,
            Self::Sub | Self::SubHalves => 2 * LANES,
            Self::SubMin | Self::SubHalvesMin => 4 * LANES,
        }
    }

    /// Bytes of the scales of a block.
    const fn bytes(self) -> usize {
        match self {
            Self::Float => 0,
            Self::Exponent | Self::Sub => LANES,
            Self::One | Self::SubHalves | Self::SubMin | Self::SubHalvesMin => 2 * LANES,
            Self::Min => 4 * LANES,
        }
    }

    /// Whether the halves of a block have scales of their own.
    pub(crate) const fn halves(self) -> bool {
        matches!(self, Self::SubHalves | Self::SubHalvesMin)
    }
}

/// How the codes of a quantized type stand in the planes, and what they stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes {
    /// Bits of a code. Their own bits tell the planes: 1, 2, 4 and 8 for bits, pairs, nibbles and bytes.
    pub(crate) bits: usize,
    /// What a code of 4 bits stands for, when not for itself.
    pub(crate) table: Option<[u8; 16]>,
    /// Whether what it stands for is a signed byte.
    pub(crate) signed: bool,
    /// How much more it is than the weight, when unsigned.
    pub(crate) offset: u8,
}

impl Codes {
    const fn plain(bits: usize, offset: u8) -> Self {
        Self { bits, table: None, signed: bits == 8, offset }
    }

    const fn of_table(table: [u8; 16], signed: bool, offset: u8) -> Self {
        Self { bits: 4, table: Some(table), signed, offset }
    }

    /// The integer weight that a code stands for.
    fn weight(&self, code: u8) -> i8 {
        let value = self.table.map_or(code, |table| table[usize::from(code & 15)]);
        value.wrapping_sub(self.offset).cast_signed()
    }

    /// Where the pairs and the nibbles begin, in bytes from the first plane on.
    pub(crate) const fn plane_offsets(&self) -> (usize, usize) {
        (32 * (self.bits & 1), 32 * (self.bits & 3))
    }

    /// Where the bits plane's and the pairs plane's parts stand in a code.
    pub(crate) const fn plane_shifts(&self) -> (usize, usize) {
        (self.bits & 6, self.bits & 4)
    }
}

/// Where things stand in a panel, and what they mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) ty: WeightType,
    /// Blocks that share a header.
    pub(crate) super_blocks: usize,
    pub(crate) header_bytes: usize,
    /// Scales and codes of one block.
    pub(crate) block_bytes: usize,
    pub(crate) scales: ScaleKind,
    /// The part of a block before its codes.
    pub(crate) scale_bytes: usize,
    pub(crate) codes: Codes,
}

impl Layout {
    pub(crate) const fn of(ty: WeightType) -> Self {
        let (scales, codes) = match ty {
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => (ScaleKind::Float, Codes::plain(0, 0)),
            WeightType::Q4_0 => (ScaleKind::One, Codes::plain(4, 8)),
            WeightType::Q4_1 => (ScaleKind::Min, Codes::plain(4, 0)),
            WeightType::Q5_0 => (ScaleKind::One, Codes::plain(5, 16)),
            WeightType::Q5_1 => (ScaleKind::Min, Codes::plain(5, 0)),
            WeightType::Q8_0 => (ScaleKind::One, Codes::plain(8, 0)),
            WeightType::Q2K => (ScaleKind::SubHalvesMin, Codes::plain(2, 0)),
            WeightType::Q3K => (ScaleKind::SubHalves, Codes::plain(3, 4)),
            WeightType::Q4K => (ScaleKind::SubMin, Codes::plain(4, 0)),
            WeightType::Q5K => (ScaleKind::SubMin, Codes::plain(5, 0)),
            WeightType::Q6K => (ScaleKind::SubHalves, Codes::plain(6, 32)),
            WeightType::IQ4NL => (ScaleKind::One, Codes::of_table(IQ4, true, 0)),
            WeightType::IQ4XS => (ScaleKind::Sub, Codes::of_table(IQ4, true, 0)),
            WeightType::MXFP4 => (ScaleKind::Exponent, Codes::of_table(E2M1, false, 12)),
        };
        let (header_bytes, scale_bytes) = (scales.header_bytes(), scales.bytes());
        let block_bytes = match ty {
            WeightType::F32 => 4 * LANES,
            WeightType::F16 | WeightType::BF16 => 2 * LANES,
            _ => scale_bytes + BLOCK * LANES * codes.bits / 8,
        };
        let super_blocks = if header_bytes > 0 { 8 } else { 1 };
        Self { ty, super_blocks, header_bytes, block_bytes, scales, scale_bytes, codes }
    }

    /// Columns that one block covers.
    fn block_cols(self) -> usize {
        if self.ty.is_float() { 1 } else { BLOCK }
    }

    pub(crate) fn panel_bytes(self, cols: usize) -> usize {
        cols / self.block_cols() / self.super_blocks * self.super_bytes()
    }

    pub(crate) const fn super_bytes(self) -> usize {
        self.header_bytes + self.super_blocks * self.block_bytes
    }

    /// Offsets of the header and of the block itself for block `b` of a panel.
    #[inline]
    pub(crate) const fn offsets(self, b: usize) -> (usize, usize) {
        let header = b / self.super_blocks * self.super_bytes();
        (header, header + self.header_bytes + b % self.super_blocks * self.block_bytes)
    }
}

/// One block of 32 weights of one row: integers and scales, not yet multiplied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneBlock {
    pub(crate) weights: [i8; BLOCK],
    /// Of both halves: `d`, or `d` times the integer scale, which a float holds exactly (11 bits times 8).
    pub(crate) scales: [f32; 2],
    pub(crate) min: Min,
}

/// What is added to the scaled weights of a block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Min {
    None,
    /// The same for all.
    One(f32),
    /// For each half.
    Halves([f32; 2]),
}

impl LaneBlock {
    /// The weights as numbers.
    fn dequantize(&self, out: &mut [f32]) {
        for (k, (y, &weight)) in out.iter_mut().zip(&self.weights).enumerate() {
            let half = k / (BLOCK / 2);
            let (scale, q) = (self.scales[half], f32::from(weight));
            *y = match self.min {
                Min::None => scale * q,
                Min::One(min) => scale.mul_add(q, min),
                Min::Halves(mins) => scale.mul_add(q, mins[half]),
            };
        }
    }
}

fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// 2^(e - 128): half of what an E8M0 exponent means, since MXFP4's values are kept doubled. As in llama.cpp 255 is one
/// more exponent, not the mark of "not a number".
fn exponent_scale(e: u8) -> f32 {
    // The two smallest are subnormal.
    f32::from_bits(if e < 2 { 0x0020_0000 << e } else { u32::from(e - 1) << 23 })
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

/// Writes one row's codes of at most 6 bits to a block's zeroed planes.
fn pack_codes(layout: &Codes, codes: &[u8; BLOCK], lane: usize, planes: &mut [u8]) {
    let ((pairs, nibbles), (bit_shift, pair_shift)) = (layout.plane_offsets(), layout.plane_shifts());
    for g in 0..4 {
        for j in 0..4 {
            let (low, up, at) = (codes[g * 4 + j], codes[16 + g * 4 + j], lane * 4 + j);
            if layout.bits & 1 != 0 {
                planes[at] |= (low >> bit_shift & 1) << g | (up >> bit_shift & 1) << (4 + g);
            }
            if layout.bits & 2 != 0 {
                planes[pairs + at] |= (low >> pair_shift & 3) << (2 * g);
                planes[pairs + 32 + at] |= (up >> pair_shift & 3) << (2 * g);
            }
            if layout.bits & 4 != 0 {
                planes[nibbles + 32 * g + at] = (low & 15) | (up & 15) << 4;
            }
        }
    }
}

fn unpack_codes(layout: &Codes, planes: &[u8], lane: usize, codes: &mut [u8; BLOCK]) {
    let ((pairs, nibbles), (bit_shift, pair_shift)) = (layout.plane_offsets(), layout.plane_shifts());
    for g in 0..4 {
        for j in 0..4 {
            let (mut low, mut up, at) = (0, 0, lane * 4 + j);
            if layout.bits & 1 != 0 {
                low |= (planes[at] >> g & 1) << bit_shift;
                up |= (planes[at] >> (4 + g) & 1) << bit_shift;
            }
            if layout.bits & 2 != 0 {
                low |= (planes[pairs + at] >> (2 * g) & 3) << pair_shift;
                up |= (planes[pairs + 32 + at] >> (2 * g) & 3) << pair_shift;
            }
            if layout.bits & 4 != 0 {
                let byte = planes[nibbles + 32 * g + at];
                low |= byte & 15;
                up |= byte >> 4;
            }
            codes[g * 4 + j] = low;
            codes[16 + g * 4 + j] = up;
        }
    }
}

/// Writes one GGUF row into lane `lane` of a zeroed panel.
pub(crate) fn pack_lane(layout: Layout, row: &[u8], lane: usize, panel: &mut [u8]) {
    let (ty, block_bytes) = (layout.ty, layout.ty.block_bytes());
    for (i, src) in row.chunks_exact(block_bytes).enumerate() {
        let (header, first) = layout.offsets(i * layout.super_blocks);
        if ty.is_float() {
            panel[first + lane * block_bytes..][..block_bytes].copy_from_slice(src);
            continue;
        }
        // Without a header they are the first scales of the block, in the same order.
        for (n, &at) in blocks::half_scales(ty).iter().enumerate() {
            panel[header + n * 2 * LANES + lane * 2..][..2].copy_from_slice(&src[at..at + 2]);
        }
        for b in 0..layout.super_blocks {
            let block = &mut panel[first + b * layout.block_bytes..][..layout.block_bytes];
            let (scales, planes) = block.split_at_mut(layout.scale_bytes);
            for (n, scale) in blocks::byte_scales(ty, src, b).into_iter().flatten().enumerate() {
                scales[n * LANES + lane] = scale;
            }
            match blocks::plane_bytes(ty, src, b) {
                Some(bytes) => scatter_groups(bytes, lane, planes),
                None => pack_codes(&layout.codes, &blocks::codes(ty, src, b), lane, planes),
            }
        }
    }
}

/// Reads block `b` of lane `lane` of a quantized panel.
pub(crate) fn lane_block(layout: Layout, panel: &[u8], b: usize, lane: usize) -> LaneBlock {
    let (header, at) = layout.offsets(b);
    let block = &panel[at..at + layout.block_bytes];
    let half = |n: usize| f16_at(panel, header + n * 2 * LANES + lane * 2);
    let byte = |n: usize| block[n * LANES + lane];
    let signed = |n: usize| f32::from(byte(n).cast_signed());
    let d = if layout.scales == ScaleKind::Exponent { exponent_scale(byte(0)) } else { half(0) };
    let (mut scales, mut min) = ([d; 2], Min::None);
    match layout.scales {
        ScaleKind::Float | ScaleKind::One | ScaleKind::Exponent => {}
        ScaleKind::Min => min = Min::One(half(1)),
        ScaleKind::Sub => scales = [d * signed(0); 2],
        ScaleKind::SubHalves => scales = [d * signed(0), d * signed(1)],
        ScaleKind::SubMin => {
            scales = [d * f32::from(byte(0)); 2];
            min = Min::One(-half(1) * f32::from(byte(1)));
        }
        ScaleKind::SubHalvesMin => {
            let halves = [byte(0), byte(1)];
            scales = halves.map(|byte| d * f32::from(byte & 15));
            min = Min::Halves(halves.map(|byte| -half(1) * f32::from(byte >> 4)));
        }
    }
    let mut codes = [0; BLOCK];
    if layout.codes.bits == 8 {
        gather_groups(&block[layout.scale_bytes..], lane, &mut codes);
    } else {
        unpack_codes(&layout.codes, &block[layout.scale_bytes..], lane, &mut codes);
    }
    LaneBlock { weights: codes.map(|code| layout.codes.weight(code)), scales, min }
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
            lane_block(layout, panel, b, lane).dequantize(y);
        }
    }
}

#[cfg(test)]
mod tests;
