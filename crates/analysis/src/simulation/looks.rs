//! A/A experiments: two arms without any difference, looked at again and again. How many ever raise an alarm?

use std::fmt::Write as _;

use serde::Serialize;

use super::Shape;
use crate::experiment::{self, Arm, Goal, Looking, Stretch};
use crate::invalid::Invalid;
use crate::random::Random;
use crate::ratio::Moments;

/// Units between two changes of Thompson's weights.
const RENEWED_UNITS: u32 = 500;

/// How an A/A experiment runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// Highest share of false alarms.
    pub alpha: f64,
    /// Units of both arms, one after the other.
    pub units: u32,
    /// Units between two looks; 1 looks after every unit.
    pub look_every: u32,
    /// Weight of the control; the other arm has the rest.
    pub control_weight: f64,
    /// Whether Thompson's weights (floor 0.1) take over every 500 units; units then count by their inverse propensity.
    pub adaptive: bool,
}

impl Trial {
    /// Looks after every unit, up to 2,000 units, two arms alike, alpha 5 %.
    pub const EVERY_UNIT: Self = Self { alpha: 0.05, units: 2000, look_every: 1, control_weight: 0.5, adaptive: false };

    /// What the tables call it.
    fn name(self) -> String {
        let percent = 100.0 * self.control_weight;
        let weights = if self.adaptive {
            "Thompson's weights".to_owned()
        } else {
            format!("{percent:.0} : {:.0}", 100.0 - percent)
        };
        match self.look_every {
            1 => format!("every unit, {weights}"),
            units => format!("every {units} units, {weights}"),
        }
    }
}

/// How many A/A experiments raised an alarm at any look.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FalseAlarms {
    /// Experiments run.
    pub experiments: u32,
    /// Those where the confidence sequence of the difference ever left out 0.
    pub difference: u32,
    /// The same of the lift.
    pub lift: u32,
    /// Those where the sample-ratio check ever saw a mismatch.
    pub sample_ratio: u32,
    /// For comparison: those where a test meant for one look (normal, 1 - alpha) ever saw a difference.
    pub single_look_test: u32,
}

/// Runs `experiments` A/A experiments with units of `shape`: assigned, weighed, compared and checked by [`crate::experiment`].
///
/// # Errors
/// As the functions there, e.g. with an alpha that cannot be.
pub fn false_alarms(shape: Shape, trial: Trial, experiments: u32, seed: u64) -> Result<FalseAlarms, Invalid> {
    let mut random = Random::new(seed);
    let mut found = FalseAlarms { experiments, ..FalseAlarms::default() };
    for number in 0..experiments {
        let alarms = run(shape, trial, &format!("{seed}/{number}"), &mut random)?;
        for (count, alarm) in
            [&mut found.difference, &mut found.lift, &mut found.sample_ratio, &mut found.single_look_test]
                .into_iter()
                .zip(alarms)
        {
            *count += u32::from(alarm);
        }
    }
    Ok(found)
}

/// One experiment: whether each of the four (difference, lift, sample ratio, single-look test) ever raised an alarm.
fn run(shape: Shape, trial: Trial, id: &str, random: &mut Random) -> Result<[bool; 4], Invalid> {
    let looking = Looking::new(trial.alpha, u64::from(trial.units));
    let one_look = crate::distribution::normal_quantile(1.0 - trial.alpha / 2.0);
    let mut arms = ["control", "other"].map(|name| Arm { name: name.to_owned(), moments: Moments::default() });
    let first = vec![trial.control_weight, 1.0 - trial.control_weight];
    let mut stretches = vec![Stretch { weights: first, units: vec![0, 0] }];
    let mut alarms = [false; 4];
    for unit in 1..=trial.units {
        let Some(stretch) = stretches.last_mut() else { break };
        let given = experiment::assign(id, "a/a", &unit.to_string(), &stretch.weights)?;
        stretch.units[given.arm] += 1;
        let cluster = shape.draw(random);
        let moments = &mut arms[given.arm].moments;
        if trial.adaptive {
            moments.push_weighted(cluster, given.propensity)?
        } else {
            moments.push(cluster)?
        }
        if unit.is_multiple_of(trial.look_every) {
            alarms[2] |= experiment::sample_ratio(&stretches, trial.alpha)?.mismatch;
            for found in experiment::compare(&arms, looking)? {
                alarms[0] |= found.decided;
                alarms[1] |= found.lift.is_some_and(|lift| !lift.interval.contains(0.0));
                let errors = arms.each_ref().map(|arm| arm.moments.standard_error().unwrap_or(f64::INFINITY));
                alarms[3] |=
                    found.difference.is_some_and(|found| found.estimate.abs() > one_look * errors[0].hypot(errors[1]));
            }
        }
        if trial.adaptive && unit.is_multiple_of(RENEWED_UNITS) {
            let moments = arms.each_ref().map(|arm| arm.moments);
            let weights = experiment::allocate(&moments, Goal::Highest, 0.1)?.iter().map(|arm| arm.weight).collect();
            stretches.push(Stretch { weights, units: vec![0, 0] });
        }
    }
    Ok(alarms)
}

/// The table of false alarms per metric and schedule of looks.
///
/// # Errors
/// As [`false_alarms`].
pub fn false_alarms_table(experiments: u32, seed: u64) -> Result<String, Invalid> {
    let every = Trial::EVERY_UNIT;
    let trials = [
        every,
        Trial { look_every: 100, ..every },
        Trial { control_weight: 0.9, ..every },
        Trial { adaptive: true, ..every },
    ];
    let (minimum, units, percent) = (experiment::MINIMUM_UNITS, every.units, 100.0 * every.alpha);
    let mut text = format!(
        "Share of {experiments} A/A experiments of {units} units that ever raised an alarm (seed {seed}), looked at \
         from {minimum} units per arm on; at most {percent:.0} % is promised.\n\n\
         | metric: value per token | looks, weights | difference | lift | sample ratio | test for one look |\n\
         |---|---|---:|---:|---:|---:|\n"
    );
    for shape in Shape::HELD.into_iter().chain(Shape::NOT_HELD) {
        for trial in trials {
            let found = false_alarms(shape, trial, experiments, seed)?;
            let share = |count: u32| 100.0 * f64::from(count) / f64::from(experiments);
            let (name, schedule) = (shape.name(), trial.name());
            let [difference, lift, ratio, test] =
                [found.difference, found.lift, found.sample_ratio, found.single_look_test].map(share);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {name} | {schedule} | {difference:.1} % | {lift:.1} % | {ratio:.1} % | {test:.1} % |"
            );
        }
    }
    Ok(text)
}
