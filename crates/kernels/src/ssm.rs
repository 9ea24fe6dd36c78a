//! State-space layers as in Mamba (<https://arxiv.org/abs/2312.00752>): a short convolution over the last positions of each
//! channel, then the selective scan, whose state carries what came before.
//!
//! Positions of a sequence are visited one after the other, and what a channel computes depends on its own state only: a
//! position's values are the same bits however a sequence is cut into steps, and whoever runs beside it. The channels
//! stand in the lanes of vectors, sixteen side by side.

mod state_store;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use state_store::StateStore;

use crate::attention::QueryColumn;
use crate::elementwise::lanes::{Kernel, LANES, Lanes, dispatch};
use crate::elementwise::{Activation, Silu};
use crate::pool::SharedSlice;
use crate::{Isa, ThreadPool};

/// Groups of channels in one piece of work: their state and weights stay in the first-level cache.
const PIECE_GROUPS: usize = 8;
/// Values of states to be renewed below which waking other threads costs more than it brings.
const PARALLEL_VALUES_MIN: usize = 32_768;

/// A value of each of sixteen channels.
type Group = [f32; LANES];

/// What one state-space layer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SsmShape {
    /// Channels.
    pub inner: usize,
    /// Positions that the convolution sees, the present one included; at least 1.
    pub conv: usize,
    /// Values that each channel remembers.
    pub state: usize,
}

impl SsmShape {
    fn groups(self) -> usize {
        self.inner.div_ceil(LANES)
    }

    /// Values that a channel keeps from position to position.
    fn rows(self) -> usize {
        self.conv - 1 + self.state
    }
}

/// Tensors of a layer as files hold them.
#[derive(Clone, Copy, Debug)]
pub struct SsmTensors<'a> {
    /// Weights of the convolution, `[inner][conv]`; the last one is of the present position.
    pub conv: &'a [f32],
    /// Its bias, `[inner]`.
    pub conv_bias: &'a [f32],
    /// Bias of the time steps, `[inner]`.
    pub dt_bias: &'a [f32],
    /// `A`, `[inner][state]`: how fast each remembered value fades.
    pub a: &'a [f32],
    /// `D`, `[inner]`: what goes past the state.
    pub d: &'a [f32],
}

/// Weights of a layer, by sixteen channels; what is beyond the last channel is 0.
pub struct SsmWeights {
    shape: SsmShape,
    /// `[groups][conv]`.
    conv: Vec<Group>,
    conv_bias: Vec<Group>,
    dt_bias: Vec<Group>,
    /// `[groups][state]`.
    a: Vec<Group>,
    d: Vec<Group>,
}

impl SsmWeights {
    /// Takes the weights of a layer.
    ///
    /// # Panics
    /// When a length does not fit the shape.
    #[must_use]
    pub fn new(shape: SsmShape, tensors: &SsmTensors<'_>) -> Self {
        assert!(shape.inner > 0 && shape.conv > 0 && shape.state > 0, "{shape:?}");
        let grouped = |values: &[f32], width: usize| -> Vec<Group> {
            assert_eq!(values.len(), shape.inner * width, "{width} values of {} channels", shape.inner);
            let value = |group: usize, i: usize, lane: usize| values.get((group * LANES + lane) * width + i);
            let group = |group, i| std::array::from_fn(|lane| value(group, i, lane).copied().unwrap_or(0.0));
            (0..shape.groups()).flat_map(|g| (0..width).map(move |i| (g, i))).map(|(g, i)| group(g, i)).collect()
        };
        Self {
            shape,
            conv: grouped(tensors.conv, shape.conv),
            conv_bias: grouped(tensors.conv_bias, 1),
            dt_bias: grouped(tensors.dt_bias, 1),
            a: grouped(tensors.a, shape.state),
            d: grouped(tensors.d, 1),
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.shape.groups() * (self.shape.conv + self.shape.state + 3) * size_of::<Group>()
    }
}

/// Columns of one sequence in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StateRun {
    /// Where its state is.
    slot: usize,
    first: usize,
    columns: usize,
    /// Whether the sequence begins here, with a state of zeros: what the slot holds is another's.
    fresh: bool,
}

/// Which state each column of a step goes on from.
#[derive(Default)]
pub struct StateRuns(Vec<StateRun>);

impl StateRuns {
    /// Cuts columns where the sequence changes; a sequence's state is in the slot that its table begins with. Columns of one
    /// sequence stand together, their positions ascending by one.
    ///
    /// # Panics
    /// When a table is missing, or two sequences have the same slot.
    pub fn prepare(&mut self, columns: &[QueryColumn], tables: &[&[u32]]) {
        self.0.clear();
        for (first, columns) in columns
            .chunk_by(|a, b| a.sequence == b.sequence)
            .scan(0, |at, columns| Some((std::mem::replace(at, *at + columns.len()), columns)))
        {
            let slot = tables[columns[0].sequence as usize][0] as usize;
            let fresh = columns[0].position == 0;
            self.0.push(StateRun { slot, first, columns: columns.len(), fresh });
        }
        let mut slots: Vec<usize> = self.0.iter().map(|run| run.slot).collect();
        slots.sort_unstable();
        assert!(slots.windows(2).all(|pair| pair[0] != pair[1]), "two sequences of one state");
    }

    fn columns(&self) -> usize {
        self.0.last().map_or(0, |run| run.first + run.columns)
    }
}

/// `x = silu(conv(x) + bias)` for `x` of `[columns][inner]`: each value becomes a sum over the last positions of its channel.
/// The inputs of the last `conv - 1` positions stay in the state.
///
/// # Panics
/// When `x`, the layer or a state does not fit.
pub fn causal_conv(
    pool: &ThreadPool,
    weights: &SsmWeights,
    state: (&mut StateStore, usize),
    runs: &StateRuns,
    x: &mut [f32],
) {
    causal_conv_with((Isa::best(), pool), weights, state, runs, x);
}

fn causal_conv_with(
    (isa, pool): (Isa, &ThreadPool),
    weights: &SsmWeights,
    state: (&mut StateStore, usize),
    runs: &StateRuns,
    x: &mut [f32],
) {
    assert_eq!(x.len(), runs.columns() * weights.shape.inner, "values of {} columns", runs.columns());
    let x = SharedSlice::new(x);
    for_pieces(pool, weights.shape, state, runs, |piece| dispatch(isa, Conv { weights, piece, x: &x }));
}

/// What the scan of a step's columns reads and writes.
pub struct ScanInput<'a> {
    /// Values `[columns][inner]`, which become the outputs.
    pub x: &'a mut [f32],
    /// Time steps `[columns][inner]`, before their bias and softplus.
    pub dt: &'a [f32],
    /// `B`, `[columns][state]`: how a value enters what is remembered.
    pub b: &'a [f32],
    /// `C`, `[columns][state]`: how what is remembered becomes the output.
    pub c: &'a [f32],
}

/// The selective scan. For each position and channel, with `dt` made positive by softplus (in the paper: algorithm 2, with the
/// first-order form of `B` that its authors' and others' code uses):
///
/// ```text
/// h = exp(dt * A) * h + dt * B * x
/// y = C . h + D * x
/// ```
///
/// # Panics
/// When a length, the layer or a state does not fit.
pub fn selective_scan(
    pool: &ThreadPool,
    weights: &SsmWeights,
    state: (&mut StateStore, usize),
    runs: &StateRuns,
    input: ScanInput<'_>,
) {
    selective_scan_with((Isa::best(), pool), weights, state, runs, input);
}

fn selective_scan_with(
    (isa, pool): (Isa, &ThreadPool),
    weights: &SsmWeights,
    state: (&mut StateStore, usize),
    runs: &StateRuns,
    input: ScanInput<'_>,
) {
    let ScanInput { x, dt, b, c } = input;
    let (columns, shape) = (runs.columns(), weights.shape);
    assert_eq!((x.len(), dt.len()), (columns * shape.inner, columns * shape.inner), "values of {columns} columns");
    assert_eq!((b.len(), c.len()), (columns * shape.state, columns * shape.state), "B and C of {columns} columns");
    let x = SharedSlice::new(x);
    for_pieces(pool, shape, state, runs, |piece| dispatch(isa, Scan { weights, piece, x: &x, dt, b, c }));
}

/// Some channels of one sequence.
struct Piece<'a> {
    run: &'a StateRun,
    groups: Range<usize>,
    /// Their state, `[groups][rows]`.
    state: &'a mut [Group],
}

impl Piece<'_> {
    /// Where its channels stand in a row, and how many they are.
    fn channels(&self, shape: SsmShape) -> (usize, usize) {
        let first = self.groups.start * LANES;
        (first, (self.groups.end * LANES).min(shape.inner) - first)
    }
}

/// Calls `f` for all channels of all sequences, piece by piece, on several threads when worth it.
fn for_pieces(
    pool: &ThreadPool,
    shape: SsmShape,
    (store, layer): (&mut StateStore, usize),
    runs: &StateRuns,
    f: impl Fn(Piece<'_>) + Sync,
) {
    assert_eq!(store.shape(), shape, "the store's shape");
    let starts: Vec<usize> = runs.0.iter().map(|run| store.start(run.slot, layer)).collect();
    let (all, rows) = (SharedSlice::new(store.groups_mut()), shape.rows());
    let pieces = shape.groups().div_ceil(PIECE_GROUPS);
    let one = |i: usize| {
        let (run, piece) = (i / pieces, i % pieces);
        let groups = piece * PIECE_GROUPS..shape.groups().min((piece + 1) * PIECE_GROUPS);
        // SAFETY: the runs' slots differ, the groups of a run's pieces too, and each index comes once.
        let state = unsafe { all.slice_mut(starts[run] + groups.start * rows, groups.len() * rows) };
        f(Piece { run: &runs.0[run], groups, state });
    };
    let count = runs.0.len() * pieces;
    if runs.columns() * shape.inner * shape.state < PARALLEL_VALUES_MIN {
        (0..count).for_each(one);
    } else {
        pool.for_each_index(count, one);
    }
}

/// Sixteen channels, or those that are left with zeros behind them.
#[inline(always)]
fn load<L: Lanes>(lanes: L, x: &[f32]) -> L::V {
    if let Ok(x) = x.try_into() {
        return lanes.load(x);
    }
    let mut group = [0.0; LANES];
    group[..x.len()].copy_from_slice(x);
    lanes.load(&group)
}

#[inline(always)]
fn store<L: Lanes>(lanes: L, v: L::V, x: &mut [f32]) {
    if let Ok(x) = x.try_into() {
        lanes.store(v, x);
        return;
    }
    let mut group = [0.0; LANES];
    lanes.store(v, &mut group);
    x.copy_from_slice(&group[..x.len()]);
}

struct Conv<'a> {
    weights: &'a SsmWeights,
    piece: Piece<'a>,
    x: &'a SharedSlice<'a, f32>,
}

impl Kernel for Conv<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { weights, piece, x } = self;
        let (shape, rows) = (weights.shape, weights.shape.rows());
        let (first, width) = piece.channels(shape);
        if piece.run.fresh {
            piece.state.chunks_exact_mut(rows).for_each(|state| state[..shape.conv - 1].fill([0.0; LANES]));
        }
        let taps = &weights.conv[piece.groups.start * shape.conv..];
        let biases = &weights.conv_bias[piece.groups.start..];
        for column in piece.run.first..piece.run.first + piece.run.columns {
            // SAFETY: pieces of one sequence have channels of their own, and sequences have columns of their own.
            let x = unsafe { x.slice_mut(column * shape.inner + first, width) };
            let states = piece.state.chunks_exact_mut(rows);
            for (((x, state), taps), bias) in
                x.chunks_mut(LANES).zip(states).zip(taps.chunks_exact(shape.conv)).zip(biases)
            {
                let (present, past) = (load(lanes, x), &mut state[..shape.conv - 1]);
                let mut sum = lanes.load(bias);
                for (tap, value) in taps.iter().zip(&*past) {
                    sum = lanes.mul_add(lanes.load(tap), lanes.load(value), sum);
                }
                sum = lanes.mul_add(lanes.load(&taps[shape.conv - 1]), present, sum);
                past.rotate_left(usize::from(shape.conv > 1));
                if let Some(newest) = past.last_mut() {
                    lanes.store(present, newest);
                }
                store(lanes, Silu.of(lanes, sum), x);
            }
        }
    }
}

struct Scan<'a> {
    weights: &'a SsmWeights,
    piece: Piece<'a>,
    x: &'a SharedSlice<'a, f32>,
    dt: &'a [f32],
    b: &'a [f32],
    c: &'a [f32],
}

impl Kernel for Scan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { weights, piece, x, dt, b, c } = self;
        let (shape, rows) = (weights.shape, weights.shape.rows());
        let (first, width) = piece.channels(shape);
        if piece.run.fresh {
            piece.state.chunks_exact_mut(rows).for_each(|state| state[shape.conv - 1..].fill([0.0; LANES]));
        }
        let fading = &weights.a[piece.groups.start * shape.state..];
        let (biases, passed) = (&weights.dt_bias[piece.groups.start..], &weights.d[piece.groups.start..]);
        for column in piece.run.first..piece.run.first + piece.run.columns {
            // SAFETY: pieces of one sequence have channels of their own, and sequences have columns of their own.
            let x = unsafe { x.slice_mut(column * shape.inner + first, width) };
            let dt = &dt[column * shape.inner + first..][..width];
            let (b, c) = (&b[column * shape.state..][..shape.state], &c[column * shape.state..][..shape.state]);
            let states = piece.state.chunks_exact_mut(rows).zip(fading.chunks_exact(shape.state));
            let values = x.chunks_mut(LANES).zip(dt.chunks(LANES));
            for (((x, dt), (state, a)), (bias, d)) in values.zip(states).zip(biases.iter().zip(passed)) {
                let dt = softplus(lanes, lanes.add(load(lanes, dt), lanes.load(bias)));
                let value = load(lanes, x);
                let entering = lanes.mul(dt, value);
                let mut y = lanes.mul(lanes.load(d), value);
                for (((h, a), b), c) in state[shape.conv - 1..].iter_mut().zip(a).zip(b).zip(c) {
                    let kept = lanes.exp(lanes.mul(dt, lanes.load(a)));
                    let new = lanes.mul_add(lanes.load(h), kept, lanes.mul(entering, lanes.splat(*b)));
                    lanes.store(new, h);
                    y = lanes.mul_add(new, lanes.splat(*c), y);
                }
                store(lanes, y, x);
            }
        }
    }
}

/// `ln(1 + exp(x))`, as `max(x, 0) + ln(1 + u)` with `u = exp(-|x|)`, and that as `2 atanh(u / (2 + u))` by its series, whose
/// argument is at most 1/3; relative error below 5e-7.
#[inline(always)]
fn softplus<L: Lanes>(lanes: L, x: L::V) -> L::V {
    let zero = lanes.splat(0.0);
    let minus = lanes.sub(zero, x);
    let u = lanes.exp(lanes.min(x, minus));
    let s = lanes.div(u, lanes.add(lanes.splat(2.0), u));
    let square = lanes.mul(s, s);
    let mut series = lanes.splat(2.0 / 15.0);
    for odd in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        series = lanes.mul_add(series, square, lanes.splat(2.0 / odd));
    }
    lanes.add(lanes.max(x, zero), lanes.mul(s, series))
}
