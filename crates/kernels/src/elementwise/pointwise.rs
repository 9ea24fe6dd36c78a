//! Sums, scales and gated activations, value by value.

use super::for_rows;
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use crate::{Isa, ThreadPool};

/// Values in one piece of work.
const PIECE: usize = 1024;

/// `x += y`.
///
/// # Panics
/// When lengths differ.
pub fn add(pool: &ThreadPool, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "sum of {} values", x.len());
    in_pieces(pool, x, |first, x| {
        let y = &y[first..][..x.len()];
        dispatch(Isa::best(), Add { x, y });
    });
}

/// `x += bias`, for each row of `bias.len()` values.
///
/// # Panics
/// When `x` is no whole rows.
pub fn add_to_rows(pool: &ThreadPool, x: &mut [f32], bias: &[f32]) {
    for_rows(pool, x, bias.len(), |_, x| dispatch(Isa::best(), AddToRows { x, bias }));
}

/// `x = cap * tanh(x / cap)`: values stay within `cap`, small ones as they are.
pub fn softcap(pool: &ThreadPool, x: &mut [f32], cap: f32) {
    in_pieces(pool, x, |_, x| dispatch(Isa::best(), Softcap { x, cap }));
}

/// `x *= factor`.
pub fn scale(pool: &ThreadPool, x: &mut [f32], factor: f32) {
    in_pieces(pool, x, |_, x| x.iter_mut().for_each(|x| *x *= factor));
}

/// `gate = silu(gate) * up`, with `silu(x) = x / (1 + exp(-x))`.
///
/// # Panics
/// When lengths differ.
pub fn silu_mul(pool: &ThreadPool, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "product of {} values", gate.len());
    in_pieces(pool, gate, |first, gate| {
        let up = &up[first..][..gate.len()];
        dispatch(Isa::best(), Gated { gate, up, curve: Curve::Silu });
    });
}

/// `gate = gelu(gate) * up`, with the tanh form of GELU.
///
/// # Panics
/// When lengths differ.
pub fn gelu_mul(pool: &ThreadPool, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "product of {} values", gate.len());
    in_pieces(pool, gate, |first, gate| {
        let up = &up[first..][..gate.len()];
        dispatch(Isa::best(), Gated { gate, up, curve: Curve::Gelu });
    });
}

/// Calls `f(first value, values)`; values are independent, so the cut is free.
fn in_pieces(pool: &ThreadPool, data: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
    if data.len().is_multiple_of(PIECE) && !data.is_empty() {
        for_rows(pool, data, PIECE, |first, piece| f(first * PIECE, piece));
    } else {
        let whole = data.len() / PIECE * PIECE;
        let (whole_pieces, tail) = data.split_at_mut(whole);
        if whole > 0 {
            for_rows(pool, whole_pieces, PIECE, |first, piece| f(first * PIECE, piece));
        }
        f(whole, tail);
    }
}

/// `x += y` within a kernel.
#[inline(always)]
pub(crate) fn add_lanes<L: Lanes>(lanes: L, x: &mut [f32], y: &[f32]) {
    let ((x, x_tail), (y, y_tail)) = (x.as_chunks_mut::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter_mut().zip(y) {
        lanes.store(lanes.add(lanes.load(x), lanes.load(y)), x);
    }
    for (x, y) in x_tail.iter_mut().zip(y_tail) {
        *x += y;
    }
}

struct Add<'a> {
    x: &'a mut [f32],
    y: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        add_lanes(lanes, self.x, self.y);
    }
}

pub(super) struct AddToRows<'a> {
    pub(super) x: &'a mut [f32],
    pub(super) bias: &'a [f32],
}

impl Kernel for AddToRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        for x in self.x.chunks_exact_mut(self.bias.len()) {
            add_lanes(lanes, x, self.bias);
        }
    }
}

/// `cap * tanh(x / cap)`, as `cap - 2 cap / (1 + exp(2 x / cap))`: off by a rounding of `cap` or two.
#[inline(always)]
pub(crate) fn softcapped<L: Lanes>(lanes: L, x: L::V, cap: f32) -> L::V {
    let grown = lanes.exp(lanes.mul(x, lanes.splat(2.0 / cap)));
    lanes.sub(lanes.splat(cap), lanes.div(lanes.splat(2.0 * cap), lanes.add(lanes.splat(1.0), grown)))
}

pub(super) struct Softcap<'a> {
    pub(super) x: &'a mut [f32],
    pub(super) cap: f32,
}

impl Kernel for Softcap<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (x, tail) = self.x.as_chunks_mut::<LANES>();
        for x in x {
            lanes.store(softcapped(lanes, lanes.load(x), self.cap), x);
        }
        if !tail.is_empty() {
            let mut last = [0.0; LANES];
            last[..tail.len()].copy_from_slice(tail);
            lanes.store(softcapped(lanes, lanes.load(&last), self.cap), &mut last);
            tail.copy_from_slice(&last[..tail.len()]);
        }
    }
}

/// An activation by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// GELU in its tanh form.
    Gelu,
}

pub(super) struct Gated<'a> {
    pub(super) gate: &'a mut [f32],
    pub(super) up: &'a [f32],
    pub(super) curve: Curve,
}

impl Kernel for Gated<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        match self.curve {
            Curve::Silu => gated(lanes, &Silu, self.gate, self.up),
            Curve::Gelu => gated(lanes, &Gelu, self.gate, self.up),
        }
    }
}

/// An activation. (A trait rather than a closure: calls through `Fn` are not inlined into code for AVX2.)
pub(crate) trait Activation {
    fn of<L: Lanes>(&self, lanes: L, x: L::V) -> L::V;
}

pub(crate) struct Silu;

impl Activation for Silu {
    #[inline(always)]
    fn of<L: Lanes>(&self, lanes: L, x: L::V) -> L::V {
        sigmoid_times(lanes, x, x)
    }
}

pub(crate) struct Gelu;

impl Activation for Gelu {
    /// `x / 2 * (1 + tanh(u))` with `u = sqrt(2 / pi) * (x + 0.044715 x^3)`, which is `x * sigmoid(2 u)`.
    #[inline(always)]
    fn of<L: Lanes>(&self, lanes: L, x: L::V) -> L::V {
        const TWO_SQRT_2_OVER_PI: f32 = 1.595_769;
        let (linear, cubic) = (lanes.splat(TWO_SQRT_2_OVER_PI), lanes.splat(0.044_715 * TWO_SQRT_2_OVER_PI));
        let u = lanes.mul(x, lanes.mul_add(lanes.mul(x, x), cubic, linear));
        sigmoid_times(lanes, u, x)
    }
}

#[inline(always)]
fn gated<L: Lanes>(lanes: L, curve: &impl Activation, gate: &mut [f32], up: &[f32]) {
    let ((gate, gate_tail), (up, up_tail)) = (gate.as_chunks_mut::<LANES>(), up.as_chunks::<LANES>());
    for (gate, up) in gate.iter_mut().zip(up) {
        lanes.store(lanes.mul(curve.of(lanes, lanes.load(gate)), lanes.load(up)), gate);
    }
    if !gate_tail.is_empty() {
        let (mut g, mut u) = ([0.0; LANES], [0.0; LANES]);
        g[..gate_tail.len()].copy_from_slice(gate_tail);
        u[..up_tail.len()].copy_from_slice(up_tail);
        lanes.store(lanes.mul(curve.of(lanes, lanes.load(&g)), lanes.load(&u)), &mut g);
        gate_tail.copy_from_slice(&g[..gate_tail.len()]);
    }
}

/// `x / (1 + exp(-u))`.
#[inline(always)]
fn sigmoid_times<L: Lanes>(lanes: L, u: L::V, x: L::V) -> L::V {
    let below = lanes.exp(lanes.sub(lanes.splat(0.0), u));
    lanes.div(x, lanes.add(lanes.splat(1.0), below))
}
