//! Tiny models with seeded weights.

use std::path::Path;

use formats::FormatError;
use formats::gguf::{TensorType, Value, Writer};

use crate::vocabulary::{self, CHAT_TEMPLATE, VOCAB_SIZE};
use crate::{Random, quantize};

/// Architectures that can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama.
    Llama,
    /// Gemma 3.
    Gemma3,
}

/// A tiny model to be: sizes may be changed before it is written.
#[derive(Clone, Debug)]
pub struct TinyModel {
    /// Architecture.
    pub architecture: Architecture,
    /// Layers.
    pub layers: u32,
    /// Values in a hidden state; a multiple of 32 for quantized weights.
    pub hidden: u32,
    /// Values in the middle of a feed-forward part; a multiple of 32 for quantized weights.
    pub feed_forward: u32,
    /// Query heads.
    pub heads: u32,
    /// KV heads, a divisor of `heads`.
    pub kv_heads: u32,
    /// Values of a head.
    pub head_dim: u32,
    /// Positions of a sequence.
    pub context_len: u32,
    /// Keys that queries of local layers see (Gemma 3).
    pub sliding_window: u32,
    /// Base of the rotary angles (of global layers, for Gemma 3).
    pub rope_base: f32,
    /// Type of all matrices.
    pub weight_type: TensorType,
    /// A separate output head instead of the embedding.
    pub separate_head: bool,
    /// The chat template, if any.
    pub chat_template: Option<String>,
    /// Seed of the weights.
    pub seed: u64,
}

impl TinyModel {
    /// Two layers, four query and two KV heads, 512 positions, F32.
    #[must_use]
    pub fn llama() -> Self {
        Self {
            architecture: Architecture::Llama,
            layers: 2,
            hidden: 64,
            feed_forward: 96,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            context_len: 2048,
            sliding_window: 0,
            rope_base: 10_000.0,
            weight_type: TensorType::F32,
            separate_head: false,
            chat_template: Some(CHAT_TEMPLATE.to_owned()),
            seed: 1,
        }
    }

    /// Seven layers (the sixth global), two query heads and one KV head, a window of 40 positions, F32.
    #[must_use]
    pub fn gemma3() -> Self {
        Self {
            architecture: Architecture::Gemma3,
            layers: 7,
            heads: 2,
            kv_heads: 1,
            head_dim: 32,
            sliding_window: 40,
            rope_base: 1_000_000.0,
            seed: 2,
            ..Self::llama()
        }
    }

    /// The same with all matrices of type `ty`.
    #[must_use]
    pub fn with_weights(mut self, ty: TensorType) -> Self {
        self.weight_type = ty;
        self
    }

    /// Tokens in the vocabulary.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        VOCAB_SIZE
    }

    /// Writes the model file.
    ///
    /// # Errors
    /// Sizes that do not fit the weight type, or a file that cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), FormatError> {
        self.writer()?.write(path)
    }

    /// The whole file before it is written, so that a test can add faults.
    ///
    /// # Errors
    /// Sizes that do not fit the weight type.
    pub fn writer(&self) -> Result<Writer, FormatError> {
        let mut writer = Writer::new();
        self.write_keys(&mut writer);
        vocabulary::write(&mut writer, self.chat_template.as_deref());
        let mut tensors = Tensors { writer, random: Random::new(self.seed), ty: self.weight_type };
        let (hidden, vocab) = (self.hidden, VOCAB_SIZE as u64);
        // Logits are rows of the head times a normed hidden state: they spread over about two units.
        tensors.matrix("token_embd.weight", hidden, vocab, 2.0)?;
        tensors.norm("output_norm.weight", hidden, 1.0)?;
        if self.separate_head {
            tensors.matrix("output.weight", hidden, vocab, 2.0)?;
        }
        for layer in 0..self.layers {
            self.write_layer(&mut tensors, layer)?;
        }
        Ok(tensors.writer)
    }

    fn write_keys(&self, writer: &mut Writer) {
        let architecture = match self.architecture {
            Architecture::Llama => "llama",
            Architecture::Gemma3 => "gemma3",
        };
        let mut sizes = vec![
            ("block_count", self.layers),
            ("context_length", self.context_len),
            ("embedding_length", self.hidden),
            ("feed_forward_length", self.feed_forward),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
        ];
        if self.architecture == Architecture::Gemma3 {
            sizes.push(("attention.sliding_window", self.sliding_window));
        }
        writer.key("general.architecture", Value::String(architecture.to_owned()));
        writer.key("general.name", Value::String(format!("tiny {architecture}")));
        for (key, size) in sizes {
            writer.key(&format!("{architecture}.{key}"), Value::U32(size));
        }
        writer.key(&format!("{architecture}.rope.freq_base"), Value::F32(self.rope_base));
        writer.key(&format!("{architecture}.attention.layer_norm_rms_epsilon"), Value::F32(1e-5));
    }

    fn write_layer(&self, tensors: &mut Tensors, layer: u32) -> Result<(), FormatError> {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let (hidden, middle) = (self.hidden, self.feed_forward);
        let (queries, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        // Scores are products of queries and keys over the root of the head's length: they spread over about two units.
        tensors.norm(&name("attn_norm"), hidden, 1.0)?;
        tensors.matrix(&name("attn_q"), hidden, queries.into(), 1.5)?;
        tensors.matrix(&name("attn_k"), hidden, kv.into(), 1.5)?;
        tensors.matrix(&name("attn_v"), hidden, kv.into(), 1.0)?;
        tensors.matrix(&name("attn_output"), queries, hidden.into(), 1.0)?;
        tensors.norm(&name("ffn_norm"), hidden, 1.0)?;
        tensors.matrix(&name("ffn_gate"), hidden, middle.into(), 1.5)?;
        tensors.matrix(&name("ffn_up"), hidden, middle.into(), 1.0)?;
        tensors.matrix(&name("ffn_down"), middle, hidden.into(), 1.0)?;
        if self.architecture == Architecture::Gemma3 {
            tensors.norm(&name("attn_q_norm"), self.head_dim, 1.5)?;
            tensors.norm(&name("attn_k_norm"), self.head_dim, 1.5)?;
            tensors.norm(&name("post_attention_norm"), hidden, 1.0)?;
            tensors.norm(&name("post_ffw_norm"), hidden, 1.0)?;
        }
        Ok(())
    }
}

/// Makes tensors one after another.
struct Tensors {
    writer: Writer,
    random: Random,
    ty: TensorType,
}

impl Tensors {
    /// A matrix whose products with values of size 1 have about the size `gain`.
    fn matrix(&mut self, name: &str, cols: u32, rows: u64, gain: f32) -> Result<(), FormatError> {
        #[expect(clippy::cast_precision_loss, reason = "sizes of tiny models")]
        let scale = gain / (cols as f32).sqrt();
        let values: Vec<f32> = (0..u64::from(cols) * rows).map(|_| self.random.normal() * scale).collect();
        let bytes = quantize(self.ty, &values).unwrap_or_default();
        self.writer.tensor(name, self.ty, &[cols.into(), rows], bytes)?;
        Ok(())
    }

    /// Weights of a norm, around `mean`.
    fn norm(&mut self, name: &str, len: u32, mean: f32) -> Result<(), FormatError> {
        let bytes = (0..len).flat_map(|_| (mean + 0.2 * self.random.normal()).to_le_bytes()).collect();
        self.writer.tensor(name, TensorType::F32, &[len.into()], bytes)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use formats::gguf::Gguf;

    use super::*;

    #[test]
    fn files_of_all_kinds_open() {
        let folder = tempfile::tempdir().unwrap();
        for model in [TinyModel::llama(), TinyModel::gemma3()] {
            for ty in TensorType::ALL {
                let path = folder.path().join("tiny.gguf");
                let result = model.clone().with_weights(ty).write(&path);
                if ty.block_len() == 256 {
                    assert!(result.is_err());
                    continue;
                }
                result.unwrap();
                let gguf = Gguf::open(&path).unwrap();
                assert_eq!(gguf.tensor("token_embd.weight").unwrap().rows(), model.vocab_size() as u64);
                assert_eq!(gguf.tensor("blk.0.ffn_down.weight").unwrap().ty, ty);
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_file() {
        let bytes = |seed| TinyModel { seed, ..TinyModel::llama() }.writer().unwrap().to_bytes();
        assert!(bytes(3) == bytes(3));
        assert!(bytes(3) != bytes(4));
    }
}
