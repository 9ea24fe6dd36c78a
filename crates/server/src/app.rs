//! What every handler shares, and the routes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post, put};
use economics::books::Books;
use economics::directory::record::Scope;
use history::History;
use metering::Meter;
use service::{Charging, Lease, ModelPool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use traces::Traces;

use crate::auth::{Caller, Gate};
use crate::claim::Claim;
use crate::config::Limits;
use crate::error::ApiError;
use crate::idempotency::Answers;
use crate::live::Live;
use crate::serve::Plant;
use crate::session::Sessions;
use crate::{ServerConfig, access, auth, console, routes};

/// Most exports, backups and verifications of the ledger at one time.
const LEDGER_WALKS: usize = 1;

/// Most reports and acts of administration at one time: each takes a thread, and they share one reader of the ledger.
const BOOKS_TURNS: usize = 8;
/// Most units that are assigned to arms at one time: a request waits for it before it is admitted, so not behind reports.
const ASSIGNMENTS: usize = 64;
/// Most readings of the traces at one time.
const TRACE_TURNS: usize = 4;
/// Most readings of the history at one time: they share one connection.
const HISTORY_TURNS: usize = 2;
/// How long one waits for its turn.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// What pages of other origins may read of an answer's head.
const EXPOSED: [&str; 11] = [
    "etag",
    "x-request-id",
    "idempotent-replayed",
    "retry-after",
    "x-should-retry",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
];

/// State shared by all handlers.
pub(crate) struct App {
    pub(crate) pool: Arc<dyn ModelPool>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) limits: Limits,
    pub(crate) gate: Gate,
    pub(crate) books: Option<Arc<Books>>,
    /// Keeps what the plant uses and costs.
    pub(crate) charging: Option<Arc<Charging>>,
    /// Keep the last requests.
    pub(crate) traces: Option<Arc<Traces>>,
    /// Readings of them at one time.
    pub(crate) trace_turns: Arc<Semaphore>,
    /// Keeps what the plant did minute by minute.
    pub(crate) history: Option<Arc<History>>,
    /// Readings of it at one time.
    pub(crate) history_turns: Arc<Semaphore>,
    /// Whether the console is served.
    pub(crate) console: bool,
    /// The plant as it is watched.
    pub(crate) live: Live,
    /// Of the console.
    pub(crate) sessions: Sessions,
    /// The link that makes the first admin key.
    pub(crate) claim: Claim,
    /// Exports, backups and verifications at one time.
    pub(crate) ledger_walks: Arc<Semaphore>,
    /// Reports and acts of administration at one time.
    pub(crate) books_turns: Arc<Semaphore>,
    /// Units that are assigned to arms at one time.
    pub(crate) assignments: Arc<Semaphore>,
    /// `None`: where no model is served.
    pub(crate) answers: Option<Arc<Answers>>,
    /// Who is paid, on invoices.
    pub(crate) seller: String,
    requests: Arc<Semaphore>,
    /// Bytes of bodies that may still be taken.
    pub(crate) body_budget: Semaphore,
    draining: AtomicBool,
    /// Turns true when connections should end after the request they are at, and streams at once.
    pub(crate) ending: watch::Sender<bool>,
}

/// The right to work on one request; held until its last byte was handed over, and until its answer is kept.
#[derive(Clone)]
pub(crate) struct Ticket {
    #[expect(dead_code, reason = "held for its drop")]
    permit: Arc<OwnedSemaphorePermit>,
    /// Turns true when the drain's time is over.
    ending: watch::Receiver<bool>,
}

impl Ticket {
    /// Completes when the drain's time is over.
    pub(crate) async fn ended(&mut self) {
        // Fails when the server is gone, which is an end too.
        let _ = self.ending.wait_for(|ending| *ending).await;
    }

    /// Whether the drain's time is over.
    pub(crate) fn has_ended(&self) -> bool {
        *self.ending.borrow()
    }
}

impl App {
    pub(crate) fn new(config: &ServerConfig, plant: Plant, answers: Option<Arc<Answers>>) -> Arc<Self> {
        let Plant { pool, meter, books, charging, answers: _, traces, history } = plant;
        let limits = config.limits.clone();
        Arc::new(Self {
            pool,
            meter,
            gate: Gate::new(config, books.clone()),
            books,
            charging,
            traces,
            trace_turns: Arc::new(Semaphore::new(TRACE_TURNS)),
            history,
            history_turns: Arc::new(Semaphore::new(HISTORY_TURNS)),
            console: config.console && console::is_built(),
            live: Live::default(),
            sessions: Sessions::new(config.port, config.tls.is_some()),
            claim: Claim::default(),
            ledger_walks: Arc::new(Semaphore::new(LEDGER_WALKS)),
            books_turns: Arc::new(Semaphore::new(BOOKS_TURNS)),
            assignments: Arc::new(Semaphore::new(ASSIGNMENTS)),
            answers,
            seller: config.seller.clone(),
            requests: Arc::new(Semaphore::new(limits.max_requests as usize)),
            body_budget: Semaphore::new(limits.max_bodies_bytes.min(Semaphore::MAX_PERMITS)),
            draining: AtomicBool::new(false),
            ending: watch::Sender::new(false),
            limits,
        })
    }

    /// The line a client names; its model is loaded first if need be.
    pub(crate) async fn line(&self, name: &str) -> Result<Lease, ApiError> {
        Ok(self.pool.line(name).await?)
    }

    /// Lets one more request work, if there is room and the server does not drain.
    pub(crate) fn admit(&self) -> Result<Ticket, ApiError> {
        if self.draining() {
            return Err(ApiError::shutting_down());
        }
        let permit = Arc::clone(&self.requests).try_acquire_owned().map_err(|_full| {
            let most = self.limits.max_requests;
            ApiError::unavailable(format!("{most} requests are under way already; try again"), "overloaded")
        })?;
        // Asked again after the permit was taken, so that a drain sees every request that was let in.
        if self.draining() {
            return Err(ApiError::shutting_down());
        }
        Ok(Ticket { permit: Arc::new(permit), ending: self.ending.subscribe() })
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Refuses new requests from now on.
    pub(crate) fn close(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.pool.close();
    }

    /// Waits until no request is under way.
    pub(crate) async fn idle(&self) {
        // Fails only when the semaphore is closed, which never happens.
        let _ = self.requests.acquire_many(self.limits.max_requests).await;
    }

    /// The books; 403 without any.
    pub(crate) fn books(&self) -> Result<Arc<Books>, ApiError> {
        self.books.clone().ok_or_else(|| ApiError::forbidden("this server keeps no books", "no_books"))
    }

    /// Whether some key administers the plant, of the configuration or of the books.
    pub(crate) fn has_administrator(&self) -> bool {
        let in_books = |books: &Arc<Books>| books.directory().has_plant_key(unix_ms());
        !self.gate.keyless() || self.books.as_ref().is_some_and(in_books)
    }

    /// Who may watch the plant: who administers it, and this machine as long as nobody does.
    pub(crate) fn may_watch(&self, caller: &Caller) -> bool {
        match &caller.identity {
            Some(identity) if identity.scopes.contains(&Scope::Plant) => true,
            Some(identity) => identity.key.is_none() && !self.has_administrator(),
            // Without books there are only the keys of the configuration.
            None => true,
        }
    }

    /// How many requests are under way.
    pub(crate) fn under_way(&self) -> usize {
        (self.limits.max_requests as usize).saturating_sub(self.requests.available_permits())
    }
}

/// Runs what waits for the books, off the runtime's threads and in its turn.
pub(crate) async fn in_turn<T: Send + 'static>(
    turns: Arc<Semaphore>,
    act: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let Ok(Ok(turn)) = timeout(TURN_WAIT, turns.acquire_owned()).await else {
        return Err(ApiError::unavailable("too many reports are under way; try again", "overloaded"));
    };
    let done = tokio::task::spawn_blocking(move || {
        let result = act();
        drop(turn);
        result
    });
    done.await.map_err(|error| ApiError::internal(format!("the books gave no answer: {error}")))?
}

/// A fresh id such as `chatcmpl-…`: 48 bits of time, so that ids sort by it, and 80 random ones. Unguessable enough for
/// logs; it protects nothing.
pub(crate) fn new_id(prefix: &str) -> String {
    let random = || RandomState::new().build_hasher().finish();
    let ms = unix_ms() & 0xffff_ffff_ffff;
    format!("{prefix}{ms:012x}{:04x}{:016x}", random() & 0xffff, random())
}

/// Milliseconds since the epoch.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Unix seconds.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Administration.
fn admin() -> Router<Arc<App>> {
    use routes::admin::{
        alerts, audit, calibration, comparison, entries, experiments, history, keys, ledger, live, models, money, plan,
        records, report, requests, settings, statement, tfp_index,
    };
    Router::new()
        .route("/alerts", get(alerts::list))
        .route("/webhook/test", post(alerts::test))
        .route("/audit", get(audit::audit))
        .route("/live", get(live::stream))
        .route("/live/snapshot", get(live::snapshot))
        .route("/live/recent", get(live::recent))
        .route("/history", get(history::history))
        .route("/report", get(report::report))
        .route("/statement", get(statement::statement))
        .route("/comparison", get(comparison::comparison))
        .route("/plan", post(plan::plan))
        .route("/settings", get(settings::settings))
        .route("/calibration", get(calibration::calibration))
        .route("/tfp", get(routes::tfp::tfp))
        .route("/tfp-index", get(tfp_index::tfp_index))
        .route("/retention", get(routes::retention::retention))
        .route("/ledger/entries", get(entries::entries))
        .route("/ledger/accounts", get(entries::accounts))
        .route("/verify", get(ledger::verify))
        .route("/export", get(ledger::export))
        .route("/backup", post(ledger::backup))
        .route("/payments", post(money::pay))
        .route("/credits", post(money::credit))
        .route("/organisations/{id}/standing", get(money::standing))
        .route("/requests", get(requests::list))
        .route("/requests/{id}", get(requests::one))
        .route("/requests/{id}/content", delete(requests::delete_content))
        .route("/projects/{id}/content", delete(requests::delete_project_content))
        .route("/keys", get(records::keys).post(keys::create).put(keys::put))
        .route("/keys/{id}", get(records::key).delete(keys::revoke))
        .route("/keys/{id}/rotate", post(keys::rotate))
        .route("/experiments/{id}/results", get(routes::experiments::results))
        .route("/experiments/{id}/stop", post(experiments::stop))
        .route("/models", get(models::list))
        .route("/models/{name}/load", post(models::load))
        .route("/models/{name}/unload", post(models::unload))
        .route("/models/{name}/pin", put(models::pin))
        .route("/models/{name}/adapters", get(models::adapters).post(models::load_adapter))
        .route("/models/{name}/adapters/{adapter}", delete(models::unload_adapter))
        .route("/{kind}", get(records::list).put(records::put))
        .route("/{kind}/{*id}", get(records::one))
}

/// All routes with their layers; the last layer added is the outermost. The console's files need no key.
pub(crate) fn router(app: Arc<App>, cors_origins: &[String]) -> Router {
    let mut router = Router::new()
        .route("/v1/chat/completions", post(routes::chat::create))
        .route("/v1/completions", post(routes::completions::create))
        .route("/v1/next-token", post(routes::next_token::create))
        .route("/v1/models", get(routes::models::list))
        .route("/v1/models/{*id}", get(routes::models::one))
        .merge(routes::billing::routes())
        .route("/v1/costs", get(routes::admin::costs::costs))
        .route("/v1/costs/{id}", get(routes::admin::costs::cost))
        .route("/v1/margins", get(routes::admin::costs::margins))
        .route("/v1/feedback", post(routes::outcomes::feedback))
        .route("/v1/outcomes", post(routes::outcomes::create).get(routes::outcomes::list))
        .route("/v1/experiments", get(routes::experiments::list))
        .route("/v1/experiments/{id}", get(routes::experiments::results))
        .route("/v1/experiments/{id}/assignments", post(routes::experiments::assign))
        .route("/v1/tfp", get(routes::tfp::tfp))
        .route("/v1/retention", get(routes::retention::retention))
        .route("/v1/session", get(routes::session::show).post(routes::session::begin).delete(routes::session::end))
        .nest("/admin/v1", admin())
        .route("/admin/claim/{token}", get(routes::claim::page).post(routes::claim::take))
        .route("/tokenize", post(routes::tokenize::tokenize))
        .route("/detokenize", post(routes::tokenize::detokenize))
        .route("/health", get(routes::state::health))
        .route("/ready", get(routes::state::ready))
        .route("/metrics", get(routes::state::metrics))
        .route("/openapi.json", get(routes::state::openapi))
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::method_not_allowed)
        .layer(CatchPanicLayer::custom(routes::panicked))
        .layer(from_fn_with_state(Arc::clone(&app), auth::check));
    if !cors_origins.is_empty() {
        let origins = cors_origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
        router = router.layer(
            CorsLayer::new()
                .allow_origin(AllowOrigin::list(origins))
                .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
                .allow_headers(AllowHeaders::mirror_request())
                .expose_headers(EXPOSED.map(HeaderName::from_static)),
        );
    }
    if app.console {
        router = router.merge(console::routes());
    }
    router.layer(from_fn(access::log)).with_state(app)
}
