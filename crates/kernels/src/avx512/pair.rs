//! Reading a pair of panels: rows 0 to 7 from the first in the lower half of a vector, rows 8 to 15 from the second.

use std::arch::x86_64::*;

use crate::WeightType;
use crate::panel::Layout;

/// Types of quantized weights, as the kernels' parameter.
pub(super) const Q4_0: u8 = 0;
pub(super) const Q4_1: u8 = 1;
pub(super) const Q5_0: u8 = 2;
pub(super) const Q8_0: u8 = 3;
pub(super) const Q4K: u8 = 4;
pub(super) const Q6K: u8 = 5;

/// Two panels of one matrix. Of the last panel of an odd number both are the same.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    panels: [*const u8; 2],
    layout: Layout,
    /// Whether to ask the memory for what is read next.
    prefetch: bool,
}

/// What turns a block's integer dots into numbers, for each row.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub(super) d: __m512,
    /// Q4_1: the minimum. Q4K: dmin.
    pub(super) m: __m512,
    /// Q4K: scale and minimum. Q6K: the scales of both halves.
    pub(super) sub: [__m512; 2],
}

impl Pair {
    /// Both whole, of the same length, in `layout`.
    pub(crate) fn new(first: &[u8], second: &[u8], layout: Layout) -> Self {
        debug_assert_eq!(first.len(), second.len());
        Self { panels: [first.as_ptr(), second.as_ptr()], layout, prefetch: true }
    }

    /// The pair after this one was asked for: its further columns need not ask again.
    pub(crate) fn prefetched(&mut self) {
        self.prefetch = false;
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

    /// Eight bytes of each panel, as numbers.
    ///
    /// # Safety
    /// Needs AVX-512F; 8 bytes from `at` on are inside both panels.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    unsafe fn small<const SIGNED: bool>(&self, at: usize) -> __m512 {
        // SAFETY: the caller's promise.
        let bytes = unsafe {
            let [first, second] = self.panels;
            _mm_unpacklo_epi64(_mm_loadl_epi64(first.add(at).cast()), _mm_loadl_epi64(second.add(at).cast()))
        };
        _mm512_cvtepi32_ps(if SIGNED { _mm512_cvtepi8_epi32(bytes) } else { _mm512_cvtepu8_epi32(bytes) })
    }

    /// Asks the memory for block `b` of the pair after this one: rows that follow each other are read by one thread, in
    /// runs that are too short for the processor to foresee.
    #[inline(always)]
    pub(super) fn prefetch_next(&self, b: usize) {
        if !self.prefetch {
            return;
        }
        let [first, second] = self.panels;
        let (_, start) = self.layout.offsets(b);
        let step = 2 * (second.addr() - first.addr());
        for at in (0..self.layout.block_bytes).step_by(64) {
            for panel in self.panels {
                // SAFETY: a hint, which may name any address.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(panel.wrapping_add(step + start + at).cast()) };
            }
        }
    }

    /// The codes of block `b`: vector `g` holds columns `4 g .. 4 g + 4` of all rows. As they are stored (Q8_0 in two's
    /// complement), or with `SIGNED` less their offset, so that they multiply as they are.
    ///
    /// # Safety
    /// Needs AVX-512F and BW; block `b` is inside the panels, which are of the type `T`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(super) unsafe fn codes<const T: u8, const SIGNED: bool>(&self, b: usize) -> [__m512i; 8] {
        let (_, block) = self.layout.offsets(b);
        let mut codes = [_mm512_setzero_si512(); 8];
        // SAFETY: all of it lies in the block, as `panel` lays it out.
        unsafe {
            if T == Q8_0 {
                for (g, codes) in codes.iter_mut().enumerate() {
                    *codes = self.bytes(block + 16 + 32 * g);
                }
                return codes;
            }
            let (high, weights) = match T {
                Q4_1 => (0, block + 32),
                Q5_0 => (1, block + 48),
                Q6K => (2, block + 80),
                _ => (0, block + 16),
            };
            let first = if high > 0 { self.bytes(block + 16) } else { _mm512_setzero_si512() };
            let second = if high > 1 { self.bytes(block + 48) } else { first };
            for g in 0..4 {
                let raw = self.bytes(weights + 32 * g);
                let nibble = _mm512_set1_epi8(15);
                codes[g] = _mm512_and_si512(raw, nibble);
                codes[4 + g] = _mm512_and_si512(_mm512_srli_epi16::<4>(raw), nibble);
                // Bits of the high vectors come to bit 4 (and 5).
                if high == 1 {
                    codes[g] = or_masked(codes[g], _mm512_sll_epi16(first, count(4 - g)), 16);
                    codes[4 + g] = or_masked(codes[4 + g], _mm512_srl_epi16(first, count(g)), 16);
                } else if high == 2 {
                    let left = count(4_usize.saturating_sub(2 * g));
                    let right = count((2 * g).saturating_sub(4));
                    codes[g] = or_masked(codes[g], _mm512_srl_epi16(_mm512_sll_epi16(first, left), right), 0x30);
                    codes[4 + g] =
                        or_masked(codes[4 + g], _mm512_srl_epi16(_mm512_sll_epi16(second, left), right), 0x30);
                }
            }
        }
        let offset = match T {
            Q4_0 => 8,
            Q5_0 => 16,
            Q6K => 32,
            _ => 0,
        };
        if SIGNED && offset > 0 {
            for codes in &mut codes {
                *codes = _mm512_sub_epi8(*codes, _mm512_set1_epi8(offset));
            }
        }
        codes
    }

    /// # Safety
    /// As [`Pair::codes`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    pub(super) unsafe fn scales<const T: u8>(&self, b: usize) -> Scales {
        let (header, block) = self.layout.offsets(b);
        let none = _mm512_setzero_ps();
        // SAFETY: all of it lies in the block and its header, as `panel` lays it out.
        unsafe {
            match T {
                Q4_1 => Scales { d: self.halves(block), m: self.halves(block + 16), sub: [none; 2] },
                Q4K => {
                    let sub = [self.small::<false>(block), self.small::<false>(block + 8)];
                    Scales { d: self.halves(header), m: self.halves(header + 16), sub }
                }
                Q6K => {
                    let sub = [self.small::<true>(block), self.small::<true>(block + 8)];
                    Scales { d: self.halves(header), m: none, sub }
                }
                _ => Scales { d: self.halves(block), m: none, sub: [none; 2] },
            }
        }
    }
}

/// A shift count for all lanes; a constant once the loop over groups is unrolled.
#[inline]
#[target_feature(enable = "avx512f")]
fn count(bits: usize) -> __m128i {
    _mm_cvtsi64_si128(bits.cast_signed() as i64)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn or_masked(codes: __m512i, high: __m512i, mask: i8) -> __m512i {
    _mm512_or_si512(codes, _mm512_and_si512(high, _mm512_set1_epi8(mask)))
}

/// What a column adds to its block's integer dots.
#[derive(Clone, Copy)]
pub(super) struct ColumnScale {
    pub(super) d: __m512,
    /// `d` times the sum of the codes.
    pub(super) scaled_sum: __m512,
    /// The sum of the codes.
    pub(super) sum: __m512,
}

/// `acc` and the product of one block with one column, from the dots of its two halves (for types with one scale for a
/// block: the dot, and anything). The same fused multiply-adds in the same order as in `scalar::panel_dot`: products of
/// small integers that it makes as integers are below 2^24, so floats hold them exactly.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn add_block<const T: u8>(acc: __m512, w: &Scales, dots: [__m512i; 2], x: &ColumnScale) -> __m512 {
    let d = _mm512_mul_ps(w.d, x.d);
    let dot = _mm512_cvtepi32_ps(dots[0]);
    match T {
        Q4_1 => _mm512_fmadd_ps(w.m, x.scaled_sum, _mm512_fmadd_ps(d, dot, acc)),
        Q4K => {
            let acc = _mm512_fmadd_ps(d, _mm512_mul_ps(w.sub[0], dot), acc);
            _mm512_fnmadd_ps(_mm512_mul_ps(w.m, x.d), _mm512_mul_ps(w.sub[1], x.sum), acc)
        }
        Q6K => {
            let low = _mm512_mul_ps(w.sub[0], dot);
            _mm512_fmadd_ps(d, _mm512_fmadd_ps(w.sub[1], _mm512_cvtepi32_ps(dots[1]), low), acc)
        }
        _ => _mm512_fmadd_ps(d, dot, acc),
    }
}
