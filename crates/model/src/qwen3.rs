//! Qwen3, dense and as a mixture of experts: norms of each head's query and key, no biases; the halves of a head turn
//! together.

use formats::gguf::Gguf;
use kernels::RopeOrder;

use crate::LoadError;
use crate::architecture::{Architecture, boxed};
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Layer};
use crate::rope;
use crate::weights::{Biases, Loader};

pub(crate) const QWEN3: Architecture =
    Architecture { name: "qwen3", config, load: |config, loader| load(config, loader).map(boxed) };

pub(crate) const QWEN3_MOE: Architecture = Architecture {
    name: "qwen3moe",
    config: config_of_mixture,
    load: |config, loader| load(config, loader).map(boxed),
};

fn config(gguf: &Gguf) -> Result<ModelConfig, LoadError> {
    ModelConfig::read(gguf, QWEN3.name, 10_000.0)
}

fn config_of_mixture(gguf: &Gguf) -> Result<ModelConfig, LoadError> {
    let config = ModelConfig::read(gguf, QWEN3_MOE.name, 10_000.0)?;
    config.require_experts()?;
    Ok(config)
}

fn load(config: &ModelConfig, loader: &mut Loader<'_>) -> Result<Decoder, LoadError> {
    let frequencies = rope::frequencies(config, loader, RopeOrder::Halves)?;
    Decoder::load(config, loader, frequencies, |loader, index| {
        let query_norm = loader.norm(index, "attn_q_norm", config.head_dim)?;
        let key_norm = loader.norm(index, "attn_k_norm", config.head_dim)?;
        Ok(Layer {
            attention_norm: loader.norm(index, "attn_norm", config.hidden)?,
            attention: loader.attention(index, Biases::None)?,
            head_norms: Some([query_norm, key_norm]),
            feed_forward_norm: loader.norm(index, "ffn_norm", config.hidden)?,
            feed_forward: loader.feed_forward(index)?,
        })
    })
}
