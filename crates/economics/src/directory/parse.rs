//! JSON that people write, read into records: errors name the path of the field, what was seen and the fix.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Invalid;

/// Reads `value` as a `T`.
///
/// # Errors
/// Names the path of the field, what was seen and the fix.
pub fn value<T: DeserializeOwned>(value: Value) -> Result<T, Invalid> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        explained(&path, &error.inner().to_string())
    })
}

/// Serde's words as a field, a problem and a fix. Our own errors end with the fix behind a `;`.
fn explained(path: &str, message: &str) -> Invalid {
    if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return Invalid::new(field, "is missing", "add it").within(path);
    }
    if let Some((problem, known)) = message.split_once(", expected ") {
        let fix = if problem.starts_with("unknown field") {
            format!("remove it or correct its name: {known}")
        } else {
            format!("write {}", plain(known))
        };
        return Invalid::new(path, problem, fix);
    }
    let (problem, fix) = message.rsplit_once("; ").unwrap_or((message, "compare with the documentation of the field"));
    Invalid::new(path, problem, fix)
}

/// What serde expects, in words for people.
fn plain(expected: &str) -> String {
    let most = match expected {
        "u8" => u64::from(u8::MAX),
        "u16" => u64::from(u16::MAX),
        "u32" => u64::from(u32::MAX),
        "u64" => u64::MAX,
        "i32" | "i64" => return "a whole number".to_owned(),
        "a sequence" => return "a list".to_owned(),
        "string or map" => return "one of its words as a string".to_owned(),
        _ if expected.starts_with("struct ") => return "an object".to_owned(),
        other => return other.to_owned(),
    };
    format!("a whole number from 0 to {most}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::record::{Kind, Record};

    #[test]
    fn errors_name_the_path_what_was_seen_and_the_fix() {
        let tier = |input: Value| {
            json!({"model": "m", "from": "2026-01-01T00:00:00Z", "tiers": [{"input": "1 per 1M", "output": "1 per 1M"},
                   {"volume_from": 5, "input": input, "output": "1 per 1M"}]})
        };
        let project = |bounds: Value| json!({"id": "p", "organisation": "o", "name": "P", "bounds": bounds});
        let key = |hash: &str, scopes: Value| json!({"id": "k", "project": "p", "name": "K", "prefix": "", "hash": hash, "scopes": scopes});
        let hash = "0".repeat(64);
        for (kind, value, expected) in [
            (
                Kind::Price,
                tier(json!("-1 per 1M")),
                "tiers[1].input: price `-1 per 1M`: the price is negative; write 0 or more",
            ),
            (Kind::Price, tier(json!(3)), "tiers[1].input: invalid type: integer `3`; write a string"),
            (Kind::Price, json!({"model": "m", "from": "soon", "tiers": []}), "from: "),
            (Kind::Price, json!({"model": "m", "from": "2026-01-01T00:00:00Z", "tiers": 1}), "write a list"),
            (Kind::Price, json!({"from": "2026-01-01T00:00:00Z", "tiers": []}), "model: is missing; add it"),
            (
                Kind::Project,
                project(json!({"limits": {"requests_per_minute": -5}})),
                "bounds.limits.requests_per_minute: invalid value: integer `-5`; write a whole number from 0 to 1844",
            ),
            (
                Kind::Project,
                project(json!({"limits": {"per_minute": 5}})),
                "bounds.limits.per_minute: unknown field `per_minute`; remove it or correct its name: one of `requests_",
            ),
            (Kind::Project, project(json!(5)), "bounds: invalid type: integer `5`; write an object"),
            (Kind::Project, project(json!({"budget": {}})), "bounds.budget.amount: is missing; add it"),
            (
                Kind::Project,
                project(json!({"budget": {"amount": "1", "period": "week"}})),
                "bounds.budget.period: unknown variant `week`; write one of `day`, `month`, `forever`",
            ),
            (
                Kind::Key,
                key(&hash, json!(["usage", "all"])),
                "scopes[1]: unknown variant `all`; write one of `inference`, ",
            ),
            (Kind::Key, key("", json!([])), "hash: not 64 hexadecimal digits; make a key"),
            (Kind::Plan, json!({"id": "p", "colour": 1}), "colour: unknown field `colour`; remove it"),
            (
                Kind::Plan,
                json!({"id": "p", "discount_permille": 70_000}),
                "discount_permille: invalid value: integer `70000`; write a whole number from 0 to 65535",
            ),
        ] {
            let error = Record::parse(kind, value).unwrap_err().to_string();
            assert!(error.starts_with(expected) || (!expected.contains(": ") && error.contains(expected)), "{error}");
        }
    }
}
