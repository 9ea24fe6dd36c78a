//! Tiny models as folders of transformers.

use std::path::Path;

use formats::FormatError;
use formats::gguf::{Gguf, TensorInfo};
use formats::safetensors::Writer;

use crate::{Architecture, TinyModel};

/// Parts of GGUF's names of tensors in a layer, and the modules of transformers.
const MODULES: [(&str, &str); 14] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ssm_in", "mixer.in_proj"),
    ("ssm_conv1d", "mixer.conv1d"),
    ("ssm_x", "mixer.x_proj"),
    ("ssm_dt", "mixer.dt_proj"),
    ("ssm_out", "mixer.out_proj"),
];

impl TinyModel {
    /// Writes a Llama or a Mamba with the same weights as [`write`](Self::write) does, as transformers would: `config.json` and
    /// `model.safetensors` in `folder`, which must be there. There is no tokenizer.
    ///
    /// # Errors
    /// Another architecture, or weights of a type that safetensors does not have, or files that cannot be written.
    pub fn write_folder(&self, folder: impl AsRef<Path>) -> Result<(), FormatError> {
        let folder = folder.as_ref();
        let io = |path: &Path, source| FormatError::Io { what: path.display().to_string(), offset: 0, source };
        let mamba = self.architecture == Architecture::Mamba;
        if !mamba && self.architecture != Architecture::Llama {
            let reason = "is to hold a Llama or a Mamba: no other tiny model is written as one".to_owned();
            return Err(FormatError::Folder { path: folder.to_owned(), reason });
        }
        let config = folder.join("config.json");
        std::fs::write(&config, if mamba { self.mamba_config() } else { self.config() })
            .map_err(|source| io(&config, source))?;
        let gguf = tempfile::NamedTempFile::new().map_err(|source| io(folder, source))?;
        self.write(gguf.path())?;
        let gguf = Gguf::open(gguf.path())?;
        let mut writer = Writer::new();
        for tensor in gguf.tensors() {
            let mut bytes = Vec::new();
            gguf.read_tensor(tensor, 0..tensor.rows(), &mut bytes)?;
            if tensor.name.ends_with("attn_q.weight") || tensor.name.ends_with("attn_k.weight") {
                bytes = self.in_halves(tensor, &bytes);
            }
            let mut shape: Vec<u64> = tensor.dims.iter().rev().copied().collect();
            if tensor.name.ends_with("ssm_conv1d.weight") {
                shape.insert(1, 1);
            }
            if tensor.name.ends_with("ssm_a") {
                // Stored as the logarithm of how fast it fades.
                for value in bytes.as_chunks_mut().0 {
                    *value = (-f32::from_le_bytes(*value)).ln().to_le_bytes();
                }
            }
            let name = if mamba { mamba_module(&tensor.name) } else { module(&tensor.name) };
            writer.tensor(&name, tensor.ty, &shape, &bytes)?;
        }
        writer.write(folder.join("model.safetensors"))
    }

    fn config(&self) -> String {
        let Self { layers, hidden, feed_forward, heads, kv_heads, head_dim, context_len, rope_base, .. } = self;
        let (vocab, tied) = (self.vocab_size(), !self.separate_head);
        format!(
            r#"{{"architectures":["LlamaForCausalLM"],"hidden_size":{hidden},"intermediate_size":{feed_forward},
"num_hidden_layers":{layers},"num_attention_heads":{heads},"num_key_value_heads":{kv_heads},"head_dim":{head_dim},
"vocab_size":{vocab},"max_position_embeddings":{context_len},"rms_norm_eps":1e-5,"rope_theta":{rope_base:?},
"hidden_act":"silu","tie_word_embeddings":{tied}}}"#
        )
    }

    fn mamba_config(&self) -> String {
        let Self { layers, hidden, state_space, separate_head, .. } = self;
        let (inner, vocab, tied) = (2 * hidden, self.vocab_size(), !separate_head);
        let (conv, state, rank) = (state_space.conv_kernel, state_space.state_size, state_space.time_step_rank);
        format!(
            r#"{{"architectures":["MambaForCausalLM"],"hidden_size":{hidden},"intermediate_size":{inner},
"num_hidden_layers":{layers},"conv_kernel":{conv},"state_size":{state},"time_step_rank":{rank},"vocab_size":{vocab},
"layer_norm_epsilon":1e-5,"hidden_act":"silu","use_bias":false,"use_conv_bias":true,"tie_word_embeddings":{tied}}}"#
        )
    }

    /// Rows of queries or keys in the order of transformers. In GGUF the values that turn together are rows `2i` and
    /// `2i + 1` of a head, there `i` and `i + head_dim / 2`.
    pub(crate) fn in_halves(&self, tensor: &TensorInfo, bytes: &[u8]) -> Vec<u8> {
        let row_bytes = bytes.len() / usize::try_from(tensor.rows()).unwrap_or(1).max(1);
        let rows: Vec<&[u8]> = bytes.chunks(row_bytes).collect();
        let heads = rows.chunks(self.head_dim as usize);
        heads
            .flat_map(|head| head.iter().step_by(2).chain(head.iter().skip(1).step_by(2)))
            .copied()
            .flatten()
            .copied()
            .collect()
    }
}

/// The name in transformers of a tensor of a Mamba in GGUF.
fn mamba_module(name: &str) -> String {
    for (own, parameter) in [(".ssm_a", "A_log"), (".ssm_d", "D")] {
        if let Some(layer) = name.strip_suffix(own) {
            return format!("{}.mixer.{parameter}", layer.replacen("blk.", "backbone.layers.", 1));
        }
    }
    let name = module(name);
    let name = name.replacen("model.embed_tokens", "backbone.embeddings", 1);
    let name = name.replacen("model.norm", "backbone.norm_f", 1).replacen("input_layernorm", "norm", 1);
    name.replacen("model.layers", "backbone.layers", 1)
}

/// The name in transformers of a tensor of GGUF.
pub(crate) fn module(name: &str) -> String {
    let (part, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    let module = match part.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((layer, part)) => {
            let module = MODULES.iter().find(|(gguf, _)| *gguf == part).map_or(part, |&(_, module)| module);
            format!("model.layers.{layer}.{module}")
        }
        None => match part {
            "token_embd" => "model.embed_tokens".to_owned(),
            "output_norm" => "model.norm".to_owned(),
            _ => "lm_head".to_owned(),
        },
    };
    format!("{module}.{kind}")
}
