//! `tokenworks-bench speculation`: the same questions with guesses and without, in turn.
//!
//! Two servers of the same program run the same file, one with `engine.speculation = "auto"`, one with `"off"`. Each
//! question goes to both, one right after the other, and the side that begins changes; so a machine whose speed drifts
//! changes both. Answers must be the same, sampled ones too. `figures` says what follows.

pub mod args;
mod figures;
mod prompts;
mod server;

use std::io::Write as _;
use std::path::PathBuf;

use tokio::runtime::Runtime;

use self::args::SpeculationArgs;
use self::figures::{Pair, Row};
use self::prompts::Kind;
use self::server::Server;
use crate::machine;

pub use self::figures::Report;

/// Questions of each kind that both servers answer before anything counts: what columns cost is learned by then.
const WARM_UP: u32 = 2;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum SpeculationError {
    /// A file or folder cannot be used.
    #[error("{0}")]
    File(String),
    /// A server does not do what it should.
    #[error("server with speculation {0}: {1}")]
    Server(&'static str, String),
}

/// Runs the measurement.
///
/// # Errors
/// When a file cannot be used or a server fails.
pub fn run(args: &SpeculationArgs, runtime: &Runtime) -> Result<Report, SpeculationError> {
    let file = SpeculationError::File;
    let absolute = |path: &PathBuf| path.canonicalize().map_err(|e| file(format!("{}: {e}", path.display())));
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("tokenworks"));
    let program = args.tokenworks.clone().or_else(beside).ok_or_else(|| file("give --tokenworks".to_owned()))?;
    let (program, model) = (absolute(&program)?, absolute(&args.model)?);
    let temporary = || std::env::temp_dir().join(format!("tokenworks-speculation-{}", std::process::id()));
    let logs = args.logs.clone().unwrap_or_else(temporary);
    std::fs::create_dir_all(&logs).map_err(|e| file(format!("{}: {e}", logs.display())))?;
    let logs = absolute(&logs)?;
    let result = runtime.block_on(async {
        let version = server::version(&program, &logs, args.timeout()).map_err(file)?;
        let mut without = Server::start("off", &program, &model, &logs, args).await?;
        let mut with = Server::start("auto", &program, &model, &logs, args).await?;
        let mut machine = machine::describe();
        machine.push(format!("load average at the start: {}", machine::load()));
        let mut rows = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| args.only.is_empty() || args.only.contains(kind)) {
            rows.push(row(kind, args, &mut without, &mut with).await?);
        }
        machine.push(format!("load average at the end: {}", machine::load()));
        let model = model.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Report { model, version, machine, rows })
    });
    if args.logs.is_none() && result.is_ok() {
        let _ = std::fs::remove_dir_all(&logs);
    }
    result
}

/// All pairs of one kind.
async fn row(
    kind: Kind,
    args: &SpeculationArgs,
    without: &mut Server,
    with: &mut Server,
) -> Result<Row, SpeculationError> {
    // Other questions than those that count: nothing of these is in a prefix cache.
    for index in args.pairs..args.pairs + WARM_UP {
        for server in [&mut *without, &mut *with] {
            server.ask(kind, index).await?;
        }
    }
    let before = with.columns().await?;
    let mut pairs = Vec::new();
    for index in 0..args.pairs {
        let (first, second) = if index % 2 == 0 { (&mut *without, &mut *with) } else { (&mut *with, &mut *without) };
        let answers = (first.ask(kind, index).await?, second.ask(kind, index).await?);
        let (without, with) = if index % 2 == 0 { answers } else { (answers.1, answers.0) };
        let pair = Pair { index, without, with };
        let _ = writeln!(std::io::stderr(), "{} {} of {}: {:.2}", kind.name(), index + 1, args.pairs, pair.ratio());
        pairs.push(pair);
    }
    let columns = with.columns().await?.since(before);
    let guessed = without.columns().await?;
    if guessed.accepted + guessed.rejected > 0.0 {
        return Err(SpeculationError::Server("off", "it guessed all the same".to_owned()));
    }
    Ok(Row::new(kind, pairs, columns))
}
