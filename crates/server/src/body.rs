//! Request bodies: bounded in bytes, in time and in the number of JSON values, then an object.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use service::TrafficEnd;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use crate::Limits;
use crate::error::ApiError;
use crate::fields::short;

/// Most JSON values in one body: each costs memory many times its bytes. Enough for a long prompt given as ids.
const MAX_VALUES: usize = 1 << 18;
/// An object costs a tree node, as much as this many plain values.
const OBJECT_COST: usize = 16;
/// How much of a body that is too large is read and thrown away, so that the client hears why.
const MAX_DISCARD_BYTES: usize = 64 << 20;
const MAX_DISCARD_TIME: Duration = Duration::from_secs(10);

/// The bytes of a body, with their share of what all bodies may have at once.
pub(crate) struct Held<'a> {
    pub(crate) bytes: Vec<u8>,
    _share: Option<SemaphorePermit<'a>>,
}

/// Reads the body. `budget` counts the bytes of all bodies held at once.
pub(crate) async fn read<'a>(request: Request, limits: &Limits, budget: &'a Semaphore) -> Result<Held<'a>, ApiError> {
    let max = limits.max_body_bytes;
    if let Err(error) = check_head(request.headers(), max) {
        discard(request, limits);
        return Err(error);
    }
    let mut body = request.into_body();
    let mut bytes = Vec::new();
    let mut share: Option<SemaphorePermit<'_>> = None;
    let deadline = Instant::now() + limits.body_timeout;
    loop {
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_elapsed| ApiError::body_too_slow())?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| ApiError::bad_request(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > max {
            discard_rest(body, limits);
            return Err(ApiError::too_large(max));
        }
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let permit = budget.try_acquire_many(count).map_err(|_full| {
            ApiError::unavailable("too many request bodies are being read; try again", "overloaded")
        })?;
        match &mut share {
            Some(share) => share.merge(permit),
            None => share = Some(permit),
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Held { bytes, _share: share })
}

/// The same body, whose bytes are counted as the connection takes them.
pub(crate) fn counted(body: Body, end: TrafficEnd) -> Body {
    Body::new(Counted { body, end })
}

struct Counted {
    body: Body,
    end: TrafficEnd,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.end.sent(frame.data_ref().map_or(0, Bytes::len));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the head says about the body.
fn check_head(headers: &HeaderMap, max: usize) -> Result<(), ApiError> {
    for encoding in headers.get_all(header::CONTENT_ENCODING) {
        if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
            return Err(ApiError::encoded(&short(&String::from_utf8_lossy(encoding.as_bytes()))));
        }
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max as u64) {
        return Err(ApiError::too_large(max));
    }
    Ok(())
}

/// Throws the body of a refused request away, while the answer is sent already: a connection closed on unread bytes
/// would take the answer with it.
pub(crate) fn discard(request: Request, limits: &Limits) {
    // Reading would ask for a body that is held back.
    if !request.headers().contains_key(header::EXPECT) {
        discard_rest(request.into_body(), limits);
    }
}

fn discard_rest(mut body: Body, limits: &Limits) {
    if body.is_end_stream() {
        return;
    }
    let limit = limits.body_timeout.min(MAX_DISCARD_TIME);
    tokio::spawn(timeout(limit, async move {
        let mut seen = 0_usize;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > MAX_DISCARD_BYTES {
                break;
            }
        }
    }));
}

/// JSON text to an object, with errors a person can act on.
pub(crate) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        ApiError::bad_request(format!("the body is not valid UTF-8 (at byte {at})")).with_code("invalid_json")
    })?;
    if text.trim().is_empty() {
        return Err(ApiError::bad_request("the body is empty; send a JSON object").with_code("invalid_json"));
    }
    let mut state = State { left: MAX_VALUES, place: Vec::new() };
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = BoundedValue(&mut state)
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| describe(text, &error, &state.place()))?;
    match value {
        Value::Object(object) => Ok(object),
        other => Err(ApiError::bad_request(format!("the body must be a JSON object, not {}", type_name(&other)))
            .with_code("invalid_json")),
    }
}

/// Says what is wrong with the JSON; `place` is the value it was found in, empty for the body itself.
fn describe(text: &str, error: &serde_json::Error, place: &str) -> ApiError {
    let at = text_before(text, error.line(), error.column()).len();
    let said = error.to_string();
    let not_a_number = ["NaN", "Infinity", "nan", "inf", "Inf"].into_iter().any(|word| ends_inside(text, at, word));
    let wrong = if not_a_number || said.starts_with("number out of range") {
        "must be a finite JSON number"
    } else if said.contains("hex escape") {
        "holds half of a surrogate pair (`\\ud800` to `\\udfff`), which is no character; send both halves, or U+FFFD"
    } else {
        return ApiError::bad_request(format!("the body is not valid JSON: {said}")).with_code("invalid_json");
    };
    let error = match place {
        "" => ApiError::bad_request(format!("the body {wrong}")),
        place => ApiError::field(place, format!("`{place}` {wrong}")),
    };
    error.with_code("invalid_json")
}

/// The text up to the place an error names (line and column count from 1, columns in bytes).
fn text_before(text: &str, line: usize, column: usize) -> &str {
    let start = if line <= 1 { 0 } else { text.match_indices('\n').nth(line - 2).map_or(text.len(), |(at, _)| at + 1) };
    let mut end = (start + column).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Whether `word` stands in `text` so that `at` lies inside it or right behind its end.
fn ends_inside(text: &str, at: usize, word: &str) -> bool {
    let from = at.saturating_sub(word.len());
    (from..=at).any(|start| text.get(start..).is_some_and(|rest| rest.starts_with(word)))
}

/// The JSON type of a value, with an article.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// How far the reading came.
struct State {
    /// Values that may still come.
    left: usize,
    /// After an error: the steps to the value it was found in, innermost first.
    place: Vec<String>,
}

impl State {
    fn place(&self) -> String {
        let place: String = self.place.iter().rev().map(String::as_str).collect();
        place.strip_prefix('.').unwrap_or(&place).to_owned()
    }
}

/// Reads any JSON value, but only so many in all.
struct BoundedValue<'a>(&'a mut State);

impl BoundedValue<'_> {
    fn take<E: serde::de::Error>(&mut self, cost: usize) -> Result<(), E> {
        match self.0.left.checked_sub(cost) {
            Some(left) => {
                self.0.left = left;
                Ok(())
            }
            None => Err(E::custom(format!("more than {MAX_VALUES} values"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for BoundedValue<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(mut self, deserializer: D) -> Result<Value, D::Error> {
        self.take(1)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for BoundedValue<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            match seq.next_element_seed(BoundedValue(self.0)) {
                Ok(Some(value)) => list.push(value),
                Ok(None) => return Ok(Value::Array(list)),
                Err(error) => {
                    self.0.place.push(format!("[{}]", list.len()));
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        self.take(OBJECT_COST)?;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = match map.next_value_seed(BoundedValue(self.0)) {
                Ok(value) => value,
                Err(error) => {
                    self.0.place.push(format!(".{}", short(&key)));
                    return Err(error);
                }
            };
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("`{}` is given twice", short(&key))));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> (String, Option<String>) {
        let body = parse_object(bytes).unwrap_err().body().error;
        (body.message, body.param)
    }

    #[test]
    fn an_object_is_read_as_it_is() {
        let text = r#"{"a": [1, -2, 1.5, "x\u00e9", true, null, {"b": {}}], "c": 18446744073709551615}"#;
        let object = parse_object(text.as_bytes()).unwrap();
        assert_eq!(Value::Object(object), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn nan_names_the_field() {
        for word in ["NaN", "Infinity", "-Infinity", "nan"] {
            let (message, param) = error(format!("{{\"model\": \"m\",\n \"temperature\" : {word}}}").as_bytes());
            assert_eq!(param.as_deref(), Some("temperature"), "{message}");
            assert!(message.contains("finite"), "{message}");
        }
        assert_eq!(error(br#"{"top_p": 1e999}"#).1.as_deref(), Some("top_p"));
    }

    #[test]
    fn other_bodies_are_refused_with_a_reason() {
        for (body, part) in [
            (&b""[..], "empty"),
            (b"  \n", "empty"),
            (b"[1]", "not a list"),
            (b"\"x\"", "not a string"),
            (b"{\"a\": 1", "EOF"),
            (b"{} x", "trailing"),
            (b"{\"a\": \"\xff\"}", "UTF-8 (at byte 7)"),
            (b"{\"a\": \"\\ud800\"}", "surrogate"),
            (b"{\"a\": 1, \"a\": 2}", "given twice"),
        ] {
            let (message, _) = error(body);
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        assert!(error("[".repeat(100_000).as_bytes()).0.contains("recursion limit"));
        let many = format!("{{\"prompt\": [{}0]}}", "0,".repeat(MAX_VALUES));
        assert!(error(many.as_bytes()).0.contains("values"));
        let objects = format!("{{\"metadata\": [{}{{}}]}}", "{},".repeat(MAX_VALUES / OBJECT_COST));
        assert!(error(objects.as_bytes()).0.contains("values"));
    }
}
