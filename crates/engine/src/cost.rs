//! What a step costs, as measured: one model of the recent steps of every kind.
//!
//! A step's time is taken for a sum of terms, each a time that is not negative by what it counts ([`TERMS`]): the step itself;
//! columns, of which further ones may cost more or less than the first; passes over the weights, one for a few columns; rows
//! of logits, of which the first reads the output projection; positions that each column looks back on; and positions whose
//! keys and values a sequence reads once, for however many columns. Steps of one kind (about as many columns, about as much context) are averaged in a cell, and the
//! terms are the least-squares fit through the cells: so hours of decoding do not make it forget what a prompt costs. Time
//! comes in as an argument; nothing here reads a clock.

use std::collections::BTreeMap;

use crate::calibration::{Calibration, CalibrationCell};

/// Share of a new measurement in the average of its cell, as 1/n.
const SMOOTHING: f64 = 8.0;
/// So many steps of a kind count in the fit at most: a kind that is common counts more than one that came once, for it is the
/// time of common ones that is shared by the terms.
const WEIGHT: f64 = 32.0;
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
/// How much the prior counts beside the cells: the line's proportions, and nothing for the terms beyond it.
const RIDGE: f64 = 0.01;
const BEYOND_RIDGE: f64 = 0.02;
const SWEEPS: usize = 64;
/// So many times that come to where further ones change little.
const FITS: usize = 64;

/// Where columns may begin or cease to cost more.
const BENDS: [usize; 3] = [4, 16, 64];

/// Columns that the widest kernels multiply together.
const TOGETHER: usize = 8;

/// What the terms of a step's time count. Those behind the first four are what a line through the steps leaves open: that the
/// first columns, or those beyond them, cost more, that the first row reads the output projection, that keys and values are
/// read once for all columns of a sequence, and that weights are unpacked once for columns that are multiplied together.
pub(crate) const TERMS: [&str; 12] = [
    "step",
    "column",
    "row of logits",
    "position that a column looks back on",
    "column up to 4",
    "column up to 16",
    "column up to 64",
    "column beyond 4",
    "column beyond 16",
    "first row of logits",
    "position that a sequence reads",
    "pass for up to 8 columns",
];
/// So many of them are a line, with proportions of their own before anything is measured.
const LINE: usize = 4;
const COLUMN_TERMS: [usize; 7] = [1, 4, 5, 6, 7, 8, 11];
const ROW_TERMS: [usize; 2] = [2, 9];

/// Before anything is measured, in nanoseconds; for terms beyond the line, the unit in which they are fitted. Slow on
/// purpose, so that the first chunk beside running streams is small; once there is a measurement, only the proportions count.
const PRIOR: Terms = [4e6, 2.5e6, 0.5e6, 700.0, 2.5e6, 2.5e6, 2.5e6, 2.5e6, 2.5e6, 0.5e6, 5_000.0, 2.5e6];

/// One number for each of [`TERMS`].
pub(crate) type Terms = [f64; TERMS.len()];

/// What a step computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) columns: usize,
    /// Rows of logits.
    pub(crate) rows: usize,
    /// The positions of all columns, added up.
    pub(crate) context: usize,
    /// Positions up to the last column of each sequence, added up.
    pub(crate) reach: usize,
}

impl Load {
    /// The same and `columns` of one sequence from position `start` on.
    pub(crate) fn with(self, start: usize, columns: usize, rows: usize) -> Self {
        let more = self.extended(start, columns, rows);
        Self { reach: more.reach + start, ..more }
    }

    /// The same and `columns` more, from position `start` on, of a sequence that is in it already.
    pub(crate) fn extended(self, start: usize, columns: usize, rows: usize) -> Self {
        let context = columns * start + columns * columns.saturating_sub(1) / 2;
        Self {
            columns: self.columns + columns,
            rows: self.rows + rows,
            context: self.context + context,
            reach: self.reach + columns,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
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
pub(crate) struct Kind {
    columns: u32,
    context: u32,
    rows: bool,
}

/// Averages over the steps of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    features: Terms,
    ns: f64,
    count: f64,
    /// Number of the last step.
    seen: u64,
}

/// The terms and the cells they are fitted to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CostModel {
    /// Fitted without the terms beyond it: what it says of steps of kinds that were never seen is safe to plan by.
    line: Terms,
    /// Fitted with all terms: by these steps are shared.
    terms: Terms,
    cells: BTreeMap<Kind, Cell>,
    steps: u64,
}

impl Default for CostModel {
    fn default() -> Self {
        Self { line: line(&PRIOR), terms: line(&PRIOR), cells: BTreeMap::new(), steps: 0 }
    }
}

/// What a column, a row and positions of one step take of its time, in ns: its terms, each shared evenly over all that it
/// counts in the step. What requests take by these is the step's predicted time without its fixed part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Prices {
    column: f64,
    row: f64,
    context: f64,
    reach: f64,
}

impl Prices {
    /// Least price of a column: a step is never shared by nothing.
    const LEAST: f64 = 1e-3;

    /// What `load`, a part of the step, takes of its time; `reach` positions it reads, which may be a part of a sequence's.
    pub(crate) fn of(&self, load: &Load, reach: f64) -> f64 {
        self.column * load.columns as f64
            + self.row * load.rows as f64
            + self.context * load.context as f64
            + self.reach * reach
    }
}

impl CostModel {
    /// Fits it to steps of which none is older than the others.
    pub(crate) fn of_steps(steps: impl Iterator<Item = (Load, u64)>) -> Self {
        let mut cost = Self::default();
        for (load, ns) in steps {
            cost.steps += 1;
            let new = Cell { features: [0.0; TERMS.len()], ns: 0.0, count: 0.0, seen: cost.steps };
            let cell = cost.cells.entry(load.kind()).or_insert(new);
            cell.count += 1.0;
            cell.ns += ((ns as f64).max(1.0) - cell.ns) / cell.count;
            for (mean, value) in cell.features.iter_mut().zip(features(&load)) {
                *mean += (value - *mean) / cell.count;
            }
        }
        for cell in cost.cells.values_mut() {
            cell.count = cell.count.min(WEIGHT);
        }
        for _ in 0..FITS {
            cost.fit();
        }
        cost
    }

    /// Takes the measured time of a step, in ns.
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
            cell.count = (cell.count + 1.0).min(WEIGHT);
            cell.seen = seen;
        }
        self.fit();
    }

    /// Whether a step was measured yet.
    pub(crate) fn is_measured(&self) -> bool {
        self.steps > 0
    }

    /// How long a step will take, to plan by.
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

    /// How long a step takes by the terms alone, in ns.
    pub(crate) fn model_ns(&self, load: &Load) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; saturates")]
        let ns = dot(&self.terms, &features(load)) as u64;
        ns
    }

    /// By what a step of `load` is shared over what it does.
    pub(crate) fn prices(&self, load: &Load) -> Prices {
        let features = features(load);
        let each = |terms: &[usize], count: usize| {
            let time: f64 = terms.iter().map(|term| self.terms[*term] * features[*term]).sum();
            time / count.max(1) as f64
        };
        Prices {
            column: each(&COLUMN_TERMS, load.columns).max(Prices::LEAST),
            row: each(&ROW_TERMS, load.rows),
            context: self.terms[3],
            reach: self.terms[10],
        }
    }

    /// The terms, in ns, in the order of [`TERMS`].
    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// All that is known, to start from another time.
    pub(crate) fn calibration(&self) -> Calibration {
        let cell = |(kind, cell): (&Kind, &Cell)| CalibrationCell {
            kind: [kind.columns, kind.context, kind.rows.into()],
            features: cell.features.to_vec(),
            ns: cell.ns,
            count: cell.count,
        };
        Calibration { terms: self.terms.to_vec(), cells: self.cells.iter().map(cell).collect() }
    }

    /// Starts from what was known another time; `None`: it is not of this form.
    pub(crate) fn calibrated(from: &Calibration) -> Option<Self> {
        let terms = read(&from.terms)?;
        let cell = |cell: &CalibrationCell| {
            let [columns, context, rows] = cell.kind;
            let known = |value: f64| value.is_finite() && value > 0.0;
            let features = read(&cell.features).filter(|_| known(cell.ns) && known(cell.count))?;
            let count = cell.count.min(WEIGHT);
            Some((Kind { columns, context, rows: rows != 0 }, Cell { features, ns: cell.ns, count, seen: 0 }))
        };
        let cells: BTreeMap<Kind, Cell> = from.cells.iter().map(cell).collect::<Option<_>>()?;
        let steps = u64::from(!cells.is_empty());
        let line = fitted::<LINE>(&cells, &line(&PRIOR));
        Some(Self { line, terms, cells, steps })
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

    /// Fits the line and the terms anew.
    fn fit(&mut self) {
        self.line = fitted::<LINE>(&self.cells, &self.line);
        self.terms = fitted::<{ TERMS.len() }>(&self.cells, &self.terms);
    }
}

/// The first `N` terms that have the least relative error over all cells, none below 0. In directions in which the cells say
/// nothing they keep the proportions of the prior. `from`: what they were.
fn fitted<const N: usize>(cells: &BTreeMap<Kind, Cell>, from: &Terms) -> Terms {
    let scale = cells.values().map(|cell| (cell.ns / dot(&line(&PRIOR), &cell.features)).ln()).sum::<f64>();
    let scale = (scale / cells.len().max(1) as f64).exp();
    let unit = PRIOR.map(|part| part * scale);
    let mut target: [f64; N] = std::array::from_fn(|i| if i < LINE { RIDGE } else { 0.0 });
    let mut matrix = [[0.0; N]; N];
    for (i, row) in matrix.iter_mut().enumerate() {
        row[i] = if i < LINE { RIDGE } else { BEYOND_RIDGE };
    }
    for cell in cells.values() {
        let x: [f64; N] = std::array::from_fn(|i| cell.features[i] * unit[i] / cell.ns);
        for i in 0..N {
            target[i] += cell.count * x[i];
            for j in 0..N {
                matrix[i][j] += cell.count * x[i] * x[j];
            }
        }
    }
    // Coordinate descent from where they were: a few sweeps follow what one more step changes.
    let mut share: [f64; N] = std::array::from_fn(|i| from[i] / unit[i]);
    for _ in 0..SWEEPS {
        for i in 0..N {
            let all: f64 = matrix[i].iter().zip(&share).map(|(a, b)| a * b).sum();
            let rest = all - matrix[i][i] * share[i];
            share[i] = ((target[i] - rest) / matrix[i][i]).max(0.0);
        }
    }
    std::array::from_fn(|i| share.get(i).map_or(0.0, |share| share * unit[i]))
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

/// What the terms count in a step.
fn features(load: &Load) -> Terms {
    let [first, second, third] = BENDS;
    let up_to = |bend: usize| load.columns.min(bend) as f64;
    let beyond = |bend: usize| load.columns.saturating_sub(bend) as f64;
    [
        1.0,
        load.columns as f64,
        load.rows as f64,
        load.context as f64,
        up_to(first),
        up_to(second),
        up_to(third),
        beyond(first),
        beyond(second),
        f64::from(u8::from(load.rows > 0)),
        load.reach as f64,
        load.columns.div_ceil(TOGETHER) as f64,
    ]
}

/// The part of them that is a line.
fn line(terms: &Terms) -> Terms {
    std::array::from_fn(|term| if term < LINE { terms[term] } else { 0.0 })
}

/// One for each term, none below 0.
fn read(values: &[f64]) -> Option<Terms> {
    let terms: Terms = values.try_into().ok()?;
    terms.iter().all(|value| value.is_finite() && *value >= 0.0).then_some(terms)
}

fn dot(a: &Terms, b: &Terms) -> f64 {
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
            let real = |load: &Load| (dot(&line(&PRIOR), &features(load)) * factor) as u64;
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
