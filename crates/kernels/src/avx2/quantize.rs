//! Activations to 8 bits.

use std::arch::x86_64::*;

use crate::activations::BlockScale;
use crate::panel::BLOCK;
use crate::scalar::scale_of;

/// Quantizes a block of 32; same bits as the scalar twin.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn quantize_block(x: &[f32; BLOCK], codes: &mut [i8; BLOCK]) -> BlockScale {
    let (x, codes) = (x.as_ptr(), codes.as_mut_ptr());
    // SAFETY: all accesses are within the 32 values and codes.
    unsafe {
        let v = [_mm256_loadu_ps(x), _mm256_loadu_ps(x.add(8)), _mm256_loadu_ps(x.add(16)), _mm256_loadu_ps(x.add(24))];
        let sign = _mm256_set1_ps(-0.0);
        let mut max = _mm256_setzero_ps();
        let mut unordered = _mm256_setzero_ps();
        for v in v {
            // On NaN the second operand is taken, so a NaN does not hide the others.
            max = _mm256_max_ps(_mm256_andnot_ps(sign, v), max);
            unordered = _mm256_or_ps(unordered, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        }
        let four = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps::<1>(max));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        let max = _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)));
        if !max.is_finite() || _mm256_movemask_ps(unordered) != 0 {
            _mm256_storeu_si256(codes.cast(), _mm256_setzero_si256());
            return BlockScale::NOT_A_NUMBER;
        }
        let (d, inverse) = scale_of(max);
        let inverse = _mm256_set1_ps(inverse);
        let mut q = [_mm256_setzero_si256(); 4];
        for (q, v) in q.iter_mut().zip(v) {
            *q = _mm256_cvtps_epi32(_mm256_mul_ps(v, inverse));
        }
        let half_sums = [sum_epi32(_mm256_add_epi32(q[0], q[1])), sum_epi32(_mm256_add_epi32(q[2], q[3]))];
        let bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
        let in_order = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256(codes.cast(), in_order);
        BlockScale::new(d, half_sums)
    }
}

#[target_feature(enable = "avx2")]
fn sum_epi32(v: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}
