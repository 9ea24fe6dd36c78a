//! What activation columns are made of: norms and gates go straight into 8 bits, their values never leave the registers.

use std::ops::Range;

use super::BlockScale;
use crate::elementwise::lanes::{Kernel, LANES, Lanes};
use crate::elementwise::{Activation, Curve, Gelu, Silu, add_lanes, inverse_rms, norm_add_row};
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
    /// `curve(gate) * up`.
    Gated {
        /// What becomes of the gate.
        curve: Curve,
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
            Self::Gated { gate, up, .. } => fits(gate) && fits(up),
        };
        assert!(ok, "activations of {columns} columns x {cols}");
    }

    /// Values from which on several threads pay.
    pub(super) fn parallel_min(&self) -> usize {
        match self {
            Self::Gated { .. } => 4096,
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
            Self::Gated { curve, gate, up } => Shared::Gated { curve, gate, up },
        }
    }
}

/// [`Source`], read by several threads at a time.
pub(super) enum Shared<'a> {
    Values(&'a [f32]),
    Norm { x: &'a [f32], weight: &'a [f32], eps: f32 },
    AddNorm { x: SharedSlice<'a, f32>, delta: &'a [f32], weight: &'a [f32], eps: f32 },
    NormAddNorm { x: SharedSlice<'a, f32>, delta: &'a [f32], weights: [&'a [f32]; 2], eps: f32 },
    Gated { curve: Curve, gate: &'a [f32], up: &'a [f32] },
}

/// Where columns go.
pub(crate) struct Out<'a> {
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
                Shared::Gated { curve, gate, up } => {
                    out.gated(lanes, *curve, (&gate[of(gate)], &up[of(up)]), (column, 0));
                }
            }
        }
    }
}

/// Makes some rows of some columns from what two products of these gave, `[columns][rows]`.
pub(crate) struct Gates<'a> {
    pub(crate) curve: Curve,
    pub(crate) gate: &'a [f32],
    pub(crate) up: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) out: &'a Out<'a>,
    pub(crate) columns: Range<usize>,
    /// Which block of `out` the rows begin.
    pub(crate) first_block: usize,
}

impl Kernel for Gates<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (gates, ups) = (self.gate.chunks_exact(self.rows), self.up.chunks_exact(self.rows));
        for ((gate, up), column) in gates.zip(ups).zip(self.columns) {
            self.out.gated(lanes, self.curve, (gate, up), (column, self.first_block));
        }
    }
}

impl Out<'_> {
    #[inline(always)]
    fn column<L: Lanes>(&self, lanes: L, column: usize, row: &impl Row) {
        self.part(lanes, (column, 0), self.cols, row);
    }

    #[inline(always)]
    fn gated<L: Lanes>(&self, lanes: L, curve: Curve, (gate, up): (&[f32], &[f32]), at: (usize, usize)) {
        match curve {
            Curve::Silu => self.part(lanes, at, gate.len(), &Gated { gate, up, curve: Silu }),
            Curve::Gelu => self.part(lanes, at, gate.len(), &Gated { gate, up, curve: Gelu }),
        }
    }

    /// `len` values of a column from a block on: whole blocks, unless they are the column's last.
    #[inline(always)]
    fn part<L: Lanes>(&self, lanes: L, (column, first_block): (usize, usize), len: usize, row: &impl Row) {
        let cols = self.cols;
        let (at, blocks) = if self.blocks == 0 { (0, 0) } else { (column * self.blocks + first_block, len / BLOCK) };
        // SAFETY: each part comes once, and the parts do not overlap.
        let (codes, scales) =
            unsafe { (self.codes.slice_mut(at * BLOCK, blocks * BLOCK), self.scales.slice_mut(at, blocks)) };
        let mut block = [0.0; BLOCK];
        if self.floats {
            // SAFETY: as above.
            let values = unsafe { self.values.slice_mut(column * cols + first_block * BLOCK, len) };
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
