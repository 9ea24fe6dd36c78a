//! `ledger`: verification, exports, backup, restore. All work on the store itself, whether a server has it in use or not.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use ::ledger::{Fault, Format, Report, StoreError, StoreSpec};
use economics::books::{CostFault, CostReport, verify_costs};
use economics::focus::{self, ExportError, Selection};
use economics::rollup::Rollup;
use economics::window::from_rfc3339;
use serde_json::json;

use super::Context;
use crate::books;
use crate::cli::books::{Export, ExportFormat, Ledger};
use crate::error::{Error, Result, chain};
use crate::output::grouped;

/// Runs `ledger`.
///
/// # Errors
/// What is wrong with the ledger, or why it cannot be read or written.
pub fn run(context: &Context, command: &Ledger) -> Result<()> {
    match command {
        Ledger::Verify { file, costs, json } => verify(context, file.as_deref(), (*costs, *json)),
        Ledger::Export(args) => export(context, args),
        Ledger::Backup { to } => backup(context, to),
        Ledger::Restore { from } => restore(context, from),
    }
}

fn verify(context: &Context, file: Option<&Path>, (costs, json): (bool, bool)) -> Result<()> {
    let spec = match file {
        Some(file) if file.is_file() => StoreSpec::Sqlite(file.to_owned()),
        Some(file) => return Err(Error::failure(format!("there is no file {}", file.display()))),
        None => books::existing(context)?,
    };
    let report = ::ledger::verify(&spec, Some(&Rollup)).map_err(|fault| faulty(&fault))?;
    let costs = if costs { Some(verify_costs(&spec).map_err(wrong_costs)?) } else { None };
    show(context, &report, costs.as_ref(), json)
}

fn wrong_costs(fault: CostFault) -> Error {
    match fault {
        CostFault::Store(error) => Error::failure("the ledger cannot be read").because(error),
        fault => Error::failure("the costs in the ledger do not add up")
            .because(fault)
            .hint("the ledger itself is right: what was posted is what was meant; tell its makers which entry it is"),
    }
}

fn faulty(fault: &Fault) -> Error {
    if let Fault::Store(StoreError::Newer { .. }) = fault {
        return Error::failure("the ledger cannot be read").because(fault);
    }
    if let Fault::Store(StoreError::Full(_) | StoreError::Failed(_)) = fault {
        return Error::failure("the ledger cannot be read")
            .because(fault)
            .hint("if the disk is full or failing, mend that first: the file may be right");
    }
    let hint = match fault {
        Fault::Store(StoreError::CutOff { .. }) => Some(books::CUT_OFF_HINT),
        Fault::Store(StoreError::Unmarked(_)) => Some(books::UNMARKED_HINT),
        _ => None,
    };
    if let Some(hint) = hint {
        return Error::failure("the ledger is not known to be whole").because(fault).hint(hint);
    }
    Error::failure("the ledger is not right").because(fault).hint(
        "keep the file as it is and look at who could write to it; a backup that verifies can be restored: tokenworks ledger restore FILE",
    )
}

fn show(context: &Context, report: &Report, costs: Option<&CostReport>, json: bool) -> Result<()> {
    let Report { entries, accounts, holds, documents, tallies, heads } = report;
    let hex = |hash: &[u8; 32]| crate::catalogue::hex(hash);
    if json {
        let heads: Vec<_> = heads.iter().map(|(writer, hash)| json!({"writer": writer, "hash": hex(hash)})).collect();
        return context.output.json(&json!({
            "entries": entries, "accounts": accounts, "holds": holds, "documents": documents, "tallies": tallies,
            "heads": heads, "costs": costs,
        }));
    }
    context.output.line(
        "The ledger is right: every hash follows from the entry before, every balance and roll-up is the sum of",
    )?;
    context.output.line("its entries, debits equal credits in every unit.")?;
    for (name, count) in [
        ("entries", entries),
        ("accounts", accounts),
        ("open holds", holds),
        ("documents", documents),
        ("roll-ups", tallies),
    ] {
        context.output.line(format_args!("  {name:<11} {}", grouped(*count)))?;
    }
    // Who keeps these can show later that nothing before was changed.
    heads
        .iter()
        .try_for_each(|(writer, hash)| context.output.line(format_args!("  head {writer:<6} {}", hex(hash))))?;
    costs.map_or(Ok(()), |costs| show_costs(context, costs))
}

/// Costs and energy, and that their parts are the whole.
fn show_costs(context: &Context, costs: &CostReport) -> Result<()> {
    let CostReport { intervals, requests, plant, idle, attributed, in_progress, .. } = costs;
    let counts = format!("{} intervals, {} requests", grouped(*intervals), grouped(*requests));
    context.output.line(format_args!("The costs are right ({counts}): attributed + in progress + idle = plant."))?;
    let joules = |uj: i64| format!("{}.{:06} J", uj / 1_000_000, uj.rem_euclid(1_000_000));
    for (name, money, uj) in [
        ("attributed", attributed, costs.attributed_uj),
        ("in progress", in_progress, costs.in_progress_uj),
        ("idle", idle, costs.idle_uj),
        ("plant", plant, costs.plant_uj),
    ] {
        let money = money.to_string();
        context.output.line(format_args!("  {name:<11} {money:>18} {:>24}", joules(uj)))?;
    }
    Ok(())
}

fn export(context: &Context, args: &Export) -> Result<()> {
    let spec = books::existing(context)?;
    let focus = args.format == ExportFormat::Focus;
    if !focus && (args.customer.is_some() || args.from.is_some() || args.to.is_some()) {
        return Err(Error::usage("--customer, --from and --to choose charges, which only --format focus has")
            .hint("leave them out, or add --format focus"));
    }
    let time = |text: &Option<String>| text.as_deref().map(from_rfc3339).transpose();
    let wrong = |e| Error::usage("not a time").because(e).hint("for example 2026-10-01T00:00:00Z");
    let (from_ms, to_ms) = (time(&args.from).map_err(wrong)?, time(&args.to).map_err(wrong)?);
    let seller = context.settings.books.seller.as_str();
    let selection = Selection { seller, organisation: args.customer.as_deref(), from_ms, to_ms };
    let write = |out: &mut dyn Write| -> Result<u64> {
        match args.format {
            ExportFormat::Csv => ::ledger::export(&spec, Format::Csv, out).map_err(|e| unwritten(&e)),
            ExportFormat::Jsonl => ::ledger::export(&spec, Format::JsonLines, out).map_err(|e| unwritten(&e)),
            ExportFormat::Focus => focus::export(&spec, &selection, out).map_err(|e| match e {
                ExportError::Invalid(error) => Error::usage("this cannot be exported").because(error),
                ExportError::Store(error) => unwritten(&error),
            }),
        }
    };
    let Some(path) = &args.output else {
        write(&mut BufWriter::new(io::stdout().lock()))?;
        return Ok(());
    };
    let file = File::create_new(path)
        .map_err(|e| Error::failure(format!("cannot make {}", path.display())).because(e).hint("name a new file"))?;
    let count = write(&mut BufWriter::new(file)).inspect_err(|error| {
        // What can be read of a damaged ledger is kept, to be looked at.
        if error.what != DAMAGED {
            drop(std::fs::remove_file(path));
        }
    })?;
    let what = if focus { "rows" } else { "entries" };
    context.output.line(format_args!("{} {what} written to {}", grouped(count), path.display()))
}

const DAMAGED: &str = "the ledger is damaged: what was exported is evidence, not the books";

fn unwritten(error: &StoreError) -> Error {
    let what = if matches!(error, StoreError::Damaged(_)) { DAMAGED } else { "the export broke off" };
    Error::failure(what).because(chain(error)).hint("`tokenworks ledger verify` says what is wrong")
}

fn backup(context: &Context, to: &Path) -> Result<()> {
    let spec = books::existing(context)?;
    ::ledger::backup(&spec, to).map_err(|e| Error::failure("there is no backup").because(e))?;
    let report = ::ledger::verify(&StoreSpec::Sqlite(to.to_owned()), Some(&Rollup)).map_err(|fault| faulty(&fault))?;
    context.output.line(format_args!("{} entries copied to {} and verified", grouped(report.entries), to.display()))
}

fn restore(context: &Context, from: &Path) -> Result<()> {
    let StoreSpec::Sqlite(to) = books::store(context)? else {
        return Err(Error::usage("a ledger in PostgreSQL is restored with the database's own tools (pg_restore)"));
    };
    crate::secret_file::make_folder(&context.settings.data_dir)
        .map_err(|e| Error::failure("cannot make the data folder").because(e))?;
    let report = ::ledger::restore(from, &to, Some(&Rollup)).map_err(|fault| match &fault {
        Fault::Store(StoreError::Failed(_) | StoreError::Newer { .. }) => {
            Error::failure("the backup is not restored").because(&fault)
        }
        _ => faulty(&fault),
    })?;
    context.output.line(format_args!("{} entries restored to {}", grouped(report.entries), to.display()))?;
    let secret = &context.settings.server.key_secret_file;
    if !secret.exists() {
        context.output.note(format_args!(
            "Copy the secret of these books to {} too: without it no key of theirs is right.",
            secret.display()
        ));
    }
    Ok(())
}
