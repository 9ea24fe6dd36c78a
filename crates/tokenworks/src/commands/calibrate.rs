//! `calibrate`: planned work on the real engine, the terms of a step's time fitted to every second step, and how far they are
//! from what the others took.

mod work;

use std::sync::Arc;

use economics::window::to_rfc3339;
use engine::{Calibration, Compared, StepLog, StepSample};
use inference::StepClass;
use metering::Meter;
use serde::Serialize;

use super::Context;
use super::pull::consent;
use crate::assembly::{self, Drafts};
use crate::books::now_ms;
use crate::calibration::{self, Conditions, Kept};
use crate::cli;
use crate::error::Result;
use crate::memory::KvRoom;
use crate::output::table;

/// The error of a class that is aimed at, in thousandths.
const GOAL_PERMILLE: i64 = 100;

/// As `calibrate --json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    measured: String,
    conditions: Conditions,
    file: String,
    rule: &'static str,
    fitted_steps: usize,
    terms: Vec<Term>,
    classes: Vec<Class>,
    within_goal: bool,
}

/// A term of a step's time.
#[derive(Debug, Serialize)]
struct Term {
    counts: &'static str,
    ns: f64,
}

/// What was predicted of steps that were not fitted, and what was measured.
#[derive(Debug, Serialize)]
struct Class {
    class: &'static str,
    steps: u64,
    held_up: u64,
    predicted_ns: u64,
    busy_ns: u64,
    /// (predicted - measured) / measured, in thousandths; none where all steps were left out.
    error_permille: Option<i64>,
}

impl Class {
    fn of(class: StepClass, compared: &Compared) -> Self {
        let Compared { time, held_up } = *compared;
        Self {
            class: class.as_str(),
            steps: time.steps,
            held_up,
            predicted_ns: time.predicted_ns,
            busy_ns: time.busy_ns,
            error_permille: time.error_permille(),
        }
    }
}

/// Runs `calibrate`.
///
/// # Errors
/// No such model, it does not fit, or its calibration cannot be kept.
pub fn calibrate(context: &Context, args: &cli::Calibrate) -> Result<()> {
    let reference = context.model(args.model.as_deref())?;
    let pool = assembly::thread_pool(context)?;
    let allowed = |builtin: &_| consent(context, builtin, false);
    let mut loaded = assembly::load(context, &reference, &pool, &allowed, Drafts::Loaded)?;
    let conditions = loaded.conditions.clone();
    let log = StepLog::default();
    // What was known before takes no part.
    loaded.start.calibration = None;
    loaded.step_log = Some(log.clone());
    let production = loaded.start(context, &Arc::new(Meter::new()), None, KvRoom::default())?;
    context.output.note("measuring; other work on this machine falsifies the figures");
    let mut work = work::PlannedWork::new(production.engine.as_ref());
    let (mut fitted, mut held_back): (Vec<StepSample>, Vec<StepSample>) = (Vec::new(), Vec::new());
    let max_running = context.settings.engine.max_running;
    // The first round warms the machine up.
    work.round(max_running)?;
    let _ = log.take();
    for round in 0..args.rounds {
        work.round(max_running)?;
        // Every second step is held back, and the next round the others: a machine that others disturb does so for both.
        for (number, step) in (round..).zip(log.take()) {
            if number % 2 == 0 { fitted.push(step) } else { held_back.push(step) }
        }
    }
    production.end();
    let calibration = Calibration::fit(&fitted);
    let measured = to_rfc3339(now_ms());
    let kept = Kept::new(&calibration, measured.clone(), conditions.clone());
    let file = calibration::keep(context, &reference.name, &kept)?;
    let compared = calibration.compare(&held_back);
    let classes: Vec<Class> = compared.iter().map(|(class, compared)| Class::of(*class, compared)).collect();
    let report = Report {
        model: reference.name,
        measured,
        conditions,
        file: file.display().to_string(),
        rule: service::SHARING_RULE,
        fitted_steps: fitted.len(),
        terms: calibration.named_terms().into_iter().map(|term| Term { counts: term.counts, ns: term.ns }).collect(),
        within_goal: within_goal(&classes),
        classes,
    };
    if args.json { context.output.json(&report) } else { context.output.text(shown(&report)) }
}

/// Whether every class was measured, and predicted within the goal.
fn within_goal(classes: &[Class]) -> bool {
    let reached = |class: &Class| class.error_permille.is_some_and(|error| error.abs() <= GOAL_PERMILLE);
    !classes.is_empty() && classes.iter().all(reached)
}

fn shown(report: &Report) -> String {
    let milliseconds = |ns: u64| format!("{}.{:02}", ns / 1_000_000, ns / 10_000 % 100);
    let header = ["CLASS OF WORK", "STEPS", "PREDICTED ms", "MEASURED ms", "ERROR", "HELD UP"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for class in &report.classes {
        let error = class.error_permille.map_or_else(
            || "-".to_owned(),
            |error| format!("{}{}.{} %", if error < 0 { '-' } else { '+' }, error.abs() / 10, error.abs() % 10),
        );
        rows.push(vec![
            class.class.to_owned(),
            class.steps.to_string(),
            milliseconds(class.predicted_ns),
            milliseconds(class.busy_ns),
            error,
            class.held_up.to_string(),
        ]);
    }
    let mut terms = vec![["A STEP'S TIME", "MICROSECONDS EACH"].map(str::to_owned).to_vec()];
    let some = report.terms.iter().filter(|term| term.ns > 0.0);
    terms.extend(some.map(|Term { counts, ns }| vec![(*counts).to_owned(), format!("{:.3}", ns / 1000.0)]));
    let Conditions { machine, threads, .. } = &report.conditions;
    let goal = if report.within_goal {
        "All classes are within 10 %."
    } else {
        "Not all classes are within 10 %: the machine may have been disturbed; run it again, or with more --rounds."
    };
    format!(
        "{} on {machine}, {threads} threads: {} steps fitted; others, held back, compared\n\n{}\n{goal} HELD UP: steps left \
         out, since they took more than twice as long as others alike.\n\n{}\n{}\n\nKept in {}: `serve` starts from it, and \
         goes on fitting.\n",
        report.model,
        report.fitted_steps,
        table(&rows),
        table(&terms),
        report.rule,
        report.file
    )
}
