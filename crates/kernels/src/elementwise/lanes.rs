//! Eight f32 lanes in two versions, portable and AVX2, that give the same bits.
//!
//! A kernel is written once over [`Lanes`] and compiled for each version. Every operation is exactly rounded (fused
//! multiply-add included), so the two agree bit for bit and the portable one is the other's reference.

use half::f16;

use crate::Isa;

/// Number of lanes.
pub(crate) const LANES: usize = 8;

/// Operations on eight f32 lanes.
pub(crate) trait Lanes: Copy {
    /// Eight values.
    type V: Copy;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, x: &[f32; LANES]) -> Self::V;
    fn store(self, v: Self::V, out: &mut [f32; LANES]);
    /// Loads IEEE half floats by their bits.
    fn load_f16(self, x: &[u16; LANES]) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b`: a NaN in either gives `b`.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b`: a NaN in either gives `b`.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `(bits(t) + 127) << 23` as a float: two to the integer that stands in the low mantissa bits of `t`.
    fn exponent(self, t: Self::V) -> Self::V;
    /// `x < limit ? 0 : v`.
    fn zero_below(self, x: Self::V, limit: Self::V, v: Self::V) -> Self::V;
    /// Exchanges lanes 0 and 1, 2 and 3, and so on.
    fn swap_pairs(self, v: Self::V) -> Self::V;
    /// Sum of the lanes, in the order `((0+4)+(2+6)) + ((1+5)+(3+7))`.
    fn sum(self, v: Self::V) -> f32;
    /// Largest lane, compared in the order of [`Lanes::sum`].
    fn largest(self, v: Self::V) -> f32;

    /// Natural exponential; relative error below 2e-7. Zero below -87.3, finite (1.6e38) above 88, NaN stays NaN.
    #[inline(always)]
    fn exp(self, x: Self::V) -> Self::V {
        const LOWEST: f32 = -87.3;
        // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low mantissa bits.
        const ROUND: f32 = 12_582_912.0;
        let lowest = self.splat(LOWEST);
        let y = self.min(self.splat(88.0), self.max(lowest, x));
        let t = self.mul_add(y, self.splat(std::f32::consts::LOG2_E), self.splat(ROUND));
        let n = self.sub(t, self.splat(ROUND));
        // ln 2 in two parts; the first has trailing zeros, so that n times it is exact.
        let r = self.mul_add(n, self.splat(-0.693_359_4), y);
        let r = self.mul_add(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = self.mul_add(p, r, self.splat(c));
        }
        let p = self.mul_add(p, self.mul(r, r), self.add(r, self.splat(1.0)));
        self.zero_below(x, lowest, self.mul(p, self.exponent(t)))
    }
}

/// The portable version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

#[inline(always)]
fn map(mut f: impl FnMut(usize) -> f32) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for (i, x) in out.iter_mut().enumerate() {
        *x = f(i);
    }
    out
}

/// Not inlined: the conversion is long where the processor has none.
#[inline(never)]
fn floats_of_halves(x: &[u16; LANES]) -> [f32; LANES] {
    map(|i| f16::from_bits(x[i]).to_f32())
}

#[inline(always)]
fn pick_max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

impl Lanes for Scalar {
    type V = [f32; LANES];

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        *x
    }
    #[inline(always)]
    fn store(self, v: Self::V, out: &mut [f32; LANES]) {
        *out = v;
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::V {
        floats_of_halves(x)
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        map(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        map(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        map(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        map(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        map(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        map(|i| pick_max(a[i], b[i]))
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        map(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn exponent(self, t: Self::V) -> Self::V {
        map(|i| f32::from_bits(t[i].to_bits().wrapping_add(127) << 23))
    }
    #[inline(always)]
    fn zero_below(self, x: Self::V, limit: Self::V, v: Self::V) -> Self::V {
        map(|i| if x[i] < limit[i] { 0.0 } else { v[i] })
    }
    #[inline(always)]
    fn swap_pairs(self, v: Self::V) -> Self::V {
        map(|i| v[i ^ 1])
    }
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        let half = |i: usize| pick_max(pick_max(v[i], v[i + 4]), pick_max(v[i + 2], v[i + 6]));
        pick_max(half(0), half(1))
    }
}

/// A computation over lanes: written once, compiled for each version. `run` must be `#[inline(always)]`, so that it
/// becomes part of a function compiled for the processor's instructions.
pub(crate) trait Kernel {
    type Output;
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// Runs a kernel in the version for `isa` (the portable one where the processor lacks it).
#[inline]
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if isa != Isa::Scalar
        && let Some(lanes) = avx2::Avx2::detect()
    {
        return avx2::run(lanes, kernel);
    }
    let _ = isa;
    kernel.run(Scalar)
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2 {
    //! The version for x86-64 with AVX2, FMA and F16C.

    use std::arch::x86_64::*;

    use super::{Kernel, LANES, Lanes};

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

    impl Lanes for Avx2 {
        type V = __m256;

        #[inline(always)]
        fn splat(self, x: f32) -> __m256 {
            intrinsic!(_mm256_set1_ps(x))
        }
        #[inline(always)]
        fn load(self, x: &[f32; LANES]) -> __m256 {
            intrinsic!(_mm256_loadu_ps(x.as_ptr()))
        }
        #[inline(always)]
        fn store(self, v: __m256, out: &mut [f32; LANES]) {
            intrinsic!(_mm256_storeu_ps(out.as_mut_ptr(), v));
        }
        #[inline(always)]
        fn load_f16(self, x: &[u16; LANES]) -> __m256 {
            intrinsic!(_mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())))
        }
        #[inline(always)]
        fn add(self, a: __m256, b: __m256) -> __m256 {
            intrinsic!(_mm256_add_ps(a, b))
        }
        #[inline(always)]
        fn sub(self, a: __m256, b: __m256) -> __m256 {
            intrinsic!(_mm256_sub_ps(a, b))
        }
        #[inline(always)]
        fn mul(self, a: __m256, b: __m256) -> __m256 {
            intrinsic!(_mm256_mul_ps(a, b))
        }
        #[inline(always)]
        fn div(self, a: __m256, b: __m256) -> __m256 {
            intrinsic!(_mm256_div_ps(a, b))
        }
        #[inline(always)]
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            intrinsic!(_mm256_fmadd_ps(a, b, c))
        }
        #[inline(always)]
        fn max(self, a: __m256, b: __m256) -> __m256 {
            intrinsic!(_mm256_max_ps(a, b))
        }
        #[inline(always)]
        fn min(self, a: __m256, b: __m256) -> __m256 {
            intrinsic!(_mm256_min_ps(a, b))
        }
        #[inline(always)]
        fn exponent(self, t: __m256) -> __m256 {
            intrinsic!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
                _mm256_castps_si256(t),
                _mm256_set1_epi32(127)
            ))))
        }
        #[inline(always)]
        fn zero_below(self, x: __m256, limit: __m256, v: __m256) -> __m256 {
            intrinsic!(_mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x, limit), v))
        }
        #[inline(always)]
        fn swap_pairs(self, v: __m256) -> __m256 {
            intrinsic!(_mm256_permute_ps::<0b1011_0001>(v))
        }
        #[inline(always)]
        fn sum(self, v: __m256) -> f32 {
            intrinsic!({
                let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            })
        }
        #[inline(always)]
        fn largest(self, v: __m256) -> f32 {
            intrinsic!({
                let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp([f32; LANES]);
    impl Kernel for Exp {
        type Output = [f32; LANES];
        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            lanes.store(lanes.exp(lanes.load(&self.0)), &mut out);
            out
        }
    }

    #[test]
    fn exp_is_close_to_exact_everywhere() {
        let mut worst = 0.0f64;
        for i in -87_299..=87_999 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            let got = f64::from(Exp([x; LANES]).run(Scalar)[0]);
            worst = worst.max(((got - exact) / exact).abs());
        }
        assert!(worst < 2e-7, "{worst}");
    }

    #[test]
    fn exp_at_its_edges() {
        let out = Exp([0.0, -0.0, f32::NEG_INFINITY, -87.4, f32::INFINITY, f32::NAN, f32::MIN, 200.0]).run(Scalar);
        assert_eq!(out[0], 1.0);
        assert_eq!(out[1], 1.0);
        assert_eq!(out[2], 0.0);
        assert_eq!(out[3], 0.0);
        assert!(out[4].is_finite() && out[4] > 1e38);
        assert!(out[5].is_nan());
        assert_eq!(out[6], 0.0);
        assert!(out[7].is_finite() && out[7] > 1e38);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn both_versions_give_the_same_bits() {
        struct All([f32; LANES], [f32; LANES], [u16; LANES]);
        impl Kernel for All {
            type Output = Vec<u32>;
            #[inline(always)]
            fn run<L: Lanes>(self, l: L) -> Self::Output {
                let (a, b, h) = (l.load(&self.0), l.load(&self.1), l.load_f16(&self.2));
                let mut bits = vec![l.sum(a).to_bits(), l.largest(a).to_bits()];
                let vs = [
                    l.add(a, b),
                    l.sub(a, b),
                    l.mul(a, b),
                    l.div(a, b),
                    l.mul_add(a, b, h),
                    l.max(a, b),
                    l.min(a, b),
                    l.exp(a),
                    l.zero_below(a, b, h),
                    l.swap_pairs(a),
                    h,
                ];
                for v in vs {
                    let mut out = [0.0; LANES];
                    l.store(v, &mut out);
                    // Which NaN comes out of an operation is no promise of either version.
                    bits.extend(out.map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }));
                }
                bits
            }
        }
        let Some(avx2) = avx2::Avx2::detect() else { return };
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        };
        for round in 0..20_000 {
            // Any finite bits at all in one half of the rounds, everyday sizes in the other.
            let mut float = || {
                let bits = next();
                let x = if round % 2 == 0 { f32::from_bits(bits) } else { bits as f32 / 2f32.powi(28) - 8.0 };
                if x.is_finite() { x } else { f32::INFINITY.copysign(x) }
            };
            let (a, b) = (std::array::from_fn(|_| float()), std::array::from_fn(|_| float()));
            let h = std::array::from_fn(|_| (next() & 0xfbff) as u16);
            assert_eq!(All(a, b, h).run(Scalar), avx2::run(avx2, All(a, b, h)), "{a:?} {b:?} {h:?}");
        }
    }
}
