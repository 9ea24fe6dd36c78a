//! Changes of a GGUF file: of its keys and the tensors that it describes.

use formats::gguf::{Array, Gguf, TensorHead, TensorInfo, TensorType, Value, header_bytes};

use crate::files::{DATA_BYTES, Folder};
use crate::random::Random;

/// Words that strings are changed to.
const WORDS: [&str; 24] = [
    "llama",
    "qwen2",
    "qwen3",
    "qwen3moe",
    "phi3",
    "gemma2",
    "gemma3",
    "mamba",
    "mamba2",
    "gpt2",
    "bert",
    "t5",
    "default",
    "smollm",
    "llama-bpe",
    "qwen2",
    "tekken",
    "linear",
    "yarn",
    "longrope",
    "none",
    "halves",
    "phi-3",
    "",
];
/// Keys that are added. Those of architectures have their first word left out.
const KEYS: [&str; 24] = [
    ".vocab_size",
    ".expert_count",
    ".expert_used_count",
    ".expert_feed_forward_length",
    ".attention.sliding_window",
    ".attention.key_length",
    ".attention.value_length",
    ".rope.dimension_count",
    ".rope.freq_base",
    ".rope.order",
    ".rope.scaling.type",
    ".rope.scaling.factor",
    ".rope.scaling.original_context_length",
    ".rope.scaling.yarn_beta_fast",
    ".attn_logit_softcapping",
    ".ssm.state_size",
    "general.alignment",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.precompiled_charsmap",
    "split.count",
    "split.no",
];
const NUMBERS: [u32; 12] = [0, 1, 2, 3, 7, 16, 24, 31, 1024, 65_536, 1 << 31, u32::MAX];
const FLOATS: [f32; 10] = [0.0, -1.0, 1.0, 1e-30, 1e30, 0.5, 4.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE];

/// A file with a key or a tensor changed, and what stood behind its header behind the new one. `None` where the input is no
/// file that can be opened, or where what it became cannot be written.
pub(super) fn mutate_gguf(input: &[u8], seed: u32) -> Option<Vec<u8>> {
    let folder = Folder::new();
    let gguf = Gguf::open(folder.write("m.gguf", input, DATA_BYTES)).ok()?;
    let mut random = Random::new(seed);
    let mut keys: Vec<(String, Value)> =
        gguf.metadata().iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut tensors = gguf.tensors().to_vec();
    let data_start = header(&keys, &tensors)?.len();
    if random.below(2) == 0 {
        change_key(&mut keys, &mut random);
    } else {
        change_tensor(&mut tensors, &mut random);
    }
    let data = input.get(data_start..).unwrap_or_default();
    Some([&header(&keys, &tensors)?, data].concat())
}

fn header(keys: &[(String, Value)], tensors: &[TensorInfo]) -> Option<Vec<u8>> {
    let heads: Vec<TensorHead<'_>> =
        tensors.iter().map(|tensor| TensorHead { name: &tensor.name, ty: tensor.ty, dims: &tensor.dims }).collect();
    header_bytes(keys.iter().map(|(key, value)| (key.as_str(), value)), &heads).ok()
}

fn change_key(keys: &mut Vec<(String, Value)>, random: &mut Random) {
    let index = random.below(keys.len());
    match random.below(8) {
        0 if !keys.is_empty() => drop(keys.swap_remove(index)),
        1 => {
            let architecture = architecture(keys);
            let key = random.one_of(&KEYS).copied().unwrap_or_default();
            let key = if key.starts_with('.') { format!("{architecture}{key}") } else { key.to_owned() };
            keys.push((key, odd(random)));
        }
        2 => {
            // The same sizes under another architecture.
            let (from, to) = (architecture(keys), random.one_of(&WORDS[..9]).copied().unwrap_or_default());
            for (key, value) in keys {
                if let Some(rest) = key.strip_prefix(&from).filter(|rest| rest.starts_with('.')) {
                    *key = format!("{to}{rest}");
                } else if key == "general.architecture" {
                    *value = to.into();
                }
            }
        }
        _ => {
            if let Some((_, value)) = keys.get_mut(index) {
                change_value(value, random);
            }
        }
    }
}

fn architecture(keys: &[(String, Value)]) -> String {
    keys.iter()
        .find_map(|(key, value)| match value {
            Value::String(name) if key == "general.architecture" => Some(name.clone()),
            _ => None,
        })
        .unwrap_or_default()
}

fn odd(random: &mut Random) -> Value {
    match random.below(6) {
        0 => Value::F32(random.one_of(&FLOATS).copied().unwrap_or_default()),
        1 => random.one_of(&WORDS).copied().unwrap_or_default().into(),
        2 => Value::Bool(random.below(2) == 0),
        3 => Value::Array(Array::F32(FLOATS[..random.below(FLOATS.len())].to_vec())),
        _ => Value::U32(random.one_of(&NUMBERS).copied().unwrap_or_default()),
    }
}

fn change_value(value: &mut Value, random: &mut Random) {
    match value {
        Value::Array(array) => change_array(array, random),
        Value::U32(number) if random.below(2) == 0 => {
            *number = number.wrapping_add([1, u32::MAX, *number, 32][random.below(4)]);
        }
        _ => *value = odd(random),
    }
}

fn change_array(array: &mut Array, random: &mut Random) {
    match array {
        Array::String(strings) => {
            let mut texts: Vec<&str> = strings.iter().collect();
            let (from, to) = (random.below(texts.len()), random.below(texts.len() + 1));
            match random.below(4) {
                0 => texts.truncate(to),
                1 => texts.insert(to, random.one_of(&WORDS).copied().unwrap_or_default()),
                _ if texts.is_empty() => {}
                2 => texts.insert(to, texts[from]),
                _ => drop(texts.swap_remove(from)),
            }
            *strings = texts.into_iter().collect();
        }
        Array::I32(numbers) => match random.below(3) {
            0 => numbers.truncate(random.below(numbers.len())),
            1 => numbers.push(i32::try_from(random.below(8)).unwrap_or(0)),
            _ => {
                let index = random.below(numbers.len());
                if let Some(number) = numbers.get_mut(index) {
                    *number = i32::try_from(random.below(8)).unwrap_or(0);
                }
            }
        },
        Array::F32(numbers) => {
            let index = random.below(numbers.len());
            match (random.one_of(&FLOATS), numbers.get_mut(index)) {
                (Some(float), Some(number)) => *number = *float,
                _ => numbers.push(0.0),
            }
        }
        other => *other = Array::U32(NUMBERS[..random.below(NUMBERS.len())].to_vec()),
    }
}

fn change_tensor(tensors: &mut Vec<TensorInfo>, random: &mut Random) {
    let index = random.below(tensors.len());
    let names: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
    let Some(tensor) = tensors.get_mut(index) else { return };
    match random.below(7) {
        0 => drop(tensors.remove(index)),
        1 => {
            let twin = TensorInfo { name: tensor.name.replace("blk.0", "blk.1"), ..tensor.clone() };
            tensors.push(twin);
        }
        2 => tensor.name = random.one_of(&names).cloned().unwrap_or_default(),
        3 => tensor.ty = random.one_of(&TensorType::ALL).copied().unwrap_or(TensorType::F32),
        4 => tensor.dims.reverse(),
        5 => tensor.dims.push(random.below(3) as u64),
        _ => {
            let at = random.below(tensor.dims.len());
            let dim = tensor.dims[at];
            tensor.dims[at] = [dim + 1, dim.saturating_sub(1), dim * 2, dim / 2, 1, 256][random.below(6)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_support::TinyModel;

    #[test]
    fn a_change_keeps_the_form() {
        let header = TinyModel { layers: 1, hidden: 32, ..TinyModel::llama() }.writer().unwrap().to_bytes();
        let (mut open, mut refused) = (0, 0);
        for seed in 0..200 {
            let Some(changed) = mutate_gguf(&header, seed) else { continue };
            assert_eq!(Some(&changed), mutate_gguf(&header, seed).as_ref(), "a seed stands for one change");
            let folder = Folder::new();
            match Gguf::open(folder.write("m.gguf", &changed, DATA_BYTES)) {
                Ok(_) => open += 1,
                Err(_) => refused += 1,
            }
        }
        assert!(open > 100 && refused > 5, "{open} {refused}");
        assert_eq!(mutate_gguf(b"GGUF", 1), None);
    }
}
