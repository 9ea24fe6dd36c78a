//! Writes the seeds that are made of tiny models: `seeds fuzz/corpus`. Those named `whole-` must be taken, those named `refused-`
//! must not.

use std::error::Error;
use std::fs::{read, write};
use std::path::{Path, PathBuf};

use formats::gguf::{Array, Gguf, StringArray, TensorHead, TensorInfo, Value, header_bytes};
use serde_json::{Map, Value as Json, json};
use test_support::{TinyAdapter, TinyModel};

type Made<T> = Result<T, Box<dyn Error>>;

/// Tokens that are kept: the rest only makes seeds larger.
const TOKENS: u32 = 24;
/// Data in GGUF files is aligned to so many bytes.
const ALIGNMENT: usize = 32;

fn main() -> Made<()> {
    let corpus = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: seeds FOLDER")?;
    gguf(&corpus.join("gguf"))?;
    safetensors(&corpus.join("safetensors"))?;
    lora(&corpus.join("lora"))
}

/// The same with two layers, and fewer values in each.
fn small(tiny: TinyModel) -> TinyModel {
    TinyModel { layers: 2, hidden: 32, feed_forward: 32, heads: 2, kv_heads: 1, ..tiny }
}

fn gguf(to: &Path) -> Made<()> {
    for (name, tiny) in TinyModel::variants() {
        write(to.join(format!("whole-{name}")), Header::of(&small(tiny))?.with_data()?)?;
    }
    let llama = || Header::of(&small(TinyModel::llama()));
    let [first, second] = llama()?.split()?;
    write(to.join("whole-split"), [&*first, &second].concat())?;
    write(to.join("refused-shard-twice"), first.repeat(2))?;
    write(to.join("refused-shard-missing"), first)?;

    let whole = llama()?.bytes()?;
    write(to.join("refused-cut"), &whole[..whole.len() * 2 / 3])?;
    write(to.join("refused-overlap"), with_offset(whole.clone(), "output_norm.weight", 0)?)?;
    write(to.join("refused-beyond-the-end"), with_offset(whole, "output_norm.weight", 1 << 40)?)?;
    write(to.join("refused-vocabulary"), llama()?.with("llama.vocab_size", Value::U32(7)).bytes()?)?;
    let experts = Header::of(&small(TinyModel::llama().with_experts()))?;
    write(to.join("refused-no-experts"), experts.with("llama.expert_count", Value::U32(0)).bytes()?)?;
    let mamba = Header::of(&small(TinyModel::mamba()))?;
    write(to.join("refused-no-convolution"), mamba.with("mamba.ssm.conv_kernel", Value::U32(0)).bytes()?)?;
    // Its divisors of the rotary angles are left out, and so 0.
    let (_, scaled) =
        TinyModel::variants().into_iter().find(|(name, _)| *name == "llama3").ok_or("no model has divisors")?;
    write(to.join("refused-divisors-of-0"), Header::of(&small(scaled))?.bytes()?)?;
    Ok(())
}

fn safetensors(to: &Path) -> Made<()> {
    for (name, tiny) in [("llama", TinyModel::llama()), ("mamba", TinyModel::mamba())] {
        let folder = tempfile::tempdir()?;
        small(tiny).write_folder(folder.path())?;
        let mut config: Json = serde_json::from_slice(&read(folder.path().join("config.json"))?)?;
        config["vocab_size"] = json!(TOKENS);
        let header = safetensors_header(&folder.path().join("model.safetensors"))?;
        write(to.join(format!("whole-{name}")), folder_of(&config, &header))?;
        if name == "llama" {
            let mut other = config.clone();
            other["vocab_size"] = json!(TOKENS + 1);
            write(to.join("refused-vocabulary"), folder_of(&other, &header))?;
            let mut overlapping = header.clone();
            overlapping["model.norm.weight"]["data_offsets"] = json!([0, 128]);
            write(to.join("refused-overlap"), folder_of(&config, &overlapping))?;
            let mut lacking = header;
            lacking.remove("model.norm.weight");
            write(to.join("refused-lacking"), folder_of(&config, &lacking))?;
        }
    }
    Ok(())
}

fn folder_of(config: &Json, header: &Map<String, Json>) -> String {
    format!("--- config.json\n{config}\n--- model.safetensors\n{}", Json::Object(header.clone()))
}

/// Adapters of the model that the target loads them for: the seed `whole-llama` of GGUF.
fn lora(to: &Path) -> Made<()> {
    let (base, adapter, folder) = (small(TinyModel::llama()), TinyAdapter::new(2, 1), tempfile::tempdir()?);
    let path = folder.path().join("adapter.gguf");
    write(&path, adapter.writer(&base)?.to_bytes())?;
    let whole = || Header::read(&Gguf::open(&path)?);
    write(to.join("whole-gguf"), whole()?.bytes()?)?;
    write(to.join("refused-architecture"), whole()?.with("general.architecture", "qwen2".into()).bytes()?)?;
    write(to.join("refused-model"), Header::of(&base)?.bytes()?)?;
    let mut half = whole()?;
    half.tensors.pop();
    write(to.join("refused-half"), half.bytes()?)?;
    let mut deeper = whole()?;
    deeper.tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace("blk.1", "blk.7"));
    write(to.join("refused-layer"), deeper.bytes()?)?;

    adapter.write_folder(&base, folder.path())?;
    let config: Json = serde_json::from_slice(&read(folder.path().join("adapter_config.json"))?)?;
    let header = Json::Object(safetensors_header(&folder.path().join("adapter_model.safetensors"))?);
    for (name, field, value) in
        [("whole-peft", "r", json!(2)), ("refused-rank", "r", json!(3)), ("refused-dora", "use_dora", json!(true))]
    {
        let mut config = config.clone();
        config[field] = value;
        let files = format!("--- adapter_config.json\n{config}\n--- adapter_model.safetensors\n{header}");
        write(to.join(name), files)?;
    }
    Ok(())
}

/// What stands before the data of a GGUF file.
struct Header {
    keys: Vec<(String, Value)>,
    tensors: Vec<TensorInfo>,
    /// Data of the first tensors, where zeros will not do.
    data: Vec<u8>,
}

impl Header {
    /// A model with the first tokens only.
    fn of(tiny: &TinyModel) -> Made<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("tiny.gguf");
        tiny.write(&path)?;
        Self::read(&Gguf::open(path)?)
    }

    fn read(gguf: &Gguf) -> Made<Self> {
        let keys = gguf.metadata().iter().map(|(key, value)| (key.clone(), cut(key, value))).collect();
        let mut tensors = gguf.tensors().to_vec();
        let needs_data = |tensor: &TensorInfo| tensor.name.starts_with("rope_f");
        tensors.sort_by_key(|tensor| !needs_data(tensor));
        let mut data = Vec::new();
        for tensor in tensors.iter().filter(|tensor| needs_data(tensor)) {
            let mut bytes = Vec::new();
            gguf.read_tensor(tensor, 0..tensor.rows(), &mut bytes)?;
            data.extend(bytes);
            data.resize(data.len().next_multiple_of(ALIGNMENT), 0);
        }
        for tensor in &mut tensors {
            if ["token_embd.weight", "output.weight"].contains(&&*tensor.name) {
                tensor.dims[1] = TOKENS.into();
            }
        }
        Ok(Self { keys, tensors, data })
    }

    /// The same with this value under a key.
    fn with(mut self, key: &str, value: Value) -> Self {
        self.keys.retain(|(own, _)| own != key);
        self.keys.push((key.to_owned(), value));
        self
    }

    fn bytes(&self) -> Made<Vec<u8>> {
        let heads: Vec<TensorHead<'_>> =
            self.tensors.iter().map(|t| TensorHead { name: &t.name, ty: t.ty, dims: &t.dims }).collect();
        Ok(header_bytes(self.keys.iter().map(|(key, value)| (key.as_str(), value)), &heads)?)
    }

    fn with_data(&self) -> Made<Vec<u8>> {
        Ok([self.bytes()?, self.data.clone()].concat())
    }

    /// Two shards.
    fn split(self) -> Made<[Vec<u8>; 2]> {
        let total = Value::U32(u32::try_from(self.tensors.len())?);
        let (first, second) = self.tensors.split_at(self.tensors.len() / 2);
        let shard = |number, keys, tensors: &[TensorInfo]| {
            Self { keys, tensors: tensors.to_vec(), data: Vec::new() }
                .with("split.no", Value::U32(number))
                .with("split.count", Value::U32(2))
                .with("split.tensors.count", total.clone())
                .bytes()
        };
        Ok([shard(0, self.keys.clone(), first)?, shard(1, Vec::new(), second)?])
    }
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

/// The file with another offset of a tensor's data.
fn with_offset(mut file: Vec<u8>, tensor: &str, offset: u64) -> Made<Vec<u8>> {
    let name = file.windows(tensor.len()).position(|window| window == tensor.as_bytes()).ok_or("no such tensor")?;
    // Behind the name: number of sizes, sizes, type.
    let at = name + tensor.len() + 4 + 8 * usize::from(file[name + tensor.len()]) + 4;
    file[at..at + 8].copy_from_slice(&offset.to_le_bytes());
    Ok(file)
}

/// The header of a safetensors file, for a vocabulary of the first tokens.
fn safetensors_header(path: &Path) -> Made<Map<String, Json>> {
    let bytes = read(path)?;
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("no length")?;
    let header: Map<String, Json> = serde_json::from_slice(&rest[..usize::try_from(u64::from_le_bytes(*length))?])?;
    let mut end = 0;
    let mut entries = Map::new();
    for (name, mut entry) in header {
        if ["model.embed_tokens.weight", "backbone.embeddings.weight"].contains(&&*name) {
            entry["shape"][0] = json!(TOKENS);
        }
        let values = entry["shape"].as_array().ok_or("no shape")?.iter().filter_map(Json::as_u64).product::<u64>();
        entry["data_offsets"] = json!([end, end + 4 * values]);
        end += 4 * values;
        entries.insert(name, entry);
    }
    Ok(entries)
}
