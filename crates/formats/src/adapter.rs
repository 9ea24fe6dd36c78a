//! LoRA adapters (<https://arxiv.org/abs/2106.09685>): to the matrix `W` of a projection, `scale * B * A` is added, with few
//! rows in `A`. They come as PEFT writes them (a folder with `adapter_config.json` and `adapter_model.safetensors`) or as
//! llama.cpp reads them (a GGUF file of `general.type` "adapter"), and look the same here.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use crate::FormatError;
use crate::error::shown;
use crate::gguf::{Gguf, TensorInfo};
use crate::huggingface;

/// Most rows of an `A`; more make no low rank.
const RANK_MAX: u64 = 1024;
/// Before GGUF's names of the two halves.
const HALVES: [&str; 2] = [".lora_a", ".lora_b"];

/// An open adapter: what it changes, and where the numbers are.
#[derive(Debug)]
pub struct Adapter {
    /// Its tensors, under GGUF's names: that of the matrix, then `.lora_a` or `.lora_b`.
    pub(crate) tensors: Gguf,
    /// GGUF's name of the architecture that it is for; PEFT does not say it.
    pub(crate) architecture: Option<String>,
    pub(crate) changes: Vec<Change>,
}

/// What an adapter does to one matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// GGUF's name of the matrix, like `blk.0.attn_q.weight`.
    pub matrix: String,
    /// Layer of the matrix.
    pub layer: usize,
    /// Which matrix of the layer it is.
    pub projection: Projection,
    /// Rows of `A` and length of the rows of `B`.
    pub rank: usize,
    /// Factor of the product.
    pub scale: f32,
}

/// A matrix of a layer that adapters may change, by GGUF's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Projection {
    /// `attn_q`.
    Query,
    /// `attn_k`.
    Key,
    /// `attn_v`.
    Value,
    /// `attn_qkv`: the three in one matrix.
    QueryKeyValue,
    /// `attn_output`.
    Output,
    /// `ffn_gate`.
    Gate,
    /// `ffn_up`; with the gate's rows before its own where a model has both in one matrix.
    Up,
    /// `ffn_down`.
    Down,
}

impl Projection {
    const NAMES: [(&str, Self); 8] = [
        ("attn_q", Self::Query),
        ("attn_k", Self::Key),
        ("attn_v", Self::Value),
        ("attn_qkv", Self::QueryKeyValue),
        ("attn_output", Self::Output),
        ("ffn_gate", Self::Gate),
        ("ffn_up", Self::Up),
        ("ffn_down", Self::Down),
    ];

    /// The layer and the projection that GGUF's name of a matrix stands for.
    fn parse(matrix: &str) -> Option<(usize, Self)> {
        let (layer, part) = matrix.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
        let number: u32 = layer.parse().ok().filter(|number: &u32| number.to_string() == layer)?;
        let (_, projection) = Self::NAMES.into_iter().find(|(name, _)| *name == part)?;
        Some((usize::try_from(number).ok()?, projection))
    }
}

impl Change {
    /// Name of the tensor `A`, `[rank][row length of the matrix]`.
    #[must_use]
    pub fn a(&self) -> String {
        format!("{}{}", self.matrix, HALVES[0])
    }

    /// Name of the tensor `B`, `[rows of the matrix][rank]`.
    #[must_use]
    pub fn b(&self) -> String {
        format!("{}{}", self.matrix, HALVES[1])
    }
}

impl Adapter {
    /// Opens a folder of PEFT or a GGUF file.
    ///
    /// # Errors
    /// [`FormatError`] when a file is missing, damaged or no adapter, a half of a pair is missing, or it changes what no
    /// adapter may change here; the name says what.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FormatError> {
        let path = path.as_ref();
        if path.is_dir() { huggingface::adapter::open(path) } else { open_gguf(path) }
    }

    /// Its tensors, as those of a model are given out.
    #[must_use]
    pub fn tensors(&self) -> &Gguf {
        &self.tensors
    }

    /// GGUF's name of the architecture that it is for, if it says so.
    #[must_use]
    pub fn architecture(&self) -> Option<&str> {
        self.architecture.as_deref()
    }

    /// Whether rows of queries and keys stand as they were trained, the halves of a head apart; otherwise as GGUF's
    /// architecture has them.
    #[must_use]
    pub fn rows_as_trained(&self) -> bool {
        self.architecture.is_none()
    }

    /// What it changes, by layer and projection.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

fn refused(reason: impl Into<String>) -> FormatError {
    FormatError::Adapter { reason: reason.into() }
}

/// Opens a GGUF file, as `convert_lora_to_gguf.py` of llama.cpp writes it.
fn open_gguf(path: &Path) -> Result<Adapter, FormatError> {
    let tensors = Gguf::open(path)?;
    for (key, expected) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        match tensors.get_str(key)? {
            Some(value) if value == expected => {}
            found => {
                let found = found.map_or_else(|| "missing".to_owned(), |found| format!("\"{}\"", shown(found)));
                return Err(refused(format!("metadata key \"{key}\" should be \"{expected}\", but is {found}")));
            }
        }
    }
    // It would change only what follows these tokens.
    let alora = "adapter.alora.invocation_tokens";
    if tensors.get(alora).is_some() {
        return Err(refused(format!("metadata key \"{alora}\": activated LoRA is not supported")));
    }
    let text = |key| Ok::<_, FormatError>(tensors.get_str(key)?.map(str::to_owned));
    let architecture = text("general.architecture")?;
    let architecture = architecture.ok_or_else(|| refused("metadata key \"general.architecture\" is missing"))?;
    let alpha = tensors.get_f32("adapter.lora.alpha")?;
    let alpha = alpha.ok_or_else(|| refused("metadata key \"adapter.lora.alpha\" is missing"))?;
    // llama.cpp takes 0 as: no factor.
    let scale = |_: &str, rank: f32| Ok(if alpha == 0.0 { 1.0 } else { alpha / rank });
    let changes = pair(tensors.tensors(), scale)?;
    Ok(Adapter { tensors, architecture: Some(architecture), changes })
}

/// Puts the halves together; `scale` of a matrix and a rank.
pub(crate) fn pair(
    tensors: &[TensorInfo],
    scale: impl Fn(&str, f32) -> Result<f32, FormatError>,
) -> Result<Vec<Change>, FormatError> {
    let mut pairs: BTreeMap<&str, [Option<&TensorInfo>; 2]> = BTreeMap::new();
    for tensor in tensors {
        let half = HALVES.iter().position(|half| tensor.name.ends_with(half));
        let Some((half, suffix)) = half.map(|half| (half, HALVES[half])) else {
            let reason = "it is no half of a low-rank pair (NAME.lora_a, NAME.lora_b)".to_owned();
            return Err(FormatError::Tensor { tensor: shown(&tensor.name), reason });
        };
        let matrix = tensor.name.strip_suffix(suffix).unwrap_or_default();
        pairs.entry(matrix).or_default()[half] = Some(tensor);
    }
    if pairs.is_empty() {
        return Err(refused("it changes nothing: there are no tensors"));
    }
    let mut changes = Vec::with_capacity(pairs.len());
    for (matrix, halves) in pairs {
        let wrong = |reason: String| FormatError::Tensor { tensor: shown(matrix), reason };
        let (layer, projection) = Projection::parse(matrix).ok_or_else(|| {
            let known: Vec<&str> = Projection::NAMES.iter().map(|(name, _)| *name).collect();
            wrong(format!("an adapter can change blk.N.PART.weight with one of the parts {}", known.join(", ")))
        })?;
        let [Some(a), Some(b)] = halves else {
            let missing = HALVES[usize::from(halves[0].is_some())];
            return Err(wrong(format!("the half {missing} is missing")));
        };
        let rank = a.rows();
        if a.dims.len() != 2 || b.dims.len() != 2 || b.row_len() != rank {
            let reason = format!("A {:?} and B {:?} (row length first) make no low-rank product", a.dims, b.dims);
            return Err(wrong(reason));
        }
        if rank > RANK_MAX {
            let what = format!("rank of the change of \"{}\"", shown(matrix));
            return Err(FormatError::Limit { what, actual: rank, limit: RANK_MAX });
        }
        #[expect(clippy::cast_precision_loss, reason = "at most RANK_MAX")]
        let scale = scale(matrix, rank as f32)?;
        if !scale.is_finite() {
            return Err(wrong(format!("its factor is {scale}")));
        }
        let rank = usize::try_from(rank).map_err(|error| wrong(error.to_string()))?;
        changes.push(Change { matrix: matrix.to_owned(), layer, projection, rank, scale });
    }
    changes.sort_by_key(|change| (change.layer, change.projection));
    Ok(changes)
}
