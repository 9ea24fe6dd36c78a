//! Gemma 2: norms before and after each part, local layers with a sliding window and global ones by turns, attention
//! scores and logits brought within caps; the halves of a head turn together.

use formats::gguf::Gguf;
use kernels::{Curve, RopeFrequencies, RopeOrder};

use crate::LoadError;
use crate::architecture::{Architecture, Forward, boxed};
use crate::config::ModelConfig;
use crate::model::sqrt;
use crate::rope;
use crate::step::{Seen, Step};
use crate::weights::{AttentionWeights, Biases, FeedForward, Loader, OuterWeights};

pub(crate) const GEMMA2: Architecture =
    Architecture { name: "gemma2", config, load: |config, loader| Gemma2::load(config, loader).map(boxed) };

/// A local layer, then a global one, and so on.
const GLOBAL_EVERY: usize = 2;
/// Caps of attention scores and of logits, where the file gives none.
const SOFTCAPS: [f32; 2] = [50.0, 30.0];
/// Keys that queries of local layers see, where the file does not say.
const WINDOW: usize = 4096;
/// Layers of the 27B size, whose scores are scaled by the hidden values per head instead of the head's length.
const LAYERS_OF_27B: usize = 46;

struct Layer {
    attention_norm: Vec<f32>,
    attention: AttentionWeights,
    after_attention_norm: Vec<f32>,
    feed_forward_norm: Vec<f32>,
    feed_forward: FeedForward,
    after_feed_forward_norm: Vec<f32>,
}

/// A Gemma 2 model.
struct Gemma2 {
    outer: OuterWeights,
    layers: Vec<Layer>,
    frequencies: [RopeFrequencies; 1],
    embedding_factor: f32,
    scale: f32,
    window: Option<usize>,
}

fn config(gguf: &Gguf) -> Result<ModelConfig, LoadError> {
    let mut config = ModelConfig::read(gguf, GEMMA2.name, 10_000.0)?;
    config.read_sliding_window_if_any(gguf)?;
    config.sliding_window = config.sliding_window.or(Some(WINDOW));
    config.read_softcaps(gguf, SOFTCAPS)?;
    Ok(config)
}

impl Gemma2 {
    fn load(config: &ModelConfig, loader: &mut Loader<'_>) -> Result<Self, LoadError> {
        let layers = (0..config.layers)
            .map(|i| {
                Ok(Layer {
                    attention_norm: loader.norm(i, "attn_norm", config.hidden)?,
                    attention: loader.attention(i, Biases::None)?,
                    after_attention_norm: loader.norm(i, "post_attention_norm", config.hidden)?,
                    feed_forward_norm: loader.norm(i, "ffn_norm", config.hidden)?,
                    feed_forward: loader.feed_forward(i)?,
                    after_feed_forward_norm: loader.norm(i, "post_ffw_norm", config.hidden)?,
                })
            })
            .collect::<Result<Vec<_>, LoadError>>()?;
        let is_27b = config.layers == LAYERS_OF_27B;
        Ok(Self {
            outer: loader.outer()?,
            layers,
            frequencies: [rope::frequencies(config, loader, RopeOrder::Halves)?],
            embedding_factor: sqrt(config.hidden),
            scale: 1.0 / sqrt(if is_27b { config.hidden / config.heads } else { config.head_dim }),
            window: config.sliding_window,
        })
    }
}

impl Forward for Gemma2 {
    fn frequencies(&self) -> &[RopeFrequencies] {
        &self.frequencies
    }

    fn forward(&self, step: &mut Step<'_>, logits: &mut [f32]) {
        step.embed(&self.outer.embedding, Some(self.embedding_factor));
        let mut after_previous: Option<&[f32]> = None;
        for (index, layer) in self.layers.iter().enumerate() {
            let inputs = layer.attention.inputs();
            match after_previous {
                None => step.norm(&layer.attention_norm, &inputs),
                Some(after) => step.norm_add_norm([after, &layer.attention_norm], &inputs),
            }
            step.project_qkv(index, &layer.attention);
            let is_global = index % GLOBAL_EVERY == GLOBAL_EVERY - 1;
            let window = if is_global { None } else { self.window };
            step.attend(index, None, 0, Seen { scale: self.scale, window });
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
