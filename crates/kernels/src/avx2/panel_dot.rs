//! Eight rows of a panel times a few columns, the rows in the lanes: one unpacked block serves all columns, and no
//! horizontal sums are needed.
//!
//! Integer products use `maddubs` (u8 x i8, pairs added in i16) with as many in one i16 sum as the codes allow
//! (4 bits: 8 of them, 8 * 2 * 15 * 127 = 30,480; 5 bits: 4; 6 bits: 2; signed bytes: 1, by the sign trick), or VNNI's
//! `dpbusd`, which adds in i32. What a type is made of (`panel::Layout`) is known when its kernel is compiled.

use std::arch::x86_64::*;

use crate::WeightType;
use crate::activations::{Activations, BlockScale};
use crate::panel::{BLOCK, Codes, LANES, Layout, Quantized, ScaleKind, with_quantized};

/// `N` activation columns, as the kernels read them.
#[derive(Clone, Copy)]
pub(crate) struct Columns<const N: usize> {
    pub(crate) codes: [*const i8; N],
    pub(crate) blocks: [*const BlockScale; N],
    pub(crate) values: [*const f32; N],
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
            (ty, false) => with_quantized!(ty, T => maddubs::dot::<T, N>(p, blocks, x)),
            (ty, true) => with_quantized!(ty, T => dpbusd::dot::<T, N>(p, blocks, x)),
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

/// Powers of two, as `panel::exponent_scale` reads the byte.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load_exponent(p: *const u8) -> __m256 {
    // SAFETY: the caller points at 8 readable bytes.
    let e = unsafe { load_u8(p) };
    let subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), _mm256_min_epi32(e, _mm256_set1_epi32(2)));
    // Of 0 this is below 0.
    let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, _mm256_set1_epi32(1)));
    _mm256_castsi256_ps(_mm256_max_epi32(subnormal, normal))
}

/// Floats times integers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn times(x: __m256, n: __m256i) -> __m256 {
    _mm256_mul_ps(x, _mm256_cvtepi32_ps(n))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn negated(x: __m256) -> __m256 {
    _mm256_xor_ps(x, _mm256_set1_ps(-0.0))
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

/// The planes of a block that all groups of columns share.
struct Shared {
    bits: __m256i,
    pairs: [__m256i; 2],
}

/// # Safety
/// Needs AVX2; `planes` are those of a block of the type `T`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn shared_planes<T: Quantized>(planes: *const u8) -> Shared {
    let codes = T::LAYOUT.codes;
    let none = _mm256_setzero_si256();
    let mut shared = Shared { bits: none, pairs: [none; 2] };
    // SAFETY: the planes are there (`panel`).
    unsafe {
        if codes.bits & 1 != 0 {
            shared.bits = load(planes);
        }
        if codes.bits & 2 != 0 {
            let pairs = planes.add(codes.plane_offsets().0);
            shared.pairs = [load(pairs), load(pairs.add(32))];
        }
    }
    shared
}

/// What the codes of group `g` stand for, in the first half of the block and in the last. Bytes as `maddubs` wants its
/// first factor, or signed.
///
/// # Safety
/// As [`shared_planes`]; `g` is below 4.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn group<T: Quantized>(planes: *const u8, shared: &Shared, g: usize) -> [__m256i; 2] {
    let codes = T::LAYOUT.codes;
    let mut halves = [_mm256_setzero_si256(); 2];
    // SAFETY: the planes are there (`panel`).
    unsafe {
        if codes.bits == 8 {
            return [load(planes.add(32 * g)), load(planes.add(32 * (4 + g)))];
        }
        if codes.bits & 4 != 0 {
            let raw = load(planes.add(codes.plane_offsets().1 + 32 * g));
            let mask = _mm256_set1_epi8(15);
            halves = [_mm256_and_si256(raw, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(raw), mask)];
        }
        let (bit, pair) = codes.plane_shifts();
        if codes.bits & 2 != 0 {
            halves[0] = _mm256_or_si256(halves[0], moved(shared.pairs[0], 2 * g, pair, 3));
            halves[1] = _mm256_or_si256(halves[1], moved(shared.pairs[1], 2 * g, pair, 3));
        }
        if codes.bits & 1 != 0 {
            halves[0] = _mm256_or_si256(halves[0], moved(shared.bits, g, bit, 1));
            halves[1] = _mm256_or_si256(halves[1], moved(shared.bits, 4 + g, bit, 1));
        }
        if let Some(table) = codes.table {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
            halves[0] = _mm256_shuffle_epi8(table, halves[0]);
            halves[1] = _mm256_shuffle_epi8(table, halves[1]);
        }
    }
    halves
}

/// The bits of `mask` that stand at bit `from` of each byte, moved to bit `to`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn moved(plane: __m256i, from: usize, to: usize, mask: u8) -> __m256i {
    // One of the shifts is by 0: both are constants once the loop over groups is unrolled.
    let left = shift_count(to.saturating_sub(from));
    let right = shift_count(from.saturating_sub(to));
    let plane = _mm256_srl_epi16(_mm256_sll_epi16(plane, left), right);
    _mm256_and_si256(plane, _mm256_set1_epi8((mask << to).cast_signed()))
}

/// What turns a block's integer dots into numbers, for each row: scales and minimums, those that the type has; the second
/// ones are those of the last half.
struct Scales {
    d: [__m256; 2],
    m: [__m256; 2],
}

/// # Safety
/// Needs AVX2 and F16C; `header` and `block` are those of a block of the type `T`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn scales<T: Quantized>(header: *const u8, block: *const u8) -> Scales {
    let none = _mm256_setzero_ps();
    // SAFETY: the scales are there (`panel`).
    unsafe {
        let d = if T::LAYOUT.scales == ScaleKind::Exponent { load_exponent(block) } else { load_f16(header) };
        match T::LAYOUT.scales {
            ScaleKind::Float | ScaleKind::One | ScaleKind::Exponent => Scales { d: [d; 2], m: [none; 2] },
            ScaleKind::Min => Scales { d: [d; 2], m: [load_f16(header.add(16)); 2] },
            ScaleKind::Sub => Scales { d: [times(d, load_i8(block)); 2], m: [none; 2] },
            ScaleKind::SubHalves => {
                Scales { d: [times(d, load_i8(block)), times(d, load_i8(block.add(8)))], m: [none; 2] }
            }
            ScaleKind::SubMin => {
                let m = negated(load_f16(header.add(16)));
                Scales { d: [times(d, load_u8(block)); 2], m: [times(m, load_u8(block.add(8))); 2] }
            }
            ScaleKind::SubHalvesMin => {
                let m = negated(load_f16(header.add(16)));
                let (low, up, nibble) = (load_u8(block), load_u8(block.add(8)), _mm256_set1_epi32(15));
                let d = [times(d, _mm256_and_si256(low, nibble)), times(d, _mm256_and_si256(up, nibble))];
                Scales { d, m: [times(m, _mm256_srli_epi32::<4>(low)), times(m, _mm256_srli_epi32::<4>(up))] }
            }
        }
    }
}

/// `acc` and the product of one block with one column, from the dots of the two halves, or for types without scales of
/// halves of their parts. `offset` is what the factors of the dots carry above the weights. The same fused multiply-adds
/// in the same order as in `scalar::panel_dot`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add_block<T: Quantized>(acc: __m256, w: &Scales, dots: [__m256i; 2], offset: i32, a: &BlockScale) -> __m256 {
    let [low_sum, up_sum] = a.half_sums;
    let (kind, d) = (T::LAYOUT.scales, _mm256_set1_ps(a.d));
    let acc = if kind.halves() {
        let low = _mm256_sub_epi32(dots[0], _mm256_set1_epi32(offset * low_sum));
        let up = _mm256_sub_epi32(dots[1], _mm256_set1_epi32(offset * up_sum));
        _mm256_fmadd_ps(d, _mm256_fmadd_ps(w.d[1], _mm256_cvtepi32_ps(up), times(w.d[0], low)), acc)
    } else {
        let offset = _mm256_set1_epi32(offset * (low_sum + up_sum));
        let dot = _mm256_sub_epi32(_mm256_add_epi32(dots[0], dots[1]), offset);
        _mm256_fmadd_ps(_mm256_mul_ps(w.d[0], d), _mm256_cvtepi32_ps(dot), acc)
    };
    match kind {
        ScaleKind::Min | ScaleKind::SubMin => _mm256_fmadd_ps(w.m[0], _mm256_set1_ps(a.scaled_sum), acc),
        ScaleKind::SubHalvesMin => {
            let [low, up] = [_mm256_set1_epi32(low_sum), _mm256_set1_epi32(up_sum)];
            _mm256_fmadd_ps(d, _mm256_fmadd_ps(w.m[1], _mm256_cvtepi32_ps(up), times(w.m[0], low)), acc)
        }
        _ => acc,
    }
}

/// How many `maddubs` of these codes with activations (at most 127) one i16 holds.
const fn steps_in_i16(codes: Codes) -> usize {
    let mut most = (1 << codes.bits) - 1;
    if let Some(table) = codes.table {
        most = 0;
        let mut code = 0;
        while code < 16 {
            if table[code] as usize > most {
                most = table[code] as usize;
            }
            code += 1;
        }
    }
    i16::MAX as usize / (2 * 127 * most)
}

/// The kernel of all types over one way to multiply codes: `$step` adds products of unsigned bytes to a running sum,
/// `$widen` turns a running sum into i32 lanes, `$step8` adds products of signed bytes to i32 lanes.
macro_rules! kernels {
    ($name:ident, $features:literal, $step:ident, $widen:ident, $step8:ident) => {
        mod $name {
            use super::*;

            #[target_feature(enable = $features)]
            pub(super) unsafe fn dot<T: Quantized, const N: usize>(
                panel: *const u8,
                blocks: usize,
                x: &Columns<N>,
            ) -> [__m256; N] {
                let layout = T::LAYOUT;
                let offset = match (layout.codes.signed, super::$step8::FLIPPED) {
                    (true, true) => 128,
                    (true, false) => 0,
                    _ => i32::from(layout.codes.offset),
                };
                let mut acc = [_mm256_setzero_ps(); N];
                for b in 0..blocks {
                    // SAFETY: block `b` is inside the panel and the columns (`panel_dot`).
                    unsafe {
                        let (header, block) = layout.offsets(b);
                        let (header, block) = (panel.add(header), panel.add(block));
                        x.ask_next(block, layout.block_bytes);
                        let dots = dots::<T, N>(block.add(layout.scale_bytes), b, x);
                        let scales = scales::<T>(header, block);
                        for c in 0..N {
                            acc[c] = add_block::<T>(acc[c], &scales, dots[c], offset, &*x.blocks[c].add(b));
                        }
                    }
                }
                acc
            }

            /// Integer dots of a block's codes with `N` columns, in two parts: those of the halves, if they have scales
            /// of their own.
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn dots<T: Quantized, const N: usize>(
                planes: *const u8,
                b: usize,
                x: &Columns<N>,
            ) -> [[__m256i; 2]; N] {
                let codes = T::LAYOUT.codes;
                let steps = const { steps_in_i16(T::LAYOUT.codes) };
                // Groups until a running sum is widened, and the sum of the last half.
                let span = if codes.signed || steps >= 4 { 4 } else { 2 };
                let last = usize::from(T::LAYOUT.scales.halves() || steps < 8);
                let mut dots = [[_mm256_setzero_si256(); 2]; N];
                // SAFETY: the block's planes and each column's 32 codes at block `b` are there (`panel_dot`).
                unsafe {
                    let shared = shared_planes::<T>(planes);
                    for part in 0..4 / span {
                        let mut sums = [[_mm256_setzero_si256(); 2]; N];
                        for g in part * span..(part + 1) * span {
                            let [low, up] = group::<T>(planes, &shared, g);
                            for c in 0..N {
                                let a = x.codes[c].add(b * BLOCK + 4 * g);
                                if codes.signed {
                                    dots[c][0] = $step8(dots[c][0], low, broadcast(a));
                                    dots[c][0] = $step8(dots[c][0], up, broadcast(a.add(16)));
                                } else {
                                    sums[c][0] = $step(sums[c][0], low, broadcast(a));
                                    sums[c][last] = $step(sums[c][last], up, broadcast(a.add(16)));
                                }
                            }
                        }
                        if !codes.signed {
                            // A loop, not `map`: a closure called from a function without these features would not be
                            // inlined.
                            for c in 0..N {
                                dots[c][0] = _mm256_add_epi32(dots[c][0], $widen(sums[c][0]));
                                if last == 1 {
                                    dots[c][1] = _mm256_add_epi32(dots[c][1], $widen(sums[c][1]));
                                }
                            }
                        }
                    }
                }
                dots
            }
        }
    };
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

/// Whether weights are read as `w + 128`.
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

/// Signed weights as `w + 128`; the offset takes the excess back.
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
