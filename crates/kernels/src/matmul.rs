//! Products of weight matrices with activation columns.

mod gated;
mod product;

use std::ops::Range;

use crate::avx512::{Sides, TILE_COLUMNS_MIN, UNPACK_COLUMNS_MIN};
use crate::pool::SharedSlice;
use crate::{Activations, Isa, Matrix, ThreadPool};
use product::{Factor, Window};

pub use gated::{GatedProduct, matmul_gated, matmul_gated_with};

/// Panels and columns of one piece of work: panels of this many rows stay in the second-level cache while all the
/// piece's columns pass. All are whole blocks of rows.
const PANELS_PER_ITEM: usize = 8;
const COLUMNS_PER_ITEM: usize = 128;
/// Columns of a piece are a multiple of these: as many as any kernel multiplies together.
const COLUMNS_TOGETHER: usize = 16;
/// With so few columns a piece takes a microsecond or two, and smaller ones end more evenly.
const FEW_COLUMNS: usize = 4;
const FEW_PANELS_PER_ITEM: usize = 4;
/// The same for products by tiles.
const TILE_PANELS_PER_ITEM: usize = 4;
const TILE_COLUMNS_PER_ITEM: usize = 512;

/// `out[c][r]` = row `r` of the matrix times column `c` of `x`, for each matrix and its `out` (`[columns][rows]`), all
/// in one parallel region. An output depends on its row and column only, bit for bit.
///
/// # Panics
/// When a matrix does not fit `x` or an `out` has the wrong length.
pub fn matmul(pool: &ThreadPool, products: &mut [(&Matrix, &mut [f32])], x: &Activations) {
    matmul_with(Isa::best(), pool, products, x);
}

/// [`matmul`] with a chosen instruction set, for comparisons. One that the processor lacks is replaced by the best.
pub fn matmul_with(isa: Isa, pool: &ThreadPool, products: &mut [(&Matrix, &mut [f32])], x: &Activations) {
    let all = 0..x.columns();
    let groups = products.iter_mut().map(|(matrix, out)| (*matrix, all.clone(), &mut **out));
    run(isa, pool, groups, x);
}

/// A matrix, the columns of the activations that it multiplies, and where the products go: `[columns][rows]`.
pub type GroupedProduct<'a> = (&'a Matrix, Range<usize>, &'a mut [f32]);

/// Each matrix times its own columns of `x`, all in one parallel region: the experts of a mixture, whose tokens stand
/// together ([`Activations::gather`]). An output is what [`matmul`] gives for its row and column, bit for bit.
///
/// # Panics
/// When a matrix does not fit `x`, columns are not all inside, or an `out` has the wrong length.
pub fn matmul_grouped(pool: &ThreadPool, products: &mut [GroupedProduct<'_>], x: &Activations) {
    matmul_grouped_with(Isa::best(), pool, products, x);
}

/// [`matmul_grouped`] with a chosen instruction set, for comparisons.
pub fn matmul_grouped_with(isa: Isa, pool: &ThreadPool, products: &mut [GroupedProduct<'_>], x: &Activations) {
    let groups = products.iter_mut().map(|(matrix, columns, out)| (*matrix, columns.clone(), &mut **out));
    run(isa, pool, groups, x);
}

fn run<'a>(isa: Isa, pool: &ThreadPool, products: impl Iterator<Item = GroupedProduct<'a>>, x: &Activations) {
    let mut call = Call::new(isa, x);
    let tasks: Vec<_> = products
        .map(|(matrix, columns, out)| {
            assert_eq!(out.len(), matrix.rows() * columns.len(), "length of the products of {matrix:?}");
            let out =
                Window { out: SharedSlice::new(out), rows: matrix.rows(), first_row: 0, first_column: columns.start };
            (call.pieces(matrix, columns.clone()), (call.factor(matrix, &columns), out))
        })
        .collect();
    call.run(pool, &tasks, |call, (factor, out), (panels, columns)| factor.multiply(call, panels, columns, out));
}

/// Panels of a matrix and columns of the activations.
type Piece = (Range<usize>, Range<usize>);

/// What the products of one call have in common.
struct Call<'a> {
    isa: Isa,
    x: &'a Activations,
    sides: Sides,
    /// Pieces of work so far.
    items: usize,
}

impl<'a> Call<'a> {
    fn new(isa: Isa, x: &'a Activations) -> Self {
        let isa = if Isa::available().contains(&isa) { isa } else { Isa::best() };
        Self { isa, x, sides: Sides::new(), items: 0 }
    }

    /// Cuts a product with some columns into pieces of work.
    fn pieces(&mut self, matrix: &Matrix, columns: Range<usize>) -> Pieces {
        assert!(columns.start <= columns.end && columns.end <= self.x.columns(), "{columns:?} of {}", self.x.columns());
        let shape = ItemShape::of(self.isa, columns.len(), self.needs_side(matrix, columns.len()));
        let column_items = columns.len().div_ceil(shape.columns);
        let first = self.items;
        self.items += matrix.panel_count().div_ceil(shape.panels) * column_items;
        Pieces { columns, panels: matrix.panel_count(), shape, column_items, first }
    }

    /// A matrix that multiplies some columns.
    fn factor<'m>(&mut self, matrix: &'m Matrix, columns: &Range<usize>) -> Factor<'m> {
        assert_eq!(matrix.cols(), self.x.cols(), "{matrix:?} does not fit the activations");
        let side = self.needs_side(matrix, columns.len()).then(|| self.sides.of(columns, &matrix.layout()));
        Factor { matrix, side }
    }

    /// Whether these are columns enough to unpack the matrix's weights once for all of them.
    fn needs_side(&self, matrix: &Matrix, columns: usize) -> bool {
        let enough = match self.isa {
            Isa::Amx => columns >= TILE_COLUMNS_MIN,
            Isa::Avx512 => columns >= UNPACK_COLUMNS_MIN,
            _ => false,
        };
        enough && !matrix.weight_type().is_float()
    }

    /// Does all pieces of work of all tasks, which stand in the order of their pieces, in one parallel region.
    fn run<T: Sync>(mut self, pool: &ThreadPool, tasks: &[(Pieces, T)], work: impl Fn(&Self, &T, Piece) + Sync) {
        self.sides.fill(pool, self.x);
        pool.for_each_index(self.items, |item| {
            let (pieces, task) = &tasks[tasks.partition_point(|(pieces, _)| pieces.first <= item) - 1];
            work(&self, task, pieces.piece(item));
        });
    }
}

/// The pieces of work of a product.
struct Pieces {
    /// Of the activations.
    columns: Range<usize>,
    /// Of the matrix.
    panels: usize,
    shape: ItemShape,
    /// Pieces side by side.
    column_items: usize,
    /// Which of the call's is the first.
    first: usize,
}

impl Pieces {
    /// The panels and columns of a piece of the call's that is one of these.
    fn piece(&self, item: usize) -> Piece {
        let local = item - self.first;
        let (panel, column) = (local / self.column_items * self.shape.panels, local % self.column_items);
        let column = self.columns.start + column * self.shape.columns;
        (panel..self.panels.min(panel + self.shape.panels), column..self.columns.end.min(column + self.shape.columns))
    }
}

/// How much of a product one piece of work is.
struct ItemShape {
    panels: usize,
    columns: usize,
}

impl ItemShape {
    fn of(isa: Isa, columns: usize, has_side: bool) -> Self {
        if has_side && isa == Isa::Amx {
            Self { panels: TILE_PANELS_PER_ITEM, columns: TILE_COLUMNS_PER_ITEM }
        } else {
            let panels = if columns <= FEW_COLUMNS { FEW_PANELS_PER_ITEM } else { PANELS_PER_ITEM };
            // In as many pieces as need be, of about one size: each unpacks its weights anew.
            let pieces = columns.div_ceil(COLUMNS_PER_ITEM).max(1);
            let columns = columns.div_ceil(pieces).next_multiple_of(COLUMNS_TOGETHER).max(COLUMNS_TOGETHER);
            Self { panels, columns }
        }
    }
}

#[cfg(test)]
mod tests;
