//! `config check` and `config show`.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::Context;
use crate::catalogue::ModelRef;
use crate::config::{Checked, KEYS, Loaded, TemplateSource, variable};
use crate::error::{Error, Result};
use crate::output::table;

/// Runs `config check`: the layers are good already; this looks at the files they name.
///
/// # Errors
/// A file that cannot be read, a template that is none, a model name that is none.
pub fn check(context: &Context, loaded: &Loaded) -> Result<()> {
    let settings = &context.settings;
    ModelRef::parse(&settings.model, settings)?;
    for (name, model) in &settings.models {
        ModelRef::parse(name, settings).map_err(|e| Error { what: format!("models.{name}: {}", e.what), ..e })?;
        if let Some(TemplateSource::File(path)) = &model.chat_template {
            readable(&format!("models.{name}.chat_template_file"), path)?;
        }
        if let Some(source) = &model.chat_template {
            crate::assembly::compile_template(name, source)?;
        }
    }
    if let Some((certificate, key)) = &settings.server.tls {
        readable("server.tls_certificate", certificate)?;
        readable("server.tls_key", key)?;
    }
    super::serve::check_settings(context)?;
    match &loaded.file {
        Some(file) => context.output.line(format_args!("{}: good", file.display())),
        None => context.output.line("no configuration file; the defaults, the environment and the flags are good"),
    }
}

fn readable(key: &str, path: &Path) -> Result<()> {
    std::fs::File::open(path).map(|_| ()).map_err(|e| {
        Error::usage(format!("{key}: cannot read {}", path.display())).because(e).hint(format!("correct {key}"))
    })
}

/// A row of `config show --json`.
#[derive(Serialize)]
struct Row {
    key: &'static str,
    value: Value,
    origin: String,
    variable: String,
    meaning: &'static str,
}

/// Runs `config show`.
///
/// # Errors
/// Standard output cannot be written.
pub fn show(context: &Context, loaded: &Loaded, json: bool) -> Result<()> {
    let rows: Vec<Row> = KEYS
        .iter()
        .map(|key| {
            let entry = loaded.layers.entries.get(key.name);
            Row {
                key: key.name,
                value: entry.map_or(Value::Null, |e| shown(&e.value)),
                origin: entry.map_or_else(|| "default".to_owned(), |e| e.origin.to_string()),
                variable: variable(key.name),
                meaning: key.meaning,
            }
        })
        .collect();
    if json {
        return context.output.json(&rows);
    }
    let mut cells = vec![["KEY", "VALUE", "SET BY", "MEANING"].map(str::to_owned).to_vec()];
    for row in rows {
        let value = if row.value.is_null() { "-".to_owned() } else { row.value.to_string() };
        cells.push(vec![row.key.to_owned(), value, row.origin, row.meaning.to_owned()]);
    }
    context.output.text(table(&cells))
}

fn shown(value: &Checked) -> Value {
    match value {
        Checked::Text(text) => Value::from(text.as_str()),
        Checked::Path(path) => Value::from(path.to_string_lossy()),
        Checked::Whole(n) => Value::from(*n),
        Checked::Seconds(s) => Value::from(*s),
        Checked::Size(n) => Value::from(*n),
        Checked::List(items) => Value::from(items.clone()),
    }
}
