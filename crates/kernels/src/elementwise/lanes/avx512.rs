//! The version for x86-64 with AVX-512 (F, BW, DQ, VL).

use std::arch::x86_64::*;

use super::avx2::{largest_of_eight, sum_of_eight};
use super::{BLOCK, BlockScale, Kernel, LANES, Lanes};
use crate::scalar::scale_of;

/// Proof that the processor has AVX-512 F, BW, DQ and VL, and FMA: only [`Avx512::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }
}

/// Runs a kernel inside a function compiled for these instructions.
#[inline]
pub(crate) fn run<K: Kernel>(lanes: Avx512, kernel: K) -> K::Output {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]
    fn compiled<K: Kernel>(lanes: Avx512, kernel: K) -> K::Output {
        kernel.run(lanes)
    }
    // SAFETY: `lanes` proves that the processor has the instructions.
    unsafe { compiled(lanes, kernel) }
}

/// The bodies below need the same reason each time, so it stands here once.
macro_rules! intrinsic {
    ($body:expr) => {
        // SAFETY: `self` proves that the processor has AVX-512 F, BW, DQ and VL, and FMA; loads and stores are unaligned
        // and go through references to arrays of exactly the size they touch.
        unsafe { $body }
    };
}

impl Lanes for Avx512 {
    type V = __m512;
    const HELD: usize = 24;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        intrinsic!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        intrinsic!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32; LANES]) {
        intrinsic!(_mm512_storeu_ps(out.as_mut_ptr(), v));
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> __m512 {
        intrinsic!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_f16(self, v: __m512, out: &mut [u16; LANES]) {
        intrinsic!(_mm256_storeu_si256(
            out.as_mut_ptr().cast(),
            _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v)
        ));
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> __m512 {
        intrinsic!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))))
    }
    #[inline(always)]
    fn prefetch<T>(self, line: &T) {
        intrinsic!(_mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(line).cast()));
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        intrinsic!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        intrinsic!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn exponent(self, t: __m512) -> __m512 {
        intrinsic!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
            _mm512_castps_si512(t),
            _mm512_set1_epi32(127)
        ))))
    }
    #[inline(always)]
    fn zero_below(self, x: __m512, limit: __m512, v: __m512) -> __m512 {
        intrinsic!(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, limit), v))
    }
    #[inline(always)]
    fn swap_pairs(self, v: __m512) -> __m512 {
        intrinsic!(_mm512_permute_ps::<0b1011_0001>(v))
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        intrinsic!(sum_of_eight(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v))))
    }
    #[inline(always)]
    fn largest(self, v: __m512) -> f32 {
        intrinsic!(largest_of_eight(_mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v))))
    }
    #[inline(always)]
    fn quantize(self, x: &[f32; BLOCK], codes: &mut [i8; BLOCK]) -> BlockScale {
        intrinsic!(quantize_block(x, codes))
    }
}

/// Quantizes a block of activations; same bits as the scalar twin.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn quantize_block(x: &[f32; BLOCK], codes: &mut [i8; BLOCK]) -> BlockScale {
    // SAFETY: both halves of the 32 values.
    let v = unsafe { [_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(LANES))] };
    // Magnitudes compare like their bits; infinities and what is no number stand above all others.
    let magnitude = _mm512_set1_epi32(i32::MAX);
    let sixteen = _mm512_max_epu32(
        _mm512_and_si512(_mm512_castps_si512(v[0]), magnitude),
        _mm512_and_si512(_mm512_castps_si512(v[1]), magnitude),
    );
    let eight = _mm256_max_epu32(_mm512_castsi512_si256(sixteen), _mm512_extracti64x4_epi64::<1>(sixteen));
    let four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
    let two = _mm_max_epu32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    let max = f32::from_bits(_mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32::<1>(two))).cast_unsigned());
    if !max.is_finite() {
        codes.fill(0);
        return BlockScale::NOT_A_NUMBER;
    }
    let (d, inverse) = scale_of(max);
    let inverse = _mm512_set1_ps(inverse);
    let low = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v[0], inverse)));
    let high = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v[1], inverse)));
    let bytes = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high);
    // SAFETY: the 32 codes.
    unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), bytes) };
    // Sums of eight codes each, as bytes without sign: 128 above.
    let sums = _mm256_sad_epu8(_mm256_xor_si256(bytes, _mm256_set1_epi8(i8::MIN)), _mm256_setzero_si256());
    let sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32::<0b00_00_11_10>(sums));
    let half_sums = [_mm_cvtsi128_si32(_mm256_castsi256_si128(sums)), _mm256_extract_epi32::<4>(sums)];
    BlockScale::new(d, half_sums.map(|sum| sum - 16 * 128))
}
