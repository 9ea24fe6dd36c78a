//! Adapters that are whole, and adapters with one fault.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::*;
use crate::gguf::{self, TensorType, Value};
use crate::safetensors;

const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj";

struct Folder(tempfile::TempDir);

impl Folder {
    /// A folder with F32 tensors of these names and shapes.
    fn new(config: &Json, tensors: &[(&str, [u64; 2])]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        std::fs::write(folder.path("adapter_config.json"), config.to_string()).unwrap();
        let mut writer = safetensors::Writer::new();
        for (name, shape) in tensors {
            let bytes = vec![0; usize::try_from(shape.iter().product::<u64>() * 4).unwrap()];
            writer.tensor(name, TensorType::F32, shape, &bytes).unwrap();
        }
        writer.write(folder.path("adapter_model.safetensors")).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn open(&self) -> Result<Adapter, FormatError> {
        Adapter::open(self.0.path())
    }
}

fn config() -> Json {
    json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "use_dora": false, "modules_to_save": null})
}

/// Both halves of a pair of rank 4 of a matrix with 6 rows of 8 values.
fn pair_of(module: &str) -> Vec<(String, [u64; 2])> {
    vec![(format!("{module}.lora_A.weight"), [4, 8]), (format!("{module}.lora_B.weight"), [6, 4])]
}

fn with(field: &str, value: Json) -> Json {
    let mut config = config();
    config[field] = value;
    config
}

fn open(config: &Json, tensors: &[(String, [u64; 2])]) -> Result<Adapter, FormatError> {
    let tensors: Vec<_> = tensors.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
    Folder::new(config, &tensors).open()
}

#[track_caller]
fn refused(result: Result<Adapter, FormatError>, words: &[&str]) {
    let message = result.unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} lacks {word:?}");
    }
}

#[test]
fn a_folder_of_peft() {
    let mut tensors = pair_of(&Q.replace("layers.0", "layers.1").replace("q_proj", "o_proj"));
    tensors.extend(pair_of(Q));
    let adapter = open(&config(), &tensors).unwrap();
    let found: Vec<_> =
        adapter.changes().iter().map(|c| (c.matrix.as_str(), c.layer, c.projection, c.rank, c.scale)).collect();
    let expected = [
        ("blk.0.attn_q.weight", 0, Projection::Query, 4, 2.0),
        ("blk.1.attn_output.weight", 1, Projection::Output, 4, 2.0),
    ];
    assert_eq!(found, expected);
    assert!(adapter.rows_as_trained() && adapter.architecture().is_none());
    let a = adapter.tensors().tensor(&adapter.changes()[0].a()).unwrap();
    assert_eq!(a.dims, [8, 4], "row length first");
}

#[test]
fn factors() {
    let scale = |config: &Json| open(config, &pair_of(Q)).map(|adapter| adapter.changes()[0].scale);
    assert_eq!(scale(&with("use_rslora", json!(true))).unwrap(), 4.0);
    assert_eq!(scale(&with("alpha_pattern", json!({"q_proj": 2.0}))).unwrap(), 0.5);
    assert_eq!(scale(&with("alpha_pattern", json!({"proj": 2.0, "layers.1.self_attn.q_proj": 3}))).unwrap(), 2.0);
    let mut patterns = with("rank_pattern", json!({"self_attn.q_proj": 4}));
    patterns["r"] = json!(16);
    assert_eq!(scale(&patterns).unwrap(), 2.0);
    refused(open(&with("r", json!(16)), &pair_of(Q)), &["rank is 4", "says 16"]);
    refused(
        open(&with("alpha_pattern", json!({"q_proj": 2, "self_attn.q_proj": 3})), &pair_of(Q)),
        &["several patterns"],
    );
    refused(open(&with("alpha_pattern", json!({".*q_proj$": 2})), &pair_of(Q)), &["alpha_pattern", "names of modules"]);
    refused(open(&with("rank_pattern", json!({"^model.q_proj": 2})), &pair_of(Q)), &["rank_pattern"]);
}

#[test]
fn what_other_kinds_ask_for_is_refused_by_name() {
    for (field, value, word) in [
        ("peft_type", json!("IA3"), "LORA"),
        ("r", json!(0), "from 1"),
        ("lora_alpha", json!("x"), "a number"),
        ("use_dora", json!(true), "DoRA"),
        ("bias", json!("lora_only"), "biases"),
        ("lora_bias", json!(true), "biases"),
        ("modules_to_save", json!(["lm_head"]), "whole modules"),
        ("init_lora_weights", json!("pissa_niter_4"), "change the base"),
        ("layer_replication", json!([[0, 2]]), "replicated"),
        ("fan_in_fan_out", json!(true), "false"),
        ("alora_invocation_tokens", json!([1]), "activated"),
    ] {
        refused(open(&with(field, value), &pair_of(Q)), &["adapter_config.json", field, word]);
    }
    for (name, word) in [
        (format!("{Q}.lora_magnitude_vector"), "DoRA"),
        (format!("{Q}.lora_B.bias"), "biases"),
        ("base_model.model.model.embed_tokens.lora_embedding_A".to_owned(), "embeddings"),
        ("base_model.model.lm_head.weight".to_owned(), "whole modules"),
        ("base_model.model.lm_head.lora_A.weight".to_owned(), "can change q_proj"),
        ("base_model.model.model.layers.0.mlp.experts.0.gate_proj.lora_A.weight".to_owned(), "can change q_proj"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight".to_owned(), "base_model.model."),
        ("base_model.model.model.layers.0/../1.self_attn.q_proj.lora_A.weight".to_owned(), "can change q_proj"),
    ] {
        let mut tensors = pair_of(Q);
        tensors.push((name.clone(), [4, 8]));
        refused(open(&config(), &tensors), &[name.get(..60).unwrap_or(&name), word]);
    }
}

#[test]
fn pairs_that_are_no_pairs() {
    let pair = pair_of(Q);
    refused(open(&config(), &pair[..1]), &["blk.0.attn_q.weight", "half .lora_b is missing"]);
    refused(open(&config(), &pair[1..]), &["blk.0.attn_q.weight", "half .lora_a is missing"]);
    refused(open(&config(), &[]), &["changes nothing"]);
    let [a, b] = [&pair[0].0, &pair[1].0].map(String::clone);
    refused(open(&config(), &[(a.clone(), [4, 8]), (b.clone(), [6, 5])]), &["make no low-rank product"]);
    refused(open(&with("r", json!(1025)), &[(a, [1025, 8]), (b, [6, 1025])]), &["1025", "limit of 1024"]);
}

#[test]
fn folders_that_lack_a_file() {
    let folder = Folder::new(&config(), &[]);
    std::fs::remove_file(folder.path("adapter_model.safetensors")).unwrap();
    std::fs::write(folder.path("adapter_model.bin"), b"pickle").unwrap();
    refused(folder.open(), &["has no adapter_model.safetensors", "safe_serialization=True"]);
    std::fs::remove_file(folder.path("adapter_config.json")).unwrap();
    refused(folder.open(), &["has no adapter_config.json"]);
    refused(Adapter::open(folder.path("missing")), &["cannot open"]);
}

/// The writer makes none, so the header is written by hand.
#[test]
fn a_pair_of_rank_zero() {
    let folder = Folder::new(&config(), &[]);
    let entry = |half: &str, shape: [u64; 2]| {
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [0, 0]});
        format!("\"{Q}.lora_{half}.weight\":{entry}")
    };
    let header = format!("{{{},{}}}", entry("A", [0, 8]), entry("B", [6, 0]));
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    std::fs::write(folder.path("adapter_model.safetensors"), bytes).unwrap();
    refused(folder.open(), &[Q, "hold a 0"]);
}

/// A GGUF adapter with these keys and tensors.
fn gguf(keys: &[(&str, Value)], tensors: &[(&str, [u64; 2])]) -> Result<Adapter, FormatError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.gguf");
    let mut writer = gguf::Writer::new();
    for (key, value) in keys {
        writer.key(key, value.clone());
    }
    for (name, dims) in tensors {
        let bytes = vec![0; usize::try_from(dims.iter().product::<u64>() * 4).unwrap()];
        writer.tensor(name, TensorType::F32, dims, bytes).unwrap();
    }
    writer.write(&path).unwrap();
    Adapter::open(&path)
}

#[test]
fn gguf_files() {
    let text = |text: &str| Value::String(text.to_owned());
    let keys = [
        ("general.type", text("adapter")),
        ("adapter.type", text("lora")),
        ("general.architecture", text("llama")),
        ("adapter.lora.alpha", Value::F32(8.0)),
    ];
    let tensors = [("blk.3.ffn_down.weight.lora_a", [8, 4]), ("blk.3.ffn_down.weight.lora_b", [4, 6])];
    let adapter = gguf(&keys, &tensors).unwrap();
    assert_eq!((adapter.architecture(), adapter.rows_as_trained()), (Some("llama"), false));
    let change = &adapter.changes()[0];
    assert_eq!((change.layer, change.projection, change.rank, change.scale), (3, Projection::Down, 4, 2.0));
    let exchanged = |at: usize, value: Value| {
        let mut keys = keys.clone();
        keys[at].1 = value;
        gguf(&keys, &tensors)
    };
    assert_eq!(exchanged(3, Value::F32(0.0)).unwrap().changes()[0].scale, 1.0, "no factor");
    refused(exchanged(0, text("model")), &["general.type", "\"model\""]);
    refused(exchanged(1, text("dora")), &["adapter.type", "\"dora\""]);
    for missing in 0..keys.len() {
        let mut some = keys.to_vec();
        let (key, _) = some.remove(missing);
        refused(gguf(&some, &tensors), &[key, "missing"]);
    }
    let mut alora = keys.to_vec();
    alora.push(("adapter.alora.invocation_tokens", text("x")));
    refused(gguf(&alora, &tensors), &["activated LoRA"]);
    for (name, word) in [
        ("token_embd.weight.lora_a", "can change blk.N.PART.weight"),
        ("blk.03.ffn_up.weight.lora_a", "can change blk.N.PART.weight"),
        ("blk.0.ffn_up.weight", "no half of a low-rank pair"),
        ("blk.0.ffn_gate_exps.weight.lora_a", "can change blk.N.PART.weight"),
    ] {
        refused(gguf(&keys, &[tensors[0], tensors[1], (name, [8, 4])]), &[word]);
    }
}
