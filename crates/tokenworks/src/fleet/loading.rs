//! Models into memory and out of it: each of these waits for its turn, and then does one thing after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::ModelConfig;
use service::{Line, ModelState, PoolError};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::policy::{Resident, make_room};
use super::{Inner, Outcome, Running, adapters};
use crate::assembly::{self, Drafts, Production, Wiring};
use crate::catalogue::Builtin;
use crate::commands::Context;
use crate::commands::pull::consent;
use crate::config::LoadTime;
use crate::draft_model::{self, DraftFile};
use crate::error::{Error, Result};
use crate::memory::{KvDemand, KvRoom, Need};
use crate::progress::Watch;

/// How often is looked whether the last use of a draining line has ended.
const LEASE_POLL: Duration = Duration::from_millis(10);

/// What the files of a model say before it is loaded.
#[derive(Debug)]
struct Look {
    /// Bytes of its files, those of its draft model and of its adapters among them: about as many as their weights.
    weights: u64,
    /// The part that its adapters have of these.
    adapters: u64,
    /// Of its own cache.
    demand: KvDemand,
    /// Bytes of a block of its draft model.
    draft_block: u64,
}

/// The memory that a model gets before it is loaded.
#[derive(Clone, Copy, Debug)]
struct Portion {
    /// What it and its draft model need: weights and caches.
    need: Need,
    /// The part of that which is for its own cache.
    set_aside: u64,
    /// The part that its adapters need.
    adapters: u64,
}

impl Look {
    /// What it gets when all models that are to be there at once have weights of `all` bytes.
    fn portion(&self, inner: &Inner, all: u64) -> Portion {
        let room = inner.limit.map(|limit| limit.saturating_sub(all));
        let set_aside = self.demand.set_aside(room, inner.offers.len() as u64);
        let draft_kv = (set_aside / self.demand.block_bytes.max(1)).saturating_mul(self.draft_block);
        let need = Need { weights: self.weights, kv: set_aside.saturating_add(draft_kv) };
        Portion { need, set_aside, adapters: self.adapters }
    }
}

/// Why a model was not loaded.
enum Trouble {
    /// It does not fit now.
    NoRoom(Error),
    /// Something is wrong with it.
    Broken(Error),
}

/// Loads those that are to be there at the start. They must fit together before any is loaded.
pub(super) async fn start(inner: &Arc<Inner>) -> Result<()> {
    let _turn = inner.turn.lock().await;
    let (mut looks, mut problems): (Vec<(usize, Look)>, _) = (Vec::new(), Vec::new());
    for index in offered(inner, LoadTime::Start) {
        match off_thread(inner, move |inner| look(inner, index, true)).await {
            Ok(look) => looks.push((index, look)),
            Err(problem) => problems.push(problem),
        }
    }
    inner.works.context.output.all(problems)?;
    let all = looks.iter().fold(0_u64, |sum, (_, look)| sum.saturating_add(look.weights));
    let portions: Vec<_> = looks.iter().map(|(index, look)| (*index, look.portion(inner, all))).collect();
    for (index, portion) in &portions {
        let residents = inner.residents(&inner.slots(), *index);
        make_room(inner.limit, (&inner.name(*index), portion.need), &residents)?;
        set_aside(inner, *index, portion);
    }
    for index in offered(inner, LoadTime::Demand) {
        look_ahead(inner, index).await;
    }
    for (index, portion) in portions {
        make(inner, index, portion, true).await?;
    }
    Ok(())
}

/// The offers that are loaded at that time.
fn offered(inner: &Inner, load: LoadTime) -> Vec<usize> {
    let offers = inner.offers.iter().enumerate().filter(|(_, offer)| offer.load == load);
    offers.map(|(index, _)| index).collect()
}

/// Reads what an offer is, if its file is here. What is wrong with it is told now, and again when it is asked for.
async fn look_ahead(inner: &Arc<Inner>, index: usize) {
    let source = inner.offers.get(index).map(|offer| offer.model.source.clone());
    if source.is_none_or(|source| inner.works.context.catalogue().find(&source).is_none()) {
        return;
    }
    let found = off_thread(inner, move |inner| look(inner, index, false)).await;
    let fits = found.and_then(|look| {
        let portion = look.portion(inner, look.weights);
        let context_len = look.demand.sure_context_len(portion.set_aside).and_then(|len| usize::try_from(len).ok());
        inner.with(index, |slot| slot.context_len = context_len);
        make_room(inner.limit, (&inner.name(index), portion.need), &[])
    });
    if let Err(error) = fits {
        tracing::warn!(model = inner.name(index), "it will not be loaded when it is asked for: {error}");
    }
}

/// Loads a model in its turn, if it is not loaded by then; idle ones leave for it.
pub(super) async fn load(inner: &Arc<Inner>, index: usize) -> Outcome {
    let _turn = inner.turn.lock().await;
    if inner.closed() {
        return Err(PoolError::Closed);
    }
    if inner.with(index, |slot| slot.state == ModelState::Loaded) == Some(true) {
        return Ok(());
    }
    inner.with(index, |slot| slot.state = ModelState::Loading);
    let started = Instant::now();
    match load_in_turn(inner, index).await {
        Ok(()) => {
            let seconds = started.elapsed().as_secs_f64();
            tracing::info!(model = inner.name(index), seconds, "loaded");
            Ok(())
        }
        Err(trouble) => Err(give_up(inner, index, trouble)),
    }
}

async fn load_in_turn(inner: &Arc<Inner>, index: usize) -> Result<(), Trouble> {
    let look = off_thread(inner, move |inner| look(inner, index, false)).await.map_err(Trouble::Broken)?;
    let portion = look.portion(inner, look.weights);
    while let Some(leaving) = next_to_leave(inner, index, &portion).map_err(Trouble::NoRoom)? {
        drain(inner, leaving).await;
    }
    make(inner, index, portion, false).await.map_err(Trouble::Broken)
}

/// Sets the memory of a model aside, or marks the next of those that leave for it as draining and gives it.
fn next_to_leave(inner: &Inner, index: usize, portion: &Portion) -> Result<Option<usize>> {
    let name = inner.name(index);
    let mut slots = inner.slots();
    let residents = inner.residents(&slots, index);
    let leaving = make_room(inner.limit, (&name, portion.need), &residents)?.into_iter().next();
    let leaving = leaving.and_then(|leaving| inner.offers.iter().position(|offer| offer.model.name == leaving));
    match leaving {
        Some(leaving) => {
            if let Some(slot) = slots.get_mut(leaving) {
                slot.state = ModelState::Draining;
            }
        }
        None => {
            if let Some(slot) = slots.get_mut(index) {
                slot.takes = portion.need;
            }
        }
    }
    Ok(leaving)
}

fn set_aside(inner: &Inner, index: usize, portion: &Portion) {
    inner.with(index, |slot| {
        slot.state = ModelState::Loading;
        slot.takes = portion.need;
    });
}

/// Takes a model into memory, whose part is set aside. On an error nothing of it stays.
async fn make(inner: &Arc<Inner>, index: usize, portion: Portion, asks: bool) -> Result<()> {
    let residents = inner.residents(&inner.slots(), index);
    let others = residents.iter().fold(0_u64, |sum, other: &Resident| sum.saturating_add(other.takes.total()));
    let most = inner.limit.map(|limit| limit.saturating_sub(others).saturating_sub(portion.adapters));
    let made = off_thread(inner, move |inner| produce(inner, index, (most, portion.set_aside), asks)).await;
    let Production { line, engine, model, facts } = match made {
        Ok(production) => production,
        Err(error) => {
            inner.with(index, |slot| slot.takes = Need::default());
            return Err(error);
        }
    };
    let open = Arc::clone(&line);
    let adapted = (Arc::clone(&line), Arc::clone(&model));
    let adapter_bytes = match off_thread(inner, move |inner| adapters::load_all(inner, index, &adapted, asks)).await {
        Ok(bytes) => bytes,
        Err(error) => {
            inner.with(index, |slot| {
                slot.takes = Need::default();
                adapters::forget_weights(slot);
            });
            return Err(error);
        }
    };
    inner.with(index, |slot| {
        slot.state = ModelState::Loaded;
        slot.takes = facts.takes();
        slot.takes.weights = slot.takes.weights.saturating_add(adapter_bytes);
        slot.context_len = Some(facts.context_len);
        slot.used = Instant::now();
        slot.failed = None;
        slot.running = Some(Running { line, engine, model, uses: Arc::default(), facts });
    });
    if inner.closed() {
        open.close();
    }
    Ok(())
}

/// Loads and starts a model that may take `most` bytes, of which `set_aside` are sure to be for its cache.
fn produce(inner: &Inner, index: usize, (most, set_aside): (Option<u64>, u64), asks: bool) -> Result<Production> {
    let works = &inner.works;
    let offer = inner.offers.get(index).ok_or_else(|| Error::failure("there is no such model"))?;
    let consent = |builtin: &Builtin| consents(inner, builtin, asks);
    let loaded = assembly::load(&works.context, &offer.model, &works.threads, &consent, Drafts::Loaded)?;
    let most = most.map(|most| most.saturating_sub(loaded.weight_bytes()));
    let plant = Wiring { charging: &works.charging, duty: &works.duty, traces: works.traces.as_ref() };
    loaded.start(&works.context, &works.meter, Some(plant), KvRoom { most, set_aside })
}

/// What the files of a model say; they are fetched first where they are not here.
fn look(inner: &Inner, index: usize, asks: bool) -> Result<Look> {
    // One of its own for each attempt: what is left of an earlier fetch tells nobody.
    let watch = Watch::default();
    inner.with(index, |slot| slot.fetch = watch.clone());
    let context = &Context { watch: Some(watch), ..inner.works.context.clone() };
    let offer = inner.offers.get(index).ok_or_else(|| Error::failure("there is no such model"))?;
    let name = offer.model.name.as_str();
    let own = context.settings.models.get(name).cloned().unwrap_or_default();
    let consent = |builtin: &Builtin| consents(inner, builtin, asks);
    let gguf = assembly::open(context, &offer.model, &consent)?;
    inner.with(index, |slot| slot.must_fetch = false);
    let config = ModelConfig::from_gguf(&gguf).map_err(|e| assembly::file_error(gguf.path(), &e))?;
    let draft = match draft_model::reference(context, &offer.model, &own)? {
        Some(draft) => Some(DraftFile::open(context, name, &draft, &consent)?),
        None => None,
    };
    let draft_bytes = draft.as_ref().map_or(0, |draft| draft.gguf.file_len());
    let adapters = adapters::file_bytes(inner, index);
    let weights = gguf.file_len().saturating_add(draft_bytes).saturating_add(adapters);
    // Whether it fits is asked with all others.
    let demand = KvDemand { available: None, ..KvDemand::of(name, &config, &own, &context.settings.engine)? };
    demand.budget()?;
    let draft_block = draft.as_ref().and_then(|draft| draft.config.kv_block_bytes(demand.kv_type)).unwrap_or(0) as u64;
    Ok(Look { weights, adapters, demand, draft_block })
}

/// Whether the terms of a model are accepted; only at the start is there a person to be asked.
fn consents(inner: &Inner, builtin: &Builtin, asks: bool) -> Result<bool> {
    let accepted = inner.works.accept_license;
    if asks { consent(&inner.works.context, builtin, accepted) } else { Ok(accepted) }
}

/// Notes why a model is not loaded.
fn give_up(inner: &Inner, index: usize, trouble: Trouble) -> PoolError {
    let model = inner.name(index);
    let (state, failed, told) = match trouble {
        Trouble::NoRoom(error) => {
            tracing::warn!("{error}");
            (ModelState::Unloaded, None, PoolError::NoRoom { message: error.to_string() })
        }
        Trouble::Broken(error) => {
            let reason = error.to_string();
            tracing::error!(model, "it could not be loaded: {reason}");
            let state = ModelState::Failed { reason: reason.clone() };
            (state, Some(Instant::now()), PoolError::Failed { model, reason })
        }
    };
    inner.with(index, |slot| {
        slot.state = state;
        slot.failed = failed;
    });
    told
}

/// Unloads a model in its turn: by command (`idle` is `None`), or if it has had no request for so long.
pub(super) async fn unload(inner: &Arc<Inner>, index: usize, idle: Option<Duration>) {
    let _turn = inner.turn.lock().await;
    let leaves = inner.with(index, |slot| {
        let long_idle = |limit: Duration| !slot.pinned && slot.idle().is_some_and(|since| since >= limit);
        let may = idle.is_none_or(long_idle);
        match slot.state {
            ModelState::Loaded if may => {
                slot.state = ModelState::Draining;
                true
            }
            ModelState::Failed { .. } if may => {
                slot.state = ModelState::Unloaded;
                false
            }
            _ => false,
        }
    });
    if leaves == Some(true) {
        drain(inner, index).await;
    }
}

/// Takes a model that is marked as draining out of memory, once its requests have ended or the drain's time is over.
async fn drain(inner: &Arc<Inner>, index: usize) {
    let deadline = Instant::now() + inner.works.context.settings.server.drain;
    let name = inner.name(index);
    tracing::info!(model = name, "unloading");
    // Requests that have got the line are still to be accepted by it.
    while inner.with(index, |slot| slot.running.as_ref().is_some_and(Running::leased)) == Some(true)
        && Instant::now() < deadline
    {
        sleep(LEASE_POLL).await;
    }
    let engine = inner.with(index, |slot| {
        let running = slot.running.as_ref()?;
        running.line.close();
        Some(Arc::clone(&running.engine))
    });
    if let Some(engine) = engine.flatten() {
        // With its thread the engine's runner goes, and the weights and the cache with it.
        let ended = spawn_blocking(move || engine.shutdown(deadline)).await;
        if let Err(error) = ended {
            tracing::error!(model = name, %error, "its engine did not end well");
        }
    }
    let running = inner.with(index, |slot| {
        slot.state = ModelState::Unloaded;
        slot.takes = Need::default();
        adapters::forget_weights(slot);
        slot.running.take()
    });
    // Not under the lock: the process that renders its chats ends with it.
    drop(running);
    tracing::info!(model = name, "unloaded");
}

/// Work that takes long, off the runtime's threads.
pub(super) async fn off_thread<T: Send + 'static>(
    inner: &Arc<Inner>,
    work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
) -> Result<T> {
    let inner = Arc::clone(inner);
    let done = spawn_blocking(move || work(&inner)).await;
    done.map_err(|e| Error::failure("loading broke off").because(e))?
}
