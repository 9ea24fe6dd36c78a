//! `config.json` in GGUF's words. What GGUF's metadata has no key for is checked to be as GGUF's architecture has it, so that
//! no setting is passed over: defaults are taken only where transformers has one that old files rely on.

use std::collections::BTreeMap;

use super::family::Family;
use super::fields::{Fields, narrow};
use super::rope;
use crate::FormatError;
use crate::gguf::Value;

/// Layers of Gemma's 27B sizes, whose scores are scaled by the hidden values per head instead of the head's length.
const GEMMA2_LAYERS_OF_27B: u32 = 46;
const GEMMA3_LAYERS_OF_27B: u32 = 62;
/// Of so many layers of Gemma the last is global; the others are local.
const GEMMA2_GLOBAL_EVERY: u32 = 2;
const GEMMA3_GLOBAL_EVERY: u32 = 6;
/// A state holds any context; what llama.cpp's converter writes.
const MAMBA_CONTEXT: u32 = 1 << 20;
/// Longest head that is read: tables of this length are made.
const HEAD_DIM_MAX: u32 = 1 << 16;

/// Fields whose values go into a key as they are, by the key without the architecture.
const FIELDS: [(&str, &str); 19] = [
    ("block_count", "num_hidden_layers"),
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("vocab_size", "vocab_size"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("attention.value_length", "head_dim"),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ("attention.sliding_window", "sliding_window"),
    ("expert_used_count", "num_experts_per_tok"),
    ("expert_feed_forward_length", "moe_intermediate_size"),
    ("rope.freq_base", "rope_theta"),
    ("rope.dimension_count", "partial_rotary_factor"),
    ("ssm.inner_size", "intermediate_size"),
    ("ssm.conv_kernel", "conv_kernel"),
    ("ssm.state_size", "state_size"),
    ("ssm.time_step_rank", "time_step_rank"),
];

/// The field of `config.json` that a metadata key comes from; `None` where none has it as it is.
pub(crate) fn field_of(key: &str) -> Option<&'static str> {
    let (architecture, key) = key.split_once('.')?;
    match (architecture, key) {
        ("mamba", "attention.layer_norm_rms_epsilon") => Some("layer_norm_epsilon"),
        ("qwen3moe", "expert_count") => Some("num_experts"),
        (_, "expert_count") => Some("num_local_experts"),
        _ => FIELDS.iter().find(|(own, _)| *own == key).map(|&(_, field)| field),
    }
}

/// What a `config.json` says.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) family: Family,
    pub(super) metadata: BTreeMap<String, Value>,
    /// Tensors that are not in the files, and their values.
    pub(super) made: Vec<(&'static str, Vec<f32>)>,
    /// Whether the embedding is the output head.
    pub(super) tied: bool,
    /// Experts of a layer; 0 without any.
    pub(super) experts: u32,
}

impl Description {
    /// Sets a metadata key of the architecture.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.insert(format!("{}.{key}", self.family.architecture()), value.into());
    }
}

/// Reads a `config.json`; `name` is the folder's.
pub(super) fn describe(config: &Fields<'_>, name: Option<String>) -> Result<Description, FormatError> {
    let family = family(config)?;
    config.only("quantization_config", "missing (quantized safetensors are not read)", |_| false)?;
    // Those of Gemma and Mamba are tied unless the file says otherwise, all others' are not.
    let tied = config.flag("tie_word_embeddings", family.is_gemma() || family == Family::Mamba)?;
    let mut model = Description { family, metadata: BTreeMap::new(), made: Vec::new(), tied, experts: 0 };
    model.metadata.insert("general.architecture".to_owned(), family.architecture().into());
    if let Some(name) = name {
        model.metadata.insert("general.name".to_owned(), name.into());
    }
    activation(config, family)?;
    token_ids(config)?;
    if family == Family::Mamba {
        mamba(config, &mut model)?;
        return Ok(model);
    }
    let sizes = sizes(config, &mut model)?;
    match family {
        Family::Llama => layer_types(config, sizes.layers, |_| false)?,
        Family::Mistral | Family::Mixtral | Family::Phi3 => window_of_all(config, &mut model, sizes.layers)?,
        Family::Qwen2 | Family::Qwen3 | Family::Qwen3Moe => {
            let expected = "false (windows of this architecture are not supported)";
            config.only("use_sliding_window", expected, |value| value.as_bool() == Some(false))?;
            layer_types(config, sizes.layers, |_| false)?;
        }
        Family::Gemma2 | Family::Gemma3 => gemma(config, &mut model, sizes)?,
        Family::Mamba => {}
    }
    match family {
        Family::Mixtral => experts(config, &mut model, "num_local_experts")?,
        Family::Qwen3Moe => {
            experts(config, &mut model, "num_experts")?;
            qwen3moe(config, &mut model)?;
        }
        _ => {}
    }
    if family.architecture() == "llama" {
        // GGUF's Llama turns adjacent pairs, its rows in another order; here the rows stay.
        model.set("rope.order", "halves");
    }
    rope::describe(config, &mut model, sizes.head_dim)?;
    Ok(model)
}

fn family(config: &Fields<'_>) -> Result<Family, FormatError> {
    let found = match config.texts("architectures")?.as_deref() {
        Some([class]) => Family::ALL.into_iter().find(|family| family.class() == *class),
        _ => None,
    };
    let classes = || Family::ALL.map(Family::class).join(", ");
    found.ok_or_else(|| config.wrong("architectures", format!("a list of one of {}", classes())))
}

#[derive(Clone, Copy)]
struct Sizes {
    layers: u32,
    heads: u32,
    hidden: u32,
    head_dim: u32,
}

/// What all families have in common.
fn sizes(config: &Fields<'_>, model: &mut Description) -> Result<Sizes, FormatError> {
    let family = model.family;
    let (layers, heads, hidden) =
        (config.size("num_hidden_layers")?, config.size("num_attention_heads")?, config.size("hidden_size")?);
    // Files of the first Llamas do not have it.
    let kv_heads = match config.optional_size("num_key_value_heads")? {
        None if family == Family::Llama => heads,
        None => return Err(config.wrong("num_key_value_heads", "an integer of at least 1")),
        Some(kv_heads) => kv_heads,
    };
    let own_head_dim = config.optional_size("head_dim")?;
    let head_dim = match own_head_dim {
        Some(head_dim) => head_dim,
        // Their heads need not make up a hidden state, and each has another default.
        None if matches!(family, Family::Qwen3 | Family::Qwen3Moe) || family.is_gemma() => config.size("head_dim")?,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(config.wrong("num_attention_heads", format!("a divisor of hidden_size, {hidden}"))),
    };
    if head_dim > HEAD_DIM_MAX || !head_dim.is_multiple_of(2) {
        let field = if own_head_dim.is_some() { "head_dim" } else { "num_attention_heads" };
        return Err(config.wrong(field, format!("such that heads have an even length up to {HEAD_DIM_MAX}")));
    }
    let eps = config.float("rms_norm_eps")?;
    for (key, size) in [
        ("block_count", layers),
        ("context_length", config.size("max_position_embeddings")?),
        ("embedding_length", hidden),
        ("feed_forward_length", config.size("intermediate_size")?),
        ("vocab_size", config.size("vocab_size")?),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv_heads),
        ("attention.key_length", head_dim),
        ("attention.value_length", head_dim),
    ] {
        model.set(key, size);
    }
    model.set("attention.layer_norm_rms_epsilon", narrow(eps));
    Ok(Sizes { layers, heads, hidden, head_dim })
}

/// State-space layers alone: no heads, no positions.
fn mamba(config: &Fields<'_>, model: &mut Description) -> Result<(), FormatError> {
    for (key, field) in [
        ("block_count", "num_hidden_layers"),
        ("embedding_length", "hidden_size"),
        ("vocab_size", "vocab_size"),
        ("ssm.inner_size", "intermediate_size"),
        ("ssm.conv_kernel", "conv_kernel"),
        ("ssm.state_size", "state_size"),
        ("ssm.time_step_rank", "time_step_rank"),
    ] {
        model.set(key, config.size(field)?);
    }
    model.set("context_length", MAMBA_CONTEXT);
    model.set("attention.layer_norm_rms_epsilon", narrow(config.float("layer_norm_epsilon")?));
    config.only("use_bias", "false (biases of the projections are not supported)", |value| {
        value.as_bool() == Some(false)
    })?;
    config.only("use_conv_bias", "true", |value| value.as_bool() == Some(true))
}

/// Tokens that begin and end a text are tokens. The tokenizer's files say which count.
fn token_ids(config: &Fields<'_>) -> Result<(), FormatError> {
    let tokens = config.size("vocab_size")?;
    let is_id = |value: &serde_json::Value| value.as_u64().is_some_and(|id| id < u64::from(tokens));
    for field in ["bos_token_id", "eos_token_id"] {
        let expected = format!("an id from 0 to {}, the last of vocab_size, or a list of such", tokens - 1);
        config.only(field, &expected, |value| {
            value.as_array().map_or_else(|| is_id(value), |ids| ids.iter().all(is_id))
        })?;
    }
    Ok(())
}

/// The architectures have one activation each.
fn activation(config: &Fields<'_>, family: Family) -> Result<(), FormatError> {
    let (field, name) =
        if family.is_gemma() { ("hidden_activation", "gelu_pytorch_tanh") } else { ("hidden_act", "silu") };
    config.only(field, &format!("\"{name}\""), |value| value.as_str() == Some(name))
}

/// Checks a list of layers, if there is one, against what the architecture has: `is_local` of each.
fn layer_types(config: &Fields<'_>, layers: u32, is_local: impl Fn(u32) -> bool) -> Result<(), FormatError> {
    const FIELD: &str = "layer_types";
    let Some(types) = config.texts(FIELD)? else { return Ok(()) };
    let name = |layer| if is_local(layer) { "sliding_attention" } else { "full_attention" };
    if types.len() as u64 == u64::from(layers) && (0..).zip(&types).all(|(layer, ty)| *ty == name(layer)) {
        return Ok(());
    }
    let first: Vec<&str> = (0..layers.min(6)).map(name).collect();
    Err(config.wrong(FIELD, format!("{layers} names that begin with {}, and so on", first.join(", "))))
}

/// A window that is that of all layers.
fn window_of_all(config: &Fields<'_>, model: &mut Description, layers: u32) -> Result<(), FormatError> {
    const FIELD: &str = "sliding_window";
    let window = config.optional_size(FIELD)?;
    if model.family == Family::Mistral && !config.names(FIELD) {
        return Err(config.wrong(FIELD, "a number of tokens, or null for no window"));
    }
    if let Some(window) = window {
        model.set("attention.sliding_window", window);
    }
    layer_types(config, layers, |_| window.is_some())
}

fn experts(config: &Fields<'_>, model: &mut Description, field: &str) -> Result<(), FormatError> {
    const USED: &str = "num_experts_per_tok";
    let (experts, used) = (config.size(field)?, config.size(USED)?);
    if used > experts {
        return Err(config.wrong(USED, format!("at most {field}, {experts}")));
    }
    model.set("expert_count", experts);
    model.set("expert_used_count", used);
    model.experts = experts;
    Ok(())
}

fn qwen3moe(config: &Fields<'_>, model: &mut Description) -> Result<(), FormatError> {
    model.set("expert_feed_forward_length", config.size("moe_intermediate_size")?);
    // Its default is false; the architecture in GGUF knows no other than true.
    if !config.flag("norm_topk_prob", false)? {
        return Err(config.wrong("norm_topk_prob", "true"));
    }
    config.only("decoder_sparse_step", "1 (experts in every layer)", |value| value.as_u64() == Some(1))?;
    let is_empty = |value: &serde_json::Value| value.as_array().is_some_and(Vec::is_empty);
    config.only("mlp_only_layers", "[] (experts in every layer)", is_empty)
}

fn gemma(config: &Fields<'_>, model: &mut Description, sizes: Sizes) -> Result<(), FormatError> {
    const SCALE: &str = "query_pre_attn_scalar";
    // Fields and keys of the same names.
    const CAPS: [&str; 2] = ["attn_logit_softcapping", "final_logit_softcapping"];
    let (global_every, layers_of_27b) = match model.family {
        Family::Gemma2 => (GEMMA2_GLOBAL_EVERY, GEMMA2_LAYERS_OF_27B),
        _ => (GEMMA3_GLOBAL_EVERY, GEMMA3_LAYERS_OF_27B),
    };
    model.set("attention.sliding_window", config.size("sliding_window")?);
    layer_types(config, sizes.layers, |layer| layer % global_every != global_every - 1)?;
    for field in ["sliding_window_pattern", "_sliding_window_pattern"] {
        let expected = format!("{global_every}: of so many layers the last is global");
        config.only(field, &expected, |value| value.as_u64() == Some(u64::from(global_every)))?;
    }
    config.only("use_bidirectional_attention", "false", |value| value.as_bool() == Some(false))?;
    let scale = if sizes.layers == layers_of_27b { sizes.hidden / sizes.heads } else { sizes.head_dim };
    if config.float(SCALE)? != f64::from(scale) {
        return Err(config.wrong(SCALE, format!("{scale}, as the architecture has it at this size")));
    }
    for field in CAPS {
        if model.family == Family::Gemma2 {
            let cap = config.float(field)?;
            if cap <= 0.0 {
                return Err(config.wrong(field, "above 0"));
            }
            model.set(field, narrow(cap));
        } else {
            config.only(field, "null", |_| false)?;
        }
    }
    Ok(())
}
