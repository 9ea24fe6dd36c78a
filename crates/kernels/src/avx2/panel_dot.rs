//! Eight rows of a panel times a few columns, the rows in the lanes: one unpacked block serves all columns, and no
//! horizontal sums are needed.
//!
//! Integer products use `maddubs` (u8 x i8, pairs added in i16) with as many in one i16 sum as the codes allow
//! (4 bits: 8 of them, 8 * 2 * 15 * 127 = 30,480; 5 bits: 4; 6 bits: 2; 8 bits: 1, by the sign trick), or VNNI's
//! `dpbusd`, which adds in i32.

use std::arch::x86_64::*;

use crate::WeightType;
use crate::activations::{Activations, BlockScale};
use crate::panel::{BLOCK, LANES, Layout};

/// `N` activation columns, as the kernels read them.
#[derive(Clone, Copy)]
pub(crate) struct Columns<const N: usize> {
    pub(crate) codes: [*const i8; N],
    pub(crate) blocks: [*const BlockScale; N],
    values: [*const f32; N],
    /// Bytes from a block to its like in the next panel, when that is to be asked of the memory; else 0.
    ahead: usize,
}

impl<const N: usize> Columns<N> {
    /// Columns `first .. first + N`.
    pub(crate) fn new(x: &Activations, first: usize, float: bool) -> Self {
        Self {
            ahead: 0,
            codes: std::array::from_fn(|c| if float { std::ptr::null() } else { x.codes(first + c).as_ptr() }),
            blocks: std::array::from_fn(|c| if float { std::ptr::null() } else { x.blocks(first + c).as_ptr() }),
            values: std::array::from_fn(|c| if float { x.values(first + c).as_ptr() } else { std::ptr::null() }),
        }
    }
}

impl<const N: usize> Columns<N> {
    /// The first columns to meet a panel: they ask for the next one, since rows that follow each other are read by one
    /// thread, in runs that are too short for the processor to foresee.
    pub(crate) fn asking_ahead(self, panel_bytes: usize) -> Self {
        Self { ahead: panel_bytes, ..self }
    }

    #[inline(always)]
    fn ask_next(&self, block: *const u8, bytes: usize) {
        if self.ahead == 0 {
            return;
        }
        for at in (0..bytes).step_by(64) {
            // SAFETY: a hint, which may name any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(block.wrapping_add(self.ahead + at).cast()) };
        }
    }
}

/// Products of a panel's eight rows with `N` columns.
///
/// # Safety
/// Needs AVX2, FMA and F16C, and with `vnni` AVX-512 VNNI and VL. `panel` is a whole panel of `cols` columns in
/// `layout`; `x` holds columns of that length.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn panel_dot<const N: usize>(
    vnni: bool,
    layout: Layout,
    panel: &[u8],
    cols: usize,
    x: &Columns<N>,
) -> [[f32; LANES]; N] {
    debug_assert_eq!(panel.len(), layout.panel_bytes(cols));
    let (p, blocks) = (panel.as_ptr(), cols / BLOCK);
    // SAFETY: passed on from the caller.
    let acc = unsafe {
        match (layout.ty, vnni) {
            (WeightType::F32, _) => float_dot::<N, 0>(p, cols, x),
            (WeightType::F16, _) => float_dot::<N, 1>(p, cols, x),
            (WeightType::BF16, _) => float_dot::<N, 2>(p, cols, x),
            (WeightType::Q4_0, false) => maddubs::q4_0(p, blocks, x),
            (WeightType::Q4_1, false) => maddubs::q4_1(p, blocks, x),
            (WeightType::Q4K, false) => maddubs::q4k(p, blocks, x),
            (WeightType::Q5_0, false) => maddubs::q5_0(p, blocks, x),
            (WeightType::Q6K, false) => maddubs::q6k(p, blocks, x),
            (WeightType::Q8_0, false) => maddubs::q8_0(p, blocks, x),
            (WeightType::Q4_0, true) => dpbusd::q4_0(p, blocks, x),
            (WeightType::Q4_1, true) => dpbusd::q4_1(p, blocks, x),
            (WeightType::Q4K, true) => dpbusd::q4k(p, blocks, x),
            (WeightType::Q5_0, true) => dpbusd::q5_0(p, blocks, x),
            (WeightType::Q6K, true) => dpbusd::q6k(p, blocks, x),
            (WeightType::Q8_0, true) => dpbusd::q8_0(p, blocks, x),
        }
    };
    let mut lanes = [[0.0; LANES]; N];
    for (lanes, acc) in lanes.iter_mut().zip(acc) {
        // SAFETY: eight floats fit.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), acc) };
    }
    lanes
}

/// One chain of fused multiply-adds a column. `TYPE`: 0 = F32, 1 = F16, 2 = BF16.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn float_dot<const N: usize, const TYPE: u8>(panel: *const u8, cols: usize, x: &Columns<N>) -> [__m256; N] {
    let mut acc = [_mm256_setzero_ps(); N];
    for k in 0..cols {
        // SAFETY: the panel holds eight weights for each of `cols` columns, and each activation column `cols` values.
        unsafe {
            let w = match TYPE {
                0 => _mm256_loadu_ps(panel.add(k * 4 * LANES).cast()),
                1 => _mm256_cvtph_ps(_mm_loadu_si128(panel.add(k * 2 * LANES).cast())),
                _ => {
                    let half = _mm256_cvtepu16_epi32(_mm_loadu_si128(panel.add(k * 2 * LANES).cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(half))
                }
            };
            for (acc, values) in acc.iter_mut().zip(x.values) {
                *acc = _mm256_fmadd_ps(w, _mm256_set1_ps(*values.add(k)), *acc);
            }
        }
    }
    acc
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load(p: *const u8) -> __m256i {
    // SAFETY: the caller points at 32 readable bytes.
    unsafe { _mm256_loadu_si256(p.cast()) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load_f16(p: *const u8) -> __m256 {
    // SAFETY: the caller points at 16 readable bytes.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load_u8(p: *const u8) -> __m256i {
    // SAFETY: the caller points at 8 readable bytes.
    unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load_i8(p: *const u8) -> __m256i {
    // SAFETY: the caller points at 8 readable bytes.
    unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())) }
}

/// Four codes in every lane.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn broadcast(p: *const i8) -> __m256i {
    // SAFETY: the caller points at 4 readable bytes; the read may be unaligned.
    _mm256_set1_epi32(unsafe { p.cast::<i32>().read_unaligned() })
}

/// A shift count for all lanes; a constant once the loop over groups is unrolled.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn shift_count(bits: usize) -> __m128i {
    _mm_cvtsi64_si128(bits.cast_signed() as i64)
}

/// Low and high codes of group `g`: nibbles, plus bits from one high vector (5 bits) or two (6 bits).
macro_rules! codes {
    (4, $weights:expr, $g:expr) => {{
        let raw = load($weights.add(32 * $g));
        let mask = _mm256_set1_epi8(15);
        (_mm256_and_si256(raw, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(raw), mask))
    }};
    (5, $weights:expr, $g:expr, $high:expr) => {{
        let (low, up) = codes!(4, $weights, $g);
        let mask = _mm256_set1_epi8(16);
        let count = shift_count($g);
        let to_four = shift_count(4 - $g);
        (
            _mm256_or_si256(low, _mm256_and_si256(_mm256_sll_epi16($high, to_four), mask)),
            _mm256_or_si256(up, _mm256_and_si256(_mm256_srl_epi16($high, count), mask)),
        )
    }};
    (6, $weights:expr, $g:expr, $high_low:expr, $high_up:expr) => {{
        let (low, up) = codes!(4, $weights, $g);
        let mask = _mm256_set1_epi8(0x30);
        // Bits 2g come to bits 4: left by 4 - 2g, or right by 2g - 4.
        let left = shift_count(4usize.saturating_sub(2 * $g));
        let right = shift_count((2 * $g as usize).saturating_sub(4));
        let high_low = _mm256_srl_epi16(_mm256_sll_epi16($high_low, left), right);
        let high_up = _mm256_srl_epi16(_mm256_sll_epi16($high_up, left), right);
        (_mm256_or_si256(low, _mm256_and_si256(high_low, mask)), _mm256_or_si256(up, _mm256_and_si256(high_up, mask)))
    }};
}

/// The kernels of all types over one way to multiply codes: `$step` adds products to a running sum, `$widen` turns a
/// running sum into i32 lanes. 5-bit and 6-bit codes widen often enough for i16 sums.
macro_rules! kernels {
    ($name:ident, $features:literal, $step:ident, $widen:ident, $step8:ident) => {
        mod $name {
            use super::*;

            /// Integer dots of nibble codes with `N` columns at block `b`.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn dot4<const N: usize>(weights: *const u8, b: usize, x: &Columns<N>) -> [__m256i; N] {
                let mut sums = [_mm256_setzero_si256(); N];
                // SAFETY: the block's 128 weight bytes and each column's 32 codes at block `b` are there (`panel_dot`).
                unsafe {
                    for g in 0..4 {
                        let (low, up) = codes!(4, weights, g);
                        for c in 0..N {
                            let a = x.codes[c].add(b * BLOCK + 4 * g);
                            sums[c] = $step(sums[c], low, broadcast(a));
                            sums[c] = $step(sums[c], up, broadcast(a.add(16)));
                        }
                    }
                }
                // A loop, not `map`: a closure called from a function without these features would not be inlined.
                for sum in &mut sums {
                    *sum = $widen(*sum);
                }
                sums
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn q4_0<const N: usize>(panel: *const u8, blocks: usize, x: &Columns<N>) -> [__m256; N] {
                let mut acc = [_mm256_setzero_ps(); N];
                for b in 0..blocks {
                    // SAFETY: block `b` is inside the panel and the columns (`panel_dot`).
                    unsafe {
                        let block = panel.add(b * 144);
                        x.ask_next(block, 144);
                        let dots = dot4(block.add(16), b, x);
                        let d = load_f16(block);
                        for c in 0..N {
                            let a = &*x.blocks[c].add(b);
                            let offset = _mm256_set1_epi32(8 * (a.half_sums[0] + a.half_sums[1]));
                            acc[c] = add_scaled(acc[c], d, a.d, _mm256_sub_epi32(dots[c], offset));
                        }
                    }
                }
                acc
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn q4_1<const N: usize>(panel: *const u8, blocks: usize, x: &Columns<N>) -> [__m256; N] {
                let mut acc = [_mm256_setzero_ps(); N];
                for b in 0..blocks {
                    // SAFETY: block `b` is inside the panel and the columns (`panel_dot`).
                    unsafe {
                        let block = panel.add(b * 160);
                        x.ask_next(block, 160);
                        let dots = dot4(block.add(32), b, x);
                        let (d, m) = (load_f16(block), load_f16(block.add(16)));
                        for c in 0..N {
                            let a = &*x.blocks[c].add(b);
                            acc[c] = add_scaled(acc[c], d, a.d, dots[c]);
                            acc[c] = _mm256_fmadd_ps(m, _mm256_set1_ps(a.scaled_sum), acc[c]);
                        }
                    }
                }
                acc
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn q4k<const N: usize>(panel: *const u8, blocks: usize, x: &Columns<N>) -> [__m256; N] {
                let mut acc = [_mm256_setzero_ps(); N];
                for b in 0..blocks {
                    // SAFETY: block `b` is inside the panel and the columns (`panel_dot`).
                    unsafe {
                        let header = panel.add(b / 8 * 1184);
                        let block = header.add(32 + b % 8 * 144);
                        x.ask_next(block, 144);
                        let dots = dot4(block.add(16), b, x);
                        let (d, dmin) = (load_f16(header), load_f16(header.add(16)));
                        let (scale, min) = (load_u8(block), load_u8(block.add(8)));
                        for c in 0..N {
                            let a = &*x.blocks[c].add(b);
                            acc[c] = add_scaled(acc[c], d, a.d, _mm256_mullo_epi32(scale, dots[c]));
                            let sum = _mm256_set1_epi32(a.half_sums[0] + a.half_sums[1]);
                            let min = _mm256_cvtepi32_ps(_mm256_mullo_epi32(min, sum));
                            acc[c] = _mm256_fnmadd_ps(_mm256_mul_ps(dmin, _mm256_set1_ps(a.d)), min, acc[c]);
                        }
                    }
                }
                acc
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn q5_0<const N: usize>(panel: *const u8, blocks: usize, x: &Columns<N>) -> [__m256; N] {
                let mut acc = [_mm256_setzero_ps(); N];
                for b in 0..blocks {
                    // SAFETY: block `b` is inside the panel and the columns (`panel_dot`).
                    unsafe {
                        let block = panel.add(b * 176);
                        x.ask_next(block, 176);
                        let high = load(block.add(16));
                        let mut sums = [[_mm256_setzero_si256(); 2]; N];
                        for g in 0..4 {
                            let (low, up) = codes!(5, block.add(48), g, high);
                            for c in 0..N {
                                let a = x.codes[c].add(b * BLOCK + 4 * g);
                                sums[c][0] = $step(sums[c][0], low, broadcast(a));
                                sums[c][1] = $step(sums[c][1], up, broadcast(a.add(16)));
                            }
                        }
                        let d = load_f16(block);
                        for c in 0..N {
                            let a = &*x.blocks[c].add(b);
                            let offset = _mm256_set1_epi32(16 * (a.half_sums[0] + a.half_sums[1]));
                            let dot = _mm256_add_epi32($widen(sums[c][0]), $widen(sums[c][1]));
                            acc[c] = add_scaled(acc[c], d, a.d, _mm256_sub_epi32(dot, offset));
                        }
                    }
                }
                acc
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn q6k<const N: usize>(panel: *const u8, blocks: usize, x: &Columns<N>) -> [__m256; N] {
                let mut acc = [_mm256_setzero_ps(); N];
                for b in 0..blocks {
                    // SAFETY: block `b` is inside the panel and the columns (`panel_dot`).
                    unsafe {
                        let header = panel.add(b / 8 * 1680);
                        let block = header.add(16 + b % 8 * 208);
                        x.ask_next(block, 208);
                        let high = [load(block.add(16)), load(block.add(48))];
                        let mut dots = [[_mm256_setzero_si256(); 2]; N];
                        for pair in [0, 2] {
                            let mut sums = [[_mm256_setzero_si256(); 2]; N];
                            for g in pair..pair + 2 {
                                let (low, up) = codes!(6, block.add(80), g, high[0], high[1]);
                                for c in 0..N {
                                    let a = x.codes[c].add(b * BLOCK + 4 * g);
                                    sums[c][0] = $step(sums[c][0], low, broadcast(a));
                                    sums[c][1] = $step(sums[c][1], up, broadcast(a.add(16)));
                                }
                            }
                            for c in 0..N {
                                dots[c][0] = _mm256_add_epi32(dots[c][0], $widen(sums[c][0]));
                                dots[c][1] = _mm256_add_epi32(dots[c][1], $widen(sums[c][1]));
                            }
                        }
                        let d = load_f16(header);
                        let scales = [load_i8(block), load_i8(block.add(8))];
                        for c in 0..N {
                            let a = &*x.blocks[c].add(b);
                            for h in 0..2 {
                                let offset = _mm256_set1_epi32(32 * a.half_sums[h]);
                                dots[c][h] = _mm256_mullo_epi32(scales[h], _mm256_sub_epi32(dots[c][h], offset));
                            }
                            acc[c] = add_scaled(acc[c], d, a.d, _mm256_add_epi32(dots[c][0], dots[c][1]));
                        }
                    }
                }
                acc
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn q8_0<const N: usize>(panel: *const u8, blocks: usize, x: &Columns<N>) -> [__m256; N] {
                let mut acc = [_mm256_setzero_ps(); N];
                for b in 0..blocks {
                    // SAFETY: block `b` is inside the panel and the columns (`panel_dot`).
                    unsafe {
                        let block = panel.add(b * 272);
                        x.ask_next(block, 272);
                        let mut sums = [_mm256_setzero_si256(); N];
                        for g in 0..8 {
                            let w = load(block.add(16 + 32 * g));
                            for c in 0..N {
                                sums[c] = $step8(sums[c], w, broadcast(x.codes[c].add(b * BLOCK + 4 * g)));
                            }
                        }
                        let d = load_f16(block);
                        for c in 0..N {
                            let a = &*x.blocks[c].add(b);
                            let dot = finish8::<{ FLIPPED }>(sums[c], a);
                            acc[c] = add_scaled(acc[c], d, a.d, dot);
                        }
                    }
                }
                acc
            }

            /// Whether `$step8` reads weights as `w + 128`.
            const FLIPPED: bool = super::$step8::FLIPPED;
        }
    };
}

/// `acc + (d * a) * dot`, one fused multiply-add.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_scaled(acc: __m256, d: __m256, a: f32, dot: __m256i) -> __m256 {
    _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_set1_ps(a)), _mm256_cvtepi32_ps(dot), acc)
}

/// Takes back the 128 that flipped weights carry.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn finish8<const FLIPPED: bool>(sum: __m256i, a: &BlockScale) -> __m256i {
    if FLIPPED { _mm256_sub_epi32(sum, _mm256_set1_epi32(128 * (a.half_sums[0] + a.half_sums[1]))) } else { sum }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_maddubs(sum: __m256i, w: __m256i, a: __m256i) -> __m256i {
    _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, a))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widen_i16(sum: __m256i) -> __m256i {
    _mm256_madd_epi16(sum, _mm256_set1_epi16(1))
}

/// Signed weights by `|w| * sign(a, w)`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_signed(sum: __m256i, w: __m256i, a: __m256i) -> __m256i {
    let products = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
    _mm256_add_epi32(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)))
}

mod add_signed {
    pub(super) const FLIPPED: bool = false;
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512vnni,avx512vl")]
fn add_dpbusd(sum: __m256i, w: __m256i, a: __m256i) -> __m256i {
    _mm256_dpbusd_epi32(sum, w, a)
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn widened(sum: __m256i) -> __m256i {
    sum
}

/// Signed weights as `w + 128`; `finish8` takes the excess back.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512vnni,avx512vl")]
fn add_flipped(sum: __m256i, w: __m256i, a: __m256i) -> __m256i {
    _mm256_dpbusd_epi32(sum, _mm256_xor_si256(w, _mm256_set1_epi8(-128)), a)
}

mod add_flipped {
    pub(super) const FLIPPED: bool = true;
}

kernels!(maddubs, "avx2,fma,f16c", add_maddubs, widen_i16, add_signed);
kernels!(dpbusd, "avx2,fma,f16c,avx512vnni,avx512vl", add_dpbusd, widened, add_flipped);
