//! Folders as transformers writes them: `config.json` beside safetensors files. Given out under GGUF's names, so that
//! whoever takes a model does not care where it comes from.
//!
//! Names of keys and tensors, and what becomes of their values, follow llama.cpp's converter (`convert_hf_to_gguf.py`,
//! `gguf-py/gguf/tensor_mapping.py`), with one exception: rows of queries and keys of Llama stay in their order, and
//! `llama.rope.order` = `halves` says so, until a file is to be written ([`order`]).

pub(crate) mod adapter;
pub(crate) mod config;
mod family;
mod fields;
mod names;
pub(crate) mod order;
mod rope;
mod weights;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use half::{bf16, f16};

use self::config::Description;
use self::fields::Fields;
use self::names::Place;
use crate::FormatError;
use crate::data_file::{DataFile, Run, TensorData};
use crate::error::shown;
use crate::gguf::{Gguf, Origin, TensorInfo, TensorType, byte_len};
use crate::safetensors::Safetensors;

const CONFIG: &str = "config.json";
/// Real ones have a few KiB.
const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Longest tensor whose values are changed: they are taken at once.
const CHANGED_BYTES_MAX: u64 = 4 << 20;
/// Name of a separate output head.
const HEAD: &str = "output.weight";

/// Opens a folder.
pub(crate) fn open(folder: &Path) -> Result<Gguf, FormatError> {
    if !folder.join(CONFIG).exists() {
        let reason = format!("has no {CONFIG}: a model's folder has one, and safetensors files beside it");
        return Err(FormatError::Folder { path: folder.to_owned(), reason });
    }
    let json = read_json(folder, CONFIG, CONFIG_BYTES_MAX)?;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let Description { family, metadata, made, tied, experts } = config::describe(&Fields::new(CONFIG, &json), name)?;
    let mut gguf = Gguf::new(folder, Origin::HuggingFace, metadata);
    let mut stacks = Stacks::new();
    for Safetensors { file, header } in weights::open(folder)? {
        let file = gguf.add_file(file);
        for tensor in header.tensors {
            let run = Run { file, offset: header.data_start + tensor.offset, len: tensor.byte_len };
            match names::place(family, &tensor.name) {
                None => {
                    let reason = format!("architecture \"{}\" has no tensor of this name", family.architecture());
                    return Err(FormatError::Tensor { tensor: shown(&tensor.name), reason });
                }
                Some(Place::Nowhere) => {}
                // A tied head is the embedding, whatever else the files hold.
                Some(Place::Whole(name)) if tied && name == HEAD => {}
                Some(Place::Whole(name)) if family.is_gemma() && name.ends_with("norm.weight") => {
                    // Transformers multiplies with 1 more than it stores.
                    let values = changed(gguf.files(), (&tensor, 1), run, |weight| weight + 1.0)?;
                    add_made(&mut gguf, name, tensor.dims, &values)?;
                }
                Some(Place::Whole(name)) if name.ends_with(".ssm_a") => {
                    // Transformers stores the logarithm of what fades.
                    let values = changed(gguf.files(), (&tensor, 2), run, |log| -log.exp())?;
                    add_made(&mut gguf, name, tensor.dims, &values)?;
                }
                Some(Place::Whole(name)) if name.ends_with(".ssm_conv1d.weight") => {
                    // For PyTorch each channel is a group, of one input.
                    let &[taps, 1, channels] = tensor.dims.as_slice() else {
                        let reason = format!("{:?} is no shape of a convolution of single channels", tensor.dims);
                        return Err(FormatError::Tensor { tensor: shown(&tensor.name), reason });
                    };
                    let dims = vec![taps, channels];
                    gguf.add_tensor(TensorInfo { name, dims, ..tensor }, TensorData::Stored(vec![run]))?;
                }
                Some(Place::Whole(name)) => {
                    gguf.add_tensor(TensorInfo { name, ..tensor }, TensorData::Stored(vec![run]))?;
                }
                Some(Place::Expert { name, expert }) => {
                    stacks.entry(name).or_default().push(Expert { number: expert, tensor, run });
                }
            }
        }
    }
    for (name, parts) in stacks {
        add_stack(&mut gguf, name, parts, experts)?;
    }
    for (name, values) in made {
        add_made(&mut gguf, name.to_owned(), vec![values.len() as u64], &values)?;
    }
    if !tied && gguf.tensor(HEAD).is_none() {
        let (field, expected) = ("tie_word_embeddings".to_owned(), "true where there is no tensor \"lm_head.weight\"");
        return Err(FormatError::Config {
            file: CONFIG,
            field,
            expected: expected.to_owned(),
            actual: "is false".to_owned(),
        });
    }
    Ok(gguf)
}

/// Reads a file of the folder that holds JSON.
fn read_json(folder: &Path, name: &str, limit: u64) -> Result<serde_json::Value, FormatError> {
    let file = DataFile::open(&folder.join(name))?;
    if file.len > limit {
        return Err(FormatError::Limit { what: format!("size in bytes of {name}"), actual: file.len, limit });
    }
    let mut bytes = Vec::new();
    let read = file.reader().take(limit).read_to_end(&mut bytes);
    read.map_err(|source| FormatError::Io { what: name.to_owned(), offset: 0, source })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| FormatError::Json { file: name.to_owned(), reason: error.to_string() })
}

/// Matrices of single experts, by the name of the tensor that they make up.
type Stacks = BTreeMap<String, Vec<Expert>>;

/// A matrix of one expert.
struct Expert {
    number: u32,
    tensor: TensorInfo,
    run: Run,
}

/// Makes one tensor of the matrices of all experts: `[row length, rows, experts]`.
fn add_stack(gguf: &mut Gguf, name: String, mut parts: Vec<Expert>, experts: u32) -> Result<(), FormatError> {
    let wrong = |tensor: &str, reason: String| FormatError::Tensor { tensor: shown(tensor), reason };
    parts.sort_unstable_by_key(|part| part.number);
    for (number, part) in (0..).zip(&parts) {
        if part.number >= experts {
            return Err(wrong(&part.tensor.name, format!("{CONFIG} tells of {experts} experts, from 0")));
        }
        if part.number != number {
            return Err(wrong(&name, format!("expert {number} of {experts} is missing")));
        }
    }
    if (parts.len() as u64) < u64::from(experts) {
        return Err(wrong(&name, format!("expert {} of {experts} is missing", parts.len())));
    }
    let Some(first) = parts.first() else { return Ok(()) };
    let (ty, one) = (first.tensor.ty, first.tensor.dims.clone());
    if let Some(other) = parts.iter().find(|part| part.tensor.dims != one || part.tensor.ty != ty) {
        let (shape, own) = (&other.tensor.dims, other.tensor.ty);
        let reason = format!("it is {own} {shape:?} (row length first), but that of expert 0 is {ty} {one:?}");
        return Err(wrong(&other.tensor.name, reason));
    }
    if one.len() != 2 {
        return Err(wrong(&first.tensor.name, format!("it has {} dimensions instead of 2", one.len())));
    }
    let dims = [one, vec![u64::from(experts)]].concat();
    let byte_len = byte_len(ty, &dims).map_err(|reason| wrong(&name, reason))?;
    let runs = parts.iter().map(|part| part.run).collect();
    gguf.add_tensor(TensorInfo { name, ty, dims, offset: 0, byte_len }, TensorData::Stored(runs))
}

/// Adds a tensor of F32 with these values.
fn add_made(gguf: &mut Gguf, name: String, dims: Vec<u64>, values: &[f32]) -> Result<(), FormatError> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let byte_len = bytes.len() as u64;
    let tensor = TensorInfo { name, ty: TensorType::F32, dims, offset: 0, byte_len };
    gguf.add_tensor(tensor, TensorData::Made(bytes))
}

/// The values of a small tensor of so many dimensions as GGUF has them, each changed by `change`.
fn changed(
    files: &[DataFile],
    (tensor, dims): (&TensorInfo, usize),
    run: Run,
    change: impl Fn(f32) -> f32,
) -> Result<Vec<f32>, FormatError> {
    let wrong = |reason: String| FormatError::Tensor { tensor: shown(&tensor.name), reason };
    if tensor.dims.len() != dims || tensor.byte_len > CHANGED_BYTES_MAX {
        let what = if dims == 1 { "a norm's weights" } else { "A of all channels" };
        return Err(wrong(format!("{:?} is no shape of {what}", tensor.dims)));
    }
    let len = usize::try_from(tensor.byte_len).map_err(|error| wrong(error.to_string()))?;
    let mut bytes = vec![0; len];
    TensorData::Stored(vec![run]).read(files, &tensor.name, 0, &mut bytes)?;
    let pairs = || bytes.as_chunks::<2>().0.iter();
    let stored: Vec<f32> = match tensor.ty {
        TensorType::F16 => pairs().map(|&pair| f16::from_le_bytes(pair).to_f32()).collect(),
        TensorType::BF16 => pairs().map(|&pair| bf16::from_le_bytes(pair).to_f32()).collect(),
        // The only other one that safetensors files are read with.
        _ => bytes.as_chunks::<4>().0.iter().map(|&quad| f32::from_le_bytes(quad)).collect(),
    };
    Ok(stored.into_iter().map(change).collect())
}
