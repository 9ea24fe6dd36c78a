//! Fields of the OpenAI API that would change the answer and are not supported: refused by name, unless their value
//! asks for nothing.

use serde_json::Value;

use crate::error::ApiError;
use crate::fields::Fields;

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
pub(crate) fn strip_request(fields: &mut Fields) -> Result<(), ApiError> {
    strip(fields, BOTH)
}

/// Takes such fields out of a message, or refuses it.
pub(crate) fn strip_message(fields: &mut Fields) -> Result<(), ApiError> {
    strip(fields, MESSAGE)
}

fn strip(fields: &mut Fields, rules: &[Rule]) -> Result<(), ApiError> {
    for (name, asks_nothing) in rules {
        if fields.take(name).is_some_and(|value| !asks_nothing(&value)) {
            let param = fields.path(name);
            let message = format!("`{param}` is not supported yet; remove it");
            return Err(ApiError::unsupported(param, message));
        }
    }
    Ok(())
}
