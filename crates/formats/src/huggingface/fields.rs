//! Reading `config.json` and `adapter_config.json` field by field: what is wrong is told with the field's name.

use serde_json::{Map, Value as Json};

use crate::FormatError;
use crate::error::shown;

/// The fields of a JSON file, or of an object inside it. A field that is `null` counts as missing.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    file: &'static str,
    /// `None` when the file holds no object: all fields are missing.
    map: Option<&'a Map<String, Json>>,
    /// The names of the objects around it, each with a dot.
    prefix: String,
}

impl<'a> Fields<'a> {
    pub(super) fn new(file: &'static str, json: &'a Json) -> Self {
        Self { file, map: json.as_object(), prefix: String::new() }
    }

    fn get(&self, field: &str) -> Option<&'a Json> {
        self.map?.get(field).filter(|value| !value.is_null())
    }

    /// Whether it is there, if only as `null`.
    pub(super) fn names(&self, field: &str) -> bool {
        self.map.is_some_and(|map| map.contains_key(field))
    }

    /// What is wrong with a field.
    pub(super) fn wrong(&self, field: &str, expected: impl Into<String>) -> FormatError {
        let actual = match self.get(field) {
            // As JSON its quotes would be escaped twice.
            Some(Json::String(value)) => format!("is \"{}\"", shown(value)),
            Some(value) => format!("is {}", shown(&value.to_string())),
            None if self.names(field) => "is null".to_owned(),
            None => "is missing".to_owned(),
        };
        let field = shown(&format!("{}{field}", self.prefix));
        FormatError::Config { file: self.file, field, expected: expected.into(), actual }
    }

    /// A value of one kind, if the field is there.
    fn read<T>(
        &self,
        field: &str,
        expected: &str,
        convert: impl FnOnce(&'a Json) -> Option<T>,
    ) -> Result<Option<T>, FormatError> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => convert(value).map(Some).ok_or_else(|| self.wrong(field, expected)),
        }
    }

    /// An integer from 1 to `u32::MAX`.
    pub(super) fn optional_size(&self, field: &str) -> Result<Option<u32>, FormatError> {
        self.read(field, "an integer from 1 to 4294967295", |value| {
            u32::try_from(value.as_u64()?).ok().filter(|&size| size > 0)
        })
    }

    /// An integer from 1 to `u32::MAX`, which must be there.
    pub(super) fn size(&self, field: &str) -> Result<u32, FormatError> {
        self.optional_size(field)?.ok_or_else(|| self.wrong(field, "an integer from 1 to 4294967295"))
    }

    /// A finite number.
    pub(super) fn optional_float(&self, field: &str) -> Result<Option<f64>, FormatError> {
        self.read(field, "a number", |value| value.as_f64().filter(|number| number.is_finite()))
    }

    /// A finite number, which must be there.
    pub(super) fn float(&self, field: &str) -> Result<f64, FormatError> {
        self.optional_float(field)?.ok_or_else(|| self.wrong(field, "a number"))
    }

    /// A flag, with what transformers takes when it is missing.
    pub(super) fn flag(&self, field: &str, default: bool) -> Result<bool, FormatError> {
        Ok(self.read(field, "true or false", Json::as_bool)?.unwrap_or(default))
    }

    pub(super) fn text(&self, field: &str) -> Result<Option<&'a str>, FormatError> {
        self.read(field, "a string", Json::as_str)
    }

    pub(super) fn texts(&self, field: &str) -> Result<Option<Vec<&'a str>>, FormatError> {
        self.read(field, "a list of strings", |value| value.as_array()?.iter().map(Json::as_str).collect())
    }

    /// A list of finite numbers that are more than 0, which must be there.
    pub(super) fn factors(&self, field: &str) -> Result<Vec<f32>, FormatError> {
        const EXPECTED: &str = "a list of numbers above 0";
        let factors = self.read(field, EXPECTED, |value| {
            let factor = |value: &Json| value.as_f64().map(narrow).filter(|factor| factor.is_finite() && *factor > 0.0);
            value.as_array()?.iter().map(factor).collect()
        })?;
        factors.ok_or_else(|| self.wrong(field, EXPECTED))
    }

    /// An object.
    pub(super) fn object(&self, field: &str) -> Result<Option<Self>, FormatError> {
        let prefix = format!("{}{field}.", self.prefix);
        let map = self.read(field, "an object", Json::as_object)?;
        Ok(map.map(|map| Self { map: Some(map), prefix, ..*self }))
    }

    /// Names and numbers of an object, which is empty where it is missing.
    pub(super) fn numbers(&self, field: &str) -> Result<Vec<(&'a str, f64)>, FormatError> {
        let numbers = self.read(field, "an object of numbers", |value| {
            let number = |(name, value): (&'a String, &'a Json)| Some((name.as_str(), value.as_f64()?));
            value.as_object()?.iter().map(number).collect()
        })?;
        Ok(numbers.unwrap_or_default())
    }

    /// An error unless the field is missing or `good`.
    pub(super) fn only(
        &self,
        field: &str,
        expected: &str,
        good: impl FnOnce(&Json) -> bool,
    ) -> Result<(), FormatError> {
        self.read(field, expected, |value| good(value).then_some(())).map(|_| ())
    }
}

/// A number as GGUF keeps it.
pub(super) fn narrow(number: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "metadata and tensors made from numbers are of f32")]
    let narrow = number as f32;
    narrow
}
