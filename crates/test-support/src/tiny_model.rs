//! Tiny models with seeded weights.

mod variants;
mod write;

use std::path::Path;

use formats::FormatError;
use formats::gguf::TensorType;

use crate::vocabulary::{CHAT_TEMPLATE, VOCAB_SIZE};

/// Architectures that can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Llama; with a window Mistral, with experts Mixtral.
    Llama,
    /// Qwen2: biases of queries, keys and values.
    Qwen2,
    /// Qwen3: norms of heads; with experts Qwen3-MoE.
    Qwen3,
    /// Phi-3: fused tensors.
    Phi3,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3.
    Gemma3,
    /// Mamba: state-space layers of twice as many channels as hidden values.
    Mamba,
}

/// How rotary angles are stretched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeStretch {
    /// Not at all.
    None,
    /// Positions are divided by this.
    Linear(f32),
    /// Divisors of the frequencies in `rope_freqs.weight`.
    Divisors,
    /// YaRN by this factor, from the original context.
    Yarn(f32),
    /// Divisors of the frequencies for long and for short contexts, and a factor of attention.
    Longrope,
}

/// Experts of each layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TinyExperts {
    /// How many.
    pub count: u32,
    /// How many a token goes through.
    pub used: u32,
}

/// Sizes of state-space layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TinyStateSpace {
    /// Positions that the convolution sees.
    pub conv_kernel: u32,
    /// Values that each channel remembers.
    pub state_size: u32,
    /// Values that the time steps of all channels are made of; a multiple of 32 for quantized weights.
    pub time_step_rank: u32,
    /// Whether these and the scan's vectors are normed, as in FalconMamba.
    pub dt_b_c_rms: bool,
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
    /// Values of a head that turn by position, if not all.
    pub rope_dims: Option<u32>,
    /// Positions of a sequence.
    pub context_len: u32,
    /// Positions that rotary angles are stretched from.
    pub original_context: u32,
    /// Keys that queries of local layers see (of all layers but for Gemma); 0 where all layers see everything.
    pub sliding_window: u32,
    /// Base of the rotary angles (of global layers, for Gemma 3).
    pub rope_base: f32,
    /// How its angles are stretched.
    pub rope_stretch: RopeStretch,
    /// Biases of attention (Llama; Qwen2 has them anyway).
    pub attention_biases: bool,
    /// Experts (Llama, Qwen3); `feed_forward` is each one's then.
    pub experts: Option<TinyExperts>,
    /// What attention scores and logits are brought within (Gemma 2).
    pub softcaps: [f32; 2],
    /// Sizes of layers (Mamba).
    pub state_space: TinyStateSpace,
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
            rope_dims: None,
            context_len: 2048,
            original_context: 512,
            sliding_window: 0,
            rope_base: 10_000.0,
            rope_stretch: RopeStretch::None,
            attention_biases: false,
            experts: None,
            softcaps: [4.0, 6.0],
            state_space: TinyStateSpace { conv_kernel: 4, state_size: 16, time_step_rank: 32, dt_b_c_rms: false },
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
}

#[cfg(test)]
mod tests {
    use formats::gguf::Gguf;

    use super::*;

    #[test]
    fn files_of_all_kinds_open() {
        let folder = tempfile::tempdir().unwrap();
        for (name, model) in TinyModel::variants() {
            for ty in TensorType::ALL {
                let path = folder.path().join("tiny.gguf");
                let result = model.clone().with_weights(ty).write(&path);
                if ty.block_len() == 256 {
                    assert!(result.is_err(), "{name} {ty}");
                    continue;
                }
                result.unwrap();
                let gguf = Gguf::open(&path).unwrap();
                assert_eq!(gguf.tensor("token_embd.weight").unwrap().rows(), model.vocab_size() as u64);
                let down = match model.architecture {
                    Architecture::Mamba => "ssm_out",
                    _ if model.experts.is_some() => "ffn_down_exps",
                    _ => "ffn_down",
                };
                assert_eq!(gguf.tensor(&format!("blk.0.{down}.weight")).unwrap().ty, ty, "{name}");
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
