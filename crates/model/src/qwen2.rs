//! Qwen2 and Qwen2.5: biases of queries, keys and values; the halves of a head turn together.

use formats::gguf::Gguf;
use kernels::RopeOrder;

use crate::LoadError;
use crate::architecture::{Architecture, boxed};
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Layer};
use crate::rope;
use crate::weights::{Biases, Loader};

pub(crate) const QWEN2: Architecture =
    Architecture { name: "qwen2", config, load: |config, loader| load(config, loader).map(boxed) };

fn config(gguf: &Gguf) -> Result<ModelConfig, LoadError> {
    ModelConfig::read(gguf, QWEN2.name, 10_000.0)
}

fn load(config: &ModelConfig, loader: &mut Loader<'_>) -> Result<Decoder, LoadError> {
    let frequencies = rope::frequencies(config, loader, RopeOrder::Halves)?;
    Decoder::load(config, loader, frequencies, |loader, index| {
        Ok(Layer {
            attention_norm: loader.norm(index, "attn_norm", config.hidden)?,
            attention: loader.attention(index, Biases::OfInputs)?,
            head_norms: None,
            feed_forward_norm: loader.norm(index, "ffn_norm", config.hidden)?,
            feed_forward: loader.feed_forward(index)?,
        })
    })
}
