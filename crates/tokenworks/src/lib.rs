//! The program `tokenworks`: command line, configuration, model catalogue, and the wiring of the production line.
//!
//! Only this crate reads the environment and the command line.
#![forbid(unsafe_code)]

pub mod adapter;
pub mod assembly;
pub mod books;
pub mod calibration;
pub mod catalogue;
pub mod cli;
pub mod commands;
pub mod config;
pub mod desk;
pub mod draft_model;
pub mod environment;
pub mod error;
pub mod fleet;
pub mod logs;
pub mod memory;
pub mod output;
pub mod plant;
mod progress;
pub mod renderer;
pub mod secret_file;
pub mod webhook;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, Command};
use commands::Context;
use environment::Environment;
use error::{Error, Result};
use output::Output;

/// Runs the program and gives its exit code: 0 done, 1 failed, 2 wrong command line or configuration.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version come this way too, with code 0.
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    let output = Output::new(environment::no_colour());
    match run(&cli, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: &Cli, output: Output) -> Result<()> {
    // These need nothing of the configuration, which may be broken.
    match &cli.command {
        Command::Completions(args) => return completions(args, output),
        Command::TemplateWorker => return template_worker(),
        _ => {}
    }
    let environment = Environment::read()?;
    if let Command::Config(cli::Config::Check(args)) = &cli.command {
        let file = args.file.clone().or_else(|| cli.global.config.clone());
        let args = cli::Check { file, ..*args };
        return commands::config::check(environment, output, &args, &cli.settings());
    }
    let loaded = config::load(cli.global.config.as_deref(), &environment, &cli.settings())?;
    let serving = matches!(cli.command, Command::Serve(_));
    let level_origin = loaded.layers.entries.get("log.level").map(|e| &e.origin);
    let _logs = logs::start(&loaded.settings.log, level_origin, serving, output.colour_stderr())?;
    let context = Context { environment, settings: loaded.settings.clone(), output, watch: None };
    match &cli.command {
        Command::Pull(args) => commands::pull::pull(&context, args),
        Command::Models(args) => commands::pull::models(&context, args),
        Command::Config(cli::Config::Show { json }) => commands::config::show(&context, &loaded, *json),
        Command::Customers(command) => commands::customers::run(&context, command),
        Command::Keys(command) => commands::keys::run(&context, command),
        Command::Plans(command) => commands::plans::run(&context, command),
        Command::Prices(command) => commands::prices::run(&context, command),
        Command::Plan(args) => commands::plan::run(&context, args),
        Command::Report(args) => commands::report::run(&context, args),
        Command::Plant(command) => commands::plant::run(&context, command),
        Command::Tfp(args) => commands::tfp::run(&context, args),
        Command::Experiments(command) => commands::experiments::run(&context, command),
        Command::Ledger(command) => commands::ledger::run(&context, command),
        Command::Serve(args) => commands::serve::serve(&context, args),
        Command::Run(args) => commands::run::run(&context, args),
        Command::Chat(args) => commands::chat::chat(&context, args),
        Command::Tokenize(args) => commands::tokenize::tokenize(&context, args),
        Command::Calibrate(args) => commands::calibrate::calibrate(&context, args),
        Command::Bench(args) => commands::bench::bench(&context, args),
        Command::Quantize(args) => commands::quantize::run(&context, args),
        Command::Eval(cli::Eval::Divergence(args)) => commands::divergence::run(&context, args),
        Command::Eval(cli::Eval::Perplexity(args)) => commands::perplexity::run(&context, args),
        // Done above.
        Command::Completions(_) | Command::TemplateWorker | Command::Config(cli::Config::Check(_)) => Ok(()),
    }
}

fn template_worker() -> Result<()> {
    let worked = renderer::work(io::stdin().lock(), io::stdout().lock());
    worked.map_err(|e| Error::failure("cannot render chat templates").because(e))
}

fn completions(args: &cli::Completions, output: Output) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tokenworks", &mut script);
    output.text(String::from_utf8_lossy(&script))
}
