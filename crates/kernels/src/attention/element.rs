//! The types that keys and values are kept in: how they are loaded, and how one token's are written.

use super::KV_BLOCK_TOKENS;
use super::kv_store::VALUE_DIMS;
use super::zeroed::Number;
use crate::elementwise::lanes::{Kernel, LANES, Lanes};
use crate::scalar::scale_of;

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// Half floats.
    #[default]
    F16,
    /// Eight-bit codes from -127 to 127; each 64 numbers of a token's key in a KV head share a scale (f32), and so do those
    /// of its value: 8.5 bits for each.
    Q8_0,
}

impl KvType {
    /// All types.
    pub const ALL: [Self; 2] = [Self::F16, Self::Q8_0];

    /// Its usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// The type of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.name() == name)
    }
}

/// Head dimensions that share a scale.
pub(super) const SCALE_DIMS: usize = 64;

/// Scales of some head dimensions of a block of one KV head: of each token's keys, and of its values.
pub(super) type Scales = [[f32; KV_BLOCK_TOKENS]; 2];

/// A number that keys and values are kept as.
pub(super) trait KvElement: Number {
    /// Whether numbers have scales.
    const SCALED: bool;
    /// The scale of what a token has in the head dimensions that share one, and its inverse.
    fn scale_of(x: &[f32]) -> (f32, f32);
    /// Rounds what is divided by its scale.
    fn round<L: Lanes>(lanes: L, x: L::V, inverse: f32) -> [Self; LANES];
    /// Loads, not yet multiplied by the scale.
    fn load<L: Lanes>(lanes: L, x: &[Self; LANES]) -> L::V;
}

/// Half floats by their bits.
impl KvElement for u16 {
    const SCALED: bool = false;

    #[inline(always)]
    fn scale_of(_: &[f32]) -> (f32, f32) {
        (1.0, 1.0)
    }
    #[inline(always)]
    fn round<L: Lanes>(lanes: L, x: L::V, _: f32) -> [Self; LANES] {
        let mut out = [0; LANES];
        lanes.store_f16(x, &mut out);
        out
    }
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, x: &[Self; LANES]) -> L::V {
        lanes.load_f16(x)
    }
}

/// Codes.
impl KvElement for i8 {
    const SCALED: bool = true;

    #[inline(always)]
    fn scale_of(x: &[f32]) -> (f32, f32) {
        // Magnitudes compare like their bits; infinities and what is no number stand above all others.
        let max = f32::from_bits(x.iter().fold(0, |max: u32, x| max.max(x.abs().to_bits())));
        if max.is_finite() { scale_of(max) } else { (f32::NAN, 0.0) }
    }
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the code is what stands in the lowest byte")]
    fn round<L: Lanes>(lanes: L, x: L::V, inverse: f32) -> [Self; LANES] {
        // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low mantissa bits.
        let sums = lanes.mul_add(x, lanes.splat(inverse), lanes.splat(12_582_912.0));
        let mut out = [0.0; LANES];
        lanes.store(sums, &mut out);
        out.map(|sum| (sum.to_bits() as u8).cast_signed())
    }
    #[inline(always)]
    fn load<L: Lanes>(lanes: L, x: &[Self; LANES]) -> L::V {
        lanes.load_i8(x)
    }
}

/// Writes one token to all KV heads of a block and layer.
pub(super) struct WriteToken<'a, E> {
    pub(super) head_dim: usize,
    /// The block's part of the store.
    pub(super) heads: &'a mut [E],
    /// Scales of these heads, head after head, if there are scales.
    pub(super) scales: &'a mut [Scales],
    pub(super) slot: usize,
    /// `[kv heads][head_dim]`.
    pub(super) keys: &'a [f32],
    pub(super) values: &'a [f32],
}

impl<E: KvElement> Kernel for WriteToken<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { head_dim, heads, scales, slot, keys, values } = self;
        let key_len = head_dim * KV_BLOCK_TOKENS;
        let head_len = key_len + head_dim.next_multiple_of(VALUE_DIMS) * KV_BLOCK_TOKENS;
        let width = heads.len() / head_len * head_dim;
        let dims = if E::SCALED { SCALE_DIMS } else { head_dim };
        assert!(slot < KV_BLOCK_TOKENS && keys.len() == width && values.len() == width, "one token's keys and values");
        let rows = keys.chunks_exact(head_dim).zip(values.chunks_exact(head_dim));
        for (i, (head, (keys, values))) in heads.chunks_exact_mut(head_len).zip(rows).enumerate() {
            let (to_keys, to_values) = head.split_at_mut(key_len);
            let to_keys = to_keys.as_chunks_mut::<KV_BLOCK_TOKENS>().0;
            let to_values = to_values.as_chunks_mut::<VALUE_DIMS>().0.as_chunks_mut::<KV_BLOCK_TOKENS>().0;
            for (g, (keys, values)) in keys.chunks(dims).zip(values.chunks(dims)).enumerate() {
                let [of_keys, of_values] = [E::scale_of(keys), E::scale_of(values)];
                if let Some(scales) = scales.get_mut(i * head_dim.div_ceil(dims) + g) {
                    (scales[0][slot], scales[1][slot]) = (of_keys.0, of_values.0);
                }
                for (keys, to) in keys.chunks(LANES).zip(to_keys[g * dims..].chunks_mut(LANES)) {
                    for (key, row) in rounded::<L, E>(lanes, keys, of_keys.1).iter().zip(to) {
                        row[slot] = *key;
                    }
                }
                for (values, to) in values.chunks(VALUE_DIMS).zip(&mut to_values[g * dims / VALUE_DIMS..]) {
                    to[slot] = rounded(lanes, values, of_values.1);
                }
            }
        }
    }
}

/// Up to sixteen values, rounded, then zeros.
#[inline(always)]
fn rounded<L: Lanes, E: KvElement>(lanes: L, x: &[f32], inverse: f32) -> [E; LANES] {
    if let Some(x) = x.first_chunk() {
        E::round(lanes, lanes.load(x), inverse)
    } else {
        let mut last = [0.0; LANES];
        last[..x.len()].copy_from_slice(x);
        E::round(lanes, lanes.load(&last), inverse)
    }
}
