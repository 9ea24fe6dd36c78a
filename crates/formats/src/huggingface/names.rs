//! The names of tensors in transformers, and the names that GGUF has for them.

use super::family::Family;

/// Where a tensor goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the tensor of this name.
    Whole(String),
    /// It is the matrix of one expert, in the tensor of this name.
    Expert { name: String, expert: u32 },
    /// What it holds follows from `config.json`.
    Nowhere,
}

/// Modules outside layers, and GGUF's names.
const OUTER: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// Modules of a layer, and GGUF's names. What the norm after attention is called depends on the family.
const IN_LAYERS: [(&str, &str); 14] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    // Gate and up in one matrix, in this order in both.
    ("mlp.gate_up_proj", "ffn_up"),
];
/// Modules of Mamba outside layers, the first as its authors' files and as transformers have it.
const MAMBA_OUTER: [(&str, &str); 4] = [
    ("backbone.embedding", "token_embd"),
    ("backbone.embeddings", "token_embd"),
    ("backbone.norm_f", "output_norm"),
    ("lm_head", "output"),
];
/// Modules of its layers.
const IN_MAMBA_LAYERS: [(&str, &str); 6] = [
    ("norm", "attn_norm"),
    ("mixer.in_proj", "ssm_in"),
    ("mixer.conv1d", "ssm_conv1d"),
    ("mixer.x_proj", "ssm_x"),
    ("mixer.dt_proj", "ssm_dt"),
    ("mixer.out_proj", "ssm_out"),
];
const NORM_AFTER_ATTENTION: &str = "post_attention_layernorm";

/// Matrices of an expert, and GGUF's names for those of all experts.
const OF_EXPERTS: [(&str, &str); 6] = [
    ("w1", "ffn_gate_exps"),
    ("w2", "ffn_down_exps"),
    ("w3", "ffn_up_exps"),
    ("gate_proj", "ffn_gate_exps"),
    ("down_proj", "ffn_down_exps"),
    ("up_proj", "ffn_up_exps"),
];

/// The place of a tensor; `None` when the family has none of this name.
pub(super) fn place(family: Family, name: &str) -> Option<Place> {
    let (module, kind) = name.rsplit_once('.')?;
    if family == Family::Mamba {
        return mamba(module, kind).map(Place::Whole);
    }
    if kind == "inv_freq" && module.ends_with(".rotary_emb") {
        return Some(Place::Nowhere);
    }
    if !matches!(kind, "weight" | "bias") {
        return None;
    }
    if let Some(gguf) = find(&OUTER, module) {
        return Some(Place::Whole(format!("{gguf}.{kind}")));
    }
    let (layer, module) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let layer = number(layer)?;
    let in_experts = family.experts_module().and_then(|experts| module.strip_prefix(experts)?.strip_prefix('.'));
    if let Some((expert, matrix)) = in_experts.and_then(|rest| rest.strip_prefix("experts.")?.split_once('.')) {
        let name = format!("blk.{layer}.{}.{kind}", find(&OF_EXPERTS, matrix)?);
        return Some(Place::Expert { name, expert: number(expert)? });
    }
    let gguf = match module {
        _ if in_experts == Some("gate") => "ffn_gate_inp",
        NORM_AFTER_ATTENTION if family.is_gemma() => "post_attention_norm",
        NORM_AFTER_ATTENTION => "ffn_norm",
        _ => find(&IN_LAYERS, module)?,
    };
    Some(Place::Whole(format!("blk.{layer}.{gguf}.{kind}")))
}

fn mamba(module: &str, kind: &str) -> Option<String> {
    let weight = matches!(kind, "weight" | "bias");
    if let Some(gguf) = find(&MAMBA_OUTER, module).filter(|_| weight) {
        return Some(format!("{gguf}.{kind}"));
    }
    let (layer, module) = module.strip_prefix("backbone.layers.")?.split_once('.')?;
    let layer = number(layer)?;
    match (module, kind) {
        ("mixer", "A_log") => Some(format!("blk.{layer}.ssm_a")),
        ("mixer", "D") => Some(format!("blk.{layer}.ssm_d")),
        _ if weight => Some(format!("blk.{layer}.{}.{kind}", find(&IN_MAMBA_LAYERS, module)?)),
        _ => None,
    }
}

/// GGUF's name of the matrix of a module that an adapter may change: a projection of a layer.
pub(super) fn projection(module: &str) -> Option<String> {
    let (layer, module) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let part = find(&IN_LAYERS, module).filter(|_| module.ends_with("_proj"))?;
    Some(format!("blk.{}.{part}.weight", number(layer)?))
}

fn find(names: &[(&str, &'static str)], module: &str) -> Option<&'static str> {
    names.iter().find(|(own, _)| *own == module).map(|&(_, gguf)| gguf)
}

/// A number as it is usually written: `07` would be a second name for 7.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(family: Family, name: &str, expected: &str) {
        assert_eq!(place(family, name), Some(Place::Whole(expected.to_owned())), "{name}");
    }

    #[test]
    fn names_of_all_families() {
        check(Family::Llama, "model.embed_tokens.weight", "token_embd.weight");
        check(Family::Llama, "lm_head.weight", "output.weight");
        check(Family::Llama, "model.layers.12.self_attn.o_proj.weight", "blk.12.attn_output.weight");
        check(Family::Llama, "model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight");
        check(Family::Gemma2, "model.layers.0.post_attention_layernorm.weight", "blk.0.post_attention_norm.weight");
        check(Family::Gemma3, "model.layers.0.pre_feedforward_layernorm.weight", "blk.0.ffn_norm.weight");
        check(Family::Gemma3, "model.layers.0.self_attn.q_norm.weight", "blk.0.attn_q_norm.weight");
        check(Family::Qwen2, "model.layers.3.self_attn.q_proj.bias", "blk.3.attn_q.bias");
        check(Family::Phi3, "model.layers.3.self_attn.qkv_proj.weight", "blk.3.attn_qkv.weight");
        check(Family::Phi3, "model.layers.3.mlp.gate_up_proj.weight", "blk.3.ffn_up.weight");
        check(Family::Mixtral, "model.layers.3.block_sparse_moe.gate.weight", "blk.3.ffn_gate_inp.weight");
        check(Family::Qwen3Moe, "model.layers.3.mlp.gate.weight", "blk.3.ffn_gate_inp.weight");
        check(Family::Mamba, "backbone.embeddings.weight", "token_embd.weight");
        check(Family::Mamba, "backbone.norm_f.weight", "output_norm.weight");
        check(Family::Mamba, "backbone.layers.3.norm.weight", "blk.3.attn_norm.weight");
        check(Family::Mamba, "backbone.layers.3.mixer.conv1d.bias", "blk.3.ssm_conv1d.bias");
        check(Family::Mamba, "backbone.layers.3.mixer.A_log", "blk.3.ssm_a");
        check(Family::Mamba, "backbone.layers.3.mixer.D", "blk.3.ssm_d");
        for name in
            ["model.norm.weight", "backbone.layers.3.mixer.A", "backbone.layers.3.A_log", "backbone.norm_f.A_log"]
        {
            assert_eq!(place(Family::Mamba, name), None, "{name}");
        }
        let inv_freq = place(Family::Llama, "model.layers.0.self_attn.rotary_emb.inv_freq");
        assert_eq!(inv_freq, Some(Place::Nowhere));
    }

    #[test]
    fn experts() {
        for (family, name, expected) in [
            (Family::Mixtral, "model.layers.1.block_sparse_moe.experts.7.w1.weight", "blk.1.ffn_gate_exps.weight"),
            (Family::Mixtral, "model.layers.1.block_sparse_moe.experts.7.w2.weight", "blk.1.ffn_down_exps.weight"),
            (Family::Mixtral, "model.layers.1.block_sparse_moe.experts.7.w3.weight", "blk.1.ffn_up_exps.weight"),
            (Family::Qwen3Moe, "model.layers.1.mlp.experts.7.gate_proj.weight", "blk.1.ffn_gate_exps.weight"),
            (Family::Qwen3Moe, "model.layers.1.mlp.experts.7.down_proj.weight", "blk.1.ffn_down_exps.weight"),
            (Family::Qwen3Moe, "model.layers.1.mlp.experts.7.up_proj.weight", "blk.1.ffn_up_exps.weight"),
        ] {
            assert_eq!(place(family, name), Some(Place::Expert { name: expected.to_owned(), expert: 7 }), "{name}");
        }
    }

    #[test]
    fn projections() {
        for (module, expected) in [
            ("model.layers.3.self_attn.q_proj", Some("blk.3.attn_q.weight")),
            ("model.layers.3.mlp.gate_up_proj", Some("blk.3.ffn_up.weight")),
            ("model.layers.3.input_layernorm", None),
            ("model.layers.03.self_attn.q_proj", None),
            ("model.layers.0/../1.self_attn.q_proj", None),
            ("lm_head", None),
            ("model.layers.3.mlp.experts.1.gate_proj", None),
        ] {
            assert_eq!(projection(module).as_deref(), expected, "{module}");
        }
    }

    #[test]
    fn other_names_have_no_place() {
        for name in [
            "weight",
            "lm_head.scale",
            "model.layers.weight",
            "model.layers.0.weight",
            "model.layers.00.input_layernorm.weight",
            "model.layers.+1.input_layernorm.weight",
            "model.layers.4294967296.input_layernorm.weight",
            "model.layers.0.self_attn.q_proj.lora_A.weight",
            "model.layers.0.mlp.experts.7.gate_proj.weight",
            "model.layers.0.mlp.gate.weight",
            "model.vision_tower.input_layernorm.weight",
        ] {
            assert_eq!(place(Family::Llama, name), None, "{name}");
        }
    }
}
