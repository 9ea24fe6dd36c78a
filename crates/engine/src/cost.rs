//! What a step costs, as measured: one line through the recent steps of every kind.
//!
//! A step's time is taken for `a + b * columns + c * rows of logits + d * columns * context`. Steps of one kind (about
//! as many columns, about as much context) are averaged in a cell, and the line is the least-squares fit through the
//! cells: so hours of decoding do not make it forget what a prompt costs. Time comes in as an argument; nothing here
//! reads a clock.

use std::collections::BTreeMap;

/// Share of a new measurement in the average of its cell, as 1/n.
const SMOOTHING: f64 = 8.0;
/// A step that takes so many times as long as others of its kind was held up by something else, and counts as so long.
const OUTLIER: f64 = 2.0;
/// For so many steps, a cell corrects what the line says of its kind; then the kind may be tried anew.
const RECENT: u64 = 64;
/// The correction is at most so many times, either way.
const CORRECTION: f64 = 4.0;
/// Prompt columns come in multiples of this.
const STRIDE: usize = 8;
/// Columns up to this count are kinds of their own.
const EXACT: usize = 8;
/// How much the prior counts beside the cells.
const RIDGE: f64 = 0.01;
const SWEEPS: usize = 64;

/// Before anything is measured: nanoseconds for each step, column, row of logits, and position that a column looks back
/// on. Slow on purpose, so that the first chunk beside running streams is small; once there is a measurement, only the
/// proportions count.
const PRIOR: Line = [4e6, 2.5e6, 0.5e6, 700.0];

type Line = [f64; 4];

/// What a step computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) columns: usize,
    /// Rows of logits.
    pub(crate) rows: usize,
    /// The positions of all columns, added up.
    pub(crate) context: usize,
}

impl Load {
    /// The same and `columns` of one sequence from position `start` on.
    pub(crate) fn with(self, start: usize, columns: usize, rows: usize) -> Self {
        let context = columns * start + columns * columns.saturating_sub(1) / 2;
        Self { columns: self.columns + columns, rows: self.rows + rows, context: self.context + context }
    }

    fn kind(&self) -> Kind {
        let octave = self.columns.max(1).ilog2();
        let columns = match u32::try_from(self.columns) {
            Ok(exact) if self.columns <= EXACT => exact,
            _ => 100 + 2 * octave + u32::from(self.columns >> (octave - 1) & 1 == 1),
        };
        let context = (self.context / self.columns.max(1) / 256 + 1).ilog2();
        Kind { columns, context, rows: self.rows * 2 > self.columns }
    }
}

/// Steps that cost about the same: by columns (a class), by context (a class), and whether most columns ask for logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    columns: u32,
    context: u32,
    rows: bool,
}

/// Averages over the steps of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    features: Line,
    ns: f64,
    count: f64,
    /// Number of the last step.
    seen: u64,
}

/// The line and the cells it is drawn through.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CostModel {
    line: Line,
    cells: BTreeMap<Kind, Cell>,
    steps: u64,
}

impl Default for CostModel {
    fn default() -> Self {
        Self { line: PRIOR, cells: BTreeMap::new(), steps: 0 }
    }
}

impl CostModel {
    /// Takes the measured time of a step.
    pub(crate) fn observe(&mut self, load: &Load, ns: u64) {
        self.steps += 1;
        let seen = self.steps;
        let (features, ns) = (features(load), (ns as f64).max(1.0));
        let new = Cell { features, ns, count: 1.0, seen };
        let cell = self.cells.entry(load.kind()).or_insert(new);
        if ns * OUTLIER < cell.ns {
            // A step may be slow by accident, but never fast.
            *cell = new;
        } else if cell.seen != seen {
            let share = (1.0 / (cell.count + 1.0)).max(1.0 / SMOOTHING);
            cell.ns += (ns.min(cell.ns * OUTLIER) - cell.ns) * share;
            for (mean, value) in cell.features.iter_mut().zip(features) {
                *mean += (value - *mean) * share;
            }
            cell.count = (cell.count + 1.0).min(SMOOTHING);
            cell.seen = seen;
        }
        self.fit();
    }

    /// Whether a step was measured yet.
    pub(crate) fn is_measured(&self) -> bool {
        self.steps > 0
    }

    /// How long a step will take.
    pub(crate) fn predict(&self, load: &Load) -> u64 {
        let recent = self.cells.get(&load.kind()).filter(|cell| self.steps - cell.seen < RECENT);
        // The fewer steps a cell has seen, the more of what it says may be an accident.
        let correction = recent.map_or(1.0, |cell| {
            let said = (cell.ns / dot(&self.line, &cell.features)).clamp(1.0 / CORRECTION, CORRECTION);
            said.powf(cell.count / (cell.count + 1.0))
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; saturates")]
        let ns = (dot(&self.line, &features(load)) * correction) as u64;
        ns
    }

    /// What `load` adds to a step's time, in ns: the line without its fixed part. By it a step is shared over what it does.
    pub(crate) fn weight(&self, load: &Load) -> f64 {
        dot(&self.line, &features(load)) - self.line[0]
    }

    /// How many prompt columns from position `start` on may come on top of `load`, up to `most`, for the step to end
    /// within `limit_ns`.
    pub(crate) fn columns_within(&self, load: &Load, start: usize, most: usize, limit_ns: u64) -> usize {
        let fits = |columns| self.predict(&load.with(start, columns, 1)) <= limit_ns;
        if fits(most) {
            return most;
        }
        let (mut low, mut high) = (0, most);
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if fits(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        (low - low % STRIDE).max(STRIDE).min(most)
    }

    /// Draws the line anew: the least relative error over all cells, no part below 0. In directions in which the cells
    /// say nothing it keeps the proportions of the prior.
    fn fit(&mut self) {
        let count = self.cells.len() as f64;
        let scale = self.cells.values().map(|cell| (cell.ns / dot(&PRIOR, &cell.features)).ln()).sum::<f64>() / count;
        let unit = PRIOR.map(|part| part * scale.exp());
        let (mut matrix, mut target) = ([[0.0; 4]; 4], [RIDGE; 4]);
        for (i, row) in matrix.iter_mut().enumerate() {
            row[i] = RIDGE;
        }
        for cell in self.cells.values() {
            let x: Line = std::array::from_fn(|i| cell.features[i] * unit[i] / cell.ns);
            for i in 0..4 {
                target[i] += cell.count * x[i];
                for j in 0..4 {
                    matrix[i][j] += cell.count * x[i] * x[j];
                }
            }
        }
        // Coordinate descent from where the line was: a few sweeps follow what one more step changes.
        let mut share: Line = std::array::from_fn(|i| self.line[i] / unit[i]);
        for _ in 0..SWEEPS {
            for i in 0..4 {
                let rest = dot(&matrix[i], &share) - matrix[i][i] * share[i];
                share[i] = ((target[i] - rest) / matrix[i][i]).max(0.0);
            }
        }
        self.line = std::array::from_fn(|i| share[i] * unit[i]);
    }
}

/// What a step costs with 0 to `most` guesses, in ns. More columns never take less time: where a measurement says so, what
/// it says of fewer was an accident.
pub(crate) fn costs(cost: &CostModel, with: impl Fn(usize) -> Load, most: usize) -> Vec<f64> {
    let mut costs: Vec<f64> = (0..=most).map(|count| cost.predict(&with(count)).max(1) as f64).collect();
    for at in (0..most).rev() {
        costs[at] = costs[at].min(costs[at + 1]);
    }
    costs
}

fn features(load: &Load) -> Line {
    [1.0, load.columns as f64, load.rows as f64, load.context as f64]
}

fn dot(a: &Line, b: &Line) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with costs of its own; every tenth step is held up.
    fn machine(load: &Load, step: u64) -> u64 {
        let ns = 7_000_000 + 1_800_000 * load.columns + 900_000 * load.rows + 450 * load.context;
        let ns = u64::try_from(ns).unwrap();
        let jitter = ns / 100 * (step * 7 % 11) / 2;
        if step % 10 == 9 { ns * 6 } else { ns + jitter }
    }

    fn close(cost: &CostModel, load: &Load) {
        let (said, real) = (cost.predict(load), machine(load, 0));
        assert!(said > real / 100 * 85 && said < real / 100 * 130, "{load:?}: {said} for {real}");
    }

    #[test]
    fn the_line_follows_the_machine_through_outliers() {
        let mut cost = CostModel::default();
        let chunk = |start| Load::default().with(start, 128, 1);
        let decode =
            |sequences: usize, position| (0..sequences).fold(Load::default(), |load, _| load.with(position, 1, 1));
        let mut step = 0;
        let mut observe = |cost: &mut CostModel, load: Load| {
            cost.observe(&load, machine(&load, step));
            step += 1;
        };
        for round in 0..8 {
            for at in 0..16 {
                observe(&mut cost, chunk(at * 128));
            }
            for sequences in [1, 2, 4, 8] {
                observe(&mut cost, decode(sequences, 300 + round));
            }
        }
        for load in [chunk(64), chunk(1000), decode(3, 100), decode(6, 700), decode(4, 300).with(1200, 24, 0)] {
            close(&cost, &load);
        }
        // Hours of decoding: what a prompt costs stays known.
        for at in 0..5_000 {
            observe(&mut cost, decode(1, at));
        }
        close(&cost, &chunk(640));
        // The machine becomes three times as slow, then is itself again.
        let load = decode(2, 500);
        for _ in 0..40 {
            cost.observe(&load, machine(&load, 0) * 3);
        }
        assert!(cost.predict(&load) > machine(&load, 0) * 2);
        cost.observe(&load, machine(&load, 0));
        assert!(cost.predict(&load) < machine(&load, 0) * 3 / 2);
    }

    #[test]
    fn a_machine_far_from_the_prior_is_known_after_two_steps() {
        for factor in [0.000_1, 0.01, 40.0] {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive numbers")]
            let real = |load: &Load| (dot(&PRIOR, &features(load)) * factor) as u64;
            let mut cost = CostModel::default();
            for load in [Load::default().with(0, 100, 1), Load::default().with(100, 1, 1)] {
                cost.observe(&load, real(&load));
            }
            let mixed = Load::default().with(120, 1, 1).with(500, 40, 0);
            let (said, real) = (cost.predict(&mixed), real(&mixed));
            assert!(said.abs_diff(real) < real / 5 + 2, "{factor}: {said} for {real}");
        }
    }

    #[test]
    fn columns_fit_the_limit() {
        let streams = Load::default().with(100, 1, 1).with(100, 1, 1);
        let mut cost = CostModel::default();
        assert_eq!(cost.columns_within(&streams, 0, 256, 80_000_000), 24, "by the prior, rounded down to eights");
        assert_eq!(cost.columns_within(&streams, 0, 256, 1), 8, "always moves on");
        assert_eq!(cost.columns_within(&streams, 0, 5, 1), 5);
        assert_eq!(cost.columns_within(&Load::default(), 0, 256, 1_000_000_000), 256);
        cost.observe(&Load::default().with(0, 100, 1), 1_000);
        assert_eq!(cost.columns_within(&streams, 0, 256, 80_000_000), 256);
    }
}
