//! Convolution and scan against plain loops in double precision, and the same bits however they are computed.

#![expect(clippy::single_range_in_vec_init, reason = "one range of positions for each sequence")]

use super::*;
use crate::attention::KvStoreError;

/// Values that look like noise, around 0.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Tensors and inputs of a layer.
struct Layer {
    shape: SsmShape,
    conv: Vec<f32>,
    conv_bias: Vec<f32>,
    dt_bias: Vec<f32>,
    a: Vec<f32>,
    d: Vec<f32>,
}

/// What goes into some positions.
struct Inputs {
    x: Vec<f32>,
    dt: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl Layer {
    fn new(shape: SsmShape) -> Self {
        let SsmShape { inner, conv, state } = shape;
        Self {
            shape,
            conv: noise(inner * conv, 1),
            conv_bias: noise(inner, 2),
            dt_bias: noise(inner, 3).iter().map(|x| 2.0 * x - 2.0).collect(),
            a: noise(inner * state, 4).iter().map(|x| -(2.0 * x).exp()).collect(),
            d: noise(inner, 5),
        }
    }

    fn weights(&self) -> SsmWeights {
        let Self { conv, conv_bias, dt_bias, a, d, .. } = self;
        SsmWeights::new(self.shape, &SsmTensors { conv, conv_bias, dt_bias, a, d })
    }

    fn inputs(&self, positions: usize, seed: u64) -> Inputs {
        let SsmShape { inner, state, .. } = self.shape;
        Inputs {
            x: noise(positions * inner, seed),
            dt: noise(positions * inner, seed + 100).iter().map(|x| 3.0 * x).collect(),
            b: noise(positions * state, seed + 200),
            c: noise(positions * state, seed + 300),
        }
    }

    /// The formulas, position by position.
    fn plain(&self, inputs: &Inputs) -> Vec<f64> {
        let SsmShape { inner, conv, state } = self.shape;
        let positions = inputs.x.len() / inner;
        let mut out = vec![0.0; positions * inner];
        for channel in 0..inner {
            let mut h = vec![0.0f64; state];
            for t in 0..positions {
                let tap = |i: usize| match (t + i + 1).checked_sub(conv) {
                    Some(at) => f64::from(self.conv[channel * conv + i]) * f64::from(inputs.x[at * inner + channel]),
                    None => 0.0,
                };
                let sum = (0..conv).map(tap).sum::<f64>() + f64::from(self.conv_bias[channel]);
                let x = sum / (1.0 + (-sum).exp());
                let dt = f64::from(inputs.dt[t * inner + channel]) + f64::from(self.dt_bias[channel]);
                let dt = dt.exp().ln_1p();
                let mut y = f64::from(self.d[channel]) * x;
                for (n, h) in h.iter_mut().enumerate() {
                    let of = |values: &[f32]| f64::from(values[t * state + n]);
                    *h = *h * (dt * f64::from(self.a[channel * state + n])).exp() + dt * of(&inputs.b) * x;
                    y += of(&inputs.c) * *h;
                }
                out[t * inner + channel] = y;
            }
        }
        out
    }
}

/// Sequences that run side by side in a store, in the slots of the same numbers.
struct Run<'a> {
    with: (Isa, &'a ThreadPool),
    weights: &'a SsmWeights,
    store: StateStore,
    layer: usize,
}

impl Run<'_> {
    /// Runs positions `ranges[i]` of sequence `i`, whose slot is `slots[i]`; gives the outputs of each.
    fn step(&mut self, sequences: &[Inputs], slots: &[u32], ranges: &[Range<usize>]) -> Vec<Vec<f32>> {
        let SsmShape { inner, state, .. } = self.weights.shape;
        let mut columns = Vec::new();
        let (mut x, mut dt, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (sequence, (inputs, range)) in sequences.iter().zip(ranges).enumerate() {
            columns.extend(range.clone().map(|p| QueryColumn { position: small(p), sequence: small(sequence) }));
            x.extend_from_slice(&inputs.x[range.start * inner..range.end * inner]);
            dt.extend_from_slice(&inputs.dt[range.start * inner..range.end * inner]);
            b.extend_from_slice(&inputs.b[range.start * state..range.end * state]);
            c.extend_from_slice(&inputs.c[range.start * state..range.end * state]);
        }
        let tables: Vec<&[u32]> = slots.chunks(1).collect();
        let mut runs = StateRuns::default();
        runs.prepare(&columns, &tables);
        causal_conv_with(self.with, self.weights, (&mut self.store, self.layer), &runs, &mut x);
        let input = ScanInput { x: &mut x, dt: &dt, b: &b, c: &c };
        selective_scan_with(self.with, self.weights, (&mut self.store, self.layer), &runs, input);
        let mut rest = &x[..];
        let mut part = |range: &Range<usize>| {
            let (part, others) = rest.split_at(range.len() * inner);
            rest = others;
            part.to_vec()
        };
        ranges.iter().map(&mut part).collect()
    }
}

fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Channels that fill pieces, groups, and neither.
fn shapes() -> [SsmShape; 4] {
    let shape = |inner, conv, state| SsmShape { inner, conv, state };
    [shape(256, 4, 16), shape(40, 4, 16), shape(5, 1, 3), shape(144, 2, 1)]
}

#[test]
fn the_formulas() {
    let pool = ThreadPool::new(2).unwrap();
    for shape in shapes() {
        let layer = Layer::new(shape);
        let (weights, inputs) = (layer.weights(), layer.inputs(90, 7));
        let expected = layer.plain(&inputs);
        let store = StateStore::new(shape, 3, 2).unwrap();
        let mut run = Run { with: (Isa::best(), &pool), weights: &weights, store, layer: 1 };
        let got = run.step(&[inputs], &[1], &[0..90]).remove(0);
        let size = (expected.iter().map(|x| x * x).sum::<f64>() / expected.len() as f64).sqrt();
        let worst = got.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(size > 0.1 && worst < 1e-5 * size.max(1.0), "{shape:?}: {worst} of {size}");
    }
}

/// On any instruction set and number of threads, in chunks, beside others, in a slot that another sequence has left, and
/// after a copy.
#[test]
fn the_same_bits_however_computed() {
    let (one, two) = (ThreadPool::new(1).unwrap(), ThreadPool::new(2).unwrap());
    for shape in shapes() {
        let layer = Layer::new(shape);
        let weights = layer.weights();
        let sequences: Vec<Inputs> = (0..3).map(|i| layer.inputs(70, 20 + i)).collect();
        let alone = |inputs: &Inputs| -> Vec<u32> {
            let store = StateStore::new(shape, 1, 1).unwrap();
            let mut run = Run { with: (Isa::Scalar, &one), weights: &weights, store, layer: 0 };
            let inputs = std::slice::from_ref(inputs);
            (0..70).flat_map(|p| bits(&run.step(inputs, &[0], &[p..p + 1])[0])).collect()
        };
        let expected: Vec<Vec<u32>> = sequences.iter().map(alone).collect();
        for (isa, pool) in Isa::available().iter().flat_map(|&isa| [(isa, &one), (isa, &two)]) {
            let store = StateStore::new(shape, 2, 4).unwrap();
            let mut run = Run { with: (isa, pool), weights: &weights, store, layer: 1 };
            // What these leave behind has no part in what follows.
            run.step(&sequences, &[3, 1, 0], &[0..9, 0..40, 0..1]);
            let mut got = vec![Vec::new(); 3];
            for ranges in [[0..1, 0..33, 0..2], [1..68, 33..34, 2..7], [68..69, 34..69, 7..69]] {
                let outputs = run.step(&sequences, &[1, 3, 0], &ranges);
                got.iter_mut().zip(&outputs).for_each(|(got, output)| got.extend(bits(output)));
            }
            run.store.copy(3, 2);
            let ends = [69..70, 69..70, 69..70];
            let copied = run.step(&sequences, &[1, 2, 0], &ends);
            got.iter_mut().zip(&copied).for_each(|(got, output)| got.extend(bits(output)));
            assert!(got == expected, "{shape:?} {isa:?}, {} threads", pool.threads());
            let original = run.step(&sequences[1..2], &[3], &[69..70]);
            assert_eq!(bits(&original[0]), expected[1][69 * shape.inner..], "the original after the copy");
        }
    }
}

#[test]
#[should_panic(expected = "two sequences of one state")]
fn no_two_sequences_share_a_state() {
    let columns = [QueryColumn { position: 3, sequence: 0 }, QueryColumn { position: 3, sequence: 1 }];
    StateRuns::default().prepare(&columns, &[&[5], &[5]]);
}

#[test]
fn softplus_is_close_to_exact_everywhere() {
    struct Softplus(Group);
    impl Kernel for Softplus {
        type Output = Group;
        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) -> Group {
            let mut out = [0.0; LANES];
            lanes.store(softplus(lanes, lanes.load(&self.0)), &mut out);
            out
        }
    }
    let mut worst = 0.0f64;
    for i in -80_000..=90_000 {
        let x = i as f32 * 1e-3;
        let exact = f64::from(x).exp().ln_1p();
        let got = dispatch(Isa::best(), Softplus([x; LANES]))[0];
        assert_eq!(got.to_bits(), dispatch(Isa::Scalar, Softplus([x; LANES]))[0].to_bits());
        worst = worst.max(((f64::from(got) - exact) / exact).abs());
    }
    assert!(worst < 5e-7, "{worst}");
    assert!(dispatch(Isa::best(), Softplus([f32::NAN; LANES]))[0].is_nan());
}

#[test]
fn impossible_sizes_are_refused() {
    let shape = SsmShape { inner: 16, conv: 4, state: 16 };
    assert_eq!(StateStore::slot_bytes(shape, 3), Some(3 * 16 * 19 * 4));
    assert!(matches!(StateStore::new(shape, 3, 0), Err(KvStoreError::Shape)));
    assert!(matches!(StateStore::new(shape, usize::MAX, 2), Err(KvStoreError::Shape)));
    assert_eq!(StateStore::slot_bytes(SsmShape { inner: usize::MAX, ..shape }, 1), None);
}
