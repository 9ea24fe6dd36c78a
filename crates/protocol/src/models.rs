//! The list of models.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET /v1/models`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    pub object: String,
    /// The models served.
    pub data: Vec<Model>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// The name to use in `model`.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// Unix seconds when it was loaded, or first offered.
    pub created: u64,
    /// Who serves it.
    pub owned_by: String,
    /// Whether it is in memory; otherwise the first request for it loads it.
    #[serde(default)]
    pub loaded: bool,
    /// Most tokens of prompt and answer together (vLLM's field); absent where only loading the model will tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<usize>,
    /// The model that it changes, where it is an adapter (vLLM's field).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Other names it answers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}
