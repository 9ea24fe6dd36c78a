//! LoRA adapters of the models: loaded with them, or by command beside them; each is a line of its own over its model's
//! engine.
//!
//! What belongs to a model is noted in its slot and is loaded whenever the model is. Unloading takes it out of the slot; its
//! weights stay until the last request that has them has ended, which the requests' own bounds see to.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::Model;
use service::{AdapterStatus, Line, LocalLine, ModelState, PoolError};
use tokio::time::{sleep, timeout};

use super::loading::off_thread;
use super::policy::{Resident, make_room};
use super::{COMMAND_WAIT, Inner, Slot};
use crate::adapter;
use crate::config::adapter_name_problem;
use crate::error::{Error, Result};
use crate::memory::Need;

/// How often is looked whether the last request of a draining adapter has ended.
const DRAIN_POLL: Duration = Duration::from_millis(10);
/// Most adapters of a model.
const ADAPTERS_MOST: usize = 256;

/// An adapter that belongs to a model.
pub(super) struct Adapter {
    path: PathBuf,
    state: ModelState,
    weights: Option<Weights>,
}

/// An adapter in memory.
struct Weights {
    line: Arc<LocalLine>,
    own: adapter::Weights,
}

impl Adapter {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, state: ModelState::Unloaded, weights: None }
    }

    fn loaded(path: PathBuf, weights: Weights) -> Self {
        Self { path, state: ModelState::Loaded, weights: Some(weights) }
    }

    pub(super) fn status(&self, name: &str) -> AdapterStatus {
        AdapterStatus {
            name: name.to_owned(),
            state: self.state.clone(),
            bytes: self.weights.as_ref().map_or(0, |weights| weights.own.bytes),
            created: self.weights.as_ref().map(|weights| weights.line.card().created),
        }
    }
}

impl Inner {
    /// The offer that is called so, or the one before a colon with the adapter behind it. What is called so as a whole goes
    /// first.
    pub(super) fn find<'a>(&self, name: &'a str) -> Result<(usize, Option<&'a str>), PoolError> {
        let whole = self.index(name);
        match name.rsplit_once(':') {
            Some((model, adapter)) if whole.is_err() => match self.index(model) {
                Ok(index) => {
                    let known = self.with(index, |slot| known(slot, &self.name(index), adapter).map(drop));
                    known.unwrap_or(Err(PoolError::Closed))?;
                    Ok((index, Some(adapter)))
                }
                Err(_) => Err(PoolError::Unknown { name: name.to_owned() }),
            },
            _ => Ok((whole?, None)),
        }
    }

    /// The line of an adapter that takes requests.
    pub(super) fn adapted(&self, index: usize, slot: &Slot, name: &str) -> Result<Arc<dyn Line>, PoolError> {
        let model = self.name(index);
        let adapter = known(slot, &model, name)?;
        match (&adapter.state, &adapter.weights) {
            (ModelState::Loaded, Some(weights)) => Ok(Arc::clone(&weights.line) as Arc<dyn Line>),
            (ModelState::Failed { reason }, _) => {
                Err(PoolError::Failed { model: format!("{model}:{name}"), reason: reason.clone() })
            }
            _ => Err(PoolError::Loading { model: format!("{model}:{name}"), behind: None }),
        }
    }
}

/// An adapter of a model, unless it is on its way out.
fn known<'a>(slot: &'a Slot, model: &str, name: &str) -> Result<&'a Adapter, PoolError> {
    let offered = |adapter: &Adapter| adapter.state != ModelState::Draining;
    slot.adapters.get(name).filter(|adapter| offered(adapter)).ok_or_else(|| PoolError::UnknownAdapter {
        model: model.to_owned(),
        adapter: name.chars().take(80).collect(),
        known: slot.adapters.iter().filter(|(_, adapter)| offered(adapter)).map(|(name, _)| name.clone()).collect(),
    })
}

/// Bytes of the files of a model's adapters, about as many as their weights take; of files that are not there none.
pub(super) fn file_bytes(inner: &Inner, index: usize) -> u64 {
    let paths = inner.with(index, |slot| slot.adapters.values().map(|own| own.path.clone()).collect::<Vec<_>>());
    let bytes = |path: &PathBuf| formats::adapter::Adapter::open(path).map_or(0, |file| file.tensors().file_len());
    paths.unwrap_or_default().iter().map(bytes).fold(0, u64::saturating_add)
}

/// Takes all adapters of a model into memory, before it takes requests, and gives their bytes. One that cannot be used is
/// an error only at the server's start (`at_start`), where a person reads it; later it is noted and left out.
pub(super) fn load_all(
    inner: &Inner,
    index: usize,
    (line, model): &(Arc<LocalLine>, Arc<Model>),
    at_start: bool,
) -> Result<u64> {
    let paths = inner.with(index, |slot| {
        slot.adapters.iter().map(|(name, own)| (name.clone(), own.path.clone())).collect::<BTreeMap<_, _>>()
    });
    let mut bytes = 0_u64;
    for (name, path) in paths.unwrap_or_default() {
        let (adapter, takes) = match take(line, model, &name, &path) {
            Ok(weights) => {
                let takes = weights.own.bytes;
                (Adapter::loaded(path, weights), takes)
            }
            Err(error) if at_start => return Err(error),
            Err(error) => {
                let reason = error.to_string();
                tracing::error!(model = line.card().id, adapter = name, "it could not be loaded: {reason}");
                (Adapter { path, state: ModelState::Failed { reason }, weights: None }, 0)
            }
        };
        // Unless it was unloaded meanwhile.
        let place = |slot: &mut Slot| slot.adapters.get_mut(&name).map(|own| *own = adapter).is_some();
        if inner.with(index, place) == Some(true) {
            bytes = bytes.saturating_add(takes);
        }
    }
    Ok(bytes)
}

/// The weights go with their model's engine; what is noted stays.
pub(super) fn forget_weights(slot: &mut Slot) {
    slot.adapters.retain(|_, adapter| adapter.state != ModelState::Draining);
    for adapter in slot.adapters.values_mut() {
        adapter.state = ModelState::Unloaded;
        adapter.weights = None;
    }
}

/// Takes an adapter into memory.
fn take(base: &LocalLine, model: &Model, name: &str, path: &Path) -> Result<Weights> {
    let full = format!("{}:{name}", base.card().id);
    let own = adapter::load(&full, path, model)?;
    Ok(Weights { line: Arc::new(adapter::line(base, full, &own)), own })
}

/// Loads an adapter by command, in its turn.
pub(super) async fn load(inner: &Arc<Inner>, index: usize, name: &str, path: &Path) -> Result<(), PoolError> {
    let invalid = |field, message| Err(PoolError::InvalidAdapter { field, message });
    if let Some(problem) = adapter_name_problem(name) {
        return invalid("name", problem);
    }
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        let message = "`path` must begin at the root and go up nowhere, like /srv/adapters/legal".to_owned();
        return invalid("path", message);
    }
    let (own, own_name, path) = (Arc::clone(inner), name.to_owned(), path.to_owned());
    let model = inner.name(index);
    // Goes on by itself when who asked goes away.
    let task = tokio::spawn(async move { load_in_turn(&own, index, own_name, path).await });
    match timeout(COMMAND_WAIT, task).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Err(PoolError::Failed { model, reason: format!("loading broke off: {error}") }),
        Err(_) => Err(PoolError::Loading { model: format!("{model}:{name}"), behind: inner.before(usize::MAX) }),
    }
}

async fn load_in_turn(inner: &Arc<Inner>, index: usize, name: String, path: PathBuf) -> Result<(), PoolError> {
    let _turn = inner.turn.lock().await;
    if inner.closed() {
        return Err(PoolError::Closed);
    }
    let there = inner.with(index, |slot| slot.adapters.get(&name).map(|own| (own.path == path, own.state.clone())));
    let count = inner.with(index, |slot| slot.adapters.len()).unwrap_or(0);
    match there.flatten() {
        Some((true, ModelState::Loaded)) => return Ok(()),
        Some((_, ModelState::Draining)) => {
            let message =
                format!("the last requests of the earlier adapter `{name}` are under way; try again when they end");
            return Err(PoolError::InvalidAdapter { field: "name", message });
        }
        Some((_, ModelState::Loaded) | (false, ModelState::Unloaded)) => {
            let message = format!("an adapter `{name}` is there already; unload it first");
            return Err(PoolError::InvalidAdapter { field: "name", message });
        }
        None if count >= ADAPTERS_MOST => {
            let message = format!("the model has {ADAPTERS_MOST} adapters; unload one first");
            return Err(PoolError::InvalidAdapter { field: "name", message });
        }
        _ => {}
    }
    let model = inner.name(index);
    let failed = |error: Error| PoolError::InvalidAdapter { field: "path", message: error.to_string() };
    let (full, own_path) = (format!("{model}:{name}"), path.clone());
    let bytes = off_thread(inner, move |_| adapter::open(&full, &own_path).map(|file| file.tensors().file_len()));
    let bytes = bytes.await.map_err(failed)?;
    let running = inner.with(index, |slot| {
        let running = slot.running.as_ref().filter(|_| slot.state == ModelState::Loaded)?;
        Some((Arc::clone(&running.line), Arc::clone(&running.model)))
    });
    let Some((line, weights_of)) = running.flatten() else {
        // It comes with its model.
        inner.with(index, |slot| slot.adapters.insert(name, Adapter::new(path)));
        return Ok(());
    };
    fits(inner, index, &name, bytes)?;
    let (own_name, own_path) = (name.clone(), path.clone());
    let work = move |_: &Inner| take(&line, &weights_of, &own_name, &own_path);
    let weights = off_thread(inner, work).await.map_err(failed)?;
    tracing::info!(model, adapter = name, bytes = weights.own.bytes, "loaded an adapter");
    inner.with(index, |slot| {
        slot.takes.weights = slot.takes.weights.saturating_add(weights.own.bytes);
        slot.adapters.insert(name, Adapter::loaded(path, weights));
    });
    Ok(())
}

/// Whether an adapter fits beside all that is in memory: no model leaves for it.
fn fits(inner: &Inner, index: usize, name: &str, weights: u64) -> Result<(), PoolError> {
    let full = format!("{}:{name}", inner.name(index));
    let need = Need { weights, kv: 0 };
    let stays = |resident: Resident| Resident { idle: None, ..resident };
    let residents: Vec<Resident> = inner.residents(&inner.slots(), usize::MAX).into_iter().map(stays).collect();
    match make_room(inner.limit, (&full, need), &residents) {
        Ok(_) => Ok(()),
        Err(error) => Err(PoolError::NoRoom { message: error.to_string() }),
    }
}

/// Unloads an adapter: from now on nobody gets its line, and its weights go with its last request.
pub(super) async fn unload(inner: &Arc<Inner>, index: usize, name: &str) -> Result<(), PoolError> {
    let model = inner.name(index);
    let drains = inner.with(index, |slot| {
        let leaves = match slot.adapters.get_mut(name) {
            Some(adapter) if adapter.weights.is_some() => {
                adapter.state = ModelState::Draining;
                return Ok(true);
            }
            Some(_) => slot.adapters.remove(name).is_some(),
            None => false,
        };
        if leaves { Ok(false) } else { known(slot, &model, name).map(|_| false) }
    });
    if drains.unwrap_or(Err(PoolError::Closed))? {
        let (inner, name) = (Arc::clone(inner), name.to_owned());
        // Goes on by itself when it takes longer.
        let task = tokio::spawn(async move { drain(&inner, index, &name).await });
        let _ = timeout(COMMAND_WAIT, task).await;
    }
    Ok(())
}

/// Waits for the last request of a draining adapter, then takes it out of memory. Requests have bounds of their own, and
/// when its model leaves, it goes too.
async fn drain(inner: &Arc<Inner>, index: usize, name: &str) {
    loop {
        let gone = inner.with(index, |slot| {
            let draining = |own: &&mut Adapter| own.state == ModelState::Draining;
            let Some(adapter) = slot.adapters.get_mut(name).filter(draining) else { return true };
            let Some(weights) = &adapter.weights else { return true };
            // Here, and in its line; uses of the line and requests have further ones.
            if weights.own.adapter.holders() > 2 || Arc::strong_count(&weights.line) > 1 {
                return false;
            }
            slot.takes.weights = slot.takes.weights.saturating_sub(weights.own.bytes);
            slot.adapters.remove(name);
            true
        });
        if gone != Some(false) {
            tracing::info!(model = inner.name(index), adapter = name, "unloaded an adapter");
            return;
        }
        sleep(DRAIN_POLL).await;
    }
}
