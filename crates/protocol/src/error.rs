//! The error body of the OpenAI API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every error answer, and the last frame of a stream that fails under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong. `param` and `code` are `null` when there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// For people: the field and the fix.
    pub message: String,
    /// The class, e.g. `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The field at fault, e.g. `temperature` or `messages[2].content`.
    pub param: Option<String>,
    /// For programs, e.g. `context_length_exceeded`.
    pub code: Option<String>,
}
