//! `tokenworks-bench compare`: tokenworks and llama.cpp side by side, on the same files, in turn.
//!
//! The line is: `tuning` finds each peer's best settings once; then in every round each of the `rows` is measured
//! once on each side, by the programs' own benches (`offline`) or at a server over HTTP (`serving`); `results`
//! takes medians, `report` and `svg` write them down. The report is written anew after each round, so that a run that
//! is broken off leaves what it has. A peer's program that is missing is
//! told before anything is measured; one that crashes makes its rows say so and stops nothing.

pub mod args;
mod curves;
mod offline;
mod report;
mod results;
mod rows;
mod serving;
mod session;
mod svg;
mod tuning;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use self::args::CompareArgs;
use self::curves::Curve;
use self::report::Facts;
use self::results::{Line, Plot};
use self::rows::Row;
use self::session::{Case, ModelFile, Session, Side, absolute};
use self::tuning::Tuning;
use crate::machine;

/// A side that failed so often at a row is not tried there again.
const FAILURES_MAX: usize = 2;

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A file or folder cannot be used.
    #[error("{0}")]
    File(String),
    /// An option cannot be used.
    #[error("{0}")]
    Usage(String),
    /// Our own program does not work.
    #[error("{0}")]
    Tokenworks(String),
}

/// The parts of a run.
struct Comparison<'a> {
    session: Session<'a>,
    models: Vec<ModelFile>,
    rows: Vec<Row>,
    lines: Vec<Line>,
    curves: BTreeMap<Row, Curve>,
    tunings: BTreeMap<(Row, String, Side), Result<Tuning, String>>,
    failed: BTreeMap<(Row, String, Side), usize>,
    facts: Facts,
    out: PathBuf,
}

/// Runs a comparison to its end; gives the path of the report.
///
/// # Errors
/// When a file cannot be used or our own program does not run; a peer's failures are in the report instead.
pub fn run(args: &CompareArgs, runtime: &Runtime) -> Result<PathBuf, CompareError> {
    let file = CompareError::File;
    args.check_labels().map_err(CompareError::Usage)?;
    let logs = args.out.join("logs");
    std::fs::create_dir_all(&logs).map_err(|e| file(format!("{}: {e}", logs.display())))?;
    let out = absolute(&args.out).map_err(file)?;
    let session = Session::new(args, runtime, out.join("logs")).map_err(CompareError::Usage)?;
    let mut comparison = Comparison::new(session, out)?;
    comparison.check_peers().map_err(CompareError::Usage)?;
    comparison.describe()?;
    comparison.tune();
    comparison.write()?;
    for round in 0..args.rounds.max(args.curve_rounds) {
        comparison.round(round);
        comparison.facts.rounds_done = (round + 1).min(args.rounds);
        comparison.write()?;
    }
    comparison.write()
}

impl<'a> Comparison<'a> {
    fn new(session: Session<'a>, out: PathBuf) -> Result<Self, CompareError> {
        let args = session.args;
        let models = args
            .models
            .iter()
            .map(|model| Ok(ModelFile { path: absolute(&model.path)?, label: model.label.clone() }))
            .collect::<Result<Vec<_>, String>>()
            .map_err(|e| CompareError::Usage(format!("--model {e}; name a GGUF file")))?;
        let rows = if args.only.is_empty() { Row::value_variants().to_vec() } else { args.only.clone() };
        let facts = Facts { rounds: args.rounds, threads: args.threads, ..Facts::default() };
        let mut comparison = Self {
            session,
            models,
            rows,
            lines: Vec::new(),
            curves: BTreeMap::new(),
            tunings: BTreeMap::new(),
            failed: BTreeMap::new(),
            facts,
            out,
        };
        let lines = comparison.work().into_iter().flat_map(|(row, model)| {
            row.metrics(&model.label).into_iter().map(move |metric| Line::new(row, &model.label, metric))
        });
        comparison.lines = lines.collect();
        Ok(comparison)
    }

    /// Rows with the model they are measured on.
    fn work(&self) -> Vec<(Row, ModelFile)> {
        let models = |row: Row| if row.for_every_model() { self.models.len() } else { 1 };
        self.models
            .iter()
            .enumerate()
            .flat_map(|(index, model)| {
                let rows = self.rows.iter().filter(move |row| index < models(**row));
                rows.map(|row| (*row, model.clone())).collect::<Vec<_>>()
            })
            .collect()
    }

    fn sides(&self, row: Row) -> Vec<Side> {
        let ik = self.session.args.ik_bin.is_some() && !row.is_served() && !row.is_curve();
        [Side::Tokenworks, Side::LlamaCpp].into_iter().chain(ik.then_some(Side::IkLlamaCpp)).collect()
    }

    /// The programs of each peer that the rows need, with those rows.
    fn peer_tools(&self) -> BTreeMap<(Side, &'static str), Vec<Row>> {
        let mut tools: BTreeMap<_, Vec<Row>> = BTreeMap::new();
        for row in &self.rows {
            for side in self.sides(*row).into_iter().filter(|side| *side != Side::Tokenworks) {
                tools.entry((side, row.peer_tool())).or_default().push(*row);
            }
        }
        tools
    }

    /// Without one of its programs a peer's rows would stay empty, after hours of measuring the others.
    fn check_peers(&self) -> Result<(), String> {
        for ((side, tool), rows) in self.peer_tools() {
            if let Err(error) = self.session.peer(side, tool) {
                let rows = rows.iter().map(|row| row.name()).collect::<Vec<_>>().join(", ");
                return Err(format!(
                    "{error}, and these rows need it: {rows}; correct the folder, build {tool} there, or name other rows with --only"
                ));
            }
        }
        Ok(())
    }

    /// Machine, versions, files; fails when our own program does.
    fn describe(&mut self) -> Result<(), CompareError> {
        self.facts.machine = machine::describe();
        self.facts.machine.push(format!("load average at the start: {}", machine::load()));
        for (index, model) in self.models.iter().enumerate() {
            let bytes = machine::size(&model.path);
            let name = model.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.facts.models.push(format!("{}: {name}, {bytes} bytes", model.label));
            let report = self.session.probe(&model.path).map_err(CompareError::Tokenworks)?;
            if index == 0 {
                self.facts.machine.push(limits(&report["machine"]));
            }
        }
        self.facts.versions.push(self.session.our_version().unwrap_or_else(|error| error));
        for (side, tool) in self.peer_tools().into_keys() {
            self.facts.versions.push(format!("{}: {}", side.name(), self.session.peer_version(side, tool)));
        }
        Ok(())
    }

    /// The first pass: best settings of each peer for each row.
    fn tune(&mut self) {
        for (row, model) in self.work() {
            for side in self.sides(row).into_iter().filter(|side| *side != Side::Tokenworks) {
                let (as_row, key) = (row.tuned_as(), (row.tuned_as(), model.label.clone(), side));
                if self.tunings.contains_key(&key) {
                    continue;
                }
                let found = match self.session.args.fixed_peer {
                    Some(fixed) => Ok(fixed),
                    None => self.best(as_row, side, &model),
                };
                match &found {
                    Ok(tuning) => {
                        self.facts.tunings.push(format!("{as_row:?}, {}, {}: {tuning}", model.label, side.name()));
                    }
                    Err(error) => progress(&format!("{as_row:?}, {}, {}: {error}", model.label, side.name())),
                }
                self.tunings.insert(key, found);
            }
        }
    }

    fn best(&self, row: Row, side: Side, model: &ModelFile) -> Result<Tuning, String> {
        let more_is_better = row.metrics(&model.label).first().is_none_or(|metric| metric.unit.more_is_better());
        tuning::best_of(&Tuning::candidates(row, side), more_is_better, |tuning| {
            let sample = self.session.sample(&Case { row, side, model, tuning, seed: 0, repetitions: 1 })?;
            let first = sample.values.first().copied().ok_or_else(|| "no figure".to_owned())?;
            progress(&format!("tuning {row:?}, {}, {}: {tuning}: {first:.1}", model.label, side.name()));
            Ok(first)
        })
    }

    /// Every row once on each side; who begins changes from round to round.
    fn round(&mut self, round: u32) {
        let args = self.session.args;
        for (row, model) in self.work() {
            if round >= if row.is_curve() { args.curve_rounds } else { args.rounds } {
                continue;
            }
            let mut sides = self.sides(row);
            let first = round as usize % sides.len();
            sides.rotate_left(first);
            for side in sides {
                self.measure(row, &model, side, round);
            }
        }
    }

    fn measure(&mut self, row: Row, model: &ModelFile, side: Side, round: u32) {
        let name = || format!("round {}: {row:?}, {}, {}", round + 1, model.label, side.name());
        let key = (row, model.label.clone(), side);
        let tuning = self.tunings.get(&(row.tuned_as(), model.label.clone(), side)).cloned();
        let tuning = match tuning.unwrap_or(Ok(Tuning::DEFAULT)) {
            Ok(tuning) => tuning,
            Err(error) => return self.fail(row, &model.label, side, &error),
        };
        if self.failed.get(&key).is_some_and(|failures| *failures >= FAILURES_MAX) {
            return;
        }
        let case = Case { row, side, model, tuning, seed: u64::from(round) + 1, repetitions: 3 };
        if row.is_curve() {
            progress(&name());
            self.curves.entry(row).or_default().measure(&self.session, &case);
            return;
        }
        match self.session.sample(&case) {
            Ok(sample) => {
                let shown: Vec<String> = sample.values.iter().map(|value| format!("{value:.1}")).collect();
                progress(&format!("{}: {}", name(), shown.join(", ")));
                let lines = self.lines.iter_mut().filter(|line| line.row == row && line.model == model.label);
                for (line, value) in lines.zip(sample.values) {
                    line.values[side.index()].push(value);
                    line.shares.extend(sample.share);
                }
            }
            Err(error) => {
                progress(&format!("{}: {error}", name()));
                *self.failed.entry(key).or_default() += 1;
                self.fail(row, &model.label, side, &error);
            }
        }
    }

    fn fail(&mut self, row: Row, label: &str, side: Side, error: &str) {
        if row.is_curve() {
            self.curves.entry(row).or_default().fail(side, error.to_owned());
        }
        for line in self.lines.iter_mut().filter(|line| line.row == row && line.model == label) {
            line.failures[side.index()] = Some(error.to_owned());
        }
    }

    /// Writes report, raw figures and plots; gives the report's path.
    fn write(&mut self) -> Result<PathBuf, CompareError> {
        self.facts.commands = self.session.commands.borrow().clone();
        self.facts.buffers = self.session.buffers.borrow().iter().cloned().collect();
        let mut facts = self.facts.clone();
        facts.machine.push(format!("load average at the end: {}", machine::load()));
        let label = self.models.first().map(|model| model.label.clone()).unwrap_or_default();
        let plots: Vec<Plot> =
            self.curves.iter().map(|(row, curve)| curve.plot(*row, &label, &self.sides(*row))).collect();
        for plot in &plots {
            if let Some(svg) = plot.svg() {
                save(&self.out.join(report::file_name(plot.row)), &svg)?;
            }
        }
        let raw = json!({
            "rounds": facts.rounds_done,
            "threads": facts.threads,
            "machine": facts.machine,
            "versions": facts.versions,
            "models": facts.models,
            "tunings": facts.tunings,
            "figures": self.lines.iter().map(Line::json).collect::<Vec<_>>(),
            "curves": plots,
        });
        save(&self.out.join("compare.json"), &format!("{raw:#}\n"))?;
        let with_ik = self.session.args.ik_bin.is_some();
        let path = self.out.join("compare.md");
        save(&path, &report::markdown(&facts, &self.lines, &plots, with_ik))?;
        Ok(path)
    }
}

/// The limits that `tokenworks bench` measured.
fn limits(machine: &Value) -> String {
    let giga = |key: &str| machine[key].as_f64().unwrap_or(0.0) / 1e9;
    format!(
        "limits, by `tokenworks bench`: memory read at {:.1} GB/s, {} at {:.0} Gop/s",
        giga("memory_bytes_per_second"),
        machine["instruction_set"].as_str().unwrap_or("?"),
        giga("integer_operations_per_second")
    )
}

fn save(path: &Path, text: &str) -> Result<(), CompareError> {
    std::fs::write(path, text).map_err(|e| CompareError::File(format!("{}: {e}", path.display())))
}

/// A run takes long: each step is told on standard error.
fn progress(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    /// Why `compare` with these words, in a folder of its own with these programs of the peer, measures nothing.
    fn refusal(name: &str, programs: &[&str], words: &str) -> String {
        let folder = std::env::temp_dir().join(format!("bench-compare-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for file in programs.iter().chain(&["m.gguf"]) {
            std::fs::write(folder.join(file), "").unwrap();
        }
        let here = folder.to_string_lossy();
        let line =
            format!("tokenworks-bench compare --out {here}/out --model {here}/m.gguf {words}").replace("HERE", &here);
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Compare(args) = cli.command else { panic!("another command") };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = run(&args, &runtime).unwrap_err().to_string();
        let logs = std::fs::read_dir(folder.join("out/logs")).unwrap().count();
        std::fs::remove_dir_all(&folder).unwrap();
        format!("{} ({logs} logs)", error.replace(&*here, "HERE"))
    }

    #[test]
    fn what_is_missing_is_told_before_anything_is_measured() {
        let rows = "--only prefill,decode8,decode16";
        let error = refusal("folder", &[], &format!("--tokenworks /bin/sh --llama-bin HERE/none {rows}"));
        assert!(
            error.starts_with("--llama-bin HERE/none: there is no such folder, ") && error.ends_with("(0 logs)"),
            "{error}"
        );
        let error = refusal("program", &["llama-bench"], &format!("--tokenworks /bin/sh --llama-bin HERE {rows}"));
        let expected =
            "--llama-bin HERE: llama-batched-bench is not there, and these rows need it: decode8, decode16; ";
        assert!(error.starts_with(expected) && error.contains("--only") && error.ends_with("(0 logs)"), "{error}");
        let both = "--tokenworks /bin/sh --llama-bin HERE --ik-bin HERE/none --only prefill";
        let error = refusal("ik", &["llama-bench"], both);
        assert!(error.starts_with("--ik-bin HERE/none: there is no such folder"), "{error}");
        let error = refusal("own", &["llama-bench"], "--tokenworks HERE/none --llama-bin HERE --only prefill");
        assert!(error.starts_with("--tokenworks HERE/none: No such file") && error.contains("cargo build"), "{error}");
    }

    #[test]
    fn a_program_without_a_result_is_named() {
        let error = refusal("mute", &["llama-bench"], "--tokenworks /bin/true --llama-bin HERE --only prefill");
        assert!(error.contains("true bench printed no result; ") && error.contains("--tokenworks FILE"), "{error}");
    }
}
