//! Fields of the OpenAI API that would change the answer and are not supported: refused by name, unless their value
//! asks for nothing.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// A field, and whether a value of it asks for nothing.
type Rule = (&'static str, fn(&Value) -> bool);

/// Both kinds of completions.
const BOTH: &[Rule] = &[
    ("tools", is_empty_list),
    ("tool_choice", is_none_or_auto),
    ("functions", is_empty_list),
    ("function_call", is_none_or_auto),
    ("parallel_tool_calls", Value::is_boolean),
    ("response_format", is_text_format),
    ("modalities", is_text_only),
    ("audio", nothing),
    ("prediction", nothing),
    ("web_search_options", nothing),
    ("reasoning_effort", |value| *value == "none"),
    ("verbosity", nothing),
    ("moderation", nothing),
    ("suffix", |value| *value == ""),
];

/// Messages of a chat.
const MESSAGE: &[Rule] = &[
    ("tool_calls", is_empty_list),
    ("tool_call_id", nothing),
    ("function_call", nothing),
    ("audio", nothing),
    ("refusal", |value| *value == ""),
    ("annotations", is_empty_list),
];

fn nothing(_: &Value) -> bool {
    false
}

fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

fn is_none_or_auto(value: &Value) -> bool {
    *value == "none" || *value == "auto"
}

fn is_text_format(value: &Value) -> bool {
    value.as_object().is_some_and(|format| format.len() == 1 && format.get("type").is_some_and(|kind| *kind == "text"))
}

fn is_text_only(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.len() == 1 && list.iter().all(|item| *item == "text"))
}

/// Takes such fields out of a request, or refuses it.
pub(crate) fn strip_request(object: &mut Map<String, Value>) -> Result<(), ApiError> {
    strip(object, "", BOTH)
}

/// Takes such fields out of a message, or refuses it. `at` is its place, e.g. `messages[2].`.
pub(crate) fn strip_message(object: &mut Map<String, Value>, at: &str) -> Result<(), ApiError> {
    strip(object, at, MESSAGE)
}

fn strip(object: &mut Map<String, Value>, at: &str, rules: &[Rule]) -> Result<(), ApiError> {
    for (name, asks_nothing) in rules {
        if let Some(value) = object.remove(*name)
            && !value.is_null()
            && !asks_nothing(&value)
        {
            let param = format!("{at}{name}");
            let message = format!("`{param}` is not supported yet; remove it");
            return Err(ApiError::unsupported(param, message));
        }
    }
    Ok(())
}
