//! Which type each tensor gets.

use std::collections::BTreeMap;

use formats::gguf::{Gguf, Origin, TensorHead, TensorInfo, TensorType, Value};

use crate::cli::QuantizedType;
use crate::error::{Error, Result};

/// The output projection, and what serves as one where it is missing.
const HEADS: [&str; 2] = ["output.weight", "token_embd.weight"];

/// Matrices that stay as they are: they are small, and answers hang on them.
const KEPT: [&str; 3] = ["norm", "ffn_gate_inp", "ssm_conv1d"];

/// Weights in a super-block.
const SUPER_BLOCK: u64 = 256;

/// Version of the block formats, as other readers want to find it.
const QUANTIZATION_VERSION: u32 = 2;

/// A tensor and the type it gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned<'a> {
    pub(super) tensor: &'a TensorInfo,
    pub(super) to: TensorType,
}

impl Planned<'_> {
    /// As the new file's header has it.
    pub(super) fn head(&self) -> TensorHead<'_> {
        TensorHead { name: &self.tensor.name, ty: self.to, dims: &self.tensor.dims }
    }
}

/// The type of the file format.
pub(super) fn tensor_type(to: QuantizedType) -> TensorType {
    match to {
        QuantizedType::Q8_0 => TensorType::Q8_0,
        QuantizedType::Q5_0 => TensorType::Q5_0,
        QuantizedType::Q4_0 => TensorType::Q4_0,
        QuantizedType::Q4_1 => TensorType::Q4_1,
        QuantizedType::Q4K => TensorType::Q4_K,
        QuantizedType::Q5K => TensorType::Q5_K,
        QuantizedType::Q6K => TensorType::Q6_K,
        QuantizedType::F16 => TensorType::F16,
        QuantizedType::BF16 => TensorType::BF16,
        QuantizedType::F32 => TensorType::F32,
    }
}

/// What each tensor becomes, in the file's order.
///
/// # Errors
/// A tensor that would change is quantized already (unless `allow_requantize`); nothing of a GGUF file would change.
pub(super) fn plan(gguf: &Gguf, to: QuantizedType, allow_requantize: bool) -> Result<Vec<Planned<'_>>> {
    let head = HEADS.into_iter().find(|name| gguf.tensor(name).is_some());
    let is_folder = gguf.origin() == Origin::HuggingFace;
    let plan: Vec<Planned<'_>> = gguf
        .tensors()
        .iter()
        .map(|tensor| {
            let is_head = head == Some(tensor.name.as_str());
            let to = if changes(tensor) {
                target(to, is_head, tensor.row_len()).unwrap_or(tensor.ty)
            } else if is_folder {
                // Other readers of GGUF want them so; those of a GGUF file are so already, or do as they are.
                TensorType::F32
            } else {
                tensor.ty
            };
            Planned { tensor, to }
        })
        .collect();
    let path = gguf.path().display();
    let mut changed = plan.iter().filter(|planned| planned.to != planned.tensor.ty).peekable();
    if changed.peek().is_none() && !is_folder {
        return Err(Error::usage(format!("nothing to do: {path} has these types already")));
    }
    match changed.find(|planned| planned.tensor.ty.block_len() > 1) {
        Some(Planned { tensor, .. }) if !allow_requantize => Err(Error::usage(format!(
            "{path} is quantized already: \"{}\" is {}",
            tensor.name.escape_debug(),
            tensor.ty
        ))
        .hint("take a file in F32, F16 or BF16, or accept the double loss with --allow-requantize")),
        _ => Ok(plan),
    }
}

/// Whether a tensor is a matrix of weights.
fn changes(tensor: &TensorInfo) -> bool {
    tensor.dims.len() > 1 && tensor.name.ends_with(".weight") && !KEPT.iter().any(|part| tensor.name.contains(part))
}

/// The type for rows of this length; `None`: they are not whole blocks of any.
fn target(to: QuantizedType, is_head: bool, row_len: u64) -> Option<TensorType> {
    let whole = row_len.is_multiple_of(SUPER_BLOCK);
    let ty = match (tensor_type(to), is_head) {
        (ty @ (TensorType::Q8_0 | TensorType::F16 | TensorType::BF16 | TensorType::F32), _) => ty,
        (_, true) => TensorType::Q6_K,
        (ty, false) => ty,
    };
    let ty = match ty {
        TensorType::Q4_K if !whole => TensorType::Q5_0,
        TensorType::Q5_K if !whole => TensorType::Q5_1,
        TensorType::Q6_K if !whole => TensorType::Q8_0,
        ty => ty,
    };
    row_len.is_multiple_of(ty.block_len()).then_some(ty)
}

/// The source's metadata with what is different now.
pub(super) fn metadata(gguf: &Gguf, to: QuantizedType) -> BTreeMap<String, Value> {
    let mut keys = gguf.metadata().clone();
    // They describe the source's file, not the model.
    keys.retain(|key, _| key != "general.alignment" && !key.starts_with("split."));
    keys.insert("general.file_type".to_owned(), Value::U32(file_type(to)));
    keys.insert("general.quantization_version".to_owned(), Value::U32(QUANTIZATION_VERSION));
    keys
}

/// The number that stands for "mostly this type" in a file.
fn file_type(to: QuantizedType) -> u32 {
    match to {
        QuantizedType::F32 => 0,
        QuantizedType::F16 => 1,
        QuantizedType::Q4_0 => 2,
        QuantizedType::Q4_1 => 3,
        QuantizedType::Q8_0 => 7,
        QuantizedType::Q5_0 => 8,
        QuantizedType::Q4K => 14,
        QuantizedType::Q5K => 16,
        QuantizedType::Q6K => 18,
        QuantizedType::BF16 => 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_keep_six_bits_and_odd_rows_find_a_type() {
        for (to, is_head, row_len, expected) in [
            (QuantizedType::Q4_0, false, 576, Some(TensorType::Q4_0)),
            (QuantizedType::Q4_0, true, 576, Some(TensorType::Q8_0)),
            (QuantizedType::Q4_0, true, 512, Some(TensorType::Q6_K)),
            (QuantizedType::Q8_0, true, 512, Some(TensorType::Q8_0)),
            (QuantizedType::Q4K, false, 512, Some(TensorType::Q4_K)),
            (QuantizedType::Q4K, false, 576, Some(TensorType::Q5_0)),
            (QuantizedType::Q5K, false, 576, Some(TensorType::Q5_1)),
            (QuantizedType::Q6K, false, 576, Some(TensorType::Q8_0)),
            (QuantizedType::Q6K, false, 24, None),
            (QuantizedType::F16, true, 24, Some(TensorType::F16)),
        ] {
            assert_eq!(target(to, is_head, row_len), expected, "{to:?} {is_head} {row_len}");
        }
    }

    #[test]
    fn only_matrices_of_weights_change() {
        for (name, dims, expected) in [
            ("blk.0.attn_q.weight", vec![64, 64], true),
            ("blk.0.ffn_down_exps.weight", vec![64, 64, 4], true),
            ("token_embd.weight", vec![64, 100], true),
            ("blk.0.attn_norm.weight", vec![64], false),
            ("blk.0.attn_q.bias", vec![64], false),
            ("blk.0.ffn_gate_inp.weight", vec![64, 4], false),
            ("blk.0.attn_q_norm.weight", vec![64, 2], false),
        ] {
            let tensor = TensorInfo { name: name.to_owned(), ty: TensorType::F32, dims, offset: 0, byte_len: 0 };
            assert_eq!(changes(&tensor), expected, "{name}");
        }
    }
}
