//! Llama: norm, grouped-query attention, norm, gated feed-forward; adjacent pairs turn by position.

use formats::gguf::Gguf;
use kernels::{RopeFrequencies, RopeOrder};

use crate::LoadError;
use crate::config::ModelConfig;
use crate::step::{Gate, Seen, Step};
use crate::weights::{AttentionWeights, FeedForwardWeights, Loader, OuterWeights};

/// The architecture's name in a file.
pub(crate) const NAME: &str = "llama";

struct Layer {
    attention_norm: Vec<f32>,
    attention: AttentionWeights,
    feed_forward_norm: Vec<f32>,
    feed_forward: FeedForwardWeights,
}

/// A Llama model.
pub(crate) struct Llama {
    outer: OuterWeights,
    layers: Vec<Layer>,
    frequencies: RopeFrequencies,
    scale: f32,
}

impl Llama {
    pub(crate) fn config(gguf: &Gguf) -> Result<ModelConfig, LoadError> {
        ModelConfig::read(gguf, NAME, 10_000.0)
    }

    pub(crate) fn load(config: &ModelConfig, loader: &mut Loader<'_>) -> Result<Self, LoadError> {
        let layers = (0..config.layers)
            .map(|i| {
                Ok(Layer {
                    attention_norm: loader.norm(i, "attn_norm", config.hidden)?,
                    attention: loader.attention(i)?,
                    feed_forward_norm: loader.norm(i, "ffn_norm", config.hidden)?,
                    feed_forward: loader.feed_forward(i)?,
                })
            })
            .collect::<Result<Vec<_>, LoadError>>()?;
        Ok(Self {
            outer: loader.outer()?,
            layers,
            frequencies: RopeFrequencies::new(
                RopeOrder::Adjacent,
                config.rope_dims,
                config.rope_base,
                config.rope_scaling,
            ),
            scale: 1.0 / crate::model::sqrt(config.head_dim),
        })
    }

    pub(crate) fn frequencies(&self) -> [&RopeFrequencies; 1] {
        [&self.frequencies]
    }

    pub(crate) fn forward(&self, step: &mut Step<'_>, logits: &mut [f32]) {
        step.embed(&self.outer.embedding, None);
        for (index, layer) in self.layers.iter().enumerate() {
            let inputs = layer.attention.inputs();
            match index {
                0 => step.norm(&layer.attention_norm, &inputs),
                _ => step.add_then_norm(&layer.attention_norm, &inputs),
            }
            step.project_qkv(&layer.attention);
            step.attend(index, None, 0, Seen { scale: self.scale, window: None });
            step.project_output(&layer.attention);
            step.add_then_norm(&layer.feed_forward_norm, &layer.feed_forward.inputs());
            step.feed_forward(&layer.feed_forward, Gate::Silu);
        }
        step.add();
        step.head(&self.outer, logits);
    }
}
