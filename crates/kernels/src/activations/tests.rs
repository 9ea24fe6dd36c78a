//! Columns made in one pass are those of the operations one after another, in every version and on any number of
//! threads.

use super::*;
use crate::{Curve, add_rms_norm, gelu_mul, rms_norm, rms_norm_add, silu_mul};

const EPS: f32 = 1e-5;

fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 4_194_304.0 - 2.0
    };
    (0..len).map(|_| next()).collect()
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Values,
    Norm,
    AddNorm,
    NormAddNorm,
    Silu,
    Gelu,
}

const KINDS: [Kind; 6] = [Kind::Values, Kind::Norm, Kind::AddNorm, Kind::NormAddNorm, Kind::Silu, Kind::Gelu];

/// Random input of one shape.
struct Input {
    shape: (usize, usize),
    x: Vec<f32>,
    y: Vec<f32>,
    weights: [Vec<f32>; 2],
}

impl Input {
    fn new(columns: usize, cols: usize) -> Self {
        let len = columns * cols;
        Self {
            shape: (columns, cols),
            x: values(len, 1),
            y: values(len, 2),
            weights: [values(cols, 3), values(cols, 4)],
        }
    }

    /// In one pass; gives back the columns and what became of `x`.
    fn fill(&self, kind: Kind, isa: Isa, threads: usize, floats: bool) -> (Activations, Vec<f32>) {
        let (mut x, y, [first, second]) = (self.x.clone(), self.y.as_slice(), &self.weights);
        let source = match kind {
            Kind::Values => Source::Values(&x),
            Kind::Norm => Source::Norm { x: &x, weight: first, eps: EPS },
            Kind::AddNorm => Source::AddNorm { x: &mut x, delta: y, weight: first, eps: EPS },
            Kind::NormAddNorm => Source::NormAddNorm { x: &mut x, delta: y, weights: [first, second], eps: EPS },
            Kind::Silu => Source::Gated { curve: Curve::Silu, gate: &x, up: y },
            Kind::Gelu => Source::Gated { curve: Curve::Gelu, gate: &x, up: y },
        };
        let mut activations = Activations::new();
        // What an earlier call left is of no effect.
        let pool = ThreadPool::new(threads).unwrap();
        activations.quantize(&pool, &values(96 * 40, 9), 40, 96);
        activations.fill_with(isa, &pool, source, self.shape, floats);
        (activations, x)
    }

    /// One operation after another: the columns' values and what becomes of `x`.
    fn apart(&self, kind: Kind) -> (Vec<f32>, Vec<f32>) {
        let pool = ThreadPool::new(1).unwrap();
        let (mut x, mut out, [first, second]) = (self.x.clone(), self.x.clone(), &self.weights);
        match kind {
            Kind::Values => {}
            Kind::Norm => rms_norm(&pool, &x, first, EPS, &mut out),
            Kind::AddNorm => add_rms_norm(&pool, &mut x, &self.y, (first, EPS), &mut out),
            Kind::NormAddNorm => {
                rms_norm_add(&pool, &mut x, &self.y, first, EPS);
                rms_norm(&pool, &x, second, EPS, &mut out);
            }
            Kind::Silu => silu_mul(&pool, &mut out, &self.y),
            Kind::Gelu => gelu_mul(&pool, &mut out, &self.y),
        }
        (out, x)
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn one_pass_gives_what_its_steps_give() {
    for (columns, cols) in [(1, 576), (3, 61), (40, 640), (5, 32), (2, 96), (7, 1)] {
        let input = Input::new(columns, cols);
        for kind in KINDS {
            let (out, x) = input.apart(kind);
            let mut expected = Activations::new();
            expected.quantize_with(Isa::Scalar, &ThreadPool::new(1).unwrap(), &out, columns, cols);
            for (&isa, floats) in Isa::available().iter().flat_map(|isa| [(isa, false), (isa, true)]) {
                for threads in [1, 2] {
                    let what = format!("{kind:?} {isa:?} {columns} x {cols}, {threads} threads");
                    let (got, changed) = input.fill(kind, isa, threads, floats);
                    assert_eq!(bits(&changed), bits(&x), "{what}");
                    assert_eq!((got.columns(), got.cols()), (columns, cols));
                    let blocks = if cols.is_multiple_of(BLOCK) { columns * cols / BLOCK } else { 0 };
                    assert_eq!(got.codes[..blocks * BLOCK], expected.codes[..blocks * BLOCK], "{what}");
                    assert_eq!(got.blocks[..blocks], expected.blocks[..blocks], "{what}");
                    assert_eq!(got.values.is_empty(), !floats, "{what}");
                    if floats {
                        assert_eq!(bits(&got.values), bits(&out), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "range end")]
fn floats_that_were_not_kept_are_not_read() {
    let (activations, _) = Input::new(2, 32).fill(Kind::Values, Isa::best(), 1, false);
    activations.values(0);
}

#[test]
fn what_is_no_number_stays_in_its_block() {
    for &isa in Isa::available() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [32, 47, 48, 63] {
                let mut x = vec![1.0; 96];
                x[at] = bad;
                let mut activations = Activations::new();
                activations.fill_with(isa, &ThreadPool::new(1).unwrap(), Source::Values(&x), (1, 96), false);
                let nan: Vec<bool> = activations.blocks(0).iter().map(|block| block.d.is_nan()).collect();
                assert_eq!(nan, [false, true, false], "{bad} at {at} {isa:?}");
                assert_eq!(activations.codes(0)[32..64], [0; 32]);
            }
        }
    }
}
