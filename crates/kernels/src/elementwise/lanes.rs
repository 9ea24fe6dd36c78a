//! Sixteen f32 lanes in three versions, portable, AVX2 (pairs of vectors) and AVX-512, that give the same bits.
//!
//! A kernel is written once over [`Lanes`] and compiled for each version. Every operation is exactly rounded (fused
//! multiply-add included), so all agree bit for bit and the portable one is the others' reference.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

use half::f16;

use crate::Isa;
use crate::activations::BlockScale;
use crate::panel::BLOCK;
use crate::scalar;

/// Number of lanes.
pub(crate) const LANES: usize = 16;

/// Operations on sixteen f32 lanes.
pub(crate) trait Lanes: Copy {
    /// Sixteen values.
    type V: Copy;

    /// Values that registers hold at a time, beside a few for what passes through.
    const HELD: usize;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, x: &[f32; LANES]) -> Self::V;
    fn store(self, v: Self::V, out: &mut [f32; LANES]);
    /// Loads IEEE half floats by their bits.
    fn load_f16(self, x: &[u16; LANES]) -> Self::V;
    /// Rounds to IEEE half floats (nearest, ties to even) and stores their bits.
    fn store_f16(self, v: Self::V, out: &mut [u16; LANES]);
    /// Loads integers.
    fn load_i8(self, x: &[i8; LANES]) -> Self::V;
    /// Asks for the cache line of what will be needed soon.
    fn prefetch<T>(self, line: &T);
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
    /// Sum of the lanes: lanes `i` and `i + 8` make eight, these are summed as `((0+4)+(2+6)) + ((1+5)+(3+7))`.
    fn sum(self, v: Self::V) -> f32;
    /// Largest lane, compared in the order of [`Lanes::sum`].
    fn largest(self, v: Self::V) -> f32;
    /// Quantizes a block of activations to 8 bits.
    fn quantize(self, x: &[f32; BLOCK], codes: &mut [i8; BLOCK]) -> BlockScale;

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
    const HELD: usize = 6;

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
    fn store_f16(self, v: Self::V, out: &mut [u16; LANES]) {
        for (out, v) in out.iter_mut().zip(v) {
            *out = f16::from_f32(v).to_bits();
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[i8; LANES]) -> Self::V {
        map(|i| f32::from(x[i]))
    }
    #[inline(always)]
    fn prefetch<T>(self, _: &T) {}
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
        let eight = |i: usize| v[i] + v[i + 8];
        let half = |i: usize| (eight(i) + eight(i + 4)) + (eight(i + 2) + eight(i + 6));
        half(0) + half(1)
    }
    #[inline(always)]
    fn largest(self, v: Self::V) -> f32 {
        let eight = |i: usize| pick_max(v[i], v[i + 8]);
        let half = |i: usize| pick_max(pick_max(eight(i), eight(i + 4)), pick_max(eight(i + 2), eight(i + 6)));
        pick_max(half(0), half(1))
    }
    #[inline(always)]
    fn quantize(self, x: &[f32; BLOCK], codes: &mut [i8; BLOCK]) -> BlockScale {
        scalar::quantize_block(x, codes)
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
    match isa {
        Isa::Scalar => {}
        Isa::Avx2 | Isa::Vnni => {
            if let Some(lanes) = avx2::Avx2::detect() {
                return avx2::run(lanes, kernel);
            }
        }
        _ => {
            if let Some(lanes) = avx512::Avx512::detect() {
                return avx512::run(lanes, kernel);
            }
        }
    }
    let _ = isa;
    kernel.run(Scalar)
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
        let mut x = [0.0; LANES];
        x[1..8].copy_from_slice(&[-0.0, f32::NEG_INFINITY, -87.4, f32::INFINITY, f32::NAN, f32::MIN, 200.0]);
        let out = Exp(x).run(Scalar);
        assert_eq!(out[0], 1.0);
        assert_eq!(out[1], 1.0);
        assert_eq!(out[2], 0.0);
        assert_eq!(out[3], 0.0);
        assert!(out[4].is_finite() && out[4] > 1e38);
        assert!(out[5].is_nan());
        assert_eq!(out[6], 0.0);
        assert!(out[7].is_finite() && out[7] > 1e38);
    }

    #[test]
    fn all_versions_give_the_same_bits() {
        struct All([f32; LANES], [f32; LANES], [u16; LANES]);
        impl Kernel for All {
            type Output = Vec<u32>;
            #[inline(always)]
            fn run<L: Lanes>(self, l: L) -> Self::Output {
                let (a, b, h) = (l.load(&self.0), l.load(&self.1), l.load_f16(&self.2));
                let codes = self.2.map(|h| h.to_le_bytes()[0].cast_signed());
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
                    l.load_i8(&codes),
                ];
                for v in vs {
                    let mut out = [0.0; LANES];
                    l.store(v, &mut out);
                    // Which NaN comes out of an operation is no promise of either version.
                    bits.extend(out.map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }));
                }
                let mut halves = [0; LANES];
                l.store_f16(a, &mut halves);
                bits.extend(halves.map(u32::from));
                let (mut block, mut codes) = ([0.0; BLOCK], [0; BLOCK]);
                block[..LANES].copy_from_slice(&self.0);
                block[LANES..].copy_from_slice(&self.1);
                let scale = l.quantize(&block, &mut codes);
                let d = if scale.d.is_nan() { f32::NAN.to_bits() } else { scale.d.to_bits() };
                bits.extend([d, scale.half_sums[0].cast_unsigned(), scale.half_sums[1].cast_unsigned()]);
                bits.extend(codes.map(|code| i32::from(code).cast_unsigned()));
                bits
            }
        }
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
            let expected = All(a, b, h).run(Scalar);
            for &isa in Isa::available() {
                assert_eq!(dispatch(isa, All(a, b, h)), expected, "{isa:?} {a:?} {b:?} {h:?}");
            }
        }
    }
}
