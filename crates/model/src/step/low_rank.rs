//! What adapters add to a step's products: `scale * B (A x)` for the columns of each adapter, over products that all
//! columns have in common.
//!
//! Columns of one adapter stand together for their products. Each output depends on its own column and adapter only, and
//! is added to the base's once: no bit depends on which other adapters are in the batch, and those of columns without one
//! are not touched.

use kernels::{Activations, Source, ThreadPool, matmul, scale};

use super::first;
use crate::Adapter;
use crate::adapter::{Pair, Part};
use crate::batch::Batch;

/// Values from which on several threads add them.
const PARALLEL_MIN: usize = 1 << 15;
/// Stands for: not among the adapter's columns.
const NOWHERE: u32 = u32::MAX;

/// The columns of a step that one adapter changes.
pub(super) struct Adapted<'a> {
    pub(super) adapter: &'a Adapter,
    /// Ascending.
    columns: Vec<u32>,
    /// The index of each column of the step among these.
    places: Vec<u32>,
}

impl<'a> Adapted<'a> {
    /// The adapters of a batch with their columns.
    pub(super) fn of(batch: &Batch<'a>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        if batch.adapters.is_empty() {
            return all;
        }
        for (column, number) in batch.columns.iter().zip(0_u32..) {
            let Some(adapter) = batch.adapters.get(column.sequence as usize).copied().flatten() else { continue };
            let known = all.iter().position(|adapted| std::ptr::eq(adapted.adapter, adapter));
            let at = known.unwrap_or_else(|| {
                all.push(Self { adapter, columns: Vec::new(), places: vec![NOWHERE; batch.columns.len()] });
                all.len() - 1
            });
            let adapted = &mut all[at];
            adapted.places[number as usize] = u32::try_from(adapted.columns.len()).unwrap_or(NOWHERE);
            adapted.columns.push(number);
        }
        all
    }
}

/// Working memory of adapters.
#[derive(Default)]
pub(super) struct LowRank {
    /// Input of one adapter's columns.
    gathered: Activations,
    /// `A x` of each part, one after the other: `[columns][rank]`.
    narrow: Vec<f32>,
    /// The same of one part, as the input of `B`.
    narrow_input: Activations,
    /// `B (A x)` of one part, `[columns][rows]`.
    shares: Vec<f32>,
}

impl LowRank {
    /// Adds to each of the products of `x` in a layer, `[columns][rows]`, what the adapters make of their columns.
    pub(super) fn add(
        &mut self,
        pool: &ThreadPool,
        (all, layer): (&[Adapted<'_>], usize),
        x: &Activations,
        products: &mut [(Part, &mut [f32])],
    ) {
        for adapted in all {
            let changed = products.iter_mut().filter_map(|(part, out)| {
                let pair = adapted.adapter.pair(layer, *part)?;
                Some((pair, &mut **out))
            });
            let mut changed: Vec<(&Pair, &mut [f32])> = changed.collect();
            if changed.is_empty() {
                continue;
            }
            let columns = adapted.columns.len();
            let x = if columns == x.columns() {
                x
            } else {
                self.gathered.gather(pool, x, &adapted.columns, adapted.adapter.reads_floats());
                &self.gathered
            };
            let ranks = changed.iter().map(|(pair, _)| columns * pair.a.rows());
            let mut rest = first(&mut self.narrow, ranks.sum());
            let mut narrows = Vec::with_capacity(changed.len());
            for (pair, _) in &changed {
                let (narrow, others) = std::mem::take(&mut rest).split_at_mut(columns * pair.a.rows());
                narrows.push((&*pair.a, narrow));
                rest = others;
            }
            matmul(pool, &mut narrows, x);
            for ((pair, out), (a, narrow)) in changed.iter_mut().zip(narrows) {
                scale(pool, narrow, pair.scale);
                let floats = pair.b.weight_type().is_float();
                self.narrow_input.fill(pool, Source::Values(narrow), (columns, a.rows()), floats);
                let shares = first(&mut self.shares, columns * pair.b.rows());
                matmul(pool, &mut [(&pair.b, &mut *shares)], &self.narrow_input);
                add_shares(pool, out, shares, adapted);
            }
        }
    }
}

/// out += shares, of the adapter's columns.
fn add_shares(pool: &ThreadPool, out: &mut [f32], shares: &[f32], adapted: &Adapted<'_>) {
    let rows = shares.len() / adapted.columns.len();
    let add = |out: &mut [f32], place: usize| {
        for (x, share) in out.iter_mut().zip(&shares[place * rows..][..rows]) {
            *x += share;
        }
    };
    if shares.len() < PARALLEL_MIN {
        for (place, &column) in adapted.columns.iter().enumerate() {
            add(&mut out[column as usize * rows..][..rows], place);
        }
        return;
    }
    pool.for_each_chunk(out, rows, |column, out| {
        let place = adapted.places[column];
        if place != NOWHERE {
            add(out, place as usize);
        }
    });
}
