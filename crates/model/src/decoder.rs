//! The layers that most architectures share: norm, grouped-query attention, norm, gated feed-forward (or a mixture of
//! these), each part added to the hidden states. Architectures differ in what they load for it.

use kernels::{Curve, RopeFrequencies};

use crate::LoadError;
use crate::architecture::Forward;
use crate::config::ModelConfig;
use crate::model::sqrt;
use crate::step::{Seen, Step};
use crate::weights::{AttentionWeights, FeedForward, Loader, OuterWeights};

/// One layer.
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) attention: AttentionWeights,
    /// Norms of each head's query and key.
    pub(crate) head_norms: Option<[Vec<f32>; 2]>,
    pub(crate) feed_forward_norm: Vec<f32>,
    pub(crate) feed_forward: FeedForward,
}

/// A model of such layers.
pub(crate) struct Decoder {
    outer: OuterWeights,
    layers: Vec<Layer>,
    frequencies: [RopeFrequencies; 1],
    scale: f32,
    /// Keys that queries of all layers see.
    window: Option<usize>,
}

impl Decoder {
    /// Loads the outer weights and each layer with `layer`.
    pub(crate) fn load(
        config: &ModelConfig,
        loader: &mut Loader<'_>,
        frequencies: RopeFrequencies,
        layer: impl Fn(&mut Loader<'_>, usize) -> Result<Layer, LoadError>,
    ) -> Result<Self, LoadError> {
        let layers = (0..config.layers).map(|index| layer(loader, index)).collect::<Result<_, _>>()?;
        Ok(Self {
            outer: loader.outer()?,
            layers,
            frequencies: [frequencies],
            scale: 1.0 / sqrt(config.head_dim),
            window: config.sliding_window,
        })
    }
}

impl Forward for Decoder {
    fn frequencies(&self) -> &[RopeFrequencies] {
        &self.frequencies
    }

    fn forward(&self, step: &mut Step<'_>, logits: &mut [f32]) {
        step.embed(&self.outer.embedding, None);
        for (index, layer) in self.layers.iter().enumerate() {
            let inputs = layer.attention.inputs();
            match index {
                0 => step.norm(&layer.attention_norm, &inputs),
                _ => step.add_then_norm(&layer.attention_norm, &inputs),
            }
            step.project_qkv(index, &layer.attention);
            let norms = layer.head_norms.as_ref().map(|[query, key]| [&**query, &**key]);
            step.attend(index, norms, 0, Seen { scale: self.scale, window: self.window });
            step.project_output(index, &layer.attention);
            step.add_then_norm(&layer.feed_forward_norm, &layer.feed_forward.inputs());
            step.feed_forward(index, &layer.feed_forward, Curve::Silu);
        }
        step.add();
        step.head(&self.outer, logits);
    }
}
