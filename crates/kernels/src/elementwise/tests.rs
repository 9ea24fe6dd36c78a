//! Each operation in all versions gives the same bits, and the numbers of its formula.

use super::lanes::Kernel;
use super::norm::{AddNorm, Norm, NormAdd, NormInPlace};
use super::pointwise::{AddToRows, Curve, Gated, Softcap};
use super::rope::Rope;
use super::*;

struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / 8_388_608.0 - 1.0
    }

    fn values(&mut self, len: usize, size: f32) -> Vec<f32> {
        (0..len).map(|_| self.next() * size).collect()
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Runs a kernel that changes `out` in all versions; the results must be the same bits.
fn in_all(out: &[f32], run: impl Fn(&mut [f32], crate::Isa)) -> Vec<f32> {
    let mut portable = out.to_vec();
    run(&mut portable, crate::Isa::Scalar);
    for &isa in crate::Isa::available() {
        let mut fast = out.to_vec();
        run(&mut fast, isa);
        assert_eq!(bits(&portable), bits(&fast), "{isa:?}");
    }
    portable
}

/// Runs one kernel in the wanted version.
fn go<K: Kernel<Output = ()>>(kernel: K, isa: crate::Isa) {
    lanes::dispatch(isa, kernel);
}

const WIDTHS: [usize; 8] = [1, 7, 8, 16, 40, 61, 127, 576];
const SIZES: [f32; 4] = [1.0, 1e-20, 1e15, 0.0];

fn expected_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f64> {
    let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / x.len() as f64;
    let root = (mean + f64::from(eps)).sqrt();
    x.iter().zip(weight).map(|(&x, &w)| f64::from(x) / root * f64::from(w)).collect()
}

fn assert_close(got: &[f32], expected: &[f64], relative: f64) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((f64::from(*got) - expected).abs() <= relative * expected.abs() + 1e-30, "{got} {expected}");
    }
}

#[test]
fn norms() {
    let mut random = Random(1);
    for width in WIDTHS {
        for size in SIZES {
            let (x, delta) = (random.values(3 * width, size), random.values(3 * width, size));
            let (weight, eps) = (random.values(width, 2.0), 1e-6);
            let zeros = vec![0.0; 3 * width];
            let rows =
                |x: &[f32]| -> Vec<f64> { x.chunks(width).flat_map(|x| expected_norm(x, &weight, eps)).collect() };
            let normed = in_all(&zeros, |out, isa| go(Norm { x: &x, weight: &weight, eps, out }, isa));
            assert_close(&normed, &rows(&x), 1e-6);
            let in_place = in_all(&x, |x, isa| go(NormInPlace { x, weight: &weight, eps }, isa));
            assert_eq!(bits(&in_place), bits(&normed));
            let summed = in_all(&zeros, |out, isa| {
                let mut x = x.clone();
                go(AddNorm { x: &mut x, delta: &delta, weight: &weight, eps, out }, isa);
            });
            let sums: Vec<f32> = x.iter().zip(&delta).map(|(x, d)| x + d).collect();
            assert_close(&summed, &rows(&sums), 1e-6);
            let added = in_all(&x, |x, isa| go(NormAdd { x, delta: &delta, weight: &weight, eps }, isa));
            for ((added, x), normed) in added.iter().zip(&x).zip(rows(&delta)) {
                let (x, added) = (f64::from(*x), f64::from(*added));
                assert!((added - (x + normed)).abs() <= 1e-6 * (x.abs() + normed.abs()) + 1e-30);
            }
        }
    }
}

#[test]
fn gates() {
    let mut random = Random(2);
    for width in WIDTHS {
        for size in [0.1, 1.0, 10.0, 300.0] {
            let (gate, up) = (random.values(width, size), random.values(width, 3.0));
            let silu = in_all(&gate, |gate, isa| go(Gated { gate, up: &up, curve: Curve::Silu }, isa));
            let gelu = in_all(&gate, |gate, isa| go(Gated { gate, up: &up, curve: Curve::Gelu }, isa));
            for i in 0..width {
                let (x, up) = (f64::from(gate[i]), f64::from(up[i]));
                let expected = x / (1.0 + (-x).exp()) * up;
                assert!((f64::from(silu[i]) - expected).abs() <= 1e-6 * expected.abs() + 1e-30, "silu {x}");
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                let expected = 0.5 * x * (1.0 + inner.tanh()) * up;
                // Where tanh is near -1 the formula itself cancels; the sigmoid form does not.
                let bound = 2e-5 * expected.abs() + 1e-14 * (x * up).abs() + 1e-30;
                assert!((f64::from(gelu[i]) - expected).abs() <= bound, "gelu {x}: {} {expected}", gelu[i]);
            }
        }
    }
}

#[test]
fn gates_at_their_edges() {
    let edges = [f32::MAX, f32::MIN, 1e30, -1e30, 0.0, -0.0, f32::MIN_POSITIVE, -200.0];
    for curve in [Curve::Silu, Curve::Gelu] {
        let out = in_all(&edges, |gate, isa| go(Gated { gate, up: &[1.0; 8], curve }, isa));
        assert_eq!((out[2], out[4], out[5]), (1e30, 0.0, 0.0), "{curve:?}");
        assert!(out[7].abs() < 1e-30, "{curve:?} {out:?}");
    }
    let nan = in_all(&[f32::NAN; 8], |gate, isa| {
        go(Gated { gate, up: &[1.0; 8], curve: Curve::Silu }, isa);
        gate.iter_mut().for_each(|x| *x = if x.is_nan() { 1.0 } else { 0.0 });
    });
    assert_eq!(nan, [1.0; 8], "what is no number stays none");
}

#[test]
fn biases_and_caps() {
    let mut random = Random(6);
    for width in WIDTHS {
        let (x, bias) = (random.values(3 * width, 40.0), random.values(width, 3.0));
        let biased = in_all(&x, |x, isa| go(AddToRows { x, bias: &bias }, isa));
        for (i, (got, x)) in biased.iter().zip(&x).enumerate() {
            assert_eq!(*got, x + bias[i % width]);
        }
        for cap in [0.1, 30.0, 1000.0] {
            let capped = in_all(&x, |x, isa| go(Softcap { x, cap }, isa));
            for (got, x) in capped.iter().zip(&x) {
                let expected = f64::from(cap) * (f64::from(*x) / f64::from(cap)).tanh();
                assert!((f64::from(*got) - expected).abs() <= 3e-7 * f64::from(cap), "{got} {expected} of {cap}");
            }
        }
    }
}

/// Pairs of any frequencies, and a magnitude that values beyond the turned ones do not get.
#[test]
fn rotary_pairs_with_a_magnitude() {
    let pool = ThreadPool::new(1).unwrap();
    let x = Random(7).values(10, 4.0);
    for order in [RopeOrder::Adjacent, RopeOrder::Halves] {
        let mut table = RopeTable::new();
        table.prepare(&pool, &RopeFrequencies::of_pairs(order, vec![0.3, 0.01], 1.5), &[700u32], |&p| p);
        let mut got = x.clone();
        rope(&pool, &mut got, 10, 10, &table);
        for (pair, frequency) in [0.3f64, 0.01].into_iter().enumerate() {
            let (a, b) = if order == RopeOrder::Adjacent { (2 * pair, 2 * pair + 1) } else { (pair, pair + 2) };
            let ((s, c), (v, w)) = ((700.0 * frequency).sin_cos(), (f64::from(x[a]), f64::from(x[b])));
            assert!((f64::from(got[a]) - 1.5 * (v * c - w * s)).abs() < 4e-6);
            assert!((f64::from(got[b]) - 1.5 * (v * s + w * c)).abs() < 4e-6);
        }
        assert_eq!(bits(&got[4..]), bits(&x[4..]));
    }
}

#[test]
fn rotary_angles() {
    let pool = ThreadPool::new(2).unwrap();
    let mut random = Random(3);
    for order in [RopeOrder::Adjacent, RopeOrder::Halves] {
        for (heads, head_dim, dims) in [(3, 64, 64), (2, 24, 24), (1, 256, 256), (2, 32, 10), (5, 8, 2)] {
            let positions: Vec<u32> = vec![0, 1, 77, 8191, 65_535, 65_536, 1_000_003];
            let width = heads * head_dim;
            let x = random.values(positions.len() * width, 4.0);
            let mut table = RopeTable::new();
            table.prepare(&pool, &RopeFrequencies::new(order, dims, 100_000.0, 2.0), &positions, |&p| p);
            let got = in_all(&x, |x, isa| {
                go(Rope { x, width, head_dim, table: &table.table, angles: &table }, isa);
            });
            let mut through_pool = x.clone();
            rope(&pool, &mut through_pool, width, head_dim, &table);
            assert_eq!(bits(&through_pool), bits(&got));
            for (i, (head, turned)) in x.chunks(head_dim).zip(got.chunks(head_dim)).enumerate() {
                let position = f64::from(positions[i / heads]) / 2.0;
                let mut expected: Vec<f64> = head.iter().map(|&x| f64::from(x)).collect();
                for pair in 0..dims / 2 {
                    let (s, c) = (position * 100_000f64.powf(-2.0 * pair as f64 / dims as f64)).sin_cos();
                    let (a, b) = match order {
                        RopeOrder::Adjacent => (2 * pair, 2 * pair + 1),
                        RopeOrder::Halves => (pair, pair + dims / 2),
                    };
                    let (x, y) = (f64::from(head[a]), f64::from(head[b]));
                    (expected[a], expected[b]) = (x * c - y * s, x * s + y * c);
                }
                for (got, expected) in turned.iter().zip(&expected) {
                    assert!((f64::from(*got) - expected).abs() < 2e-6, "{got} {expected}");
                }
                assert_eq!(bits(&turned[dims..]), bits(&head[dims..]), "values beyond the turned ones stay");
            }
        }
    }
}

/// Rows are cut into pieces for the threads without changing a bit.
#[test]
fn threads() {
    let (one, two) = (ThreadPool::new(1).unwrap(), ThreadPool::new(2).unwrap());
    let mut random = Random(4);
    let (width, rows) = (97, 701);
    let (x, y, weight) =
        (random.values(width * rows, 1.0), random.values(width * rows, 1.0), random.values(width, 1.0));
    let on_both = |f: &dyn Fn(&ThreadPool, &mut [f32])| {
        let (mut a, mut b) = (x.clone(), x.clone());
        f(&one, &mut a);
        f(&two, &mut b);
        assert_eq!(bits(&a), bits(&b));
        assert_ne!(bits(&a), bits(&x));
        a
    };
    on_both(&|pool, x| rms_norm_in_place(pool, x, &weight, 1e-5));
    on_both(&|pool, x| rms_norm(pool, &y, &weight, 1e-5, x));
    on_both(&|pool, x| rms_norm_add(pool, x, &y, &weight, 1e-5));
    on_both(&|pool, x| silu_mul(pool, x, &y));
    on_both(&|pool, x| gelu_mul(pool, x, &y));
    on_both(&|pool, x| add_to_rows(pool, x, &weight));
    on_both(&|pool, x| softcap(pool, x, 0.7));
    let scaled = on_both(&|pool, x| scale(pool, x, 3.0));
    assert!(scaled.iter().zip(&x).all(|(scaled, x)| *scaled == x * 3.0));
    let sum = on_both(&|pool, x| add(pool, x, &y));
    assert!(sum.iter().zip(&x).zip(&y).all(|((sum, x), y)| *sum == x + y));
    let both = on_both(&|pool, x| {
        let mut out = vec![0.0; x.len()];
        add_rms_norm(pool, x, &y, (&weight, 1e-5), &mut out);
        x.iter_mut().zip(&out).for_each(|(x, out)| *x += out);
    });
    let mut apart = sum.clone();
    rms_norm(&one, &sum, &weight, 1e-5, &mut apart);
    assert!(both.iter().zip(&sum).zip(&apart).all(|((both, sum), out)| *both == sum + out));
}
