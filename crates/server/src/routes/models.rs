//! `/v1/models`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use protocol::{ErrorBody, Model, ModelList};
use service::{ModelState, ModelStatus};

use crate::app::App;
use crate::error::ApiError;
use crate::segments::Segments;

/// A model, and each of its adapters as a model of its own; those that cannot be asked for are left out.
fn wire(model: ModelStatus) -> Vec<Model> {
    let base = Model {
        id: model.id,
        object: "model".to_owned(),
        created: model.created,
        owned_by: "tokenworks".to_owned(),
        loaded: model.state == ModelState::Loaded,
        max_model_len: model.context_len,
        parent: None,
        aliases: model.aliases,
    };
    let offered = |state: &ModelState| matches!(state, ModelState::Loaded | ModelState::Unloaded);
    let adapters = model.adapters.into_iter().filter(|adapter| offered(&adapter.state));
    let adapters = adapters.map(|adapter| Model {
        id: format!("{}:{}", base.id, adapter.name),
        created: adapter.created.unwrap_or(base.created),
        loaded: adapter.state == ModelState::Loaded,
        parent: Some(base.id.clone()),
        aliases: base.aliases.iter().map(|alias| format!("{alias}:{}", adapter.name)).collect(),
        ..base.clone()
    });
    let adapters: Vec<Model> = adapters.collect();
    std::iter::once(base).chain(adapters).collect()
}

/// The models served, those that are loaded when they are asked for included.
#[utoipa::path(get, path = "/v1/models", operation_id = "listModels", tag = "models", responses((status = 200, body = ModelList, description = "The answer")))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<ModelList> {
    let data = app.pool.models().into_iter().flat_map(wire).collect();
    Json(ModelList { object: "list".to_owned(), data })
}

/// One model, by its name or one of its other names.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    operation_id = "retrieveModel",
    tag = "models",
    params(("id" = String, Path, description = "The model's name")),
    responses((status = 200, body = Model, description = "The answer"), (status = 404, body = ErrorBody, description = "The model is not served here"))
)]
pub(crate) async fn one(State(app): State<Arc<App>>, Segments(id): Segments<String>) -> Result<Json<Model>, ApiError> {
    let named = |model: &Model| model.id == id || model.aliases.contains(&id);
    let model = app.pool.models().into_iter().flat_map(wire).find(named);
    model.map(Json).ok_or_else(|| ApiError::model_not_found(&id))
}
