//! The version for x86-64 with AVX2, FMA and F16C: pairs of 256-bit vectors.

use std::arch::x86_64::*;

use super::{BLOCK, BlockScale, Kernel, LANES, Lanes};

/// Proof that the processor has AVX2, FMA and F16C: only [`Avx2::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        let has =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }
}

/// Runs a kernel inside a function compiled for these instructions.
#[inline]
pub(crate) fn run<K: Kernel>(lanes: Avx2, kernel: K) -> K::Output {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn compiled<K: Kernel>(lanes: Avx2, kernel: K) -> K::Output {
        kernel.run(lanes)
    }
    // SAFETY: `lanes` proves that the processor has the instructions.
    unsafe { compiled(lanes, kernel) }
}

/// The bodies below need the same reason each time, so it stands here once.
macro_rules! intrinsic {
    ($body:expr) => {
        // SAFETY: `self` proves that the processor has AVX2, FMA and F16C; loads and stores are unaligned and go
        // through references to arrays of exactly the size they touch.
        unsafe { $body }
    };
}

type Pair = [__m256; 2];

impl Lanes for Avx2 {
    type V = Pair;
    const HELD: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> Pair {
        intrinsic!([_mm256_set1_ps(x); 2])
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Pair {
        intrinsic!([_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))])
    }
    #[inline(always)]
    fn store(self, v: Pair, out: &mut [f32; LANES]) {
        intrinsic!({
            _mm256_storeu_ps(out.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), v[1]);
        });
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Pair {
        intrinsic!({
            let x: *const __m128i = x.as_ptr().cast();
            [_mm256_cvtph_ps(_mm_loadu_si128(x)), _mm256_cvtph_ps(_mm_loadu_si128(x.add(1)))]
        })
    }
    #[inline(always)]
    fn store_f16(self, v: Pair, out: &mut [u16; LANES]) {
        intrinsic!({
            let out: *mut __m128i = out.as_mut_ptr().cast();
            _mm_storeu_si128(out, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]));
            _mm_storeu_si128(out.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]));
        });
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Pair {
        intrinsic!({
            let x = _mm_loadu_si128(x.as_ptr().cast());
            [
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(x, x))),
            ]
        })
    }
    #[inline(always)]
    fn prefetch<T>(self, line: &T) {
        intrinsic!(_mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(line).cast()));
    }
    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        intrinsic!([_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        intrinsic!([_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        intrinsic!([_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        intrinsic!([_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn mul_add(self, a: Pair, b: Pair, c: Pair) -> Pair {
        intrinsic!([_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])])
    }
    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        intrinsic!([_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        intrinsic!([_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])])
    }
    #[inline(always)]
    fn exponent(self, t: Pair) -> Pair {
        intrinsic!({
            let bias = _mm256_set1_epi32(127);
            let shifted = [
                _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_castps_si256(t[0]), bias)),
                _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_castps_si256(t[1]), bias)),
            ];
            [_mm256_castsi256_ps(shifted[0]), _mm256_castsi256_ps(shifted[1])]
        })
    }
    #[inline(always)]
    fn zero_below(self, x: Pair, limit: Pair, v: Pair) -> Pair {
        intrinsic!([
            _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x[0], limit[0]), v[0]),
            _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x[1], limit[1]), v[1]),
        ])
    }
    #[inline(always)]
    fn swap_pairs(self, v: Pair) -> Pair {
        intrinsic!([_mm256_permute_ps::<0b1011_0001>(v[0]), _mm256_permute_ps::<0b1011_0001>(v[1])])
    }
    #[inline(always)]
    fn sum(self, v: Pair) -> f32 {
        intrinsic!(sum_of_eight(_mm256_add_ps(v[0], v[1])))
    }
    #[inline(always)]
    fn largest(self, v: Pair) -> f32 {
        intrinsic!(largest_of_eight(_mm256_max_ps(v[0], v[1])))
    }
    #[inline(always)]
    fn quantize(self, x: &[f32; BLOCK], codes: &mut [i8; BLOCK]) -> BlockScale {
        intrinsic!(crate::avx2::quantize_block(x, codes))
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum_of_eight(v: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn largest_of_eight(v: __m256) -> f32 {
    let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
}
