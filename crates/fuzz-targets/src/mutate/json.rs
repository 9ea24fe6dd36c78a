//! Changes of a file of JSON among the files of an input.

use serde_json::{Value, json};

use crate::files::{joined, parts};
use crate::random::Random;

/// Places that one change chooses from, at most.
const PLACES_MAX: usize = 4096;

/// An input whose parts are as they were, but for a change in one that is JSON; `None` if there is none.
pub(super) fn mutate_json(input: &[u8], seed: u32) -> Option<Vec<u8>> {
    let mut random = Random::new(seed);
    let parts = parts(input);
    let read: Vec<(usize, Value)> = parts
        .iter()
        .enumerate()
        .filter_map(|(index, (_, content))| Some((index, serde_json::from_slice(content).ok()?)))
        .collect();
    let (index, json) = random.one_of(&read)?;
    let (_, other) = random.one_of(&read)?;
    let mut changed = json.clone();
    change(&mut changed, other, &mut random);
    let written = changed.to_string();
    Some(joined(
        parts
            .iter()
            .enumerate()
            .map(|(number, &(name, content))| (name, if number == *index { written.as_bytes() } else { content })),
    ))
}

fn change(json: &mut Value, other: &Value, random: &mut Random) {
    let pointers = pointers(json);
    let Some(pointer) = random.one_of(&pointers) else { return };
    match random.below(6) {
        0 => remove(json, pointer),
        1 => double(json, pointer, random),
        2 | 3 => {
            // What stands elsewhere, or a number beside what is there.
            let elsewhere = self::pointers(other);
            let found = random.one_of(&elsewhere).and_then(|pointer| other.pointer(pointer)).cloned();
            if let (Some(place), Some(found)) = (json.pointer_mut(pointer), found) {
                *place = found;
            }
        }
        4 => {
            let Some(place) = json.pointer_mut(pointer) else { return };
            *place = match place.as_i64() {
                Some(number) => json!(number.wrapping_add([-1, 1, 31, number][random.below(4)])),
                None => odd(random),
            };
        }
        _ => {
            if let Some(place) = json.pointer_mut(pointer) {
                *place = odd(random);
            }
        }
    }
}

/// A value that seldom stands there.
fn odd(random: &mut Random) -> Value {
    let odd = [
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(-1),
        json!(65_536),
        json!(2_147_483_648_u32),
        json!(u32::MAX),
        json!(u64::MAX),
        json!(0.5),
        json!(1e300),
        json!(-1e-300),
        json!(""),
        json!(" "),
        json!("\u{2581}"),
        json!("x".repeat(300)),
        json!([]),
        json!({}),
    ];
    random.one_of(&odd).cloned().unwrap_or_default()
}

/// Pointers to all places, from the outermost on.
fn pointers(json: &Value) -> Vec<String> {
    let mut pointers = vec![String::new()];
    let mut at = 0;
    while let Some(pointer) = pointers.get(at).filter(|_| pointers.len() < PLACES_MAX).cloned() {
        at += 1;
        match json.pointer(&pointer) {
            Some(Value::Array(items)) => pointers.extend((0..items.len()).map(|index| format!("{pointer}/{index}"))),
            Some(Value::Object(fields)) => {
                let escaped = fields.keys().map(|key| key.replace('~', "~0").replace('/', "~1"));
                pointers.extend(escaped.map(|key| format!("{pointer}/{key}")));
            }
            _ => {}
        }
    }
    pointers
}

/// The place that holds this one, and its name or number there.
fn around<'a>(json: &'a mut Value, pointer: &str) -> Option<(&'a mut Value, String)> {
    let (before, last) = pointer.rsplit_once('/')?;
    Some((json.pointer_mut(before)?, last.replace("~1", "/").replace("~0", "~")))
}

fn remove(json: &mut Value, pointer: &str) {
    match around(json, pointer) {
        Some((Value::Object(fields), name)) => drop(fields.remove(&name)),
        Some((Value::Array(items), number)) => {
            if let Some(index) = number.parse().ok().filter(|&index| index < items.len()) {
                items.remove(index);
            }
        }
        _ => {}
    }
}

/// Puts the same under another name, or at another place of the list.
fn double(json: &mut Value, pointer: &str, random: &mut Random) {
    match around(json, pointer) {
        Some((Value::Object(fields), name)) => {
            let names: Vec<String> = fields.keys().cloned().collect();
            let same = fields.get(&name).cloned();
            if let (Some(same), Some(other)) = (same, random.one_of(&names)) {
                fields.insert(if *other == name { format!("{name}1") } else { other.clone() }, same);
            }
        }
        Some((Value::Array(items), number)) => {
            if let Some(same) = number.parse().ok().and_then(|index: usize| items.get(index)).cloned() {
                items.insert(random.below(items.len() + 1), same);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_keeps_the_form() {
        let input = joined([("text", b"no {json".as_slice()), ("a", br#"{"a/b":[1,{"~":"x"}],"c":2}"#)]);
        let mut seen = std::collections::HashSet::new();
        for seed in 0..500 {
            let changed = mutate_json(&input, seed).unwrap();
            assert_eq!(Some(&changed), mutate_json(&input, seed).as_ref(), "a seed stands for one change");
            let files = parts(&changed);
            assert_eq!(files[0], ("text", b"no {json".as_slice()));
            serde_json::from_slice::<Value>(files[1].1).unwrap();
            seen.insert(changed);
        }
        assert!(seen.len() > 50, "{}", seen.len());
        assert_eq!(mutate_json(b"--- a\nno json", 1), None);
    }
}
