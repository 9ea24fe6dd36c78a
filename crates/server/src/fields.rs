//! A JSON object read field by field: what a field must be is said where it is read, and errors name the place.

use std::ops::RangeBounds;

use serde_json::{Map, Number, Value};

use crate::error::ApiError;

/// The fields of an object that were not read yet. A field that is `null` is as good as absent.
#[derive(Debug)]
pub(crate) struct Fields {
    object: Map<String, Value>,
    /// Stands before a field's name in errors, e.g. `messages[2].`.
    at: String,
}

impl Fields {
    /// The fields of a body.
    pub(crate) fn new(object: Map<String, Value>) -> Self {
        Self { object, at: String::new() }
    }

    /// The fields of an object inside a body; `at` is its place, e.g. `messages[2]`.
    pub(crate) fn inside(object: Map<String, Value>, at: &str) -> Self {
        Self { object, at: format!("{at}.") }
    }

    /// All of them, as they came.
    pub(crate) fn into_object(self) -> Map<String, Value> {
        self.object
    }

    /// The place of a field, as errors name it.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.at)
    }

    /// A field of any type.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.object.remove(name).filter(|value| !value.is_null())
    }

    /// A field that is still to be read.
    pub(crate) fn peek(&self, name: &str) -> Option<&Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Sets a field, whatever it was.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.object.insert(name.to_owned(), value);
    }

    /// A field that `read` makes a `T` of, or gives back.
    fn read<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(Value) -> Result<T, Value>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        read(value).map(Some).map_err(|value| wrong(&self.path(name), expected, &value))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        self.read(name, "a boolean", |value| value.as_bool().ok_or(value))
    }

    /// A text.
    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        self.read(name, "a string", |value| match value {
            Value::String(text) => Ok(text),
            other => Err(other),
        })
    }

    /// An object, as it came.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, ApiError> {
        self.read(name, "an object", |value| match value {
            Value::Object(object) => Ok(object),
            other => Err(other),
        })
    }

    /// A number within `range`.
    pub(crate) fn number(
        &mut self,
        name: &str,
        expected: &str,
        range: impl RangeBounds<f64>,
    ) -> Result<Option<f32>, ApiError> {
        self.read(name, expected, |value| number(&value, range).ok_or(value))
    }

    /// A number above 0 and up to `max`; what is too small for the sampler's precision becomes its least.
    pub(crate) fn positive(&mut self, name: &str, expected: &str, max: f32) -> Result<Option<f32>, ApiError> {
        self.read(name, expected, |value| {
            let is_positive = value.as_f64().is_some_and(|wide| wide > 0.0);
            let narrow = number(&value, 0.0..=f64::from(max)).filter(|_| is_positive);
            narrow.map(|narrow| narrow.max(f32::MIN_POSITIVE)).ok_or(value)
        })
    }

    /// A whole number within `range` and within what `T` can hold.
    pub(crate) fn integer<T: TryFrom<i128>>(
        &mut self,
        name: &str,
        expected: &str,
        range: impl RangeBounds<i128>,
    ) -> Result<Option<T>, ApiError> {
        self.read(name, expected, |value| {
            let whole = value.as_number().and_then(Number::as_i128).filter(|whole| range.contains(whole));
            whole.and_then(|whole| T::try_from(whole).ok()).ok_or(value)
        })
    }

    /// Refuses what was not read: nobody knows it.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        let Some(name) = self.object.keys().next() else { return Ok(()) };
        let param = self.path(&short(name));
        let message = format!("unrecognized field `{param}`; remove it or correct its name");
        Err(ApiError::field(param, message).with_code("unrecognized_field"))
    }
}

/// A number that is within `range` both as it came and at the sampler's precision.
pub(crate) fn number(value: &Value, range: impl RangeBounds<f64>) -> Option<f32> {
    let wide = value.as_f64().filter(|wide| range.contains(wide))?;
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is wanted")]
    let narrow = wide as f32;
    range.contains(&f64::from(narrow)).then_some(narrow)
}

/// 400 for a place that holds what it may not.
pub(crate) fn wrong(param: &str, expected: &str, value: &Value) -> ApiError {
    let shown = match value {
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.is_empty() => "an empty string".to_owned(),
        Value::String(text) => format!("the string {:?}", short(text)),
        Value::Bool(flag) => format!("{flag}"),
        Value::Array(list) if list.is_empty() => "an empty list".to_owned(),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::Null => "null".to_owned(),
    };
    ApiError::field(param, format!("`{param}` must be {expected}; got {shown}"))
}

/// 400 for a field that must be there.
pub(crate) fn missing(param: &str, expected: &str) -> ApiError {
    ApiError::field(param, format!("`{param}` is missing; it must be {expected}"))
}

/// The beginning of a text from the client, for errors.
pub(crate) fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
