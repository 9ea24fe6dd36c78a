//! Puts the production line together: file -> model and tokenizer -> engine -> line.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::{DutyLimit, EngineConfig, LocalEngine, ModelRunner, Runner, RunnerError, RunnerShape, StepLog};
use formats::gguf::{Gguf, Origin};
use kernels::ThreadPool;
use metering::Meter;
use model::{Batch, BlockId, KvType, Model, ModelConfig, Reservation};
use service::{Charging, LocalLine, LocalLineConfig};
use tokenizer::{TemplateError, TemplateRenderer, Tokenizer};
use traces::Traces;

use crate::calibration::{self, Conditions, Start};
use crate::catalogue::{Consent, ModelRef, Source};
use crate::commands::Context;
use crate::config::{ModelSettings, TemplateSource};
use crate::draft_model::{self, DraftFacts, DraftModel};
use crate::error::{Error, Result, chain};
use crate::memory::{KvBudget, KvDemand, KvRoom, Need};
use crate::renderer::ProcessRenderer;

/// Templates longer than this are no templates.
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;
/// How long an engine may finish its step when the program ends.
pub const ENGINE_END: Duration = Duration::from_secs(5);

/// A model in memory with what belongs to it.
pub struct LoadedModel {
    /// The name clients use.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// The weights.
    pub model: Arc<Model>,
    /// The model that guesses ahead for it.
    pub draft: Option<DraftModel>,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template, if the configuration or the model has one.
    pub template: Option<Arc<dyn TemplateRenderer>>,
    /// Its own settings.
    pub settings: ModelSettings,
    /// What a calibration of it is good for.
    pub conditions: Conditions,
    /// What its engine starts from.
    pub start: Start,
    /// Where its engine writes its steps.
    pub step_log: Option<StepLog>,
}

/// What a line in a plant is joined to.
#[derive(Clone, Copy)]
pub struct Wiring<'a> {
    /// Charges its requests.
    pub charging: &'a Arc<Charging>,
    /// A limit that its engine shares with others.
    pub duty: &'a DutyLimit,
    /// Keep its last requests.
    pub traces: Option<&'a Arc<Traces>>,
}

/// A running line and the facts that are shown of it.
pub struct Production {
    /// The line.
    pub line: Arc<LocalLine>,
    /// Its engine.
    pub engine: Arc<LocalEngine>,
    /// The weights, for which adapters are loaded.
    pub model: Arc<Model>,
    /// What is shown of it.
    pub facts: Facts,
}

/// What is shown of a line at its start.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The name clients use.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// `llama`, `gemma3`, …
    pub architecture: &'static str,
    /// Longest prompt and answer together.
    pub context_len: usize,
    /// Why that is shorter than the model's or the configured context, and what changes it.
    pub context_cut: Option<String>,
    /// Bytes of the weights in memory.
    pub weight_bytes: u64,
    /// The KV cache.
    pub kv: KvBudget,
    /// How its keys and values are kept.
    pub kv_type: KvType,
    /// The model that guesses ahead for it.
    pub draft: Option<DraftFacts>,
    /// Bytes that were free before the KV cache was made.
    pub available: Option<u64>,
    /// Whether it can chat.
    pub has_chat_template: bool,
}

/// The compute threads that all models share.
///
/// # Errors
/// The system refuses them.
pub fn thread_pool(context: &Context) -> Result<Arc<ThreadPool>> {
    let threads = context.settings.threads;
    ThreadPool::new(threads).map(Arc::new).map_err(|e| {
        Error::failure(format!("cannot start {threads} compute threads")).because(e).hint("set threads lower")
    })
}

/// Opens a model's file or folder, fetching it first when it is missing.
///
/// # Errors
/// It cannot be fetched, or is no model file.
pub fn open(context: &Context, model: &ModelRef, consent: Consent<'_>) -> Result<Gguf> {
    let path = context.catalogue().obtain(model, consent).map_err(|e| {
        let own = context.settings.models.get(&model.name).filter(|own| own.source.is_some());
        match (own, &model.source) {
            (Some(_), Source::Path(_)) => Error { what: format!("models.{}.source: {}", model.name, e.what), ..e },
            _ => e,
        }
    })?;
    let gguf = Gguf::open(&path).map_err(|e| match model.source {
        Source::Path(_) => file_error(&path, &e).hint(
            "give the path of a GGUF file, or of a folder with config.json and safetensors files, and check that it was \
             copied whole; `tokenworks models` lists the names that need no path",
        ),
        _ => file_error(&path, &e).hint(format!("if it was damaged, remove it and run `tokenworks pull {}`", model.name)),
    })?;
    if gguf.get_str("general.type").ok().flatten() == Some("adapter") {
        return Err(Error::usage(format!("{} is an adapter, no model", path.display()))
            .hint("give the model that it changes, and this file with --adapter or as adapters.NAME of that model"));
    }
    Ok(gguf)
}

/// The tokenizer of a model.
///
/// # Errors
/// It has none that is known, or that of another model.
pub fn read_tokenizer(gguf: &Gguf) -> Result<Tokenizer> {
    let read = match gguf.origin() {
        Origin::Gguf { .. } => Tokenizer::from_gguf(gguf),
        Origin::HuggingFace => Tokenizer::from_folder(gguf.path()),
    };
    let tokenizer = read.map_err(|e| file_error(gguf.path(), &e))?;
    // What else is wrong is told when the weights are loaded.
    if let Ok(config) = ModelConfig::from_gguf(gguf) {
        check_vocabulary(gguf.path(), &tokenizer, config.vocab_size)?;
    }
    Ok(tokenizer)
}

/// Refuses a tokenizer whose ids have no rows in the embedding. Fewer tokens than rows are usual (rows are padded), and so are
/// special tokens beyond them, which no text can become: Gemma 3 has one for images.
fn check_vocabulary(path: &Path, tokenizer: &Tokenizer, rows: usize) -> Result<()> {
    let ids = u32::try_from(rows).unwrap_or(u32::MAX)..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    let is_text = |id: &u32| !tokenizer.is_special(*id) && tokenizer.text(*id).is_some_and(|text| !text.is_empty());
    match ids.into_iter().find(is_text) {
        None => Ok(()),
        Some(id) => {
            let text: String =
                tokenizer.text(id).unwrap_or_default().chars().take(40).flat_map(char::escape_debug).collect();
            Err(Error::failure(format!("cannot use the model file {}", path.display()))
                .because(format!(
                    "the tokenizer has the token \"{text}\" of id {id}, but the weights have {rows} rows of tokens"
                ))
                .hint("take tokenizer.json and the weights from the same model"))
        }
    }
}

/// The weights of a model, taken into memory.
///
/// # Errors
/// What is wrong with its file.
pub fn load_weights(gguf: &Gguf, pool: &Arc<ThreadPool>) -> Result<Arc<Model>> {
    Model::load(gguf, pool).map(Arc::new).map_err(|e| file_error(gguf.path(), &e))
}

/// Whether a model's draft model, if it has one, comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drafts {
    /// It does.
    Loaded,
    /// Nothing is guessed here.
    LeftOut,
}

/// Takes a model into memory.
///
/// # Errors
/// What is wrong with the file, the configured template or the draft model.
pub fn load(
    context: &Context,
    model: &ModelRef,
    pool: &Arc<ThreadPool>,
    consent: Consent<'_>,
    drafts: Drafts,
) -> Result<LoadedModel> {
    let gguf = open(context, model, consent)?;
    let settings = context.settings.models.get(&model.name).cloned().unwrap_or_default();
    let tokenizer = read_tokenizer(&gguf)?;
    let template = template(context, &model.name, &settings, &tokenizer)?;
    // The small one first: what is wrong with it is told at once.
    let draft = match drafts {
        Drafts::Loaded => draft_model::load(context, (model, &settings, &tokenizer), pool, consent)?,
        Drafts::LeftOut => None,
    };
    let conditions = Conditions::of(context, &gguf, settings.kv_type(&context.settings.engine));
    let start = calibration::start(context, &model.name, &conditions);
    Ok(LoadedModel {
        name: model.name.clone(),
        path: gguf.path().to_owned(),
        model: load_weights(&gguf, pool)?,
        draft,
        tokenizer,
        template,
        settings,
        conditions,
        start,
        step_log: None,
    })
}

/// What a file that is no model, or a damaged one, is told as.
pub(crate) fn file_error(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::failure(format!("cannot use the model file {}", path.display()))
        .because(chain(error))
        .hint("it is damaged, or of a kind that is not supported; `tokenworks models` lists what is known to work")
}

fn template(
    context: &Context,
    name: &str,
    settings: &ModelSettings,
    tokenizer: &Tokenizer,
) -> Result<Option<Arc<dyn TemplateRenderer>>> {
    if let Some(source) = &settings.chat_template {
        return Ok(Some(Arc::new(compile_template(context, name, source)?)));
    }
    let Some(source) = tokenizer.chat_template() else { return Ok(None) };
    match ProcessRenderer::start(&context.environment.program, source) {
        Ok(template) => Ok(Some(Arc::new(template))),
        Err(error @ TemplateError::Unavailable { .. }) => Err(template_worker_error(&error)),
        Err(error) => {
            // Completions still work, and the configuration can give another template.
            tracing::warn!(model = name, error = chain(&error), "the model's own chat template cannot be used");
            Ok(None)
        }
    }
}

/// Compiles a configured template.
///
/// # Errors
/// The file cannot be read, or it is no template.
pub fn compile_template(context: &Context, name: &str, source: &TemplateSource) -> Result<ProcessRenderer> {
    let (key, text) = match source {
        TemplateSource::Inline(text) => (format!("models.{name}.chat_template"), text.clone()),
        TemplateSource::File(path) => {
            let key = format!("models.{name}.chat_template_file");
            let text = read_template(path).map_err(|e| {
                Error::usage(format!("{key}: cannot read {}", path.display())).because(e).hint(format!("correct {key}"))
            })?;
            (key, text)
        }
    };
    ProcessRenderer::start(&context.environment.program, &text).map_err(|e| match e {
        TemplateError::Unavailable { .. } => template_worker_error(&e),
        _ => Error::usage(format!("{key} is no chat template")).because(chain(&e)).hint("correct the template"),
    })
}

fn template_worker_error(error: &TemplateError) -> Error {
    Error::failure("cannot start the process that renders chat templates")
        .because(chain(error))
        .hint("allow this program to start itself as another process")
}

fn read_template(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_TEMPLATE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

impl Facts {
    /// Bytes that it takes, with its draft model.
    #[must_use]
    pub fn takes(&self) -> Need {
        let (weights, kv) = self.draft.as_ref().map_or((0, 0), |draft| (draft.weight_bytes, draft.kv.bytes));
        Need { weights: self.weight_bytes.saturating_add(weights), kv: self.kv.bytes.saturating_add(kv) }
    }
}

impl LoadedModel {
    /// Bytes of its weights, with those of its draft model.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        let draft = self.draft.as_ref().map_or(0, |draft| draft.model.weight_bytes());
        self.model.weight_bytes().saturating_add(draft) as u64
    }

    /// Starts the engine and the line. `meter` counts what they do; `plant`: what they are joined to; `room` bounds the KV
    /// cache.
    ///
    /// # Errors
    /// The KV cache does not fit, or the engine cannot start.
    pub fn start(
        self,
        context: &Context,
        meter: &Arc<Meter>,
        plant: Option<Wiring<'_>>,
        room: KvRoom,
    ) -> Result<Production> {
        let settings = &context.settings.engine;
        let demand = KvDemand::of(&self.name, self.model.config(), &self.settings, settings)?.within(room);
        let kv = demand.budget()?;
        let too_large = |e| Error::failure("the KV cache is too large").because(e).hint("set engine.kv_memory lower");
        let blocks = usize::try_from(kv.blocks).map_err(too_large)?;
        let context_len = usize::try_from(demand.context_len).map_err(too_large)?;
        let runner = ModelRunner::new(Arc::clone(&self.model), demand.kv_type, blocks).map_err(|e| {
            Error::failure(format!("cannot make the KV cache of {}", self.name))
                .because(chain(&e))
                .hint("set engine.kv_memory lower")
        })?;
        let (draft, draft_facts) = self.start_draft(&kv, &demand)?.unzip();
        let engine = LocalEngine::start_with_draft(
            Box::new(Bounded { runner, context_len }),
            draft,
            EngineConfig {
                max_waiting: settings.max_waiting,
                max_running: settings.max_running,
                prefill_chunk: settings.prefill_chunk(self.model.config()),
                itl_goal: settings.itl_goal,
                speculation: settings.speculation,
                thread_name: format!("engine-{}", self.name),
                duty: plant.map(|plant| plant.duty.clone()).unwrap_or_default(),
                calibration: self.start.calibration,
                step_log: self.step_log,
                ..EngineConfig::default()
            },
        )
        .map_err(|e| Error::failure(format!("cannot start the engine of {}", self.name)).because(chain(&e)))?;
        let engine = Arc::new(engine);
        let facts = Facts {
            name: self.name.clone(),
            path: self.path,
            architecture: self.model.config().architecture,
            context_len: inference::Engine::limits(engine.as_ref()).context_len,
            context_cut: demand.cut(&kv),
            weight_bytes: self.model.weight_bytes() as u64,
            kv,
            kv_type: demand.kv_type,
            draft: draft_facts,
            available: demand.available,
            has_chat_template: self.template.is_some(),
        };
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let config =
            LocalLineConfig { id: self.name, aliases: self.settings.aliases, created, calibration: self.start.note };
        let line = LocalLine::new(config, self.tokenizer, self.template, Arc::clone(&engine) as _, Arc::clone(meter));
        let line = match plant {
            Some(plant) => line.charged(Arc::clone(plant.charging)),
            None => line,
        };
        let line = match plant.and_then(|plant| plant.traces) {
            Some(traces) => line.traced(Arc::clone(traces)),
            None => line,
        };
        Ok(Production { line: Arc::new(line), engine, model: self.model, facts })
    }

    /// The runner of the draft model, if there is one, with a KV cache beside `kv`, that of the model.
    fn start_draft(&self, kv: &KvBudget, demand: &KvDemand) -> Result<Option<(Box<dyn Runner>, DraftFacts)>> {
        let Some(DraftModel { name, path, model }) = &self.draft else { return Ok(None) };
        let kv = kv.of_draft(name, model.config(), demand)?;
        let blocks = usize::try_from(kv.blocks).unwrap_or(usize::MAX);
        let runner = ModelRunner::new(Arc::clone(model), demand.kv_type, blocks)
            .map_err(|e| draft_model::no_kv_cache(name, &e))?;
        let weight_bytes = model.weight_bytes() as u64;
        let facts = DraftFacts { name: name.clone(), path: path.clone(), weight_bytes, kv };
        Ok(Some((Box::new(runner), facts)))
    }
}

impl Production {
    /// Ends the engine; what is still in work fails.
    pub fn end(&self) {
        self.engine.shutdown(Instant::now() + ENGINE_END);
    }
}

/// A runner whose context is shortened by a setting.
struct Bounded {
    runner: ModelRunner,
    context_len: usize,
}

impl Runner for Bounded {
    fn shape(&self) -> RunnerShape {
        RunnerShape { context_len: self.context_len, ..self.runner.shape() }
    }

    fn reserve(&self) -> Option<Reservation> {
        self.runner.reserve()
    }

    fn forward(&mut self, batch: &Batch<'_>, logits: &mut [f32]) -> Result<(), RunnerError> {
        self.runner.forward(batch, logits)
    }

    fn copy_block(&mut self, from: BlockId, to: BlockId, tokens: usize) {
        self.runner.copy_block(from, to, tokens);
    }
}
