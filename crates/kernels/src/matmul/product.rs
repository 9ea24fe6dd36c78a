//! Some panels of a matrix times some columns, on every instruction set.

use std::ops::Range;

use super::Call;
#[cfg(target_arch = "x86_64")]
use crate::avx512::{self, Pair, Place, Side};
use crate::panel::LANES;
use crate::pool::SharedSlice;
use crate::{Activations, Isa, Matrix, avx2, scalar};

/// Columns that share one unpacked block.
const COLUMN_TILE: usize = 4;

/// A matrix of a call.
pub(super) struct Factor<'a> {
    pub(super) matrix: &'a Matrix,
    /// Which of the call's sides its columns have, if they are enough.
    pub(super) side: Option<usize>,
}

/// Where products go: `[columns][rows]`, from some row and column on.
pub(super) struct Window<'a> {
    pub(super) out: SharedSlice<'a, f32>,
    pub(super) rows: usize,
    /// Of the matrix.
    pub(super) first_row: usize,
    /// Of the activations.
    pub(super) first_column: usize,
}

impl Factor<'_> {
    /// Writes the products of some panels and columns to their places in `to`, where nobody else writes.
    pub(super) fn multiply(&self, call: &Call<'_>, panels: Range<usize>, columns: Range<usize>, to: &Window<'_>) {
        let isa = call.isa;
        #[cfg(target_arch = "x86_64")]
        if matches!(isa, Isa::Avx512 | Isa::Amx) {
            match self.side.map(|side| call.sides.get(side)) {
                Some(side) if isa == Isa::Avx512 => {
                    for panel in panels.clone().step_by(4) {
                        let panels = panel..panels.end.min(panel + 4);
                        self.two_pairs(call.x, side, panels, columns.clone(), &to.place(panel));
                    }
                }
                side => {
                    for panel in panels.step_by(2) {
                        self.pair(call.x, side, panel, columns.clone(), &to.place(panel));
                    }
                }
            }
            return;
        }
        let mut column = columns.start;
        while column < columns.end {
            let n = COLUMN_TILE.min(columns.end - column);
            let at = (column, column == columns.start);
            for panel in panels.clone() {
                match n {
                    1 => self.tile::<1>(call, panel, at, to),
                    2 => self.tile::<2>(call, panel, at, to),
                    3 => self.tile::<3>(call, panel, at, to),
                    _ => self.tile::<COLUMN_TILE>(call, panel, at, to),
                }
            }
            column += n;
        }
    }

    /// The pair of panels from `first` on; of the last panel of an odd number both are the same.
    #[cfg(target_arch = "x86_64")]
    fn pair_from(&self, first: usize) -> Pair {
        let second = (first + 1).min(self.matrix.panel_count() - 1);
        Pair::new(self.matrix.panel(first), self.matrix.panel(second), self.matrix.layout())
    }

    /// The products of two panels, `first` and the next (if there is one); with a side by tiles.
    #[cfg(target_arch = "x86_64")]
    fn pair(&self, x: &Activations, side: Option<Side<'_>>, first: usize, columns: Range<usize>, place: &Place<'_>) {
        let pair = self.pair_from(first);
        // SAFETY: `Call` checked that the processor has what is asked of it and that the matrix fits `x`; nobody else writes to
        // these places; a side is there for quantized types only.
        unsafe {
            match side {
                _ if self.matrix.weight_type().is_float() => avx512::pair_float_products(&pair, x, columns, place),
                Some(side) => avx512::amx_products(&pair, x, side, columns, place),
                None => avx512::pair_products(&pair, x, columns, place),
            }
        }
    }

    /// The products of at most four panels.
    #[cfg(target_arch = "x86_64")]
    fn two_pairs(
        &self,
        x: &Activations,
        side: Side<'_>,
        panels: Range<usize>,
        columns: Range<usize>,
        place: &Place<'_>,
    ) {
        let second = (panels.len() > 2).then(|| self.pair_from(panels.start + 2));
        let pairs = (&self.pair_from(panels.start), second.as_ref());
        // SAFETY: as in `pair`.
        unsafe { avx512::two_pairs_products(pairs, x, side, columns, place) };
    }

    /// `N` columns from `column` on; with `ahead` the next panel is asked of the memory meanwhile.
    fn tile<const N: usize>(&self, call: &Call<'_>, panel: usize, (column, ahead): (usize, bool), to: &Window<'_>) {
        let lanes = panel_dot::<N>(call.isa, self.matrix, panel, call.x, (column, ahead));
        let row = panel * LANES - to.first_row;
        let rows = LANES.min(to.rows - row);
        for (c, lanes) in lanes.iter().enumerate() {
            // SAFETY: nobody else writes to these places (`multiply`).
            let out = unsafe { to.out.slice_mut((column - to.first_column + c) * to.rows + row, rows) };
            out.copy_from_slice(&lanes[..rows]);
        }
    }
}

impl Window<'_> {
    /// Where the products of the rows of `panel`, and of those after it, go.
    #[cfg(target_arch = "x86_64")]
    fn place(&self, panel: usize) -> Place<'_> {
        Place { out: &self.out, row: panel * LANES - self.first_row, rows: self.rows, first_column: self.first_column }
    }
}

fn panel_dot<const N: usize>(
    isa: Isa,
    w: &Matrix,
    panel: usize,
    x: &Activations,
    (first, ahead): (usize, bool),
) -> [[f32; LANES]; N] {
    let (layout, panel) = (w.layout(), w.panel(panel));
    #[cfg(target_arch = "x86_64")]
    if isa != Isa::Scalar {
        let mut columns = avx2::Columns::<N>::new(x, first, layout.ty.is_float());
        if ahead {
            columns = columns.asking_ahead(panel.len());
        }
        // SAFETY: `Call` checked that the processor has `isa` and that panel and columns have the same length.
        return unsafe { avx2::panel_dot(isa != Isa::Avx2, layout, panel, w.cols(), &columns) };
    }
    let _ = (isa, ahead);
    let mut out = [[0.0; LANES]; N];
    if layout.ty.is_float() {
        scalar::panel_dot_float(layout.ty, panel, x, first, &mut out);
    } else {
        scalar::panel_dot(layout, panel, x, first, &mut out);
    }
    out
}
