//! Two products of the same columns, one of which lets the other through, made into the next product's columns at once.
//!
//! A piece of work keeps its products in this thread's memory, where they become blocks of 8 bits: what stands between the
//! products of a feed-forward never reaches the memory that all share.

use std::cell::RefCell;
use std::ops::Range;

use super::product::{Factor, Window};
use super::{Call, Piece};
use crate::activations::{Gates, Out};
use crate::elementwise::lanes::dispatch;
use crate::panel::{BLOCK, LANES};
use crate::pool::SharedSlice;
use crate::{Activations, Curve, Isa, Matrix, ThreadPool};

/// A gate's matrix, the matrix of what it lets through, and the columns of the activations that they multiply.
pub type GatedProduct<'a> = (&'a Matrix, &'a Matrix, Range<usize>);

thread_local! {
    /// Products of a piece of work: of the gate, then of what it lets through.
    static PRODUCTS: RefCell<Vec<f32>> = RefCell::default();
}

/// `out` = `curve(gate x) * (up x)`, for the columns of each product, which together are all columns of `x`, in order. It is
/// what [`matmul`](super::matmul) and [`Activations::fill`] of [`Source::Gated`](crate::Source) give, bit for bit. With
/// `floats` float matrices can use `out` too.
///
/// # Panics
/// When a matrix does not fit `x`, matrices have different numbers of rows, or columns are missing or come twice.
pub fn matmul_gated(
    pool: &ThreadPool,
    products: &[GatedProduct<'_>],
    x: &Activations,
    curve: Curve,
    out: (&mut Activations, bool),
) {
    matmul_gated_with(Isa::best(), pool, products, x, curve, out);
}

/// [`matmul_gated`] with a chosen instruction set, for comparisons.
pub fn matmul_gated_with(
    isa: Isa,
    pool: &ThreadPool,
    products: &[GatedProduct<'_>],
    x: &Activations,
    curve: Curve,
    (out, floats): (&mut Activations, bool),
) {
    let rows = products.first().map_or(0, |(gate, ..)| gate.rows());
    let mut call = Call::new(isa, x);
    let mut next = 0;
    let mut tasks = Vec::with_capacity(products.len());
    for (gate, up, columns) in products {
        assert!(gate.rows() == rows && up.rows() == rows, "{gate:?} and {up:?} give {rows} rows");
        assert_eq!(columns.start, next, "columns in order");
        next = columns.end;
        let pieces = call.pieces(gate, columns.clone());
        tasks.push((pieces, [gate, up].map(|matrix| call.factor(matrix, columns))));
    }
    assert_eq!(next, x.columns(), "all columns");
    let out = out.resized((x.columns(), rows), floats);
    call.run(pool, &tasks, |call, factors, piece| {
        PRODUCTS.with_borrow_mut(|products| gated(call, factors, piece, (curve, &out, products)));
    });
}

/// One piece of work.
fn gated(
    call: &Call<'_>,
    factors: &[Factor<'_>; 2],
    (panels, columns): Piece,
    (curve, out, products): (Curve, &Out<'_>, &mut Vec<f32>),
) {
    let first_row = panels.start * LANES;
    let rows = (panels.len() * LANES).min(factors[0].matrix.rows() - first_row);
    let len = rows * columns.len();
    if products.len() < 2 * len {
        products.resize(2 * len, 0.0);
    }
    let (gate, up) = products[..2 * len].split_at_mut(len);
    for (factor, to) in factors.iter().zip([&mut *gate, &mut *up]) {
        let to = Window { out: SharedSlice::new(to), rows, first_row, first_column: columns.start };
        factor.multiply(call, panels.clone(), columns.clone(), &to);
    }
    dispatch(call.isa, Gates { curve, gate, up, rows, out, columns, first_block: first_row / BLOCK });
}
