//! `/admin/v1/models`: which models are in memory, and the commands that load, unload and pin them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Request, State};
use serde::Serialize;
use serde_json::{Value, json};
use service::{AdapterStatus, Fetching, ModelState, ModelStatus, PoolError};
use utoipa::ToSchema;

use super::Admin;
use crate::app::{App, unix_ms};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::fields::missing;
use crate::routes::read;
use crate::segments::Segments;

type Answer = Result<Json<AdministeredModel>, ApiError>;

/// The models offered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdministeredModels {
    /// `list`.
    object: &'static str,
    /// The models.
    data: Vec<AdministeredModel>,
    /// The memory that they share.
    memory: ModelMemory,
}

/// Memory of all models, in bytes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelMemory {
    /// What weights and KV caches take.
    taken: u64,
    /// The most they may take; `null`: no limit is set.
    #[schema(required = true)]
    limit: Option<u64>,
}

/// A model as administrators see it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdministeredModel {
    /// The name clients use.
    name: String,
    /// Other names it answers to.
    aliases: Vec<String>,
    /// `unloaded`, `loading`, `loaded`, `draining` or `failed`.
    state: &'static str,
    /// Why it failed.
    #[schema(required = true)]
    reason: Option<String>,
    /// Loading it begins with fetching its file, which was not on this machine when that was last looked for.
    must_fetch: bool,
    /// How far that has come; `null`: nothing is being fetched.
    #[schema(required = true)]
    fetching: Option<ModelFetch>,
    /// It is never unloaded by itself.
    pinned: bool,
    /// Most tokens of prompt and answer together; `null`: not known before it is loaded.
    #[schema(required = true)]
    context_len: Option<usize>,
    /// Bytes that its weights take, a draft model's included.
    weight_bytes: u64,
    /// Bytes that its KV cache takes, a draft model's included.
    kv_bytes: u64,
    /// Requests that compute.
    running: usize,
    /// Requests that wait.
    waiting: usize,
    /// How long it has had no request; `null` while it has one, or is not loaded.
    #[schema(required = true)]
    idle_seconds: Option<u64>,
    /// Its adapters.
    adapters: Vec<AdministeredAdapter>,
}

/// The fetch of a model's file.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelFetch {
    /// Bytes that are here.
    bytes: u64,
    /// Bytes that are to come in all; `null`: not known yet.
    #[schema(required = true)]
    total: Option<u64>,
}

/// The adapters of a model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdministeredAdapters {
    /// `list`.
    object: &'static str,
    /// The adapters; clients ask for one as `MODEL:NAME`.
    data: Vec<AdministeredAdapter>,
}

/// An adapter as administrators see it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdministeredAdapter {
    /// Its own name.
    name: String,
    /// `unloaded` while the model is, `loaded`, `draining` or `failed`.
    state: &'static str,
    /// Why it failed.
    #[schema(required = true)]
    reason: Option<String>,
    /// Bytes that its weights take.
    weight_bytes: u64,
}

fn shown(model: &ModelStatus) -> AdministeredModel {
    AdministeredModel {
        name: model.id.clone(),
        aliases: model.aliases.clone(),
        state: model.state.name(),
        reason: reason(&model.state),
        must_fetch: model.must_fetch,
        fetching: model.fetching.map(|Fetching { bytes, total }| ModelFetch { bytes, total }),
        pinned: model.pinned,
        context_len: model.context_len,
        weight_bytes: model.weight_bytes,
        kv_bytes: model.kv_bytes,
        running: model.running,
        waiting: model.waiting,
        idle_seconds: model.idle.map(|idle| idle.as_secs()),
        adapters: model.adapters.iter().map(shown_adapter).collect(),
    }
}

fn shown_adapter(adapter: &AdapterStatus) -> AdministeredAdapter {
    AdministeredAdapter {
        name: adapter.name.clone(),
        state: adapter.state.name(),
        reason: reason(&adapter.state),
        weight_bytes: adapter.bytes,
    }
}

/// Why it failed, if it did.
fn reason(state: &ModelState) -> Option<String> {
    match state {
        ModelState::Failed { reason } => Some(reason.clone()),
        _ => None,
    }
}

/// As for clients, with the reason of a failure: it is the operator who asks.
fn told(error: PoolError) -> ApiError {
    match error {
        PoolError::Failed { model, reason } => {
            ApiError::unavailable(format!("the model `{model}` could not be loaded: {reason}"), "model_failed")
        }
        error => error.into(),
    }
}

/// Writes a command on a model into the audit, before it is carried out. Gives the model's own name.
async fn note(app: &App, admin: Admin, name: &str, command: Value) -> Result<String, ApiError> {
    let model = find(app, name)?;
    let id = model.id.clone();
    let write = move |admin: &Admin| Ok(admin.books.note_model(&id, &command, admin.actor(), unix_ms())?);
    admin.run(write).await?;
    Ok(model.id)
}

/// The model that is called so.
fn find(app: &App, name: &str) -> Result<ModelStatus, ApiError> {
    let named = |model: &ModelStatus| model.id == name || model.aliases.iter().any(|alias| alias == name);
    app.pool.models().into_iter().find(named).ok_or_else(|| ApiError::model_not_found(name))
}

/// The models offered, and the memory they share.
#[utoipa::path(
    get,
    path = "/admin/v1/models",
    operation_id = "listAdministeredModels",
    tag = "administration",
    responses(
        (status = 200, body = AdministeredModels, description = "The models"),
        (status = 403, body = protocol::ErrorBody, description = "Not with this key")
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<AdministeredModels>, ApiError> {
    Admin::of_plant(&app, &caller)?;
    let models = app.pool.models();
    let taken: u64 = models.iter().map(|model| model.weight_bytes.saturating_add(model.kv_bytes)).sum();
    let memory = ModelMemory { taken, limit: app.pool.memory() };
    Ok(Json(AdministeredModels { object: "list", data: models.iter().map(shown).collect(), memory }))
}

/// Loads a model; idle ones that are not pinned make room for it.
#[utoipa::path(
    post,
    path = "/admin/v1/models/{name}/load",
    tag = "administration",
    params(("name" = String, Path, description = "The model's name")),
    responses(
        (status = 200, body = AdministeredModel, description = "The model; `state` is `loading` while that takes longer than an answer may"),
        (status = 404, body = protocol::ErrorBody, description = "No such model is offered"),
        (status = 503, body = protocol::ErrorBody, description = "It does not fit into memory (the message shows the arithmetic), or cannot be loaded")
    )
)]
pub(crate) async fn load(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(name): Segments<String>,
) -> Answer {
    let admin = Admin::of_plant(&app, &caller)?;
    let name = note(&app, admin, &name, json!({"command": "load"})).await?;
    let model = app.pool.load(&name).await.map_err(told)?;
    Ok(Json(shown(&model)))
}

/// Unloads a model once its requests have ended or the drain time is over; it is loaded again when it is asked for.
#[utoipa::path(
    post,
    path = "/admin/v1/models/{name}/unload",
    tag = "administration",
    params(("name" = String, Path, description = "The model's name")),
    responses(
        (status = 200, body = AdministeredModel, description = "The model; `state` is `draining` while that takes longer than an answer may"),
        (status = 404, body = protocol::ErrorBody, description = "No such model is offered")
    )
)]
pub(crate) async fn unload(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(name): Segments<String>,
) -> Answer {
    let admin = Admin::of_plant(&app, &caller)?;
    let name = note(&app, admin, &name, json!({"command": "unload"})).await?;
    let model = app.pool.unload(&name).await.map_err(told)?;
    Ok(Json(shown(&model)))
}

/// Says whether a model may be unloaded by itself, until the server ends; `models.NAME.pinned` says it for good.
#[utoipa::path(
    put,
    path = "/admin/v1/models/{name}/pin",
    tag = "administration",
    params(("name" = String, Path, description = "The model's name")),
    request_body(content = Object, example = json!({"pinned": true})),
    responses(
        (status = 200, body = AdministeredModel, description = "The model"),
        (status = 400, body = protocol::ErrorBody, description = "A field is wrong"),
        (status = 404, body = protocol::ErrorBody, description = "No such model is offered")
    )
)]
pub(crate) async fn pin(State(app): State<Arc<App>>, Segments(name): Segments<String>, request: Request) -> Answer {
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let admin = Admin::of_plant(&app, &caller)?;
    let pinned = fields.boolean("pinned")?.ok_or_else(|| missing("pinned", "a boolean"))?;
    fields.finish()?;
    let name = note(&app, admin, &name, json!({"pinned": pinned})).await?;
    let model = app.pool.pin(&name, pinned).map_err(told)?;
    Ok(Json(shown(&model)))
}

/// The adapters of a model.
#[utoipa::path(
    get,
    path = "/admin/v1/models/{name}/adapters",
    tag = "administration",
    params(("name" = String, Path, description = "The model's name")),
    responses(
        (status = 200, body = AdministeredAdapters, description = "The adapters"),
        (status = 404, body = protocol::ErrorBody, description = "No such model is offered")
    )
)]
pub(crate) async fn adapters(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments(name): Segments<String>,
) -> Result<Json<AdministeredAdapters>, ApiError> {
    Admin::of_plant(&app, &caller)?;
    let data = find(&app, &name)?.adapters.iter().map(shown_adapter).collect();
    Ok(Json(AdministeredAdapters { object: "list", data }))
}

/// Loads a LoRA adapter of a model from a folder or file of the server's machine; it is kept until it is unloaded, also
/// when the model leaves memory and comes back.
#[utoipa::path(
    post,
    path = "/admin/v1/models/{name}/adapters",
    tag = "administration",
    params(("name" = String, Path, description = "The model's name")),
    request_body(content = Object, example = json!({"name": "legal", "path": "/srv/adapters/legal"})),
    responses(
        (status = 200, body = AdministeredModel, description = "The model with its adapters"),
        (status = 400, body = protocol::ErrorBody, description = "A field is wrong"),
        (status = 404, body = protocol::ErrorBody, description = "No such model is offered"),
        (status = 503, body = protocol::ErrorBody, description = "It does not fit into memory (the message shows the arithmetic), or cannot be loaded for this model")
    )
)]
pub(crate) async fn load_adapter(
    State(app): State<Arc<App>>,
    Segments(name): Segments<String>,
    request: Request,
) -> Answer {
    let (_ticket, caller, mut fields) = read(&app, request).await?;
    let admin = Admin::of_plant(&app, &caller)?;
    let adapter = fields.string("name")?.ok_or_else(|| missing("name", "a string"))?;
    let path = fields.string("path")?.ok_or_else(|| missing("path", "a string"))?;
    fields.finish()?;
    let command = json!({"command": "load adapter", "adapter": adapter, "path": path});
    let name = note(&app, admin, &name, command).await?;
    let model = app.pool.load_adapter(&name, &adapter, std::path::Path::new(&path)).await.map_err(told)?;
    Ok(Json(shown(&model)))
}

/// Unloads an adapter once its requests have ended; until then it stays.
#[utoipa::path(
    delete,
    path = "/admin/v1/models/{name}/adapters/{adapter}",
    tag = "administration",
    params(
        ("name" = String, Path, description = "The model's name"),
        ("adapter" = String, Path, description = "The adapter's own name")
    ),
    responses(
        (status = 200, body = AdministeredModel, description = "The model; the adapter is in it with `state` `draining` while its requests take longer than an answer may"),
        (status = 404, body = protocol::ErrorBody, description = "No such model, or no such adapter")
    )
)]
pub(crate) async fn unload_adapter(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Segments((name, adapter)): Segments<(String, String)>,
) -> Answer {
    let admin = Admin::of_plant(&app, &caller)?;
    let name = note(&app, admin, &name, json!({"command": "unload adapter", "adapter": adapter})).await?;
    let model = app.pool.unload_adapter(&name, &adapter).await.map_err(told)?;
    Ok(Json(shown(&model)))
}
