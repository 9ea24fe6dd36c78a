//! Errors as the client sees them: the status, the class and the code of each kind are decided here and nowhere else.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use economics::limits::Standings;
use protocol::{ErrorBody, ErrorDetail};
use service::{ErrorKind, LineError, PoolError};

/// An error answer in OpenAI's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after_s: Option<u32>,
    /// How the rate limits stand, where one of them refused.
    standings: Option<Box<Standings>>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), param: None, code: None, retry_after_s: None, standings: None }
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

    pub(crate) fn with_param(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
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

    /// 404 for something that is not there, or not for the caller.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message).with_code("not_found")
    }

    /// 412: what the request expects of a record does not hold.
    pub(crate) fn precondition_failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "invalid_request_error", message).with_code("precondition_failed")
    }

    /// 410 for what was there once.
    pub(crate) fn gone(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "invalid_request_error", message).with_code("gone")
    }

    pub(crate) fn route_not_found(path: &str) -> Self {
        let shown: String = path.chars().take(200).collect();
        Self::not_found(format!("there is no {shown}; see /openapi.json"))
    }

    pub(crate) fn method_not_allowed(method: &str, path: &str) -> Self {
        let shown: String = path.chars().take(200).collect();
        let message = format!("{shown} does not take {method}; see /openapi.json");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message).with_code("method_not_allowed")
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message).with_code("invalid_api_key")
    }

    /// 401: the console's cookie means nothing any more.
    pub(crate) fn session_ended() -> Self {
        let message = "this session has ended: sign in again, or send `Authorization: Bearer KEY`";
        Self::unauthorized(message).with_code("session_ended")
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

    /// 402: clients try again after a 429, which would not help here.
    fn unpaid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYMENT_REQUIRED, "insufficient_quota", message).with_code("insufficient_quota")
    }

    /// 429: a limit of the caller's own.
    fn rate_limited(message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        Self { retry_after_s: Some(1), ..error.with_code("rate_limit_exceeded") }
    }

    /// 503: the server has no room, or drains.
    pub(crate) fn unavailable(message: impl Into<String>, code: &'static str) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", message).with_code(code);
        Self { retry_after_s: Some(1), ..error }
    }

    /// 409 about the request's `Idempotency-Key`.
    pub(crate) fn idempotency(message: impl Into<String>, code: &'static str) -> Self {
        Self::new(StatusCode::CONFLICT, "idempotency_error", message).with_code(code)
    }

    pub(crate) fn with_retry_after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    pub(crate) fn shutting_down() -> Self {
        Self {
            retry_after_s: Some(5),
            ..Self::unavailable("the server is shutting down, or the model was unloaded; try again", "shutting_down")
        }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message).with_code("internal_error")
    }

    /// What is wrong, in words.
    pub(crate) fn message(&self) -> &str {
        &self.message
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

/// A duration as OpenAI writes it (and Go): `1m0s`, `59.5s`, `120ms`.
fn duration(ms: u64) -> String {
    let (hours, minutes, seconds, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:03}").trim_end_matches('0').to_owned() };
    match (hours, minutes) {
        (0, 0) if seconds == 0 && rest > 0 => format!("{rest}ms"),
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

/// OpenAI's headers of the rate limits. `reset`: when all of a limit is there again, if nobody takes more. Of a limit per
/// minute that is up to a minute and a second away, since no window of a minute lets more than the limit through.
pub(crate) fn rate_headers(headers: &mut HeaderMap, standings: &Standings) {
    let mut put = |name: &'static str, value: String| {
        // Digits, dots and letters are always a value.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    if let Some(standing) = standings.requests {
        put("x-ratelimit-limit-requests", standing.limit.to_string());
        put("x-ratelimit-remaining-requests", standing.remaining.to_string());
        put("x-ratelimit-reset-requests", duration(standing.reset_ms));
    }
    if let Some(standing) = standings.tokens {
        put("x-ratelimit-limit-tokens", standing.limit.to_string());
        put("x-ratelimit-remaining-tokens", standing.remaining.to_string());
        put("x-ratelimit-reset-tokens", duration(standing.reset_ms));
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() && self.status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::error!(message = self.message, "request failed");
        }
        let mut response = (self.status, axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(standings) = &self.standings {
            rate_headers(headers, standings);
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        } else if self.status == StatusCode::CONFLICT {
            // OpenAI's clients try again after a 409 unless they are told that it would not help.
            headers.insert(HeaderName::from_static("x-should-retry"), HeaderValue::from_static("false"));
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
            ErrorKind::Forbidden => Self::forbidden(message, "not_allowed"),
            ErrorKind::Unpaid => Self::unpaid(message),
            ErrorKind::RateLimited => Self::rate_limited(message),
            ErrorKind::BooksClosed => Self::unavailable(message, "books_closed"),
        };
        if let Some(after) = error.retry_after() {
            result.retry_after_s = Some(u32::try_from(after.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1));
        }
        result.param = param.map(str::to_owned);
        result.standings = error.standings().map(Box::new);
        result
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        let message = error.to_string();
        match error {
            PoolError::Unknown { name } => Self::model_not_found(&name),
            PoolError::UnknownAdapter { .. } => {
                Self { status: StatusCode::NOT_FOUND, ..Self::field("model", message).with_code("model_not_found") }
            }
            PoolError::InvalidAdapter { field, .. } => Self::field(field, message),
            PoolError::NoRoom { .. } => Self::unavailable(message, "model_does_not_fit").with_retry_after(5),
            PoolError::Loading { .. } => Self::unavailable(message, "model_loading").with_retry_after(5),
            PoolError::Full { .. } => Self::unavailable(message, "overloaded").with_retry_after(5),
            PoolError::Failed { .. } => Self::unavailable(message, "model_failed").with_retry_after(30),
            PoolError::Fixed => Self::bad_request(message).with_code("models_are_fixed"),
            PoolError::Closed => Self::shutting_down(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        for (ms, text) in [
            (0, "0s"),
            (7, "7ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (59_500, "59.5s"),
            (60_010, "1m0.01s"),
            (61_000, "1m1s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }
}
