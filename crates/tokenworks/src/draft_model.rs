//! The model that guesses ahead for another: found, compared with it, taken into memory.

use std::path::PathBuf;
use std::sync::Arc;

use formats::gguf::Gguf;
use kernels::ThreadPool;
use model::{Model, ModelConfig};
use tokenizer::Tokenizer;

use crate::assembly;
use crate::catalogue::{Consent, ModelRef};
use crate::commands::Context;
use crate::config::ModelSettings;
use crate::error::{Error, Result, chain};
use crate::memory::KvBudget;

/// A draft model in memory.
pub struct DraftModel {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// The weights.
    pub model: Arc<Model>,
}

/// What is shown of a draft model.
#[derive(Clone, Debug)]
pub struct DraftFacts {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Bytes of its weights in memory.
    pub weight_bytes: u64,
    /// Its KV cache.
    pub kv: KvBudget,
}

/// The draft model that the settings `own` of a model ask for; `None` when they do not, or nothing is guessed.
///
/// # Errors
/// It is no model, or the model itself: that takes the memory twice, and each guess the time that it is to save.
pub fn reference(context: &Context, model: &ModelRef, own: &ModelSettings) -> Result<Option<ModelRef>> {
    let Some(draft) = own.draft_model.as_deref().filter(|_| context.settings.engine.speculation) else {
        return Ok(None);
    };
    let found = ModelRef::parse(draft, &context.settings).map_err(|e| of_key(&model.name, e))?;
    let file = |model: &ModelRef| context.catalogue().find(&model.source)?.canonicalize().ok();
    if found.source == model.source || file(&found).is_some_and(|draft| file(model) == Some(draft)) {
        let error = Error::usage(format!("{draft} is the model {} itself", model.name))
            .hint("name a smaller model of the same family, or remove draft_model");
        return Err(of_key(&model.name, error));
    }
    Ok(Some(found))
}

/// The file of a draft model.
pub struct DraftFile {
    /// The file.
    pub gguf: Gguf,
    /// Its sizes.
    pub config: ModelConfig,
    tokenizer: Tokenizer,
}

impl DraftFile {
    /// Opens the file of the draft model of the model `name`, fetching it first when it is missing.
    ///
    /// # Errors
    /// It cannot be fetched, is no model file, or keeps a state.
    pub fn open(context: &Context, name: &str, draft: &ModelRef, consent: Consent<'_>) -> Result<Self> {
        let open = || {
            let gguf = assembly::open(context, draft, consent)?;
            let tokenizer = assembly::read_tokenizer(&gguf)?;
            let config = ModelConfig::from_gguf(&gguf).map_err(|e| assembly::file_error(gguf.path(), &e))?;
            if config.state_space.is_some() {
                return Err(Error::usage(format!("{} keeps a state and cannot guess ahead", gguf.path().display()))
                    .because("a state goes forward only: it cannot take a wrong guess back")
                    .hint("choose a model with attention, or remove draft_model"));
            }
            Ok(Self { gguf, config, tokenizer })
        };
        open().map_err(|e| of_key(name, e))
    }

    /// Compares its tokens with those of the model `name`.
    ///
    /// # Errors
    /// They differ.
    pub fn compare(&self, name: &str, model: &Tokenizer) -> Result<()> {
        let Some(difference) = difference(&self.tokenizer, model) else { return Ok(()) };
        let error = Error::usage(format!("{} cannot guess for {name}", self.gguf.path().display()))
            .because(format!("its vocabulary is another: {difference}"))
            .hint("use a smaller model of the same family, or remove draft_model");
        Err(of_key(name, error))
    }
}

/// Takes the draft model of a model into memory, if it has one.
///
/// # Errors
/// See [`reference()`] and [`DraftFile`]; or the file is damaged.
pub fn load(
    context: &Context,
    (model, own, tokenizer): (&ModelRef, &ModelSettings, &Tokenizer),
    pool: &Arc<ThreadPool>,
    consent: Consent<'_>,
) -> Result<Option<DraftModel>> {
    let Some(draft) = reference(context, model, own)? else { return Ok(None) };
    let name = &model.name;
    let file = DraftFile::open(context, name, &draft, consent)?;
    file.compare(name, tokenizer)?;
    let gguf = file.gguf;
    let model = assembly::load_weights(&gguf, pool).map_err(|e| of_key(name, e))?;
    Ok(Some(DraftModel { name: draft.name, path: gguf.path().to_owned(), model }))
}

/// Names the key that asked for what went wrong.
fn of_key(name: &str, error: Error) -> Error {
    Error { what: format!("models.{name}.draft_model: {}", error.what), ..error }
}

/// How the tokens of a draft model differ from the model's.
fn difference(draft: &Tokenizer, model: &Tokenizer) -> Option<String> {
    let (own, other) = (draft.vocab_size(), model.vocab_size());
    if own != other {
        return Some(format!("it has {own} tokens, the model has {other}"));
    }
    let texts = (0..).map_while(|id| Some((id, draft.text(id)?, model.text(id)?)));
    let (id, own, other) = texts.into_iter().find(|(_, own, other)| own != other)?;
    Some(format!("token {id} is {own:?}, the model's is {other:?}"))
}

/// Names what could not be had for a draft model.
pub(crate) fn no_kv_cache(name: &str, error: &dyn std::error::Error) -> Error {
    Error::failure(format!("cannot make the KV cache of {name}"))
        .because(chain(error))
        .hint("set engine.kv_memory lower, or remove draft_model")
}
