//! A JSON object to a wire type, with errors that name the field and what it must be.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde_json::{Map, Value};

use crate::body::type_name;
use crate::error::ApiError;

/// Reads `object` as a `T`, a struct that refuses unknown fields and whose fields all have defaults. `expected` says for
/// a field what it must be, e.g. `a number from 0 to 2`; `at` stands before the field's name in errors.
pub(crate) fn decode<T: DeserializeOwned>(
    object: &Map<String, Value>,
    at: &str,
    expected: fn(&str) -> &'static str,
) -> Result<T, ApiError> {
    let known = fields_of::<T>();
    for name in object.keys() {
        if !known.contains(&name.as_str()) {
            return Err(unrecognized(&format!("{at}{}", short(name))));
        }
    }
    T::deserialize(object).map_err(|error| {
        for (name, value) in object {
            let alone = Map::from_iter([(name.clone(), value.clone())]);
            if T::deserialize(&alone).is_err() {
                return wrong(&format!("{at}{name}"), expected(name), value);
            }
        }
        ApiError::bad_request(error.to_string())
    })
}

/// 400 for a field that holds what it may not.
pub(crate) fn wrong(param: &str, expected: &str, value: &Value) -> ApiError {
    let shown = match value {
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the string {:?}", short(text)),
        Value::Bool(flag) => format!("{flag}"),
        other => type_name(other).to_owned(),
    };
    ApiError::field(param, format!("`{param}` must be {expected}; got {shown}"))
}

/// 400 for a field nobody knows.
pub(crate) fn unrecognized(param: &str) -> ApiError {
    ApiError::field(param, format!("unrecognized field `{param}`; remove it or correct its name"))
        .with_code("unrecognized_field")
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The names of a struct's fields, as its `Deserialize` gives them.
pub(crate) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // The lister always answers with an error, after it has seen the names.
    let _ = T::deserialize(FieldLister { fields: &mut fields });
    fields
}

struct FieldLister<'a> {
    fields: &'a mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for FieldLister<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.fields = fields;
        Err(Self::Error::custom("only the names were wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("not a struct"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
