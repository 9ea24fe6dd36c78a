//! Writes the seeds whose names begin with `whole-` that are made of tiny models: `seeds fuzz/corpus`.

use std::error::Error;
use std::path::{Path, PathBuf};

use formats::gguf::{Array, Gguf, StringArray, TensorHead, TensorInfo, Value, header_bytes};
use serde_json::{Map, Value as Json, json};
use test_support::TinyModel;

/// Tokens that are kept: the rest only makes seeds larger.
const TOKENS: u32 = 24;

fn main() -> Result<(), Box<dyn Error>> {
    let corpus = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: seeds FOLDER")?;
    for (name, tiny) in TinyModel::variants() {
        std::fs::write(corpus.join(format!("gguf/whole-{name}")), header(&small(tiny))?)?;
    }
    std::fs::write(corpus.join("gguf/whole-split"), split(&small(TinyModel::llama()))?)?;
    std::fs::write(corpus.join("safetensors/whole-llama"), folder(&small(TinyModel::llama()))?)?;
    Ok(())
}

/// The same with two layers, and fewer values in each.
fn small(tiny: TinyModel) -> TinyModel {
    TinyModel { layers: 2, hidden: 32, feed_forward: 32, heads: 2, kv_heads: 1, ..tiny }
}

/// A model's file.
fn file(tiny: &TinyModel, path: &Path) -> Result<Gguf, Box<dyn Error>> {
    tiny.write(path)?;
    Ok(Gguf::open(path)?)
}

/// What stands before the data, for a vocabulary of the first tokens.
fn header(tiny: &TinyModel) -> Result<Vec<u8>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let gguf = file(tiny, &folder.path().join("tiny.gguf"))?;
    let keys: Vec<(&str, Value)> = gguf.metadata().iter().map(|(key, value)| (key.as_str(), cut(key, value))).collect();
    described(&keys, &tensors(&gguf))
}

/// The tensors with as many rows of the embedding and the head as there are tokens.
fn tensors(gguf: &Gguf) -> Vec<TensorInfo> {
    let mut tensors = gguf.tensors().to_vec();
    for tensor in tensors.iter_mut().filter(|tensor| ["token_embd.weight", "output.weight"].contains(&&*tensor.name)) {
        tensor.dims[1] = TOKENS.into();
    }
    tensors
}

fn described(keys: &[(&str, Value)], tensors: &[TensorInfo]) -> Result<Vec<u8>, Box<dyn Error>> {
    let heads: Vec<TensorHead<'_>> =
        tensors.iter().map(|tensor| TensorHead { name: &tensor.name, ty: tensor.ty, dims: &tensor.dims }).collect();
    Ok(header_bytes(keys.iter().map(|(key, value)| (*key, value)), &heads)?)
}

/// The first tokens; without merges, whose parts would be missing.
fn cut(key: &str, value: &Value) -> Value {
    match (key, value) {
        ("tokenizer.ggml.merges", _) => Value::Array(Array::String(StringArray::new())),
        (_, Value::Array(Array::String(strings))) => {
            Value::Array(Array::String(strings.iter().take(TOKENS as usize).collect()))
        }
        (_, Value::Array(Array::I32(numbers))) => Value::Array(Array::I32(numbers[..TOKENS as usize].to_vec())),
        _ => value.clone(),
    }
}

/// Two shards, one after another.
fn split(tiny: &TinyModel) -> Result<Vec<u8>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let gguf = file(tiny, &folder.path().join("tiny.gguf"))?;
    let tensors = tensors(&gguf);
    let mut input = Vec::new();
    let (first, second) = tensors.split_at(tensors.len() / 2);
    for (number, part) in (0_u32..).zip([first, second]) {
        let mut keys = vec![
            ("split.no", Value::U32(number)),
            ("split.count", Value::U32(2)),
            ("split.tensors.count", Value::U32(u32::try_from(tensors.len())?)),
        ];
        if number == 0 {
            keys.extend(gguf.metadata().iter().map(|(key, value)| (key.as_str(), cut(key, value))));
        }
        input.extend(described(&keys, part)?);
    }
    Ok(input)
}

/// A folder of transformers: its configuration and a header.
fn folder(tiny: &TinyModel) -> Result<Vec<u8>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    tiny.write_folder(folder.path())?;
    let mut config: Json = serde_json::from_slice(&std::fs::read(folder.path().join("config.json"))?)?;
    config["vocab_size"] = json!(TOKENS);
    let bytes = std::fs::read(folder.path().join("model.safetensors"))?;
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("no length")?;
    let header: Map<String, Json> = serde_json::from_slice(&rest[..usize::try_from(u64::from_le_bytes(*length))?])?;
    let mut end = 0;
    let mut entries = Map::new();
    for (name, mut entry) in header {
        if name == "model.embed_tokens.weight" {
            entry["shape"][0] = json!(TOKENS);
        }
        let values = entry["shape"].as_array().ok_or("no shape")?.iter().filter_map(Json::as_u64).product::<u64>();
        entry["data_offsets"] = json!([end, end + 4 * values]);
        end += 4 * values;
        entries.insert(name, entry);
    }
    Ok(format!("--- config.json\n{config}\n--- model.safetensors\n{}", Json::Object(entries)).into_bytes())
}
