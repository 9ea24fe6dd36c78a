//! What activation columns are made of: norms and gates go straight into 8 bits, their values never leave the registers.

use std::ops::Range;

use super::BlockScale;
use crate::elementwise::lanes::{Kernel, LANES, Lanes};
use crate::elementwise::{Activation, Gelu, Silu, add_lanes, inverse_rms, norm_add_row};
use crate::panel::BLOCK;
use crate::pool::SharedSlice;

/// Where the values of activation columns come from; all slices are `[columns][cols]`, weights `[cols]`.
pub enum Source<'a> {
    /// These values.
    Values(&'a [f32]),
    /// `norm(x) * weight`.
    Norm {
        /// Input.
        x: &'a [f32],
        /// Factor of each value.
        weight: &'a [f32],
        /// What is added to the mean square.
        eps: f32,
    },
    /// `x += delta`, then `norm(x) * weight`.
    AddNorm {
        /// Input, changed.
        x: &'a mut [f32],
        /// What is added to it.
        delta: &'a [f32],
        /// Factor of each value.
        weight: &'a [f32],
        /// What is added to the mean square.
        eps: f32,
    },
    /// `x += norm(delta) * weights[0]`, then `norm(x) * weights[1]`.
    NormAddNorm {
        /// Input, changed.
        x: &'a mut [f32],
        /// What is normed and added to it.
        delta: &'a [f32],
        /// Factors of each value, of the first and of the second norm.
        weights: [&'a [f32]; 2],
        /// What is added to the mean squares.
        eps: f32,
    },
    /// `silu(gate) * up`.
    Silu {
        /// The gate.
        gate: &'a [f32],
        /// What it lets through.
        up: &'a [f32],
    },
    /// `gelu(gate) * up`.
    Gelu {
        /// The gate.
        gate: &'a [f32],
        /// What it lets through.
        up: &'a [f32],
    },
}

impl<'a> Source<'a> {
    pub(super) fn check(&self, columns: usize, cols: usize) {
        let fits = |x: &[f32]| x.len() == columns * cols;
        let ok = match self {
            Self::Values(x) => fits(x),
            Self::Norm { x, weight, .. } => fits(x) && weight.len() == cols,
            Self::AddNorm { x, delta, weight, .. } => fits(x) && fits(delta) && weight.len() == cols,
            Self::NormAddNorm { x, delta, weights, .. } => {
                fits(x) && fits(delta) && weights.iter().all(|w| w.len() == cols)
            }
            Self::Silu { gate, up } | Self::Gelu { gate, up } => fits(gate) && fits(up),
        };
        assert!(ok, "activations of {columns} columns x {cols}");
    }

    /// Values from which on several threads pay.
    pub(super) fn parallel_min(&self) -> usize {
        match self {
            Self::Silu { .. } | Self::Gelu { .. } => 4096,
            _ => 8192,
        }
    }

    /// The same with its changed part ready for several threads.
    pub(super) fn shared(self) -> Shared<'a> {
        match self {
            Self::Values(x) => Shared::Values(x),
            Self::Norm { x, weight, eps } => Shared::Norm { x, weight, eps },
            Self::AddNorm { x, delta, weight, eps } => Shared::AddNorm { x: SharedSlice::new(x), delta, weight, eps },
            Self::NormAddNorm { x, delta, weights, eps } => {
                Shared::NormAddNorm { x: SharedSlice::new(x), delta, weights, eps }
            }
            Self::Silu { gate, up } => Shared::Silu { gate, up },
            Self::Gelu { gate, up } => Shared::Gelu { gate, up },
        }
    }
}

/// [`Source`], read by several threads at a time.
pub(super) enum Shared<'a> {
    Values(&'a [f32]),
    Norm { x: &'a [f32], weight: &'a [f32], eps: f32 },
    AddNorm { x: SharedSlice<'a, f32>, delta: &'a [f32], weight: &'a [f32], eps: f32 },
    NormAddNorm { x: SharedSlice<'a, f32>, delta: &'a [f32], weights: [&'a [f32]; 2], eps: f32 },
    Silu { gate: &'a [f32], up: &'a [f32] },
    Gelu { gate: &'a [f32], up: &'a [f32] },
}

/// Where columns go.
pub(super) struct Out<'a> {
    pub(super) cols: usize,
    /// Blocks of a column; none when a column is no whole blocks.
    pub(super) blocks: usize,
    pub(super) floats: bool,
    pub(super) values: SharedSlice<'a, f32>,
    pub(super) codes: SharedSlice<'a, i8>,
    pub(super) scales: SharedSlice<'a, BlockScale>,
}

/// Makes some columns. Each column comes in one `Fill` of a call only.
pub(super) struct Fill<'a> {
    pub(super) source: &'a Shared<'a>,
    pub(super) out: &'a Out<'a>,
    pub(super) columns: Range<usize>,
}

impl Kernel for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Self { source, out, columns } = self;
        let cols = out.cols;
        for column in columns {
            let of = |x: &'_ [f32]| -> Range<usize> { column * cols..(column * cols + cols).min(x.len()) };
            match source {
                Shared::Values(x) => out.column(lanes, column, &Plain(&x[of(x)])),
                Shared::Norm { x, weight, eps } => {
                    let x = &x[of(x)];
                    out.column(lanes, column, &Normed { x, weight, factor: inverse_rms(lanes, x, *eps) });
                }
                Shared::AddNorm { x, delta, weight, eps } => {
                    // SAFETY: each column comes once, and the columns' parts do not overlap.
                    let x = unsafe { x.slice_mut(column * cols, cols) };
                    add_lanes(lanes, x, &delta[of(delta)]);
                    out.column(lanes, column, &Normed { x, weight, factor: inverse_rms(lanes, x, *eps) });
                }
                Shared::NormAddNorm { x, delta, weights: [first, second], eps } => {
                    // SAFETY: as above.
                    let x = unsafe { x.slice_mut(column * cols, cols) };
                    norm_add_row(lanes, x, &delta[of(delta)], first, *eps);
                    out.column(lanes, column, &Normed { x, weight: second, factor: inverse_rms(lanes, x, *eps) });
                }
                Shared::Silu { gate, up } => {
                    out.column(lanes, column, &Gated::<Silu> { gate: &gate[of(gate)], up: &up[of(up)], curve: Silu });
                }
                Shared::Gelu { gate, up } => {
                    out.column(lanes, column, &Gated::<Gelu> { gate: &gate[of(gate)], up: &up[of(up)], curve: Gelu });
                }
            }
        }
    }
}

impl Out<'_> {
    #[inline(always)]
    fn column<L: Lanes>(&self, lanes: L, column: usize, row: &impl Row) {
        let (cols, blocks) = (self.cols, self.blocks);
        // SAFETY: each column comes once, and the columns' parts do not overlap.
        let (codes, scales) = unsafe {
            (
                self.codes.slice_mut(column * blocks * BLOCK, blocks * BLOCK),
                self.scales.slice_mut(column * blocks, blocks),
            )
        };
        let mut block = [0.0; BLOCK];
        if self.floats {
            // SAFETY: as above.
            let values = unsafe { self.values.slice_mut(column * cols, cols) };
            for (i, values) in values.chunks_mut(BLOCK).enumerate() {
                row.block(lanes, i, &mut block);
                values.copy_from_slice(&block[..values.len()]);
            }
        }
        for (i, (codes, scale)) in codes.as_chunks_mut().0.iter_mut().zip(scales).enumerate() {
            row.block(lanes, i, &mut block);
            *scale = lanes.quantize(&block, codes);
        }
    }
}

/// The values of one column, made as they are needed.
trait Row {
    /// Values `16 i .. 16 i + 16`; what lies beyond the column is anything.
    fn at<L: Lanes>(&self, lanes: L, i: usize) -> L::V;

    /// Values of block `i`.
    #[inline(always)]
    fn block<L: Lanes>(&self, lanes: L, i: usize, out: &mut [f32; BLOCK]) {
        for (j, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            lanes.store(self.at(lanes, i * (BLOCK / LANES) + j), out);
        }
    }
}

/// Values `16 i .. 16 i + 16`, zeros beyond the end.
#[inline(always)]
fn load<L: Lanes>(lanes: L, x: &[f32], i: usize) -> L::V {
    let (whole, tail) = x.as_chunks::<LANES>();
    if let Some(x) = whole.get(i) {
        return lanes.load(x);
    }
    let mut last = [0.0; LANES];
    if i == whole.len() {
        last[..tail.len()].copy_from_slice(tail);
    }
    lanes.load(&last)
}

struct Plain<'a>(&'a [f32]);

impl Row for Plain<'_> {
    #[inline(always)]
    fn at<L: Lanes>(&self, lanes: L, i: usize) -> L::V {
        load(lanes, self.0, i)
    }
}

struct Normed<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    factor: f32,
}

impl Row for Normed<'_> {
    #[inline(always)]
    fn at<L: Lanes>(&self, lanes: L, i: usize) -> L::V {
        lanes.mul(lanes.mul(load(lanes, self.x, i), lanes.splat(self.factor)), load(lanes, self.weight, i))
    }
}

struct Gated<'a, A> {
    gate: &'a [f32],
    up: &'a [f32],
    curve: A,
}

impl<A: Activation> Row for Gated<'_, A> {
    #[inline(always)]
    fn at<L: Lanes>(&self, lanes: L, i: usize) -> L::V {
        lanes.mul(self.curve.of(lanes, load(lanes, self.gate, i)), load(lanes, self.up, i))
    }
}
