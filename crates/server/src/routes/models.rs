//! `/v1/models`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Uri;
use protocol::{ErrorBody, Model, ModelList};
use service::ModelCard;

use crate::app::App;
use crate::error::ApiError;

fn wire(card: &ModelCard) -> Model {
    Model {
        id: card.id.clone(),
        object: "model".to_owned(),
        created: card.created,
        owned_by: "tokenworks".to_owned(),
        max_model_len: card.context_len,
        aliases: card.aliases.clone(),
    }
}

/// The models served.
#[utoipa::path(get, path = "/v1/models", operation_id = "listModels", tag = "models", responses((status = 200, body = ModelList, description = "The answer")))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<ModelList> {
    let data = app.lines.iter().map(|line| wire(line.card())).collect();
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
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    uri: Uri,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Model>, ApiError> {
    // Percent escapes that are no UTF-8 name nothing.
    let Path(id) = id.map_err(|_rejected| ApiError::route_not_found(uri.path()))?;
    Ok(Json(wire(app.line(&id)?.card())))
}
