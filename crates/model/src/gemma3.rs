//! Gemma 3: norms before and after each part, norms of queries and keys, local layers with a sliding window between
//! global ones, and a rotary base for each kind; the halves of a head turn together.

use formats::gguf::Gguf;
use kernels::{Curve, RopeFrequencies, RopeOrder};

use crate::LoadError;
use crate::architecture::{Architecture, Forward, boxed};
use crate::config::ModelConfig;
use crate::model::sqrt;
use crate::rope;
use crate::step::{Seen, Step};
use crate::weights::{AttentionWeights, Biases, FeedForward, Loader, OuterWeights};

pub(crate) const GEMMA3: Architecture = Architecture {
    name: "gemma3",
    config: Gemma3::config,
    load: |config, loader| Gemma3::load(config, loader).map(boxed),
};

/// Five local layers, then a global one, and so on.
const GLOBAL_EVERY: usize = 6;
/// Rotary base of local layers; the file's base is that of the global ones.
const LOCAL_ROPE_BASE: f64 = 10_000.0;
/// Layers of the 27B size, whose scores are scaled by the hidden values per head instead of the head's length.
const LAYERS_OF_27B: usize = 62;

const GLOBAL: usize = 0;
const LOCAL: usize = 1;

struct Layer {
    attention_norm: Vec<f32>,
    attention: AttentionWeights,
    query_norm: Vec<f32>,
    key_norm: Vec<f32>,
    after_attention_norm: Vec<f32>,
    feed_forward_norm: Vec<f32>,
    feed_forward: FeedForward,
    after_feed_forward_norm: Vec<f32>,
}

/// A Gemma 3 model.
struct Gemma3 {
    outer: OuterWeights,
    layers: Vec<Layer>,
    /// In the order of [`GLOBAL`] and [`LOCAL`].
    frequencies: [RopeFrequencies; 2],
    embedding_factor: f32,
    scale: f32,
    window: Option<usize>,
}

impl Gemma3 {
    fn config(gguf: &Gguf) -> Result<ModelConfig, LoadError> {
        let mut config = ModelConfig::read(gguf, GEMMA3.name, 1_000_000.0)?;
        config.read_sliding_window(gguf)?;
        Ok(config)
    }

    fn load(config: &ModelConfig, loader: &mut Loader<'_>) -> Result<Self, LoadError> {
        let layers = (0..config.layers)
            .map(|i| {
                Ok(Layer {
                    attention_norm: loader.norm(i, "attn_norm", config.hidden)?,
                    attention: loader.attention(i, Biases::None)?,
                    query_norm: loader.norm(i, "attn_q_norm", config.head_dim)?,
                    key_norm: loader.norm(i, "attn_k_norm", config.head_dim)?,
                    after_attention_norm: loader.norm(i, "post_attention_norm", config.hidden)?,
                    feed_forward_norm: loader.norm(i, "ffn_norm", config.hidden)?,
                    feed_forward: loader.feed_forward(i)?,
                    after_feed_forward_norm: loader.norm(i, "post_ffw_norm", config.hidden)?,
                })
            })
            .collect::<Result<Vec<_>, LoadError>>()?;
        let local = RopeFrequencies::new(RopeOrder::Halves, config.rope_dims, LOCAL_ROPE_BASE, 1.0);
        Ok(Self {
            outer: loader.outer()?,
            layers,
            frequencies: [rope::frequencies(config, loader, RopeOrder::Halves)?, local],
            embedding_factor: sqrt(config.hidden),
            scale: 1.0
                / sqrt(if config.layers == LAYERS_OF_27B { config.hidden / config.heads } else { config.head_dim }),
            window: config.sliding_window,
        })
    }
}

impl Forward for Gemma3 {
    fn frequencies(&self) -> &[RopeFrequencies] {
        &self.frequencies
    }

    fn forward(&self, step: &mut Step<'_>, logits: &mut [f32]) {
        step.embed(&self.outer.embedding, Some(self.embedding_factor));
        let mut after_previous: Option<&[f32]> = None;
        for (index, layer) in self.layers.iter().enumerate() {
            let is_global = index % GLOBAL_EVERY == GLOBAL_EVERY - 1;
            let inputs = layer.attention.inputs();
            match after_previous {
                None => step.norm(&layer.attention_norm, &inputs),
                Some(after) => step.norm_add_norm([after, &layer.attention_norm], &inputs),
            }
            step.project_qkv(index, &layer.attention);
            let norms = Some([&*layer.query_norm, &*layer.key_norm]);
            let (table, window) = if is_global { (GLOBAL, None) } else { (LOCAL, self.window) };
            step.attend(index, norms, table, Seen { scale: self.scale, window });
            step.project_output(index, &layer.attention);
            let norms = [&*layer.after_attention_norm, &*layer.feed_forward_norm];
            step.norm_add_norm(norms, &layer.feed_forward.inputs());
            step.feed_forward(index, &layer.feed_forward, Curve::Gelu);
            after_previous = Some(&layer.after_feed_forward_norm);
        }
        if let Some(after) = after_previous {
            step.norm_then_add(after);
        }
        step.head(&self.outer, logits);
    }
}
