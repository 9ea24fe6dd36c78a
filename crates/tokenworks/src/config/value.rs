//! Turning a raw value into what its key may be; every refusal says what was expected.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Value;

use super::keys::Kind;

/// A value of a key, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked {
    /// Text or a choice.
    Text(String),
    /// A path.
    Path(PathBuf),
    /// A whole number.
    Whole(i64),
    /// `true` or `false`.
    Bool(bool),
    /// Seconds.
    Seconds(f64),
    /// Bytes.
    Size(u64),
    /// Texts.
    List(Vec<String>),
    /// Paths by name.
    Paths(BTreeMap<String, PathBuf>),
}

/// Checks a TOML value. Relative paths count from `base`.
///
/// # Errors
/// What was expected instead.
pub(super) fn check(kind: Kind, value: &Value, base: &Path) -> Result<Checked, String> {
    let expected = || Err(format!("expected {}, found {}", describe(kind), found(value)));
    match (kind, value) {
        (Kind::Text, Value::String(s)) if !s.is_empty() => Ok(Checked::Text(s.clone())),
        (Kind::Filter, Value::String(s)) if is_filter(s) => Ok(Checked::Text(s.clone())),
        (Kind::Path, Value::String(s)) if !s.is_empty() => Ok(Checked::Path(base.join(s))),
        (Kind::Choice(words), Value::String(s)) if words.contains(&s.as_str()) => Ok(Checked::Text(s.clone())),
        (Kind::Whole(min, max), Value::Integer(n)) if (min..=max).contains(n) => Ok(Checked::Whole(*n)),
        (Kind::Bool, Value::Boolean(b)) => Ok(Checked::Bool(*b)),
        (Kind::Seconds(min, max), Value::Integer(_) | Value::Float(_)) => {
            #[expect(clippy::cast_precision_loss, reason = "bounded by the check that follows")]
            let seconds = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
            match seconds {
                Some(s) if (min..=max).contains(&s) => Ok(Checked::Seconds(s)),
                _ => expected(),
            }
        }
        (Kind::Size, Value::Integer(n)) => u64::try_from(*n).map(Checked::Size).or_else(|_| expected()),
        (Kind::Size, Value::String(s)) => parse_size(s).map(Checked::Size).map_or_else(expected, Ok),
        (Kind::List, Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().filter(|s| !s.is_empty()).map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .map(Checked::List)
            .map_or_else(expected, Ok),
        (Kind::Paths, Value::Table(items)) => items
            .iter()
            .map(|(name, path)| Some((name.clone(), base.join(path.as_str().filter(|path| !path.is_empty())?))))
            .collect::<Option<BTreeMap<_, _>>>()
            .map(Checked::Paths)
            .map_or_else(expected, Ok),
        _ => expected(),
    }
}

/// Reads the text of an environment variable or flag as TOML would have it.
#[must_use]
pub(super) fn from_text(kind: Kind, text: &str) -> Value {
    let text = text.trim();
    match kind {
        Kind::Whole(..) => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer),
        Kind::Seconds(..) => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Float),
        Kind::Bool => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Boolean),
        Kind::List => Value::Array(
            text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| Value::String(s.to_owned())).collect(),
        ),
        _ => Value::String(text.to_owned()),
    }
}

fn describe(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::Path => "a path".to_owned(),
        Kind::Choice(words) => words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" or "),
        Kind::Whole(min, max) => format!("a whole number from {min} to {max}"),
        Kind::Bool => "true or false".to_owned(),
        Kind::Seconds(min, max) => format!("seconds from {min} to {max}"),
        Kind::Size => "a size such as \"512MiB\"".to_owned(),
        Kind::List => "a list of texts".to_owned(),
        Kind::Paths => "a table of names and paths".to_owned(),
        Kind::Filter => {
            format!("one of {}, or such levels for single parts like \"info,server=debug\"", LEVELS.join(", "))
        }
    }
}

/// The levels of a log filter.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Levels for everything or for single parts (crates and modules), separated by commas: `warn,server=debug`. The logging
/// library would take any other word as the name of a part and be silent about everything else.
fn is_filter(text: &str) -> bool {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_part = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-:".contains(c));
    text.split(',').map(str::trim).all(|directive| match directive.split_once('=') {
        Some((part, level)) => is_part(part) && is_level(level),
        None => is_level(directive),
    })
}

fn found(value: &Value) -> String {
    match value {
        Value::String(s) if s.is_empty() => "an empty text".to_owned(),
        Value::Table(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => {
            let mut text: String = other.to_string().chars().take(60).collect();
            if text.len() < other.to_string().len() {
                text.push('…');
            }
            text
        }
    }
}

/// `512MiB`, `1.5 GB`, `4096`: bytes. `None` when it is none of these.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    #[expect(clippy::cast_precision_loss, reason = "factors are exact in f64")]
    let value = number.parse::<f64>().ok()? * factor as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    (value.is_finite() && (0.0..1e18).contains(&value)).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::super::keys::{API_KEY_KEYS, KEYS, MODEL_KEYS};
    use super::*;

    #[test]
    fn sizes() {
        for (text, expect) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("512MiB", Some(512 << 20)),
            ("512 mib", Some(512 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("2G", Some(2_000_000_000)),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("1.2.3", None),
            ("99999999999TiB", None),
            ("1e9", None),
        ] {
            assert_eq!(parse_size(text), expect, "{text}");
        }
    }

    #[test]
    fn filters() {
        for good in ["info", "OFF", "warn,server=debug", "info, engine::step=trace", "hyper=off"] {
            assert!(is_filter(good), "{good}");
        }
        for bad in ["loud", "", "info,", "info,x=y=z", "server=loud", "=info", "info;debug", "server[span]=info", "3"] {
            assert!(!is_filter(bad), "{bad}");
        }
    }

    #[test]
    fn every_example_is_of_its_kind() {
        for key in KEYS.iter().chain(MODEL_KEYS).chain(API_KEY_KEYS) {
            let table: toml::Table = format!("x = {}", key.example).parse().unwrap();
            check(key.kind, &table["x"], Path::new("")).unwrap();
        }
    }

    #[test]
    fn tables_of_paths_count_from_the_file() {
        let table: toml::Table = "x = { a = \"lora/a\", b = \"/b.gguf\" }".parse().unwrap();
        let paths = BTreeMap::from([("a".to_owned(), "/base/lora/a".into()), ("b".to_owned(), "/b.gguf".into())]);
        assert_eq!(check(Kind::Paths, &table["x"], Path::new("/base")), Ok(Checked::Paths(paths)));
        for wrong in ["x = { a = 1 }", "x = { a = \"\" }", "x = [\"a\"]"] {
            let table: toml::Table = wrong.parse().unwrap();
            assert!(check(Kind::Paths, &table["x"], Path::new("")).unwrap_err().contains("a table of names and paths"));
        }
    }

    #[test]
    fn refusals_say_what_was_expected() {
        let base = Path::new("/base");
        let refused = |kind, value: Value| check(kind, &value, base).unwrap_err();
        assert_eq!(
            refused(Kind::Whole(0, 65535), Value::Integer(70000)),
            "expected a whole number from 0 to 65535, found 70000"
        );
        assert_eq!(
            refused(Kind::Choice(&["text", "json"]), Value::String("xml".into())),
            "expected \"text\" or \"json\", found \"xml\""
        );
        assert_eq!(refused(Kind::Text, Value::String(String::new())), "expected text, found an empty text");
        assert_eq!(
            refused(Kind::Seconds(0.0, 10.0), Value::Float(f64::NAN)),
            "expected seconds from 0 to 10, found nan"
        );
        assert_eq!(
            refused(Kind::Filter, Value::String("loud".into())),
            "expected one of off, error, warn, info, debug, trace, or such levels for single parts like \
             \"info,server=debug\", found \"loud\""
        );
        assert_eq!(refused(Kind::Bool, Value::Integer(1)), "expected true or false, found 1");
        assert!(refused(Kind::List, Value::Array(vec![Value::Integer(1)])).contains("a list of texts"));
    }

    #[test]
    fn paths_count_from_the_file() {
        let value = Value::String("a/b".into());
        assert_eq!(check(Kind::Path, &value, Path::new("/base")), Ok(Checked::Path("/base/a/b".into())));
    }
}
