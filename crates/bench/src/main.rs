//! `tokenworks-bench`: parses the command line and runs one benchmark.

use std::io::Write as _;
use std::process::ExitCode;

use analysis::simulation;
use bench::args::{Cli, Command, StatisticsArgs};
use clap::Parser as _;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let args = match cli.command {
        Command::ServeLoad(args) => args,
        Command::Compare(args) => {
            return match bench::compare::run(&args, &runtime) {
                Ok(report) if writeln!(std::io::stdout().lock(), "{}", report.display()).is_ok() => ExitCode::SUCCESS,
                Ok(_) => ExitCode::from(2),
                Err(error) => fail(&error.to_string()),
            };
        }
        Command::Speculation(args) => {
            return match bench::speculation::run(&args, &runtime) {
                Ok(report) => {
                    let text = if args.json { report.to_json() } else { report.to_text() };
                    if writeln!(std::io::stdout().lock(), "{text}").is_err() {
                        return ExitCode::from(2);
                    }
                    if report.answers_differ() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
                }
                Err(error) => fail(&error.to_string()),
            };
        }
        Command::Statistics(args) => return statistics(args),
    };
    let json = args.json;
    match runtime.block_on(bench::load::run(*args)) {
        Ok(report) => {
            let text = if json { report.to_json() } else { report.to_text() };
            if writeln!(std::io::stdout().lock(), "{text}").is_err() {
                return ExitCode::from(2);
            }
            if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => fail(&error.to_string()),
    }
}

/// Prints each table as soon as it is there.
fn statistics(args: StatisticsArgs) -> ExitCode {
    for table in [simulation::coverage_table, simulation::false_alarms_table] {
        match table(args.sets, args.seed) {
            Ok(text) if writeln!(std::io::stdout().lock(), "{text}").is_ok() => {}
            Ok(_) => return ExitCode::from(2),
            Err(error) => return fail(&error.to_string()),
        }
    }
    ExitCode::SUCCESS
}

/// Says why nothing was measured; 2 tells this apart from a violation found by a finished run (1).
fn fail(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "error: {message}");
    ExitCode::from(2)
}
