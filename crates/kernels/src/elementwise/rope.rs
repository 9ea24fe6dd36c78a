//! Rotary position embedding.

use super::for_rows;
use super::lanes::{Kernel, LANES, Lanes, dispatch};
use crate::{Isa, ThreadPool};

/// Which two values of a head turn together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RopeOrder {
    /// Neighbours: 0 and 1, 2 and 3, …
    #[default]
    Adjacent,
    /// Halves: 0 and `dims / 2`, 1 and `dims / 2 + 1`, …
    Halves,
}

/// How fast the pairs of a head turn with position.
#[derive(Clone, Debug)]
pub struct RopeFrequencies {
    order: RopeOrder,
    /// Angle per position of each pair.
    per_pair: Vec<f64>,
    /// Factor of what is turned.
    magnitude: f64,
    /// `[position][pair]` of cosine and sine: of the positions below [`STEPS`], and of `STEPS` times these. The angles of
    /// both parts of a position add up.
    turns: [Vec<[f64; 2]>; 2],
}

/// Positions in each of the two tables; beyond `STEPS * STEPS` sines are computed anew.
const STEPS: usize = 256;

impl RopeFrequencies {
    /// For the first `dims` values of each head (an even number), base `base`; positions are divided by `scaling`.
    ///
    /// # Panics
    /// When `dims` is odd or zero.
    #[must_use]
    pub fn new(order: RopeOrder, dims: usize, base: f64, scaling: f64) -> Self {
        assert!(dims > 0 && dims.is_multiple_of(2), "rotated values come in pairs");
        #[expect(clippy::cast_precision_loss, reason = "head dimensions are small")]
        let per_pair = (0..dims / 2).map(|i| base.powf(-2.0 * i as f64 / dims as f64) / scaling).collect();
        Self::of_pairs(order, per_pair, 1.0)
    }

    /// With an angle per position for each pair of the first `2 * per_pair.len()` values of each head; what is turned is
    /// multiplied by `magnitude` too.
    ///
    /// # Panics
    /// When there are no pairs.
    #[must_use]
    pub fn of_pairs(order: RopeOrder, per_pair: Vec<f64>, magnitude: f64) -> Self {
        assert!(!per_pair.is_empty(), "some values turn");
        let turns = [1, STEPS].map(|step| {
            let positions = (0..STEPS).map(|i| f64::from(u32::try_from(i * step).unwrap_or(u32::MAX)));
            positions.flat_map(|p| per_pair.iter().map(move |frequency| turn(p * frequency))).collect()
        });
        Self { order, per_pair, magnitude, turns }
    }

    /// Cosine and sine of a pair at a position.
    #[inline]
    fn turn(&self, position: u32, pair: usize) -> [f64; 2] {
        let (high, low) = (position as usize / STEPS, position as usize % STEPS);
        let pairs = self.per_pair.len();
        let Some([c, s]) = self.turns[1].get(high * pairs + pair) else {
            return turn(f64::from(position) * self.per_pair[pair]);
        };
        let [c_low, s_low] = self.turns[0][low * pairs + pair];
        [c * c_low - s * s_low, s * c_low + c * s_low]
    }
}

fn turn(angle: f64) -> [f64; 2] {
    let (s, c) = angle.sin_cos();
    [c, s]
}

/// Cosines and sines of the angles of a step's columns, times the magnitude of their frequencies.
#[derive(Clone, Debug, Default)]
pub struct RopeTable {
    order: RopeOrder,
    pub(crate) dims: usize,
    /// For each column `dims` cosines, then `dims` sines: in `Adjacent` order both are doubled and the even sines
    /// negated; in `Halves` order the first half of each holds the values and the rest is unused.
    pub(crate) table: Vec<f32>,
}

impl RopeTable {
    /// No columns yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Computes the angles of columns at these positions, in double precision.
    pub fn prepare<T: Sync>(
        &mut self,
        pool: &ThreadPool,
        frequencies: &RopeFrequencies,
        columns: &[T],
        position: impl Fn(&T) -> u32 + Sync,
    ) {
        (self.order, self.dims) = (frequencies.order, 2 * frequencies.per_pair.len());
        let (order, dims) = (self.order, self.dims);
        self.table.resize(columns.len() * 2 * dims, 0.0);
        for_rows(pool, &mut self.table, 2 * dims, |first, table| {
            for (column, row) in columns[first..].iter().zip(table.chunks_exact_mut(2 * dims)) {
                let position = position(column);
                let (cos, sin) = row.split_at_mut(dims);
                for pair in 0..dims / 2 {
                    #[expect(clippy::cast_possible_truncation, reason = "rounding to single precision is meant")]
                    let [c, s] = frequencies.turn(position, pair).map(|x| (x * frequencies.magnitude) as f32);
                    match order {
                        RopeOrder::Adjacent => {
                            (cos[2 * pair], cos[2 * pair + 1]) = (c, c);
                            (sin[2 * pair], sin[2 * pair + 1]) = (-s, s);
                        }
                        RopeOrder::Halves => (cos[pair], sin[pair]) = (c, s),
                    }
                }
            }
        });
    }
}

/// Turns the heads of `x`, `[columns][heads * head_dim]`, by the angles of their columns.
///
/// # Panics
/// When `x` is not whole columns of whole heads, or angles of a column are missing.
pub fn rope(pool: &ThreadPool, x: &mut [f32], width: usize, head_dim: usize, angles: &RopeTable) {
    assert!(angles.dims <= head_dim && width.is_multiple_of(head_dim), "heads of {head_dim} in columns of {width}");
    let row = 2 * angles.dims;
    for_rows(pool, x, width, |first, x| {
        let table = &angles.table[first * row..][..x.len() / width * row];
        dispatch(Isa::best(), Rope { x, width, head_dim, table, angles });
    });
}

pub(crate) struct Rope<'a> {
    pub(crate) x: &'a mut [f32],
    pub(crate) width: usize,
    pub(crate) head_dim: usize,
    pub(crate) table: &'a [f32],
    pub(crate) angles: &'a RopeTable,
}

impl Kernel for Rope<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let dims = self.angles.dims;
        for (x, table) in self.x.chunks_exact_mut(self.width).zip(self.table.chunks_exact(2 * dims)) {
            let (cos, sin) = table.split_at(dims);
            for head in x.chunks_exact_mut(self.head_dim) {
                match self.angles.order {
                    RopeOrder::Adjacent => adjacent(lanes, &mut head[..dims], cos, sin),
                    RopeOrder::Halves => halves(lanes, &mut head[..dims], cos, sin),
                }
            }
        }
    }
}

/// `x * cos + swapped(x) * sin`, the sign standing in the sines.
#[inline(always)]
fn adjacent<L: Lanes>(lanes: L, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (x, x_tail) = x.as_chunks_mut::<LANES>();
    let ((cos, cos_tail), (sin, sin_tail)) = (cos.as_chunks::<LANES>(), sin.as_chunks::<LANES>());
    for ((x, cos), sin) in x.iter_mut().zip(cos).zip(sin) {
        let v = lanes.load(x);
        let turned = lanes.mul_add(lanes.swap_pairs(v), lanes.load(sin), lanes.mul(v, lanes.load(cos)));
        lanes.store(turned, x);
    }
    for ((x, cos), sin) in x_tail.chunks_exact_mut(2).zip(cos_tail.chunks_exact(2)).zip(sin_tail.chunks_exact(2)) {
        let (a, b) = (x[0], x[1]);
        x[0] = b.mul_add(sin[0], a * cos[0]);
        x[1] = a.mul_add(sin[1], b * cos[1]);
    }
}

#[inline(always)]
fn halves<L: Lanes>(lanes: L, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = x.len() / 2;
    let (low, high) = x.split_at_mut(half);
    let ((low, low_tail), (high, high_tail)) = (low.as_chunks_mut::<LANES>(), high.as_chunks_mut::<LANES>());
    let ((cos, cos_tail), (sin, sin_tail)) = (cos[..half].as_chunks::<LANES>(), sin[..half].as_chunks::<LANES>());
    for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let (a, b, c, s) = (lanes.load(low), lanes.load(high), lanes.load(cos), lanes.load(sin));
        lanes.store(lanes.sub(lanes.mul(a, c), lanes.mul(b, s)), low);
        lanes.store(lanes.mul_add(a, s, lanes.mul(b, c)), high);
    }
    for (((low, high), c), s) in low_tail.iter_mut().zip(high_tail).zip(cos_tail).zip(sin_tail) {
        let (a, b) = (*low, *high);
        *low = a * c - b * s;
        *high = a.mul_add(*s, b * c);
    }
}
