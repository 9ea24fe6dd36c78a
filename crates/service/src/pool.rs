//! The models of a plant: those in memory, and those that are loaded when they are asked for.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::{BoxFuture, Line};

/// Where a model of a plant is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelState {
    /// Offered, not in memory.
    Unloaded,
    /// On its way into memory.
    Loading,
    /// It takes requests.
    Loaded,
    /// Those it has accepted go on; then it leaves memory.
    Draining,
    /// The last attempt to load it failed.
    Failed {
        /// Why, for the operator.
        reason: String,
    },
}

impl ModelState {
    /// As one word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Draining => "draining",
            Self::Failed { .. } => "failed",
        }
    }
}

/// An adapter of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterStatus {
    /// Its own name; clients ask for it as `MODEL:NAME`.
    pub name: String,
    /// Where it is. It is `Unloaded` while its model is.
    pub state: ModelState,
    /// Bytes that its weights take.
    pub bytes: u64,
    /// Unix seconds when it was loaded; `None`: it is not.
    pub created: Option<u64>,
}

/// How far the fetch of a model's file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetching {
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes that are to come in all; `None`: not known yet.
    pub total: Option<u64>,
}

/// A model of a plant, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStatus {
    /// The name clients use.
    pub id: String,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// Unix seconds when it was loaded, or first offered.
    pub created: u64,
    /// Most tokens of prompt and answer together; `None`: not known before it is loaded.
    pub context_len: Option<usize>,
    /// Where it is.
    pub state: ModelState,
    /// Loading it begins with fetching its file, which was not on this machine when that was last looked for.
    pub must_fetch: bool,
    /// How far that has come, while it lasts.
    pub fetching: Option<Fetching>,
    /// It is never unloaded by itself.
    pub pinned: bool,
    /// Bytes that its weights take, a draft model's included.
    pub weight_bytes: u64,
    /// Bytes that its KV cache takes, a draft model's included.
    pub kv_bytes: u64,
    /// Requests that compute.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// How long it has had no request; `None` while it has one, or is not loaded.
    pub idle: Option<Duration>,
    /// Its adapters, by name.
    pub adapters: Vec<AdapterStatus>,
}

/// What a model that is to be loaded waits for: models come and go one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The other model, or an adapter as `MODEL:NAME`.
    pub model: String,
    /// Where it is: on its way into memory or out of it.
    pub state: ModelState,
}

/// Why a model cannot be used, loaded or unloaded now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// No model is offered under this name.
    #[error("no model is called `{name}` here")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The model is there, but has no adapter of this name.
    #[error("the model `{model}` has no adapter `{adapter}`; {}", listed(.known))]
    UnknownAdapter {
        /// The model.
        model: String,
        /// The adapter.
        adapter: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// What was given for an adapter cannot be one: its name, or its place.
    #[error("{message}")]
    InvalidAdapter {
        /// `name` or `path`.
        field: &'static str,
        /// What is wrong, and the fix.
        message: String,
    },
    /// It does not fit beside those that have to stay; the message shows the arithmetic.
    #[error("{message}")]
    NoRoom {
        /// What it needs, who has the memory, and the limit.
        message: String,
    },
    /// It is not loaded yet.
    #[error("the model `{model}` {}; try again", waits(.behind.as_ref()))]
    Loading {
        /// Its name.
        model: String,
        /// What is loaded or unloaded before it.
        behind: Option<Behind>,
    },
    /// As many requests as may wait for a model already do.
    #[error("{waiting} requests wait for models to be loaded; try again")]
    Full {
        /// How many wait.
        waiting: usize,
    },
    /// It could not be loaded. The reason may name files: it is for the operator.
    #[error("the model `{model}` could not be loaded; its operator can see why")]
    Failed {
        /// Its name.
        model: String,
        /// Why.
        reason: String,
    },
    /// Models come and go here by no command.
    #[error("the models of this process are fixed")]
    Fixed,
    /// The plant is shutting down.
    #[error("the plant is shutting down")]
    Closed,
}

/// What is becoming of a model that is not loaded.
fn waits(behind: Option<&Behind>) -> String {
    match behind {
        None => "is being loaded".to_owned(),
        Some(Behind { model, state }) => format!("is not loaded yet: `{model}` is {} before it", state.name()),
    }
}

/// The names of adapters, for a message.
fn listed(names: &[String]) -> String {
    match names {
        [] => "it has none".to_owned(),
        names => format!("it has: {}", names.join(", ")),
    }
}

/// A line in use. Its model is not unloaded by itself while this is held, and unloading by command waits for it.
#[derive(Clone)]
pub struct Lease {
    line: Arc<dyn Line>,
    _uses: Arc<()>,
}

impl Lease {
    /// A use of `line`; `uses` is shared by all uses of it, so that they can be counted.
    #[must_use]
    pub fn new(line: Arc<dyn Line>, uses: Arc<()>) -> Self {
        Self { line, _uses: uses }
    }
}

impl Deref for Lease {
    type Target = dyn Line;

    fn deref(&self) -> &Self::Target {
        self.line.as_ref()
    }
}

/// The models of a plant.
pub trait ModelPool: Send + Sync {
    /// All that are offered, in the order in which they are listed.
    fn models(&self) -> Vec<ModelStatus>;

    /// Bytes that all of them may take together; `None`: nothing bounds them.
    fn memory(&self) -> Option<u64>;

    /// The lines in memory, those that drain included.
    fn lines(&self) -> Vec<Arc<dyn Line>>;

    /// The line that is called so, by its own name or another; loads it first if it is not in memory. Waits a bounded
    /// time.
    ///
    /// # Errors
    /// See [`PoolError`].
    fn line<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Lease, PoolError>>;

    /// Loads a model, or goes on when it is loaded already. After a bounded wait the load goes on by itself.
    ///
    /// # Errors
    /// See [`PoolError`].
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<ModelStatus, PoolError>>;

    /// Unloads a model: it takes no new requests, those accepted have a bounded time to end. After a bounded wait that goes
    /// on by itself.
    ///
    /// # Errors
    /// See [`PoolError`].
    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<ModelStatus, PoolError>>;

    /// Loads an adapter of a model from a folder or file of this machine, or goes on when one of this name is loaded from
    /// there already. While the model is not loaded, the adapter is noted, and loaded with it.
    ///
    /// # Errors
    /// See [`PoolError`].
    fn load_adapter<'a>(
        &'a self,
        model: &'a str,
        adapter: &'a str,
        path: &'a Path,
    ) -> BoxFuture<'a, Result<ModelStatus, PoolError>>;

    /// Unloads an adapter: it takes no new requests, those accepted go on to their end, and until then it is there. After a
    /// bounded wait that goes on by itself.
    ///
    /// # Errors
    /// See [`PoolError`].
    fn unload_adapter<'a>(&'a self, model: &'a str, adapter: &'a str) -> BoxFuture<'a, Result<ModelStatus, PoolError>>;

    /// Says whether a model may be unloaded by itself.
    ///
    /// # Errors
    /// See [`PoolError`].
    fn pin(&self, name: &str, pinned: bool) -> Result<ModelStatus, PoolError>;

    /// A model that should take requests and does not, or why none is taken; `None`: all is well.
    fn not_ready(&self) -> Option<String>;

    /// Refuses new requests and loads nothing more; requests accepted go on.
    fn close(&self);
}

/// Models that are all in memory, for good.
pub struct FixedPool {
    lines: Vec<Arc<dyn Line>>,
    by_name: HashMap<String, usize>,
}

impl FixedPool {
    /// A pool of these lines. Names go before aliases, and the first line that claims one keeps it.
    #[must_use]
    pub fn new(lines: Vec<Arc<dyn Line>>) -> Self {
        let mut by_name = HashMap::new();
        for (index, line) in lines.iter().enumerate() {
            by_name.entry(line.card().id.clone()).or_insert(index);
        }
        for (index, line) in lines.iter().enumerate() {
            for alias in &line.card().aliases {
                by_name.entry(alias.clone()).or_insert(index);
            }
        }
        Self { lines, by_name }
    }

    fn find(&self, name: &str) -> Result<&Arc<dyn Line>, PoolError> {
        let line = self.by_name.get(name).and_then(|index| self.lines.get(*index));
        line.ok_or_else(|| PoolError::Unknown { name: name.to_owned() })
    }
}

impl ModelPool for FixedPool {
    fn models(&self) -> Vec<ModelStatus> {
        let status = |line: &Arc<dyn Line>| {
            let (card, gauges) = (line.card(), line.status().gauges);
            ModelStatus {
                id: card.id.clone(),
                aliases: card.aliases.clone(),
                created: card.created,
                context_len: Some(card.context_len),
                state: ModelState::Loaded,
                must_fetch: false,
                fetching: None,
                pinned: true,
                weight_bytes: 0,
                kv_bytes: 0,
                running: gauges.running,
                waiting: gauges.waiting,
                idle: None,
                adapters: Vec::new(),
            }
        };
        self.lines.iter().map(status).collect()
    }

    fn memory(&self) -> Option<u64> {
        None
    }

    fn lines(&self) -> Vec<Arc<dyn Line>> {
        self.lines.clone()
    }

    fn line<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Lease, PoolError>> {
        let line = self.find(name).map(|line| Lease::new(Arc::clone(line), Arc::default()));
        Box::pin(std::future::ready(line))
    }

    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<ModelStatus, PoolError>> {
        Box::pin(std::future::ready(self.find(name).and(Err(PoolError::Fixed))))
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<ModelStatus, PoolError>> {
        self.load(name)
    }

    fn load_adapter<'a>(
        &'a self,
        model: &'a str,
        _adapter: &'a str,
        _path: &'a Path,
    ) -> BoxFuture<'a, Result<ModelStatus, PoolError>> {
        self.load(model)
    }

    fn unload_adapter<'a>(
        &'a self,
        model: &'a str,
        _adapter: &'a str,
    ) -> BoxFuture<'a, Result<ModelStatus, PoolError>> {
        self.load(model)
    }

    fn pin(&self, name: &str, _pinned: bool) -> Result<ModelStatus, PoolError> {
        self.find(name).and(Err(PoolError::Fixed))
    }

    fn not_ready(&self) -> Option<String> {
        let closed = self.lines.iter().find(|line| !line.status().ready);
        closed.map(|line| format!("`{}` takes no requests", line.card().id))
    }

    fn close(&self) {
        for line in &self.lines {
            line.close();
        }
    }
}
