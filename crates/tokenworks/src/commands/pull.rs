//! `pull` and `models`: what there is, what is here, and fetching the rest.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::Context;
use crate::assembly;
use crate::catalogue::{self, BUILTINS, Builtin, ModelRef, Source};
use crate::cli;
use crate::error::{Error, Result};
use crate::output::{bytes, table};

/// A fetched model, as `pull --json` prints it.
#[derive(Serialize)]
struct Pulled {
    name: String,
    path: String,
    bytes: u64,
}

/// Runs `pull`.
///
/// # Errors
/// See [`Catalogue::obtain`](crate::catalogue::Catalogue::obtain); what was fetched is no model file.
pub fn pull(context: &Context, args: &cli::Pull) -> Result<()> {
    let model = context.model(args.model.as_deref())?;
    // Opened like for any use: what is no model, or is damaged in its header, is not told to be fine.
    let gguf = assembly::open(context, &model, &|builtin| consent(context, builtin, args.accept_license))?;
    let (path, size) = (gguf.path(), gguf.file_len());
    if args.json {
        let path = path.to_string_lossy().into_owned();
        return context.output.json(&Pulled { name: model.name, path, bytes: size });
    }
    context.output.line(format_args!("{}  {}  {}", model.name, bytes(size), path.display()))
}

/// Whether the terms are accepted: by flag, or asked for on a terminal.
///
/// # Errors
/// The terminal cannot be read.
pub fn consent(context: &Context, builtin: &Builtin, accepted: bool) -> Result<bool> {
    if accepted {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    context.output.note(format_args!(
        "{} is offered under the {}:\n  {}",
        builtin.name, builtin.license.name, builtin.license.url
    ));
    let mut terminal = std::io::stderr().lock();
    let asked = terminal.write_all(b"Do you accept them? [y/N] ").and_then(|()| terminal.flush());
    let mut answer = String::new();
    asked
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(|e| Error::failure("cannot ask on this terminal").because(e).hint("use --accept-license"))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// A row of `models --json`.
#[derive(Serialize)]
struct Row {
    name: String,
    source: String,
    about: String,
    license: Option<String>,
    bytes: Option<u64>,
    path: Option<String>,
}

/// Runs `models`.
///
/// # Errors
/// Standard output cannot be written.
pub fn models(context: &Context, args: &cli::Models) -> Result<()> {
    let mut rows: Vec<Row> = BUILTINS.iter().map(|b| builtin_row(context, b)).collect();
    for name in context.settings.models.keys() {
        if BUILTINS.iter().any(|b| b.name == name) {
            continue;
        }
        rows.push(configured_row(context, name));
    }
    if args.json {
        return context.output.json(&rows);
    }
    let mut cells = vec![["NAME", "SIZE", "HERE", "ABOUT"].map(str::to_owned).to_vec()];
    for row in &rows {
        let here = if row.path.is_some() { "yes" } else { "no" };
        let size = row.bytes.map_or_else(|| "?".to_owned(), bytes);
        cells.push(vec![row.name.clone(), size, here.to_owned(), row.about.clone()]);
    }
    context.output.text(table(&cells))?;
    context.output.note(format_args!(
        "\nfetched models: {}\ndefault model:  {}\nmore models:    tokenworks pull hf:owner/repo/file.gguf",
        context.catalogue().folder().display(),
        context.settings.model
    ));
    Ok(())
}

fn builtin_row(context: &Context, builtin: &'static Builtin) -> Row {
    Row {
        name: builtin.name.to_owned(),
        source: "builtin".to_owned(),
        about: builtin.about.to_owned(),
        license: Some(builtin.license.name.to_owned()),
        bytes: Some(builtin.bytes),
        path: here(context, &Source::Builtin(builtin)),
    }
}

fn configured_row(context: &Context, name: &str) -> Row {
    let model = match ModelRef::parse(name, &context.settings) {
        Ok(model) => model,
        // The list stays of use; `config check` says more.
        Err(e) => {
            let about = format!("cannot be used: {}", e.what);
            let source = context.settings.models.get(name).and_then(|own| own.source.clone()).unwrap_or_default();
            return Row { name: name.to_owned(), source, about, license: None, bytes: None, path: None };
        }
    };
    let (source, about) = match &model.source {
        Source::Builtin(builtin) => (builtin.name.to_owned(), builtin.about.to_owned()),
        Source::Hub { repo, file } => (format!("hf:{repo}/{file}"), format!("from the configuration: {repo}")),
        Source::Path(path) => (path.to_string_lossy().into_owned(), "from the configuration".to_owned()),
    };
    let path = here(context, &model.source);
    let bytes = path.as_ref().and_then(|p| catalogue::size(p.as_ref()));
    Row { name: model.name, source, about, license: None, bytes, path }
}

fn here(context: &Context, source: &Source) -> Option<String> {
    context.catalogue().find(source).map(|p| p.to_string_lossy().into_owned())
}
