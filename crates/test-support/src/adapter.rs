//! Tiny LoRA adapters with seeded weights, in both forms, and the models that they make when they are merged.

use std::path::Path;

use formats::FormatError;
use formats::gguf::{Gguf, TensorInfo, TensorType, Value, Writer};
use formats::safetensors;

use crate::folder::module;
use crate::{Random, TinyModel};

/// Projections that adapters change: GGUF's names.
const PARTS: [&str; 8] = ["attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// A tiny adapter to be, of projections of a [`TinyModel`].
#[derive(Clone, Debug)]
pub struct TinyAdapter {
    /// Rows of each `A`.
    pub rank: u32,
    /// The products are multiplied with `alpha / rank`, …
    pub alpha: f32,
    /// … or with `alpha / sqrt(rank)`; only folders can say so.
    pub rank_stabilized: bool,
    /// Beginnings of the names of matrices (GGUF's) that it changes; empty: it changes all.
    pub only: Vec<String>,
    /// Seed of the weights.
    pub seed: u64,
}

/// The halves of one pair, whose rows stand as in the model's GGUF file.
struct Pair {
    matrix: TensorInfo,
    a: Vec<f32>,
    b: Vec<f32>,
}

impl TinyAdapter {
    /// One that clearly changes what the model says.
    #[must_use]
    pub fn new(rank: u32, seed: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "ranks of tiny adapters")]
        let alpha = rank as f32 / 2.0;
        Self { rank, alpha, rank_stabilized: false, only: Vec::new(), seed }
    }

    /// The one that llama.cpp's answers are kept for.
    #[must_use]
    pub fn reference() -> Self {
        Self::new(4, 40)
    }

    /// Factor of the products.
    fn scale(&self) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "ranks of tiny adapters")]
        let rank = self.rank as f32;
        self.alpha / if self.rank_stabilized { rank.sqrt() } else { rank }
    }

    fn pairs(&self, base: &Gguf) -> Vec<Pair> {
        let mut random = Random::new(self.seed);
        let part = |name: &str| {
            name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.').map(|(_, part)| part.to_owned())
        };
        let chosen = |name: &str| self.only.is_empty() || self.only.iter().any(|start| name.starts_with(start));
        let changed = base
            .tensors()
            .iter()
            .filter(|tensor| chosen(&tensor.name) && part(&tensor.name).is_some_and(|part| PARTS.contains(&&*part)));
        let mut numbers = |count: u64, over: u64| -> Vec<f32> {
            #[expect(clippy::cast_precision_loss, reason = "sizes of tiny models")]
            let scale = 1.0 / (over as f32).sqrt();
            (0..count).map(|_| random.normal() * scale).collect()
        };
        let rank = u64::from(self.rank);
        let pair = |matrix: &TensorInfo| Pair {
            a: numbers(rank * matrix.row_len(), matrix.row_len()),
            b: numbers(matrix.rows() * rank, rank),
            matrix: matrix.clone(),
        };
        changed.map(pair).collect()
    }

    /// Writes the adapter of `model` as PEFT does, to `folder`, which must be there. Only a Llama's.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn write_folder(&self, model: &TinyModel, folder: impl AsRef<Path>) -> Result<(), FormatError> {
        let folder = folder.as_ref();
        let mut writer = safetensors::Writer::new();
        for Pair { matrix, a, b } in self.pairs(&opened(model)?) {
            let name = module(&matrix.name);
            let name = name.strip_suffix(".weight").unwrap_or(&name);
            let rank = u64::from(self.rank);
            let mut b = bytes(&b);
            if ["attn_q.", "attn_k."].iter().any(|part| matrix.name.contains(part)) {
                b = model.in_halves(&TensorInfo { dims: vec![rank, matrix.rows()], ..matrix.clone() }, &b);
            }
            let half = |half: &str| format!("base_model.model.{name}.lora_{half}.weight");
            writer.tensor(&half("A"), TensorType::F32, &[rank, matrix.row_len()], &bytes(&a))?;
            writer.tensor(&half("B"), TensorType::F32, &[matrix.rows(), rank], &b)?;
        }
        let Self { rank, alpha, rank_stabilized, .. } = self;
        let config = format!(
            r#"{{"peft_type":"LORA","task_type":"CAUSAL_LM","r":{rank},"lora_alpha":{alpha:?},"use_rslora":{rank_stabilized},
"bias":"none","modules_to_save":null,"use_dora":false,"init_lora_weights":true,"lora_dropout":0.0}}"#
        );
        let path = folder.join("adapter_config.json");
        let io = |source| FormatError::Io { what: path.display().to_string(), offset: 0, source };
        std::fs::write(&path, config).map_err(io)?;
        writer.write(folder.join("adapter_model.safetensors"))
    }

    /// The adapter of `model` as a GGUF file, so that a test can add faults.
    ///
    /// # Errors
    /// Sizes that do not fit.
    pub fn writer(&self, model: &TinyModel) -> Result<Writer, FormatError> {
        let base = opened(model)?;
        let architecture = base.get_str("general.architecture")?.unwrap_or_default().to_owned();
        let mut writer = Writer::new();
        for (key, value) in
            [("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", &architecture)]
        {
            writer.key(key, Value::String(value.to_owned()));
        }
        writer.key("adapter.lora.alpha", Value::F32(self.alpha));
        for Pair { matrix, a, b } in self.pairs(&base) {
            let rank = u64::from(self.rank);
            writer.tensor(&format!("{}.lora_a", matrix.name), TensorType::F32, &[matrix.row_len(), rank], bytes(&a))?;
            writer.tensor(&format!("{}.lora_b", matrix.name), TensorType::F32, &[rank, matrix.rows()], bytes(&b))?;
        }
        Ok(writer)
    }

    /// `model` with `W + scale * B * A` in place of each `W`.
    ///
    /// # Errors
    /// A model whose weights are not F32.
    pub fn merged(&self, model: &TinyModel) -> Result<Writer, FormatError> {
        let base = opened(model)?;
        let pairs = self.pairs(&base);
        let mut writer = Writer::new();
        for (key, value) in base.metadata() {
            writer.key(key, value.clone());
        }
        for tensor in base.tensors() {
            let mut weights = Vec::new();
            base.read_tensor(tensor, 0..tensor.rows(), &mut weights)?;
            if let Some(Pair { a, b, .. }) = pairs.iter().find(|pair| pair.matrix == *tensor) {
                let cols = a.len() / self.rank as usize;
                let rows = weights.as_chunks_mut().0.chunks_mut(cols).zip(b.chunks(self.rank as usize));
                for (row, b) in rows {
                    for (col, weight) in row.iter_mut().enumerate() {
                        let change = b.iter().zip(a[col..].iter().step_by(cols));
                        let change: f64 = change.map(|(&b, &a)| f64::from(b) * f64::from(a)).sum();
                        #[expect(clippy::cast_possible_truncation, reason = "weights are of f32")]
                        let merged = (f64::from(f32::from_le_bytes(*weight)) + f64::from(self.scale()) * change) as f32;
                        *weight = merged.to_le_bytes();
                    }
                }
            }
            writer.tensor(&tensor.name, tensor.ty, &tensor.dims, weights)?;
        }
        Ok(writer)
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The model's file.
fn opened(model: &TinyModel) -> Result<Gguf, FormatError> {
    let folder =
        tempfile::tempdir().map_err(|source| FormatError::Io { what: "a folder".to_owned(), offset: 0, source })?;
    let path = folder.path().join("tiny.gguf");
    model.write(&path)?;
    Gguf::open(&path)
}
