//! What an experiment has shown: sums by arm, and what they say of the arms.

use std::collections::BTreeMap;

use analysis::Invalid;
use analysis::experiment::{
    Allocation as Share, Arm as Shown, Goal, Incremental, Looking, MAX_ARMS, Stretch, allocate, compare, incremental,
    sample_ratio,
};
use analysis::ratio::{Cluster, Moments};
use economics::Currency;
use economics::books::Books;
use economics::experiment::{Allocation, Arm, Experiment, Metric};
use economics::rollup::{UnitRow, UnitSums, experiment_units};

use super::document::{
    ExperimentAllocationResult, ExperimentArmResult, ExperimentIncremental, ExperimentMaturity, ExperimentMeans,
    ExperimentResults, ExperimentTokens, NextArmWeight, ThompsonResult,
};
use super::share;
use crate::error::ApiError;
use crate::routes::admin::unreadable;
use crate::routes::figures::{money, thousandths};

/// Of the interval of incremental TFP, which is for one look.
const LEVEL: f64 = 0.95;

/// One arm.
#[derive(Clone, Default)]
struct ArmSums {
    /// All its units.
    all: UnitSums,
    /// Units that are compared: whose days are over.
    compared: i64,
    /// The metric over these, each unit alike.
    metric: Moments,
    /// The same, each unit by the inverse of its chance.
    by_chance: Moments,
    /// Value and tokens over these, each unit alike.
    plain: Moments,
}

impl ArmSums {
    /// Takes in a unit that came with a chance (permille).
    fn take(&mut self, metric: Metric, row: &UnitRow, chance: Option<u16>, now_ms: i64) -> Result<(), Invalid> {
        self.all.add(&row.sums);
        if row.sums.until_ms < i64::MAX && row.sums.until_ms > now_ms {
            return Ok(());
        }
        self.compared += 1;
        self.plain.push(metric_of(Metric::Tfp, &row.sums))?;
        let unit = metric_of(metric, &row.sums);
        self.metric.push(unit)?;
        self.by_chance.push_weighted(unit, chance.map_or(1.0, share))
    }
}

/// What Thompson's rule says of an arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Allocated {
    /// The arm's place.
    pub(super) place: usize,
    /// Its chance to be the best.
    best: f64,
    /// Its weight for the next units, in permille.
    pub(super) weight: u16,
}

/// What was read of an experiment.
pub(super) struct Results<'a> {
    experiment: &'a Experiment,
    version: u64,
    arms: Vec<ArmSums>,
    /// Units by weights.
    stretches: Vec<Stretch>,
    /// Units were assigned under several weights: each counts by the inverse of its chance.
    weighted: bool,
}

impl<'a> Results<'a> {
    /// Reads all units of the experiment. Only what is on the disk.
    pub(super) fn read(books: &Books, experiment: &'a Experiment, now_ms: i64) -> Result<Self, ApiError> {
        let weights = books.experiment_weights(&experiment.id).map_err(|error| unreadable(&error))?;
        let version = weights.last_key_value().map_or(0, |(version, _)| *version);
        let count = experiment.arms.len();
        let mut arms = vec![ArmSums::default(); count];
        let mut units = BTreeMap::<u64, Vec<u64>>::new();
        let mut failed = None;
        let read = experiment_units(books.ledger(), &experiment.id, |row| {
            let Some(arm) = arms.get_mut(row.arm) else { return true };
            let of_arm = units.entry(row.stretch).or_insert_with(|| vec![0; count]).get_mut(row.arm);
            of_arm.into_iter().for_each(|units| *units += 1);
            let chance = weights.get(&row.stretch).and_then(|weights| weights.get(row.arm)).copied();
            failed = arm.take(experiment.metric, &row, chance, now_ms).err();
            failed.is_none()
        });
        read.map_err(|error| unreadable(&error))?;
        if let Some(error) = failed {
            return Err(impossible(&error));
        }
        let stretches = stretches(units, &weights, count);
        let weighted = stretches.len() > 1;
        Ok(Self { experiment, version, arms, stretches, weighted })
    }

    /// The metric of an arm's units.
    fn metric(&self, sums: &ArmSums) -> Moments {
        if self.weighted { sums.by_chance } else { sums.metric }
    }

    /// The version of the experiment that was read.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// What Thompson's rule says of the arms whose weights are allocated; none while nothing can be said.
    pub(super) fn thompson(&self) -> Result<Option<Vec<Allocated>>, ApiError> {
        let free: Vec<(usize, u16, Moments)> = (self.experiment.arms.iter().zip(&self.arms).enumerate())
            .filter(|(_, (arm, _))| !arm.held_out)
            .map(|(place, (arm, sums))| (place, arm.weight, self.metric(sums)))
            .collect();
        let moments: Vec<Moments> = free.iter().map(|(_, _, moments)| *moments).collect();
        let whole: u64 = free.iter().map(|(_, weight, _)| u64::from(*weight)).sum();
        let floor = u64::from(self.experiment.floor_permille);
        let least = share(self.experiment.floor_permille) / (whole as f64 / 1000.0);
        let found = allocate(&moments, Goal::Highest, least).map_err(|error| impossible(&error))?;
        let best: Option<Vec<f64>> = found.iter().map(|Share { best, .. }| *best).collect();
        let Some(best) = best else { return Ok(None) };
        // What is above the floors, in whole permille.
        let rest = whole.saturating_sub(floor.saturating_mul(free.len() as u64));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a probability in billionths")]
        let parts: Vec<u64> = best.iter().map(|best| (best * 1e9) as u64).collect();
        let parts = economics::plant::largest_remainder(rest, &parts);
        let arms = free.iter().zip(best).zip(parts).map(|(((place, ..), best), part)| {
            let weight = u16::try_from(floor.saturating_add(part)).unwrap_or(u16::MAX);
            Allocated { place: *place, best, weight }
        });
        Ok(Some(arms.collect()))
    }

    /// As it is answered.
    pub(super) fn document(&self, currency: &Currency) -> Result<ExperimentResults, ApiError> {
        let alpha = share(self.experiment.alpha_permille);
        let looking = Looking::new(alpha, self.experiment.planned_units);
        let shown_arms: Vec<Shown> = (self.experiment.arms.iter().zip(&self.arms))
            .filter(|(arm, _)| !self.is_left_out(arm.held_out))
            .map(|(arm, sums)| Shown { name: arm.name.clone(), moments: self.metric(sums) })
            .collect();
        let comparisons = match shown_arms.len() {
            2..=MAX_ARMS => compare(&shown_arms, looking).map_err(|error| impossible(&error))?,
            _ => Vec::new(),
        };
        let arms = self.experiment.arms.iter().zip(&self.arms);
        Ok(ExperimentResults {
            object: "experiment",
            currency: currency.code.clone(),
            version: self.version,
            experiment: self.experiment.clone(),
            metric_unit: metric_unit(self.experiment.metric),
            arms: arms.map(|(arm, sums)| self.arm(arm, sums)).collect(),
            control: self.experiment.arms.first().map(|arm| arm.name.clone()).unwrap_or_default(),
            weighted_by_chance: self.weighted,
            comparisons,
            sample_ratio: sample_ratio(&self.stretches, alpha).map_err(|error| impossible(&error))?,
            allocation: self.allocation()?,
            incremental: self.incremental(),
            maturity: self.maturity(),
        })
    }

    fn arm(&self, arm: &Arm, sums: &ArmSums) -> ExperimentArmResult {
        let UnitSums { units, requests, input, output, value, proxy, outcomes_milli, accepted_milli, .. } = sums.all;
        ExperimentArmResult {
            name: arm.name.clone(),
            weight: arm.weight,
            held_out: arm.held_out,
            units,
            compared_units: sums.compared,
            requests,
            tokens: ExperimentTokens { input, output, total: sums.all.tokens() },
            value,
            proxy,
            outcomes: thousandths(outcomes_milli),
            accepted_outcomes: thousandths(accepted_milli),
            metric: self.metric(sums).ratio().filter(|_| !self.is_left_out(arm.held_out)),
        }
    }

    /// Without tokens or outcomes of answers, units that are held out have no such metric.
    fn is_left_out(&self, held_out: bool) -> bool {
        held_out && self.experiment.metric != Metric::ValuePerUnit
    }

    fn allocation(&self) -> Result<ExperimentAllocationResult, ApiError> {
        let kind = self.experiment.allocation;
        if kind != Allocation::Thompson {
            return Ok(ExperimentAllocationResult { kind, thompson: None });
        }
        let name = |place: usize| self.experiment.arms.get(place).map(|arm| arm.name.clone()).unwrap_or_default();
        let next = self.thompson()?.map(|arms| {
            let one = |Allocated { place, best, weight }| NextArmWeight { arm: name(place), best, weight };
            arms.into_iter().map(one).collect()
        });
        let floor_permille = self.experiment.floor_permille;
        Ok(ExperimentAllocationResult { kind, thompson: Some(ThompsonResult { floor_permille, next }) })
    }

    /// What those with answers were worth beyond those held out, per million of their tokens.
    fn incremental(&self) -> Option<ExperimentIncremental> {
        let arms = || self.experiment.arms.iter().zip(&self.arms);
        let (_, held_out) = arms().find(|(arm, _)| arm.held_out)?;
        let mut treated = Moments::default();
        arms().filter(|(arm, _)| !arm.held_out).for_each(|(_, sums)| treated.merge(&sums.plain));
        Some(match incremental(&treated, &held_out.plain, LEVEL) {
            Ok(Incremental { treated_value, held_out_value, treated_tokens, tfp }) => {
                let means = ExperimentMeans { treated_value, held_out_value, treated_tokens, per_tokens: 1_000_000 };
                ExperimentIncremental { tfp: Some(tfp.per_million()), reason: None, means: Some(means) }
            }
            Err(error) => ExperimentIncremental { tfp: None, reason: Some(error.to_string()), means: None },
        })
    }

    fn maturity(&self) -> ExperimentMaturity {
        let (units, compared) =
            self.arms.iter().fold((0, 0), |(units, compared), arm| (units + arm.all.units, compared + arm.compared));
        let days = self.experiment.window_days;
        let remark = match days {
            0 => "all units are compared as they are, however young: what they use and are worth later changes them still, \
                  and the promise of the confidence sequence holds only for units that are done"
                .to_owned(),
            days => format!(
                "units are compared once the {days} days from their assignment are over; outcomes told later of these days \
                 still change them"
            ),
        };
        ExperimentMaturity { window_days: days, units, compared, waiting: units - compared, remark }
    }
}

/// Units by weights and arm; versions that follow each other with the same weights are one stretch.
fn stretches(units: BTreeMap<u64, Vec<u64>>, weights: &BTreeMap<u64, Vec<u16>>, arms: usize) -> Vec<Stretch> {
    let shares = |weights: &Vec<u16>| weights.iter().map(|weight| share(*weight)).collect::<Vec<f64>>();
    let mut found: Vec<Stretch> = Vec::new();
    for (version, units) in units {
        let Some(weights) = weights.get(&version).map(shares) else { continue };
        match found.last_mut().filter(|last| last.weights == weights) {
            Some(last) => last.units.iter_mut().zip(units).for_each(|(sum, more)| *sum += more),
            None => found.push(Stretch { weights, units }),
        }
    }
    if found.is_empty() {
        let weights = weights.values().next_back().map_or_else(|| vec![1.0; arms], shares);
        found.push(Stretch { weights, units: vec![0; arms] });
    }
    found
}

/// A unit's part of the metric.
fn metric_of(metric: Metric, sums: &UnitSums) -> Cluster {
    let (numerator, denominator) = match metric {
        Metric::Tfp => (money(sums.value), sums.tokens() as f64),
        Metric::ValuePerUnit => (money(sums.value), 1.0),
        Metric::AcceptedShare => (thousandths(sums.accepted_milli), thousandths(sums.outcomes_milli)),
    };
    Cluster { numerator, denominator: denominator.max(0.0) }
}

fn metric_unit(metric: Metric) -> &'static str {
    match metric {
        Metric::Tfp => "value per token",
        Metric::ValuePerUnit => "value per unit",
        Metric::AcceptedShare => "accepted outcomes per outcome",
    }
}

/// Records are checked when they are written, so what the analysis refuses is a fault here.
fn impossible(error: &analysis::Invalid) -> ApiError {
    ApiError::internal(format!("the experiment's results cannot be worked out: {error}"))
}
