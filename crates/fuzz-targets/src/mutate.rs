//! Changes of inputs that keep their form, so that what lies behind the reading is reached: libFuzzer's own changes of bytes
//! mostly break lengths and brackets.

mod gguf;
mod json;

use self::gguf::mutate_gguf;
use self::json::mutate_json;
use crate::files::GGUF;

/// Changes the first `size` bytes of `data`, which may become at most `size_max` bytes. Gives how many they are then; `None`, in
/// half of all cases too, where bytes are to be changed at random.
#[must_use]
pub fn mutate(data: &mut [u8], size: usize, size_max: usize, seed: u32) -> Option<usize> {
    if !seed.is_multiple_of(2) {
        return None;
    }
    let input = data.get(..size)?;
    let changed = if input.starts_with(GGUF) { mutate_gguf(input, seed) } else { mutate_json(input, seed) };
    let changed = changed.filter(|changed| changed.len() <= size_max)?;
    data.get_mut(..changed.len())?.copy_from_slice(&changed);
    Some(changed.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_stays_within_its_room() {
        let input = br#"--- a
{"b":[1,2,3]}"#;
        let mut seen = std::collections::HashSet::new();
        for seed in 0..100 {
            let mut data = [input.as_slice(), &[0; 40]].concat();
            match mutate(&mut data, input.len(), input.len() + 10, seed) {
                Some(size) => {
                    assert!(seed % 2 == 0 && size <= input.len() + 10, "{seed}");
                    assert!(data[..size].starts_with(b"--- a\n"));
                    seen.insert(data[..size].to_vec());
                }
                None => assert!(data.starts_with(input), "nothing is changed"),
            }
        }
        assert!(seen.len() > 10, "{}", seen.len());
    }
}
