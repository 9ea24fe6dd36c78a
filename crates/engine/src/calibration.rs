//! What was measured of an engine's steps another time, and how far what is predicted is from what is measured.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use inference::{ClassTime, StepClass, StepTerm};

use crate::cost::{CostModel, Kind, Load, TERMS, Terms};

/// Most steps that a log keeps; further ones are left out.
const MAX_STEPS: usize = 1 << 20;
/// A step that takes so many times as long as the middle one of those alike was held up by something else.
const HELD_UP: u64 = 2;
/// The mean position from which on a step's context counts as long.
const LONG: usize = 1024;
/// Streams that decode together from which on they are few, and many.
const FEW: usize = 2;
const MANY: usize = 8;

/// What an engine knows of its steps' time; good for one model, number of threads and machine. Plain data, to be kept and
/// given to the next engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// The time of each term of a step, in ns.
    pub terms: Vec<f64>,
    /// The steps they are fitted to, those alike together.
    pub cells: Vec<CalibrationCell>,
}

/// Steps that are alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CalibrationCell {
    /// Which ones: classes of columns and of context, and whether most columns ask for logits.
    pub kind: [u32; 3],
    /// How much of each term they have, on average.
    pub features: Vec<f64>,
    /// How long they take on average, in ns.
    pub ns: f64,
    /// How many of them the averages stand for.
    pub count: f64,
}

impl Calibration {
    /// Fits the terms to steps that were measured, as a running engine does; but none is older than the others, and those
    /// that something else held up are left out (see [`compare`](Self::compare)).
    #[must_use]
    pub fn fit(steps: &[StepSample]) -> Self {
        let usual = Usual::of(steps);
        let steady = steps.iter().filter(|step| !usual.is_held_up(step));
        CostModel::of_steps(steady.map(|step| (step.load(), step.ns))).calibration()
    }

    /// The terms by name; empty: this is of another form than this program's.
    #[must_use]
    pub fn named_terms(&self) -> Vec<StepTerm> {
        CostModel::calibrated(self).map(|cost| named(cost.terms())).unwrap_or_default()
    }

    /// Whether it is of this program's form.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        CostModel::calibrated(self).is_some()
    }

    /// What it predicts of `steps` beside what was measured, by class. Of steps alike those that took more than twice
    /// as long as the middle one were held up by something else: they are left out, and counted.
    #[must_use]
    pub fn compare(&self, steps: &[StepSample]) -> BTreeMap<StepClass, Compared> {
        let Some(cost) = CostModel::calibrated(self) else { return BTreeMap::new() };
        let usual = Usual::of(steps);
        let mut classes: BTreeMap<StepClass, Compared> = BTreeMap::new();
        for step in steps {
            let compared = classes.entry(step.class).or_default();
            if usual.is_held_up(step) {
                compared.held_up += 1;
            } else {
                compared.time.add(cost.model_ns(&step.load()), step.ns);
            }
        }
        classes
    }
}

/// What was predicted of a class of steps, and what was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Steps and their time.
    pub time: ClassTime,
    /// Steps left out, since something else held them up.
    pub held_up: u64,
}

/// The middle time of steps alike.
struct Usual(BTreeMap<(StepClass, Kind), u64>);

impl Usual {
    fn of(steps: &[StepSample]) -> Self {
        let mut alike: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for step in steps {
            alike.entry((step.class, step.load().kind())).or_default().push(step.ns);
        }
        Self(alike.into_iter().map(|(kind, ns)| (kind, median(ns))).collect())
    }

    fn is_held_up(&self, step: &StepSample) -> bool {
        let usual = self.0.get(&(step.class, step.load().kind())).copied().unwrap_or(step.ns);
        step.ns > usual.saturating_mul(HELD_UP)
    }
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// The terms with what they count.
pub(crate) fn named(terms: &Terms) -> Vec<StepTerm> {
    TERMS.into_iter().zip(*terms).map(|(counts, ns)| StepTerm { counts, ns }).collect()
}

/// One step as it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSample {
    /// What kind of work it did.
    pub class: StepClass,
    /// Columns.
    pub columns: usize,
    /// Rows of logits.
    pub rows: usize,
    /// The positions of all columns, added up.
    pub context: usize,
    /// Positions up to the last column of each sequence, added up.
    pub reach: usize,
    /// How long it took, what a draft model took left out.
    pub ns: u64,
}

impl StepSample {
    pub(crate) fn new(class: StepClass, load: &Load, ns: u64) -> Self {
        let Load { columns, rows, context, reach } = *load;
        Self { class, columns, rows, context, reach, ns }
    }

    fn load(&self) -> Load {
        let Self { columns, rows, context, reach, .. } = *self;
        Load { columns, rows, context, reach }
    }
}

/// Keeps the steps of an engine, a million at most, until they are taken. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StepLog(Arc<Mutex<Vec<StepSample>>>);

impl StepLog {
    /// The steps since it was last called.
    #[must_use]
    pub fn take(&self) -> Vec<StepSample> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn push(&self, step: StepSample) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() < MAX_STEPS {
            steps.push(step);
        }
    }
}

/// The class of a step by its columns: of prompts, of streams, and of guesses among the latter.
pub(crate) fn class(load: &Load, prefill: usize, guessed: u64) -> StepClass {
    let decode = load.columns.saturating_sub(prefill);
    let long = load.context / load.columns.max(1) >= LONG;
    match (prefill, decode) {
        _ if prefill > 0 && decode > 0 => StepClass::Mixed,
        (_, 0) if long => StepClass::PrefillLong,
        (_, 0) => StepClass::Prefill,
        _ if guessed > 0 => StepClass::Guessed,
        _ if long => StepClass::DecodeLong,
        (_, MANY..) => StepClass::DecodeMany,
        (_, FEW..) => StepClass::DecodeFew,
        _ => StepClass::DecodeAlone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that no single line describes: further columns cost less, and each sequence's context is read once.
    fn machine(load: &Load) -> u64 {
        let (first, more) = (load.columns.min(4), load.columns.saturating_sub(4));
        let ns = 6_000_000 + 900_000 * first + 250_000 * more + 400_000 * load.rows + 30 * load.context;
        u64::try_from(ns + 700 * load.reach).unwrap()
    }

    fn sample(load: Load, prefill: usize, ns: u64) -> StepSample {
        StepSample::new(class(&load, prefill, 0), &load, ns)
    }

    fn decode(sequences: usize, position: usize) -> Load {
        (0..sequences).fold(Load::default(), |load, _| load.with(position, 1, 1))
    }

    /// Work of all classes; `shift` moves positions, so that no step comes twice.
    fn work(shift: usize) -> Vec<StepSample> {
        let mut steps = Vec::new();
        for at in 0..12 {
            let chunk = Load::default().with(at * 256 + shift, 256, usize::from(at % 4 == 3));
            steps.push(sample(chunk, 256, machine(&chunk)));
        }
        for at in 0..12 {
            for (sequences, position) in [(1, 60), (3, 60), (6, 90), (12, 60), (32, 40), (1, 2000), (4, 1500)] {
                let load = decode(sequences, position + at + shift);
                steps.push(sample(load, 0, machine(&load)));
            }
            let mixed = decode(4, 100 + at + shift).with(16 * at, 16, 0);
            steps.push(sample(mixed, 16, machine(&mixed)));
        }
        steps
    }

    #[test]
    fn each_class_of_work_is_predicted_by_what_was_fitted_to_other_steps() {
        let calibration = Calibration::fit(&work(0));
        let mut held_back = work(37);
        let slow = held_back[20];
        held_back.push(StepSample { ns: slow.ns * 9, ..slow });
        let compared = calibration.compare(&held_back);
        assert_eq!(compared.len(), StepClass::ALL.len() - 1, "{compared:?}: all but guesses");
        for (class, Compared { time, .. }) in &compared {
            let error = time.predicted_ns as f64 / time.busy_ns as f64 - 1.0;
            assert!(error.abs() < 0.05, "{}: {error:+.3}", class.as_str());
        }
        assert_eq!(compared.values().map(|class| class.held_up).sum::<u64>(), 1);
        assert_eq!(compared.values().map(|class| class.time.steps).sum::<u64>() + 1, held_back.len() as u64);
    }

    #[test]
    fn what_is_kept_is_what_an_engine_starts_from() {
        let calibration = Calibration::fit(&work(0));
        let cost = CostModel::calibrated(&calibration).unwrap();
        assert!(cost.is_measured());
        assert_eq!(cost.calibration(), calibration);
        assert_eq!(calibration.named_terms().len(), TERMS.len());
        let of_another_form = [
            Calibration { terms: vec![1.0; 3], ..calibration.clone() },
            Calibration { terms: vec![-1.0; TERMS.len()], ..calibration.clone() },
            Calibration { cells: vec![CalibrationCell::default()], ..calibration.clone() },
            Calibration { terms: vec![f64::NAN; TERMS.len()], ..calibration },
        ];
        for other in of_another_form {
            assert!(!other.is_readable() && other.compare(&work(0)).is_empty());
        }
    }

    #[test]
    fn classes_follow_the_columns() {
        let class = |load: &Load, prefill, guessed| super::class(load, prefill, guessed).as_str();
        assert_eq!(class(&Load::default().with(0, 100, 1), 100, 0), "prefill");
        assert_eq!(class(&Load::default().with(4000, 100, 1), 100, 0), "prefill_long");
        assert_eq!(class(&decode(1, 9), 0, 0), "decode_alone");
        assert_eq!(class(&decode(7, 9), 0, 0), "decode_few");
        assert_eq!(class(&decode(8, 9), 0, 0), "decode_many");
        assert_eq!(class(&decode(8, 3000), 0, 0), "decode_long");
        assert_eq!(class(&decode(8, 9).with(0, 2, 0), 2, 3), "mixed");
        assert_eq!(class(&decode(1, 9).extended(10, 3, 3), 0, 3), "guessed");
    }
}
