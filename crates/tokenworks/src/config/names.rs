//! The names that clients use for models and adapters.

/// Most bytes of a model's name.
const MODEL_NAME_MOST: usize = 128;
/// Longest name of an adapter.
const ADAPTER_NAME_MOST: usize = 64;

/// What is wrong with the name that clients use for a model, if anything. It is printed, logged and part of routes; names
/// like `owner/name` are common elsewhere.
pub(super) fn model_name_problem(name: &str) -> Option<String> {
    let good = (1..=MODEL_NAME_MOST).contains(&name.len())
        && name.chars().all(|c| !c.is_control() && !c.is_whitespace())
        && name.split(['/', '\\']).all(|part| !matches!(part, "" | "." | ".."));
    let shown: String = name.chars().take(MODEL_NAME_MOST).flat_map(char::escape_debug).collect();
    let rule =
        format!("1 to {MODEL_NAME_MOST} bytes, without spaces, control characters and the steps of a path . and ..");
    (!good).then(|| format!("\"{shown}\" is no name for a model ({rule})"))
}

/// What is wrong with the name of an adapter, if anything. It stands behind a colon in `model`, and in paths of routes.
#[must_use]
pub fn adapter_name_problem(name: &str) -> Option<String> {
    let good = !name.starts_with('.')
        && (1..=ADAPTER_NAME_MOST).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let shown: String = name.chars().take(ADAPTER_NAME_MOST).flat_map(char::escape_debug).collect();
    let rule = format!("letters, digits, -, _ and . only, at most {ADAPTER_NAME_MOST}, the first no dot");
    (!good).then(|| format!("\"{shown}\" is no name for an adapter ({rule})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_play_no_tricks() {
        for good in ["legal", "a-b_c.2", "0"] {
            assert_eq!(adapter_name_problem(good), None, "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a\\b", "a:b", "a b", ".hidden", "ä", "a\0", &"x".repeat(65)] {
            assert!(adapter_name_problem(bad).is_some(), "{bad:?}");
        }
        for good in ["small", "owner/name", "hf:o/r/m-Q4_0.gguf", "a:b", "ä.1"] {
            assert_eq!(model_name_problem(good), None, "{good}");
        }
        for bad in ["", "../etc", "a/../b", "/a", "a//b", "a b", "x\u{1b}[31m", "a\n", &"x".repeat(129)] {
            assert!(model_name_problem(bad).is_some(), "{bad:?}");
        }
    }
}
