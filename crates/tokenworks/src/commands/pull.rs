//! `pull` and `models`: what there is, what is here, what is in memory, and fetching the rest.

use std::io::{IsTerminal, Write};

use serde::Serialize;
use serde_json::{Value, json};

use super::Context;
use crate::assembly;
use crate::catalogue::{self, BUILTINS, Builtin, ModelRef, Source};
use crate::cli::{self, AdapterAct, ModelAct, NamedModel};
use crate::desk::{Books, part};
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
    /// What the running server says of it; absent where it is not offered there, or no server runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    served: Option<Value>,
}

/// Runs `models`.
///
/// # Errors
/// Standard output cannot be written, or the server refuses the command.
pub fn models(context: &Context, args: &cli::Models) -> Result<()> {
    match &args.act {
        None => list(context, args.json),
        Some(ModelAct::Load(model)) => act(context, model, ("POST", "load", Value::Null)),
        Some(ModelAct::Unload(model)) => act(context, model, ("POST", "unload", Value::Null)),
        Some(ModelAct::Pin(model)) => act(context, model, ("PUT", "pin", json!({"pinned": true}))),
        Some(ModelAct::Unpin(model)) => act(context, model, ("PUT", "pin", json!({"pinned": false}))),
        Some(ModelAct::Adapter(act)) => adapter(context, act),
    }
}

/// Gives the running server a command on a model, and shows what it says of the model then.
fn act(context: &Context, model: &NamedModel, (method, command, body): (&str, &str, Value)) -> Result<()> {
    let server = running(context)?;
    let shown = server.send(method, &format!("/models/{}/{command}", part(&model.name)), &body)?;
    if model.json {
        return context.output.json(&shown);
    }
    let name = shown["name"].as_str().unwrap_or(&model.name);
    context.output.line(format_args!("{name}: {}", state(&shown)))
}

/// The server that runs in the data folder.
fn running(context: &Context) -> Result<Books> {
    Books::served(context)?.ok_or_else(|| {
        Error::failure("no server runs here")
            .because("its models are in its memory only")
            .hint("start one: tokenworks serve; or name the data folder of the one that runs: --data-dir DIR")
    })
}

/// Carries out a command on the adapters of a model, and shows those that it has then.
fn adapter(context: &Context, act: &AdapterAct) -> Result<()> {
    let server = running(context)?;
    let route = |model: &str| format!("/models/{}/adapters", part(model));
    let (mut shown, as_json, list) = match act {
        AdapterAct::List(model) => (server.get(&route(&model.name))?, model.json, "data"),
        AdapterAct::Load(load) => {
            let named = &load.named;
            // The server may stand in another folder.
            let path = load.path.canonicalize().map_err(|e| {
                let what = format!("cannot find the adapter {}", load.path.display());
                Error::usage(what).because(e).hint("name a folder of PEFT or a GGUF file")
            })?;
            let body = json!({"name": named.adapter, "path": path});
            (server.send("POST", &route(&named.model), &body)?, named.json, "adapters")
        }
        AdapterAct::Unload(named) => {
            let route = format!("{}/{}", route(&named.model), part(&named.adapter));
            (server.send("DELETE", &route, &Value::Null)?, named.json, "adapters")
        }
    };
    let adapters = shown[list].take();
    if as_json {
        return context.output.json(&adapters);
    }
    let adapters = adapters.as_array().map(Vec::as_slice).unwrap_or_default();
    if adapters.is_empty() {
        context.output.note("no adapters");
        return Ok(());
    }
    let line = |adapter: &Value| format!("{}: {}", adapter["name"].as_str().unwrap_or_default(), state(adapter));
    adapters.iter().try_for_each(|adapter| context.output.line(line(adapter)))
}

/// A model's state and what it takes, for a person.
fn state(shown: &Value) -> String {
    let mut text = shown["state"].as_str().unwrap_or("unknown").to_owned();
    if let Some(here) = shown["fetching"]["bytes"].as_u64() {
        let total =
            shown["fetching"]["total"].as_u64().map_or_else(String::new, |total| format!(" of {}", bytes(total)));
        text.push_str(&format!(", {}{total} fetched", bytes(here)));
    }
    let number = |key: &str| shown[key].as_u64().unwrap_or(0);
    let taken = number("weight_bytes").saturating_add(number("kv_bytes"));
    if taken > 0 {
        text.push_str(&format!(", {}", bytes(taken)));
    }
    if shown["pinned"] == true {
        text.push_str(", pinned");
    }
    if let Some(seconds) = shown["idle_seconds"].as_u64() {
        text.push_str(&format!(", idle {seconds} s"));
    }
    if let Some(reason) = shown["reason"].as_str() {
        text.push_str(&format!(": {reason}"));
    }
    text
}

/// What a running server offers.
struct Served {
    models: Vec<Value>,
    /// Bytes taken and the limit, where there is one.
    memory: (u64, Option<u64>),
}

/// What the server that runs in the data folder offers; `None`: none does.
fn served(context: &Context) -> Result<Option<Served>> {
    let Some(server) = Books::served(context)? else { return Ok(None) };
    let mut answer = server.get("/models")?;
    let memory = (answer["memory"]["taken"].as_u64().unwrap_or(0), answer["memory"]["limit"].as_u64());
    let models = match answer["data"].take() {
        Value::Array(models) => models,
        _ => Vec::new(),
    };
    Ok(Some(Served { models, memory }))
}

/// Lists the models.
fn list(context: &Context, as_json: bool) -> Result<()> {
    let mut rows: Vec<Row> = BUILTINS.iter().map(|b| builtin_row(context, b)).collect();
    for name in context.settings.models.keys() {
        if BUILTINS.iter().any(|b| b.name == name) {
            continue;
        }
        rows.push(configured_row(context, name));
    }
    let served = served(context)?;
    for model in served.iter().flat_map(|served| &served.models) {
        let name = model["name"].as_str().unwrap_or_default();
        match rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.served = Some(model.clone()),
            // Named by its path on the server's command line.
            None => rows.push(Row {
                name: name.to_owned(),
                source: "server".to_owned(),
                about: "of the running server".to_owned(),
                license: None,
                bytes: None,
                path: None,
                served: Some(model.clone()),
            }),
        }
    }
    if as_json {
        return context.output.json(&rows);
    }
    let mut cells = vec![["NAME", "SIZE", "HERE", "SERVER", "ABOUT"].map(str::to_owned).to_vec()];
    for row in &rows {
        let here = if row.path.is_some() { "yes" } else { "no" };
        let size = row.bytes.map_or_else(|| "?".to_owned(), bytes);
        let on_server = row.served.as_ref().map_or_else(|| "-".to_owned(), state);
        cells.push(vec![row.name.clone(), size, here.to_owned(), on_server, row.about.clone()]);
    }
    if served.is_none() {
        cells.iter_mut().for_each(|row| drop(row.remove(3)));
    }
    context.output.text(table(&cells))?;
    if let Some(Served { memory: (taken, limit), .. }) = served {
        let limit = limit.map_or_else(String::new, |limit| format!(" of {}", bytes(limit)));
        context.output.note(format_args!("\nmemory of the server's models: {}{limit}", bytes(taken)));
    }
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
        served: None,
    }
}

fn configured_row(context: &Context, name: &str) -> Row {
    let model = match ModelRef::parse(name, &context.settings) {
        Ok(model) => model,
        // The list stays of use; `config check` says more.
        Err(e) => {
            let about = format!("cannot be used: {}", e.what);
            let source = context.settings.models.get(name).and_then(|own| own.source.clone()).unwrap_or_default();
            return Row { name: name.to_owned(), source, about, license: None, bytes: None, path: None, served: None };
        }
    };
    let (source, about) = match &model.source {
        Source::Builtin(builtin) => (builtin.name.to_owned(), builtin.about.to_owned()),
        Source::Hub { repo, file } => (format!("hf:{repo}/{file}"), format!("from the configuration: {repo}")),
        Source::Path(path) => (path.to_string_lossy().into_owned(), "from the configuration".to_owned()),
    };
    let path = here(context, &model.source);
    let bytes = path.as_ref().and_then(|p| catalogue::size(p.as_ref()));
    Row { name: model.name, source, about, license: None, bytes, path, served: None }
}

fn here(context: &Context, source: &Source) -> Option<String> {
    context.catalogue().find(source).map(|p| p.to_string_lossy().into_owned())
}
