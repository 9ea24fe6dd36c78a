//! The one place that reads the process's environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

use etcetera::BaseStrategy;

use crate::error::{Error, Result};

/// What the program takes from its environment, read once at the start.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// All variables that start with `TOKENWORKS_`.
    pub settings: BTreeMap<String, String>,
    /// `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`: where `hf:` models come from and are kept.
    pub hub: HubEnvironment,
    /// The user's folders.
    pub folders: Folders,
    /// This program's executable file.
    pub program: PathBuf,
}

/// The Hugging Face tools' own variables.
#[derive(Clone, Debug, Default)]
pub struct HubEnvironment {
    /// Base address of the hub, when it is not the usual one.
    pub endpoint: Option<String>,
    /// Folder of the cache (`…/hub`).
    pub cache: PathBuf,
    /// Access token.
    pub token: Option<String>,
}

/// The user's own folders, by the conventions of the system (XDG on Unix).
#[derive(Clone, Debug, Default)]
pub struct Folders {
    /// For files that can be fetched again.
    pub cache: PathBuf,
    /// For files that cannot.
    pub data: PathBuf,
    /// For settings.
    pub config: PathBuf,
}

/// Whether colours are not wanted: `NO_COLOR` is set and not empty.
#[must_use]
pub fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
}

impl Environment {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// No home folder, or a `TOKENWORKS_` variable that is not UTF-8.
    pub fn read() -> Result<Self> {
        let strategy = etcetera::choose_base_strategy().map_err(|e| {
            Error::usage("cannot find your home folder").because(e).hint("set the environment variable HOME")
        })?;
        let mut settings = BTreeMap::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|n| n.starts_with("TOKENWORKS_")) else { continue };
            let Ok(value) = value.into_string() else {
                return Err(Error::usage(format!("the environment variable {name} is not UTF-8 text"))
                    .hint(format!("set {name} again, or unset it")));
            };
            settings.insert(name.to_owned(), value);
        }
        let text = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let cache = text("HF_HUB_CACHE").map(PathBuf::from).unwrap_or_else(|| {
            text("HF_HOME").map_or_else(|| strategy.cache_dir().join("huggingface"), PathBuf::from).join("hub")
        });
        Ok(Self {
            settings,
            hub: HubEnvironment { endpoint: text("HF_ENDPOINT"), cache, token: text("HF_TOKEN") },
            folders: Folders {
                cache: strategy.cache_dir().join("tokenworks"),
                data: strategy.data_dir().join("tokenworks"),
                config: strategy.config_dir().join("tokenworks"),
            },
            program: program(),
        })
    }
}

/// The executable file of this process, also after it was replaced or removed where the system allows.
fn program() -> PathBuf {
    #[cfg(target_os = "linux")]
    {
        // Leads a child to its parent's file, not to a name.
        let own = PathBuf::from("/proc/self/exe");
        if own.exists() {
            return own;
        }
    }
    // Where it cannot be found, starting it says so.
    std::env::current_exe().unwrap_or_default()
}
