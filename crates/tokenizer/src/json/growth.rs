//! How much longer a text may become before tokens are looked for in it: a few steps one after another can multiply it beyond
//! any memory.

use serde_json::Value;

use super::{fault, objects, type_of};
use crate::TokenizerError;
use crate::error::shown;

/// So many times; real files stay under 64.
const GROWTH_MAX: u64 = 1024;
/// Normalizers, or pre-tokenizers, of a file: each goes through the whole text.
const STEPS_MAX: usize = 64;

/// Checks the steps of a normalizer and a pre-tokenizer; `table_growth` is that of tables of replacements.
pub(super) fn check(
    normalizer: Option<&Value>,
    pre_tokenizer: Option<&Value>,
    table_growth: u64,
) -> Result<(), TokenizerError> {
    let mut growth = 1_u64;
    for (field, list, value) in
        [("normalizer", "normalizers", normalizer), ("pre_tokenizer", "pretokenizers", pre_tokenizer)]
    {
        let steps: Vec<&Value> = value.into_iter().flat_map(|value| objects(value, list)).collect();
        if steps.len() > STEPS_MAX {
            return Err(fault(field, format!("{} steps are more than {STEPS_MAX}", steps.len())));
        }
        for step in steps {
            growth = growth.saturating_mul(of_step(step, table_growth));
            if growth > GROWTH_MAX {
                let step = shown(type_of(step));
                let reason = format!(
                    "a text could become more than {GROWTH_MAX} times longer, with \"{step}\" and what is before it"
                );
                return Err(fault(field, reason));
            }
        }
    }
    Ok(())
}

/// So many times longer a text may become by a step. Those of Unicode do it once, however often they stand there.
fn of_step(step: &Value, table_growth: u64) -> u64 {
    let len = |field: &str| step.get(field).and_then(Value::as_str).map_or(0, |text| text.len() as u64);
    match type_of(step) {
        "ByteLevel" | "Metaspace" => 2,
        "Prepend" => len("prepend").saturating_add(1),
        "Precompiled" => table_growth,
        "Replace" => {
            let pattern = step.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
            match pattern {
                Some(pattern) if !pattern.is_empty() => len("content").div_ceil(pattern.len() as u64).max(1),
                // It may match nothing in front of every byte.
                _ => len("content").saturating_add(1),
            }
        }
        _ => 1,
    }
}
