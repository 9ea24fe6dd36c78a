//! `config check` and `config show`.

use std::collections::BTreeSet;

use formats::gguf::Gguf;
use model::ModelConfig;
use serde::Serialize;
use serde_json::Value;

use super::{Context, serve};
use crate::assembly;
use crate::books;
use crate::catalogue::{ModelRef, Source};
use crate::cli;
use crate::config::{
    self, API_KEY_KEYS, Checked, Entry, FlagValue, KEYS, Key, Layers, LoadTime, Loaded, MODEL_KEYS, variable,
};
use crate::draft_model::{self, DraftFile};
use crate::environment::Environment;
use crate::error::{Error, Result, chain};
use crate::fleet::policy::{Resident, make_room};
use crate::memory::{self, KvDemand, Need};
use crate::output::{Output, bytes, grouped, table};
use crate::plant;

/// As `config check --json` prints it.
#[derive(Default, Serialize)]
struct Report {
    good: bool,
    file: Option<String>,
    models: Vec<ModelReport>,
    warnings: Vec<String>,
    problems: Vec<Problem>,
}

/// A model that can be served with this configuration.
#[derive(Default, Serialize)]
struct ModelReport {
    name: String,
    /// Where its file is; absent while it is not fetched, and the rest with it.
    path: Option<String>,
    /// As `serve` will have it.
    context_len: Option<u64>,
    /// Why that is shorter than the model's or the configured context, and what changes it.
    context_cut: Option<String>,
    /// About what the weights take.
    weight_bytes: Option<u64>,
    kv_type: Option<&'static str>,
    kv_bytes: Option<u64>,
    kv_tokens: Option<u64>,
    /// The KV cache for people.
    #[serde(skip)]
    kv: Option<String>,
    draft: Option<DraftReport>,
    /// The least that it takes.
    #[serde(skip)]
    need: Need,
}

/// The model that guesses ahead for another.
#[derive(Default, Serialize)]
struct DraftReport {
    name: String,
    /// Where its file is; absent while it is not fetched, and the rest with it.
    path: Option<String>,
    /// About what the weights take.
    weight_bytes: Option<u64>,
    kv_bytes: Option<u64>,
}

/// What `serve` would refuse.
#[derive(Serialize)]
struct Problem {
    what: String,
    cause: Option<String>,
    hint: Option<String>,
}

/// Runs `config check`: what `serve` would refuse is refused here, as far as it can be told without loading a model.
/// Models that are not fetched yet are left out.
///
/// # Errors
/// The last of the problems; those before it are reported already.
pub fn check(environment: Environment, output: Output, args: &cli::Check, flags: &[FlagValue]) -> Result<()> {
    let mut report = Report::default();
    let mut problems = Vec::new();
    report.file = config::find_file(args.file.as_deref(), &environment).map(|path| path.to_string_lossy().into_owned());
    match config::load_telling_all(args.file.as_deref(), &environment, flags) {
        Ok(loaded) => {
            let context = Context { environment, settings: loaded.settings, output, watch: None };
            for name in BTreeSet::from_iter(context.settings.models.keys().chain([&context.settings.model])) {
                match check_model(&context, name) {
                    Ok(model) => report.models.push(model),
                    Err(problem) => problems.push(problem),
                }
            }
            let offered = report.models.iter().map(|model| model.name.as_str());
            problems.extend(serve::check_names(offered, &context.settings).err());
            problems.extend(check_together(&context, &report.models).err());
            match serve::check_settings(&context) {
                Ok(warnings) => report.warnings = warnings,
                Err(problem) => problems.push(problem),
            }
            problems.extend(books::check(&context).err());
            problems.extend(plant::sheet(&context).err());
        }
        Err(found) => problems = found,
    }
    report.good = problems.is_empty();
    report.problems = problems
        .iter()
        .map(|e| Problem { what: e.what.clone(), cause: e.cause.clone(), hint: e.hint.clone() })
        .collect();
    if args.json {
        output.json(&report)?
    } else {
        show_report(output, &report)?
    }
    output.all(problems)
}

/// Whether the models that are loaded at the start fit into memory beside each other. Those that are not fetched yet are
/// left out.
fn check_together(context: &Context, models: &[ModelReport]) -> Result<()> {
    let settings = &context.settings;
    let starts = |name: &str| settings.models.get(name).and_then(|own| own.load) == Some(LoadTime::Start);
    let limit = settings.engine.memory.or_else(memory::available);
    let mut residents: Vec<Resident> = Vec::new();
    for model in models.iter().filter(|model| starts(&model.name)) {
        make_room(limit, (&model.name, model.need), &residents)?;
        residents.push(Resident { name: model.name.clone(), takes: model.need, idle: None, pinned: true });
    }
    Ok(())
}

fn check_model(context: &Context, name: &str) -> Result<ModelReport> {
    let settings = &context.settings;
    let model = ModelRef::parse(name, settings)?;
    let own = settings.models.get(&model.name).cloned().unwrap_or_default();
    if let Some(template) = &own.chat_template {
        assembly::compile_template(context, &model.name, template)?;
    }
    for (adapter, path) in &own.adapters {
        formats::adapter::Adapter::open(path).map_err(|e| {
            Error::usage(format!("models.{name}.adapters.{adapter}: cannot use {}", path.display()))
                .because(chain(&e))
                .hint(crate::adapter::HINT)
        })?;
    }
    let draft = draft_model::reference(context, &model, &own)?;
    let mut report = ModelReport {
        name: model.name.clone(),
        draft: draft.as_ref().map(|draft| DraftReport { name: draft.name.clone(), ..DraftReport::default() }),
        ..ModelReport::default()
    };
    // A path that names no file is an error; what can be fetched need not be here.
    let is_here =
        |model: &ModelRef| matches!(model.source, Source::Path(_)) || context.catalogue().find(&model.source).is_some();
    let draft = match draft.filter(is_here) {
        Some(draft) => Some(DraftFile::open(context, &model.name, &draft, &|_| Ok(false))?),
        None => None,
    };
    if let (Some(file), Some(report)) = (&draft, &mut report.draft) {
        report.path = Some(file.gguf.path().to_string_lossy().into_owned());
        report.weight_bytes = Some(file.gguf.file_len());
    }
    if !is_here(&model) {
        return Ok(report);
    }
    let gguf = assembly::open(context, &model, &|_| Ok(false))?;
    let tokenizer = assembly::read_tokenizer(&gguf)?;
    let config = ModelConfig::from_gguf(&gguf).map_err(|e| {
        Error::failure(format!("cannot use the model file {}", gguf.path().display()))
            .because(chain(&e))
            .hint("choose another model; `tokenworks models` lists what is known to work")
    })?;
    let mut demand = KvDemand::of(&model.name, &config, &own, &settings.engine)?;
    // The weights, about as large as their file, will be in memory before the KV cache.
    let take = |available: Option<u64>, gguf: &Gguf| available.map(|free| free.saturating_sub(gguf.file_len()));
    demand.available = take(demand.available, &gguf);
    if let Some(file) = &draft {
        file.compare(&model.name, &tokenizer)?;
        demand.available = take(demand.available, &file.gguf);
    }
    let budget = demand.budget()?;
    if let (Some(file), Some(report)) = (&draft, &mut report.draft) {
        report.kv_bytes = Some(budget.of_draft(&report.name, &file.config, &demand)?.bytes);
    }
    let draft_bytes = draft.as_ref().map_or(0, |file| file.gguf.file_len());
    let weights = gguf.file_len().saturating_add(draft_bytes);
    report.need = Need { weights, kv: demand.set_aside(Some(0), 1) };
    report.path = Some(gguf.path().to_string_lossy().into_owned());
    report.context_len = Some(budget.context_len);
    report.context_cut = demand.cut(&budget);
    report.weight_bytes = Some(gguf.file_len());
    report.kv_type = Some(demand.kv_type.name());
    report.kv = Some(budget.shown(demand.kv_type));
    report.kv_bytes = Some(budget.bytes);
    report.kv_tokens = Some(budget.tokens);
    Ok(report)
}

fn show_report(output: Output, report: &Report) -> Result<()> {
    for warning in &report.warnings {
        output.note(format_args!("warning: {warning}"));
    }
    if !report.good {
        return Ok(());
    }
    match &report.file {
        Some(file) => output.line(format_args!("{file}: good"))?,
        None => output.line("no configuration file; the defaults, the environment and the flags are good")?,
    }
    for model in &report.models {
        match (model.context_len, &model.kv) {
            (Some(context), Some(kv)) => {
                output.line(format_args!("model {}: context {} tokens, KV cache {kv}", model.name, grouped(context)))?
            }
            _ => output.line(format_args!("model {}: not fetched yet, so its memory is not checked", model.name))?,
        }
        if let Some(cut) = &model.context_cut {
            output.line(format_args!("  context {cut}"))?;
        }
        if let Some(draft) = &model.draft {
            let memory = match (draft.weight_bytes, draft.kv_bytes) {
                (None, _) => "not fetched yet".to_owned(),
                (Some(_), None) => "its memory is not checked".to_owned(),
                (Some(weights), Some(kv)) => format!("weights of about {}, KV cache {}", bytes(weights), bytes(kv)),
            };
            output.line(format_args!("  draft model {}: {memory}", draft.name))?;
        }
    }
    Ok(())
}

/// A row of `config show --json`.
#[derive(Serialize)]
struct Row {
    key: String,
    value: Value,
    origin: String,
    /// The environment variable that sets it; those of models and API keys have none.
    variable: Option<String>,
    meaning: &'static str,
}

impl Row {
    fn new(name: String, key: &Key, entry: Option<&Entry>) -> Self {
        Self {
            key: name,
            value: entry.map_or(Value::Null, |e| shown(&e.value)),
            origin: entry.map_or_else(|| "default".to_owned(), |e| e.origin.to_string()),
            variable: None,
            meaning: key.meaning,
        }
    }
}

/// Every key, then those that are set of each model and API key.
fn rows(layers: &Layers) -> Vec<Row> {
    let plain = KEYS.iter().map(|key| Row {
        variable: Some(variable(key.name)),
        ..Row::new(key.name.to_owned(), key, layers.entries.get(key.name))
    });
    let models = layers.models.iter().map(|(name, entries)| (format!("models.{name}"), MODEL_KEYS, entries));
    let api_keys = layers.api_keys.iter().enumerate();
    let api_keys = api_keys.map(|(i, (entries, _))| (format!("server.keys[{i}]"), API_KEY_KEYS, entries));
    let tables = models.chain(api_keys).flat_map(|(table, keys, entries)| {
        keys.iter().filter_map(move |key| {
            let entry = entries.get(key.name)?;
            Some(Row::new(format!("{table}.{}", key.name), key, Some(entry)))
        })
    });
    plain.chain(tables).collect()
}

/// Runs `config show`.
///
/// # Errors
/// Standard output cannot be written.
pub fn show(context: &Context, loaded: &Loaded, json: bool) -> Result<()> {
    let rows = rows(&loaded.layers);
    if json {
        return context.output.json(&rows);
    }
    let mut cells = vec![["KEY", "VALUE", "SET BY", "MEANING"].map(str::to_owned).to_vec()];
    for row in rows {
        let value = if row.value.is_null() { "-".to_owned() } else { row.value.to_string() };
        cells.push(vec![row.key, value, row.origin, row.meaning.to_owned()]);
    }
    context.output.text(table(&cells))
}

fn shown(value: &Checked) -> Value {
    match value {
        Checked::Text(text) => Value::from(text.as_str()),
        Checked::Path(path) => Value::from(path.to_string_lossy()),
        Checked::Whole(n) => Value::from(*n),
        Checked::Bool(b) => Value::from(*b),
        Checked::Seconds(s) => Value::from(*s),
        Checked::Size(n) => Value::from(*n),
        Checked::List(items) => Value::from(items.clone()),
        Checked::Paths(paths) => {
            paths.iter().map(|(name, path)| (name.clone(), path.to_string_lossy().into_owned())).collect()
        }
    }
}
