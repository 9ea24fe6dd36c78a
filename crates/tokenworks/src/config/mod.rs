//! The configuration: raw layers (defaults < file < environment < flags), turned into checked settings once.

mod keys;
mod layers;
mod names;
mod settings;
mod value;

use std::io::Read;
use std::path::{Path, PathBuf};

pub use keys::{API_KEY_KEYS, KEYS, Key, Kind, MODEL_KEYS, nearest, variable};
pub use layers::{CONFIG_VARIABLE, Entry, Layers, Origin};
pub use names::adapter_name_problem;
pub use settings::{
    ApiKey, EngineSettings, LoadTime, LogSettings, ModelSettings, ServerSettings, Settings, TemplateSource,
};
pub use value::{Checked, parse_size};

use crate::environment::Environment;
use crate::error::{Error, Result};

/// Name of the configuration file.
pub const FILE_NAME: &str = "tokenworks.toml";
/// No configuration is larger; a wrong path (a model, a device) must not be read whole.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A flag that sets a key: the flag, the key and its text.
pub type FlagValue = (&'static str, &'static str, String);

/// The layers, merged, with the file they came from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration file, when there is one.
    pub file: Option<PathBuf>,
    /// All values with their origins.
    pub layers: Layers,
    /// The checked settings.
    pub settings: Settings,
}

/// Reads all layers. `file` is the one asked for by flag; else `TOKENWORKS_CONFIG`, `./tokenworks.toml` and the user's
/// configuration folder are looked at, in this order, and the first that exists is used.
///
/// # Errors
/// A file that cannot be read, or anything in it, in the environment or in the flags that cannot be.
pub fn load(file: Option<&Path>, environment: &Environment, flags: &[FlagValue]) -> Result<Loaded> {
    load_telling_all(file, environment, flags).map_err(|problems| {
        let first = problems.into_iter().next();
        first.unwrap_or_else(|| Error::failure("the configuration cannot be used"))
    })
}

/// As [`load`], but goes on after a problem to find the others.
///
/// # Errors
/// All of them, at least one.
pub fn load_telling_all(
    file: Option<&Path>,
    environment: &Environment,
    flags: &[FlagValue],
) -> Result<Loaded, Vec<Error>> {
    let mut layers = Layers::default();
    layers.set_defaults().map_err(|e| vec![e])?;
    let file = find_file(file, environment);
    if let Some(path) = &file {
        let set = read(path).and_then(|text| layers.set_file(path, &text));
        layers.problems.extend(set.err());
    }
    layers.set_environment(&environment.settings);
    for (flag, key, text) in flags {
        let set = layers.set_flag(flag, key, text);
        layers.problems.extend(set.err());
    }
    let settings = Settings::from_layers(&layers, &environment.folders);
    match settings {
        Ok(settings) if layers.problems.is_empty() => Ok(Loaded { file, layers, settings }),
        // What is left without refused values may seem to contradict itself; it is told only when nothing else is wrong.
        Err(problem) if layers.problems.is_empty() => Err(vec![problem]),
        _ => Err(layers.problems),
    }
}

/// The file that is read, whether or not it can be.
#[must_use]
pub fn find_file(asked: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    if let Some(path) = asked {
        return Some(path.to_owned());
    }
    if let Some(path) = environment.settings.get(CONFIG_VARIABLE).filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let here = Path::new(".").join(FILE_NAME);
    let users = environment.folders.config.join(FILE_NAME);
    [here, users].into_iter().find(|path| path.is_file())
}

fn read(path: &Path) -> Result<String> {
    let refuse = |e: &dyn std::fmt::Display| {
        Error::usage(format!("cannot read the configuration {}", path.display()))
            .because(e)
            .hint("give its path with --config FILE, or leave --config out to use the defaults")
    };
    let file = std::fs::File::open(path).map_err(|e| refuse(&e))?;
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|e| refuse(&e))?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(refuse(&"larger than 1 MiB: this is no configuration"));
    }
    Ok(text)
}
