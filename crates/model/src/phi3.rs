//! Phi-3 and Phi-4-mini: queries, keys and values in one tensor, and so the gate and what it lets through; a sliding window
//! of all layers where the file has one; the halves of a head's first values turn together, frequencies divided by
//! LongRoPE's factors where the file has them.

use formats::gguf::Gguf;
use kernels::RopeOrder;

use crate::LoadError;
use crate::architecture::{Architecture, boxed};
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Layer};
use crate::rope;
use crate::weights::Loader;

pub(crate) const PHI3: Architecture =
    Architecture { name: "phi3", config, load: |config, loader| load(config, loader).map(boxed) };

fn config(gguf: &Gguf) -> Result<ModelConfig, LoadError> {
    let mut config = ModelConfig::read(gguf, PHI3.name, 10_000.0)?;
    config.read_sliding_window_if_any(gguf)?;
    config.refuse_experts()?;
    config.fused = true;
    Ok(config)
}

fn load(config: &ModelConfig, loader: &mut Loader<'_>) -> Result<Decoder, LoadError> {
    let frequencies = rope::frequencies(config, loader, RopeOrder::Halves)?;
    Decoder::load(config, loader, frequencies, |loader, index| {
        Ok(Layer {
            attention_norm: loader.norm(index, "attn_norm", config.hidden)?,
            attention: loader.fused_attention(index)?,
            head_norms: None,
            feed_forward_norm: loader.norm(index, "ffn_norm", config.hidden)?,
            feed_forward: loader.fused_feed_forward(index)?,
        })
    })
}
