//! Errors as the client sees them: the status, the class and the code of each kind are decided here and nowhere else.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::{ErrorBody, ErrorDetail};
use service::{ErrorKind, LineError};

/// An error answer in OpenAI's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after_s: Option<u32>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), param: None, code: None, retry_after_s: None }
    }

    /// 400 without a field.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// 400 that names the field.
    pub(crate) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::bad_request(message) }
    }

    /// 400 for a field that would change the answer and is not supported.
    pub(crate) fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::field(param, message).with_code("unsupported_parameter")
    }

    pub(crate) fn with_code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The line calls every input `prompt`; this is the name the client knows it by.
    pub(crate) fn with_prompt_as(mut self, name: &str) -> Self {
        if self.param.as_deref() == Some("prompt") {
            self.param = Some(name.to_owned());
        }
        self
    }

    pub(crate) fn model_not_found(model: &str) -> Self {
        let shown: String = model.chars().take(200).collect();
        Self {
            status: StatusCode::NOT_FOUND,
            ..Self::field(
                "model",
                format!("the model `{shown}` is not served here; GET /v1/models lists those that are"),
            )
            .with_code("model_not_found")
        }
    }

    pub(crate) fn route_not_found(path: &str) -> Self {
        let shown: String = path.chars().take(200).collect();
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", format!("there is no {shown}; see /openapi.json"))
            .with_code("not_found")
    }

    pub(crate) fn method_not_allowed(method: &str, path: &str) -> Self {
        let shown: String = path.chars().take(200).collect();
        let message = format!("{shown} does not take {method}; see /openapi.json");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message).with_code("method_not_allowed")
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message).with_code("invalid_api_key")
    }

    pub(crate) fn forbidden(message: impl Into<String>, code: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message).with_code(code)
    }

    pub(crate) fn not_json() -> Self {
        let message = "the body must be JSON: send `Content-Type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", message)
            .with_code("unsupported_media_type")
    }

    pub(crate) fn encoded(encoding: &str) -> Self {
        let message = format!("bodies are taken as they are, not as `Content-Encoding: {encoding}`; send plain JSON");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", message)
            .with_code("unsupported_media_type")
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message =
            format!("the body is larger than {limit} bytes; send less, or have the operator raise server.body_limit");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message).with_code("request_too_large")
    }

    pub(crate) fn head_too_large(limit: usize) -> Self {
        let message =
            format!("the request line and the headers have more than {limit} bytes; send fewer or shorter ones");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "invalid_request_error", message)
            .with_code("headers_too_large")
    }

    pub(crate) fn body_too_slow() -> Self {
        let message = "the body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", message).with_code("request_timeout")
    }

    /// 429: the queue is full, the client should come again.
    fn queue_full(message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message).with_code("overloaded");
        Self { retry_after_s: Some(1), ..error }
    }

    /// 503: the server has no room, or drains.
    pub(crate) fn unavailable(message: impl Into<String>, code: &'static str) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", message).with_code(code);
        Self { retry_after_s: Some(1), ..error }
    }

    pub(crate) fn shutting_down() -> Self {
        Self {
            retry_after_s: Some(5),
            ..Self::unavailable("the server is shutting down; try again later", "shutting_down")
        }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message).with_code("internal_error")
    }

    /// The body, also used as the last frame of a stream that fails under way.
    pub(crate) fn body(&self) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                message: self.message.clone(),
                kind: self.kind.to_owned(),
                param: self.param.clone(),
                code: self.code.map(str::to_owned),
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() && self.status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(message = self.message, "request failed");
        }
        let mut response = (self.status, axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<LineError> for ApiError {
    fn from(error: LineError) -> Self {
        let message = error.to_string();
        let param = error.field();
        let mut result = match error.kind() {
            ErrorKind::Invalid => Self::bad_request(message),
            ErrorKind::ContextFull => Self::bad_request(message).with_code("context_length_exceeded"),
            ErrorKind::NoChatTemplate => Self::bad_request(message).with_code("no_chat_template"),
            ErrorKind::TemplateFailed => Self::bad_request(message).with_code("chat_template_failed"),
            ErrorKind::NotSupported => Self::bad_request(message).with_code("unsupported"),
            ErrorKind::QueueFull => Self::queue_full(message),
            ErrorKind::Closed => Self::shutting_down(),
            ErrorKind::Internal => Self::internal(message),
        };
        if let Some(after) = error.retry_after() {
            result.retry_after_s = Some(u32::try_from(after.as_secs()).unwrap_or(u32::MAX).max(1));
        }
        result.param = param.map(str::to_owned);
        result
    }
}
