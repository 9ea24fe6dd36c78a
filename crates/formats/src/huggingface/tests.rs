//! Folders that are whole, and folders with one fault.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::family::Family;
use super::*;
use crate::gguf::Value;
use crate::safetensors::Writer;

/// A folder that is being made.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(config: &Json) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("config.json", config.to_string());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// A file with F32 tensors of these names and shapes; every value of the tensor number `n` is `n`.
    fn weights(&self, name: &str, tensors: &[(&str, &[u64])]) {
        let mut writer = Writer::new();
        for (number, (name, shape)) in (0_u8..).zip(tensors) {
            let values = usize::try_from(shape.iter().product::<u64>()).unwrap();
            let bytes = f32::from(number).to_le_bytes().repeat(values);
            writer.tensor(name, TensorType::F32, shape, &bytes).unwrap();
        }
        self.write(name, writer.to_bytes());
    }

    fn open(&self) -> Result<Gguf, FormatError> {
        Gguf::open(self.0.path())
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) {
        let message = self.open().unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} lacks {word:?}");
        }
    }
}

fn base(class: &str) -> Json {
    json!({
        "architectures": [class], "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 5, "max_position_embeddings": 100,
        "rms_norm_eps": 1e-5, "rope_theta": 20000.0, "tie_word_embeddings": true,
    })
}

fn with(mut config: Json, more: Json) -> Json {
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    config
}

/// The base with what a family needs besides.
fn config(class: &str) -> Json {
    let more = match class {
        "MistralForCausalLM" => json!({ "sliding_window": null }),
        "MixtralForCausalLM" => json!({ "num_local_experts": 3, "num_experts_per_tok": 2 }),
        "Qwen3ForCausalLM" => json!({ "head_dim": 16 }),
        "Qwen3MoeForCausalLM" => json!({
            "head_dim": 16, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
            "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [],
        }),
        "Gemma2ForCausalLM" => json!({
            "head_dim": 16, "sliding_window": 40, "query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0, "hidden_activation": "gelu_pytorch_tanh",
        }),
        "Gemma3ForCausalLM" => json!({
            "head_dim": 16, "sliding_window": 40, "query_pre_attn_scalar": 16, "rope_local_base_freq": 10000,
            "attn_logit_softcapping": null, "sliding_window_pattern": 6,
        }),
        _ => json!({}),
    };
    with(base(class), more)
}

fn mamba() -> Json {
    json!({
        "architectures": ["MambaForCausalLM"], "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
        "conv_kernel": 4, "state_size": 2, "time_step_rank": 3, "vocab_size": 5, "layer_norm_epsilon": 1e-5,
        "hidden_act": "silu", "use_bias": false, "use_conv_bias": true,
    })
}

/// `A` is what the logarithms stand for, the convolution has a dimension less, and the head is tied unless it is said.
#[test]
fn a_mamba() {
    let folder = Folder::new(&mamba());
    let tensors: [(&str, &[u64]); 4] = [
        ("backbone.embeddings.weight", &[5, 8]),
        ("backbone.layers.0.mixer.A_log", &[16, 2]),
        ("backbone.layers.0.mixer.D", &[16]),
        ("backbone.layers.0.mixer.conv1d.weight", &[16, 1, 4]),
    ];
    folder.weights("model.safetensors", &tensors);
    let gguf = folder.open().unwrap();
    for (key, expected) in [
        ("context_length", 1 << 20),
        ("block_count", 1),
        ("embedding_length", 8),
        ("ssm.inner_size", 16),
        ("ssm.conv_kernel", 4),
        ("ssm.state_size", 2),
        ("ssm.time_step_rank", 3),
    ] {
        assert_eq!(gguf.get_u32(&format!("mamba.{key}")).unwrap(), Some(expected), "{key}");
    }
    let shape = |name| gguf.tensor(name).unwrap().dims.clone();
    assert_eq!(shape("blk.0.ssm_a"), [2, 16]);
    assert_eq!(values(&gguf, "blk.0.ssm_a"), [-1f32.exp(); 32]);
    assert_eq!(values(&gguf, "blk.0.ssm_d"), [2.0; 16]);
    assert_eq!(shape("blk.0.ssm_conv1d.weight"), [4, 16]);
    assert_eq!(values(&gguf, "blk.0.ssm_conv1d.weight"), [3.0; 64]);
}

#[test]
fn mambas_that_are_not_read() {
    let with_tensor = |config: Json, name: &str, shape: &[u64]| {
        let folder = Folder::new(&config);
        folder.weights("model.safetensors", &[("backbone.embeddings.weight", &[5, 8]), (name, shape)]);
        folder
    };
    for (field, value, words) in [
        ("use_bias", json!(true), &["\"use_bias\"", "false"][..]),
        ("use_conv_bias", json!(false), &["\"use_conv_bias\"", "true"]),
        ("time_step_rank", json!("auto"), &["\"time_step_rank\"", "integer"]),
        ("hidden_act", json!("gelu"), &["\"hidden_act\"", "silu"]),
        ("tie_word_embeddings", json!(false), &["tie_word_embeddings", "lm_head.weight"]),
    ] {
        let config = with(mamba(), json!({ field: value }));
        with_tensor(config, "backbone.layers.0.mixer.D", &[16]).refused(words);
    }
    let conv = "backbone.layers.0.mixer.conv1d.weight";
    with_tensor(mamba(), conv, &[16, 2, 4]).refused(&[conv, "no shape of a convolution"]);
    let a = "backbone.layers.0.mixer.A_log";
    with_tensor(mamba(), a, &[32]).refused(&[a, "no shape"]);
    with_tensor(mamba(), "model.norm.weight", &[8]).refused(&["model.norm.weight", "\"mamba\""]);
}

const LLAMA: &str = "LlamaForCausalLM";
const EMBEDDING: (&str, &[u64]) = ("model.embed_tokens.weight", &[5, 32]);

/// A folder with this config and an embedding.
fn folder(config: &Json) -> Folder {
    let folder = Folder::new(config);
    folder.weights("model.safetensors", &[EMBEDDING]);
    folder
}

#[track_caller]
fn refused(config: &Json, words: &[&str]) {
    folder(config).refused(words);
}

fn open(config: &Json) -> Gguf {
    folder(config).open().unwrap()
}

fn values(gguf: &Gguf, tensor: &str) -> Vec<f32> {
    let tensor = gguf.tensor(tensor).unwrap();
    assert_eq!(tensor.ty, TensorType::F32);
    let mut bytes = Vec::new();
    gguf.read_tensor(tensor, 0..tensor.rows(), &mut bytes).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|&quad| f32::from_le_bytes(quad)).collect()
}

#[test]
fn a_llama() {
    let folder = Folder::new(&base(LLAMA));
    let tensors: [(&str, &[u64]); 4] = [
        EMBEDDING,
        ("lm_head.weight", &[5, 32]),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", &[4]),
        ("model.layers.0.self_attn.k_proj.weight", &[16, 32]),
    ];
    folder.weights("model.safetensors", &tensors);
    let gguf = folder.open().unwrap();
    assert_eq!(gguf.origin(), Origin::HuggingFace);
    assert_eq!(gguf.get_str("general.architecture").unwrap(), Some("llama"));
    assert_eq!(gguf.get_str("llama.rope.order").unwrap(), Some("halves"));
    for (key, size) in [
        ("block_count", 6),
        ("context_length", 100),
        ("embedding_length", 32),
        ("feed_forward_length", 48),
        ("vocab_size", 5),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", 8),
        ("attention.value_length", 8),
    ] {
        assert_eq!(gguf.get_u32(&format!("llama.{key}")).unwrap(), Some(size), "{key}");
    }
    assert_eq!(gguf.get_f32("llama.rope.freq_base").unwrap(), Some(20_000.0));
    assert_eq!(gguf.get_f32("llama.attention.layer_norm_rms_epsilon").unwrap(), Some(1e-5));
    let names: Vec<&str> = gguf.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["token_embd.weight", "blk.0.attn_k.weight"], "the head is tied");
    let key = gguf.tensor("blk.0.attn_k.weight").unwrap();
    assert_eq!(key.dims, [32, 16]);
    let mut bytes = Vec::new();
    gguf.read_tensor(key, 3..5, &mut bytes).unwrap();
    assert_eq!(bytes, 3.0_f32.to_le_bytes().repeat(64));
}

#[test]
fn every_family_opens() {
    // Mamba has neither heads nor positions.
    for family in Family::ALL.into_iter().filter(|family| *family != Family::Mamba) {
        let config = config(family.class());
        let gguf = open(&config);
        assert_eq!(gguf.get_str("general.architecture").unwrap(), Some(family.architecture()));
        for field in ["num_key_value_heads", "rope_theta"] {
            let mut without = config.clone();
            without.as_object_mut().unwrap().remove(field);
            match folder(&without).open() {
                Ok(_) => assert_eq!(family, Family::Llama, "{field}"),
                Err(error) => assert!(error.to_string().contains(&format!("\"{field}\"")), "{error}"),
            }
        }
    }
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    for field in [
        "architectures",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
        "rms_norm_eps",
    ] {
        let named = format!("config.json: \"{field}\" should be ");
        for wrong in [json!(null), json!("x"), json!(-1), json!([]), json!({})] {
            if field == "rms_norm_eps" && wrong == json!(-1) {
                continue;
            }
            refused(&with(base(LLAMA), json!({ field: wrong })), &[&named]);
        }
        let mut without = base(LLAMA);
        without.as_object_mut().unwrap().remove(field);
        refused(&without, &[&named, "but is missing"]);
    }
    refused(&json!([1]), &["\"architectures\"", "is missing"]);
    let wrong = |class: &str, more: Json, words: &[&str]| refused(&with(config(class), more), words);
    wrong(LLAMA, json!({ "architectures": ["BertModel"] }), &["architectures", "BertModel", LLAMA]);
    wrong(LLAMA, json!({ "architectures": [LLAMA, LLAMA] }), &["architectures", "a list of one"]);
    wrong(LLAMA, json!({ "hidden_size": 0 }), &["hidden_size", "is 0"]);
    wrong(LLAMA, json!({ "hidden_size": 4294967296_u64 }), &["hidden_size", "is 4294967296"]);
    wrong(LLAMA, json!({ "hidden_size": 30 }), &["num_attention_heads", "a divisor of hidden_size, 30"]);
    wrong(LLAMA, json!({ "head_dim": 7 }), &["head_dim", "even"]);
    wrong(LLAMA, json!({ "head_dim": 4000000000_u32 }), &["head_dim", "up to 65536"]);
    wrong(LLAMA, json!({ "hidden_act": "gelu" }), &["hidden_act", "\"silu\"", "\"gelu\""]);
    wrong(LLAMA, json!({ "quantization_config": {} }), &["quantization_config"]);
    wrong(LLAMA, json!({ "tie_word_embeddings": 1 }), &["tie_word_embeddings"]);
    wrong(LLAMA, json!({ "layer_types": vec!["sliding_attention"; 6] }), &["layer_types", "full_attention"]);
    wrong("MistralForCausalLM", json!({ "sliding_window": 0 }), &["sliding_window", "is 0"]);
    wrong("Qwen2ForCausalLM", json!({ "use_sliding_window": true }), &["use_sliding_window"]);
    wrong("Qwen3ForCausalLM", json!({ "head_dim": null }), &["head_dim", "is null"]);
    wrong("MixtralForCausalLM", json!({ "num_local_experts": 0 }), &["num_local_experts", "is 0"]);
    wrong("MixtralForCausalLM", json!({ "num_experts_per_tok": 4 }), &["num_experts_per_tok", "at most", "3"]);
    wrong("Qwen3MoeForCausalLM", json!({ "norm_topk_prob": false }), &["norm_topk_prob"]);
    wrong("Qwen3MoeForCausalLM", json!({ "mlp_only_layers": [1] }), &["mlp_only_layers"]);
    wrong("Qwen3MoeForCausalLM", json!({ "decoder_sparse_step": 2 }), &["decoder_sparse_step"]);
    wrong("Gemma2ForCausalLM", json!({ "attn_logit_softcapping": null }), &["attn_logit_softcapping", "is null"]);
    wrong("Gemma2ForCausalLM", json!({ "query_pre_attn_scalar": 20 }), &["query_pre_attn_scalar", "16"]);
    wrong("Gemma2ForCausalLM", json!({ "hidden_activation": "relu" }), &["hidden_activation"]);
    wrong("Gemma3ForCausalLM", json!({ "final_logit_softcapping": 30.0 }), &["final_logit_softcapping"]);
    wrong("Gemma3ForCausalLM", json!({ "sliding_window_pattern": 4 }), &["sliding_window_pattern"]);
    wrong("Gemma3ForCausalLM", json!({ "rope_local_base_freq": 20000 }), &["rope_local_base_freq", "10000"]);
}

#[test]
fn windows_and_caps() {
    let mistral = open(&with(base("MistralForCausalLM"), json!({ "sliding_window": 40 })));
    assert_eq!(mistral.get_u32("llama.attention.sliding_window").unwrap(), Some(40));
    assert_eq!(open(&config("MistralForCausalLM")).get("llama.attention.sliding_window"), None);
    refused(&base("MistralForCausalLM"), &["sliding_window", "is missing"]);
    let [local, global] = ["sliding_attention", "full_attention"];
    let types = json!({ "layer_types": [local, global, local, global, local, global] });
    let gemma2 = open(&with(config("Gemma2ForCausalLM"), types.clone()));
    assert_eq!(gemma2.get_u32("gemma2.attention.sliding_window").unwrap(), Some(40));
    assert_eq!(gemma2.get_f32("gemma2.attn_logit_softcapping").unwrap(), Some(50.0));
    assert_eq!(gemma2.get_f32("gemma2.final_logit_softcapping").unwrap(), Some(30.0));
    refused(&with(config("Gemma3ForCausalLM"), types), &["layer_types", "sliding_attention, sliding_attention"]);
    let types = json!({ "layer_types": [local, local, local, local, local, global] });
    assert_eq!(open(&with(config("Gemma3ForCausalLM"), types)).get("gemma3.attn_logit_softcapping"), None);
}

#[test]
fn rotary_positions() {
    let llama = |scaling: Json| with(base(LLAMA), json!({ "rope_scaling": scaling }));
    let linear = open(&llama(json!({ "type": "linear", "factor": 4 })));
    assert_eq!(linear.get_str("llama.rope.scaling.type").unwrap(), Some("linear"));
    assert_eq!(linear.get_f32("llama.rope.scaling.factor").unwrap(), Some(4.0));
    let yarn = json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 16 });
    let gguf = open(&llama(with(yarn, json!({ "attention_factor": 1.0 }))));
    assert_eq!(gguf.get_str("llama.rope.scaling.type").unwrap(), Some("yarn"));
    assert_eq!(gguf.get_u32("llama.rope.scaling.original_context_length").unwrap(), Some(64));
    assert_eq!(gguf.get_f32("llama.rope.scaling.yarn_beta_fast").unwrap(), Some(16.0));
    let attention = gguf.get_f32("llama.rope.scaling.attn_factor").unwrap().unwrap();
    assert!((attention * (1.0 + 0.1 * 4.0_f32.ln()) - 1.0).abs() < 1e-6, "{attention}");
    assert_eq!(open(&llama(json!({ "rope_type": "default" }))).get("llama.rope.scaling.type"), None);

    // As transformers 5 writes it.
    let mut new = with(base(LLAMA), json!({ "rope_parameters": { "rope_theta": 7000.0, "rope_type": "default" } }));
    assert_eq!(open(&new).get_f32("llama.rope.freq_base").unwrap(), Some(7000.0));
    new["rope_scaling"] = json!({ "type": "linear", "factor": 4 });
    refused(&new, &["rope_scaling", "rope_parameters"]);
    let gemma = |local: f64| {
        let of = |base: f64| json!({ "rope_theta": base, "rope_type": "default" });
        let parameters = json!({ "full_attention": of(70_000.0), "sliding_attention": of(local) });
        with(config("Gemma3ForCausalLM"), json!({ "rope_parameters": parameters }))
    };
    assert_eq!(open(&gemma(10_000.0)).get_f32("gemma3.rope.freq_base").unwrap(), Some(70_000.0));
    refused(&gemma(20_000.0), &["\"rope_parameters.sliding_attention.rope_theta\"", "10000"]);

    let wrong = |scaling: Json, words: &[&str]| refused(&llama(scaling), words);
    wrong(json!({ "type": "dynamic", "factor": 2 }), &["\"rope_scaling.type\"", "dynamic", "llama3"]);
    wrong(json!({ "rope_type": "longrope" }), &["rope_scaling.rope_type", "Phi-3"]);
    wrong(json!({ "factor": 2 }), &["\"rope_scaling.rope_type\"", "is missing"]);
    wrong(json!({ "type": "linear" }), &["\"rope_scaling.factor\"", "is missing"]);
    wrong(json!({ "type": "linear", "factor": 0.5 }), &["\"rope_scaling.factor\"", "at least 1"]);
    wrong(json!({ "type": "yarn", "factor": 2, "mscale": 0.7 }), &["\"rope_scaling.mscale\""]);
    wrong(json!({ "type": "yarn", "factor": 2, "attention_factor": 0 }), &["\"rope_scaling.attention_factor\""]);
    wrong(json!(3), &["\"rope_scaling\"", "an object"]);
    refused(&with(base(LLAMA), json!({ "rope_theta": 0.5 })), &["rope_theta", "at least 1"]);
    refused(&with(base(LLAMA), json!({ "partial_rotary_factor": 0.5 })), &["partial_rotary_factor", "1"]);
}

#[test]
fn llama3_frequencies() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let config = json!({ "head_dim": 64, "rope_theta": 500_000.0, "rope_scaling": scaling });
    let config = with(base(LLAMA), config);
    let factors = values(&open(&config), "rope_freqs.weight");
    assert_eq!(factors.len(), 32);
    // The plain formula, branch by branch.
    for (pair, &factor) in factors.iter().enumerate() {
        let wave_len = 2.0 * std::f64::consts::PI * 500_000_f64.powf(pair as f64 / 32.0);
        let expected = if wave_len < 8192.0 / 4.0 {
            1.0
        } else if wave_len > 8192.0 {
            8.0
        } else {
            let smooth = (8192.0 / wave_len - 1.0) / (4.0 - 1.0);
            1.0 / ((1.0 - smooth) / 8.0 + smooth)
        };
        assert!((f64::from(factor) - expected).abs() < 1e-5, "pair {pair}: {factor} for {expected}");
    }
    assert!(factors[0] == 1.0 && factors[31] == 8.0 && factors.iter().any(|&factor| factor > 1.1 && factor < 7.9));
    let wrong = |field: &str, value: f64, words: &[&str]| {
        let mut config = config.clone();
        config["rope_scaling"][field] = json!(value);
        refused(&config, words);
    };
    wrong("low_freq_factor", 0.0, &["\"rope_scaling.low_freq_factor\"", "above 0"]);
    wrong("high_freq_factor", 1.0, &["\"rope_scaling.high_freq_factor\"", "above low_freq_factor"]);
    wrong("original_max_position_embeddings", 0.5, &["\"rope_scaling.original_max_position_embeddings\""]);
}

#[test]
fn longrope_of_phi3() {
    let scaling = json!({ "type": "longrope", "long_factor": [1.5, 2.5, 3.5], "short_factor": [1, 2, 3] });
    let more = json!({
        "rope_scaling": scaling, "original_max_position_embeddings": 25, "partial_rotary_factor": 0.75,
        "sliding_window": 50,
    });
    let config = with(base("Phi3ForCausalLM"), more);
    let gguf = open(&config);
    assert_eq!(values(&gguf, "rope_factors_long.weight"), [1.5, 2.5, 3.5]);
    assert_eq!(values(&gguf, "rope_factors_short.weight"), [1.0, 2.0, 3.0]);
    assert_eq!(gguf.get_u32("phi3.rope.dimension_count").unwrap(), Some(6));
    assert_eq!(gguf.get_u32("phi3.rope.scaling.original_context_length").unwrap(), Some(25));
    assert_eq!(gguf.get_u32("phi3.attention.sliding_window").unwrap(), Some(50));
    let factor = gguf.get_f32("phi3.rope.scaling.attn_factor").unwrap().unwrap();
    assert!((factor - (1.0 + 4.0_f32.ln() / 25.0_f32.ln()).sqrt()).abs() < 1e-6, "{factor}");
    for (field, value) in
        [("long_factor", json!([1.0])), ("short_factor", json!([1, 2, 0])), ("short_factor", json!(null))]
    {
        let mut config = config.clone();
        config["rope_scaling"][field] = value;
        refused(&config, &[&format!("\"rope_scaling.{field}\" should be a list")]);
    }
    refused(&with(config, json!({ "partial_rotary_factor": 0.4 })), &["partial_rotary_factor", "even part"]);
}

#[test]
fn norms_of_gemma_have_one_added() {
    let folder = Folder::new(&config("Gemma3ForCausalLM"));
    let half = |value: f32| f16::from_f32(value).to_le_bytes();
    let brain = |value: f32| bf16::from_f32(value).to_le_bytes();
    let mut writer = Writer::new();
    let (one, two) = ("model.norm.weight", "model.layers.0.self_attn.q_norm.weight");
    writer.tensor(one, TensorType::F16, &[2], &[half(0.5), half(-1.0)].concat()).unwrap();
    writer.tensor(two, TensorType::BF16, &[2], &[brain(0.0078125), brain(2.0)].concat()).unwrap();
    let three = "model.layers.0.post_attention_layernorm.weight";
    writer.tensor(three, TensorType::F32, &[1], &0.25_f32.to_le_bytes()).unwrap();
    folder.write("model.safetensors", writer.to_bytes());
    let gguf = folder.open().unwrap();
    assert_eq!(values(&gguf, "output_norm.weight"), [1.5, 0.0]);
    assert_eq!(values(&gguf, "blk.0.attn_q_norm.weight"), [1.0078125, 3.0]);
    assert_eq!(values(&gguf, "blk.0.post_attention_norm.weight"), [1.25]);
    folder.weights("model.safetensors", &[("model.norm.weight", &[2, 2])]);
    folder.refused(&["\"model.norm.weight\"", "no shape of a norm"]);
}

#[test]
fn rows_and_values_of_heads_get_the_order_of_gguf() {
    let config = with(base(LLAMA), json!({ "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4 }));
    let folder = Folder::new(&config);
    let bytes = |count: u8| (0..count).flat_map(|value| f32::from(value).to_le_bytes()).collect::<Vec<u8>>();
    let mut writer = Writer::new();
    let name = |part: &str| format!("model.layers.0.self_attn.{part}");
    writer.tensor(&name("q_proj.bias"), TensorType::F32, &[8], &bytes(8)).unwrap();
    writer.tensor(&name("k_proj.weight"), TensorType::F32, &[4, 2], &bytes(8)).unwrap();
    writer.tensor(&name("v_proj.weight"), TensorType::F32, &[4, 2], &bytes(8)).unwrap();
    folder.write("model.safetensors", writer.to_bytes());
    let gguf = folder.open().unwrap().into_gguf_order().unwrap();
    assert_eq!(gguf.get("llama.rope.order"), None);
    assert_eq!(values(&gguf, "blk.0.attn_q.bias"), [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    assert_eq!(values(&gguf, "blk.0.attn_k.weight"), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
    assert_eq!(values(&gguf, "blk.0.attn_v.weight"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    folder.weights("model.safetensors", &[(&name("k_proj.weight"), &[3, 2])]);
    let message = folder.open().unwrap().into_gguf_order().unwrap_err().to_string();
    assert!(
        message.contains("blk.0.attn_k.weight") && message.contains("3 rows are not whole heads of 4"),
        "{message}"
    );
}

#[test]
fn tokens_at_the_ends_are_tokens() {
    for (field, value, good) in [
        ("eos_token_id", json!([1, 4]), true),
        ("eos_token_id", json!(null), true),
        ("bos_token_id", json!(5), false),
        ("eos_token_id", json!([1, 5]), false),
        ("eos_token_id", json!(-1), false),
        ("eos_token_id", json!("2"), false),
    ] {
        let config = with(base(LLAMA), json!({ "vocab_size": 5, field: value }));
        if good {
            open(&config);
        } else {
            refused(&config, &[&format!("config.json: \"{field}\" should be an id from 0 to 4")]);
        }
    }
}

#[test]
fn experts_make_up_one_tensor() {
    let name = |expert: u32| format!("model.layers.0.block_sparse_moe.experts.{expert}.w1.weight");
    let names: Vec<String> = [2, 0, 1, 3].map(name).to_vec();
    let write = |folder: &Folder, experts: &[usize], odd: &[u64]| {
        let tensors: Vec<(&str, &[u64])> = experts
            .iter()
            .map(|&index| (names[index].as_str(), if index == 2 { odd } else { [2, 4].as_slice() }))
            .collect();
        folder.weights("model.safetensors", &tensors);
    };
    let folder = Folder::new(&config("MixtralForCausalLM"));
    // In the file: experts 2, 0 and 1, with the values 0, 1 and 2.
    write(&folder, &[0, 1, 2], &[2, 4]);
    let gguf = folder.open().unwrap();
    let stack = gguf.tensor("blk.0.ffn_gate_exps.weight").unwrap();
    assert_eq!((stack.dims.as_slice(), stack.rows(), stack.byte_len), ([4, 2, 3].as_slice(), 6, 96));
    let expected: Vec<f32> = [1.0, 2.0, 0.0].iter().flat_map(|&value| [value; 8]).collect();
    assert_eq!(values(&gguf, "blk.0.ffn_gate_exps.weight"), expected);
    let mut bytes = Vec::new();
    gguf.read_tensor(stack, 1..5, &mut bytes).unwrap();
    assert_eq!(bytes, expected[4..20].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    write(&folder, &[0, 1], &[2, 4]);
    folder.refused(&["blk.0.ffn_gate_exps.weight", "expert 1 of 3 is missing"]);
    write(&folder, &[1, 2], &[2, 4]);
    folder.refused(&["blk.0.ffn_gate_exps.weight", "expert 2 of 3 is missing"]);
    write(&folder, &[0, 1, 2, 3], &[2, 4]);
    folder.refused(&["experts.3.w1", "3 experts"]);
    write(&folder, &[0, 1, 2], &[4, 2]);
    folder.refused(&["experts.1.w1", "F32 [2, 4]", "F32 [4, 2]"]);
    let llama = Folder::new(&base(LLAMA));
    write(&llama, &[0, 1, 2], &[2, 4]);
    llama.refused(&["experts.2.w1", "architecture \"llama\" has no tensor of this name"]);
}

#[test]
fn folders_without_what_a_model_needs() {
    let empty = tempfile::tempdir().unwrap();
    let message = Gguf::open(empty.path()).unwrap_err().to_string();
    assert!(
        message.contains("has no config.json") && message.contains(&empty.path().display().to_string()),
        "{message}"
    );
    let folder = Folder::new(&base(LLAMA));
    folder.refused(&["has no model.safetensors, no model.safetensors.index.json and no model-00001"]);
    folder.weights("model.safetensors", &[EMBEDDING]);
    folder.open().unwrap();
    let message = Gguf::open(folder.path("model.safetensors")).unwrap_err().to_string();
    assert!(message.contains("is what to open") && message.contains("folder"), "{message}");
    folder.write("config.json", "{\"architectures\": [");
    folder.refused(&["config.json is no JSON", "line 1"]);
    folder.write("config.json", vec![b' '; 5 << 20]);
    folder.refused(&["config.json", "limit"]);
    let untied = Folder::new(&with(base(LLAMA), json!({ "tie_word_embeddings": false })));
    untied.weights("model.safetensors", &[EMBEDDING]);
    untied.refused(&["tie_word_embeddings", "lm_head.weight"]);
    untied.weights("model.safetensors", &[EMBEDDING, ("lm_head.weight", &[5, 32])]);
    assert!(untied.open().unwrap().tensor("output.weight").is_some());
    untied.weights("model.safetensors", &[EMBEDDING, ("lm_head.weight", &[5, 32]), ("model.other", &[1])]);
    untied.refused(&["\"model.other\"", "no tensor of this name"]);
    untied.write("model.safetensors", b"text, and more of it");
    untied.refused(&["model.safetensors: ", "length of the header"]);
}

const NORM: (&str, &[u64]) = ("model.norm.weight", &[32]);

#[test]
fn shards_by_their_names() {
    let name = |number: u32, count: u32| format!("model-{number:05}-of-{count:05}.safetensors");
    let folder = Folder::new(&base(LLAMA));
    folder.weights(&name(2, 2), &[NORM]);
    folder.refused(&["model-00001-of-00002.safetensors is missing", "beside model-00002-of-00002.safetensors"]);
    folder.weights(&name(1, 2), &[EMBEDDING]);
    let gguf = folder.open().unwrap();
    assert!(gguf.tensor("token_embd.weight").is_some() && gguf.tensor("output_norm.weight").is_some());
    folder.weights(&name(1, 2), &[EMBEDDING, NORM]);
    folder.refused(&["\"model.norm.weight\"", "model-00001-of-00002", "model-00002-of-00002"]);
    folder.weights(&name(1, 2), &[EMBEDDING]);
    folder.weights(&name(0, 2), &[EMBEDDING]);
    folder.refused(&["model-00000-of-00002.safetensors is one too many", "from 1 to 2"]);
    std::fs::remove_file(folder.path(&name(0, 2))).unwrap();
    folder.weights(&name(1, 3), &[EMBEDDING]);
    folder.refused(&["shards of two models", "model-00001-of-00002", "model-00001-of-00003"]);
}

#[test]
fn shards_that_are_counted_otherwise_or_have_gaps() {
    let name = |number: u32, count: u32| format!("model-{number:05}-of-{count:05}.safetensors");
    let folder = Folder::new(&base(LLAMA));
    folder.weights(&name(0, 2), &[EMBEDDING]);
    folder.refused(&["no model-00001-of-0000N.safetensors", "count from 1"]);
    folder.weights(&name(1, 2), &[NORM]);
    folder.refused(&["model-00002-of-00002.safetensors is missing", "there is model-00000-of-00002", "count from 1"]);
    let folder = Folder::new(&base(LLAMA));
    folder.weights(&name(2, 5), &[NORM]);
    folder.refused(&["model-00001-of-00005.safetensors is missing", "3 more, up to model-00005-of-00005"]);
}

#[test]
fn shards_by_an_index() {
    let folder = Folder::new(&base(LLAMA));
    folder.weights("a.safetensors", &[EMBEDDING]);
    folder.weights("b.safetensors", &[NORM]);
    let index = |map: Json| folder.write("model.safetensors.index.json", json!({ "weight_map": map }).to_string());
    let (embedding, norm) = (EMBEDDING.0, NORM.0);
    index(json!({ embedding: "a.safetensors", norm: "b.safetensors" }));
    assert_eq!(folder.open().unwrap().tensors().len(), 2);
    index(json!({ embedding: "a.safetensors", norm: "a.safetensors" }));
    folder.refused(&[norm, "puts it in a.safetensors, which does not have it"]);
    index(json!({ embedding: "b.safetensors", norm: "b.safetensors" }));
    folder.refused(&[embedding, "puts it in b.safetensors"]);
    index(json!({ embedding: "a.safetensors", norm: "b.safetensors", "x": "c.safetensors" }));
    folder.refused(&["c.safetensors", "cannot open"]);
    folder.weights("c.safetensors", &[("x", &[1]), NORM]);
    folder.refused(&[norm, "c.safetensors"]);
    folder.weights("c.safetensors", &[("x", &[1]), ("y", &[1])]);
    folder.refused(&["\"y\"", "is in c.safetensors, but not in model.safetensors.index.json"]);
    for trick in [
        "../a.safetensors",
        "/etc/x.safetensors",
        "sub/a.safetensors",
        "..\\a.safetensors",
        "..",
        "",
        ".safetensors",
        "a.bin",
    ] {
        index(json!({ embedding: trick }));
        folder.refused(&["model.safetensors.index.json", embedding, "no plain name"]);
    }
    index(json!({ embedding: 3 }));
    folder.refused(&[embedding, "no plain name"]);
    folder.write("model.safetensors.index.json", "{}");
    folder.refused(&["weight_map"]);
    folder.weights("model.safetensors", &[EMBEDDING]);
    folder.refused(&["has both model.safetensors and model.safetensors.index.json"]);
}

#[test]
fn metadata_is_of_the_usual_kinds() {
    let gguf = open(&config("Qwen3MoeForCausalLM"));
    assert_eq!(gguf.get("qwen3moe.expert_count"), Some(&Value::U32(3)));
    assert_eq!(gguf.get("qwen3moe.expert_used_count"), Some(&Value::U32(2)));
    assert_eq!(gguf.get("qwen3moe.expert_feed_forward_length"), Some(&Value::U32(24)));
    assert_eq!(gguf.get("qwen3moe.attention.key_length"), Some(&Value::U32(16)));
    assert_eq!(gguf.get("qwen3moe.rope.order"), None);
}
