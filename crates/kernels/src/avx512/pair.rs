//! Reading a pair of panels: rows 0 to 7 from the first in the lower half of a vector, rows 8 to 15 from the second.

use std::arch::x86_64::*;

use crate::WeightType;
use crate::panel::{LANES, Layout, Quantized, ScaleKind};

/// Two panels of one matrix. Of the last panel of an odd number both are the same.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    panels: [*const u8; 2],
    layout: Layout,
}

/// What turns a block's integer dots into numbers, for each row: those of [`scale_vectors`] that the type has.
pub(super) type Scales = [__m512; 4];

/// How many vectors of [`Scales`] a type has: the scale of the block or of each half, then the minimums.
pub(super) const fn scale_vectors(kind: ScaleKind) -> usize {
    match kind {
        ScaleKind::Float => 0,
        ScaleKind::One | ScaleKind::Exponent | ScaleKind::Sub => 1,
        ScaleKind::Min | ScaleKind::SubHalves | ScaleKind::SubMin => 2,
        ScaleKind::SubHalvesMin => 4,
    }
}

impl Pair {
    /// Both whole, of the same length, in `layout`.
    pub(crate) fn new(first: &[u8], second: &[u8], layout: Layout) -> Self {
        debug_assert_eq!(first.len(), second.len());
        Self { panels: [first.as_ptr(), second.as_ptr()], layout }
    }

    pub(super) fn weight_type(&self) -> WeightType {
        self.layout.ty
    }

    /// # Safety
    /// Needs AVX-512F; 32 bytes from `at` on are inside both panels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn bytes(&self, at: usize) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe {
            let [first, second] = self.panels;
            let low = _mm512_castsi256_si512(_mm256_loadu_si256(first.add(at).cast()));
            _mm512_inserti64x4::<1>(low, _mm256_loadu_si256(second.add(at).cast()))
        }
    }

    /// Eight halves of each panel.
    ///
    /// # Safety
    /// Needs AVX-512F; 16 bytes from `at` on are inside both panels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn halves(&self, at: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            let [first, second] = self.panels;
            let (first, second) = (_mm_loadu_si128(first.add(at).cast()), _mm_loadu_si128(second.add(at).cast()));
            _mm512_cvtph_ps(_mm256_set_m128i(second, first))
        }
    }

    /// The weights of column `k`, of float panels. `TYPE`: 0 = F32, 1 = F16, 2 = BF16.
    ///
    /// # Safety
    /// Needs AVX-512F; the panels are of that type and have the column.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(super) unsafe fn floats<const TYPE: u8>(&self, k: usize) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            match TYPE {
                0 => _mm512_castsi512_ps(self.bytes(k * 4 * LANES)),
                1 => self.halves(k * 2 * LANES),
                _ => {
                    let [first, second] = self.panels;
                    let at = k * 2 * LANES;
                    let (first, second) =
                        (_mm_loadu_si128(first.add(at).cast()), _mm_loadu_si128(second.add(at).cast()));
                    let wide = _mm512_cvtepu16_epi32(_mm256_set_m128i(second, first));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
                }
            }
        }
    }

    /// Eight bytes of each panel.
    ///
    /// # Safety
    /// Needs AVX-512F; 8 bytes from `at` on are inside both panels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn small(&self, at: usize) -> __m128i {
        // SAFETY: the caller's promise.
        unsafe {
            let [first, second] = self.panels;
            _mm_unpacklo_epi64(_mm_loadl_epi64(first.add(at).cast()), _mm_loadl_epi64(second.add(at).cast()))
        }
    }

    /// Asks the memory for block `b` of the pair that comes `pairs` after this one: rows that follow each other are read by one
    /// thread, in runs that are too short for the processor to foresee. `HINT` names the cache.
    #[inline(always)]
    pub(super) fn prefetch<const HINT: i32>(&self, b: usize, pairs: usize) {
        let [first, second] = self.panels;
        let (_, start) = self.layout.offsets(b);
        let step = 2 * pairs * (second.addr() - first.addr());
        for at in (0..self.layout.block_bytes).step_by(64) {
            for panel in self.panels {
                // SAFETY: a hint, which may name any address.
                unsafe { _mm_prefetch::<HINT>(panel.wrapping_add(step + start + at).cast()) };
            }
        }
    }

    /// What the codes of block `b` stand for: vector `g` holds columns `4 g .. 4 g + 4` of all rows. As the type has them
    /// (unsigned, or signed bytes), or with `SIGNED` less their offset, so that they multiply as they are.
    ///
    /// # Safety
    /// Needs AVX-512F and BW; block `b` is inside the panels, which are of the type `T`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(super) unsafe fn codes<T: Quantized, const SIGNED: bool>(&self, b: usize) -> [__m512i; 8] {
        let layout = T::LAYOUT;
        let planes = layout.offsets(b).1 + layout.scale_bytes;
        let ((pairs_at, nibbles_at), (bit, pair)) = (layout.codes.plane_offsets(), layout.codes.plane_shifts());
        let bits = layout.codes.bits;
        let none = _mm512_setzero_si512();
        let mut codes = [none; 8];
        // SAFETY: all of it lies in the block, as `panel` lays it out.
        unsafe {
            if bits == 8 {
                for (g, codes) in codes.iter_mut().enumerate() {
                    *codes = self.bytes(planes + 32 * g);
                }
                return codes;
            }
            let bit_plane = if bits & 1 != 0 { self.bytes(planes) } else { none };
            let pair_planes = if bits & 2 != 0 {
                [self.bytes(planes + pairs_at), self.bytes(planes + pairs_at + 32)]
            } else {
                [none; 2]
            };
            for g in 0..4 {
                if bits & 4 != 0 {
                    let raw = self.bytes(planes + nibbles_at + 32 * g);
                    let nibble = _mm512_set1_epi8(15);
                    codes[g] = _mm512_and_si512(raw, nibble);
                    codes[4 + g] = _mm512_and_si512(_mm512_srli_epi16::<4>(raw), nibble);
                }
                if bits & 2 != 0 {
                    codes[g] = _mm512_or_si512(codes[g], moved(pair_planes[0], 2 * g, pair, 3));
                    codes[4 + g] = _mm512_or_si512(codes[4 + g], moved(pair_planes[1], 2 * g, pair, 3));
                }
                if bits & 1 != 0 {
                    codes[g] = _mm512_or_si512(codes[g], moved(bit_plane, g, bit, 1));
                    codes[4 + g] = _mm512_or_si512(codes[4 + g], moved(bit_plane, 4 + g, bit, 1));
                }
            }
            if let Some(table) = layout.codes.table {
                let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
                for codes in &mut codes {
                    *codes = _mm512_shuffle_epi8(table, *codes);
                }
            }
        }
        if SIGNED && layout.codes.offset > 0 {
            let offset = _mm512_set1_epi8(layout.codes.offset.cast_signed());
            for codes in &mut codes {
                *codes = _mm512_sub_epi8(*codes, offset);
            }
        }
        codes
    }

    /// The codes as a first factor without a sign: signed ones are 128 more.
    ///
    /// # Safety
    /// As [`Pair::codes`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(super) unsafe fn unsigned_codes<T: Quantized>(&self, b: usize) -> [__m512i; 8] {
        // SAFETY: the caller's promise.
        let mut codes = unsafe { self.codes::<T, false>(b) };
        if T::LAYOUT.codes.signed {
            for codes in &mut codes {
                *codes = _mm512_xor_si512(*codes, _mm512_set1_epi8(-128));
            }
        }
        codes
    }

    /// # Safety
    /// As [`Pair::codes`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(super) unsafe fn scales<T: Quantized>(&self, b: usize) -> Scales {
        let (header, block) = T::LAYOUT.offsets(b);
        let none = _mm512_setzero_ps();
        // SAFETY: all of it lies in the block and its header, as `panel` lays it out.
        unsafe {
            let kind = T::LAYOUT.scales;
            let d = if kind == ScaleKind::Exponent { exponents(self.small(block)) } else { self.halves(header) };
            let dmin = || _mm512_xor_ps(self.halves(header + 16), _mm512_set1_ps(-0.0));
            match kind {
                ScaleKind::Float | ScaleKind::One | ScaleKind::Exponent => [d, none, none, none],
                ScaleKind::Min => [d, self.halves(header + 16), none, none],
                ScaleKind::Sub => [signed(d, self.small(block)), none, none, none],
                ScaleKind::SubHalves => [signed(d, self.small(block)), signed(d, self.small(block + 8)), none, none],
                ScaleKind::SubMin => {
                    [unsigned(d, self.small(block)), unsigned(dmin(), self.small(block + 8)), none, none]
                }
                ScaleKind::SubHalvesMin => {
                    let (low, up, nibble) = (self.small(block), self.small(block + 8), _mm_set1_epi8(15));
                    let high = |bytes| _mm_and_si128(_mm_srli_epi16::<4>(bytes), nibble);
                    let mins = [unsigned(dmin(), high(low)), unsigned(dmin(), high(up))];
                    let (low, up) = (_mm_and_si128(low, nibble), _mm_and_si128(up, nibble));
                    [unsigned(d, low), unsigned(d, up), mins[0], mins[1]]
                }
            }
        }
    }
}

/// Halves times signed bytes, exactly.
#[inline]
#[target_feature(enable = "avx512f")]
fn signed(d: __m512, bytes: __m128i) -> __m512 {
    _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
}

/// Halves times bytes, exactly.
#[inline]
#[target_feature(enable = "avx512f")]
fn unsigned(d: __m512, bytes: __m128i) -> __m512 {
    _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)))
}

/// Powers of two, as `panel::exponent_scale` reads the bytes.
#[inline]
#[target_feature(enable = "avx512f")]
fn exponents(bytes: __m128i) -> __m512 {
    let e = _mm512_cvtepu8_epi32(bytes);
    let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), _mm512_min_epi32(e, _mm512_set1_epi32(2)));
    // Of 0 this is below 0.
    let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(e, _mm512_set1_epi32(1)));
    _mm512_castsi512_ps(_mm512_max_epi32(subnormal, normal))
}

/// A shift count for all lanes; a constant once the loop over groups is unrolled.
#[inline]
#[target_feature(enable = "avx512f")]
fn count(bits: usize) -> __m128i {
    _mm_cvtsi64_si128(bits.cast_signed() as i64)
}

/// The bits of `mask` that stand at bit `from` of each byte, moved to bit `to`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn moved(plane: __m512i, from: usize, to: usize, mask: u8) -> __m512i {
    let (left, right) = (count(to.saturating_sub(from)), count(from.saturating_sub(to)));
    let plane = _mm512_srl_epi16(_mm512_sll_epi16(plane, left), right);
    _mm512_and_si512(plane, _mm512_set1_epi8((mask << to).cast_signed()))
}

/// What a column adds to its block's integer dots.
#[derive(Clone, Copy)]
pub(super) struct ColumnScale {
    pub(super) d: __m512,
    /// `d` times the sum of the codes.
    pub(super) scaled_sum: __m512,
    /// The sums of the codes of both halves.
    pub(super) half_sums: [__m512; 2],
}

/// `acc` and the product of one block with one column, from the dots of its two halves (for types with one scale for a
/// block: the dot, and anything). The same fused multiply-adds in the same order as in `scalar::panel_dot`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn add_block<T: Quantized>(acc: __m512, w: &Scales, dots: [__m512i; 2], x: &ColumnScale) -> __m512 {
    let kind = T::LAYOUT.scales;
    let dot = _mm512_cvtepi32_ps(dots[0]);
    let acc = if kind.halves() {
        let both = _mm512_fmadd_ps(w[1], _mm512_cvtepi32_ps(dots[1]), _mm512_mul_ps(w[0], dot));
        _mm512_fmadd_ps(x.d, both, acc)
    } else {
        _mm512_fmadd_ps(_mm512_mul_ps(w[0], x.d), dot, acc)
    };
    match kind {
        ScaleKind::Min | ScaleKind::SubMin => _mm512_fmadd_ps(w[1], x.scaled_sum, acc),
        ScaleKind::SubHalvesMin => {
            let both = _mm512_fmadd_ps(w[3], x.half_sums[1], _mm512_mul_ps(w[2], x.half_sums[0]));
            _mm512_fmadd_ps(x.d, both, acc)
        }
        _ => acc,
    }
}
