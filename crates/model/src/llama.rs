//! Llama, Mistral and Mixtral (whose files say "llama" too): adjacent pairs turn by position, frequencies stretched as the
//! file declares; biases of attention, a sliding window of all layers and experts where the file has them.

use formats::gguf::Gguf;
use kernels::RopeOrder;

use crate::LoadError;
use crate::architecture::{Architecture, boxed};
use crate::config::ModelConfig;
use crate::decoder::{Decoder, Layer};
use crate::rope;
use crate::weights::{Biases, Loader};

pub(crate) const LLAMA: Architecture =
    Architecture { name: "llama", config, load: |config, loader| load(config, loader).map(boxed) };

fn config(gguf: &Gguf) -> Result<ModelConfig, LoadError> {
    let mut config = ModelConfig::read(gguf, LLAMA.name, 10_000.0)?;
    config.read_sliding_window_if_any(gguf)?;
    config.rope_order = order(gguf)?;
    Ok(config)
}

fn load(config: &ModelConfig, loader: &mut Loader<'_>) -> Result<Decoder, LoadError> {
    let frequencies = rope::frequencies(config, loader, config.rope_order)?;
    Decoder::load(config, loader, frequencies, |loader, index| {
        Ok(Layer {
            attention_norm: loader.norm(index, "attn_norm", config.hidden)?,
            attention: loader.attention(index, Biases::IfAny)?,
            head_norms: None,
            feed_forward_norm: loader.norm(index, "ffn_norm", config.hidden)?,
            feed_forward: loader.feed_forward(index)?,
        })
    })
}

/// GGUF files hold queries and keys with the rows of a pair side by side. Where these stand as they were trained (other
/// formats seen as such a file), the key "llama.rope.order" says "halves".
fn order(gguf: &Gguf) -> Result<RopeOrder, LoadError> {
    let key = "llama.rope.order";
    match gguf.get_str(key)? {
        None | Some("adjacent") => Ok(RopeOrder::Adjacent),
        Some("halves") => Ok(RopeOrder::Halves),
        Some(other) => Err(LoadError::InvalidKey {
            key: key.to_owned(),
            expected: "\"adjacent\" or \"halves\"".to_owned(),
            actual: format!("\"{}\"", other.chars().take(40).flat_map(char::escape_debug).collect::<String>()),
        }),
    }
}
