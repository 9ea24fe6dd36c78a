//! A LoRA adapter from its files to a line of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use model::Model;
use service::{LocalLine, LocalLineConfig};

use crate::config::ModelSettings;
use crate::error::{Error, Result, chain};

/// What an adapter's path must be.
pub const HINT: &str =
    "give a folder of PEFT (adapter_config.json, adapter_model.safetensors) or a GGUF adapter of this model";

/// Weights of an adapter in memory.
pub struct Weights {
    /// As requests carry them.
    pub adapter: inference::Adapter,
    /// Bytes that they take.
    pub bytes: u64,
}

/// Opens the adapter that clients call `full`, `MODEL:ADAPTER`.
///
/// # Errors
/// The files are missing, damaged or no adapter.
pub fn open(full: &str, path: &Path) -> Result<formats::adapter::Adapter> {
    formats::adapter::Adapter::open(path).map_err(|e| unusable(full, path, &e))
}

/// Takes it into memory for `model`.
///
/// # Errors
/// As [`open`], or it does not fit the model.
pub fn load(full: &str, path: &Path, model: &Model) -> Result<Weights> {
    let weights = model.load_adapter(&open(full, path)?).map_err(|e| unusable(full, path, &e))?;
    let bytes = weights.bytes() as u64;
    Ok(Weights { adapter: inference::Adapter::new(Arc::new(weights)), bytes })
}

/// Its line over that of its model, made now.
#[must_use]
pub fn line(base: &LocalLine, full: String, weights: &Weights) -> LocalLine {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    base.adapted(LocalLineConfig { id: full, created, ..LocalLineConfig::default() }, weights.adapter.clone())
}

/// The full name and the place of what a command calls so: a name of the model's configuration, or a path, whose last part
/// is then the name.
///
/// # Errors
/// It is neither.
pub fn find(model: &str, own: &ModelSettings, wanted: &str) -> Result<(String, PathBuf)> {
    let (name, path) = match own.adapters.get(wanted) {
        Some(path) => (wanted.to_owned(), path.clone()),
        None => {
            let path = PathBuf::from(wanted);
            if !path.exists() {
                let what = format!("{model} has no adapter \"{wanted}\", and there is no such file or folder");
                return Err(Error::usage(what)
                    .hint(format!("set adapters.NAME = \"PATH\" under [models.{model}], or give the path")));
            }
            (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), path)
        }
    };
    Ok((format!("{model}:{name}"), path))
}

fn unusable(full: &str, path: &Path, error: &dyn std::error::Error) -> Error {
    Error::failure(format!("cannot use {} as the adapter {full}", path.display())).because(chain(error)).hint(HINT)
}
